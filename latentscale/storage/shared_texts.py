"""Texts that occur in several shards: the row that represents each, and their vectors in a file per machine."""

from __future__ import annotations

import errno
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from latentscale.digest import digest
from latentscale.errors import ResourceError
from latentscale.storage.hashed_rows import Hasher, group_by_hash, hash_buckets
from latentscale.storage.hashing import Words, hash_strings
from latentscale.storage.objects import Store
from latentscale.storage.ordered import in_order
from latentscale.storage.parquet import read_parquet, write_parquet
from latentscale.storage.scratch import VARIABLE, scratch_folder, share_files
from latentscale.storage.snapshot import NO_IDS, Ids, ShardTable
from latentscale.storage.vectors import EMBEDDINGS, workspace_prefix

FOLDER = "shared-texts"

_FIRST, _SECOND, _PLACE, _MATRIX = "first.u64", "second.u64", "place.i64", "matrix"


def shared_folder(embedding_id: str, snapshot_id: str) -> str:
    """Return the folder of the vectors of a snapshot's shared texts, which exists while its shards are embedded."""
    return f"{EMBEDDINGS}/{embedding_id}/{FOLDER}/{snapshot_id}"


def is_shared(name: str) -> bool:
    """Whether an object is in the folder of shared texts."""
    parts = name.split("/", 3)
    return len(parts) == 4 and parts[0] == EMBEDDINGS and parts[2] == FOLDER


def find_shared(
    store: Store,
    shards: ShardTable,
    column: str,
    missing: NDArray[np.bool_],
    *,
    hasher: Hasher | None = None,
) -> Ids:
    """Find the texts that a shard without vectors has in common with another shard.

    Parameters
    ----------
    store : Store
        The workspace, in which hashes of texts are cached.
    shards : ShardTable
        Sorted by offset.
    column : str
        Name of the text column.
    missing : bool ndarray, shape (len(shards),)
        Whether each shard lacks vectors.
    hasher : Hasher, optional
        Hashes the texts of shards; by default this process.

    Returns
    -------
    int64 ndarray, ascending
        Offset of the first row of each such text. Texts that occur in only one shard, or only in shards with vectors,
        are not included.
    """
    found = [NO_IDS]
    for records in hash_buckets(store, shards, column, hasher=hasher):
        records, groups, starts = group_by_hash(records, records["shard"], records["row"])
        if not len(records):
            continue
        shard = records["shard"]
        lacks = missing[shard] & (shard != shard[starts][groups])
        first = records[starts[np.logical_or.reduceat(lacks, starts)]]
        found.append(shards.bases[first["shard"]] + first["row"])
    return np.sort(np.concatenate(found))


def write_plan(store: Store, folder: str, offsets: Ids) -> None:
    """Store the representative rows of shared texts, so that a resumed run uses the same ones."""
    write_parquet(store, f"{folder}/plan.parquet", pa.table({"offset": pa.array(offsets, pa.int64())}), facts={})


def read_plan(store: Store, folder: str) -> Ids | None:
    """Read the rows that ``write_plan`` stored; None if there are none."""
    name = f"{folder}/plan.parquet"
    return read_parquet(store, name, ["offset"])["offset"].to_numpy() if store.exists(name) else None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Table:
    first: Words
    second: Words
    place: NDArray[np.int64]
    matrix: NDArray[Any]


class SharedVectors:
    """The vectors of shared texts, looked up by hash.

    At the first lookup they are written to a scratch file, which all processes of this machine map.

    Parameters
    ----------
    store : Store
    folder : str
        From ``shared_folder``.
    """

    def __init__(self, store: Store, folder: str) -> None:
        self._store = store
        self._folder = folder
        self._table: _Table | None = None

    def find(self, texts: pa.Array) -> tuple[NDArray[np.int64], NDArray[np.float32] | None]:
        """Look up texts: ascending positions in ``texts`` of those with a vector (int64), and the vectors or None.

        Raises
        ------
        ResourceError
            If the disk of the scratch folder is full.
        """
        table = self._table = self._table or self._opened()
        if not len(table.first):
            return NO_IDS, None
        first, second = hash_strings(texts)
        there = np.flatnonzero(np.asarray(texts.is_valid()))
        at = np.searchsorted(table.first, first[there])
        place = np.full(len(there), -1, dtype=np.int64)
        # Different texts may have the same first half: probe them one after the other.
        left = np.flatnonzero(at < len(table.first))
        while len(left):
            left = left[table.first[at[left]] == first[there[left]]]
            same = table.second[at[left]] == second[there[left]]
            place[left[same]] = table.place[at[left[same]]]
            left = left[~same]
            at[left] += 1
            left = left[at[left] < len(table.first)]
        known = np.flatnonzero(place >= 0)
        if not len(known):
            return NO_IDS, None
        return there[known], table.matrix[place[known]].astype(np.float32)

    def _opened(self) -> _Table:
        name = f"{workspace_prefix(self._store.url)}shared-{digest(self._folder)}"
        files = share_files(scratch_folder(), name, self._write)
        texts, width = int(files.facts["texts"]), int(files.facts["width"])
        if not texts:
            return _Table(first=np.empty(0, np.uint64), second=np.empty(0, np.uint64), place=NO_IDS, matrix=NO_IDS)
        return _Table(
            first=files.map(_FIRST, np.uint64, (texts,)),
            second=files.map(_SECOND, np.uint64, (texts,)),
            place=files.map(_PLACE, np.int64, (texts,)),
            matrix=files.map(_MATRIX, np.dtype(str(files.facts["dtype"])), (texts, width)),
        )

    def _write(self, path: Path) -> Mapping[str, Any]:
        """Gather all objects; keeps the hashes in memory, 24 bytes per text."""
        listed = self._store.list(self._folder, brief=True).names.to_pylist()
        names = sorted(str(name) for name in listed if name.count("/") == self._folder.count("/") + 2)
        firsts, seconds = [np.empty(0, np.uint64)], [np.empty(0, np.uint64)]
        width, dtype = 0, "float32"
        try:
            with (path / _MATRIX).open("wb") as matrix:
                for table in in_order(self._store, lambda name: read_parquet(self._store, name), names):
                    table = table.filter(table["vector"].is_valid())
                    if not table.num_rows:
                        continue
                    vectors = table["vector"].combine_chunks()
                    width = vectors.type.list_size
                    values = vectors.flatten().to_numpy(zero_copy_only=False)
                    dtype = values.dtype.name
                    matrix.write(np.ascontiguousarray(values).data)
                    firsts.append(table["first"].to_numpy())
                    seconds.append(table["second"].to_numpy())
            first, second = np.concatenate(firsts), np.concatenate(seconds)
            order = np.argsort(first, kind="stable")
            for file, column in ((_FIRST, first[order]), (_SECOND, second[order]), (_PLACE, order.astype(np.int64))):
                (path / file).write_bytes(column.data)
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            raise ResourceError(
                "the disk was full when the vectors of texts that several shards have were gathered",
                where=str(path.parent),
                hint=f"Free some space, or name a folder on another disk: {VARIABLE}=/path.",
            ) from error
        return {"texts": len(first), "width": width, "dtype": dtype}
