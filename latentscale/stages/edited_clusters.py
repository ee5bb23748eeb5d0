"""Clusters that were edited by hand: merged as was asked, and kept where a refit does not find them again."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from latentscale.backends import Clustering
from latentscale.labelers.edits import ClusterEdit, Match, match_edits
from latentscale.storage.artifacts import Record
from latentscale.storage.objects import Store
from latentscale.storage.segments import read_points

# Documents that a cluster must have left, of which a kept one takes some back.
_LEAST = 2


def anchors_of(edits: Sequence[ClusterEdit], *, refit: bool) -> tuple[Mapping[str, Any], ...]:
    """What of the edits alters clusters: merges and pins always, every edited cluster where a refit may lose it."""
    return tuple(
        {"label": edit.label, "size": edit.size, "members": list(edit.members)}
        | ({"merge": edit.merge} if edit.merge else {})
        | ({"pin": True} if edit.pin else {})
        for edit in edits
        if edit.layer == 0 and (refit or edit.merge or edit.pin)
    )


def clusters_before(store: Store, align: Record, row_ids: NDArray[np.int64]) -> NDArray[np.int32]:
    """The cluster of each document in the map before; -1 for none, and for documents that it did not have."""
    points = pa.concat_tables([table for _, table in read_points(store, align, ["row_id", "cluster"])])
    _, here, there = np.intersect1d(row_ids, points["row_id"].to_numpy(), assume_unique=True, return_indices=True)
    clusters = np.full(len(row_ids), -1, dtype=np.int32)
    clusters[here] = points["cluster"].to_numpy()[there]
    return clusters


def hold_edited(
    clustering: Clustering,
    row_ids: NDArray[np.int64],
    anchors: Sequence[Mapping[str, Any]],
    earlier: NDArray[np.int32] | None,
) -> Clustering:
    """Keep the edited clusters that a refit has lost, and merge those that are to be one.

    A cluster is lost if its documents are mostly in none, in several, or a small part of a large one. It is kept with
    the documents that it had in the map before, which leave the clusters that they are in now.

    Parameters
    ----------
    clustering : Clustering
    row_ids : int64 ndarray, shape (n,)
    anchors : sequence of mapping
        As ``anchors_of`` gives them.
    earlier : int32 ndarray, shape (n,), optional
        Cluster of each document in the map before; -1 for none, and for documents that it did not have.

    Returns
    -------
    Clustering
        Ids by falling size. Notes say what was kept and what could not be.
    """
    edits = [_read(one) for one in anchors]
    labels = clustering.labels.copy()
    probabilities = clustering.probabilities.copy()
    persistence = clustering.persistence.tolist()
    matches = _one_each(edits, match_edits(edits, row_ids, [labels]))
    kept: list[str] = []
    clusters: dict[int, int] = {}
    for at, match in enumerate(matches):
        if not match.reason:
            clusters[at] = match.cluster
    # The small ones last, so that they are not lost again in a large one.
    for at in sorted(set(range(len(edits))) - set(clusters), key=lambda at: -edits[at].size):
        members = _documents_before(edits[at], row_ids, earlier)
        if not len(members) or not _spare(labels, members):
            continue
        labels[members] = len(persistence)
        probabilities[members] = 1.0
        clusters[at] = len(persistence)
        persistence.append(float("nan"))
        kept.append(edits[at].label)
    merged = _merge(labels, edits, clusters)
    notes = list(clustering.notes)
    if kept:
        notes.append(
            f"{len(kept):,} edited {'cluster' if len(kept) == 1 else 'clusters'} that the refit did not find again "
            f"{'was' if len(kept) == 1 else 'were'} kept: {_some(kept)}."
        )
    notes += merged
    return _ranked(replace(clustering, labels=labels, probabilities=probabilities, notes=notes), persistence)


def _read(values: Mapping[str, Any]) -> ClusterEdit:
    return ClusterEdit(
        layer=0,
        label=str(values["label"]),
        size=int(values["size"]),
        members=tuple(values["members"]),
        merge=values.get("merge"),
        pin=bool(values.get("pin")),
    )


def _one_each(edits: Sequence[ClusterEdit], matches: list[Match]) -> list[Match]:
    """Of several edited clusters that are one now, leave it to that which has most of it, unless they are merged."""
    holder: dict[int, int] = {}
    for at, match in enumerate(matches):
        if not match.reason:
            best = holder.setdefault(match.cluster, at)
            if match.documents > matches[best].documents:
                holder[match.cluster] = at
    result: list[Match] = []
    for at, match in enumerate(matches):
        other = at if match.reason else holder[match.cluster]
        together = edits[at].merge is not None and edits[at].merge == edits[other].merge
        shared = other != at and not together
        result.append(Match(reason=f"it is one with {edits[other].label!r} now") if shared else match)
    return result


def _documents_before(
    edit: ClusterEdit, row_ids: NDArray[np.int64], earlier: NDArray[np.int32] | None
) -> NDArray[np.int64]:
    """Positions of the documents of an edited cluster in the map before."""
    if earlier is None:
        return np.empty(0, np.int64)
    before = match_edits([edit], row_ids, [earlier])[0]
    return np.empty(0, np.int64) if before.reason else np.flatnonzero(earlier == before.cluster)


def _spare(labels: NDArray[np.int32], members: NDArray[np.int64]) -> bool:
    """Whether the clusters that the documents are in can do without them."""
    if len(members) < _LEAST:
        return False
    inside = labels[members]
    taken, counts = np.unique(inside[inside >= 0], return_counts=True)
    sizes = np.bincount(labels[labels >= 0], minlength=1)
    return bool((sizes[taken] - counts >= _LEAST).all())


def _merge(labels: NDArray[np.int32], edits: Sequence[ClusterEdit], clusters: dict[int, int]) -> list[str]:
    """Make one cluster of all that have the same ``merge``, in place; return what could not be."""
    notes: list[str] = []
    for name, wanted in Counter(edit.merge for edit in edits if edit.merge).items():
        found = sorted({clusters[at] for at, edit in enumerate(edits) if edit.merge == name and at in clusters})
        there = sum(edit.merge == name and at in clusters for at, edit in enumerate(edits))
        if there < wanted:
            notes.append(f"Of the {wanted} clusters to be merged as {name!r}, {there} were found again.")
        for other in found[1:]:
            labels[labels == other] = found[0]
    return notes


def _ranked(clustering: Clustering, persistence: Sequence[float]) -> Clustering:
    """The same with ids by falling size, ties by the first document, and without clusters that are empty now."""
    from latentscale.backends.cpu.clustering import ids_by_size

    labels = ids_by_size(clustering.labels)
    ids, first = np.unique(labels, return_index=True)
    before = clustering.labels[first[ids >= 0]]
    return replace(clustering, labels=labels, persistence=np.array(persistence, dtype=np.float32)[before])


def _some(names: Sequence[str], most: int = 5) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(f"'{name}'" for name in names[:most]) + more
