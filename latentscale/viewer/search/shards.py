"""Encode the shards of the inverted index: postings are ranked, truncated and compressed."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray


def encode(
    words: pa.Array, packed: NDArray[np.uint64], *, scale: NDArray[np.float64], max_postings: int, size: int
) -> Iterator[pa.Table]:
    """Encode a range of words in shards: columns ``term``, ``documents``, ``places`` and ``weights``, a row per word.

    Parameters
    ----------
    words : pyarrow.Array of string
        Sorted by their UTF-8 bytes; fewer than 2^24.
    packed : uint64 ndarray
        Each pair of word and position once: index of the word times 2^40, plus position times 2^8, plus term frequency,
        at most 255. In any order; sorted in place, which is ten times as fast as sorting words.
    scale : float64 ndarray, shape (n,)
        By position, the term of the denominator of BM25: ``k1 * (1 - b + b * length / mean length)``.
    max_postings : int
        Maximum postings per word; those of highest weight are kept. ``documents`` counts all.
    size : int
        Approximate bytes per shard; a word is never split.

    Yields
    ------
    pyarrow.Table
        ``places`` are differences of successive positions as varints (seven bits per byte, low bits first),
        ``weights`` are ``tf / (tf + scale)`` in steps of 1/255, a byte each.
    """
    packed.sort()
    code = (packed >> np.uint64(40)).astype(np.int64)
    position = (packed >> np.uint64(8) & np.uint64(0xFFFFFFFF)).astype(np.int64)
    tf = (packed & np.uint64(0xFF)).astype(np.float64)
    counts = np.bincount(code, minlength=len(words))
    starts = np.cumsum(counts) - counts
    weight = np.maximum(1, np.rint(255 * tf / (tf + scale[position]))).astype(np.uint8)
    over_limit = np.flatnonzero(counts[code] > max_postings)
    if len(over_limit):
        # Ties are broken by position: lower positions are in coarser tiles, an even sample of the map.
        inverse_weight = (255 - weight[over_limit]).astype(np.uint64)
        packed = (
            code[over_limit].astype(np.uint64) << np.uint64(40)
            | inverse_weight << np.uint64(32)
            | position[over_limit].astype(np.uint64)
        )
        packed.sort()
        owner = (packed >> np.uint64(40)).astype(np.int64)
        sizes = np.bincount(owner, minlength=len(words))
        packed = packed[np.arange(len(packed)) - (np.cumsum(sizes) - sizes)[owner] < max_postings]
        # Merge with the others: word, position and weight in one integer again.
        best = packed >> np.uint64(40) << np.uint64(40) | (packed & np.uint64(0xFFFFFFFF)) << np.uint64(8)
        best |= np.uint64(255) - (packed >> np.uint64(32) & np.uint64(255))
        rest = counts[code] <= max_postings
        others = code[rest].astype(np.uint64) << np.uint64(40) | position[rest].astype(np.uint64) << np.uint64(8)
        packed = np.concatenate([best, others | weight[rest]])
        packed.sort()
        code = (packed >> np.uint64(40)).astype(np.int64)
        position = (packed >> np.uint64(8) & np.uint64(0xFFFFFFFF)).astype(np.int64)
        weight = (packed & np.uint64(0xFF)).astype(np.uint8)
    sizes = np.bincount(code, minlength=len(starts))
    ends = np.cumsum(sizes)
    steps = position.copy()
    steps[1:] -= position[:-1]
    steps[ends - sizes] = position[ends - sizes]
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
    """Concatenated varints of ``values``, and the number of bytes of each."""
    widths = np.ones(len(values), np.int64)
    for bits in (7, 14, 21, 28):
        widths += values >= 1 << bits
    ends = np.cumsum(widths)
    out = np.empty(int(ends[-1]), np.uint8)
    starts = ends - widths
    for k in range(int(widths.max())):
        has_byte = widths > k
        continuation = (widths[has_byte] > k + 1).astype(np.uint8) << 7
        out[starts[has_byte] + k] = ((values[has_byte] >> (7 * k)) & 127).astype(np.uint8) | continuation
    return out, widths


def _binary(data: NDArray[np.uint8], ends: NDArray[np.int64]) -> pa.Array:
    offsets = np.r_[0, ends].astype(np.int32)
    return pa.Array.from_buffers(pa.binary(), len(ends), [None, pa.py_buffer(offsets), pa.py_buffer(data)])
