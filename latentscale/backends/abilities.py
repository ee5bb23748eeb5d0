"""What settings ask of a backend's layout that a backend need not be able to do."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from inspect import signature
from typing import TYPE_CHECKING

from latentscale.errors import ConfigError

if TYPE_CHECKING:
    from latentscale.backends.protocol import Backend
    from latentscale.config import JobConfig, ProjectConfig


@dataclass(frozen=True, slots=True)
class _Ability:
    """A parameter of ``Backend.layout`` that is passed only where a setting asks for it."""

    parameter: str
    setting: str
    asked: Callable[[ProjectConfig], bool]
    missing: str
    default: str


_ABILITIES = (
    _Ability(
        "fixed", "project.map_dimensions", lambda c: c.map_dimensions > 2, "lays out no map of three dimensions", "2"
    ),
    _Ability("init", "project.init", lambda c: c.init == "earlier", "starts no layout from an earlier one", "pca"),
    _Ability(
        "density_weight", "project.density_weight", lambda c: c.density_weight > 0, "keeps no densities on the map", "0"
    ),
)


def layout_lacks(kind: type[Backend], config: JobConfig) -> str | None:
    """What a layout by a backend would lack of what settings ask for, in words that follow its name."""
    missing = _missing(kind, config.project)
    return missing.missing if missing else None


def check_layout(name: str, kind: type[Backend], config: JobConfig) -> None:
    """Refuse settings that a backend, asked for by name, cannot satisfy, before any work.

    Raises
    ------
    ConfigError
        Naming the setting.
    """
    missing = _missing(kind, config.project)
    if missing:
        raise ConfigError(
            f"the backend {name} {missing.missing}: its layout takes no {missing.parameter}",
            where=missing.setting,
            hint=f"Set project.backend=cpu, or {missing.setting}={missing.default}.",
        )


def _missing(kind: type[Backend], config: ProjectConfig) -> _Ability | None:
    # A backend of another package may have been written before there was a parameter.
    taken = signature(kind.layout).parameters
    return next((one for one in _ABILITIES if one.parameter not in taken and one.asked(config)), None)
