"""Neighbour search with shards of the vectors in Ray actors, for matrices that no single device can hold."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from latentscale.backends.cpu.vectors import unit_rows
from latentscale.backends.torch.shards import Shard, ShardResult, sharded_neighbors
from latentscale.errors import LatentScaleError, ResourceError, require

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from latentscale.backends.results import NeighborGraph
    from latentscale.machine import Replicas

# Blocks in flight: one is computed while the results of the other are transferred.
_BLOCKS_IN_FLIGHT = 2
_HINT = "Run the same command again, or ask for fewer workers or less for each in engine.resources.neighbors."


def neighbors_of_actors(vectors: NDArray[Any], *, k: int, replicas: Replicas) -> NeighborGraph:
    """Find the ``k`` nearest other documents of each, with one shard of the vectors per actor.

    Parameters
    ----------
    vectors : ndarray, shape (n, dim)
        As for the backend cpu; a mapped file is fine.
    replicas : Replicas

    Raises
    ------
    ResourceError
        If the actors get no resources within the timeout, or one is lost.
    EnvironmentFailure
        If a shard does not fit in the memory of its device.
    """
    ray: Any = require("ray", extra="ray", used_for="neighbours in several workers")
    unit = unit_rows(vectors)
    count = max(1, min(replicas.workers, len(unit)))
    resources: dict[str, Any] = {
        "num_cpus": 1.0 if replicas.cpus is None else replicas.cpus,
        "num_gpus": replicas.gpus,
        "resources": dict(replicas.custom),
        # A restarted actor would have lost its shard: the whole stage is retried instead.
        "max_restarts": 0,
    }
    bounds = [len(unit) * number // count for number in range(count + 1)]
    kind = ray.remote(**resources)(Shard)
    device = None if replicas.gpus else "cpu"
    actors: list[Any] = []

    def results(blocks: Iterator[tuple[int, NDArray[np.float32]]]) -> Iterator[list[ShardResult]]:
        pending: list[list[Any]] = []
        for start, rows in blocks:
            shared_rows = ray.put(rows)
            pending.append([actor.nearest.remote(shared_rows, start, k) for actor in actors])
            if len(pending) == _BLOCKS_IN_FLIGHT:
                yield ray.get(pending.pop(0), timeout=replicas.stall_seconds)
        for refs in pending:
            yield ray.get(refs, timeout=replicas.stall_seconds)

    try:
        for first, last in pairwise(bounds):
            actors.append(kind.remote(unit[first:last].copy(), first, device=device))
        return sharded_neighbors(unit, k=k, query_shards=results, shards=count)
    except ray.exceptions.GetTimeoutError as error:
        raise ResourceError(
            f"{count} workers for the neighbours did not answer for {replicas.stall_seconds:g} s", hint=_HINT
        ) from error
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, LatentScaleError):
            raise error.cause from error
        raise
    except ray.exceptions.RayActorError as error:
        reason = " ".join(str(error).split())[:300]
        raise ResourceError(f"a worker with a shard of the vectors was lost: {reason}", hint=_HINT) from error
    finally:
        for actor in actors:
            ray.kill(actor)
