"""Compiled entry points to pynndescent's NN-descent for unit rows.

The library passes its distance function to compiled code as an argument and reads numba's thread count there, and numba
can cache neither between processes. These entry points call the parts of pynndescent 0.7 that need neither.
"""

# pyright: basic

from pynndescent.kernels import KERNEL_ALT_DOT, generate_graph_update_array_batched
from pynndescent.utils import (
    apply_sorted_graph_update_array,
    build_candidates_owner,
    deheap_sort,
    make_heap,
    sort_updates_by_block,
)

from latentscale.backends.cpu.compiled import kernel


@kernel(fastmath=False)
def empty_graph(n, width):
    """Allocate a heap of ``width`` neighbours for each of ``n`` rows."""
    return make_heap(n, width)


@kernel(fastmath=False)
def collect_candidates(
    graph, width, rng_state, lanes, new, new_order, old, old_order, active, targets, sources, bounds
):
    """Collect the new and old candidates of each row for this round."""
    build_candidates_owner(
        graph, width, rng_state, lanes, new, new_order, old, old_order, active, targets, sources, bounds
    )


@kernel(fastmath=False)
def join(unit, graph, new, old, lanes, updates, counts, sorted_updates, offsets):
    """Compare the members of each row of ``new`` with each other and with ``old``; returns the number of changes."""
    generate_graph_update_array_batched(updates, counts, new, old, graph, unit, KERNEL_ALT_DOT, lanes)
    sort_updates_by_block(updates, counts, sorted_updates, offsets, unit.shape[0], lanes)
    return apply_sorted_graph_update_array(graph, sorted_updates, offsets, lanes)


@kernel(fastmath=False)
def sorted_neighbors(graph):
    """Turn the heaps into positions, nearest first."""
    found, _ = deheap_sort(graph[0], graph[1])
    return found
