"""The index of words by which the page finds documents: written on the way, read shard by shard."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from latentscale.viewer.rows import parquet_bytes
from latentscale.viewer.search.shards import encode
from latentscale.viewer.section import Put, Section

if TYPE_CHECKING:
    from latentscale.viewer.search.postings import Postings

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
# So few documents are counted one by one: loading polars takes longer.
FEW = 2_048
_BLOCK_BYTES = 8 << 20


class SearchIndex:
    """The words of a generation's documents, and in which of them they are.

    Parameters
    ----------
    fields : mapping
        Columns by their use: ``text``, ``title`` and ``id``, the documents' own id; None where there is none. Columns
        of lists, records or bytes are left out.
    positions : int64 ndarray, shape (n,)
        The position of each document in the generation.
    scratch : Path
        A folder for what does not fit into memory.
    """

    def __init__(self, fields: Mapping[str, str | None], *, positions: NDArray[np.int64], scratch: Path) -> None:
        self.fields = {use: column for use, column in fields.items() if column is not None}
        self._positions = positions
        self._lengths = np.zeros(len(positions), np.uint32)
        self._scratch = scratch
        self._postings: Postings | None = None
        self._few: list[tuple[int, Counter[str]]] = []
        self._block: list[tuple[int, pa.RecordBatch]] = []
        self._block_bytes = 0

    def add(self, start: int, batch: pa.RecordBatch) -> None:
        """Take the documents from row ``start`` on."""
        self.fields = {use: name for use, name in self.fields.items() if _has_words(batch.schema.field(name).type)}
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
        for terms, packed in self._ranges():
            for shard in encode(terms, packed, scale=scale, most=MOST_PLACES, size=SHARD_BYTES):
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
        if self._postings is not None:
            self._postings.close()

    def _ranges(self) -> Iterator[tuple[pa.Array, NDArray[np.uint64]]]:
        if self._postings is not None:
            yield from self._postings.ranges()
        elif self._few:
            terms = sorted({term for _, counted in self._few for term in counted})
            code = {term: i for i, term in enumerate(terms)}
            packed = [
                code[term] << 40 | place << 8 | min(255, tf)
                for place, counted in self._few
                for term, tf in counted.items()
            ]
            yield pa.array(terms, pa.string()), np.array(packed, np.uint64)

    def _count(self) -> None:
        if not self._block:
            return
        rows = np.concatenate([np.arange(start, start + batch.num_rows) for start, batch in self._block])
        table = pa.Table.from_batches([batch for _, batch in self._block])
        self._block.clear()
        self._block_bytes = 0
        columns = {use: _texts(table[name]) for use, name in self.fields.items()}
        if len(self._positions) <= FEW:
            self._count_few(self._positions[rows], columns)
        else:
            self._count_many(self._positions[rows], columns)

    def _count_few(self, places: NDArray[np.int64], columns: Mapping[str, pa.ChunkedArray]) -> None:
        from latentscale.viewer.search.words import normalised, words

        counted: list[Counter[str]] = [Counter() for _ in range(len(places))]
        for use, column in columns.items():
            for at, text in enumerate(column.to_pylist()):
                if text is None:
                    continue
                if use == "id":
                    counted[at][OWN_ID + normalised(text.strip())] = 1
                    continue
                found = words(text)
                self._lengths[places[at]] += len(found)
                counted[at].update(found * (TITLE_WEIGHT if use == "title" else 1))
        self._few += [(place, one) for place, one in zip(places.tolist(), counted, strict=True) if one]

    def _count_many(self, places: NDArray[np.int64], columns: Mapping[str, pa.ChunkedArray]) -> None:
        import polars as pl

        from latentscale.viewer.search.postings import Postings
        from latentscale.viewer.search.tokens import own_ids, tokens

        if self._postings is None:
            self._postings = Postings(rows=len(self._positions), scratch=self._scratch)
        found: list[pl.DataFrame] = []
        for use, column in columns.items():
            texts = pl.Series(use, column)
            if use == "id":
                found.append(own_ids(texts, OWN_ID))
                continue
            these = tokens(texts)
            self._lengths[places] += np.bincount(these["row"].to_numpy(), minlength=len(places)).astype(np.uint32)
            found += [these] * (TITLE_WEIGHT if use == "title" else 1)
        every = pl.concat(found)
        of_row = places[every["row"].to_numpy()].astype(np.uint32)
        self._postings.add(every["term"], of_row, documents=len(places))


def _has_words(kind: pa.DataType) -> bool:
    if pa.types.is_dictionary(kind):
        return _has_words(kind.value_type)
    # Lists and records of other values, and bytes, which need not be text.
    return not (pa.types.is_nested(kind) or pa.types.is_binary(kind) or pa.types.is_large_binary(kind))


def _texts(column: pa.ChunkedArray) -> pa.ChunkedArray:
    return (
        column if pa.types.is_string(column.type) or pa.types.is_large_string(column.type) else column.cast(pa.string())
    )


def _beginning(before: str, term: str) -> str:
    for i, letter in enumerate(term):
        if i >= len(before) or letter != before[i]:
            return term[: i + 1]
    return term
