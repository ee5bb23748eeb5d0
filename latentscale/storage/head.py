"""HEAD: the one object that says which map is the current one."""

from __future__ import annotations

import json

from latentscale.errors import DamagedObjectError
from latentscale.provenance import now
from latentscale.storage.artifacts import Record, find_record
from latentscale.storage.objects import Store
from latentscale.storage.snapshots import Snapshot, read_snapshot

NAME = "HEAD.json"


def read_head(store: Store) -> str | None:
    """Return the id of the current map, or None where no map has been published yet.

    Raises
    ------
    DamagedObjectError
        If the object is not what we write.
    """
    if not store.exists(NAME):
        return None
    try:
        return str(json.loads(store.read_bytes(NAME))["map"])
    except (ValueError, KeyError, TypeError) as error:
        raise DamagedObjectError(
            f"{NAME} does not name a map: {error}",
            where=store.path(NAME),
            hint="Delete it and run the same command again.",
        ) from error


def switch_head(store: Store, *, expected: str | None, to: str) -> bool:
    """Make ``to`` the current map if ``expected`` is; say whether it is so afterwards.

    No store is trusted to compare and write in one step (a real one was measured to let two winners through): the
    object is read before and after. Of two that write at once the last stays, and the other reads that it lost; its
    work is planned again from the winner. Both maps are whole, so that a reader sees one or the other.
    """
    if read_head(store) not in (expected, to):
        return False
    write_head(store, to)
    return read_head(store) == to


def write_head(store: Store, map_id: str) -> None:
    """Make ``map_id`` the current map."""
    store.put_bytes(NAME, json.dumps({"schema": 1, "map": map_id, "written": now()}).encode())


def current_map(store: Store) -> Record | None:
    """The record of the current map, or None where none has been published yet.

    Raises
    ------
    DamagedObjectError
        If the map that is named is not there.
    """
    head = read_head(store)
    if head is None:
        return None
    record = find_record(store, "map", head)
    if record is None:
        raise DamagedObjectError(
            f"{NAME} names {head}, which is not there",
            where=store.path(NAME),
            hint="latentscale list shows the maps that are; latentscale promote makes one of them the current one.",
        )
    return record


def current_snapshot(store: Store) -> Snapshot | None:
    """The documents of the current map, or None where none has been published yet."""
    record = current_map(store)
    return None if record is None else read_snapshot(store, str(record.request["snapshot"]))
