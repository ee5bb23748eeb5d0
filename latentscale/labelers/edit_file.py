"""The file of edits that ``label.edits`` names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from latentscale.config.text import load_yaml
from latentscale.errors import ConfigError
from latentscale.file_names import at_home
from latentscale.labelers.edit_table import SUFFIXES, read_table
from latentscale.labelers.edits import FORMAT, ClusterEdit, parse_edits

_MOST_BYTES, _MOST_VALUES = 50_000_000, 2_000_000


def edits_of(given: str | Sequence[Mapping[str, Any]] | None) -> tuple[Mapping[str, Any], ...]:
    """Return the edits as plain values: those given, or those of the file that is named.

    Raises
    ------
    ConfigError
        With the entry that is wrong, or if there is no such file.
    """
    if given is None:
        return ()
    if isinstance(given, str):
        return tuple(edit.as_json() for edit in _read(given))
    values = {"edits": FORMAT, "clusters": [dict(one) for one in given]}
    return tuple(edit.as_json() for edit in parse_edits(values, where="label.edits"))


def read_edits(given: str | Sequence[Mapping[str, Any]] | None) -> tuple[ClusterEdit, ...]:
    """Return the edits that ``edits_of`` returns, as such."""
    return parse_edits({"edits": FORMAT, "clusters": [dict(one) for one in edits_of(given)]}, where="label.edits")


def _read(name: str) -> tuple[ClusterEdit, ...]:
    """Read a file: a table if its name ends so, else YAML."""
    path = at_home(name)
    hint = "latentscale labels export WORKSPACE FILE writes one."
    if not path.is_file():
        raise ConfigError(f"label.edits: there is no file {name}", hint=hint)
    if path.stat().st_size > _MOST_BYTES:
        raise ConfigError(f"label.edits: {name} is larger than {_MOST_BYTES:,} bytes", hint=hint)
    try:
        content = path.read_bytes()
        if path.suffix.lower() in SUFFIXES:
            entries, rows = read_table(content, where=name)
            values = {"edits": FORMAT, "clusters": entries}
            return parse_edits(values, where=name, places=[f"row {row}" for row in rows])
        text = content.decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"label.edits: {name} cannot be read as text: {error}", hint=hint) from None
    values = load_yaml(text, where=name, most_characters=_MOST_BYTES, most_values=_MOST_VALUES)
    return parse_edits(values, where=name)
