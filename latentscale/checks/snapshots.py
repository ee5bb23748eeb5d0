"""Check the snapshots: no two rows at one place, no two documents with one row_id, every shard there."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from latentscale.checks.report import Check
from latentscale.checks.shards import DocumentShard, VectorShard
from latentscale.errors import LatentScaleError
from latentscale.stages.embed import vector_name
from latentscale.storage.objects import Store
from latentscale.storage.snapshots import Snapshot, document_name, list_snapshot_ids, read_snapshot


def read_snapshots(store: Store) -> tuple[dict[str, Snapshot], dict[str, LatentScaleError]]:
    """Read all snapshots; those that cannot be read are in the second dict with the reason."""
    found: dict[str, Snapshot] = {}
    damaged: dict[str, LatentScaleError] = {}
    for identity in list_snapshot_ids(store):
        try:
            found[identity] = read_snapshot(store, identity)
        except LatentScaleError as error:
            damaged[identity] = error
    return found, damaged


def check_snapshot(check: Check, snapshot: Snapshot, documents: dict[str, DocumentShard]) -> None:
    """Check one snapshot against the shards that are there."""
    name = f"snapshots/{snapshot.id}.parquet"
    check.count(name)
    again = "Run the same command again: what is missing is made anew."
    table = snapshot.shards
    bases, ends = table.bases, table.bases + table.rows
    overlap = np.flatnonzero(bases[1:] < ends[:-1])
    if len(overlap):
        check.fault(
            name, f"gives rows of {table[int(overlap[0]) + 1].name} and {table[int(overlap[0])].name} the same places"
        )
        return
    for key, rows in zip(table.keys.to_pylist(), table.rows.tolist(), strict=True):
        if document_name(key) not in check.listing:
            check.fault(name, f"lists {document_name(key)}, which is not there", again)
        elif key in documents and documents[key].rows != rows:
            check.fault(name, f"lists {document_name(key)} with {rows:,} rows, it holds {documents[key].rows:,}", again)
    for key in snapshot.empty:
        if document_name(key) not in check.listing:
            check.fault(name, f"lists {document_name(key)}, which is not there", again)
    places, row_ids = snapshot.carried_places, snapshot.carried_row_ids
    if len(np.unique(places)) != len(places) or not _all_inside(places, bases, ends):
        check.fault(name, "carries row ids to places that no shard of it has")
        return
    if not _all_inside(snapshot.superseded, bases, ends):
        check.fault(name, "replaces documents at places that no shard of it has")
        return
    # A row whose own place is taken as a row_id by a carried one must not be a document under it too.
    taken = np.sort(row_ids)
    if len(np.unique(taken)) != len(taken):
        check.fault(name, "gives two documents the same row_id")
        return
    clash = _inside(taken, bases, ends) & ~np.isin(taken, places) & ~np.isin(taken, snapshot.superseded)
    if clash.any():
        check.fault(name, f"gives two documents the row_id {int(taken[clash][0])}")


def _inside(places: NDArray[np.int64], bases: NDArray[np.int64], ends: NDArray[np.int64]) -> NDArray[np.bool_]:
    if not len(bases):
        return np.zeros(len(places), dtype=bool)
    owner = np.searchsorted(bases, places, side="right") - 1
    return (owner >= 0) & (places < ends[np.maximum(owner, 0)])


def _all_inside(places: NDArray[np.int64], bases: NDArray[np.int64], ends: NDArray[np.int64]) -> bool:
    return bool(_inside(places, bases, ends).all())


@dataclass(frozen=True, slots=True)
class Expected:
    """The documents of a snapshot that have a vector: what every global artifact of the two must hold.

    Attributes
    ----------
    documents : int
    digest : str
        Of their row ids, in the order of their places.
    bits : uint8 ndarray
        A bit for each row_id that there could be, set where there is such a document.
    """

    documents: int
    digest: str
    bits: NDArray[np.uint8]


def expected_documents(
    check: Check, snapshot: Snapshot, embedding: str, vectors: dict[str, VectorShard]
) -> Expected | None:
    """Work out which documents an artifact of this snapshot and embedding holds; None where shards are missing."""
    missing = 0
    for key in snapshot.shards.keys.to_pylist():
        if key not in vectors:
            missing += 1
            if vector_name(embedding, key) not in check.listing:
                check.fault(
                    vector_name(embedding, key),
                    f"is not there, and {snapshot.id} has documents for it",
                    "Run the same command again: it is made anew.",
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
        check.fault(f"snapshots/{snapshot.id}.parquet", "gives two documents the same row_id")
        return None
    return Expected(documents=total, digest=state.hexdigest(), bits=np.packbits(seen))


def _row_ids(snapshot: Snapshot, vectors: dict[str, VectorShard]) -> Iterator[NDArray[np.int64]]:
    for shard in snapshot.shards:
        keep = snapshot.kept(shard) & vectors[shard.key].mask()
        yield snapshot.row_ids(shard.base + np.flatnonzero(keep))
