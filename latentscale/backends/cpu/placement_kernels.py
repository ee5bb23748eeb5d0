"""Numba kernels of the best-first search of a neighbour graph."""

# pyright: basic

import numpy as np

from latentscale.backends.cpu.compiled import kernel


@kernel()
def search_graph(
    queries, excluded, start, stop, fitted, edges, entries, visited, indices, squared_distances, unexpanded
):
    """Best-first search (as in Malkov and Yashunin 2018, algorithm 2) for the queries ``start:stop``.

    ``indices`` and ``squared_distances`` (rows, width) become the nearest found so far, in ascending order; -1 where
    there are fewer. ``excluded`` is a fitted row that a query ignores (-1: none), for measuring recall on fitted rows.
    ``visited`` is a scratch array of one uint32 per fitted row, zero at the start; ``unexpanded`` one flag per slot.
    """
    width = indices.shape[1]
    dim = fitted.shape[1]
    for row in range(start, stop):
        stamp = np.uint32(row - start + 1)
        n_found = 0
        for slot in range(width):
            indices[row, slot] = -1
            squared_distances[row, slot] = np.float32(np.inf)
        if excluded[row] >= 0:
            visited[excluded[row]] = stamp
        expanding = np.int64(-1)
        while True:
            # The entry points first, then the neighbours of the nearest unexpanded row.
            if expanding < 0:
                candidates = entries[row]
            else:
                unexpanded[expanding] = False
                candidates = edges[indices[row, expanding]]
            for c in range(candidates.shape[0]):
                other = candidates[c]
                if other < 0:
                    break
                if visited[other] == stamp:
                    continue
                visited[other] = stamp
                squared = np.float32(0.0)
                for d in range(dim):
                    difference = queries[row, d] - fitted[other, d]
                    squared += difference * difference
                if squared >= squared_distances[row, width - 1]:
                    continue
                slot = min(n_found, width - 1)
                while slot > 0 and (
                    squared_distances[row, slot - 1] > squared
                    or (squared_distances[row, slot - 1] == squared and indices[row, slot - 1] > other)
                ):
                    squared_distances[row, slot] = squared_distances[row, slot - 1]
                    indices[row, slot] = indices[row, slot - 1]
                    unexpanded[slot] = unexpanded[slot - 1]
                    slot -= 1
                squared_distances[row, slot] = squared
                indices[row, slot] = other
                unexpanded[slot] = True
                n_found = min(n_found + 1, width)
            expanding = np.int64(-1)
            for slot in range(n_found):
                if unexpanded[slot]:
                    expanding = np.int64(slot)
                    break
            if expanding < 0:
                break


@kernel()
def add_reverse_edges(edges, forward, out):
    """Fill ``out`` (n, m) with the first ``forward`` neighbours of each row, then with rows it is a neighbour of.

    Reverse edges are ordered by the rank of the row in the other's list; the rest is -1.
    """
    n, k = edges.shape
    size = out.shape[1]
    n_filled = np.zeros(n, np.int32)
    for row in range(n):
        for c in range(min(k, forward)):
            if edges[row, c] >= 0:
                out[row, n_filled[row]] = edges[row, c]
                n_filled[row] += 1
    for c in range(k):
        for row in range(n):
            other = edges[row, c]
            if other < 0 or n_filled[other] == size:
                continue
            is_known = False
            for slot in range(min(n_filled[other], forward)):
                if out[other, slot] == row:
                    is_known = True
                    break
            if not is_known:
                out[other, n_filled[other]] = row
                n_filled[other] += 1
    for row in range(n):
        for slot in range(n_filled[row], size):
            out[row, slot] = -1
