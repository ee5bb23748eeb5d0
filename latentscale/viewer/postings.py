"""Postings: which documents have each word, sorted by word in bounded memory, and encoded."""

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
    """Which documents have each word, collected document by document and given back word by word.

    Words are cut into ranges of about three million postings, found from the first documents: each range is put in
    order on its own, and what does not fit into memory waits in ``scratch``.
    """

    def __init__(self, *, rows: int, scratch: Path) -> None:
        self._documents = rows
        self._scratch = scratch
        self._bounds: pl.Series | None = None
        self._parts: list[list[pl.DataFrame]] = [[]]
        self._files: list[list[Path]] = [[]]
        self._buffered = 0

    def add(self, terms: pl.Series, places: NDArray[np.uint32], *, documents: int) -> None:
        """Take the words of some documents, each as often as it is there, with the place of its document."""
        if not len(terms):
            return
        block = _counted(terms, places)
        if self._bounds is None:
            self._divide(block, expected=int(block["places"].list.len().sum()) * self._documents // documents)
        assert self._bounds is not None
        inner = block["term"].search_sorted(self._bounds, side="left").to_list() if len(self._bounds) else []
        cuts = [0, *inner, block.height]
        for i, (start, stop) in enumerate(itertools.pairwise(cuts)):
            if stop > start:
                self._parts[i].append(block.slice(start, stop - start))
        self._buffered += int(block.estimated_size())
        if self._buffered > _BUFFER_BYTES:
            self._flush()

    def terms(self) -> Iterator[pl.DataFrame]:
        """Each range of words, in order: ``term``, ``places`` and ``tfs``; a word has several rows."""
        for parts, files in zip(self._parts, self._files, strict=True):
            frames = [*(pl.read_ipc(path.read_bytes()) for path in files), *parts]
            parts.clear()
            for path in files:
                path.unlink()
            files.clear()
            if frames:
                yield pl.concat(frames)

    def close(self) -> None:
        """Remove the files that are left."""
        for files in self._files:
            for path in files:
                path.unlink(missing_ok=True)
            files.clear()

    def _divide(self, block: pl.DataFrame, *, expected: int) -> None:
        ranges = max(1, -(-expected // _RANGE_POSTINGS))
        ends = np.cumsum(block["places"].list.len().to_numpy())
        wanted = np.arange(1, ranges) * ends[-1] // ranges
        self._bounds = block["term"].gather(np.searchsorted(ends, wanted)).unique().sort()
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


def _counted(terms: pl.Series, places: NDArray[np.uint32]) -> pl.DataFrame:
    """A row a word, in order: ``term``, ``places`` and how often it is there, ``tfs``, 255 at most."""
    # Words as numbers: those sort ten times as fast.
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


def encode(rows: pl.DataFrame, *, scale: NDArray[np.float64], most: int, size: int) -> Iterator[pa.Table]:
    """Shards of a range of words: ``term``, ``documents``, ``places`` and ``weights``, a row a word.

    Parameters
    ----------
    rows : polars.DataFrame
        ``term`` (str), ``places`` (lists of uint32), ``tfs`` (lists of uint8), in any order; a word
        may have several rows.
    scale : float64 ndarray, shape (n,)
        By place, what BM25 adds to the term frequency below the line: ``k1 * (1 - b + b * length / mean length)``.
    most : int
        A word keeps the places of highest weight, so many at most; ``documents`` counts all.
    size : int
        Bytes of a shard, about; a word is never cut.

    Yields
    ------
    pyarrow.Table
        ``places`` are steps from place to place as varints (seven bits a byte, the low ones first), ``weights`` a byte
        each: ``tf / (tf + scale)``, of 255.
    """
    words = rows["term"].unique().sort()
    of_row = rows["term"].cast(pl.Enum(words)).to_physical().to_numpy().astype(np.uint64)
    code = np.repeat(of_row, rows["places"].list.len().to_numpy())
    tfs = rows["tfs"].explode().to_numpy()
    # One number a posting; a range has fewer than 2^24 words.
    packed = code << np.uint64(40) | rows["places"].explode().to_numpy().astype(np.uint64) << np.uint64(8) | tfs
    packed.sort()
    code = (packed >> np.uint64(40)).astype(np.int64)
    place = (packed >> np.uint64(8) & np.uint64(0xFFFFFFFF)).astype(np.int64)
    tf = (packed & np.uint64(0xFF)).astype(np.float64)
    counts = np.bincount(code, minlength=len(words))
    starts = np.cumsum(counts) - counts
    weight = np.maximum(1, np.rint(255 * tf / (tf + scale[place]))).astype(np.uint8)
    crowded = np.flatnonzero(counts[code] > most)
    if len(crowded):
        # Of equal weight the first, which lie in coarser tiles: an even sample of the map.
        falling = (255 - weight[crowded]).astype(np.uint64)
        packed = (
            code[crowded].astype(np.uint64) << np.uint64(40)
            | falling << np.uint64(32)
            | place[crowded].astype(np.uint64)
        )
        packed.sort()
        owner = (packed >> np.uint64(40)).astype(np.int64)
        sizes = np.bincount(owner, minlength=len(words))
        packed = packed[np.arange(len(packed)) - (np.cumsum(sizes) - sizes)[owner] < most]
        # Put back among the others: word, place and weight in one number again.
        best = packed >> np.uint64(40) << np.uint64(40) | (packed & np.uint64(0xFFFFFFFF)) << np.uint64(8)
        best |= np.uint64(255) - (packed >> np.uint64(32) & np.uint64(255))
        rest = counts[code] <= most
        others = code[rest].astype(np.uint64) << np.uint64(40) | place[rest].astype(np.uint64) << np.uint64(8)
        packed = np.concatenate([best, others | weight[rest]])
        packed.sort()
        code = (packed >> np.uint64(40)).astype(np.int64)
        place = (packed >> np.uint64(8) & np.uint64(0xFFFFFFFF)).astype(np.int64)
        weight = (packed & np.uint64(0xFF)).astype(np.uint8)
    sizes = np.bincount(code, minlength=len(starts))
    ends = np.cumsum(sizes)
    steps = place.copy()
    steps[1:] -= place[:-1]
    steps[ends - sizes] = place[ends - sizes]
    varints, widths = _varints(steps)
    place_ends = np.cumsum(widths)[ends - 1]
    total = place_ends + ends + np.cumsum(words.str.len_bytes().to_numpy().astype(np.int64) + 8)
    shard_of = (total - 1) // size
    cuts = np.r_[0, np.flatnonzero(np.diff(shard_of)) + 1, len(starts)]
    places = _binary(varints, place_ends)
    weights = _binary(weight, ends)
    table = pa.table(
        {
            "term": words.to_arrow().cast(pa.string()),
            "documents": pa.array(counts, pa.int32()),
            "places": places,
            "weights": weights,
        }
    )
    for start, stop in itertools.pairwise(cuts.tolist()):
        yield table.slice(start, stop - start)


def _varints(values: NDArray[np.int64]) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """The varints of some numbers, one after the other, and how many bytes each takes."""
    widths = np.ones(len(values), np.int64)
    for bits in (7, 14, 21, 28):
        widths += values >= 1 << bits
    ends = np.cumsum(widths)
    out = np.empty(int(ends[-1]), np.uint8)
    at = ends - widths
    for k in range(int(widths.max())):
        has = widths > k
        more = (widths[has] > k + 1).astype(np.uint8) << 7
        out[at[has] + k] = ((values[has] >> (7 * k)) & 127).astype(np.uint8) | more
    return out, widths


def _binary(data: NDArray[np.uint8], ends: NDArray[np.int64]) -> pa.Array:
    offsets = np.r_[0, ends].astype(np.int32)
    return pa.Array.from_buffers(pa.binary(), len(ends), [None, pa.py_buffer(offsets), pa.py_buffer(data)])
