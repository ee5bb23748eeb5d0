"""Load the vectors, texts and columns of a snapshot for the stages that need the whole set."""

from __future__ import annotations

import errno
from collections import deque
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, overload

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from latentscale.digest import digest
from latentscale.errors import CorpusError, DamagedObjectError, ResourceError
from latentscale.machine import available_processors
from latentscale.storage.objects import Store
from latentscale.storage.ordered import in_order
from latentscale.storage.parquet import read_batches, read_footer, read_parquet
from latentscale.storage.scratch import (
    STALE_AFTER,
    VARIABLE,
    SharedFiles,
    free_bytes,
    remove_shared,
    scratch_folder,
    share_files,
)
from latentscale.storage.snapshot import COMPRESSION, Shard, ShardTable, Snapshot

EMBEDDINGS = "embeddings"

# Up to this size in bytes each process has the matrix in memory; a larger one is a file that all processes map.
IN_MEMORY_BYTES = 64 << 20
# Limit in bytes of shards of vectors that are read ahead.
READ_AHEAD_BYTES = 256 << 20
# Limit in decompressed bytes of texts and columns that are read ahead.
_AHEAD_BYTES = 64 << 20

_PREFIX = "vectors-"
_MATRIX, _OFFSETS, _ROW_IDS = "matrix.f32", "places.i64", "row_ids.i64"


@dataclass(frozen=True, slots=True, kw_only=True)
class Vectors:
    """All vectors of a snapshot.

    Attributes
    ----------
    matrix : float32 ndarray, shape (n, dim)
        Unit vectors, sorted by offset; if large, a memory-mapped file, one per machine.
    offsets : int64 ndarray, shape (n,)
        Ascending offsets of the documents that have a vector and are not superseded.
    row_ids : int64 ndarray, shape (n,)
        Their row ids.
    """

    matrix: NDArray[np.float32]
    offsets: NDArray[np.int64]
    row_ids: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.row_ids)


@dataclass(frozen=True, slots=True, kw_only=True)
class _CachedVectors:
    key: tuple[str, str, str]
    vectors: Vectors
    files: SharedFiles | None


_cached: _CachedVectors | None = None


def vector_name(embedding_id: str, key: str) -> str:
    """Return the object name of a shard of vectors."""
    return f"{EMBEDDINGS}/{embedding_id}/{key[:2]}/{key}.parquet"


def load_vectors(
    store: Store,
    snapshot: Snapshot,
    embedding_id: str,
    *,
    scratch: Path | str | None = None,
    threads: int | None = None,
) -> Vectors:
    """Read the vectors of a snapshot; this process caches the last set for the next stage.

    A large set is written once to a scratch file, which all processes of this machine map. ``spooled_vectors`` removes
    it after the run.

    Parameters
    ----------
    scratch : Path, optional
        Folder of that file; by default LATENTSCALE_SCRATCH, or a temporary folder of this user.
    threads : int, optional
        Shards read concurrently; by default one per CPU, or ``storage.max_requests`` for a remote store.

    Raises
    ------
    CorpusError
        If no document has a vector.
    DamagedObjectError
        If a shard of vectors does not match its shard of documents, or has another dimension than the first.
    ResourceError
        If the disk of the scratch folder is too small.
    """
    global _cached
    key = (store.url, snapshot.id, embedding_id)
    if _cached is not None and _cached.key == key:
        return _cached.vectors
    _release_cached()
    width = _width(store, snapshot, embedding_id)
    threads = threads or (available_processors() if store.is_local else store.storage.max_requests)
    read = partial(_ordered_shards, store, snapshot, embedding_id, width, threads)
    if snapshot.documents * width * 4 <= IN_MEMORY_BYTES:
        _cached = _CachedVectors(key=key, vectors=_in_memory(snapshot, read(), width), files=None)
        return _cached.vectors
    folder = scratch_folder(scratch)
    remove_shared(folder, _PREFIX, older_than=STALE_AFTER)
    files = share_files(folder, _set_name(*key), lambda path: _spool(snapshot, read(), width, path))
    n = int(files.facts["documents"])
    vectors = Vectors(
        matrix=files.map(_MATRIX, np.float32, (n, int(files.facts["width"]))),
        offsets=files.map(_OFFSETS, np.int64, (n,)),
        row_ids=files.map(_ROW_IDS, np.int64, (n,)),
    )
    _cached = _CachedVectors(key=key, vectors=vectors, files=files)
    return vectors


