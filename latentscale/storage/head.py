"""HEAD: the object that names the current map."""

from __future__ import annotations

from datetime import UTC, datetime

from latentscale.errors import DamagedObjectError
from latentscale.storage.artifacts import Record, find_record
from latentscale.storage.objects import Store
from latentscale.storage.sealed import seal, unseal

NAME = "HEAD.json"
CHOOSE = "latentscale list shows the maps; latentscale promote makes one of them the current one."


def read_head(store: Store) -> str | None:
    """Return the id of the current map, or None if none has been published yet.

    Raises
    ------
    DamagedObjectError
        If the object is malformed.
    WorkspaceError
        If it was written by a version with another schema.
    """
    head = _read(store)
    return None if head is None else head[0]


def read_head_time(store: Store) -> str | None:
    """Return when the current map was published, in UTC as ISO 8601; None if none was. Raises as :func:`read_head`."""
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
    """Make ``to`` the current map if ``expected`` is; returns whether it is current afterwards.

    Conditional writes of stores are not relied upon (a real one was measured to let two writers win): the object is
    read before and after. Of two concurrent writers the last wins, and the other detects that and restarts from the
    winner. Both maps are complete, so readers see one or the other.
    """
    if read_head(store) not in (expected, to):
        return False
    write_head(store, to)
    return read_head(store) == to


def write_head(store: Store, map_id: str) -> None:
    """Make ``map_id`` the current map."""
    # In microseconds, like ids of runs, to order runs within a second.
    written = datetime.now(UTC).isoformat(timespec="microseconds")
    store.put_bytes(NAME, seal({"map": map_id, "written": written}))


def current_map(store: Store) -> Record | None:
    """Read the record of the current map; None if none has been published yet.

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
