"""References in a workspace: of records by other records, shards by snapshots, uploads by runs."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from latentscale.errors import DamagedObjectError
from latentscale.file_names import argument
from latentscale.labelers import receipts as label_receipts
from latentscale.storage.artifacts import FOLDERS, Record, iterate_table
from latentscale.storage.id_runs import list_runs, runs_to_keep
from latentscale.storage.objects import ObjectInfo, Store
from latentscale.storage.runs import FOLDER as RUNS
from latentscale.storage.sealed import unseal
from latentscale.storage.snapshots import list_snapshot_ids, read_footers, read_snapshot

_ID = re.compile(rf"\b(?:{'|'.join(re.escape(kind) for kind in [*FOLDERS, 'snapshot'])})-[0-9a-f]{{16}}\b")
_ARTIFACT_RECORD = re.compile(r"([^/]+)/[^/]+/artifact\.json")
# Kinds of artifacts in the order of their stages have parents first: the reverse drops children before their parents.
DROP_ORDER = tuple(reversed(FOLDERS))


def named_ids(record: Record) -> set[str]:
    """Ids of all artifacts and snapshots that a record references, except maps."""
    return _ids_in(json.dumps([record.request, record.parents, record.segments])) - {record.id}


def _ids_in(text: str) -> set[str]:
    return {identity for identity in _ID.findall(text) if not identity.startswith("map-")}


def is_of_other_stage(name: str) -> bool:
    """Whether an object is the record of an artifact of a kind that no installed stage produces."""
    match = _ARTIFACT_RECORD.fullmatch(name)
    return match is not None and match[1] not in FOLDERS.values()


def ids_of_other_stages(store: Store, names: Iterable[str]) -> set[str]:
    """Ids referenced by artifacts of plug-in stages that are not installed here; they count as needed too."""
    ids: set[str] = set()
    for name in names:
        if is_of_other_stage(name):
            ids |= _ids_in(store.read_bytes(name).decode("utf-8", "replace"))
    return ids


def needed_maps(record: Record) -> set[str]:
    """Ids of the other maps whose points a map uses, and of its fit."""
    fit: Any = (record.request.get("update") or {}).get("fit")
    return ({str(segment["map"]) for segment in record.segments} | ({str(fit)} if fit else set())) - {record.id}


def maps_to_keep(records: Iterable[Record], head: str | None, keep: int, *, named: Collection[str] = ()) -> set[str]:
    """Ids of the newest ``keep`` maps, the current map, named maps, and all maps whose points one of these uses.

    Parameters
    ----------
    named : collection of str
        Ids of the named maps.
    """
    maps = [record for record in records if record.kind == "map"]
    by_id = {record.id: record for record in maps}
    wanted = {record.id for record in maps[max(len(maps) - keep, 0) :]}
    wanted.update(named)
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
    planned: Iterable[str] = (),
    needed: Collection[str] = (),
    may_drop: Callable[[Record], bool] = lambda record: True,
) -> list[str]:
    """Ids of the maps ``dropped_maps`` and of the artifacts that only they use, children before parents.

    Artifacts that no map ever used, such as those of plug-in stages, are kept with their parents.

    Parameters
    ----------
    records : iterable of Record
    dropped_maps : iterable of str
    planned : iterable of str
        Ids returned to an interrupted call; some may be deleted already, so that others no longer appear as used.
    needed : collection of str
        Ids that are referenced by something other than ``records``.
    may_drop : callable
        Whether a record may be dropped at all.
    """
    existing = list(records)
    children: dict[str, set[str]] = {}
    for record in existing:
        for named in named_ids(record):
            children.setdefault(named, set()).add(record.id)
    resumed = set(planned)
    order = list(dropped_maps)
    dropped = set(order)
    for kind in DROP_ORDER:
        if kind == "map":
            continue
        before = -1
        # Repeat until nothing changes: a layout may be derived from another layout.
        while before != len(order):
            before = len(order)
            for record in existing:
                needed_by = children.get(record.id, set())
                only_by_dropped = (needed_by or record.id in resumed) and needed_by <= dropped
                if record.kind != kind or record.id in dropped or not only_by_dropped:
                    continue
                if record.id not in needed and may_drop(record):
                    order.append(record.id)
                    dropped.add(record.id)
    return order


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFacts:
    """The facts of a run record that maintenance commands need."""

    id: str
    status: str
    snapshot: str | None
    sources: tuple[str, ...]
    modified: float | None


def read_runs(store: Store, listing: Mapping[str, ObjectInfo]) -> list[RunFacts]:
    """Read all run records of ``listing``, oldest first.

    Raises
    ------
    DamagedObjectError
        If a record is invalid.
    """
    runs: list[RunFacts] = []
    for name in sorted(listing):
        if not (name.startswith(f"{RUNS}/") and name.endswith("/run.json")):
            continue
        try:
            values = unseal(store, name, store.read_bytes(name))
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
                f"{name} is not the record of a run: {error}",
                where=store.path(name),
                hint=f"latentscale repair {argument(store.url)} deletes it.",
            ) from error
    return runs


def snapshots_to_keep(
    store: Store,
    records: Iterable[Record],
    runs: Iterable[RunFacts],
    *,
    young_after: float,
    needed: Collection[str] = (),
) -> set[str]:
    """Ids of the referenced snapshots.

    These are the snapshots of ``records``, those in ``needed``, that of the last run that had one, those of failed runs
    younger than ``young_after``, and the one with the highest offset, so that no ``row_id`` is assigned twice.
    """
    ids = list_snapshot_ids(store)
    wanted = {*needed, *(named for record in records for named in named_ids(record))}
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


def id_runs_to_keep(store: Store, names: Iterable[str], snapshots: Iterable[str]) -> set[str]:
    """Ids of the sorted runs of hashed ids, among the objects ``names``, that an update of these snapshots reads."""
    runs = list_runs(store, names)
    if not runs:
        return set()
    return runs_to_keep(runs, (read_snapshot(store, identity).shards.keys for identity in snapshots))


def label_receipts_to_keep(store: Store, names: Iterable[str], records: Iterable[Record]) -> set[str]:
    """Keys of the label receipts that the labels in ``records`` reference; empty if ``names`` has no such receipt."""
    if not any(name.startswith(f"{label_receipts.FOLDER}/") for name in names):
        return set()
    keys: set[str] = set()
    for record in records:
        if record.kind == "labels":
            for table in iterate_table(store, record, "labels", ["receipt", "receipts"]):
                # Labels of the first builds have no such columns.
                if "receipt" in table.column_names:
                    keys.update(key for key in table["receipt"].to_pylist() if key is not None)
                if "receipts" in table.column_names:
                    keys.update(key for found in table["receipts"].to_pylist() for key in found or [])
    return keys


def shard_keys(store: Store, snapshots: Iterable[str]) -> set[str]:
    """Keys of all shards of these snapshots, including empty ones."""
    keys: set[str] = set()
    for identity in snapshots:
        snapshot = read_snapshot(store, identity)
        keys.update(snapshot.shards.keys.to_pylist())
        keys.update(snapshot.empty)
    return keys
