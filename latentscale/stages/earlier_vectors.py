"""Reuse of vectors of an earlier snapshot: an update embeds no text twice."""

from __future__ import annotations

from functools import cached_property

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from latentscale.storage.objects import Store
from latentscale.storage.parquet import read_parquet
from latentscale.storage.snapshot import Shard, Snapshot, in_shards
from latentscale.storage.snapshots import read_snapshot
from latentscale.storage.vectors import vector_name


class EarlierVectors:
    """Vectors of documents that a new snapshot shares with an earlier one.

    Parameters
    ----------
    store : Store
    embedding_id : str
    text_column : str
    snapshots : (str, str)
        Ids of the earlier and the new snapshot.
    """

    def __init__(self, store: Store, embedding_id: str, text_column: str, snapshots: tuple[str, str]) -> None:
        self._store = store
        self._embedding_id = embedding_id
        self._text_column = text_column
        self._ids = snapshots

    @cached_property
    def _snapshots(self) -> tuple[Snapshot, Snapshot]:
        before, after = (read_snapshot(self._store, identity) for identity in self._ids)
        return before, after

    def find(self, shard: Shard, texts: pa.ChunkedArray) -> tuple[NDArray[np.int64], NDArray[np.float32] | None]:
        """Find rows of ``shard`` whose document had the same text in an earlier shard, and their vectors.

        Parameters
        ----------
        texts : pyarrow.ChunkedArray
            Texts of all rows.
        """
        before, after = self._snapshots
        start, stop = np.searchsorted(after.carried_offsets, [shard.base, shard.base + shard.rows])
        rows = after.carried_offsets[start:stop] - shard.base
        ids = after.carried_row_ids[start:stop]
        known = in_shards(before.offsets(ids), before.shards)
        rows, ids = rows[known], ids[known]
        found: list[NDArray[np.int64]] = []
        vectors: list[NDArray[np.float32]] = []
        for earlier, held, positions in before.locate(ids) if len(ids) else ():
            name = vector_name(self._embedding_id, earlier.key)
            if earlier.key == shard.key or not self._store.exists(name):
                continue
            chosen = pa.array(held)
            column = read_parquet(self._store, name, ["vector"]).column(0).take(chosen).combine_chunks()
            there = read_parquet(self._store, earlier.name, [self._text_column]).column(0).take(chosen)
            here = texts.take(pa.array(rows[positions]))
            same = pc.call_function("equal", [there.cast(here.type), here]).combine_chunks().fill_null(False)
            same = np.asarray(same) & np.asarray(column.is_valid())
            if same.any():
                width = column.type.list_size
                values = column.values.slice(column.offset * width, len(column) * width)
                matrix = values.to_numpy(zero_copy_only=False).reshape(-1, width)
                found.append(rows[positions][same])
                vectors.append(matrix[same].astype(np.float32))
        if not found:
            return np.empty(0, np.int64), None
        return np.concatenate(found), np.concatenate(vectors)
