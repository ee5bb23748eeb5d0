"""Shards of the index of words: postings, ranked, cut and encoded."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray


def encode(
    words: pa.Array, packed: NDArray[np.uint64], *, scale: NDArray[np.float64], most: int, size: int
) -> Iterator[pa.Table]:
    """Shards of a range of words: ``term``, ``documents``, ``places`` and ``weights``, a row a word.

    Parameters
    ----------
    words : pyarrow.Array of string
        Sorted by their UTF-8 bytes; fewer than 2^24.
    packed : uint64 ndarray
        Each word and place once: the number of the word times 2^40, plus the place times 2^8, plus how often it is
        there, 255 at most. In any order; it is sorted in place, which is ten times as fast as sorting words.
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
    total = place_ends + ends + np.cumsum(pc.call_function("binary_length", [words]).to_numpy().astype(np.int64) + 8)
    shard_of = (total - 1) // size
    cuts = np.r_[0, np.flatnonzero(np.diff(shard_of)) + 1, len(starts)]
    places = _binary(varints, place_ends)
    weights = _binary(weight, ends)
    table = pa.table(
        {
            "term": words,
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
