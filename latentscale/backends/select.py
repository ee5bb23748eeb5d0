"""Choose the backend of each stage by the resources of the machine where the stage runs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

from latentscale.backends.abilities import check_layout
from latentscale.errors import ConfigError, ResourceError
from latentscale.machine import Place
from latentscale.registry import BACKENDS

if TYPE_CHECKING:
    from latentscale.backends.protocol import Backend
    from latentscale.config import JobConfig

AUTO = "auto"
# Runs everywhere; other backends are compared with it.
REFERENCE = "cpu"


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """The chosen backend of a stage.

    Attributes
    ----------
    stage : str
    backend : str
    reason : str
        Why it was chosen, for the record.
    """

    stage: str
    backend: str
    reason: str


def check_backend(name: str, stage: str) -> None:
    """Check before any work that a backend exists and computes a stage.

    Raises
    ------
    ConfigError
        With the existing backends, or the stages it computes.
    """
    where = f"{stage}.backend"
    if name != AUTO and name not in BACKENDS:
        raise ConfigError(
            f"there is no backend {name!r}", where=where, hint=f"Use one of {', '.join([AUTO, *BACKENDS.names()])}."
        )
    if name != AUTO and stage not in _load(name).stages:
        raise ConfigError(
            f"the backend {name!r} does not compute the stage {stage}",
            where=where,
            hint=f"It computes {', '.join(sorted(_load(name).stages))}; {AUTO} chooses one that can.",
        )


def check_layouts(config: JobConfig) -> None:
    """Check before any work that the configured backend supports the layout settings.

    Raises
    ------
    ConfigError
        Naming the setting.
    """
    name = config.project.backend
    if name != AUTO:
        check_layout(name, _load(name), config)


def computes(name: str, stage: str) -> bool:
    """Whether a backend, or one that ``auto`` would choose, computes a stage."""
    return name == AUTO or stage in _load(name).stages


def check_workers(name: str, *, engine: str) -> None:
    """Check before any work that neighbours can be computed in several workers.

    Raises
    ------
    ConfigError
        If the engine has no workers, or the backend does not support several.
    """
    where = "engine.resources.neighbors.workers"
    if engine != "ray":
        raise ConfigError(
            f"neighbours in several workers need a cluster, and engine.name is {engine}",
            where=where,
            hint="Use --engine ray, or leave the number of workers out.",
        )
    able = [one for one in BACKENDS.names() if hasattr(_load(one), "neighbors_of_workers")]
    if name not in able:
        raise ConfigError(
            f"neighbors.backend is {name!r}, which does not search in several workers",
            where=where,
            hint=f"Set neighbors.backend to {' or '.join(able)}, or leave the number of workers out.",
        )


def choose_backend(
    asked: str,
    stage: str,
    place: Callable[[], Place],
    *,
    documents: int = 0,
    lacks: Callable[[type[Backend]], str | None] = lambda kind: None,
) -> Choice:
    """Resolve the setting ``backend`` of a stage.

    Parameters
    ----------
    asked : str
        ``auto`` or a name.
    place : callable
        Returns the resources of a worker of the stage; called only if they matter.
    documents : int
        Number of documents: some backends pay off for large maps only.
    lacks : callable
        Returns the feature, required by the settings, that a backend lacks; None if it has all.

    Raises
    ------
    ConfigError
        If the requested backend does not exist, or does not compute this stage.
    ResourceError
        If it cannot run where the stage runs.
    """
    if asked != AUTO:
        check_backend(asked, stage)
        here = place()
        missing = _load(asked).missing(here)
        if missing:
            raise ResourceError(
                f"{stage}.backend is {asked!r}, which cannot run on {here.name}: {missing}",
                where=f"{stage}.backend",
                hint=f"latentscale doctor shows what is available; {stage}.backend={AUTO} chooses what can run.",
            )
        return Choice(stage=stage, backend=asked, reason="asked for")
    able = [name for name in BACKENDS.names() if stage in _load(name).stages]
    if len(able) == 1:
        return Choice(stage=stage, backend=able[0], reason="the only one that computes this stage")
    here = place()
    refused: list[str] = []
    # The registry is ordered from the most general backend to the fastest and most demanding.
    for name in reversed(able):
        kind = _load(name)
        refusal = kind.missing(here) or lacks(kind) or kind.unfit(here) or _too_few(kind, stage, documents)
        if refusal is None:
            also = f"; not {'; not '.join(refused)}" if refused else ""
            return Choice(stage=stage, backend=name, reason=f"the first that can run on {here.name}{also}")
        refused.append(f"{name}: {refusal}")
    raise ResourceError(
        f"no backend can compute {stage} on {here.name}: {'; '.join(refused)}", where=f"{stage}.backend"
    )


def _too_few(kind: type[Backend], stage: str, documents: int) -> str | None:
    # A backend of another package may be older than this attribute.
    least = getattr(kind, "auto_from", {}).get(stage, 0)
    if least is None:
        return f"it computes {stage} only where it is asked for by name"
    return f"it is taken from {least:,} documents on" if documents < least else None


@cache
def open_backend(name: str) -> Backend:
    """Return the backend of that name, one instance per process; it loads its libraries on first use."""
    return _load(name)()


def _load(name: str) -> type[Backend]:
    return BACKENDS.load(name)
