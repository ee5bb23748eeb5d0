"""Join clusters into coarser and coarser layers by Ward's method: a tree in which no branch has a single child."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from latentscale.backends.grouping import ids_by_size

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Merges", "layer_tree", "ward_merges"]

# Fewer groups cannot be named: of the first coarser layer, and of those above it.
_LEAST_FIRST, _LEAST_GROUPS = 3.0, 4.5
# Of fewer clusters there is no coarser layer, unless one is ordered.
_LEAST_CLUSTERS = 8
# How far the number of groups may be from the factor's, to be where the groups are most clearly apart.
_AROUND = 1.5
# Cuts that are tried to meet an ordered number, with what the single children that each leaves take away from it.
_CUTS_TRIED = 40
# Further off than this, single children are paired with each other instead, which takes fewer groups away.
_OFF = 0.1


def layer_tree(
    centroids: NDArray[np.float32],
    sizes: NDArray[Any],
    *,
    factor: float,
    max_layers: int,
    counts: Sequence[int] = (),
) -> list[NDArray[np.int32]]:
    """Group clusters into coarser and coarser layers by Ward's method over their documents.

    Each cluster counts as its documents at its centroid: merging two costs ``n m / (n + m)`` times their squared
    distance (Ward 1963). Counted once each, small far clusters would be the top layer and all others one group. A
    group of a layer holds at least two of the layer below: one that no other joined is joined to that which costs
    least.

    Parameters
    ----------
    centroids : float32 ndarray, shape (k, dim)
    sizes : int ndarray, shape (k,)
        Documents of each cluster; ids of a layer's groups run by falling size.
    factor : float
        Without ``counts``, each layer has about so many times fewer groups than the one below. Within a factor of
        1.5 of that, the number is that at which the next merge costs most compared with the last one: the
        resolution that persists longest.
    max_layers : int
        Coarser layers at most.
    counts : sequence of int
        Groups of each coarser layer, falling; the nearest number that leaves no single child is taken.

    Returns
    -------
    list of int32 ndarray, shape (k,)
        For each coarser layer, from fine to coarse, the group of each of the finest clusters. Without ``counts``
        nothing for fewer than 8 clusters; the first has at least 3 groups, and those above it at least 5: fewer
        cannot be named. With ``counts``, a layer for which too few groups are left is left out.
    """
    layers: list[NDArray[np.int32]] = []
    centers, weights = np.asarray(centroids, np.float64), np.maximum(np.asarray(sizes, np.float64), 1.0)
    of_cluster = np.arange(len(centers), dtype=np.int32)
    documents = np.asarray(sizes, np.float64)
    if not counts and len(centers) < _LEAST_CLUSTERS:
        return []
    while len(layers) < (len(counts) if counts else max_layers):
        merges = ward_merges(centers, weights)
        if counts:
            part = _ordered_cut(merges, centers, weights, counts[len(layers)])
        else:
            target = len(of_cluster) / factor ** (len(layers) + 1)
            target = target if layers else max(_LEAST_FIRST, target)
            if layers and target < _LEAST_GROUPS:
                break
            part = _clear_cut(merges, centers, weights, target, least=_LEAST_GROUPS if layers else _LEAST_FIRST)
        if part is None:
            break
        of_cluster = part[of_cluster]
        layers.append(ids_by_size(of_cluster, documents))
        centers, weights = _joined(centers, weights, part)
    return layers


class Merges:
    """The merges of Ward's method, from one group for each point down to one in all.

    Attributes
    ----------
    pairs : list of (int, int)
        Which groups were merged, each called by the least of its points.
    costs : float64 ndarray, shape (k - 1,)
        What each merge cost; never falling.
    """

    def __init__(self, k: int, pairs: list[tuple[int, int]], costs: NDArray[np.float64]) -> None:
        self.pairs, self.costs = pairs, costs
        self._k = k

    def cut(self, groups: int) -> NDArray[np.int32]:
        """Return the group of each point, dense from 0 on, when ``groups`` are left."""
        of_point = np.arange(self._k, dtype=np.int32)
        done = self.pairs[: max(self._k - groups, 0)]
        if done:
            kept, gone = np.array(done, dtype=np.int32).T
            of_point[gone] = kept
        # A group that was merged points at one with a lesser name: chains halve with each round.
        while (of_point[of_point] != of_point).any():
            of_point = of_point[of_point]
        return np.unique(of_point, return_inverse=True)[1].astype(np.int32)

    def clearness(self, groups: int) -> float:
        """How much more the merge costs that ends this number of groups than the one that led to it.

        The logarithm of the ratio, times the number: costs rise with each merge, and the faster the fewer are left.
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
    alive = np.ones(k, dtype=bool)
    pairs: list[tuple[int, int]] = []
    paid = np.zeros(max(k - 1, 0))

    def cost_of(one: int) -> NDArray[np.float64]:
        apart = np.maximum(squares + squares[one] - 2.0 * (centers @ centers[one]), 0.0)
        cost = apart * weights * weights[one] / (weights + weights[one])
        cost[~alive] = np.inf
        cost[one] = np.inf
        return cost

    with one_blas_thread():
        costs = np.empty((k, k))
        for one in range(k):
            costs[one] = cost_of(one)
        nearest = costs.argmin(axis=1) if k else np.empty(0, np.int64)
        least = costs[np.arange(k), nearest]
        for step in range(k - 1):
            first = int(least.argmin())
            paid[step] = least[first]
            first, second = sorted((first, int(nearest[first])))
            pairs.append((first, second))
            total = weights[first] + weights[second]
            centers[first] = (weights[first] * centers[first] + weights[second] * centers[second]) / total
            squares[first] = centers[first] @ centers[first]
            weights[first] = total
            alive[second] = False
            costs[second] = costs[:, second] = np.inf
            costs[first] = costs[:, first] = cost_of(first)
            # Only rows whose nearest was one of the two, or that the merged one has come nearer to, change.
            stale = np.flatnonzero(alive & ((nearest == first) | (nearest == second) | (costs[:, first] < least)))
            for row in (*stale.tolist(), first):
                nearest[row] = int(costs[row].argmin())
                least[row] = costs[row, nearest[row]]
            least[second] = np.inf
    return Merges(k, pairs, np.maximum.accumulate(paid) if k > 1 else paid)


