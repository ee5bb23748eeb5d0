"""Gather a snapshot's vectors, and its texts, for the stages that need the whole set."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from latentscale.errors import CorpusError, DamagedObjectError
from latentscale.stages.embed import vector_name
from latentscale.storage.objects import Store
from latentscale.storage.parquet import read_batches, read_footer, read_parquet
from latentscale.storage.snapshots import Shard, Snapshot

# Up to here the matrix is kept in memory; a larger one is a file that the operating system pages in and out.
IN_MEMORY_BYTES = 1 << 30


@dataclass(frozen=True, slots=True, kw_only=True)
class Vectors:
    """All vectors of a snapshot.

    Attributes
    ----------
    matrix : float32 ndarray, shape (n, dim)
        L2-normalised, by place; memory-mapped when large.
    places : int64 ndarray, shape (n,)
        Ascending: the documents that have a vector and are not superseded.
    row_ids : int64 ndarray, shape (n,)
        Their identities.
    """

    matrix: NDArray[np.float32]
    places: NDArray[np.int64]
    row_ids: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.row_ids)


_cached: tuple[tuple[str, str, str], Vectors] | None = None


def load_vectors(store: Store, snapshot: Snapshot, embedding_id: str) -> Vectors:
    """Read the vectors of a snapshot; the last set read in this process is kept for the next stage.

    Raises
    ------
    CorpusError
        If no document has a vector.
    DamagedObjectError
        If a shard of vectors does not fit its shard of documents.
    """
    global _cached
    key = (store.url, snapshot.id, embedding_id)
    if _cached is not None and _cached[0] == key:
        return _cached[1]
    _cached = None
    dim = int(read_footer(store, vector_name(embedding_id, snapshot.shards[0].key)).facts["dim"])
    matrix = _allocate(snapshot.documents, dim)
    places = np.empty(snapshot.documents, dtype=np.int64)
    filled = 0
    for shard in snapshot.shards:
        keep = snapshot.kept(shard)
        chosen = _shard_vectors(store, embedding_id, shard, dim, keep)
        matrix[filled : filled + len(chosen)] = chosen
        places[filled : filled + len(chosen)] = shard.base + np.flatnonzero(keep)
        filled += len(chosen)
    if filled == 0:
        raise CorpusError(
            "no document of the corpus could be embedded", hint="Look at rejects/ for the reasons, row by row."
        )
    places = places[:filled]
    vectors = Vectors(matrix=matrix[:filled], places=places, row_ids=snapshot.row_ids(places))
    _cached = (key, vectors)
    return vectors


def vectors_at(store: Store, snapshot: Snapshot, embedding_id: str, places: NDArray[np.int64]) -> Vectors:
    """Read the vectors of the rows at ``places`` (ascending) that have one, from their shards alone.

    Raises
    ------
    DamagedObjectError
        If a shard of vectors does not fit its shard of documents.
    """
    pieces: list[NDArray[np.float32]] = []
    held: list[NDArray[np.int64]] = []
    for shard, rows, _ in snapshot.locate(snapshot.row_ids(places)):
        keep = np.zeros(shard.rows, dtype=bool)
        keep[rows] = True
        pieces.append(_shard_vectors(store, embedding_id, shard, None, keep))
        held.append(shard.base + np.flatnonzero(keep))
    if not pieces:
        return Vectors(matrix=np.empty((0, 0), dtype=np.float32), places=places[:0], row_ids=places[:0])
    found = np.concatenate(held)
    return Vectors(matrix=np.concatenate(pieces), places=found, row_ids=snapshot.row_ids(found))


def _shard_vectors(
    store: Store, embedding_id: str, shard: Shard, dim: int | None, keep: NDArray[np.bool_]
) -> NDArray[np.float32]:
    """Read the vectors of those rows of a shard that ``keep`` marks; unmarks rows that have none."""
    name = vector_name(embedding_id, shard.key)
    column = read_parquet(store, name, ["vector"]).column(0).combine_chunks()
    width = column.type.list_size
    if len(column) != shard.rows or width != (dim or width):
        raise DamagedObjectError(
            f"{name} holds {len(column):,} vectors of width {width}, "
            f"its documents are {shard.rows:,} and the width is {dim or width}",
            hint="Delete that object and run the same command again: it is made anew.",
        )
    keep &= np.asarray(column.is_valid())
    values = column.values.slice(column.offset * width, len(column) * width).to_numpy(zero_copy_only=False)
    chosen = values.reshape(-1, width)[keep].astype(np.float32)
    # Halving the precision moves the length of a vector by up to a thousandth.
    chosen /= np.maximum(np.linalg.norm(chosen, axis=1, keepdims=True), 1e-12)
    return chosen


def _allocate(rows: int, dim: int) -> NDArray[np.float32]:
    if rows * dim * 4 <= IN_MEMORY_BYTES:
        return np.empty((rows, dim), dtype=np.float32)
    descriptor, path = tempfile.mkstemp(prefix="latentscale-vectors-")
    try:
        os.ftruncate(descriptor, rows * dim * 4)
        matrix = np.memmap(path, dtype=np.float32, mode="r+", shape=(rows, dim))
    finally:
        os.close(descriptor)
        # Without a name the file goes with the process, however that ends.
        if os.name == "posix":
            os.unlink(path)  # noqa: PTH108
    return matrix


def stream_documents(
    store: Store, snapshot: Snapshot, row_ids: NDArray[np.int64], columns: Sequence[str]
) -> Iterator[tuple[NDArray[np.int64], pa.RecordBatch]]:
    """Read columns of the documents ``row_ids``, batch by batch.

    Parameters
    ----------
    row_ids : int64 ndarray
        By place, as ``Vectors.row_ids`` are.

    Yields
    ------
    positions : int64 ndarray
        Positions in ``row_ids``, ascending over the whole stream.
    batch : pyarrow.RecordBatch
        Their columns, in the same order.
    """
    places = snapshot.places(row_ids)
    bases = snapshot.shards.bases
    firsts = np.searchsorted(places, bases)
    lasts = np.searchsorted(places, bases + snapshot.shards.rows)
    for index in np.flatnonzero(lasts > firsts).tolist():
        shard, first, last = snapshot.shards[index], int(firsts[index]), int(lasts[index])
        rows = places[first:last] - shard.base
        start = 0
        for batch in read_batches(store, shard.name, columns):
            low, high = np.searchsorted(rows, [start, start + batch.num_rows])
            if high > low:
                wanted = rows[low:high] - start
                whole = high - low == batch.num_rows
                yield np.arange(first + low, first + high), batch if whole else batch.take(pa.array(wanted))
            start += batch.num_rows


def column_values(store: Store, snapshot: Snapshot, row_ids: NDArray[np.int64], column: str) -> list[str | None]:
    """Values of one source column as text, in the order of ``row_ids``; null where a shard has no such column."""
    values: list[str | None] = []
    for places, batch in stream_documents(store, snapshot, row_ids, [column]):
        if column not in batch.schema.names:
            values.extend([None] * len(places))
        else:
            values.extend(None if value is None else str(value) for value in batch.column(column).to_pylist())
    return values
