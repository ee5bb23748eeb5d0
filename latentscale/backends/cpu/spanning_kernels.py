"""Numba kernels of the minimum spanning tree of mutual reachability.

Points and nodes are in the order of a k-d tree. ``lower`` and ``upper`` are the corners of the nodes' boxes; the points
of a node are ``node_start[node]:node_end[node]``; its children are ``2 * node + 1`` and ``2 * node + 2``. An edge has
as its weight the mutual reachability distance of its ends.
"""

# pyright: basic

import numpy as np

from latentscale.backends.cpu.compiled import kernel

# Of the traversal of a tree: more levels than a balanced tree of 2^31 points has.
_STACK_SIZE = 128


@kernel(fastmath=False)
def knn_of_leaves(points, lower, upper, node_start, node_end, is_leaf, leaves, start, stop, knn_indices, knn_distances):
    """Find the exact k nearest neighbours of the points of the leaves ``start:stop``, without the points themselves.

    ``knn_indices`` and ``knn_distances`` (n, k) are filled in ascending order; the caller sets them to -1 and infinity.
    """
    n_dims, k = points.shape[1], knn_indices.shape[1]
    stack, bounds = np.empty(_STACK_SIZE, np.int64), np.empty(_STACK_SIZE, np.float64)
    for position in range(start, stop):
        for point in range(node_start[leaves[position]], node_end[leaves[position]]):
            stack[0], bounds[0], depth = 0, 0.0, 1
            while depth > 0:
                depth -= 1
                node = stack[depth]
                if bounds[depth] >= knn_distances[point, k - 1]:
                    continue
                if is_leaf[node]:
                    for other in range(node_start[node], node_end[node]):
                        if other == point:
                            continue
                        squared = 0.0
                        for d in range(n_dims):
                            difference = points[point, d] - points[other, d]
                            squared += difference * difference
                        # Distances stay squared until the search of this point is complete.
                        if squared >= knn_distances[point, k - 1]:
                            continue
                        slot = k - 1
                        while slot > 0 and knn_distances[point, slot - 1] > squared:
                            knn_distances[point, slot] = knn_distances[point, slot - 1]
                            knn_indices[point, slot] = knn_indices[point, slot - 1]
                            slot -= 1
                        knn_distances[point, slot] = squared
                        knn_indices[point, slot] = other
                    continue
                near, far = 2 * node + 1, 2 * node + 2
                near_bound = _squared_distance_to_box(points[point], lower[near], upper[near])
                far_bound = _squared_distance_to_box(points[point], lower[far], upper[far])
                # The nearer child is popped first.
                if near_bound > far_bound:
                    near, far, near_bound, far_bound = far, near, far_bound, near_bound
                stack[depth], bounds[depth] = far, far_bound
                stack[depth + 1], bounds[depth + 1] = near, near_bound
                depth += 2
            for slot in range(k):
                knn_distances[point, slot] = np.sqrt(knn_distances[point, slot])


@kernel(fastmath=False)
def _squared_distance_to_box(point, lower, upper):
    """Return the squared distance of a point to an axis-aligned box."""
    squared = 0.0
    for d in range(point.shape[0]):
        difference = max(lower[d] - point[d], point[d] - upper[d], 0.0)
        squared += difference * difference
    return squared


@kernel(fastmath=False)
def _squared_distance_of_boxes(lower, upper, other_lower, other_upper):
    """Return the squared distance between two axis-aligned boxes."""
    squared = 0.0
    for d in range(lower.shape[0]):
        difference = max(other_lower[d] - upper[d], lower[d] - other_upper[d], 0.0)
        squared += difference * difference
    return squared


@kernel(fastmath=False)
def update_node_components(node_start, node_end, is_leaf, component, node_component):
    """Set the component of each node all of whose points are in one component, and -1 for the others."""
    for node in range(node_start.shape[0] - 1, -1, -1):
        if is_leaf[node]:
            common = component[node_start[node]]
            for point in range(node_start[node] + 1, node_end[node]):
                if component[point] != common:
                    common = -1
                    break
            node_component[node] = common
        else:
            left, right = node_component[2 * node + 1], node_component[2 * node + 2]
            node_component[node] = left if left == right else -1


@kernel(fastmath=False)
def node_minima(node_start, node_end, is_leaf, values, minima):
    """Set ``minima`` (nodes,) to the smallest of ``values`` (n,) among the points of each node."""
    for node in range(node_start.shape[0] - 1, -1, -1):
        if is_leaf[node]:
            smallest = values[node_start[node]]
            for point in range(node_start[node] + 1, node_end[node]):
                smallest = min(smallest, values[point])
            minima[node] = smallest
        else:
            minima[node] = min(minima[2 * node + 1], minima[2 * node + 2])


@kernel(fastmath=False)
def _is_lighter(weight, start, end, other_weight, other_start, other_end):
    """Order edges by weight, then by their ends: a total order, so that Borůvka's choices form no cycle."""
    if weight != other_weight:
        return weight < other_weight
    low, high = min(start, end), max(start, end)
    other_low, other_high = min(other_start, other_end), max(other_start, other_end)
    return low < other_low or (low == other_low and high < other_high)


@kernel(fastmath=False)
def candidates_from_knn(knn_indices, knn_distances, core, component, start, stop, candidate, weight):
    """Set the lightest edge of each point to another component among its nearest neighbours.

    ``candidate`` (n,) becomes the other end, -1 where all neighbors are in the point's own component; ``weight`` (n,)
    the weight of the edge, infinite there.
    """
    for point in range(start, stop):
        candidate[point], weight[point] = -1, np.inf
        for slot in range(knn_indices.shape[1]):
            other = knn_indices[point, slot]
            if other < 0 or max(knn_distances[point, slot], core[point]) > weight[point]:
                break
            if component[other] == component[point]:
                continue
            reachability = max(knn_distances[point, slot], core[point], core[other])
            if candidate[point] < 0 or _is_lighter(reachability, point, other, weight[point], point, candidate[point]):
                candidate[point], weight[point] = other, reachability


