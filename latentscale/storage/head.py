"""HEAD: the one object that says which map is the current one."""

from __future__ import annotations

from datetime import UTC, datetime

from latentscale.errors import DamagedObjectError
from latentscale.storage.artifacts import Record, find_record
from latentscale.storage.objects import Store
from latentscale.storage.sealed import seal, unseal

NAME = "HEAD.json"
CHOOSE = "latentscale list shows the maps; latentscale promote makes one of them the current one."


def read_head(store: Store) -> str | None:
    """Return the id of the current map, or None where no map has been published yet.

    Raises
    ------
    DamagedObjectError
        If the object is not what we write.
    WorkspaceError
        If it was written by a version with another schema.
    """
    head = _read(store)
    return None if head is None else head[0]


def read_head_time(store: Store) -> str | None:
    """Return when the current map became that, in UTC as ISO 8601; None where none was published. Raises as above."""
    head = _read(store)
    return None if head is None else head[1]


def _read(store: Store) -> tuple[str, str] | None:
    data = store.find_bytes(NAME)
    if data is None:
        return None
    try:
        values = unseal(store, NAME, data)
        return str(values["map"]), str(values["written"])
    except (ValueError, KeyError, TypeError) as error:
        raise DamagedObjectError(f"{NAME} does not name a map: {error}", where=store.path(NAME), hint=CHOOSE) from error


def switch_head(store: Store, *, expected: str | None, to: str) -> bool:
    """Make ``to`` the current map if ``expected`` is; return whether it is current afterwards.

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
    # To the microsecond, as ids of runs: which came first is asked of runs of one second too.
    written = datetime.now(UTC).isoformat(timespec="microseconds")
    store.put_bytes(NAME, seal({"map": map_id, "written": written}))


def current_map(store: Store) -> Record | None:
    """The record of the current map, or None where none has been published yet.

    Raises
    ------
    DamagedObjectError
        If the named map does not exist.
    """
    head = read_head(store)
    if head is None:
        return None
    record = find_record(store, "map", head)
    if record is None:
        raise DamagedObjectError(
            f"{NAME} names {head}, which does not exist",
            where=store.path(NAME),
            hint=CHOOSE,
        )
    return record
