"""The compiled loop that looks for the nearest fitted documents of new ones along a neighbour graph."""

# pyright: basic

import numpy as np

from latentscale.backends.cpu.compiled import kernel


@kernel()
def search_graph(queries, own, start, stop, fitted, edges, entries, seen, near, squares, open_):
    """Best-first search (as in Malkov and Yashunin 2018, algorithm 2) for the queries ``start:stop``.

    ``near`` and ``squares`` (rows, width) hold each query's best so far, nearest first, and are what is found; -1 where
    there is none. ``own`` is a fitted row that a query must not see (-1: none), which is how recall is tried on fitted
    rows. ``seen`` is one uint32 a fitted row, zero at the start; ``open_`` one flag a place of the best.
    """
    width = near.shape[1]
    dim = fitted.shape[1]
    for row in range(start, stop):
        mark = np.uint32(row - start + 1)
        found = 0
        for place in range(width):
            near[row, place] = -1
            squares[row, place] = np.float32(np.inf)
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
                place = min(found, width - 1)
                while place > 0 and (
                    squares[row, place - 1] > square
                    or (squares[row, place - 1] == square and near[row, place - 1] > other)
                ):
                    squares[row, place] = squares[row, place - 1]
                    near[row, place] = near[row, place - 1]
                    open_[place] = open_[place - 1]
                    place -= 1
                squares[row, place] = square
                near[row, place] = other
                open_[place] = True
                found = min(found + 1, width)
            expand = np.int64(-1)
            for place in range(found):
                if open_[place]:
                    expand = np.int64(place)
                    break
            if expand < 0:
                break


@kernel()
def add_backward(edges, forward, both):
    """Give each row its ``forward`` neighbours and, in what is left of ``both`` (n, more), rows it is a neighbour of.

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
            for place in range(min(filled[other], forward)):
                if both[other, place] == row:
                    known = True
                    break
            if not known:
                both[other, filled[other]] = row
                filled[other] += 1
    for row in range(n):
        for place in range(filled[row], size):
            both[row, place] = -1
