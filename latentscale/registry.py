"""Registries of what can be extended: stages, embedders, backends and labelers, by name.

Each is one line here, or one entry point of another installed package (docs/extend.md). Nothing is imported until it
is used: a registry holds names and where the objects are.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

from latentscale.errors import ConfigError

Unit = Literal["shard", "whole", "batch"]


@dataclass(frozen=True, slots=True, kw_only=True)
class StageEntry:
    """One stage, as the command line, the settings, the engines and the storage know it.

    Attributes
    ----------
    name : str
        Of its command, of its group of settings and of its workers' resources.
    help : str
        One sentence for the command line; empty for a stage that has no command of its own.
    unit : {"shard", "whole", "batch"}
        What is done in one go: a shard of documents, the whole set, or a batch of clusters.
    home : str
        ``module:attribute`` of the :class:`latentscale.stages.stage.Stage`.
    kind, folder : str or None
        Of the artifact that it leaves, and where those are in a workspace; None for ingest, which leaves a snapshot.
    resources : str or None
        The stage whose ``engine.resources`` its workers get; by default its own.
    settings : str or None
        ``module:class`` of its group of settings, for a stage of another package; those of our own are in ``config``.
    after : str or None
        For a stage of another package: it runs after this one.
    """

    name: str
    help: str
    unit: Unit
    home: str
    kind: str | None = None
    folder: str | None = None
    resources: str | None = None
    settings: str | None = None
    after: str | None = None


_STAGES = (
    StageEntry(name="ingest", help="", unit="shard", home="latentscale.stages.ingest.stage:STAGE"),
    StageEntry(
        name="embed",
        help="Embed the documents.",
        unit="shard",
        home="latentscale.stages.embed:STAGE",
        kind="embedding",
        folder="embeddings",
    ),
    StageEntry(
        name="neighbors",
        help="Compute the nearest-neighbour graph.",
        unit="whole",
        home="latentscale.stages.neighbors:STAGE",
        kind="neighbors",
        folder="neighbors",
    ),
    StageEntry(
        name="project",
        help="Project the vectors to two or three dimensions.",
        unit="whole",
        home="latentscale.stages.project:STAGE",
        kind="projection",
        folder="projections",
    ),
    StageEntry(
        name="cluster",
        help="Cluster the documents.",
        unit="whole",
        home="latentscale.stages.cluster:STAGE",
        kind="clusters",
        folder="clusters",
    ),
    StageEntry(
        name="label",
        help="Name the clusters.",
        unit="batch",
        home="latentscale.stages.label:STAGE",
        kind="labels",
        folder="labels",
    ),
    StageEntry(
        name="place",
        help="",
        unit="whole",
        home="latentscale.stages.update.place:STAGE",
        kind="placement",
        folder="placements",
        resources="project",
    ),
    StageEntry(
        name="overlay",
        help="",
        unit="whole",
        home="latentscale.stages.update.overlay:STAGE",
        kind="overlay",
        folder="overlays",
        resources="project",
    ),
    StageEntry(
        name="publish",
        help="Write points, page and quality, and make the map the current one.",
        unit="whole",
        home="latentscale.stages.publish.map:STAGE",
        kind="map",
        folder="maps",
    ),
)


class Registry:
    """Objects by name, imported when they are first used.

    Parameters
    ----------
    group : str
        Group of the entry points by which other packages add to it.
    homes : mapping of str to str
        ``module:attribute`` of our own, by name.
    """

    def __init__(self, group: str, homes: Mapping[str, str]) -> None:
        self.group = group
        self._own = dict(homes)

    def homes(self) -> dict[str, str]:
        """``module:attribute`` by name; our own names cannot be taken by another package."""
        return {entry.name: entry.value for entry in _entry_points(self.group)} | self._own

    def names(self) -> list[str]:
        """All names, our own first."""
        return [*self._own, *(name for name in self.homes() if name not in self._own)]

    def __contains__(self, name: object) -> bool:
        return name in self._own or name in self.homes()

    def load(self, name: str) -> Any:
        """Import the object of that name.

        Raises
        ------
        KeyError
            If there is none.
        """
        return _load(self._own.get(name) or self.homes()[name])


EMBEDDERS = Registry(
    "latentscale.embedders",
    {
        "static": "latentscale.embedders.static:StaticSpec",
        "column": "latentscale.embedders.column:ColumnSpec",
        "transformers": "latentscale.embedders.transformers:TransformersSpec",
        "onnx": "latentscale.embedders.onnx:OnnxSpec",
        "endpoint": "latentscale.embedders.endpoint:EndpointSpec",
        "vllm": "latentscale.embedders.vllm:VllmSpec",
    },
)
"""Classes of :class:`latentscale.embedders.spec.EmbedderSpec`, by kind."""

BACKENDS = Registry(
    "latentscale.backends",
    {
        "cpu": "latentscale.backends.cpu.backend:CpuBackend",
        "torch": "latentscale.backends.torch.backend:TorchBackend",
        "cuml": "latentscale.backends.cuml.backend:CumlBackend",
    },
)
"""Classes of :class:`latentscale.backends.protocol.Backend`, by name; ``auto`` takes the last one that can be used."""

LABELERS = Registry(
    "latentscale.labelers",
    {
        "keyphrases": "latentscale.labelers.keyphrases.labeler:KeyphraseLabeler",
        "curated": "latentscale.labelers.curated:CuratedLabeler",
        "endpoint": "latentscale.labelers.endpoint:EndpointLabeler",
        "transformers": "latentscale.labelers.transformers:TransformersLabeler",
        "vllm": "latentscale.labelers.vllm:VllmLabeler",
    },
)
"""Classes of :class:`latentscale.labelers.protocol.Labeler`, by name."""


@cache
def stages() -> tuple[StageEntry, ...]:
    """All stages in the order in which they run, those of other packages included.

    Raises
    ------
    ConfigError
        If the stage of another package cannot be loaded or does not fit, naming it.
    """
    ordered = list(_STAGES)
    for point in _entry_points("latentscale.stages"):
        entry = _entry_of(point)
        if any(entry.name == known.name or (entry.kind and entry.kind == known.kind) for known in ordered):
            raise _unfit(point, f"has the name or the kind of another stage ({entry.name}, {entry.kind})")
        before = next((i for i, known in enumerate(ordered) if known.name == (entry.after or "label")), None)
        if before is None:
            raise _unfit(point, f"runs after {entry.after!r}, which does not exist")
        ordered.insert(before + 1, entry)
    return tuple(ordered)


def _entry_of(point: Any) -> StageEntry:
    try:
        entry = point.load()
    except Exception as error:  # the code of another package may raise anything
        raise _unfit(point, f"cannot be loaded: {type(error).__name__}: {error}") from error
    if not isinstance(entry, StageEntry):
        raise _unfit(point, f"is a {type(entry).__name__}, not a StageEntry")
    return entry


def _unfit(point: Any, what: str) -> ConfigError:
    package = f" of the package {point.dist.name}" if getattr(point, "dist", None) else ""
    return ConfigError(
        f"the stage {point.name!r}{package} {what}",
        where=point.value,
        hint="Mend that package or uninstall it; docs/extend.md says what a stage is.",
    )


def stage_entry(name: str) -> StageEntry:
    """The stage of that name.

    Raises
    ------
    KeyError
        If there is none.
    """
    for entry in stages():
        if entry.name == name:
            return entry
    raise KeyError(name)


def resources_of(stage: str) -> str:
    """The stage whose ``engine.resources``, and whose backend, a stage has: its own, unless its line says otherwise."""
    return stage_entry(stage).resources or stage


def load_stage(name: str) -> Any:
    """Import the :class:`latentscale.stages.stage.Stage` of that name."""
    return _load(stage_entry(name).home)


def settings_of_plugins() -> dict[str, Any]:
    """The classes of the groups of settings that stages of other packages add, by the stage's name."""
    return {entry.name: _load(entry.settings) for entry in stages() if entry.settings}


