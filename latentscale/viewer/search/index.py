"""The inverted index of full-text search: built in the pass over the documents, and read shard by shard."""

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
# A word in the title counts this many times.
TITLE_WEIGHT = 3
# Maximum postings per word, the highest scores: bounds the cost of a query for any size of corpus.
MAX_POSTINGS = 8_192
SHARD_BYTES = 32_000
# Prefix of terms that are a whole document id; no word of a text contains it.
ID_PREFIX = "="
# Up to this number, documents are counted one by one: importing polars takes longer.
SMALL = 2_048
_BLOCK_BYTES = 8 << 20


class SearchIndex:
    """Inverted index of the words of a generation's documents.

    Parameters
    ----------
    fields : mapping
        Columns by use: ``text``, ``title`` and ``id``, the documents' own id; None if there is none. Columns of lists,
        structs or bytes are skipped.
    positions : int64 ndarray, shape (n,)
        The position of each document in the generation.
    scratch : Path
        Folder for temporary files, which bound the memory.
    """

    def __init__(self, fields: Mapping[str, str | None], *, positions: NDArray[np.int64], scratch: Path) -> None:
        self.fields = {use: column for use, column in fields.items() if column is not None}
        self._positions = positions
        self._lengths = np.zeros(len(positions), np.uint32)
        self._scratch = scratch
        self._postings: Postings | None = None
        self._counters: list[tuple[int, Counter[str]]] = []
        self._pending: list[tuple[int, pa.RecordBatch]] = []
        self._pending_bytes = 0

    def add(self, start: int, batch: pa.RecordBatch) -> None:
        """Add the documents from row ``start`` on."""
        self.fields = {use: name for use, name in self.fields.items() if _has_words(batch.schema.field(name).type)}
        if not self.fields:
            return
        selected = batch.select(list(dict.fromkeys(self.fields.values())))
        self._pending.append((start, selected))
        self._pending_bytes += selected.nbytes
        if self._pending_bytes > _BLOCK_BYTES:
            self._index_pending()

    def section(self) -> Section:
        """The section ``search`` of the generation."""
        return Section(name="search", version=1, write=lambda _, put: self.write(put))

    def write(self, put: Put) -> dict[str, Any] | None:
        """Write ``terms/{shard}.parquet`` and, for several shards, ``first.parquet``; return the entry.

        Returns None if there are no words.
        """
        self._index_pending()
        total = int(self._lengths.sum())
        mean = max(1e-9, total / max(1, len(self._lengths)))
        scale = K1 * (1 - B + B * self._lengths.astype(np.float64) / mean)
        firsts: list[str] = []
        last = ""
        for terms, packed in self._ranges():
            for shard in encode(terms, packed, scale=scale, max_postings=MAX_POSTINGS, size=SHARD_BYTES):
                column = shard["term"]
                # The shortest prefix that differs from the previous shard: every search reads this list.
                firsts.append(_distinguishing_prefix(last, column[0].as_py()))
                last = column[-1].as_py()
                put(f"terms/{len(firsts) - 1}.parquet", parquet_bytes(shard, level=3))
        if not firsts:
            return None
        if len(firsts) > 1:
            put("first.parquet", parquet_bytes(pa.table({"first": pa.array(firsts, pa.string())})))
        return {"documents": len(self._positions), "shards": len(firsts), "most": MAX_POSTINGS, "fields": self.fields}

    def close(self) -> None:
        """Delete temporary files."""
        if self._postings is not None:
            self._postings.close()

    def _ranges(self) -> Iterator[tuple[pa.Array, NDArray[np.uint64]]]:
        if self._postings is not None:
            yield from self._postings.ranges()
        elif self._counters:
            terms = sorted({term for _, counter in self._counters for term in counter})
            code = {term: i for i, term in enumerate(terms)}
            packed = [
                code[term] << 40 | position << 8 | min(255, tf)
                for position, counter in self._counters
                for term, tf in counter.items()
            ]
            yield pa.array(terms, pa.string()), np.array(packed, np.uint64)

    def _index_pending(self) -> None:
        if not self._pending:
            return
        rows = np.concatenate([np.arange(start, start + batch.num_rows) for start, batch in self._pending])
        table = pa.Table.from_batches([batch for _, batch in self._pending])
        self._pending.clear()
        self._pending_bytes = 0
        columns = {use: _texts(table[name]) for use, name in self.fields.items()}
        if len(self._positions) <= SMALL:
            self._index_small(self._positions[rows], columns)
        else:
            self._index_large(self._positions[rows], columns)

    def _index_small(self, positions: NDArray[np.int64], columns: Mapping[str, pa.ChunkedArray]) -> None:
        from latentscale.viewer.search.words import normalised, words

        counters: list[Counter[str]] = [Counter() for _ in range(len(positions))]
        for use, column in columns.items():
            for i, text in enumerate(column.to_pylist()):
                if text is None:
                    continue
                if use == "id":
                    counters[i][ID_PREFIX + normalised(text.strip())] = 1
                    continue
                terms = words(text)
                self._lengths[positions[i]] += len(terms)
                counters[i].update(terms * (TITLE_WEIGHT if use == "title" else 1))
        self._counters += [
            (position, counter) for position, counter in zip(positions.tolist(), counters, strict=True) if counter
        ]

    def _index_large(self, positions: NDArray[np.int64], columns: Mapping[str, pa.ChunkedArray]) -> None:
        import polars as pl

        from latentscale.viewer.search.postings import Postings
        from latentscale.viewer.search.tokens import own_ids, tokens

        if self._postings is None:
            self._postings = Postings(rows=len(self._positions), scratch=self._scratch)
        parts: list[pl.DataFrame] = []
        for use, column in columns.items():
            texts = pl.Series(use, column)
            if use == "id":
                parts.append(own_ids(texts, ID_PREFIX))
                continue
            terms = tokens(texts)
            self._lengths[positions] += np.bincount(terms["row"].to_numpy(), minlength=len(positions)).astype(np.uint32)
            parts += [terms] * (TITLE_WEIGHT if use == "title" else 1)
        all_terms = pl.concat(parts)
        term_positions = positions[all_terms["row"].to_numpy()].astype(np.uint32)
        self._postings.add(all_terms["term"], term_positions, documents=len(positions))


def _has_words(kind: pa.DataType) -> bool:
    if pa.types.is_dictionary(kind):
        return _has_words(kind.value_type)
    # Not lists and structs, nor bytes, which need not be text.
    return not (pa.types.is_nested(kind) or pa.types.is_binary(kind) or pa.types.is_large_binary(kind))


def _texts(column: pa.ChunkedArray) -> pa.ChunkedArray:
    return (
        column if pa.types.is_string(column.type) or pa.types.is_large_string(column.type) else column.cast(pa.string())
    )


def _distinguishing_prefix(previous: str, term: str) -> str:
    for i, letter in enumerate(term):
        if i >= len(previous) or letter != previous[i]:
            return term[: i + 1]
    return term
