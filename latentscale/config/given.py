"""Settings as a Python program gives them: mappings or models, by group."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from pydantic import BaseModel

from latentscale.config.job import setting_groups
from latentscale.errors import ConfigError


def plain_groups(groups: Mapping[str, Any]) -> dict[str, Any]:
    """Groups of settings as mappings; of a model only what was set, so that the rest can come from elsewhere.

    Raises
    ------
    ConfigError
        If a group is neither.
    """
    return {name: plain_group(name, group) for name, group in groups.items()}


def plain_group(name: str, group: Any) -> Any:
    """One group of settings as a mapping; what is no group stays as it is, to be refused where settings are read."""
    if isinstance(group, BaseModel):
        return group.model_dump(exclude_unset=True)
    if isinstance(group, Mapping):
        return dict(cast("Mapping[str, Any]", group))
    if name in ("corpus", *setting_groups()):
        raise ConfigError(f"{name} is a group of settings (given: {group!r})", hint=f'For example {name}={{"…": …}}.')
    return group


def with_corpus(groups: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """Groups of settings with those of the corpus that were given by themselves; None is not given.

    Raises
    ------
    ConfigError
        If one is given twice, and differently.
    """
    values = plain_groups(groups)
    return values | {"corpus": _merged("corpus", values.get("corpus", {}), given)}


def with_group(groups: Mapping[str, Any], name: str, group: Any) -> dict[str, Any]:
    """Groups of settings with one more, unless it is None."""
    return dict(groups) if group is None else {**groups, name: group}


def with_setting(groups: Mapping[str, Any], group: str, name: str, value: Any) -> dict[str, Any]:
    """Groups of settings with one more, unless it is None.

    Raises
    ------
    ConfigError
        If it is there already, and differs.
    """
    if value is None:
        return dict(groups)
    values = plain_groups(groups)
    return {**values, group: _merged(group, values.get(group, {}), {name: value})}


def _merged(group: str, held: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    values = dict(held)
    for name, value in given.items():
        if value is None:
            continue
        if values.get(name, value) != value:
            raise ConfigError(f"{name} is given twice: {value!r}, and {values[name]!r} in {group}", where="settings")
        values[name] = value
    return values
