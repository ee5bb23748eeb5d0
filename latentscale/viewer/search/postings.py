"""Collect the postings of many documents in bounded memory."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
from numpy.typing import NDArray

_RANGE_POSTINGS = 3_000_000
_BUFFER_BYTES = 64 << 20


class Postings:
    """The postings of a generation: added by document, returned by word.

    Words are split into ranges of about three million postings, estimated from the first documents. Each range is
    sorted separately; ranges that exceed the memory limit are spilled to ``scratch``.
    """

    def __init__(self, *, rows: int, scratch: Path) -> None:
        self._rows = rows
        self._scratch = scratch
        self._bounds: pl.Series | None = None
        self._parts: list[list[pl.DataFrame]] = [[]]
        self._files: list[list[Path]] = [[]]
        self._buffered = 0

    def add(self, terms: pl.Series, places: NDArray[np.uint32], *, documents: int) -> None:
        """Add the words of some documents, with repetitions, each with the position of its document."""
        if not len(terms):
            return
        block = _count_terms(terms, places)
        if self._bounds is None:
            self._set_bounds(block, expected=int(block["places"].list.len().sum()) * self._rows // documents)
        assert self._bounds is not None
        inner = block["term"].search_sorted(self._bounds, side="left").to_list() if len(self._bounds) else []
        cuts = [0, *inner, block.height]
        for i, (start, stop) in enumerate(itertools.pairwise(cuts)):
            if stop > start:
                self._parts[i].append(block.slice(start, stop - start))
        self._buffered += int(block.estimated_size())
        if self._buffered > _BUFFER_BYTES:
            self._flush()

    def ranges(self) -> Iterator[tuple[pa.Array, NDArray[np.uint64]]]:
        """Yield the ranges of words in order, as for ``shards.encode``."""
        for parts, files in zip(self._parts, self._files, strict=True):
            frames = [*(pl.read_ipc(path.read_bytes()) for path in files), *parts]
            parts.clear()
            for path in files:
                path.unlink()
            files.clear()
            if frames:
                yield _pack(pl.concat(frames))

    def close(self) -> None:
        """Delete remaining files."""
        for files in self._files:
            for path in files:
                path.unlink(missing_ok=True)
            files.clear()

    def _set_bounds(self, block: pl.DataFrame, *, expected: int) -> None:
        ranges = max(1, -(-expected // _RANGE_POSTINGS))
        ends = np.cumsum(block["places"].list.len().to_numpy())
        targets = np.arange(1, ranges) * ends[-1] // ranges
        self._bounds = block["term"].gather(np.searchsorted(ends, targets)).unique().sort()
        self._parts = [[] for _ in range(len(self._bounds) + 1)]
        self._files = [[] for _ in self._parts]

    def _flush(self) -> None:
        for i, parts in enumerate(self._parts):
            if not parts:
                continue
            path = self._scratch / f"terms-{i}-{len(self._files[i])}.arrow"
            pl.concat(parts).write_ipc(path, compression="lz4")
            self._files[i].append(path)
            parts.clear()
        self._buffered = 0


def _count_terms(terms: pl.Series, places: NDArray[np.uint32]) -> pl.DataFrame:
    """A row per word, sorted: ``term``, ``places``, and ``tfs``, its frequency in each of them, at most 255."""
    # Sort integer codes, which is ten times as fast as sorting words.
    code = terms.cast(pl.Categorical).to_physical().to_numpy()
    first = np.full(int(code.max()) + 1, -1, np.int64)
    first[code[::-1]] = np.arange(len(code) - 1, -1, -1)
    present = np.flatnonzero(first >= 0)
    words = terms.gather(first[present])
    order = words.arg_sort().to_numpy()
    rank = np.empty(len(first), np.uint64)
    rank[present[order]] = np.arange(len(order), dtype=np.uint64)
    packed = rank[code] << np.uint64(32) | places
    packed.sort()
    starts = np.flatnonzero(np.r_[True, packed[1:] != packed[:-1]])
    tf = np.minimum(255, np.diff(np.r_[starts, len(packed)])).astype(np.uint8)
    packed = packed[starts]
    ends = np.searchsorted(packed >> np.uint64(32), np.arange(len(order) + 1, dtype=np.uint64)).astype(np.int32)
    lists = [(packed & np.uint64(0xFFFFFFFF)).astype(np.uint32), tf]
    columns = [pl.from_arrow(pa.ListArray.from_arrays(pa.array(ends), pa.array(values))) for values in lists]
    return pl.DataFrame({"term": words.gather(order), "places": columns[0], "tfs": columns[1]})


def _pack(rows: pl.DataFrame) -> tuple[pa.Array, NDArray[np.uint64]]:
    words = rows["term"].unique().sort()
    row_codes = rows["term"].cast(pl.Enum(words)).to_physical().to_numpy().astype(np.uint64)
    code = np.repeat(row_codes, rows["places"].list.len().to_numpy())
    places = rows["places"].explode().to_numpy().astype(np.uint64)
    return words.to_arrow().cast(pa.string()), code << np.uint64(40) | places << np.uint64(8) | rows[
        "tfs"
    ].explode().to_numpy()
