"""Selections: lists of documents, by corpus id or row id, that a run excludes or is restricted to."""

from __future__ import annotations

import hashlib
import re
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from latentscale.errors import WorkspaceError
from latentscale.storage.objects import Store
from latentscale.storage.ordered import in_order
from latentscale.storage.parquet import read_parquet, write_parquet
from latentscale.storage.shard_hashes import strings_of
from latentscale.storage.snapshot import NO_IDS, Ids, Shard, Snapshot, in_shards

FOLDER = "selections"
ROW_ID, OWN_ID = "row_id", "id"
_NAME = re.compile(r"selection-[0-9a-f]{16}")


def is_selection(name: str) -> bool:
    """Whether a setting names a selection stored in the workspace, as opposed to a file."""
    return _NAME.fullmatch(name) is not None


def write_selection(store: Store, values: pa.Array | pa.ChunkedArray, *, facts: dict[str, Any]) -> str:
    """Store a list in the workspace, so that updates do not need the original file.

    Parameters
    ----------
    values : pyarrow array
        int64: row ids; string: values of the corpus's id column.
    facts : dict
        Provenance of the list.

    Returns
    -------
    str
        ``selection-<16 hex>``, from the digest of the values.
    """
    unique = pc.call_function("unique", [values])
    ordered = unique.take(pc.call_function("array_sort_indices", [unique]))
    kind = ROW_ID if pa.types.is_integer(ordered.type) else OWN_ID
    digest = hashlib.blake2b(digest_size=8)
    for value in ordered.to_pylist():
        digest.update(f"{kind}\n{value}\n".encode())
    name = f"selection-{digest.hexdigest()}"
    if not store.exists(_object(name)):
        write_parquet(store, _object(name), pa.table({kind: ordered}), facts=facts)
    return name


def read_selection(store: Store, name: str) -> pa.ChunkedArray:
    """Read a stored list: row ids (int64), or corpus ids (string).

    Raises
    ------
    WorkspaceError
        If the workspace does not contain it.
    """
    if not store.exists(_object(name)):
        raise WorkspaceError(
            f"{store.url} has no {name}", hint="Name the file with the ids again: --exclude ids.csv, --only ids.csv."
        )
    return read_parquet(store, _object(name)).column(0)


def offsets_of(store: Store, snapshot: Snapshot, name: str, *, id_column: str | None) -> Ids:
    """Return the offsets of the rows of a snapshot that are in a selection (int64, ascending).

    Corpus ids are looked up in the id column of all shards, several of which are read concurrently.

    Raises
    ------
    WorkspaceError
        If the list contains corpus ids, and the workspace has no id column.
    """
    values = read_selection(store, name)
    if pa.types.is_integer(values.type):
        offsets = snapshot.offsets(values.to_numpy())
        return np.unique(offsets[in_shards(offsets, snapshot.shards)])
    if id_column is None:
        raise WorkspaceError(f"{name} has ids of the corpus, but no column of it was named as its id")
    wanted = pc.SetLookupOptions(values.combine_chunks().cast(pa.large_string()))

    def rows(shard: Shard) -> Ids:
        ids = strings_of(read_parquet(store, shard.name, [id_column])[id_column]).cast(pa.large_string())
        return shard.base + np.flatnonzero(np.asarray(pc.call_function("is_in", [ids], wanted)))

    return np.unique(np.concatenate([NO_IDS, *in_order(store, rows, snapshot.shards)]))


def all_offsets(snapshot: Snapshot) -> Ids:
    """Return the offsets of all rows of a snapshot (int64, ascending)."""
    shards = snapshot.shards
    if not len(shards):
        return NO_IDS
    starts = np.repeat(shards.bases - (np.cumsum(shards.rows) - shards.rows), shards.rows)
    return np.sort(starts + np.arange(int(shards.rows.sum())))


def _object(name: str) -> str:
    return f"{FOLDER}/{name}.parquet"
