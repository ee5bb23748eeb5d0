"""The index of words by which the page finds documents: written on the way, read shard by shard."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
from numpy.typing import NDArray

from latentscale.viewer.postings import Postings, encode
from latentscale.viewer.rows import parquet_bytes
from latentscale.viewer.section import Put, Section
from latentscale.viewer.tokens import normalised, tokens

# BM25 (Robertson and Zaragoza 2009) with the usual parameters.
K1 = 1.2
B = 0.75
# A word of the title counts as so many of the text.
TITLE_WEIGHT = 3
# Words that more documents have are found in the best of them: a query costs the same whatever the size of the corpus.
MOST_PLACES = 8_192
SHARD_BYTES = 32_000
# Before the words of a text there can be no such sign: what follows is the whole of a document's own id.
OWN_ID = "="
_BLOCK_BYTES = 8 << 20


class SearchIndex:
    """The words of a generation's documents, and in which of them they are.

    Parameters
    ----------
    fields : mapping
        Columns by their use: ``text``, ``title`` (may be None each) and ``id``, the documents' own id.
    positions : int64 ndarray, shape (n,)
        The position of each document in the generation.
    scratch : Path
        A folder for what does not fit into memory.
    """

    def __init__(self, fields: Mapping[str, str | None], *, positions: NDArray[np.int64], scratch: Path) -> None:
        self.fields = {use: column for use, column in fields.items() if column is not None}
        self._positions = positions
        self._lengths = np.zeros(len(positions), np.uint32)
        self._postings = Postings(rows=len(positions), scratch=scratch)
        self._block: list[tuple[int, pa.RecordBatch]] = []
        self._block_bytes = 0

    def add(self, start: int, batch: pa.RecordBatch) -> None:
        """Take the documents from row ``start`` on."""
        if not self.fields:
            return
        kept = batch.select(list(dict.fromkeys(self.fields.values())))
        self._block.append((start, kept))
        self._block_bytes += kept.nbytes
        if self._block_bytes > _BLOCK_BYTES:
            self._count()

    def section(self) -> Section:
        """The section ``search`` of the generation."""
        return Section(name="search", version=1, write=lambda _, put: self.write(put))

    def write(self, put: Put) -> dict[str, Any] | None:
        """Write ``terms/{shard}.parquet`` and, of several, ``first.parquet``; return the entry.

        None where there is no word.
        """
        self._count()
        total = int(self._lengths.sum())
        mean = max(1e-9, total / max(1, len(self._lengths)))
        scale = K1 * (1 - B + B * self._lengths.astype(np.float64) / mean)
        firsts: list[str] = []
        last = ""
        for terms in self._postings.terms():
            for shard in encode(terms, scale=scale, most=MOST_PLACES, size=SHARD_BYTES):
                column = shard["term"]
                # As short as tells it from the shard before: this list is read by whoever searches.
                firsts.append(_beginning(last, column[0].as_py()))
                last = column[-1].as_py()
                put(f"terms/{len(firsts) - 1}.parquet", parquet_bytes(shard, level=3))
        if not firsts:
            return None
        if len(firsts) > 1:
            put("first.parquet", parquet_bytes(pa.table({"first": pa.array(firsts, pa.string())})))
        return {"documents": len(self._positions), "shards": len(firsts), "most": MOST_PLACES, "fields": self.fields}

    def close(self) -> None:
        """Remove what is on the disk."""
        self._postings.close()

    def _count(self) -> None:
        if not self._block:
            return
        rows = np.concatenate([np.arange(start, start + batch.num_rows) for start, batch in self._block])
        table = pa.Table.from_batches([batch for _, batch in self._block])
        self._block.clear()
        self._block_bytes = 0
        places = self._positions[rows]
        found: list[pl.DataFrame] = []
        for use, weight in (("text", 1), ("title", TITLE_WEIGHT)):
            if use in self.fields:
                words = tokens(_texts(table, self.fields[use]))
                self._lengths[places] += np.bincount(words["row"].to_numpy(), minlength=len(rows)).astype(np.uint32)
                found += [words] * weight
        if "id" in self.fields:
            ids = normalised(_texts(table, self.fields["id"]).str.strip_chars())
            row = pl.arange(len(ids), dtype=pl.UInt32, eager=True)
            found.append(pl.DataFrame({"row": row, "term": OWN_ID + ids}).drop_nulls())
        words = pl.concat(found)
        self._postings.add(words["term"], places[words["row"].to_numpy()].astype(np.uint32), documents=len(rows))


def _texts(table: pa.Table, name: str) -> pl.Series:
    column = table[name]
    if not (pa.types.is_string(column.type) or pa.types.is_large_string(column.type)):
        column = column.cast(pa.string())
    return pl.Series(name, column)


def _beginning(before: str, term: str) -> str:
    for i, letter in enumerate(term):
        if i >= len(before) or letter != before[i]:
            return term[: i + 1]
    return term
