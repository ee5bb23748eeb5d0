"""Comparison of two maps of the same documents: distances moved, neighbours kept, and changes of the clusters."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from latentscale.backends.alignment import procrustes
from latentscale.errors import WorkspaceError
from latentscale.explore.diff_figures import Change, ClusterChangeFigures

NEIGHBOURS = 15
# A cluster flows into another if at least this fraction of its documents does.
FLOW = 0.2
# Two clusters are the same if their Jaccard index is at least this.
SAME = 0.5
# Rows of neighbours compared at once: some tens of megabytes.
_CHUNK = 32_768


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """The positions and clusters of the documents of a map.

    Attributes
    ----------
    row_ids : int64 ndarray, shape (n,)
        Ascending and unique.
    coordinates : float32 ndarray, shape (n, 2)
    clusters : int32 ndarray, shape (n,)
        Of layer 0; -1 is noise.
    """

    row_ids: NDArray[np.int64]
    coordinates: NDArray[np.float32]
    clusters: NDArray[np.int32]

    def take(self, places: NDArray[np.int64]) -> Layout:
        """Select documents by their indices."""
        return Layout(
            row_ids=self.row_ids[places], coordinates=self.coordinates[places], clusters=self.clusters[places]
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterChange:
    """A change of one or several clusters between two maps.

    Attributes
    ----------
    change : {"same", "split", "merged", "moved", "dissolved"}
        ``split``: one into several; ``merged``: several into one; ``moved``: into one that is not the same;
        ``dissolved``: most documents are noise on the second map, or scattered over many clusters.
    before, after : list of int
        Clusters of the first and of the second map.
    documents : int
        Number of documents of ``before`` that both maps have.
    """

    change: Change
    before: list[int]
    after: list[int]
    documents: int

    def as_json(self) -> ClusterChangeFigures:
        """As a mapping of the fields."""
        return {"change": self.change, "before": self.before, "after": self.after, "documents": self.documents}


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """The differences of two maps on the documents that both have, ``row_ids``, ascending.

    Attributes
    ----------
    moved : float32 ndarray, shape (s,)
        Distance between the two positions of a document after the second map is aligned to the first, in units of the
        first map's size (the square root of its variance).
    kept : float32 ndarray, shape (s,), or of a sample
        Fraction of the ``k`` nearest documents on the first map that are among the ``k`` nearest on the second.
    k : int
    clusters : tuple of int32 ndarray
        Clusters on the first and on the second map, layer 0.
    residual : float
        Median of ``moved``.
    changes : list of ClusterChange
        Largest first.
    only : tuple of int
        Numbers of documents that are only on the first and only on the second map.
    """

    row_ids: NDArray[np.int64]
    moved: NDArray[np.float32]
    kept: NDArray[np.float32]
    k: int
    clusters: tuple[NDArray[np.int32], NDArray[np.int32]]
    residual: float
    changes: list[ClusterChange]
    only: tuple[int, int]


def compare_layouts(
    first: Layout, second: Layout, *, k: int = NEIGHBOURS, sample: int | None = None, seed: int = 0
) -> Comparison:
    """Compare two maps on the documents that both have.

    The second is aligned by a similarity transform (orthogonal Procrustes analysis, robust against groups that moved),
    since the orientation and scale of a layout are arbitrary.

    Parameters
    ----------
    sample : int, optional
        Maximum number of documents whose neighbours are compared; by default all.

    Raises
    ------
    WorkspaceError
        If no document is on both.
    """
    shared, in_first, in_second = np.intersect1d(first.row_ids, second.row_ids, assume_unique=True, return_indices=True)
    if not len(shared):
        raise WorkspaceError("the two maps have no document in common", hint="Compare maps of one workspace.")
    one, other = first.take(in_first), second.take(in_second)
    aligned = procrustes(other.coordinates, one.coordinates).apply(other.coordinates)
    size = float(np.sqrt(((one.coordinates - one.coordinates.mean(axis=0)) ** 2).sum(axis=1).mean()))
    moved = np.linalg.norm(aligned.astype(np.float64) - one.coordinates, axis=1) / (size or 1.0)
    rows = np.arange(len(shared))
    if sample is not None and sample < len(shared):
        rows = np.sort(np.random.default_rng(seed).choice(len(shared), sample, replace=False))
    return Comparison(
        row_ids=shared,
        moved=moved.astype(np.float32),
        kept=neighbours_kept(one.coordinates, other.coordinates, k=k, rows=rows),
        k=min(k, len(shared) - 1),
        clusters=(one.clusters, other.clusters),
        residual=float(np.median(moved)),
        changes=cluster_changes(one.clusters, other.clusters),
        only=(len(first.row_ids) - len(shared), len(second.row_ids) - len(shared)),
    )


def neighbours_kept(
    first: NDArray[np.float32], second: NDArray[np.float32], *, k: int, rows: NDArray[np.int64] | None = None
) -> NDArray[np.float32]:
    """For each document, the fraction of its ``k`` nearest on one layout that are among its ``k`` nearest on the other.

    Parameters
    ----------
    rows : int64 ndarray, shape (m,), optional
        Only for these documents; by default for all.

    Returns
    -------
    float32 ndarray, shape (m,)
        1 if there is no other document.
    """
    rows = np.arange(len(first)) if rows is None else rows
    k = min(k, len(first) - 1)
    if k < 1:
        return np.ones(len(rows), np.float32)
    near = [_nearest(layout, k, rows) for layout in (first, second)]
    kept = np.empty(len(rows), np.float32)
    for start in range(0, len(rows), _CHUNK):
        part = slice(start, start + _CHUNK)
        kept[part] = (near[0][part, :, None] == near[1][part, None, :]).any(axis=2).mean(axis=1)
    return kept


def _nearest(layout: NDArray[np.float32], k: int, rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """The ``k`` nearest other documents of each of ``rows``, shape (m, k); ties are broken arbitrarily."""
    from scipy.spatial import KDTree

    found = np.asarray(KDTree(layout).query(layout[rows], k + 1)[1])
    own = found == rows[:, None]
    # With more than k documents at the same position, a document may be missing from its own k + 1 nearest: then the
    # farthest is dropped.
    own[~own.any(axis=1), -1] = True
    return found[~own].reshape(len(found), k)


def cluster_changes(before: NDArray[np.int32], after: NDArray[np.int32]) -> list[ClusterChange]:
    """Classify the change of each cluster of layer 0; noise is not a cluster.

    A cluster flows into the clusters of the second map that have at least a fifth of its documents. It is the same if
    the Jaccard index with one of them is at least one half; it is split if it flows into several; several clusters of
    which most documents flow into the same cluster are merged.

    Returns
    -------
    list of ClusterChange
        Each cluster of the first map once, by decreasing number of documents.
    """
    ids, rows = np.unique(before, return_inverse=True)
    goals, columns = np.unique(after, return_inverse=True)
    pairs, counts = np.unique(rows.astype(np.int64) * len(goals) + columns, return_counts=True)
    sizes = np.bincount(rows, minlength=len(ids))
    sizes_after = np.bincount(columns, minlength=len(goals))
    flows: dict[int, list[tuple[int, int]]] = {int(i): [] for i in ids if i >= 0}
    same: dict[int, int] = {}
    for pair, count in zip(pairs.tolist(), counts.tolist(), strict=True):
        i, j = divmod(pair, len(goals))
        if ids[i] < 0 or goals[j] < 0:
            continue
        if count >= FLOW * sizes[i]:
            flows[int(ids[i])].append((count, int(goals[j])))
        if count >= SAME * (sizes[i] + sizes_after[j] - count):
            same[int(ids[i])] = int(goals[j])
    size_of = dict(zip(ids.tolist(), sizes.tolist(), strict=True))
    # Clusters by the cluster into which more than half of their documents flow.
    into: dict[int, list[int]] = {}
    for cluster, found in flows.items():
        for count, goal in found:
            if count > 0.5 * size_of[cluster]:
                into.setdefault(goal, []).append(cluster)
    mostly = {cluster for members in into.values() for cluster in members}
    changes: list[ClusterChange] = []
    done: set[int] = set()
    for goal, members in into.items():
        if len(members) > 1:
            done.update(members)
            changes.append(_change("merged", sorted(members), [goal], size_of))
    for cluster, found in flows.items():
        if cluster in done:
            continue
        goals_of = [goal for _, goal in sorted(found, reverse=True)]
        if cluster in same:
            changes.append(_change("same", [cluster], [same[cluster]], size_of))
        elif len(goals_of) > 1:
            changes.append(_change("split", [cluster], goals_of, size_of))
        elif cluster in mostly:
            changes.append(_change("moved", [cluster], goals_of, size_of))
        else:
            changes.append(_change("dissolved", [cluster], goals_of, size_of))
    return sorted(changes, key=lambda change: (-change.documents, change.before))


def _change(change: Change, before: list[int], after: list[int], sizes: dict[int, int]) -> ClusterChange:
    return ClusterChange(change=change, before=before, after=after, documents=sum(sizes[one] for one in before))