def _ordered_cut(
    merges: Merges, centers: NDArray[np.float64], weights: NDArray[np.float64], wanted: int
) -> NDArray[np.int32] | None:
    """The cut that has nearest to ``wanted`` groups once no single child is left; None where that is fewer than 2."""
    most = len(centers) // 2
    if most < 2:
        return None
    wanted = min(wanted, most)
    tried = np.unique(np.linspace(wanted, len(centers) - 1, _CUTS_TRIED).round().astype(int))
    cuts = [_without_single_children(merges.cut(int(groups)), centers, weights) for groups in tried]
    best = min(cuts, key=lambda cut: abs(_groups(cut) - wanted))
    if abs(_groups(best) - wanted) > _OFF * wanted:
        best = _paired_cut(merges, centers, weights, wanted)
    return best if _groups(best) > 1 else None


def _paired_cut(
    merges: Merges, centers: NDArray[np.float64], weights: NDArray[np.float64], wanted: int
) -> NDArray[np.int32]:
    """The first cut of which ``wanted`` groups are left when its single children are paired, cheapest pairs first."""
    groups = len(centers) - 1
    while groups > wanted:
        single = np.count_nonzero(np.bincount(merges.cut(groups)) == 1)
        if groups - (single + 1) // 2 <= wanted:
            break
        groups -= 1
    part = merges.cut(groups)
    middles, totals = _joined(centers, weights, part)
    left = np.flatnonzero(np.bincount(part) == 1)
    apart = np.square(middles[left][:, None] - middles[left][None]).sum(axis=2)
    costs = apart * totals[left][:, None] * totals[left][None] / (totals[left][:, None] + totals[left][None])
    costs[np.tril_indices(len(left))] = np.inf
    paired = np.zeros(len(left), dtype=np.bool_)
    for at in np.argsort(costs, axis=None, kind="stable").tolist():
        one, other = divmod(at, len(left))
        if np.isinf(costs[one, other]):
            break
        if not (paired[one] or paired[other]):
            paired[[one, other]] = True
            part[part == left[other]] = left[one]
    return _without_single_children(np.unique(part, return_inverse=True)[1].astype(np.int32), centers, weights)


def _clear_cut(
    merges: Merges, centers: NDArray[np.float64], weights: NDArray[np.float64], target: float, *, least: float
) -> NDArray[np.int32] | None:
    """Of the cuts into about ``target`` groups, that whose groups are most clearly apart; None for fewer than 2."""
    low, high = max(target / _AROUND, least), target * _AROUND
    middle = round(target)
    # Single children that are joined make fewer groups of a cut than it has.
    cuts = range(int(np.ceil(low)), min(len(centers) - 1, round(high * _AROUND)) + 1)
    best: NDArray[np.int32] | None = None
    # Between equals, the number nearest to that of the factor.
    for groups in sorted(cuts, key=lambda n: (-round(merges.clearness(n), 6), abs(n - middle))):
        part = _without_single_children(merges.cut(groups), centers, weights)
        if low <= _groups(part) <= max(high, low + 1):
            return part
        if _groups(part) > 1 and (best is None or abs(_groups(part) - middle) < abs(_groups(best) - middle)):
            best = part
    return best


def _groups(part: NDArray[np.int32]) -> int:
    return int(part.max()) + 1


def _without_single_children(
    part: NDArray[np.int32], centers: NDArray[np.float64], weights: NDArray[np.float64]
) -> NDArray[np.int32]:
    """Join each group of one child, the smallest first, to that with which merging it costs least; ids stay dense."""
    part = part.copy()
    middles, totals = _joined(centers, weights, part)
    children = np.bincount(part)
    squares = np.einsum("ij,ij->i", middles, middles)
    for one in np.flatnonzero(children == 1)[np.argsort(totals[children == 1], kind="stable")].tolist():
        if children[one] != 1 or np.count_nonzero(children) == 1:
            continue
        apart = np.maximum(squares + squares[one] - 2.0 * (middles @ middles[one]), 0.0)
        cost = apart * totals * totals[one] / (totals + totals[one])
        cost[(children == 0) | (np.arange(len(children)) == one)] = np.inf
        other = int(np.argmin(cost))
        total = totals[other] + totals[one]
        middles[other] = (totals[other] * middles[other] + totals[one] * middles[one]) / total
        squares[other] = middles[other] @ middles[other]
        totals[other] = total
        children[other] += 1
        children[one] = 0
        part[part == one] = other
    return np.unique(part, return_inverse=True)[1].astype(np.int32)


def _joined(
    centers: NDArray[np.float64], weights: NDArray[np.float64], part: NDArray[np.int32]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Weighted means and total weights of groups of points."""
    from scipy.sparse import csr_array

    totals = np.bincount(part, weights=weights).astype(np.float64)
    of_group = csr_array((weights, (part, np.arange(len(part)))), shape=(len(totals), len(part)))
    return np.asarray(of_group @ centers) / totals[:, None], totals
