"""Optional features of a backend's layout, and the settings that need them."""

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
    """An optional parameter of ``Backend.layout``, passed only where a setting needs it."""

    parameter: str
    setting: str
    asked: Callable[[ProjectConfig], bool]
    missing: str
    default: str
    alters: bool = True
    """Whether it changes the layout: if so, ``auto`` skips backends without it."""


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
    """Return the required feature that a backend lacks, as a phrase to follow its name; None if it has all."""
    missing = _missing(kind, config.project, [one for one in _ABILITIES if one.alters])
    return missing.missing if missing else None


def takes_preview(backend: Backend) -> bool:
    """Whether a backend supports previews of a running layout."""
    return "preview" in signature(backend.layout).parameters


def check_layout(name: str, kind: type[Backend], config: JobConfig) -> None:
    """Check before any work that a backend chosen by name supports the layout settings.

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
    # A backend of another package may be older than a parameter.
    taken = signature(kind.layout).parameters
    return next((one for one in abilities if one.parameter not in taken and one.asked(config)), None)
