"""Verify a workspace: every object that a record names is there, whole, and adds up."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping

from latentscale.checks import artifacts, maps, shards, snapshots
from latentscale.checks.report import Check, Fault, Report
from latentscale.errors import LatentScaleError
from latentscale.storage.artifacts import Record, record_name
from latentscale.storage.head import NAME as HEAD
from latentscale.storage.head import read_head
from latentscale.storage.lease import read_leases
from latentscale.storage.objects import Store
from latentscale.storage.parquet import read_footer
from latentscale.storage.snapshots import Snapshot
from latentscale.storage.workspace_record import OBJECT as WORKSPACE
from latentscale.storage.workspace_record import read_workspace

__all__ = ["Fault", "Report", "verify_workspace"]

# A disk is read by few threads; a bucket answers many at once.
LOCAL_THREADS, REMOTE_THREADS = 4, 16


def verify_workspace(store: Store, *, quick: bool = False, threads: int | None = None) -> Report:
    """Compare all objects of a workspace with each other: counts, ids, checksums and schemas.

    Parameters
    ----------
    store : Store
        The workspace, on a disk or at a URL; nothing is written, but for a probe of its clock.
    quick : bool
        Read listings, records and footers, but no data: no checksums, no points.
    threads : int, optional
        How many objects are read at a time; 4 of a disk, 16 of a bucket.

    Returns
    -------
    Report
        Memory holds a batch of rows a thread, a byte for each document and a line for each object.
    """
    started = time.monotonic()
    # What names comes before what is named: an object is written before the record that lists it.
    head, head_error = _read_head(store)
    records, damaged_records = artifacts.read_records(store)
    known, damaged_snapshots = snapshots.read_snapshots(store)
    listing = store.list()
    check = Check(store, listing, quick=quick, threads=threads or (LOCAL_THREADS if store.is_local else REMOTE_THREADS))
    if head_error is not None:
        check.error(HEAD, head_error)
    for name, error in damaged_records.items():
        check.error(name, error)
    for identity, error in damaged_snapshots.items():
        check.error(f"snapshots/{identity}.parquet", error)
    _check_workspace_record(check)
    documents = shards.check_documents(check)
    shards.check_rejects(check, documents)
    for snapshot in known.values():
        snapshots.check_snapshot(check, snapshot, documents)
    _check_artifacts(check, records, known, documents)
    if head is not None:
        check.count(HEAD)
        if head not in records:
            check.fault(HEAD, f"names {head}, which is not there", "latentscale promote WORKSPACE MAP names another.")
    maps.check_public_page(check, records, head)
    _check_runs(check)
    for lease in read_leases(store):
        check.report.notes.append(f"Under way: {lease}. What is half done now is no fault.")
    check.report.seconds = round(time.monotonic() - started, 3)
    return check.report


def _read_head(store: Store) -> tuple[str | None, LatentScaleError | None]:
    try:
        return read_head(store), None
    except LatentScaleError as error:
        return None, error


def _check_workspace_record(check: Check) -> None:
    check.count(WORKSPACE)
    try:
        read_workspace(check.store)
    except LatentScaleError as error:
        check.error(WORKSPACE, error)


def _check_artifacts(
    check: Check,
    records: Mapping[str, Record],
    known: Mapping[str, Snapshot],
    documents: dict[str, shards.DocumentShard],
) -> None:
    """Check embedding by embedding, so that only one's shards are in mind, then what was made of it."""
    sound = {identity: artifacts.check_record(check, record, records) for identity, record in records.items()}
    made_of: dict[str, list[Record]] = {}
    for record in records.values():
        if record.kind != "embedding" and sound[record.id]:
            made_of.setdefault(_embedding_of(record, records), []).append(record)
    folders = {name.split("/")[1] for name in check.listing if name.startswith("embeddings/") and name.count("/") > 1}
    damaged: set[str] = set()
    for embedding in sorted(folders | set(made_of)):
        record = records.get(embedding)
        dim = int(record.counts["dim"]) if record is not None else None
        vectors = shards.check_vectors(check, embedding, dim, documents)
        expected: dict[str, snapshots.Expected | None] = {}

        def expect(
            identity: str,
            vectors: dict[str, shards.VectorShard] = vectors,
            expected: dict[str, snapshots.Expected | None] = expected,
            embedding: str = embedding,
        ) -> snapshots.Expected | None:
            if identity not in expected:
                snapshot = known.get(identity)
                expected[identity] = (
                    snapshots.expected_documents(check, snapshot, embedding, vectors)
                    if snapshot is not None and not check.quick
                    else None
                )
            return expected[identity]

        grown: list[tuple[Record, artifacts.Tables]] = []
        sizes: dict[str, dict[int | None, int | None]] = {}
        for record in made_of.get(embedding, []):
            name = record_name(record.kind, record.id)
            snapshot = record.request.get("snapshot")
            if snapshot is not None and str(snapshot) not in known:
                check.fault(name, f"is made from {snapshot}, which is not there")
                continue
            tables = artifacts.check_parts(check, record)
            if tables is None:
                damaged.add(record.id)
                continue
            if record.kind == "map":
                grown.append((record, tables))
            elif snapshot is not None and record.kind != "placement":
                artifacts.check_documents_of(check, record, tables, expect(str(snapshot)))
            artifacts.check_sizes(check, record, tables, sizes)
        # After all parts, since a map may show those of another.
        for record, tables in grown:
            maps.check_points(check, record, records, tables, expect(str(record.request["snapshot"])), damaged)


def _embedding_of(record: Record, records: Mapping[str, Record]) -> str:
    """The embedding that an artifact is made of, its parents' where it names none itself."""
    if "embedding" in record.request:
        return str(record.request["embedding"])
    for parent in record.parents:
        if parent in records:
            return _embedding_of(records[parent], records)
    return ""


def _check_runs(check: Check) -> None:
    """Check that the records of runs can be read."""
    for name in check.listing:
        if not name.startswith("runs/"):
            continue
        check.count(name)
        hint = "Delete it: it is a report of the past."
        try:
            if name.endswith("/run.json"):
                values = json.loads(check.store.read_bytes(name))
                if values["id"] != name.split("/")[1] or not isinstance(values["facts"], dict):
                    check.fault(name, f"is the record of {values['id']}", hint)
            elif name.endswith("/events.jsonl") and not check.quick:
                for line in check.store.read_bytes(name).splitlines():
                    json.loads(line)
            elif name.endswith(".parquet"):
                read_footer(check.store, name)
        except LatentScaleError as error:
            check.error(name, error)
        except (ValueError, KeyError, TypeError) as error:
            check.fault(name, f"is not the record of a run: {error}", hint)
