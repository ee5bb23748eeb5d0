"""Check that memory and disk suffice where the stages run, before the first vector is computed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from latentscale.config import EngineConfig, JobConfig
from latentscale.errors import ResourceError
from latentscale.machine import Place, available_memory
from latentscale.registry import load_stage, stages
from latentscale.stages.stage import Cost, JobSize
from latentscale.storage.artifacts import Record
from latentscale.storage.objects import Store

if TYPE_CHECKING:
    from latentscale.pipeline.context import RunContext

GB = 1e9
# Stages of updates and of placing documents on the map of another workspace only.
NOT_OF_A_RUN = ("place", "overlay")
# Memory of Python and the libraries.
PROCESS_BYTES = 400e6
# Embedding dimension assumed until it is known.
COMMON_WIDTH = 768


class Preflight:
    """Compares the estimated needs of a run's stages with the available resources, once per run.

    Parameters
    ----------
    context : RunContext
    stages : sequence of str
        Names of the stages that will run.
    """

    def __init__(self, context: RunContext, stages: Sequence[str]) -> None:
        self._context = context
        self._stages = stages
        self._done = False

    def check(self, documents: int, *, embedding: Record | None = None, text_bytes: float = 0.0) -> None:
        """Raise if the resources of a stage do not suffice; calls after one that knows the width do nothing.

        Parameters
        ----------
        documents : int
        embedding : Record, optional
            Record of their embedding, if it exists.
        text_bytes : float
            Decompressed size of the texts; 0 if unknown.

        Raises
        ------
        ResourceError
            With the needed and the available amount, and the sample that would fit.
        """
        if self._done:
            return
        context = self._context
        # The width of vectors of the corpus or of a service is known once they are embedded.
        self._done = embedding is not None or context.spec.dimensions is not None
        dim = int(embedding.counts["dim"]) if embedding else context.spec.dimensions
        size = JobSize(documents=documents, dim=dim or COMMON_WIDTH, text_bytes=text_bytes, embedder=context.spec.kind)
        _check(context, self._stages, size, context.place)

    def check_estimate(self, documents: int, *, corpus_bytes: float) -> None:
        """Raise if the estimated corpus does not fit on this machine, before the corpus is read.

        On a cluster only the disk is checked here; :meth:`check` queries its nodes later.

        Parameters
        ----------
        documents : int
        corpus_bytes : float
            Decompressed size.

        Raises
        ------
        ResourceError
            As in :meth:`check`.
        """
        context = self._context
        size = JobSize(
            documents=documents,
            dim=context.spec.dimensions or COMMON_WIDTH,
            text_bytes=corpus_bytes,
            embedder=context.spec.kind,
        )
        here = context.config.engine.name == "local"
        _check(context, self._stages, size, (lambda name: here_within(context.config.engine)) if here else None)


def _check(context: RunContext, stages: Sequence[str], size: JobSize, place: Callable[[str], Place] | None) -> None:
    costs = {name: load_stage(name).cost(size, context.config) for name in stages}
    try:
        check_disk(context.store, sum(cost.disk_bytes for cost in costs.values()))
        for name, cost in costs.items():
            if cost.memory_bytes and place is not None:
                check_place(name, cost, place(name), size)
    except ResourceError as error:
        if context.config.engine.on_shortage == "refuse":
            hint = f"{error.hint} Or try it: --set engine.on_shortage=warn."
            raise ResourceError(error.message, where=error.where, hint=hint) from None
        context.outcome.warnings.append(error.message)
        context.observer.note(f"warning: {error.message}")


def here_within(engine: EngineConfig) -> Place:
    """This machine, with its free memory or, if smaller, the limit ``engine.memory``."""
    free = available_memory()
    if engine.memory and engine.memory < free:
        return Place(memory_bytes=float(engine.memory), name=f"{Place().name} by engine.memory")
    return Place(memory_bytes=free)


def stage_costs(config: JobConfig, size: JobSize) -> dict[str, Cost]:
    """Estimated cost of each stage of a run, by name."""
    return {
        entry.name: load_stage(entry.name).cost(size, config) for entry in stages() if entry.name not in NOT_OF_A_RUN
    }


def check_place(stage: str, cost: Cost, place: Place, size: JobSize) -> None:
    """Check that a worker has the memory and scratch disk that a stage needs.

    Raises
    ------
    ResourceError
        With the needed and the available amount, and the sample that would fit.
    """
    needed = PROCESS_BYTES + cost.memory_bytes
    if place.memory_bytes and needed > place.memory_bytes:
        fits = (place.memory_bytes - PROCESS_BYTES) / max(cost.memory_bytes, 1.0)
        raise ResourceError(
            f"stage {stage}: {size.documents:,} documents of {size.dim} dimensions need about {needed / GB:.1f} GB of "
            f"memory, {place.memory_bytes / GB:.1f} GB are free on {place.name}",
            hint=f"Take fewer (--sample {max(fits, 1 / max(size.documents, 1)):.2g}), or a machine with more memory.",
        )
    if place.disk_free_bytes and cost.scratch_bytes > place.disk_free_bytes:
        raise ResourceError(
            f"stage {stage} needs about {cost.scratch_bytes / GB:.1f} GB of disk for temporary files, "
            f"{place.disk_free_bytes / GB:.1f} GB are free on {place.name}",
            hint="Free some space there, or name a folder on another disk: LATENTSCALE_SCRATCH=/path.",
        )


def check_disk(store: Store | None, disk_bytes: float) -> None:
    """Check the free disk space of a local workspace; object stores are not limited.

    Raises
    ------
    ResourceError
        With the needed and the free amount.
    """
    if store is None or not store.is_local:
        return
    free = _free_disk(store.local_root)
    if disk_bytes > free:
        raise ResourceError(
            f"the workspace will take about {disk_bytes / GB:.2g} GB, {free / GB:.2g} GB are free on its disk",
            where=store.url,
            hint="Free some space, or choose another disk with --out.",
        )


def _free_disk(folder: Path) -> int:
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    return psutil.disk_usage(str(folder)).free
