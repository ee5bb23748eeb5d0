"""Clusters that were edited by hand: merged as was asked, and kept where a refit does not find them again."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from latentscale.backends import Clustering
from latentscale.backends.grouping import ids_by_size
from latentscale.labelers.edits import ACTIONS, ALTERING, ClusterEdit, Match, match_edits
from latentscale.storage.artifacts import Record
from latentscale.storage.objects import Store
from latentscale.storage.parquet import read_parquet
from latentscale.storage.segments import read_points

# Documents that a cluster must have left, of which a kept one takes some back.
_LEAST = 2


def anchors_of(edits: Sequence[ClusterEdit], *, refit: bool) -> tuple[Mapping[str, Any], ...]:
    """What of the edits alters clusters: some always, and every edited cluster where a refit may lose it."""
    unaltering = set(ACTIONS) - set(ALTERING)
    return tuple(
        {name: value for name, value in edit.as_json().items() if name not in unaltering}
        for edit in edits
        if refit or set(ALTERING) & set(edit.actions)
    )


def edit_of(anchor: Mapping[str, Any]) -> ClusterEdit:
    """The edit of one of ``anchors_of``, without what alters no cluster."""
    return ClusterEdit(
        layer=int(anchor.get("layer", 0)),
        label=str(anchor["label"]),
        size=int(anchor["size"]),
        members=tuple(anchor["members"]),
        merge=anchor.get("merge"),
        pin=bool(anchor.get("pin")),
        split=anchor.get("split"),
        add=tuple(anchor.get("add", ())),
        remove=tuple(anchor.get("remove", ())),
        parent=anchor.get("parent"),
        parent_members=tuple(anchor.get("parent_members", ())),
    )


def clusters_before(store: Store, align: Record, row_ids: NDArray[np.int64]) -> list[NDArray[np.int32]]:
    """The cluster of each document in each layer of the map before; -1 for none, and for what it did not have.

    Returns
    -------
    list of int32 ndarray, shape (n,)
        By layer, the finest first.
    """
    layers = read_parquet(store, f"{align.folder}/labels.parquet", ["layer"])["layer"].to_pylist()
    columns = ["cluster", *(f"layer_{n}" for n in range(1, max(layers, default=0) + 1))]
    points = pa.concat_tables([table for _, table in read_points(store, align, ["row_id", *columns])])
    _, here, there = np.intersect1d(row_ids, points["row_id"].to_numpy(), return_indices=True)
    found: list[NDArray[np.int32]] = []
    for name in columns:
        clusters = np.full(len(row_ids), -1, dtype=np.int32)
        clusters[here] = points[name].to_numpy()[there]
        found.append(clusters)
    return found


def hold_edited(
    clustering: Clustering,
    row_ids: NDArray[np.int64],
    anchors: Sequence[Mapping[str, Any]],
    earlier: Sequence[NDArray[np.int32]],
    parts: Mapping[str, NDArray[np.bool_]] = MappingProxyType({}),
) -> Clustering:
    """Keep the edited clusters that a refit has lost.

    A cluster is lost if its documents are mostly in none, in several, or a small part of a large one. It is kept with
    the documents that it had in the map before, which leave the clusters that they are in now.

    Parameters
    ----------
    clustering : Clustering
    row_ids : int64 ndarray, shape (n,)
    anchors : sequence of mapping
        As ``anchors_of`` gives them.
    earlier : sequence of int32 ndarray, shape (n,)
        As ``clusters_before`` gives them; nothing where there is no map before.
    parts : mapping of str to bool ndarray, shape (n,)
        Of each cluster that was split in the map before, by the ``key`` of that edit: its documents. It is kept as a
        whole, to be split again; edits of its parts find these then.

    Returns
    -------
    Clustering
        Ids by falling size. Notes say what was kept and what could not be.
    """
    edits = [edit for edit in map(edit_of, anchors) if edit.layer == 0]
    split = [(edit, parts[edit.key]) for edit in edits if edit.split and edit.key in parts]
    edits = [edit for edit in edits if not any(_is_part(edit, whole, row_ids, inside) for whole, inside in split)]
    labels = clustering.labels.copy()
    probabilities = clustering.probabilities.copy()
    persistence = clustering.persistence.tolist()
    matches = _one_each(edits, match_edits(edits, row_ids, [labels]))
    kept: list[str] = []
    held = {at for at, match in enumerate(matches) if not match.reason}
    # The small ones last, so that they are not lost again in a large one.
    for at in sorted(set(range(len(edits))) - held, key=lambda at: -edits[at].size):
        inside = parts.get(edits[at].key)
        members = np.flatnonzero(_documents_before(edits[at], row_ids, earlier) if inside is None else inside)
        if not len(members) or not _spare(labels, members):
            continue
        labels[members] = len(persistence)
        probabilities[members] = 1.0
        persistence.append(float("nan"))
        kept.append(edits[at].label)
    notes = list(clustering.notes)
    if kept:
        notes.append(
            f"{len(kept):,} edited {'cluster' if len(kept) == 1 else 'clusters'} that the refit did not find again "
            f"{'was' if len(kept) == 1 else 'were'} kept: {_some(kept)}."
        )
    return _ranked(replace(clustering, labels=labels, probabilities=probabilities, notes=notes), persistence)


def merge_edited(
    clustering: Clustering,
    layers: Sequence[NDArray[np.int32]],
    row_ids: NDArray[np.int64],
    anchors: Sequence[Mapping[str, Any]],
) -> tuple[Clustering, list[NDArray[np.int32]]]:
    """Make one cluster of all that have the same ``merge``; it lies where its largest part was in the coarser layers.

    The coarser layers are those of the clusters before, so that the rest of the tree is as it was.

    Parameters
    ----------
    layers : sequence of int32 ndarray, shape (n_clusters,)
        Group of each cluster in each coarser layer.
    """
    edits = [edit for edit in map(edit_of, anchors) if edit.merge]
    if not edits:
        return clustering, list(layers)
    matches = match_edits(edits, row_ids, [clustering.labels], parts=True)
    sizes = np.bincount(clustering.labels[clustering.labels >= 0], minlength=clustering.n_clusters)
    target = np.arange(clustering.n_clusters + 1, dtype=np.int32)
    target[-1] = -1
    notes = list(clustering.notes)
    for name, wanted in Counter(edit.merge for edit in edits).items():
        places = [
            match.cluster for edit, match in zip(edits, matches, strict=True) if edit.merge == name and not match.reason
        ]
        if len(places) < wanted:
            notes.append(f"Of the {wanted} clusters to be merged as {name!r}, {len(places)} were found again.")
        if places:
            parts = np.unique(target[places])
            largest = parts[int(np.argmax(sizes[parts]))]
            target[np.isin(target, parts)] = largest
    return renumbered(replace(clustering, notes=notes), target[clustering.labels], layers)


def renumbered(
    clustering: Clustering, labels: NDArray[np.int32], layers: Sequence[NDArray[np.int32]]
) -> tuple[Clustering, list[NDArray[np.int32]]]:
    """The clustering with other ``labels``: ids by falling size, in every layer, and no cluster without documents.

    Parameters
    ----------
    clustering : Clustering
        ``persistence`` is that of the ids of ``labels``.
    labels : int32 ndarray, shape (n,)
    layers : sequence of int32 ndarray
        Group of each id of ``labels`` in each coarser layer.
    """
    ranked = _ranked(replace(clustering, labels=labels), clustering.persistence.tolist())
    _, first = np.unique(ranked.labels[ranked.labels >= 0], return_index=True)
    before = labels[labels >= 0][first]
    weights = np.bincount(ranked.labels[ranked.labels >= 0]).astype(np.float64)
    return ranked, [ids_by_size(layer[before], weights) for layer in layers]


def hold_coarser(
    labels: NDArray[np.int32],
    layers: Sequence[NDArray[np.int32]],
    row_ids: NDArray[np.int64],
    anchors: Sequence[Mapping[str, Any]],
    earlier: Sequence[NDArray[np.int32]],
) -> tuple[list[NDArray[np.int32]], list[str]]:
    """Keep the edited clusters of coarser layers: those that most of the documents below were in before.

    Parameters
    ----------
    labels : int32 ndarray, shape (n,)
        Cluster of each document in the finest layer.
    layers : sequence of int32 ndarray, shape (n_clusters,)

    Returns
    -------
    layers : list of int32 ndarray
        Each cluster still lies in one cluster of the next layer.
    notes : list of str
    """
    layers = [layer.copy() for layer in layers]
    sizes = np.bincount(labels[labels >= 0], minlength=len(layers[0]) if layers else 0)
    kept: list[str] = []
    edits = _with_parents([edit_of(anchor) for anchor in anchors], row_ids, earlier)
    for edit in sorted(edits, key=lambda edit: (edit.layer, -edit.size)):
        if not 0 < edit.layer <= len(layers):
            continue
        layer = layers[edit.layer - 1]
        if not match_edits([replace(edit, layer=0)], row_ids, [np.append(layer, np.int32(-1))[labels]])[0].reason:
            continue
        of_below = np.arange(len(sizes), dtype=np.int32) if edit.layer == 1 else layers[edit.layer - 2]
        below = np.append(of_below, np.int32(-1))[labels]
        known = (below >= 0) & (earlier[edit.layer] >= 0) if edit.layer < len(earlier) else below < -1
        inside = np.bincount(below[known & _documents_before(edit, row_ids, earlier)], minlength=len(sizes))
        chosen = np.isin(of_below, np.flatnonzero(2 * inside > np.bincount(below[known], minlength=len(sizes))))
        if not chosen.any():
            continue
        largest = np.flatnonzero(chosen)[int(np.argmax(sizes[chosen]))]
        layer[chosen] = layer.max() + 1
        for above in layers[edit.layer :]:
            above[chosen] = above[largest]
        kept.append(edit.label)
    weights = sizes.astype(np.float64)
    notes = [f"Of the coarser clusters, {len(kept):,} were kept as they were edited: {_some(kept)}."] if kept else []
    return [ids_by_size(layer, weights) for layer in layers], notes


def _with_parents(
    edits: Sequence[ClusterEdit], row_ids: NDArray[np.int64], earlier: Sequence[NDArray[np.int32]]
) -> list[ClusterEdit]:
    """The edits, and for each cluster that one names as a ``parent`` an edit of it, by which it is kept as well."""
    found = {(edit.layer, edit.members): edit for edit in edits}
    for edit in edits:
        key = (1, edit.parent_members)
        if edit.parent is None or key in found or len(earlier) < 2:
            continue
        whole = ClusterEdit(layer=1, label=edit.parent, size=1, members=edit.parent_members)
        before = match_edits([replace(whole, layer=0)], row_ids, [earlier[1]], parts=True)[0]
        if not before.reason:
            found[key] = replace(whole, size=int((earlier[1] == before.cluster).sum()))
    return list(found.values())


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
    edit: ClusterEdit, row_ids: NDArray[np.int64], earlier: Sequence[NDArray[np.int32]]
) -> NDArray[np.bool_]:
    """Which documents were in an edited cluster in the map before."""
    if edit.layer >= len(earlier):
        return np.zeros(len(row_ids), dtype=np.bool_)
    before = match_edits([replace(edit, layer=0)], row_ids, [earlier[edit.layer]])[0]
    return (earlier[edit.layer] == before.cluster) & (not before.reason)


def _is_part(edit: ClusterEdit, whole: ClusterEdit, row_ids: NDArray[np.int64], inside: NDArray[np.bool_]) -> bool:
    """Whether an edit is of a part of a cluster that was split, whose documents are ``inside``."""
    if edit is whole or (edit.split and edit.size >= whole.size):
        return False
    return 2 * int(np.isin(edit.members, row_ids[inside]).sum()) > len(edit.members)


def _spare(labels: NDArray[np.int32], members: NDArray[np.int64]) -> bool:
    """Whether the clusters that the documents are in can do without them."""
    if len(members) < _LEAST:
        return False
    inside = labels[members]
    taken, counts = np.unique(inside[inside >= 0], return_counts=True)
    sizes = np.bincount(labels[labels >= 0], minlength=1)
    return bool((sizes[taken] - counts >= _LEAST).all())


def _ranked(clustering: Clustering, persistence: Sequence[float]) -> Clustering:
    """The same with ids by falling size, ties by the first document, and without clusters that are empty now."""
    labels = ids_by_size(clustering.labels)
    ids, first = np.unique(labels, return_index=True)
    before = clustering.labels[first[ids >= 0]]
    return replace(clustering, labels=labels, persistence=np.array(persistence, dtype=np.float32)[before])


def _some(names: Sequence[str], most: int = 5) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(f"'{name}'" for name in names[:most]) + more
