"""Compact index of string keys: sorted 64-bit hashes, then comparison; a third of the memory of a hash table."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from latentscale.storage.columns import BATCH, indices


class KeyIndex:
    """Index of keys; twelve bytes per key.

    Parameters
    ----------
    keys : pyarrow.Array or ChunkedArray of strings, shape (n,)
        Indexed keys, without nulls; not copied.
    """

    def __init__(self, keys: pa.Array | pa.ChunkedArray) -> None:
        self._keys = keys
        hashes = hash_keys(keys)
        self._places: NDArray[np.int32] = np.argsort(hashes, kind="stable").astype(np.int32)
        self._hashes: NDArray[np.uint64] = hashes[self._places]

    def find(self, keys: pa.Array | pa.ChunkedArray) -> NDArray[np.int64]:
        """Find the first position of each key (int64, shape (m,)); -1 if missing."""
        found = np.full(len(keys), -1, dtype=np.int64)
        if not len(self._hashes):
            return found
        for begin in range(0, len(keys), BATCH):
            some = keys.slice(begin, BATCH)
            wanted = hash_keys(some)
            at = np.minimum(np.searchsorted(self._hashes, wanted), len(self._hashes) - 1)
            hit = np.flatnonzero(self._hashes[at] == wanted)
            places = self._places[at[hit]].astype(np.int64)
            asked = _joined(some.take(indices(hit))).cast(self._keys.type)
            equal = pc.call_function("equal", [_joined(self._keys.take(indices(places))), asked])
            same = equal.to_numpy(zero_copy_only=False)
            if not same.all():
                # A hash collision.
                lookup = pc.SetLookupOptions(_joined(self._keys))
                exact: Any = pc.call_function("index_in", [asked.filter(pa.array(~same))], lookup)
                places[~same] = exact.fill_null(-1).to_numpy(zero_copy_only=False)
            found[begin + hit] = places
        return found

    def repeated(self) -> NDArray[np.int64]:
        """Return positions of keys that also occur earlier (int64, ascending)."""
        again = np.append(False, self._hashes[1:] == self._hashes[:-1])
        if not again.any():
            return np.empty(0, dtype=np.int64)
        suspects = np.sort(self._places[again | np.append(again[1:], False)]).astype(np.int64)
        keys = _joined(self._keys.take(indices(suspects)))
        first = pc.call_function("index_in", [keys], pc.SetLookupOptions(keys)).to_numpy()
        return suspects[first != np.arange(len(suspects))]


def hash_keys(keys: pa.Array | pa.ChunkedArray) -> NDArray[np.uint64]:
    """Hash keys to uint64, shape (n,); stable within a process only."""
    hashes = np.empty(len(keys), dtype=np.uint64)
    for begin in range(0, len(keys), BATCH):
        some = pl.Series(keys.slice(begin, BATCH), dtype=pl.String)
        hashes[begin : begin + BATCH] = some.hash(seed=0).to_numpy()
    return hashes


def _joined(keys: pa.Array | pa.ChunkedArray) -> Any:
    if isinstance(keys, pa.ChunkedArray):
        return pa.concat_arrays(keys.chunks) if keys.num_chunks else pa.array([], keys.type)
    return keys
