"""Edits of clusters by hand: splits, new parents, and moved documents."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from latentscale.backends import Clustering
from latentscale.backends.grouping import ids_by_size
from latentscale.labelers.edits import AUTO, ClusterEdit, match_edits
from latentscale.stages.edited_clusters import edit_of, renumbered
from latentscale.storage.artifacts import Record, find_record, read_table
from latentscale.storage.objects import Store


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """Parts of split clusters, before parts are merged and documents moved.

    Attributes
    ----------
    of_document : int32 ndarray, shape (n,)
        Position in ``paths`` of each document; -1 outside split clusters.
    paths : list of tuple of str
        For each part, the names of the parts along its splits, outermost first.
    """

    of_document: NDArray[np.int32]
    paths: list[tuple[str, ...]]

    def of_edit(self, edit: ClusterEdit) -> NDArray[np.int32]:
        """Return the part of each document in this edit, from 0; -1 for none."""
        names = [_name_in(path, edit) for path in self.paths]
        known = sorted({name for name in names if name})
        code = {name: at for at, name in enumerate(known)}
        return np.array([*(code.get(name, -1) for name in names), -1], np.int32)[self.of_document]

    def by_split(self) -> dict[str, NDArray[np.bool_]]:
        """Return the documents of each split cluster, by the ``key`` of its edit."""
        found: dict[str, NDArray[np.bool_]] = {}
        for at, path in enumerate(self.paths):
            for name in path:
                key = name.partition("/")[0]
                found[key] = found.get(key, np.False_) | (self.of_document == at)
        return found


def _no_parts(documents: int) -> Parts:
    return Parts(of_document=np.full(documents, -1, np.int32), paths=[])


def _name_of(edit: ClusterEdit, part: int) -> str:
    return f"{edit.key}/{part}"


def _name_in(path: Sequence[str], edit: ClusterEdit) -> str:
    return next((name for name in path if name.startswith(f"{edit.key}/")), "")


def was_split(edit: ClusterEdit, clusters: Record) -> bool:
    """Whether the clusters of a record already contain the parts of an edit."""
    return len({_name_in(path, edit) for path in clusters.choices.get("parts", ())} - {""}) > 1


def parts_before(store: Store, align: Record | None, row_ids: NDArray[np.int64]) -> Parts:
    """Read the parts of clusters that were split in the previous map.

    Parameters
    ----------
    align : Record or None
        The previous map.
    row_ids : int64 ndarray, shape (n,)
        ``row_id`` of the current documents.
    """
    record = find_record(store, "clusters", str(align.request["clusters"])) if align else None
    found = _no_parts(len(row_ids))
    if record is None or not record.choices.get("parts"):
        return found
    members = read_table(store, record, "members")
    _, here, there = np.intersect1d(row_ids, members["row_id"].to_numpy(), assume_unique=True, return_indices=True)
    found.of_document[here] = members["part"].to_numpy()[there]
    found.paths.extend(tuple(path) for path in record.choices["parts"])
    return found


def split_edited(
    clustering: Clustering,
    layers: Sequence[NDArray[np.int32]],
    row_ids: NDArray[np.int64],
    anchors: Sequence[Mapping[str, Any]],
    vectors: Any,
    earlier: Parts,
    kmeans: Any,
) -> tuple[Clustering, list[NDArray[np.int32]], Parts]:
    """Split clusters as edited.

    Documents keep their part of the previous map, and new ones join the nearest; parts of new splits are found by
    spherical K-means on the vectors. Parts are in the coarser groups of the whole.

    Parameters
    ----------
    layers : sequence of int32 ndarray, shape (n_clusters,)
        Group of each cluster in each coarser layer.
    vectors : array-like, shape (n, dim)
    kmeans : callable
        ``kmeans(vectors, n_clusters)`` returns a ``Clustering``.
    """
    edits = sorted((edit for edit in map(edit_of, anchors) if edit.split), key=lambda edit: -edit.size)
    labels, persistence = clustering.labels.copy(), clustering.persistence.tolist()
    probabilities = clustering.probabilities.copy()
    above = [layer.tolist() for layer in layers]
    parts = _no_parts(len(labels))
    # A cluster is split before its parts are.
    for edit in edits:
        match = match_edits([edit], row_ids, [labels], parts=True)[0]
        members = np.flatnonzero(labels == match.cluster) if not match.reason else np.empty(0, np.int64)
        if len(members) < 2:
            continue
        points = np.asarray(vectors[members], np.float32)
        known = earlier.of_edit(edit)[members]
        if len(np.unique(known[known >= 0])) > 1:
            own = _joined(points, known)
        else:
            found = kmeans(points, None if edit.split == AUTO else min(int(edit.split or 2), len(members)))
            own = found.labels
        codes = np.unique(own, return_inverse=True)[1]
        if codes.max() < 1:
            continue
        outer = [parts.paths[at] if at >= 0 else () for at in parts.of_document[members].tolist()]
        for code in range(int(codes.max()) + 1):
            inside = members[codes == code]
            parts.paths.append((*outer[int(np.argmax(codes == code))], _name_of(edit, code)))
            parts.of_document[inside] = len(parts.paths) - 1
            probabilities[inside] = 1.0
            if code:
                labels[inside] = len(persistence)
                persistence.append(float("nan"))
                for layer in above:
                    layer.append(layer[match.cluster])
    if not parts.paths:
        return clustering, list(layers), parts
    split = replace(
        clustering,
        probabilities=probabilities,
        persistence=np.array(persistence, np.float32),
        details=clustering.details | {"parts": [list(path) for path in parts.paths]},
    )
    return *renumbered(split, labels, [np.array(layer, np.int32) for layer in above]), parts


def move_edited(
    clustering: Clustering,
    layers: Sequence[NDArray[np.int32]],
    row_ids: NDArray[np.int64],
    anchors: Sequence[Mapping[str, Any]],
) -> tuple[Clustering, list[NDArray[np.int32]]]:
    """Move documents that were added to a cluster or removed from one (these become noise).

    Clusters that are empty afterwards are dropped.

    Parameters
    ----------
    layers : sequence of int32 ndarray, shape (n_clusters,)
        Group of each cluster in each coarser layer.
    """
    edits = [edit for edit in map(edit_of, anchors) if edit.add or edit.remove]
    if not edits:
        return clustering, list(layers)
    labels, probabilities = clustering.labels.copy(), clustering.probabilities.copy()
    # Resolved before anything moves, so that the order of the edits does not matter.
    matches = match_edits(edits, row_ids, [labels], parts=True)
    for edit, match in zip(edits, matches, strict=True):
        if match.reason:
            continue
        leaving = np.isin(row_ids, edit.remove) & (labels == match.cluster)
        labels[leaving], probabilities[leaving] = -1, 0.0
    for edit, match in zip(edits, matches, strict=True):
        if not match.reason:
            joining = np.isin(row_ids, edit.add)
            labels[joining], probabilities[joining] = match.cluster, 1.0
    return renumbered(replace(clustering, probabilities=probabilities), labels, layers)


def place_edited(
    clustering: Clustering,
    layers: Sequence[NDArray[np.int32]],
    row_ids: NDArray[np.int64],
    anchors: Sequence[Mapping[str, Any]],
) -> list[NDArray[np.int32]]:
    """Move clusters into the edited parents, whose own position in the tree does not change.

    Parameters
    ----------
    layers : sequence of int32 ndarray, shape (n_clusters,)
        Group of each cluster in each coarser layer.
    """
    edits = [edit for edit in map(edit_of, anchors) if edit.parent]
    if not edits or not layers:
        return list(layers)
    layers = [layer.copy() for layer in layers]
    membership = np.append(layers[0], np.int32(-1))[clustering.labels]
    below = match_edits(edits, row_ids, [clustering.labels], parts=True)
    parents = [replace(edit, members=edit.parent_members, size=len(edit.parent_members)) for edit in edits]
    above = match_edits(parents, row_ids, [membership], parts=True)
    # Positions before any move.
    places = {
        match.cluster: [int(layer[layers[0] == match.cluster][0]) for layer in layers]
        for match in above
        if not match.reason
    }
    for child, parent in zip(below, above, strict=True):
        if not child.reason and not parent.reason:
            for layer, group in zip(layers, places[parent.cluster], strict=True):
                layer[child.cluster] = group
    weights = np.bincount(clustering.labels[clustering.labels >= 0], minlength=clustering.n_clusters).astype(np.float64)
    return [ids_by_size(layer, weights) for layer in layers]


def _joined(points: NDArray[np.float32], known: NDArray[np.int32]) -> NDArray[np.int32]:
    """Assign documents without a part to the part with the nearest centroid, by cosine."""
    codes = np.unique(known[known >= 0])
    unit = points / np.maximum(np.linalg.norm(points, axis=1, keepdims=True), 1e-12)
    centroids = np.stack([unit[known == code].mean(axis=0) for code in codes])
    centroids /= np.maximum(np.linalg.norm(centroids, axis=1, keepdims=True), 1e-12)
    joined = known.copy()
    new = np.flatnonzero(known < 0)
    joined[new] = codes[np.argmax(unit[new] @ centroids.T, axis=1)]
    return joined
