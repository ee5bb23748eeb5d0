"""What settings ask of a backend's layout that a backend need not be able to do."""

from __future__ import annotations

from collections.abc import Callable, Sequence
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
    alters: bool = True
    """Whether the layout is another one by it: ``auto`` takes no backend that lacks it."""


_ABILITIES = (
    _Ability(
        "fixed", "project.map_dimensions", lambda c: c.map_dimensions > 2, "lays out no map of three dimensions", "2"
    ),
    _Ability("init", "project.init", lambda c: c.init == "earlier", "starts no layout from an earlier one", "pca"),
    _Ability(
        "density_weight", "project.density_weight", lambda c: c.density_weight > 0, "keeps no densities on the map", "0"
    ),
    _Ability(
        "preview",
        "project.preview",
        lambda c: c.preview is True,
        "shows no layout before it is done",
        "false",
        alters=False,
    ),
)


def layout_lacks(kind: type[Backend], config: JobConfig) -> str | None:
    """What a layout by a backend would lack of what settings ask for, in words that follow its name."""
    missing = _missing(kind, config.project, [one for one in _ABILITIES if one.alters])
    return missing.missing if missing else None


def takes_preview(backend: Backend) -> bool:
    """Whether a backend shows a layout before it is done."""
    return "preview" in signature(backend.layout).parameters


def check_layout(name: str, kind: type[Backend], config: JobConfig) -> None:
    """Refuse settings that a backend, asked for by name, cannot satisfy, before any work.

    Raises
    ------
    ConfigError
        Naming the setting.
    """
    missing = _missing(kind, config.project, _ABILITIES)
    if missing:
        raise ConfigError(
            f"the backend {name} {missing.missing}: its layout takes no {missing.parameter}",
            where=missing.setting,
            hint=f"Set project.backend=cpu, or {missing.setting}={missing.default}.",
        )


def _missing(kind: type[Backend], config: ProjectConfig, abilities: Sequence[_Ability]) -> _Ability | None:
    # A backend of another package may have been written before there was a parameter.
    taken = signature(kind.layout).parameters
    return next((one for one in abilities if one.parameter not in taken and one.asked(config)), None)
