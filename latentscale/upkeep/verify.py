"""Verification of a workspace: every referenced object exists, is intact, and is consistent with the others."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Mapping

from latentscale.errors import LatentScaleError
from latentscale.storage.artifacts import Record, record_name
from latentscale.storage.head import NAME as HEAD
from latentscale.storage.head import read_head
from latentscale.storage.lease import read_leases
from latentscale.storage.map_names import FOLDER as NAMES
from latentscale.storage.map_names import read_name
from latentscale.storage.objects import Store
from latentscale.storage.parquet import read_footer
from latentscale.storage.runs import read_run
from latentscale.storage.snapshot import Snapshot
from latentscale.storage.workspace_record import OBJECT as WORKSPACE
from latentscale.storage.workspace_record import read_workspace
from latentscale.upkeep.checks import answers, artifacts, id_runs, maps, receipts, shards, snapshots
from latentscale.upkeep.checks.report import Check, Fault, Report
from latentscale.upkeep.checks.runs import published, readable_runs
from latentscale.upkeep.references import is_of_other_stage

__all__ = ["Fault", "Report", "verify_workspace"]

REPORT = "latentscale repair WORKSPACE deletes it: it is a report of the past, which no map needs."
REPAIR_HEAD = "latentscale repair WORKSPACE writes it again, or latentscale promote WORKSPACE MAP."
# Disks are read with few threads; object stores serve many requests at once.
LOCAL_THREADS, REMOTE_THREADS = 4, 16


def verify_workspace(store: Store, *, quick: bool = False, threads: int | None = None) -> Report:
    """Check the consistency of all objects of a workspace: counts, ids, checksums and schemas.

    Memory use: a batch of rows per thread, a byte per document and a line per object.

    Parameters
    ----------
    store : Store
        The workspace; nothing is written except a probe of its clock.
    quick : bool
        Read listings, records and parquet footers, but no data: no checksums, no points.
    threads : int, optional
        Number of objects read concurrently; by default 4 on a disk, 16 in an object store.

    Returns
    -------
    Report
    """
    started = time.monotonic()
    # Records are read before the objects are listed: an object is written before the record that names it.
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
    receipts.check_receipts(check, receipts.DOCUMENTS, documents)
    receipts.check_label_receipts(check)
    answers.check_answers(check)
    id_runs.check_id_runs(check, documents)
    for snapshot in known.values():
        snapshots.check_snapshot(check, snapshot, documents)
    _check_artifacts(check, records, known, documents)
    if head is not None:
        check.count(HEAD)
        if head not in records:
            check.fault(HEAD, f"names {head}, which does not exist", "latentscale promote WORKSPACE MAP names another.")
    elif HEAD not in check.listing and (maps.MANIFEST in check.listing or _has_published(check, records)):
        check.fault(HEAD, "does not exist, and a map was published", REPAIR_HEAD)
    _check_names(check, records)
    maps.check_public_page(check, records, head)
    _note_other_stages(check)
    _check_runs(check)
    for lease in read_leases(store):
        check.report.notes.append(f"In progress: {lease}. Its unfinished objects are no faults.")
    check.report.seconds = round(time.monotonic() - started, 3)
    return check.report


def _has_published(check: Check, records: Mapping[str, Record]) -> bool:
    """Whether a run has published one of the maps; used only if no page shows one."""
    if not any(record.kind == "map" for record in records.values()):
        return False
    return any(published(run) in records and run["facts"].get("published") is not False for run in readable_runs(check))


def _read_head(store: Store) -> tuple[str | None, LatentScaleError | None]:
    try:
        return read_head(store), None
    except LatentScaleError as error:
        return None, error


def _check_names(check: Check, records: Mapping[str, Record]) -> None:
    for name in sorted(object_name for object_name in check.listing if object_name.startswith(f"{NAMES}/")):
        check.count(name)
        try:
            named = read_name(check.store, name)
        except LatentScaleError as error:
            check.error(name, error)
            continue
        if named not in records:
            check.fault(name, f"names {named}, which does not exist", "Delete it, or give the name to another map.")


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
    """Check each embedding with the artifacts derived from it, so that the shards of only one are in memory."""
    sound = {identity: artifacts.check_record(check, record, records) for identity, record in records.items()}
    made_of: dict[str, list[Record]] = {}
    for record in records.values():
        if record.kind != "embedding" and sound[record.id]:
            made_of.setdefault(_named(record, "embedding", records), []).append(record)
    folders = {name.split("/")[1] for name in check.listing if name.startswith("embeddings/") and name.count("/") > 1}
    folders |= receipts.receipt_groups(check) - {receipts.DOCUMENTS}
    damaged: set[str] = set()
    for embedding in sorted(folders | set(made_of)):
        record = records.get(embedding)
        dim = int(record.counts["dim"]) if record is not None else None
        vectors = shards.check_vectors(check, embedding, dim, documents)
        receipts.check_receipts(check, embedding, vectors)
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
            snapshot = _named(record, "snapshot", records)
            needs_snapshot = "snapshot" in record.request or artifacts.has_rows_by_document(record)
            if snapshot and snapshot not in known and needs_snapshot:
                check.fault(name, f"is made from {snapshot}, which does not exist")
                continue
            tables = artifacts.check_parts(check, record)
            if tables is None:
                damaged.add(record.id)
                continue
            if record.kind == "map":
                grown.append((record, tables))
            elif snapshot and artifacts.has_rows_by_document(record):
                artifacts.check_documents_of(check, record, tables, snapshot, expect(snapshot))
            artifacts.check_sizes(check, record, tables, sizes)
        # After all parts, since a map may use those of another map.
        for record, tables in grown:
            maps.check_points(check, record, records, tables, expect(str(record.request["snapshot"])), damaged)


def _named(record: Record, kind: str, records: Mapping[str, Record]) -> str:
    """Id of the embedding or the snapshot of an artifact, taken from its parents if it has none itself."""
    if record.kind == kind:
        return record.id
    if kind in record.request:
        return str(record.request[kind])
    for parent in record.parents:
        if parent in records and (identity := _named(records[parent], kind, records)):
            return identity
    return ""


def _note_other_stages(check: Check) -> None:
    """Note artifacts that cannot be checked here."""
    folders = Counter(name.partition("/")[0] for name in check.listing if is_of_other_stage(name))
    for folder, number in sorted(folders.items()):
        check.report.notes.append(
            f"{folder}/ holds {number:,} artifacts of a stage that is not installed here; they are not checked."
        )


def _check_runs(check: Check) -> None:
    """Check that the run records are intact."""
    for name in check.listing:
        if not name.startswith("runs/"):
            continue
        check.count(name)
        identity = name.split("/")[1]
        try:
            if name.endswith("/run.json"):
                values = read_run(check.store, identity)
                if values is not None and values["id"] != identity:
                    check.fault(name, f"is the record of {values['id']}", REPORT)
            elif name.endswith("/events.jsonl") and not check.quick:
                events = check.store.read_bytes(name)
                if events and not events.endswith(b"\n"):
                    check.fault(name, "is cut short", REPORT)
                for line in events.splitlines():
                    json.loads(line)
            elif name.endswith(".parquet"):
                read_footer(check.store, name)
        except LatentScaleError as error:
            check.fault(name, error.message.removeprefix(name).strip(), REPORT)
        except (ValueError, KeyError, TypeError) as error:
            check.fault(name, f"is not what a run writes: {error}", REPORT)