@contextmanager
def spooled_vectors(store: Store, *, scratch: Path | str | None = None) -> Generator[None]:
    """Context of a run: removes scratch files of earlier runs older than a day at entry, and its own at exit."""
    with suppress(ResourceError):
        remove_shared(scratch_folder(scratch), _PREFIX, older_than=STALE_AFTER)
    try:
        yield
    finally:
        release_vectors(store, scratch=scratch)


def release_vectors(store: Store, *, scratch: Path | str | None = None) -> None:
    """Release the cached vectors of this process, and remove unused scratch files of a workspace.

    Must also be called on other machines on which stages ran.
    """
    _release_cached()
    with suppress(ResourceError):
        remove_shared(scratch_folder(scratch), workspace_prefix(store.url))


def _release_cached() -> None:
    global _cached
    if _cached is not None and _cached.files is not None:
        _cached.files.close()
    _cached = None


def workspace_prefix(url: str) -> str:
    """Return the common prefix of the names of a workspace's sets of scratch files."""
    return f"{_PREFIX}{digest(url, size=8)}-"


def _set_name(url: str, snapshot_id: str, embedding_id: str) -> str:
    return f"{workspace_prefix(url)}{digest([snapshot_id, embedding_id])}"


def _width(store: Store, snapshot: Snapshot, embedding_id: str) -> int:
    """Return the dimension of the vectors, from the first shard that has any."""
    for shard in snapshot.shards:
        facts = read_footer(store, vector_name(embedding_id, shard.key)).facts
        if facts["embedded"]:
            return int(facts["dim"])
    raise _no_vectors_error()


def _no_vectors_error() -> CorpusError:
    return CorpusError(
        "no document of the corpus could be embedded", hint="Look at rejects/ for the reasons, row by row."
    )


def _in_memory(
    snapshot: Snapshot, read: Iterator[tuple[NDArray[np.float32], NDArray[np.int64]]], width: int
) -> Vectors:
    matrix = np.empty((snapshot.documents, width), dtype=np.float32)
    offsets = np.empty(snapshot.documents, dtype=np.int64)
    filled = 0
    for rows, where in read:
        matrix[filled : filled + len(rows)] = rows
        offsets[filled : filled + len(rows)] = where
        filled += len(rows)
    if filled == 0:
        raise _no_vectors_error()
    offsets = offsets[:filled]
    return Vectors(matrix=matrix[:filled], offsets=offsets, row_ids=snapshot.row_ids(offsets))


def _spool(
    snapshot: Snapshot,
    read: Iterator[tuple[NDArray[np.float32], NDArray[np.int64]]],
    width: int,
    folder: Path,
) -> Mapping[str, Any]:
    """Write the vectors sequentially into files in ``folder``; returns their metadata."""
    needed = snapshot.documents * (width * 4 + 16)
    free = free_bytes(folder)
    hint = f"Free some space, or name a folder on another disk: {VARIABLE}=/path."
    if needed > free:
        raise ResourceError(
            f"the vectors of {snapshot.documents:,} documents take {needed / 1e9:.2g} GB of disk, "
            f"{free / 1e9:.2g} GB are free",
            where=str(folder.parent),
            hint=hint,
        )
    written = 0
    try:
        with (
            (folder / _MATRIX).open("wb") as matrix,
            (folder / _OFFSETS).open("wb") as offsets,
            (folder / _ROW_IDS).open("wb") as row_ids,
        ):
            for rows, where in read:
                matrix.write(rows.data)
                offsets.write(where.data)
                row_ids.write(np.ascontiguousarray(snapshot.row_ids(where)).data)
                written += len(rows)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise ResourceError(
            f"the disk was full after {written:,} of {snapshot.documents:,} vectors",
            where=str(folder.parent),
            hint=hint,
        ) from error
    if written == 0:
        raise _no_vectors_error()
    return {"documents": written, "width": width}


