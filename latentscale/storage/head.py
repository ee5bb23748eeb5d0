"""HEAD: the one object that says which map is the current one."""

from __future__ import annotations

import json

from latentscale.errors import DamagedObjectError
from latentscale.provenance import now
from latentscale.storage.objects import Store

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


def write_head(store: Store, map_id: str) -> None:
    """Make ``map_id`` the current map."""
    store.put_bytes(NAME, json.dumps({"schema": 1, "map": map_id, "written": now()}).encode())
