"""The compiled loop that searches a neighbour graph for the nearest fitted documents of new ones."""

# pyright: basic

import numpy as np

from latentscale.backends.cpu.compiled import kernel


@kernel()
def search_graph(queries, own, start, stop, fitted, edges, entries, seen, near, squares, open_):
    """Best-first search (as in Malkov and Yashunin 2018, algorithm 2) for the queries ``start:stop``.

    ``near`` and ``squares`` (rows, width) hold each query's best so far, nearest first, and are what is found; -1 where
    there is none. ``own`` is a fitted row that a query must not see (-1: none), which is how recall is tried on fitted
    rows. ``seen`` is one uint32 a fitted row, zero at the start; ``open_`` one flag a slot of the best.
    """
    width = near.shape[1]
    dim = fitted.shape[1]
    for row in range(start, stop):
        mark = np.uint32(row - start + 1)
        found = 0
        for slot in range(width):
            near[row, slot] = -1
            squares[row, slot] = np.float32(np.inf)
        if own[row] >= 0:
            seen[own[row]] = mark
        expand = np.int64(-1)
        while True:
            # First the entries, then the neighbours of the nearest that was not expanded yet.
            if expand < 0:
                others = entries[row]
            else:
                open_[expand] = False
                others = edges[near[row, expand]]
            for c in range(others.shape[0]):
                other = others[c]
                if other < 0:
                    break
                if seen[other] == mark:
                    continue
                seen[other] = mark
                square = np.float32(0.0)
                for d in range(dim):
                    step = queries[row, d] - fitted[other, d]
                    square += step * step
                if square >= squares[row, width - 1]:
                    continue
                slot = min(found, width - 1)
                while slot > 0 and (
                    squares[row, slot - 1] > square
                    or (squares[row, slot - 1] == square and near[row, slot - 1] > other)
                ):
                    squares[row, slot] = squares[row, slot - 1]
                    near[row, slot] = near[row, slot - 1]
                    open_[slot] = open_[slot - 1]
                    slot -= 1
                squares[row, slot] = square
                near[row, slot] = other
                open_[slot] = True
                found = min(found + 1, width)
            expand = np.int64(-1)
            for slot in range(found):
                if open_[slot]:
                    expand = np.int64(slot)
                    break
            if expand < 0:
                break


@kernel()
def add_backward(edges, forward, both):
    """Fill ``both`` (n, more) with each row's ``forward`` neighbours, then with rows it is a neighbour of.

    Those that have it among their nearest come first; -1 fills the rest.
    """
    n, k = edges.shape
    size = both.shape[1]
    filled = np.zeros(n, np.int32)
    for row in range(n):
        for c in range(min(k, forward)):
            if edges[row, c] >= 0:
                both[row, filled[row]] = edges[row, c]
                filled[row] += 1
    for c in range(k):
        for row in range(n):
            other = edges[row, c]
            if other < 0 or filled[other] == size:
                continue
            known = False
            for slot in range(min(filled[other], forward)):
                if both[other, slot] == row:
                    known = True
                    break
            if not known:
                both[other, filled[other]] = row
                filled[other] += 1
    for row in range(n):
        for slot in range(filled[row], size):
            both[row, slot] = -1
