"""Coarser layers of clusters by Ward's method: a tree in which every group has at least two children."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from latentscale.backends.grouping import ids_by_size

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Merges", "layer_tree", "ward_merges"]

# Smallest useful number of groups: of the first coarser layer, and of those above it.
_MIN_GROUPS_FIRST, _MIN_GROUPS = 3.0, 4.5
# With fewer clusters there are no coarser layers, unless requested.
_MIN_CLUSTERS = 8
# The number of groups may differ from the target by this factor, to be where groups are best separated.
_TOLERANCE = 1.5
# Cuts tried to meet a requested number, which merging single children reduces.
_CUTS_TRIED = 40
# Beyond this relative error, single children are merged in pairs instead, which removes fewer groups.
_MAX_RELATIVE_ERROR = 0.1


def layer_tree(
    centroids: NDArray[np.float32],
    sizes: NDArray[Any],
    *,
    factor: float,
    max_layers: int,
    counts: Sequence[int] = (),
) -> list[NDArray[np.int32]]:
    """Group clusters into successively coarser layers by Ward's method (Ward 1963), weighted by their documents.

    Merging clusters of n and m documents costs ``n m / (n + m)`` times the squared distance of their centroids.
    Unweighted, small distant clusters would make up the top layer, and all others one group. Every group has at least
    two children in the layer below: a group of one is merged into the group with the smallest cost.

    Parameters
    ----------
    centroids : float32 ndarray, shape (k, dim)
    sizes : int ndarray, shape (k,)
        Documents of each cluster; group ids are by descending size.
    factor : float
        Without ``counts``, each layer has about ``factor`` times fewer groups than the one below. Within a factor of
        1.5 of that, the number is chosen by the largest relative increase of the merge cost: the resolution that
        persists longest.
    max_layers : int
        Largest number of coarser layers.
    counts : sequence of int
        Requested number of groups of each coarser layer, descending; the nearest number without single children is
        used.

    Returns
    -------
    list of int32 ndarray, shape (k,)
        For each coarser layer, from fine to coarse, the group of each of the finest clusters. Without ``counts``, empty
        for fewer than 8 clusters; the first layer has at least 3 groups, further ones at least 5. With ``counts``, a
        layer for which too few groups are left is omitted.
    """
    layers: list[NDArray[np.int32]] = []
    centers, weights = np.asarray(centroids, np.float64), np.maximum(np.asarray(sizes, np.float64), 1.0)
    group_of_cluster = np.arange(len(centers), dtype=np.int32)
    documents = np.asarray(sizes, np.float64)
    if not counts and len(centers) < _MIN_CLUSTERS:
        return []
    while len(layers) < (len(counts) if counts else max_layers):
        merges = ward_merges(centers, weights)
        if counts:
            group_ids = _requested_cut(merges, centers, weights, counts[len(layers)])
        else:
            target = len(group_of_cluster) / factor ** (len(layers) + 1)
            target = target if layers else max(_MIN_GROUPS_FIRST, target)
            if layers and target < _MIN_GROUPS:
                break
            group_ids = _best_separated_cut(
                merges, centers, weights, target, smallest=_MIN_GROUPS if layers else _MIN_GROUPS_FIRST
            )
        if group_ids is None:
            break
        group_of_cluster = group_ids[group_of_cluster]
        layers.append(ids_by_size(group_of_cluster, documents))
        centers, weights = _group_means(centers, weights, group_ids)
    return layers


class Merges:
    """The merges of Ward's method, from one group per point to a single one.

    Attributes
    ----------
    pairs : list of (int, int)
        The merged groups, each identified by its lowest point.
    costs : float64 ndarray, shape (k - 1,)
        Cost of each merge; non-decreasing.
    """

    def __init__(self, k: int, pairs: list[tuple[int, int]], costs: NDArray[np.float64]) -> None:
        self.pairs, self.costs = pairs, costs
        self._k = k

    def cut(self, groups: int) -> NDArray[np.int32]:
        """Return the group of each point, with ids from 0, when ``groups`` are left."""
        group_of_point = np.arange(self._k, dtype=np.int32)
        done = self.pairs[: max(self._k - groups, 0)]
        if done:
            survivor, merged_away = np.array(done, dtype=np.int32).T
            group_of_point[merged_away] = survivor
        # Pointer jumping: a merged group points to one with a lower id.
        while (group_of_point[group_of_point] != group_of_point).any():
            group_of_point = group_of_point[group_of_point]
        return np.unique(group_of_point, return_inverse=True)[1].astype(np.int32)

    def separation(self, groups: int) -> float:
        """Return how well separated this number of groups is: the relative increase of the cost at the next merge.

        The log ratio of the two costs, times the number of groups, as costs rise faster the fewer groups are left.
        """
        if groups < 2 or groups >= self._k:
            return 0.0
        before, after = self.costs[self._k - groups - 1], self.costs[self._k - groups]
        return groups * float(np.log(max(after, 1e-12) / max(before, 1e-12)))


def ward_merges(centers: NDArray[np.float64], weights: NDArray[np.float64]) -> Merges:
    """Merge weighted points by Ward's method (Ward 1963) until one group is left.

    Parameters
    ----------
    centers : float64 ndarray, shape (k, dim)
    weights : float64 ndarray, shape (k,)
        Positive.
    """
    from latentscale.backends.cpu.parallel import one_blas_thread

    k = len(centers)
    centers, weights = centers.copy(), weights.copy()
    squares = np.einsum("ij,ij->i", centers, centers)
    is_alive = np.ones(k, dtype=bool)
    pairs: list[tuple[int, int]] = []
    merge_costs = np.zeros(max(k - 1, 0))

    def merge_costs_of(group: int) -> NDArray[np.float64]:
        squared = np.maximum(squares + squares[group] - 2.0 * (centers @ centers[group]), 0.0)
        cost = squared * weights * weights[group] / (weights + weights[group])
        cost[~is_alive] = np.inf
        cost[group] = np.inf
        return cost

    with one_blas_thread():
        costs = np.empty((k, k))
        for group in range(k):
            costs[group] = merge_costs_of(group)
        nearest = costs.argmin(axis=1) if k else np.empty(0, np.int64)
        smallest = costs[np.arange(k), nearest]
        for step in range(k - 1):
            first = int(smallest.argmin())
            merge_costs[step] = smallest[first]
            first, second = sorted((first, int(nearest[first])))
            pairs.append((first, second))
            total = weights[first] + weights[second]
            centers[first] = (weights[first] * centers[first] + weights[second] * centers[second]) / total
            squares[first] = centers[first] @ centers[first]
            weights[first] = total
            is_alive[second] = False
            costs[second] = costs[:, second] = np.inf
            costs[first] = costs[:, first] = merge_costs_of(first)
            # Only rows whose nearest was one of the two, or to which the merged group is now nearer, change.
            stale = np.flatnonzero(is_alive & ((nearest == first) | (nearest == second) | (costs[:, first] < smallest)))
            for row in (*stale.tolist(), first):
                nearest[row] = int(costs[row].argmin())
                smallest[row] = costs[row, nearest[row]]
            smallest[second] = np.inf
    return Merges(k, pairs, np.maximum.accumulate(merge_costs) if k > 1 else merge_costs)


def _requested_cut(
    merges: Merges, centers: NDArray[np.float64], weights: NDArray[np.float64], wanted: int
) -> NDArray[np.int32] | None:
    """Find the cut nearest to ``wanted`` groups after merging single children; None if fewer than 2 are left."""
    largest = len(centers) // 2
    if largest < 2:
        return None
    wanted = min(wanted, largest)
    tried = np.unique(np.linspace(wanted, len(centers) - 1, _CUTS_TRIED).round().astype(int))
    cuts = [_without_single_children(merges.cut(int(groups)), centers, weights) for groups in tried]
    best = min(cuts, key=lambda cut: abs(_n_groups(cut) - wanted))
    if abs(_n_groups(best) - wanted) > _MAX_RELATIVE_ERROR * wanted:
        best = _paired_cut(merges, centers, weights, wanted)
    return best if _n_groups(best) > 1 else None


def _paired_cut(
    merges: Merges, centers: NDArray[np.float64], weights: NDArray[np.float64], wanted: int
) -> NDArray[np.int32]:
    """Find the first cut that has ``wanted`` groups after merging its single children in pairs, cheapest first."""
    groups = len(centers) - 1
    while groups > wanted:
        single = np.count_nonzero(np.bincount(merges.cut(groups)) == 1)
        if groups - (single + 1) // 2 <= wanted:
            break
        groups -= 1
    group_ids = merges.cut(groups)
    means, totals = _group_means(centers, weights, group_ids)
    singles = np.flatnonzero(np.bincount(group_ids) == 1)
    squared = np.square(means[singles][:, None] - means[singles][None]).sum(axis=2)
    costs = (
        squared * totals[singles][:, None] * totals[singles][None] / (totals[singles][:, None] + totals[singles][None])
    )
    costs[np.tril_indices(len(singles))] = np.inf
    paired = np.zeros(len(singles), dtype=np.bool_)
    for at in np.argsort(costs, axis=None, kind="stable").tolist():
        group, other = divmod(at, len(singles))
        if np.isinf(costs[group, other]):
            break
        if not (paired[group] or paired[other]):
            paired[[group, other]] = True
            group_ids[group_ids == singles[other]] = singles[group]
    return _without_single_children(np.unique(group_ids, return_inverse=True)[1].astype(np.int32), centers, weights)


def _best_separated_cut(
    merges: Merges, centers: NDArray[np.float64], weights: NDArray[np.float64], target: float, *, smallest: float
) -> NDArray[np.int32] | None:
    """Find the best separated cut into about ``target`` groups; None for fewer than 2."""
    low, high = max(target / _TOLERANCE, smallest), target * _TOLERANCE
    middle = round(target)
    # Merging single children reduces the number of groups of a cut.
    cuts = range(int(np.ceil(low)), min(len(centers) - 1, round(high * _TOLERANCE)) + 1)
    best: NDArray[np.int32] | None = None
    # Ties: the number nearest to the target.
    for groups in sorted(cuts, key=lambda n: (-round(merges.separation(n), 6), abs(n - middle))):
        group_ids = _without_single_children(merges.cut(groups), centers, weights)
        if low <= _n_groups(group_ids) <= max(high, low + 1):
            return group_ids
        if _n_groups(group_ids) > 1 and (
            best is None or abs(_n_groups(group_ids) - middle) < abs(_n_groups(best) - middle)
        ):
            best = group_ids
    return best


def _n_groups(group_ids: NDArray[np.int32]) -> int:
    return int(group_ids.max()) + 1


def _without_single_children(
    group_ids: NDArray[np.int32], centers: NDArray[np.float64], weights: NDArray[np.float64]
) -> NDArray[np.int32]:
    """Merge each group with one child, smallest first, into the group with the lowest cost; relabel from 0."""
    group_ids = group_ids.copy()
    means, totals = _group_means(centers, weights, group_ids)
    children = np.bincount(group_ids)
    squares = np.einsum("ij,ij->i", means, means)
    for group in np.flatnonzero(children == 1)[np.argsort(totals[children == 1], kind="stable")].tolist():
        if children[group] != 1 or np.count_nonzero(children) == 1:
            continue
        squared = np.maximum(squares + squares[group] - 2.0 * (means @ means[group]), 0.0)
        cost = squared * totals * totals[group] / (totals + totals[group])
        cost[(children == 0) | (np.arange(len(children)) == group)] = np.inf
        other = int(np.argmin(cost))
        total = totals[other] + totals[group]
        means[other] = (totals[other] * means[other] + totals[group] * means[group]) / total
        squares[other] = means[other] @ means[other]
        totals[other] = total
        children[other] += 1
        children[group] = 0
        group_ids[group_ids == group] = other
    return np.unique(group_ids, return_inverse=True)[1].astype(np.int32)


def _group_means(
    centers: NDArray[np.float64], weights: NDArray[np.float64], group_ids: NDArray[np.int32]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Compute weighted means and total weights of groups of points."""
    from scipy.sparse import csr_array

    totals = np.bincount(group_ids, weights=weights).astype(np.float64)
    of_group = csr_array((weights, (group_ids, np.arange(len(group_ids)))), shape=(len(totals), len(group_ids)))
    return np.asarray(of_group @ centers) / totals[:, None], totals