@cache
def kinds() -> dict[str, str]:
    """Folders of the kinds of artifacts, parents before children."""
    return {entry.kind: entry.folder for entry in stages() if entry.kind and entry.folder}


@cache
def _entry_points(group: str) -> tuple[Any, ...]:
    if not _packages_add_something():
        return ()
    from importlib.metadata import entry_points

    return tuple(sorted(entry_points(group=group), key=lambda point: point.name))


@cache
def _packages_add_something() -> bool:
    """Whether any installed package names one of our groups.

    Most do not, and ``importlib.metadata`` takes as long to find that out as ``latentscale --help`` does for all else.
    """
    for folder in sys.path:
        try:
            with os.scandir(folder or ".") as entries:
                found = [one.path for one in entries if one.name.endswith((".dist-info", ".egg-info"))]
        except OSError:
            # An archive, which may hold metadata too: let the library look.
            if os.path.isfile(folder):  # noqa: PTH113 - pathlib is slower to import than all of this
                return True
            continue
        for path in found:
            try:
                with open(os.path.join(path, "entry_points.txt"), "rb") as file:  # noqa: PTH118, PTH123 - as above
                    if b"[latentscale." in file.read():
                        return True
            except OSError:
                continue
    return False


def _load(home: str) -> Any:
    module, _, attribute = home.partition(":")
    return getattr(importlib.import_module(module), attribute)
