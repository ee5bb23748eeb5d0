"""The compiled loops of the spanning tree of mutual reachability; points and nodes are in the order of a k-d tree."""

# pyright: basic

import numpy as np

from latentscale.backends.cpu.compiled import kernel

# Of a way from one node to another: more levels than a balanced tree of 2^31 points has.
_DEPTH = 128


@kernel(fastmath=False)
def nearest_points(points, low, high, first, end, is_leaf, leaves, start, stop, near, apart):
    """Find the nearest others of the points of the leaves ``start:stop``, exactly.

    ``near`` and ``apart`` (n, k) become positions and distances, nearest first; they hold -1 and infinity before.
    """
    width, k = points.shape[1], near.shape[1]
    stack, gaps = np.empty(_DEPTH, np.int64), np.empty(_DEPTH, np.float64)
    for at in range(start, stop):
        for own in range(first[leaves[at]], end[leaves[at]]):
            stack[0], gaps[0], top = 0, 0.0, 1
            while top > 0:
                top -= 1
                node = stack[top]
                if gaps[top] >= apart[own, k - 1]:
                    continue
                if is_leaf[node]:
                    for other in range(first[node], end[node]):
                        if other == own:
                            continue
                        square = 0.0
                        for d in range(width):
                            step = points[own, d] - points[other, d]
                            square += step * step
                        # Squares until all are found.
                        if square >= apart[own, k - 1]:
                            continue
                        slot = k - 1
                        while slot > 0 and apart[own, slot - 1] > square:
                            apart[own, slot] = apart[own, slot - 1]
                            near[own, slot] = near[own, slot - 1]
                            slot -= 1
                        apart[own, slot] = square
                        near[own, slot] = other
                    continue
                one, two = 2 * node + 1, 2 * node + 2
                gap_one = _gap(points[own], low[one], high[one])
                gap_two = _gap(points[own], low[two], high[two])
                # The nearer one is taken first.
                if gap_one > gap_two:
                    one, two, gap_one, gap_two = two, one, gap_two, gap_one
                stack[top], gaps[top] = two, gap_two
                stack[top + 1], gaps[top + 1] = one, gap_one
                top += 2
            for slot in range(k):
                apart[own, slot] = np.sqrt(apart[own, slot])


@kernel(fastmath=False)
def _gap(point, low, high):
    """The squared distance of a point to a box."""
    square = 0.0
    for d in range(point.shape[0]):
        step = max(low[d] - point[d], point[d] - high[d], 0.0)
        square += step * step
    return square


@kernel(fastmath=False)
def _box_gap(low, high, other_low, other_high):
    """The squared distance of two boxes."""
    square = 0.0
    for d in range(low.shape[0]):
        step = max(other_low[d] - high[d], low[d] - other_high[d], 0.0)
        square += step * step
    return square


@kernel(fastmath=False)
def parts_of_nodes(first, end, is_leaf, part, node_part):
    """Name the part to which all points of a node belong; -1 for a node with points of several."""
    for node in range(first.shape[0] - 1, -1, -1):
        if is_leaf[node]:
            found = part[first[node]]
            for point in range(first[node] + 1, end[node]):
                if part[point] != found:
                    found = -1
                    break
            node_part[node] = found
        else:
            one, two = node_part[2 * node + 1], node_part[2 * node + 2]
            node_part[node] = one if one == two else -1


@kernel(fastmath=False)
def least_of_nodes(first, end, is_leaf, values, least):
    """The least of a value among the points of each node."""
    for node in range(first.shape[0] - 1, -1, -1):
        if is_leaf[node]:
            found = values[first[node]]
            for point in range(first[node] + 1, end[node]):
                found = min(found, values[point])
            least[node] = found
        else:
            least[node] = min(least[2 * node + 1], least[2 * node + 2])


@kernel(fastmath=False)
def _is_shorter(length, own, other, known, known_own, known_other):
    """Whether a way comes before another one: by length, then by its ends, so that all ways have one order."""
    if length != known:
        return length < known
    low, high = min(own, other), max(own, other)
    known_low, known_high = min(known_own, known_other), max(known_own, known_other)
    return low < known_low or (low == known_low and high < known_high)


@kernel(fastmath=False)
def known_ways(near, apart, core, part, start, stop, to, length):
    """Each point's shortest way to another part among those to its nearest points; -1 where they are in its own."""
    for own in range(start, stop):
        to[own], length[own] = -1, np.inf
        for slot in range(near.shape[1]):
            other = near[own, slot]
            if other < 0 or max(apart[own, slot], core[own]) > length[own]:
                break
            if part[other] == part[own]:
                continue
            way = max(apart[own, slot], core[own], core[other])
            if to[own] < 0 or _is_shorter(way, own, other, length[own], own, to[own]):
                to[own], length[own] = other, way


