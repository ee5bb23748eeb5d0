"""Garbage collection: find unreferenced objects of a workspace, and delete them."""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime

from latentscale.config import SCHEMA_VERSION
from latentscale.errors import EnvironmentFailure, LatentScaleError
from latentscale.storage import lease
from latentscale.storage.artifacts import list_records
from latentscale.storage.head import read_head
from latentscale.storage.map_names import read_names
from latentscale.storage.objects import TEMPORARY_PREFIX, ObjectInfo, Store
from latentscale.storage.objects import UPLOAD as UPLOAD_ID
from latentscale.storage.workspace_record import read_workspace
from latentscale.upkeep.garbage import ORDER, Findings, Garbage, Kind
from latentscale.upkeep.references import (
    DROP_ORDER,
    RunFacts,
    droppable,
    id_runs_to_keep,
    ids_of_other_stages,
    label_receipts_to_keep,
    maps_to_keep,
    read_runs,
    shard_keys,
    snapshots_to_keep,
)
from latentscale.upkeep.unneeded import Needed, file_names, page_files, record_object, unneeded_objects

__all__ = ["GRACE", "Findings", "Garbage", "Kind", "delete_garbage", "find_garbage"]

GRACE = 7 * 86_400.0
# The ids that a call with ``keep_maps`` is about to drop: after a map is deleted, its dependencies are recorded only
# here.
PLAN = "gc.json"
BATCH = 100
CHECKED_EVERY = 1.0


def find_garbage(store: Store, *, grace: float = GRACE, keep_maps: int | None = None) -> Findings:
    """List unreferenced objects that are older than ``grace`` seconds by the store's own clock. Nothing is written
    but a probe of that clock.

    Parameters
    ----------
    store : Store
        The workspace.
    grace : float
    keep_maps : int, optional
        Also drop old maps, and the artifacts that only they use: keep this many of the newest, the current map, named
        maps, and maps whose point files a kept map uses.

    Returns
    -------
    Findings

    Raises
    ------
    DamagedObjectError
        If a record, or a table that references receipts, cannot be read, so that its references are unknown.
    """
    workspace = read_workspace(store)
    # Objects written after this listing are not in it, and so are never garbage.
    listing = store.list()
    clock = _clock(store, listing)
    runs = read_runs(store, listing)
    records = list_records(store)
    other_stages = ids_of_other_stages(store, listing)
    head = read_head(store)
    findings = Findings(head=head, clock=clock, objects=len(listing), bytes=sum(info.size for info in listing.values()))
    oldest = clock - grace

    def is_old(info: ObjectInfo | None) -> bool:
        return info is not None and info.modified is not None and info.modified < oldest

    if keep_maps is not None:
        keep = maps_to_keep(records, head, keep_maps, named=read_names(store).values())
        findings.dropped = droppable(
            records,
            [r.id for r in records if r.kind == "map" and r.id not in keep and is_old(listing.get(record_object(r)))],
            planned=_planned(store, listing),
            needed=other_stages,
            may_drop=lambda record: is_old(listing.get(record_object(record))),
        )
    dropped = set(findings.dropped)
    kept = [record for record in records if record.id not in dropped]
    kept_snapshots = snapshots_to_keep(store, kept, runs, young_after=oldest, needed=other_stages)
    needed = Needed(
        records=kept,
        dropped=[record for record in records if record.id in dropped],
        snapshots=kept_snapshots,
        shard_keys=shard_keys(store, kept_snapshots),
        id_runs=id_runs_to_keep(store, listing, kept_snapshots),
        label_receipts=label_receipts_to_keep(store, listing, kept),
        uploads=file_names([*workspace.corpus["sources"], *(source for run in runs for source in run.sources)]),
        page_files=page_files(store, listing),
        ingesting=any(_is_ingesting(run, oldest) for run in runs),
    )
    unfinished = ((Kind.UNFINISHED_WRITE, info) for info in store.unfinished())
    for kind, info in [*unneeded_objects(listing, needed, is_old=is_old, clock=clock), *unfinished]:
        if is_old(info):
            findings.garbage.append(Garbage(kind=kind, info=info))
        else:
            findings.young += 1
    findings.garbage.sort(key=lambda item: (ORDER[item.kind], _drop_rank(item), item.info.name))
    return findings


