"""Names of maps: one small object per name, so that writers of different names never conflict."""

from __future__ import annotations

import re

from latentscale.errors import ConfigError, DamagedObjectError
from latentscale.storage.objects import Store
from latentscale.storage.provenance import now
from latentscale.storage.sealed import seal, unseal

FOLDER = "names"

# Lower case only: some file systems are case-insensitive.
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
_ID = re.compile(r"(?:map|[a-z_-]+)-[0-9a-f]{8,}")


def check_name(name: str) -> str:
    """Return ``name`` if it is valid.

    Raises
    ------
    ConfigError
        If it has other characters than lower-case letters, digits, ``.``, ``_`` and ``-``, or looks like an id.
    """
    if not isinstance(name, str) or not _NAME.fullmatch(name):  # pyright: ignore[reportUnnecessaryIsInstance]
        near = re.sub(r"[^a-z0-9._-]+", "-", str(name).lower()).strip("-._")[:64]
        raise ConfigError(
            f"{name!r} is not a name for a map: use up to 64 lower-case letters, digits, '.', '_' and '-'",
            hint=f"For example {near!r}." if _NAME.fullmatch(near) else None,
        )
    if looks_like_id(name):
        raise ConfigError(f"{name!r} looks like an id, and ids are given by LatentScale", hint="Choose another name.")
    return name


def looks_like_id(name: str) -> bool:
    """Whether a text has the form of an artifact id."""
    return _ID.fullmatch(name) is not None


def read_names(store: Store) -> dict[str, str]:
    """Read all names: map ids by name.

    Raises
    ------
    DamagedObjectError
        If an object is malformed.
    """
    names = (name for name in store.list(FOLDER) if name.endswith(".json"))
    return {_of(name): read_name(store, name) for name in sorted(names)}


def find_named(store: Store, name: str) -> str | None:
    """Find the id of the map named ``name``; None if there is none."""
    if looks_like_id(name) or not _NAME.fullmatch(name):
        return None
    data = store.find_bytes(_object(name))
    return None if data is None else _parse(store, _object(name), data)


def write_name(store: Store, name: str, map_id: str) -> None:
    """Name a map; the name is moved from another map atomically.

    Raises
    ------
    ConfigError
        If the name is invalid.
    """
    store.put_bytes(_object(check_name(name)), seal({"map": map_id, "written": now()}))


def remove_name(store: Store, name: str) -> None:
    """Remove a name; the map is kept."""
    store.delete([_object(check_name(name))])


def _object(name: str) -> str:
    return f"{FOLDER}/{name}.json"


def _of(name: str) -> str:
    return name.removeprefix(f"{FOLDER}/").removesuffix(".json")


def read_name(store: Store, name: str) -> str:
    """Read the map id in the object ``name``.

    Raises
    ------
    DamagedObjectError
        If it is malformed.
    """
    return _parse(store, name, store.read_bytes(name))


def _parse(store: Store, name: str, data: bytes) -> str:
    try:
        return str(unseal(store, name, data)["map"])
    except (ValueError, KeyError, TypeError) as error:
        raise DamagedObjectError(
            f"{name} does not name a map: {error}",
            where=store.path(name),
            hint="Delete it, and give the map its name again.",
        ) from error
