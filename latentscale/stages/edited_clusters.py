"""Clusters edited by hand: merging them, and preserving them where a refit does not find them again."""

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

# Documents that a cluster must keep when a preserved one takes some of its documents.
_LEAST = 2


def anchors_of(edits: Sequence[ClusterEdit], *, refit: bool) -> tuple[Mapping[str, Any], ...]:
    """Return the edits that affect clustering: splits, merges and moves, and in a refit all edited clusters."""
    unaltering = set(ACTIONS) - set(ALTERING)
    return tuple(
        {name: value for name, value in edit.as_json().items() if name not in unaltering}
        for edit in edits
        if refit or set(ALTERING) & set(edit.actions)
    )


def edit_of(anchor: Mapping[str, Any]) -> ClusterEdit:
    """Return the edit of one of ``anchors_of``, without fields that do not affect clusters."""
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
    """Read the cluster of each document in the previous map; -1 for noise, and for documents that it did not have.

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
    """Restore edited clusters that a refit has lost.

    A cluster is lost if most of its documents are noise now, spread over several clusters, or a small part of a large
    one. It is restored with the documents that it had in the previous map, which leave their current clusters.

    Parameters
    ----------
    clustering : Clustering
    row_ids : int64 ndarray, shape (n,)
    anchors : sequence of mapping
        From ``anchors_of``.
    earlier : sequence of int32 ndarray, shape (n,)
        From ``clusters_before``; empty without a previous map.
    parts : mapping of str to bool ndarray, shape (n,)
        Documents of each cluster that was split in the previous map, by the ``key`` of that edit. It is restored as a
        whole and split again, so that edits of its parts still match.

    Returns
    -------
    Clustering
        Ids by descending size. Notes report what was restored and what could not be.
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
    # Small clusters last, so that a large one does not absorb them again.
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
    """Merge all clusters with the same ``merge``; the result gets the coarser groups of its largest part.

    The coarser layers are passed in, so that the rest of the tree does not change.

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
    """Rebuild a clustering from new ``labels``: ids by descending size in every layer, without empty clusters.

    Parameters
    ----------
    clustering : Clustering
        Its ``persistence`` is indexed by the ids of ``labels``.
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
    """Restore edited clusters of coarser layers, from the previous clusters of the documents below.

    Parameters
    ----------
    labels : int32 ndarray, shape (n,)
        Cluster of each document in the finest layer.
    layers : sequence of int32 ndarray, shape (n_clusters,)

    Returns
    -------
    layers : list of int32 ndarray
        Layers are still nested.
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
    """Add an edit for each cluster that is the ``parent`` of another edit, so that it is preserved as well."""
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
    """If several edited clusters match the same cluster and are not merged, keep the match with the largest overlap."""
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
    """Select the documents of an edited cluster in the previous map."""
    if edit.layer >= len(earlier):
        return np.zeros(len(row_ids), dtype=np.bool_)
    before = match_edits([replace(edit, layer=0)], row_ids, [earlier[edit.layer]])[0]
    return (earlier[edit.layer] == before.cluster) & (not before.reason)


def _is_part(edit: ClusterEdit, whole: ClusterEdit, row_ids: NDArray[np.int64], inside: NDArray[np.bool_]) -> bool:
    """Whether an edit concerns a part of a split cluster, whose documents are ``inside``."""
    if edit is whole or (edit.split and edit.size >= whole.size):
        return False
    return 2 * int(np.isin(edit.members, row_ids[inside]).sum()) > len(edit.members)


def _spare(labels: NDArray[np.int32], members: NDArray[np.int64]) -> bool:
    """Whether the current clusters of the documents remain large enough without them."""
    if len(members) < _LEAST:
        return False
    inside = labels[members]
    taken, counts = np.unique(inside[inside >= 0], return_counts=True)
    sizes = np.bincount(labels[labels >= 0], minlength=1)
    return bool((sizes[taken] - counts >= _LEAST).all())


def _ranked(clustering: Clustering, persistence: Sequence[float]) -> Clustering:
    """Relabel by descending size, ties by the first document, and drop empty clusters."""
    labels = ids_by_size(clustering.labels)
    ids, first = np.unique(labels, return_index=True)
    before = clustering.labels[first[ids >= 0]]
    return replace(clustering, labels=labels, persistence=np.array(persistence, dtype=np.float32)[before])


def _some(names: Sequence[str], most: int = 5) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(f"'{name}'" for name in names[:most]) + more
