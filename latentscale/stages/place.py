"""Place: give documents that came later a place and a cluster on a map, without moving an old point."""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from latentscale.provenance import measured
from latentscale.stages.cluster import Clusters, read_clusters
from latentscale.stages.neighbors import read_graph
from latentscale.stages.project import read_coordinates
from latentscale.stages.vectors import Vectors, column_values, load_vectors, vectors_at
from latentscale.storage.artifacts import ArtifactWriter, Record, read_table
from latentscale.storage.identity import inside
from latentscale.storage.objects import Store
from latentscale.storage.parquet import read_parquet
from latentscale.storage.segments import contains, read_points
from latentscale.storage.snapshots import Snapshot, read_snapshot

VERSION = 2

Ids = NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Fit:
    """The records that placing documents needs: those of the map that was fitted."""

    map: Record
    neighbors: Record
    projection: Record
    clusters: Record

    def records(self) -> list[Record]:
        """All of them."""
        return [self.neighbors, self.projection, self.clusters]


def placement_request(fit: Fit, parent: Record, snapshot: Snapshot, *, recall: float) -> dict[str, Any]:
    """Everything that alters the places of new documents."""
    projection = fit.projection.request
    return {
        "version": VERSION,
        "parent": parent.id,
        "snapshot": snapshot.id,
        "embedding": fit.map.request["embedding"],
        "fit": fit.map.id,
        "n_neighbors": projection["n_neighbors"],
        "spread": projection["spread"],
        "seed": projection["seed"],
        "recall": recall,
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class Changes:
    """How the documents of a new snapshot differ from those of a map.

    Attributes
    ----------
    gone : int64 ndarray, ascending
        ``row_id`` of points that are not on the new map as they are: their documents left, or are written anew.
    fresh : int64 ndarray, ascending
        Places of documents that are written anew, where they have a vector.
    """

    gone: Ids
    fresh: Ids


def find_changes(store: Store, parent: Record, before: Snapshot, after: Snapshot) -> Changes:
    """Compare the points of a map with the documents of a later snapshot."""
    ids = [table["row_id"].to_numpy() for _, table in read_points(store, parent, ["row_id"])]
    shown = np.sort(np.concatenate(ids)) if ids else np.empty(0, dtype=np.int64)
    places = after.places(shown)
    same = (places == before.places(shown)) & inside(places, after.shards)
    same &= ~contains(after.superseded, places) & (after.row_ids(places) == shown)
    staying = np.sort(places[same])
    fresh: list[Ids] = []
    bases, ends = after.shards.bases, after.shards.bases + after.shards.rows
    held = np.searchsorted(staying, ends) - np.searchsorted(staying, bases)
    held += np.searchsorted(after.superseded, ends) - np.searchsorted(after.superseded, bases)
    for index in np.flatnonzero(held < after.shards.rows).tolist():
        shard = after.shards[index]
        rows = shard.base + np.flatnonzero(after.kept(shard))
        fresh.append(rows[~contains(staying, rows)])
    candidates = np.concatenate(fresh) if fresh else np.empty(0, dtype=np.int64)
    # A document of an old shard that is not on the map has no vector, unless another of its id was shown for it.
    old = inside(candidates, before.shards) & ~contains(before.superseded, candidates)
    return Changes(gone=shown[~same], fresh=candidates[~old])


def make_placement(
    store: Store, request: dict[str, Any], fit: Fit, parent: Record, threads: int, run: str | None
) -> Record:
    """Place the documents of ``request`` that the map ``parent`` does not show, and write what was found.

    The artifact holds ``placed`` (one row a document: ``row_id``, ``x``, ``y``, ``cluster``, ``nearest_cluster``,
    ``probability``, ``density``, ``outlier_score``), ``taken`` (``row_id`` of documents that are written anew but have
    the vector they had, and so keep everything) and ``gone`` (``row_id`` of points that are not shown any more as they
    are).
    """
    from latentscale.backends.cpu.placement import (
        distance_quantiles,
        mean_distances,
        neighbors_among,
        outlier_scores,
        place,
    )

    writer = ArtifactWriter(store, "placement", request, [*fit.records(), parent], run=run)
    with measured() as cost:
        before = read_snapshot(store, str(parent.request["snapshot"]))
        after = read_snapshot(store, request["snapshot"])
        changes = find_changes(store, parent, before, after)
        new = vectors_at(store, after, request["embedding"], changes.fresh)
        taken = _unchanged(store, before, request["embedding"], new, changes.gone)
        stay = contains(taken, new.row_ids)
        new = Vectors(matrix=new.matrix[~stay], places=new.places[~stay], row_ids=new.row_ids[~stay])
        details: dict[str, Any] = {}
        notes: list[str] = []
        recall: float | None = None
        if len(new):
            fitted = load_vectors(store, read_snapshot(store, str(fit.map.request["snapshot"])), request["embedding"])
            clusters = read_clusters(store, fit.clusters)
            graph = read_graph(store, fit.neighbors)
            coordinates = read_coordinates(store, fit.projection)
            k = min(max(int(request["n_neighbors"]), 15), len(fitted))
            found = neighbors_among(
                new.matrix,
                fitted.matrix,
                k=k,
                graph_indices=graph.indices if graph.k else None,
                recall_target=request["recall"],
                seed=request["seed"],
                threads=threads,
            )
            recall, details, notes = found.recall, {"method": found.method, **found.details}, list(found.notes)
            spots = place(
                found.indices,
                found.distances,
                coordinates,
                n_neighbors=int(request["n_neighbors"]),
                spread=request["spread"],
                seed=request["seed"],
                keys=_keys(new.matrix),
            )
            cluster, nearest, probability = _assign(store, after, fit, clusters, new, found.indices, found.distances)
            width = min(15, graph.k)
            reference = distance_quantiles(graph.distances[:, :width])
            scores = outlier_scores(mean_distances(found.distances[:, :width]), reference)
            thickness = np.median(_fit_density(store, fit, clusters.row_ids)[found.indices], axis=1)
        else:
            spots, scores = np.empty((0, 2), np.float32), np.empty(0, np.float32)
            cluster = nearest = np.empty(0, np.int32)
            probability = thickness = np.empty(0, np.float32)
        table = pa.table(
            {
                "row_id": pa.array(new.row_ids),
                "x": pa.array(spots[:, 0].astype(np.float32)),
                "y": pa.array(spots[:, 1].astype(np.float32)),
                "cluster": pa.array(cluster.astype(np.int32)),
                "nearest_cluster": pa.array(nearest.astype(np.int32)),
                "probability": pa.array(probability.astype(np.float32)),
                "density": pa.array(thickness.astype(np.float32)),
                "outlier_score": pa.array(scores.astype(np.float32)),
            }
        )
        writer.put_table("placed", table)
        writer.put_table("taken", pa.table({"row_id": pa.array(taken)}))
        writer.put_table("gone", pa.table({"row_id": pa.array(changes.gone)}))
    noise = int((cluster < 0).sum())
    return writer.commit(
        counts={
            "documents": len(new),
            "noise": noise,
            "taken": len(taken),
            "gone": len(changes.gone) - len(taken) - int(contains(np.sort(new.row_ids), changes.gone).sum()),
            "recall": recall,
        },
        cost=cost,
        choices={"backend": "cpu", **details},
        notes=notes,
    )


def _unchanged(store: Store, before: Snapshot, embedding_id: str, new: Vectors, gone: Ids) -> Ids:
    """Ascending ``row_id`` of documents that moved to another shard but have the very vector that they had."""
    known = np.flatnonzero(contains(gone, new.row_ids))
    if not len(known):
        return np.empty(0, dtype=np.int64)
    earlier = vectors_at(store, before, embedding_id, np.sort(before.places(new.row_ids[known])))
    order = np.argsort(earlier.row_ids)
    there = contains(earlier.row_ids[order], new.row_ids[known])
    known = known[there]
    rows = order[np.searchsorted(earlier.row_ids[order], new.row_ids[known])]
    alike = (earlier.matrix[rows] == new.matrix[known]).all(axis=1)
    return np.sort(new.row_ids[known[alike]])


def _keys(matrix: NDArray[np.float32]) -> NDArray[np.uint64]:
    """A hash of each vector and of which copy of it this is: what is random about a place depends on the text alone.

    Not the row id, which depends on the order in which files came. Copies differ, so that they do not lie on one point.
    """
    copies: Counter[bytes] = Counter()
    digests = bytearray()
    for row in np.ascontiguousarray(matrix):
        whole = hashlib.blake2b(row.tobytes(), digest_size=16).digest()
        digests += hashlib.blake2b(whole + copies[whole].to_bytes(8, "little"), digest_size=8).digest()
        copies[whole] += 1
    return np.frombuffer(bytes(digests), dtype="<u8").astype(np.uint64)


def _assign(
    store: Store,
    after: Snapshot,
    fit: Fit,
    clusters: Clusters,
    new: Vectors,
    indices: NDArray[np.int32],
    distances: NDArray[np.float32],
) -> tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.float32]]:
    from latentscale.backends.cpu.placement import assign_clusters

    dim = new.matrix.shape[1]
    centroids = np.concatenate([chunk.flatten().to_numpy() for chunk in clusters.tree["centroid"].chunks] or [[]])
    cluster, nearest, probability = assign_clusters(
        indices,
        distances,
        cluster=clusters.cluster,
        probability=clusters.probability,
        vectors=new.matrix,
        centroids=centroids.reshape(-1, dim).astype(np.float32),
        sizes=clusters.tree["size"].to_numpy(),
    )
    method = fit.clusters.request["method"]
    if method == "kmeans":
        # K-means has no noise: the nearest centroid is its answer, its cosine the probability.
        used = np.flatnonzero(clusters.tree["size"].to_numpy() > 0)
        cosines = new.matrix @ centroids.reshape(-1, dim).astype(np.float32)[used].T
        told = used[cosines.argmax(axis=1)].astype(np.int32)
        return told, told, cosines.max(axis=1).clip(0.0, 1.0)
    if method == "column":
        values = column_values(store, after, new.row_ids, str(fit.clusters.request["column"]))
        ids = {name: i for i, name in enumerate(clusters.tree["name"].to_pylist()) if name is not None}
        told = np.array([-1 if value is None else ids.get(value, -1) for value in values], dtype=np.int32)
        return told, np.where(told < 0, nearest, told).astype(np.int32), (told >= 0).astype(np.float32)
    return cluster, nearest, probability


def _fit_density(store: Store, fit: Fit, row_ids: Ids) -> NDArray[np.float32]:
    """Density around each fitted document, in the order of ``row_ids``."""
    names = [part.name for part in fit.map.parts if part.name.startswith("points/")]
    held: list[Ids] = []
    values: list[NDArray[np.float32]] = []
    for name in names:
        table = read_parquet(store, f"{fit.map.folder}/{name}", ["row_id", "density"])
        held.append(table["row_id"].to_numpy())
        values.append(table["density"].to_numpy())
    ids = np.concatenate(held)
    order = np.argsort(ids)
    return np.concatenate(values)[order[np.searchsorted(ids[order], row_ids)]]


def read_placement(store: Store, record: Record) -> tuple[pa.Table, Ids, Ids]:
    """Read (placed, taken, gone) of a placement."""
    return (
        read_table(store, record, "placed"),
        read_table(store, record, "taken")["row_id"].to_numpy(),
        read_table(store, record, "gone")["row_id"].to_numpy(),
    )
