"""Approximate nearest neighbours by pynndescent's NN-descent (Dong, Moses and Li 2011), compiled once per machine."""

from __future__ import annotations

import os
import threading
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

from latentscale.backends.cpu.compiled import import_cached
from latentscale.backends.cpu.parallel import blocks

if TYPE_CHECKING:
    from numpy.typing import NDArray

# Number of parallel lanes, fixed whatever the number of threads: the result does not depend on the machine.
_LANES = 8
_LEAVES = 8
_BLOCK_ROWS = 16384
_MOST_CANDIDATES = 60
# numba has one thread pool per process, and its default layer is not reentrant.
_numba_lock = threading.Lock()
_WAIT_POLICY = "OMP_WAIT_POLICY"


def nn_descent(
    unit: NDArray[np.float32], *, width: int, trees: float, delta: float, seed: int, threads: int
) -> NDArray[np.int32]:
    """Find ``width`` approximate nearest rows of each row.

    Parameters
    ----------
    unit : float32 ndarray, shape (n, dim)
        Rows of length 1.
    width : int
        At most ``n``; the row itself is usually among them.
    trees : float
        Random projection trees to start from, as a multiple of the library's default of 2 log10(n).
    delta : float
        Stop when a round changes less than this share of all neighbours.

    Returns
    -------
    int32 ndarray, shape (n, width)
        Nearest first; -1 where fewer were found.
    """
    import numba

    with _numba_lock:
        _start_threads()
    import_cached("pynndescent")
    from pynndescent.hybrid_forest import make_hybrid_leaf_array

    library: Any = numba
    # pynndescent draws its seeds from a RandomState.
    state = np.random.RandomState(seed & 0xFFFFFFFF)
    rng_state = state.randint(-(2**31) + 1, 2**31 - 1, 3).astype(np.int64)
    with _numba_lock:
        before = numba.get_num_threads()
        numba.set_num_threads(max(1, min(threads, library.config.NUMBA_NUM_THREADS)))
        try:
            leaves = make_hybrid_leaf_array(
                unit,
                max(3, min(24, round(trees * 2.0 * np.log10(len(unit))))),
                max(60, min(256, 5 * width)),
                int(state.randint(0, 2**62, dtype=np.int64)),
                angular=True,
                max_depth=200,
            )
            return _rounds(unit, width, rng_state, leaves, delta)
        finally:
            numba.set_num_threads(before)


@cache
def _start_threads() -> None:
    """Start numba's threads, unless they are running, with a passive wait policy.

    Idle threads of GNU OpenMP spin by default, which takes CPU time from everything else (docs/decisions/0008). The
    variable is read once, when numba loads OpenMP; a value set by the user is kept.
    """
    import numba

    if _WAIT_POLICY in os.environ:
        numba.get_num_threads()
        return
    os.environ[_WAIT_POLICY] = "PASSIVE"
    try:
        numba.get_num_threads()
    finally:
        os.environ.pop(_WAIT_POLICY, None)


def _rounds(
    unit: NDArray[np.float32], width: int, rng_state: NDArray[np.int64], leaves: NDArray[np.int32], delta: float
) -> NDArray[np.int32]:
    """The steps of ``pynndescent_.nn_descent``: join the leaves of the trees, then neighbours of neighbours."""
    from latentscale.backends.cpu.descent_kernels import collect_candidates, empty_graph, join, sorted_neighbors

    n = len(unit)
    candidates = min(_MOST_CANDIDATES, width)
    graph = empty_graph(n, width)

    leaves = np.ascontiguousarray(leaves, np.int32)
    no_candidates = np.full((_LANES * _LEAVES, 1), -1, np.int32)
    n_pairs = leaves.shape[1] * (leaves.shape[1] - 1) // 2
    store = _update_store((_LEAVES + 1) * n_pairs)
    for start, stop in blocks(len(leaves), _LANES * _LEAVES):
        join(unit, graph, leaves[start:stop], no_candidates[: stop - start], _LANES, *store)

    store = _update_store((candidates**2 + candidates * (candidates - 1) // 2) * (_BLOCK_ROWS // _LANES + 1))
    new, old = (np.full((n, candidates), -1, np.int32) for _ in range(2))
    new_order, old_order = (np.full((n, candidates), np.inf, np.float32) for _ in range(2))
    active = np.ones(n, np.uint8)
    targets, sources = (np.empty(n * width, np.int32) for _ in range(2))
    bounds = np.zeros((_LANES, _LANES + 1), np.int64)
    for _ in range(max(5, round(np.log2(n)))):
        collect_candidates(
            graph, candidates, rng_state, _LANES, new, new_order, old, old_order, active, targets, sources, bounds
        )
        changes = sum(
            int(join(unit, graph, new[start:stop], old[start:stop], _LANES, *store))
            for start, stop in blocks(n, _BLOCK_ROWS)
        )
        if changes <= delta * width * n:
            break
    return sorted_neighbors(graph)


def _update_store(
    capacity: int,
) -> tuple[NDArray[np.float32], NDArray[np.int32], NDArray[np.float32], NDArray[np.int64]]:
    """Allocate buffers for ``capacity`` updates per lane, each of which may affect two rows."""
    return (
        np.empty((_LANES, capacity, 3), np.float32),
        np.zeros(_LANES, np.int32),
        np.empty((_LANES, 2 * capacity, 3), np.float32),
        np.zeros((_LANES, _LANES + 1), np.int64),
    )
