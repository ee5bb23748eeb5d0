"""Stable 128-bit hashes of strings: MurmurHash3, and BLAKE2b for long ones."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

Words = NDArray[np.uint64]

# Version stored with hashes; must be incremented with any change below, so that they are rebuilt.
HASH = "murmur3-x64-128/blake2b-128 above 256 bytes"
# Each block of 16 bytes takes a dozen vectorized passes; one BLAKE2b costs as much as twenty blocks.
LONG = 256
# Rows per block, so that temporaries stay in the cache.
_ROWS = 1 << 15

_C1, _C2 = np.uint64(0x87C37B91114253D5), np.uint64(0x4CF5AD432745937F)
_FMIX1, _FMIX2 = np.uint64(0xFF51AFD7ED558CCD), np.uint64(0xC4CEB9FE1A85EC53)
# Masks of the first 0 to 8 bytes of a little-endian word.
_FIRST_BYTES = np.array([(1 << 8 * n) - 1 for n in range(9)], dtype=np.uint64)


def hash_strings(values: pa.Array) -> tuple[Words, Words]:
    """Hash strings to 128 bits each.

    MurmurHash3_x64_128 with seed 0 (Appleby 2011) of the UTF-8 bytes, or BLAKE2b with a digest of 16 bytes (RFC 7693)
    above ``LONG`` bytes. The result depends only on the bytes, not on the machine or library versions.

    Parameters
    ----------
    values : pyarrow.StringArray or pyarrow.LargeStringArray, shape (n,)

    Returns
    -------
    first, second : uint64 ndarray, shape (n,)
        Halves of the hash; undefined for null values.
    """
    wide = pa.types.is_large_string(values.type)
    first, second = np.empty(len(values), dtype=np.uint64), np.empty(len(values), dtype=np.uint64)
    _, positions, content = values.buffers()
    if not len(values):
        return first, second
    offsets = np.frombuffer(positions, dtype=np.int64 if wide else np.int32)
    offsets = offsets[values.offset : values.offset + len(values) + 1].astype(np.int64)
    for start in range(0, len(values), _ROWS):
        stop = min(start + _ROWS, len(values))
        begin, end = int(offsets[start]), int(offsets[stop])
        # Padded by 16 bytes, since the last words are read in full.
        data = (memoryview(content)[begin:end].tobytes() if content is not None else b"") + bytes(16)
        begins = offsets[start:stop] - begin
        lengths = offsets[start + 1 : stop + 1] - offsets[start:stop]
        first[start:stop], second[start:stop] = _murmur(data, begins, np.where(lengths > LONG, 0, lengths))
        for row in np.flatnonzero(lengths > LONG).tolist():
            text = data[begins[row] : begins[row] + lengths[row]]
            halves = np.frombuffer(hashlib.blake2b(text, digest_size=16).digest(), dtype="<u8")
            first[start + row], second[start + row] = halves
    return first, second


def _murmur(data: bytes, begins: NDArray[np.int64], lengths: NDArray[np.int64]) -> tuple[Words, Words]:
    """MurmurHash3_x64_128 of slices of ``data``, which has 16 bytes of padding."""
    # Words at every byte offset: strings are not aligned.
    words: NDArray[Any] = np.ndarray((len(data) - 7,), dtype="<u8", buffer=data, strides=(1,))
    blocks = lengths >> 4
    order = np.argsort(-blocks, kind="stable")
    begins, lengths, blocks = begins[order], lengths[order], blocks[order]
    h1, h2 = np.zeros(len(begins), dtype=np.uint64), np.zeros(len(begins), dtype=np.uint64)
    for block in range(int(blocks[0])):
        # Rows are sorted by length: those with another block come first.
        n = int(np.searchsorted(-blocks, -block, side="left"))
        at = begins[:n] + 16 * block
        a, b = h1[:n], h2[:n]
        a ^= _scrambled(words[at], _C1, 31, _C2)
        a[:] = (_rotated(a, 27) + b) * np.uint64(5) + np.uint64(0x52DCE729)
        b ^= _scrambled(words[at + 8], _C2, 33, _C1)
        b[:] = (_rotated(b, 31) + a) * np.uint64(5) + np.uint64(0x38495AB5)
    at, left = begins + (blocks << 4), lengths & 15
    # Zero words have no effect, as the definition requires for empty tails.
    h2 ^= _scrambled(words[at + 8] & _FIRST_BYTES[np.maximum(left - 8, 0)], _C2, 33, _C1)
    h1 ^= _scrambled(words[at] & _FIRST_BYTES[np.minimum(left, 8)], _C1, 31, _C2)
    size = lengths.astype(np.uint64)
    h1 ^= size
    h2 ^= size
    h1 += h2
    h2 += h1
    h1, h2 = _finished(h1), _finished(h2)
    h1 += h2
    h2 += h1
    back = np.empty_like(order)
    back[order] = np.arange(len(order))
    return h1[back], h2[back]


def _scrambled(words: NDArray[Any], by: np.uint64, bits: int, then: np.uint64) -> Words:
    return _rotated(words.astype(np.uint64, copy=False) * by, bits) * then


def _rotated(words: Words, bits: int) -> Words:
    return (words << np.uint64(bits)) | (words >> np.uint64(64 - bits))


def _finished(words: Words) -> Words:
    words = (words ^ (words >> np.uint64(33))) * _FMIX1
    words = (words ^ (words >> np.uint64(33))) * _FMIX2
    return words ^ (words >> np.uint64(33))
