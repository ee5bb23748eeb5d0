"""Rebuild artifacts with damaged parts, and artifacts without a readable record whose runs are known."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import partial
from typing import Any, get_type_hints

from latentscale.digest import artifact_id
from latentscale.errors import LatentScaleError, WorkspaceError
from latentscale.pipeline.context import RunContext
from latentscale.pipeline.run import make_map
from latentscale.pipeline.update import growing_job
from latentscale.registry import load_stage, stages
from latentscale.repair.shards import is_of_vectors
from latentscale.repair.work import Repair
from latentscale.stages.project import LAYOUT_SLOTS
from latentscale.stages.stage import StageContext
from latentscale.stages.update.fit import read_fit
from latentscale.stages.update.grow import GROW
from latentscale.stages.update.place import STAGE as PLACE
from latentscale.storage.artifacts import FOLDERS, Record, list_records, record_name
from latentscale.storage.request import Request
from latentscale.storage.snapshot import Snapshot
from latentscale.storage.snapshots import read_snapshot
from latentscale.storage.workspace_record import read_workspace
from latentscale.upkeep.checks.artifacts import read_records
from latentscale.upkeep.checks.report import Fault


def mend_records(repair: Repair) -> None:
    """Repeat the runs whose artifacts have a missing or unreadable record."""
    records, damaged = read_records(repair.store)
    hurt = {name.split("/")[1]: name for name in damaged}
    needed = {parent for record in records.values() for parent in record.parents if not parent.startswith("map-")}
    needed |= {str(segment["map"]) for record in records.values() for segment in record.segments}
    needed |= {str((record.request.get("update") or {}).get("fit") or record.id) for record in records.values()}
    head = repair.recorded.head()
    missing = (needed | ({head} if head else set())) - set(records) - set(hurt)
    hurt |= {identity: record_name(identity.rpartition("-")[0], identity) for identity in missing}
    if not hurt:
        return
    held = {name: repair.store.read_bytes(name) for name in hurt.values() if repair.store.exists(name)}
    repair.store.delete(held)
    for run in repair.recorded.runs():
        made = {str(identity) for identity in (run["facts"].get("artifacts") or {}).values()}
        layout = {parent for identity in made if identity in records for parent in records[identity].parents}
        left = {identity for identity in hurt if repair.recorded.find(identity) is None}
        if left & (made | layout) and run["facts"].get("snapshot"):
            _rebuild_missing(repair, run, {identity: r for identity, r in records.items() if identity not in hurt})
    for identity, name in hurt.items():
        if repair.recorded.find(identity) is not None:
            continue
        if name in held:
            repair.store.put_bytes(name, held[name])
        repair.lost[name] = f"{name}: {identity}, of which no record of a run tells how it was made"


def _rebuild_missing(repair: Repair, run: Mapping[str, Any], records: Mapping[str, Record]) -> None:
    """Rebuild the missing artifacts of a run."""
    made: Mapping[str, str] = run["facts"]["artifacts"]
    values = repair.recorded.values_of(run)

    def work(context: RunContext) -> None:
        snapshot = read_snapshot(repair.store, str(run["facts"]["snapshot"]))
        workspace = read_workspace(repair.store)
        if "place" in made:
            _repeat_update(repair, context, snapshot, made)
            return
        aligned = records.get(made.get("cluster", "")) or records.get(made.get("publish", ""))
        align = aligned.request.get("align") if aligned else None
        until = "publish" if "publish" in made else [name for name in made if name not in LAYOUT_SLOTS][-1]
        laid = records.get(made.get("project", ""))
        starts = laid.request.get("earlier") if laid else None
        make_map(
            context,
            snapshot,
            workspace,
            None,
            repair.recorded.find(str(align)) if align else None,
            until,
            earlier=repair.recorded.find(str(starts)) if starts else None,
        )

    repair.at_work(values, work)


def _repeat_update(repair: Repair, context: RunContext, snapshot: Snapshot, made: Mapping[str, str]) -> None:
    """Repeat an update; its parent is the map with which the identity of its placement is reproduced."""
    workspace = read_workspace(repair.store)
    for parent in repair.recorded.maps():
        try:
            fit = read_fit(repair.store, parent)
        except LatentScaleError:
            continue
        job = growing_job(context, fit, snapshot, workspace)
        place = PLACE.work(job, fit, parent)
        if artifact_id("placement", place.request.identity()) != made["place"]:
            continue
        job.records["place"] = context.find_or_make(place)
        grow = GROW.work(job, fit, parent)
        if artifact_id("map", grow.request.identity()) == made.get("publish"):
            context.find_or_make(grow)
        return


def mend_artifacts(repair: Repair, faults: Iterable[Fault]) -> None:
    """Rebuild artifacts with damaged parts, and their descendants if the rebuilt content differs."""
    hurt = {
        parts[1]
        for fault in faults
        if len(parts := fault.object.split("/")) > 2
        and parts[0] in FOLDERS.values()
        and not is_of_vectors(fault.object)
    }
    records = {record.id: record for record in list_records(repair.store) if record.kind != "embedding"}
    done: set[str] = set()
    jobs = repair.recorded.jobs()

    def ensure(context: RunContext, identity: str) -> None:
        if identity in done or identity not in records:
            return
        done.add(identity)
        record = records[identity]
        named = [*record.parents, *(str(segment["map"]) for segment in record.segments)]
        for parent in named:
            ensure(context, parent)
        stale = any(p in records and records[p].content != content for p, content in record.parents.items())
        if identity not in hurt and not stale:
            return
        try:
            records[identity] = _rebuild(repair, context, record)
        except LatentScaleError as error:
            repair.lost[record_name(identity.rpartition("-")[0], identity)] = f"{identity}: {error.message}"

    if not jobs:
        return
    stale = any(
        parent in records and records[parent].content != content
        for record in records.values()
        for parent, content in record.parents.items()
    )
    if not (stale or hurt & set(records)):
        return

    def work(context: RunContext) -> None:
        for identity in list(records):
            ensure(context, identity)

    reason = repair.at_work(jobs[0][0], work)
    if reason:
        repair.observer.note(f"repair: {reason}")


def _rebuild(repair: Repair, context: RunContext, record: Record) -> Record:
    stage: Any = next(load_stage(entry.name) for entry in stages() if entry.kind == record.kind)
    if record.kind == "map" and record.request.get("update"):
        stage = GROW
    kind = get_type_hints(stage.make).get("request")
    if not (isinstance(kind, type) and issubclass(kind, Request)):
        raise WorkspaceError(f"the stage {stage.name} does not say what request it takes")
    request = kind.read(record.request)
    if artifact_id(record.kind, request.identity()) != record.id:
        raise WorkspaceError("another version of LatentScale made it, which this one cannot repeat")
    with context.observer.stage(f"repair {record.kind}", unit="steps"):
        return context.engine.call(
            partial(stage.make, request=request),
            StageContext(store=repair.store, run=record.run, job=record.job),
            stage=stage.name,
        )