def delete_garbage(
    store: Store,
    *,
    grace: float = GRACE,
    keep_maps: int | None = None,
    on_progress: Callable[[str], None] = lambda text: None,
) -> Findings:
    """Find garbage and delete it; returns the deleted objects.

    The deletion stops if a run is active or starts meanwhile, since it may reuse unreferenced objects of an earlier
    run. A later call continues.

    Raises
    ------
    EnvironmentFailure
        If a run is active on the workspace.
    """
    identity = f"{datetime.now(UTC):%Y%m%dT%H%M%S.%fZ}-{secrets.token_hex(3)}"
    with lease.hold_lease(store, identity, lease.GC) as held:
        _check_alone(store, held.others(), deleted=0)
        findings = find_garbage(store, grace=grace, keep_maps=keep_maps)
        if findings.dropped:
            store.put_bytes(PLAN, json.dumps({"schema": SCHEMA_VERSION, "dropped": findings.dropped}).encode())
        checked = time.monotonic()
        for start in range(0, len(findings.garbage), BATCH):
            if start == 0 or time.monotonic() - checked > CHECKED_EVERY:
                _check_alone(store, lease.read_leases(store, but=identity), deleted=start)
                if read_head(store) != findings.head:
                    raise EnvironmentFailure(
                        f"the current map changed; {start:,} objects were deleted", hint="Run the same command again."
                    )
                checked = time.monotonic()
            batch = [item.info for item in findings.garbage[start : start + BATCH]]
            store.delete([info.name for info in batch if not _is_unfinished(info)])
            store.discard([info for info in batch if _is_unfinished(info)])
            on_progress(f"{start + len(batch):,} of {len(findings.garbage):,} deleted")
        store.delete([PLAN])
    return findings


def _check_alone(store: Store, others: Sequence[lease.Lease], *, deleted: int) -> None:
    at_work = [held for held in others if held.purpose != lease.GC]
    if at_work:
        raise EnvironmentFailure(
            f"{store.url} is being worked on by {'; '.join(map(str, at_work))}; {deleted:,} objects were deleted",
            hint="Run the same command again when that has ended.",
        )


def _is_unfinished(info: ObjectInfo) -> bool:
    return info.version.startswith(UPLOAD_ID) or info.name.rsplit("/", 1)[-1].startswith(TEMPORARY_PREFIX)


def _clock(store: Store, listing: Mapping[str, ObjectInfo]) -> float:
    try:
        return store.clock()
    except LatentScaleError:
        # Read-only workspace: use the time of its newest object, a lower bound, which errs on the safe side.
        return max((info.modified or 0.0 for info in listing.values()), default=0.0)


def _planned(store: Store, listing: Mapping[str, ObjectInfo]) -> list[str]:
    """Ids that an interrupted call had planned to delete."""
    if PLAN not in listing:
        return []
    try:
        return [str(identity) for identity in json.loads(store.read_bytes(PLAN))["dropped"]]
    except (ValueError, KeyError, TypeError):
        return []


def _is_ingesting(run: RunFacts, oldest: float) -> bool:
    """Whether a run ended or was killed before its ingest was complete, and may still be resumed."""
    return run.status != "done" and not run.snapshot and (run.modified is None or run.modified >= oldest)


def _drop_rank(item: Garbage) -> int:
    """Sort key that puts children before their parents; only records have a rank."""
    kind: str = item.info.name.split("/")[1].rpartition("-")[0] if item.kind == Kind.DROPPED_RECORD else ""
    return DROP_ORDER.index(kind) if kind in DROP_ORDER else 0
