"""Check the snapshots: no two rows at one offset, no two documents with one row_id, every shard exists."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from latentscale.errors import LatentScaleError
from latentscale.stages.embed import vector_name
from latentscale.storage.identity import taken_from_others
from latentscale.storage.objects import Store
from latentscale.storage.snapshot import Snapshot, document_name
from latentscale.storage.snapshots import list_snapshot_ids, read_snapshot
from latentscale.upkeep.checks.report import Check
from latentscale.upkeep.checks.shards import DocumentShard, VectorShard

# The shards are intact in this case; the documents need new row ids.
_REFIT = "latentscale update WORKSPACE --refit gives each document its own in a new map; gc --keep-maps drops old ones."


def read_snapshots(store: Store) -> tuple[dict[str, Snapshot], dict[str, LatentScaleError]]:
    """Read all snapshots: snapshots by id, and the errors of those that cannot be read."""
    snapshots: dict[str, Snapshot] = {}
    damaged: dict[str, LatentScaleError] = {}
    for identity in list_snapshot_ids(store):
        try:
            snapshots[identity] = read_snapshot(store, identity)
        except LatentScaleError as error:
            damaged[identity] = error
    return snapshots, damaged


def check_snapshot(check: Check, snapshot: Snapshot, documents: dict[str, DocumentShard]) -> None:
    """Check one snapshot against the existing shards."""
    name = f"snapshots/{snapshot.id}.parquet"
    check.count(name)
    table = snapshot.shards
    bases, ends = table.bases, table.bases + table.rows
    overlap = np.flatnonzero(bases[1:] < ends[:-1])
    if len(overlap):
        check.fault(
            name, f"gives rows of {table[int(overlap[0]) + 1].name} and {table[int(overlap[0])].name} the same offsets"
        )
        return
    for key, rows in zip(table.keys.to_pylist(), table.rows.tolist(), strict=True):
        if document_name(key) not in check.listing:
            check.fault(name, f"lists {document_name(key)}, which does not exist")
        elif key in documents and documents[key].rows != rows:
            check.fault(name, f"lists {document_name(key)} with {rows:,} rows, it holds {documents[key].rows:,}")
    for key in snapshot.empty:
        if document_name(key) not in check.listing:
            check.fault(name, f"lists {document_name(key)}, which does not exist")
    offsets, row_ids = snapshot.carried_offsets, snapshot.carried_row_ids
    if len(np.unique(offsets)) != len(offsets) or not _all_inside(offsets, bases, ends):
        check.fault(name, "carries row ids to offsets that no shard of it has")
        return
    if not _all_inside(snapshot.superseded, bases, ends):
        check.fault(name, "replaces documents at offsets that no shard of it has")
        return
    # A row whose offset equals the row_id of a carried-over document must not use it as its own row_id.
    if len(np.unique(row_ids)) != len(row_ids):
        check.fault(name, "gives two documents the same row_id", _REFIT)
        return
    clash = taken_from_others(offsets, row_ids, snapshot.superseded, snapshot.shards)
    if clash.any():
        check.fault(name, f"gives two documents the row_id {int(row_ids[clash].min())}", _REFIT)


def _inside(offsets: NDArray[np.int64], bases: NDArray[np.int64], ends: NDArray[np.int64]) -> NDArray[np.bool_]:
    if not len(bases):
        return np.zeros(len(offsets), dtype=bool)
    owner = np.searchsorted(bases, offsets, side="right") - 1
    return (owner >= 0) & (offsets < ends[np.maximum(owner, 0)])


def _all_inside(offsets: NDArray[np.int64], bases: NDArray[np.int64], ends: NDArray[np.int64]) -> bool:
    return bool(_inside(offsets, bases, ends).all())


@dataclass(frozen=True, slots=True)
class Expected:
    """The documents of a snapshot with a vector, which all artifacts of the snapshot and embedding must contain.

    Attributes
    ----------
    documents : int
    digest : str
        Digest of their row ids in offset order.
    bits : uint8 ndarray
        Packed bits, one per possible row_id, set if the document exists.
    """

    documents: int
    digest: str
    bits: NDArray[np.uint8]


def expected_documents(
    check: Check, snapshot: Snapshot, embedding: str, vectors: dict[str, VectorShard]
) -> Expected | None:
    """The documents that an artifact of this snapshot and embedding must contain; None if shards are missing."""
    missing = 0
    for key in snapshot.shards.keys.to_pylist():
        if key not in vectors:
            missing += 1
            if vector_name(embedding, key) not in check.listing:
                check.fault(
                    vector_name(embedding, key),
                    f"does not exist, and {snapshot.id} has documents for it",
                )
    if missing:
        return None
    state = hashlib.sha256()
    end = 1 + max(
        int((snapshot.shards.bases + snapshot.shards.rows).max(initial=0)),
        int(snapshot.carried_row_ids.max(initial=0)),
    )
    seen = np.zeros(end, dtype=bool)
    total = 0
    for row_ids in _row_ids(snapshot, vectors):
        state.update(row_ids.astype("<i8").tobytes())
        seen[row_ids] = True
        total += len(row_ids)
    if int(seen.sum()) != total:
        check.fault(f"snapshots/{snapshot.id}.parquet", "gives two documents the same row_id", _REFIT)
        return None
    return Expected(documents=total, digest=state.hexdigest(), bits=np.packbits(seen))


def _row_ids(snapshot: Snapshot, vectors: dict[str, VectorShard]) -> Iterator[NDArray[np.int64]]:
    for shard in snapshot.shards:
        keep = snapshot.kept(shard) & vectors[shard.key].mask()
        yield snapshot.row_ids(shard.base + np.flatnonzero(keep))
