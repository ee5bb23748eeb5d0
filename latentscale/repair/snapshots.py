"""Rebuild snapshots: their shard lists and the tables that belong to them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from latentscale.errors import LatentScaleError
from latentscale.pipeline.context import RunContext
from latentscale.pipeline.history import settings_of_map
from latentscale.pipeline.shards import ingest_corpus
from latentscale.readers.inputs import list_inputs
from latentscale.repair.backup import ObjectBackup
from latentscale.repair.work import Repair
from latentscale.stages import ingest
from latentscale.storage.segments import read_points
from latentscale.storage.snapshot import Snapshot
from latentscale.storage.snapshots import (
    carried_name,
    groups_name,
    list_name,
    read_groups,
    restore_identities,
    superseded_name,
)
from latentscale.storage.workspace_record import read_workspace
from latentscale.upkeep.checks.report import Fault
from latentscale.upkeep.checks.snapshots import read_snapshots

_SNAPSHOT = re.compile(r"snapshot-[0-9a-f]{16}")
DOCUMENTS = re.compile(r"documents/[^/\s]+/([^/\s]+)\.parquet")
"""Matches a document shard in the problem text of a fault."""


def mend_snapshots(repair: Repair, faults: Iterable[Fault]) -> None:
    """Rebuild the shard lists that are damaged, or missing although a map references them."""
    known, damaged = read_snapshots(repair.store)
    named = {str(record.request["snapshot"]) for record in repair.recorded.maps()}
    hurt = {m[0] for f in faults if (m := _SNAPSHOT.search(f.object)) and _is_of_snapshot(f)}
    for identity in sorted(set(damaged) | (named - set(known)) | hurt):
        _mend_snapshot(repair, identity)


def _mend_snapshot(repair: Repair, identity: str) -> None:
    objects = [list_name(identity), carried_name(identity), groups_name(identity), superseded_name(identity)]
    if _restore_identities(repair, identity):
        return
    try:
        own = read_groups(repair.store, identity)
    except LatentScaleError:
        own = {}
    backup = ObjectBackup(repair.store)
    for name in objects:
        backup.remove(name)
    reason = "no run says which settings it was read with"
    for values, parent, highest in _ways_to(repair, identity):
        before = repair.store.list("snapshots", brief=True)

        def work(context: RunContext, parent: Snapshot | None = parent, highest: int | None = highest) -> None:
            inputs = list_inputs(context.config.corpus)
            context.settle_fingerprint(inputs)
            config = context.config
            groups = own or read_groups(repair.store, parent.id if parent else None)
            units = ingest.plan_ingest(inputs, config.corpus, config.ingest, groups=groups)
            units = _units_before(repair, units, highest)
            ingest_corpus(context, units, parent, growing=parent is not None, embeds=False)

        reason = repair.at_work(values, work) or "the corpus has changed since"
        made = set(repair.store.list("snapshots", brief=True)) - set(before)
        if objects[0] in made:
            return
        repair.store.delete(made)
    backup.restore()
    repair.lost[objects[0]] = f"{objects[0]}: which documents the maps of it have ({reason})"


def _restore_identities(repair: Repair, identity: str) -> bool:
    """Rebuild the other tables of a snapshot from its shard list; returns whether this succeeded."""
    backup = ObjectBackup(repair.store)
    for name in (carried_name(identity), superseded_name(identity)):
        backup.remove(name)
    try:
        held = read_workspace(repair.store)
        if restore_identities(repair.store, identity, id_column=held.id_column, text_column=held.text_column):
            return True
    except LatentScaleError:
        pass
    backup.restore()
    return False


def _units_before(repair: Repair, units: ingest.UnitTable, highest: int | None) -> ingest.UnitTable:
    """The units of which a later snapshot has a shard at offset ``highest`` or before; all units if it is None."""
    if highest is None:
        return units
    known, _ = read_snapshots(repair.store)
    wanted: set[str] = set()
    for snapshot in known.values():
        keys = snapshot.shards.keys.to_pylist()
        wanted |= {
            key.rsplit("-", 1)[0]
            for key, base in zip(keys, snapshot.shards.bases.tolist(), strict=True)
            if base <= highest
        }
    there = [number for number, key in enumerate(units.keys.to_pylist()) if key in wanted]
    return units.take(np.array(there, dtype=np.int64))


def _ways_to(repair: Repair, identity: str) -> Iterator[tuple[dict[str, Any], Snapshot | None, int | None]]:
    """Candidate inputs of a snapshot: job settings, parent snapshot and highest offset."""
    known, _ = read_snapshots(repair.store)
    maps = {record.id: record for record in repair.recorded.maps()}
    for record in maps.values():
        if record.request["snapshot"] != identity:
            continue
        parent = maps.get(str((record.request.get("update") or {}).get("parent")))
        try:
            values = settings_of_map(repair.store, record)
        except LatentScaleError:
            continue
        before = known.get(str(parent.request["snapshot"])) if parent else None
        yield values, before, None
        try:
            shown = [
                int(table["row_id"].to_numpy().max(initial=-1))
                for _, table in read_points(repair.store, record, ["row_id"])
            ]
        except LatentScaleError:
            continue
        yield values, before, max(shown, default=-1)
    for run in repair.recorded.runs():
        if run["facts"].get("snapshot") == identity:
            for parent in (None, *known.values()):
                yield repair.recorded.values_of(run), parent, None


def _is_of_snapshot(fault: Fault) -> bool:
    """Whether a fault is about a snapshot's own objects, not about the shards that it lists."""
    return fault.object.startswith(("snapshots/", "rejects/superseded-")) and not DOCUMENTS.search(fault.problem)