def _ordered_shards(
    store: Store, snapshot: Snapshot, embedding_id: str, width: int, threads: int
) -> Iterator[tuple[NDArray[np.float32], NDArray[np.int64]]]:
    """Yield the vectors and offsets of each shard in snapshot order, reading the next ones ahead."""

    def read(shard: Shard) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        keep = snapshot.kept(shard)
        rows = _shard_vectors(store, embedding_id, shard, width, keep)
        return rows, shard.base + np.flatnonzero(keep)

    waiting: deque[tuple[int, Future[tuple[NDArray[np.float32], NDArray[np.int64]]]]] = deque()
    ahead = 0
    pool = ThreadPoolExecutor(max(threads, 1), thread_name_prefix="latentscale-vectors")
    try:
        for shard in snapshot.shards:
            size = shard.rows * width * 8
            while waiting and (len(waiting) >= 2 * threads or ahead + size > READ_AHEAD_BYTES):
                ahead -= waiting[0][0]
                yield waiting.popleft()[1].result()
            waiting.append((size, pool.submit(read, shard)))
            ahead += size
        while waiting:
            yield waiting.popleft()[1].result()
    finally:
        # After an error or an interrupt, do not wait for pending reads.
        pool.shutdown(wait=False, cancel_futures=True)


def vectors_at(store: Store, snapshot: Snapshot, embedding_id: str, offsets: NDArray[np.int64]) -> Vectors:
    """Read the vectors of the rows at ``offsets`` (ascending), reading only their shards; rows without one are omitted.

    Raises
    ------
    DamagedObjectError
        If a shard of vectors does not match its shard of documents, or has another dimension than the first.
    """
    pieces: list[NDArray[np.float32]] = []
    held: list[NDArray[np.int64]] = []
    width: int | None = None
    for shard, rows, _ in snapshot.locate(snapshot.row_ids(offsets)):
        keep = np.zeros(shard.rows, dtype=bool)
        keep[rows] = True
        chosen = _shard_vectors(store, embedding_id, shard, width, keep)
        if len(chosen):
            width = chosen.shape[1]
            pieces.append(chosen)
            held.append(shard.base + np.flatnonzero(keep))
    if not pieces:
        return Vectors(matrix=np.empty((0, 0), dtype=np.float32), offsets=offsets[:0], row_ids=offsets[:0])
    found = np.concatenate(held)
    return Vectors(matrix=np.concatenate(pieces), offsets=found, row_ids=snapshot.row_ids(found))


def _shard_vectors(
    store: Store, embedding_id: str, shard: Shard, expected: int | None, keep: NDArray[np.bool_]
) -> NDArray[np.float32]:
    """Read the vectors of the rows of a shard selected by ``keep``, which is set to False for rows without one.

    Returns
    -------
    float32 ndarray, shape (n, width)
        Normalised again, as half precision changes the norm of a vector by up to a thousandth.
    """
    name = vector_name(embedding_id, shard.key)
    column = read_parquet(store, name, ["vector"]).column(0).combine_chunks()
    valid = np.asarray(column.is_valid())
    if len(column) != shard.rows:
        raise _mismatch(name, f"holds {len(column):,} vectors, its documents are {shard.rows:,}")
    keep &= valid
    if not valid.any():
        # A shard without vectors has no dimension.
        return np.empty((0, expected or 0), dtype=np.float32)
    width = int(column.type.list_size) if pa.types.is_fixed_size_list(column.type) else 0
    if width < 1 or width != (expected or width):
        raise _mismatch(name, f"holds vectors of the type {column.type}, the width is {expected or 'at least 1'}")
    values = column.values.slice(column.offset * width, len(column) * width).to_numpy(zero_copy_only=False)
    chosen = values.reshape(-1, width)[keep].astype(np.float32)
    for start in range(0, len(chosen), 1024):
        rows = chosen[start : start + 1024]
        lengths = np.linalg.norm(rows.astype(np.float64), axis=1, keepdims=True)
        rows /= np.maximum(lengths, 1e-12).astype(np.float32)
    return chosen


def _mismatch(name: str, what: str) -> DamagedObjectError:
    return DamagedObjectError(f"{name} {what}", hint="latentscale repair WORKSPACE makes it again.")