@kernel(fastmath=False)
def component_bounds(component, weight, bound):
    """Lower ``bound`` (components,) to the smallest weight of a candidate of each component."""
    for point in range(component.shape[0]):
        bound[component[point]] = min(bound[component[point]], weight[point])


@kernel(fastmath=False)
def candidates_from_tree(
    points,
    lower,
    upper,
    node_start,
    node_end,
    is_leaf,
    leaves,
    start,
    stop,
    core,
    node_core,
    unlisted_bound,
    component,
    node_component,
    candidate,
    weight,
    bound,
):
    """Replace candidates by lighter edges, where there are any, for the points of the leaves ``start:stop``.

    ``unlisted_bound`` (n,) is a lower bound of the weight of an edge to a point that is not among the nearest
    neighbours. ``bound`` (components,) may be shared by threads that search other leaves: it is always the weight of an
    existing edge, and edges of equal weight are compared as well, so the lightest edge of a component does not depend
    on the order in which the threads find it.
    """
    n_dims = points.shape[1]
    stack, node_bounds = np.empty(_STACK_SIZE, np.int64), np.empty(_STACK_SIZE, np.float64)
    for position in range(start, stop):
        leaf = leaves[position]
        smallest_core, leaf_bound = np.inf, -np.inf
        for point in range(node_start[leaf], node_end[leaf]):
            if unlisted_bound[point] <= bound[component[point]]:
                smallest_core = min(smallest_core, core[point])
                leaf_bound = max(leaf_bound, bound[component[point]])
        if leaf_bound < 0:
            continue
        leaf_component = node_component[leaf]
        stack[0], node_bounds[0], depth = 0, 0.0, 1
        while depth > 0:
            depth -= 1
            node = stack[depth]
            if node_bounds[depth] > leaf_bound or (leaf_component >= 0 and node_component[node] == leaf_component):
                continue
            if not is_leaf[node]:
                near, far = 2 * node + 1, 2 * node + 2
                near_bound = max(
                    np.sqrt(_squared_distance_of_boxes(lower[leaf], upper[leaf], lower[near], upper[near])),
                    smallest_core,
                    node_core[near],
                )
                far_bound = max(
                    np.sqrt(_squared_distance_of_boxes(lower[leaf], upper[leaf], lower[far], upper[far])),
                    smallest_core,
                    node_core[far],
                )
                if near_bound > far_bound:
                    near, far, near_bound, far_bound = far, near, far_bound, near_bound
                stack[depth], node_bounds[depth] = far, far_bound
                stack[depth + 1], node_bounds[depth + 1] = near, near_bound
                depth += 2
                continue
            leaf_bound = -np.inf
            for point in range(node_start[leaf], node_end[leaf]):
                limit = bound[component[point]]
                if unlisted_bound[point] > limit:
                    continue
                for other in range(node_start[node], node_end[node]):
                    if component[other] == component[point] or core[other] > limit:
                        continue
                    squared = 0.0
                    for d in range(n_dims):
                        difference = points[point, d] - points[other, d]
                        squared += difference * difference
                    reachability = max(np.sqrt(squared), core[point], core[other])
                    if reachability > limit:
                        continue
                    if candidate[point] < 0 or _is_lighter(
                        reachability, point, other, weight[point], point, candidate[point]
                    ):
                        candidate[point], weight[point] = other, reachability
                        limit = reachability
                        if reachability < bound[component[point]]:
                            bound[component[point]] = reachability
                leaf_bound = max(leaf_bound, limit)


@kernel(fastmath=False)
def merge_components(component, n_components, candidate, weight, edges, edge_weights):
    """Add the lightest outgoing edge of each component to the tree, and relabel the components by union-find.

    Writes the added edges to the first rows of ``edges`` (m, 2) and ``edge_weights`` (m,), and relabels ``component``
    (n,) in place. Returns how many edges were added, and how many components remain.
    """
    lightest = np.full(n_components, -1, np.int64)
    for point in range(component.shape[0]):
        if candidate[point] < 0:
            continue
        best = lightest[component[point]]
        if best < 0 or _is_lighter(weight[point], point, candidate[point], weight[best], best, candidate[best]):
            lightest[component[point]] = point
    parent = np.arange(n_components)
    n_added = 0
    for label in range(n_components):
        point = lightest[label]
        if point < 0:
            continue
        a, b = _find_root(parent, label), _find_root(parent, component[candidate[point]])
        if a != b:
            parent[max(a, b)] = min(a, b)
            edges[n_added, 0], edges[n_added, 1], edge_weights[n_added] = point, candidate[point], weight[point]
            n_added += 1
    relabeled = np.full(n_components, -1, np.int64)
    n_left = 0
    for label in range(n_components):
        root = _find_root(parent, label)
        if relabeled[root] < 0:
            relabeled[root] = n_left
            n_left += 1
        relabeled[label] = relabeled[root]
    for point in range(component.shape[0]):
        component[point] = relabeled[component[point]]
    return n_added, n_left


@kernel(fastmath=False)
def _find_root(parent, label):
    """Find with path halving."""
    while parent[label] != label:
        parent[label] = parent[parent[label]]
        label = parent[label]
    return label
