"""Turn a text corpus of any size into an explorable, labelled map."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from latentscale.api import distill as distill
    from latentscale.api import doctor as doctor
    from latentscale.api import export_onnx as export_onnx
    from latentscale.api import init as init
    from latentscale.api import list_models as list_models
    from latentscale.api import open as open  # noqa: A004
    from latentscale.api import plan as plan
    from latentscale.api import pull_model as pull_model
    from latentscale.api import run as run
    from latentscale.api import selftest as selftest
    from latentscale.api import shipped_models as shipped_models
    from latentscale.config import ClusterConfig as ClusterConfig
    from latentscale.config import CorpusConfig as CorpusConfig
    from latentscale.config import DriftConfig as DriftConfig
    from latentscale.config import EmbedConfig as EmbedConfig
    from latentscale.config import EngineConfig as EngineConfig
    from latentscale.config import IngestConfig as IngestConfig
    from latentscale.config import LabelConfig as LabelConfig
    from latentscale.config import NeighborsConfig as NeighborsConfig
    from latentscale.config import ProjectConfig as ProjectConfig
    from latentscale.config import PublishConfig as PublishConfig
    from latentscale.config import QualityConfig as QualityConfig
    from latentscale.config import StorageConfig as StorageConfig
    from latentscale.config import UpdateConfig as UpdateConfig
    from latentscale.errors import LatentScaleError as LatentScaleError
    from latentscale.workspace import Map as Map
    from latentscale.workspace import Workspace as Workspace

from latentscale.version import __version__

_HOMES = {
    **dict.fromkeys(
        (
            "distill",
            "doctor",
            "export_onnx",
            "init",
            "list_models",
            "open",
            "plan",
            "pull_model",
            "run",
            "selftest",
            "shipped_models",
        ),
        "latentscale.api",
    ),
    **dict.fromkeys(("Map", "Workspace"), "latentscale.workspace"),
    **dict.fromkeys(
        (
            "ClusterConfig",
            "CorpusConfig",
            "DriftConfig",
            "EmbedConfig",
            "EngineConfig",
            "IngestConfig",
            "LabelConfig",
            "NeighborsConfig",
            "ProjectConfig",
            "PublishConfig",
            "QualityConfig",
            "StorageConfig",
            "UpdateConfig",
        ),
        "latentscale.config",
    ),
    "LatentScaleError": "latentscale.errors",
}

__all__ = [
    "ClusterConfig",
    "CorpusConfig",
    "DriftConfig",
    "EmbedConfig",
    "EngineConfig",
    "IngestConfig",
    "LabelConfig",
    "LatentScaleError",
    "Map",
    "NeighborsConfig",
    "ProjectConfig",
    "PublishConfig",
    "QualityConfig",
    "StorageConfig",
    "UpdateConfig",
    "Workspace",
    "__version__",
    "distill",
    "doctor",
    "export_onnx",
    "init",
    "list_models",
    "open",
    "plan",
    "pull_model",
    "run",
    "selftest",
    "shipped_models",
]


def __getattr__(name: str) -> Any:
    # Imported when first used: `latentscale --help` needs none of it.
    if name in _HOMES:
        import importlib

        found = getattr(importlib.import_module(_HOMES[name]), name)
        if name == "run":
            from latentscale.config.described import list_settings

            list_settings(found)
        globals()[name] = found
        return found
    raise AttributeError(f"module 'latentscale' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