def stream_documents(
    store: Store, snapshot: Snapshot, row_ids: NDArray[np.int64], columns: Sequence[str]
) -> Iterator[tuple[NDArray[np.int64], pa.RecordBatch]]:
    """Read columns of documents in batches.

    Parameters
    ----------
    row_ids : int64 ndarray
        Sorted by offset, as ``Vectors.row_ids`` is.

    Yields
    ------
    positions : int64 ndarray
        Positions in ``row_ids``, ascending over the whole stream.
    batch : pyarrow.RecordBatch
        Columns of these documents, in the same order.
    """
    offsets = snapshot.offsets(row_ids)
    firsts = np.searchsorted(offsets, snapshot.shards.bases)
    lasts = np.searchsorted(offsets, snapshot.shards.bases + snapshot.shards.rows)
    chosen = np.flatnonzero(lasts > firsts)
    shards = snapshot.shards.take(chosen)
    for shard, batches, at in zip(shards, _read_ahead(store, shards, columns), chosen.tolist(), strict=True):
        first, last = int(firsts[at]), int(lasts[at])
        rows = offsets[first:last] - shard.base
        start = 0
        for batch in batches:
            low, high = np.searchsorted(rows, [start, start + batch.num_rows])
            if high > low:
                wanted = rows[low:high] - start
                whole = high - low == batch.num_rows
                yield np.arange(first + low, first + high), batch if whole else batch.take(pa.array(wanted))
            start += batch.num_rows


def _read_ahead(store: Store, shards: ShardTable, columns: Sequence[str]) -> Iterator[Iterable[pa.RecordBatch]]:
    """Yield the batches of each shard; from a remote store the next shards are prefetched, within a memory limit.

    The latency of sequential requests would exceed the processing time; a local disk needs no prefetching.
    """
    names = (shard.name for shard in shards)
    ahead = int(_AHEAD_BYTES // max(1.0, COMPRESSION * float(shards.bytes.max(initial=0))))
    if store.is_local or ahead < 1:
        return (read_batches(store, name, columns) for name in names)
    return in_order(store, lambda name: list(read_batches(store, name, columns)), names, ahead=ahead)


class ColumnValues(Sequence[str | None]):
    """A column as text, dictionary-encoded.

    Attributes
    ----------
    codes : int32 ndarray, shape (n,)
        Index of each document's value in ``categories``; -1 if it has none.
    categories : list of str
        Distinct values in order of first appearance.
    """

    def __init__(self, codes: NDArray[np.int32], categories: list[str]) -> None:
        self.codes = codes
        self.categories = categories

    def __len__(self) -> int:
        return len(self.codes)

    @overload
    def __getitem__(self, index: int) -> str | None: ...
    @overload
    def __getitem__(self, index: slice) -> ColumnValues: ...
    def __getitem__(self, index: int | slice) -> str | ColumnValues | None:
        if isinstance(index, slice):
            return ColumnValues(self.codes[index], self.categories)
        code = int(self.codes[index])
        return None if code < 0 else self.categories[code]


def column_values(store: Store, snapshot: Snapshot, row_ids: NDArray[np.int64], column: str) -> ColumnValues:
    """Read a source column as text, in the order of ``row_ids``; null where a shard lacks the column.

    Needs 4 bytes per document, and each distinct value once.
    """
    codes = np.full(len(row_ids), -1, dtype=np.int32)
    known: dict[str, int] = {}
    for positions, batch in stream_documents(store, snapshot, row_ids, [column]):
        if column in batch.schema.names:
            codes[positions] = _codes(batch.column(column), known)
    return ColumnValues(codes, list(known))


def _codes(values: pa.Array, known: dict[str, int]) -> NDArray[np.int32]:
    """Return the code of each value's text (int32); new texts are added to ``known``."""
    if isinstance(values, pa.DictionaryArray):
        values = values.dictionary_decode()
    try:
        encoded = values.dictionary_encode()
    except pa.ArrowNotImplementedError:  # lists and the like
        encoded = pa.array([None if v is None else str(v) for v in values.to_pylist()], pa.string()).dictionary_encode()
    codes = np.array([known.setdefault(str(v), len(known)) for v in encoded.dictionary.to_pylist()], dtype=np.int32)
    value_index = encoded.indices.fill_null(len(codes)).to_numpy(zero_copy_only=False)
    return np.append(codes, np.int32(-1))[value_index]


def vectors_of_shard(store: Store, snapshot: Snapshot, shard: Shard, embedding_id: str) -> Vectors:
    """Read the vectors of one shard's documents; documents without one are omitted.

    Raises
    ------
    DamagedObjectError
        If the shard of vectors does not match its shard of documents.
    """
    keep = snapshot.kept(shard)
    matrix = _shard_vectors(store, embedding_id, shard, None, keep)
    offsets = shard.base + np.flatnonzero(keep)
    return Vectors(matrix=matrix, offsets=offsets, row_ids=snapshot.row_ids(offsets))
