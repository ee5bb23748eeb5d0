"""What in a workspace is needed by what: records by other records, shards by snapshots, uploads by runs."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from latentscale.errors import DamagedObjectError
from latentscale.storage.artifacts import FOLDERS, Record
from latentscale.storage.objects import ObjectInfo, Store
from latentscale.storage.runs import FOLDER as RUNS
from latentscale.storage.snapshots import list_snapshot_ids, read_footers, read_snapshot

_ID = re.compile(rf"\b(?:{'|'.join([*FOLDERS, 'snapshot'])})-[0-9a-f]{{8}}\b")
# A record comes after all that it may name: dropping in this order drops children before their parents.
DROP_ORDER = ("map", "placement", "labels", "clusters", "projection", "neighbors", "embedding")


def named_ids(record: Record) -> set[str]:
    """Ids of all artifacts and snapshots that a record names, maps excepted."""
    text = json.dumps([record.request, record.parents, record.segments])
    return {found for found in _ID.findall(text) if not found.startswith("map-")} - {record.id}


def needed_maps(record: Record) -> set[str]:
    """Ids of the other maps whose points a map shows, and of the one that was fitted."""
    fit: Any = (record.request.get("update") or {}).get("fit")
    return ({str(segment["map"]) for segment in record.segments} | ({str(fit)} if fit else set())) - {record.id}


def maps_to_keep(records: Iterable[Record], head: str | None, keep: int) -> set[str]:
    """Ids of the last ``keep`` maps, the current one, those with a name, and all whose points one of these shows."""
    maps = [record for record in records if record.kind == "map"]
    by_id = {record.id: record for record in maps}
    wanted = {record.id for record in maps[max(len(maps) - keep, 0) :]} | {r.id for r in maps if r.name}
    if head is not None:
        wanted.add(head)
    waiting = sorted(wanted)
    while waiting:
        record = by_id.get(waiting.pop())
        if record is not None:
            more = needed_maps(record) - wanted
            wanted |= more
            waiting.extend(more)
    return wanted


def droppable(
    records: Iterable[Record],
    dropped_maps: Iterable[str],
    *,
    begun: Iterable[str] = (),
    may_go: Callable[[Record], bool] = lambda record: True,
) -> list[str]:
    """Ids of the maps ``dropped_maps`` and of the artifacts that only they needed, children before parents.

    What a person gave a name, and what no map ever used, stays.

    Parameters
    ----------
    records : iterable of Record
    dropped_maps : iterable of str
    begun : iterable of str
        Ids that an earlier call gave, some of which may be gone already, and with them the reason for others.
    may_go : callable
        Whether a record may be dropped at all.
    """
    held = list(records)
    children: dict[str, set[str]] = {}
    for record in held:
        for named in named_ids(record):
            children.setdefault(named, set()).add(record.id)
    once = set(begun)
    dropped = list(dropped_maps)
    gone = set(dropped)
    for kind in DROP_ORDER[1:]:
        for record in held:
            needed_by = children.get(record.id, set())
            reason = needed_by or record.id in once
            if record.kind == kind and not record.name and reason and needed_by <= gone and may_go(record):
                dropped.append(record.id)
                gone.add(record.id)
    return dropped


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFacts:
    """What upkeep needs to know of a run."""

    id: str
    status: str
    snapshot: str | None
    sources: tuple[str, ...]
    modified: float | None


def read_runs(store: Store, listing: Mapping[str, ObjectInfo]) -> list[RunFacts]:
    """Read all runs of ``listing``, the oldest first.

    Raises
    ------
    DamagedObjectError
        If the record of one is not what we write.
    """
    runs: list[RunFacts] = []
    for name in sorted(listing):
        if not (name.startswith(f"{RUNS}/") and name.endswith("/run.json")):
            continue
        try:
            values = json.loads(store.read_bytes(name))
            runs.append(
                RunFacts(
                    id=str(values["id"]),
                    status=str(values["status"]),
                    snapshot=values["facts"].get("snapshot"),
                    sources=tuple(str(source) for source in values["job"]["corpus"]["sources"]),
                    modified=listing[name].modified,
                )
            )
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise DamagedObjectError(
                f"{name} is not the record of a run: {error}", where=store.path(name), hint="Delete it."
            ) from error
    return runs


def snapshots_to_keep(
    store: Store, records: Iterable[Record], runs: Iterable[RunFacts], *, young_after: float
) -> set[str]:
    """Ids of the snapshots that something names.

    These are the snapshots of ``records``, of the last run that had one, of runs that did not end well and are younger
    than ``young_after``, and the one that has given out the highest place: no ``row_id`` is ever given twice.
    """
    ids = list_snapshot_ids(store)
    wanted = {named for record in records for named in named_ids(record) if named.startswith("snapshot-")}
    last: str | None = None
    for run in runs:
        if run.snapshot:
            last = run.snapshot
            if run.status != "done" and (run.modified is None or run.modified > young_after):
                wanted.add(run.snapshot)
    if last:
        wanted.add(last)
    if ids:
        footers = read_footers(store, [f"snapshots/{identity}.parquet" for identity in ids])
        ends = {i: int(footer.facts.get("end") or 0) for i, footer in zip(ids, footers, strict=True)}
        wanted.add(max(ids, key=lambda identity: (ends[identity], identity)))
    return wanted & set(ids)


def shard_keys(store: Store, snapshots: Iterable[str]) -> set[str]:
    """Keys of all shards, those without documents too, of these snapshots."""
    keys: set[str] = set()
    for identity in snapshots:
        snapshot = read_snapshot(store, identity)
        keys.update(snapshot.shards.keys.to_pylist())
        keys.update(snapshot.empty)
    return keys