@kernel(fastmath=False)
def least_of_parts(part, length, least):
    """The shortest known way out of each part; ``least`` holds infinity before."""
    for point in range(part.shape[0]):
        least[part[point]] = min(least[part[point]], length[point])


@kernel(fastmath=False)
def search_ways(
    points,
    low,
    high,
    first,
    end,
    is_leaf,
    leaves,
    start,
    stop,
    core,
    least_core,
    reach,
    part,
    node_part,
    to,
    length,
    least,
):
    """Look for shorter ways than are known out of the parts of the points of the leaves ``start:stop``.

    ``reach`` is how near a point that is not among the nearest of each can be. ``least`` may be shared by threads that
    search other leaves: it holds the length of a way that there is, and ways of equal length are all looked at, so that
    the shortest way of a part is the same whatever they find when.
    """
    width = points.shape[1]
    stack, gaps = np.empty(_DEPTH, np.int64), np.empty(_DEPTH, np.float64)
    for at in range(start, stop):
        leaf = leaves[at]
        nearest, bound = np.inf, -np.inf
        for own in range(first[leaf], end[leaf]):
            if reach[own] <= least[part[own]]:
                nearest = min(nearest, core[own])
                bound = max(bound, least[part[own]])
        if bound < 0:
            continue
        own_part = node_part[leaf]
        stack[0], gaps[0], top = 0, 0.0, 1
        while top > 0:
            top -= 1
            node = stack[top]
            if gaps[top] > bound or (own_part >= 0 and node_part[node] == own_part):
                continue
            if not is_leaf[node]:
                one, two = 2 * node + 1, 2 * node + 2
                gap_one = max(np.sqrt(_box_gap(low[leaf], high[leaf], low[one], high[one])), nearest, least_core[one])
                gap_two = max(np.sqrt(_box_gap(low[leaf], high[leaf], low[two], high[two])), nearest, least_core[two])
                if gap_one > gap_two:
                    one, two, gap_one, gap_two = two, one, gap_two, gap_one
                stack[top], gaps[top] = two, gap_two
                stack[top + 1], gaps[top + 1] = one, gap_one
                top += 2
                continue
            bound = -np.inf
            for own in range(first[leaf], end[leaf]):
                limit = least[part[own]]
                if reach[own] > limit:
                    continue
                for other in range(first[node], end[node]):
                    if part[other] == part[own] or core[other] > limit:
                        continue
                    square = 0.0
                    for d in range(width):
                        step = points[own, d] - points[other, d]
                        square += step * step
                    way = max(np.sqrt(square), core[own], core[other])
                    if way > limit:
                        continue
                    if to[own] < 0 or _is_shorter(way, own, other, length[own], own, to[own]):
                        to[own], length[own] = other, way
                        limit = way
                        if way < least[part[own]]:
                            least[part[own]] = way
                bound = max(bound, limit)


@kernel(fastmath=False)
def join_parts(part, parts, to, length, ways, lengths):
    """Take the shortest way out of each part, and name the parts anew: how many ways were taken, and parts are left.

    ``ways`` (parts, 2) and ``lengths`` (parts,) become the ways.
    """
    best = np.full(parts, -1, np.int64)
    for own in range(part.shape[0]):
        if to[own] < 0:
            continue
        known = best[part[own]]
        if known < 0 or _is_shorter(length[own], own, to[own], length[known], known, to[known]):
            best[part[own]] = own
    above = np.arange(parts)
    taken = 0
    for one in range(parts):
        own = best[one]
        if own < 0:
            continue
        a, b = _root(above, one), _root(above, part[to[own]])
        if a != b:
            above[max(a, b)] = min(a, b)
            ways[taken, 0], ways[taken, 1], lengths[taken] = own, to[own], length[own]
            taken += 1
    names = np.full(parts, -1, np.int64)
    left = 0
    for one in range(parts):
        root = _root(above, one)
        if names[root] < 0:
            names[root] = left
            left += 1
        names[one] = names[root]
    for own in range(part.shape[0]):
        part[own] = names[part[own]]
    return taken, left


@kernel(fastmath=False)
def _root(above, one):
    while above[one] != one:
        above[one] = above[above[one]]
        one = above[one]
    return one
