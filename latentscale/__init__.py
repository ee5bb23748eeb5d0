"""Turn a text corpus of any size into an explorable, labelled map."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from latentscale.errors import LatentScaleError as LatentScaleError
    from latentscale.workspace import Map as Map
    from latentscale.workspace import Workspace as Workspace
    from latentscale.workspace import open as open  # noqa: A004
    from latentscale.workspace import run as run

__version__ = "0.1.0"

__all__ = ["LatentScaleError", "Map", "Workspace", "__version__", "open", "run"]

_HOMES = {
    "LatentScaleError": "latentscale.errors",
    "Map": "latentscale.workspace",
    "Workspace": "latentscale.workspace",
    "open": "latentscale.workspace",
    "run": "latentscale.workspace",
}


def __getattr__(name: str) -> Any:
    # Imported when first used: `latentscale --help` needs none of it.
    if name in _HOMES:
        import importlib

        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'latentscale' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
