"""Read the file of edits that ``label.edits`` names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from latentscale.config.text import load_yaml
from latentscale.errors import ConfigError
from latentscale.file_names import at_home
from latentscale.labelers.edit_table import SUFFIXES, read_table
from latentscale.labelers.edits import ACTIONS, FORMAT, ClusterEdit, parse_edits

ADDED = ("rename", "describe", "hide")
"""Key of a file whose edits are added to those of a map."""

_MAX_BYTES, _MAX_VALUES = 50_000_000, 2_000_000
_HINT = "latentscale labels export WORKSPACE FILE writes one."


@dataclass(frozen=True, slots=True, kw_only=True)
class Additions:
    """Edits to be added to those of a map, in the form that its page saves.

    Attributes
    ----------
    map : str
        Id of the map that was edited; empty if the file does not contain it.
    entries : tuple of dict
        Plain values: ``layer``, ``cluster``, ``label``, ``size``, ``members``, and the changed fields of ``ADDED``;
        null and false remove an edit of the map.
    """

    map: str
    entries: tuple[dict[str, Any], ...]


def read_additions(name: str) -> Additions | None:
    """Return the edits of a file with ``adds: true``, or None for other files, which contain all edits of a map.

    Raises
    ------
    ConfigError
        With the entry that is wrong, or if there is no such file.
    """
    path = at_home(name)
    if path.suffix.lower() in SUFFIXES:
        return None
    values = _load(name)
    head = cast("dict[str, Any]", values) if isinstance(values, dict) else {}
    adds = head.get("adds", False)
    if not isinstance(adds, bool):
        raise ConfigError("label.edits: adds is not true or false", where=name)
    if not adds:
        return None
    clusters = head.get("clusters")
    entries = cast("list[Any]", clusters) if isinstance(clusters, list) else []
    for index, entry in enumerate(entries):
        fields = cast("dict[str, Any]", entry) if isinstance(entry, dict) else {}
        where = f"{name}, clusters[{index}]"
        unsupported = next((action for action in ACTIONS if action in fields and action not in ADDED), None)
        if unsupported:
            raise ConfigError(
                f"label.edits: {unsupported} is not added to the edits of a map",
                where=where,
                hint=f"With adds: true an entry has {', '.join(ADDED)}. Without it, the file has all edits of the map: "
                "latentscale labels export WORKSPACE FILE writes these.",
            )
        if type(fields.get("cluster")) is not int:
            raise ConfigError("label.edits: cluster is not a whole number", where=where, hint=_HINT)
    parse_edits(values, where=name)
    return Additions(map=str(head.get("map", "")), entries=tuple(dict(edited) for edited in entries))


def edits_of(source: str | Sequence[Mapping[str, Any]] | None) -> tuple[Mapping[str, Any], ...]:
    """Return the edits as plain values, reading them if ``source`` is a file name.

    Raises
    ------
    ConfigError
        With the entry that is wrong, or if there is no such file.
    """
    if source is None:
        return ()
    if isinstance(source, str):
        return tuple(edit.as_json() for edit in _read(source))
    values = {"edits": FORMAT, "clusters": [dict(entry) for entry in source]}
    return tuple(edit.as_json() for edit in parse_edits(values, where="label.edits"))


def read_edits(source: str | Sequence[Mapping[str, Any]] | None) -> tuple[ClusterEdit, ...]:
    """Return the result of ``edits_of`` as ``ClusterEdit`` objects."""
    return parse_edits({"edits": FORMAT, "clusters": [dict(entry) for entry in edits_of(source)]}, where="label.edits")


def _read(name: str) -> tuple[ClusterEdit, ...]:
    """Read a file: a table if its suffix is that of one, else YAML."""
    path = at_home(name)
    if path.suffix.lower() not in SUFFIXES:
        return parse_edits(_load(name), where=name)
    entries, rows = read_table(_read_bytes(name), where=name)
    values = {"edits": FORMAT, "clusters": entries}
    return parse_edits(values, where=name, places=[f"row {row}" for row in rows])


def _load(name: str) -> Any:
    """Parse a YAML file."""
    try:
        text = _read_bytes(name).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ConfigError(f"label.edits: {name} cannot be read as text: {error}", hint=_HINT) from None
    return load_yaml(text, where=name, most_characters=_MAX_BYTES, most_values=_MAX_VALUES)


def _read_bytes(name: str) -> bytes:
    path = at_home(name)
    if not path.is_file():
        raise ConfigError(f"label.edits: there is no file {name}", hint=_HINT)
    if path.stat().st_size > _MAX_BYTES:
        raise ConfigError(f"label.edits: {name} is larger than {_MAX_BYTES:,} bytes", hint=_HINT)
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigError(f"label.edits: {name} cannot be read as text: {error}", hint=_HINT) from None
