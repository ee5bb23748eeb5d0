"""Cluster: find the clusters of a map, send its noise to the nearest ones, and join them into coarser layers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from latentscale.backends import Clustering
from latentscale.config import ClusterConfig
from latentscale.errors import CorpusError
from latentscale.provenance import measured
from latentscale.stages.project import read_coordinates
from latentscale.stages.vectors import Vectors, column_values, load_vectors
from latentscale.storage.artifacts import ArtifactWriter, Record, read_table
from latentscale.storage.objects import Store
from latentscale.storage.snapshots import Snapshot, read_snapshot

VERSION = 2
MAX_COLUMN_CLUSTERS = 10_000


def default_min_cluster_size(documents: int) -> int:
    """A five-hundredth of the documents between 5 and 2,000; a tenth, at least 2, of fewer than 50."""
    if documents < 50:
        return max(2, documents // 10)
    return min(2_000, max(5, documents // 500))


def clusters_request(
    config: ClusterConfig, *, snapshot_id: str, embedding: Record, projection: Record | None, documents: int
) -> dict[str, Any]:
    """Everything that alters the clusters; settings of other methods are left out."""
    request: dict[str, Any] = {
        "version": VERSION,
        "snapshot": snapshot_id,
        "embedding": embedding.id,
        "method": config.method,
        "layer_factor": config.layer_factor,
        "max_layers": config.max_layers,
    }
    if config.method == "hdbscan":
        size = config.min_cluster_size or default_min_cluster_size(documents)
        request |= {
            "space": config.space,
            "projection": projection.id if projection else None,
            "min_cluster_size": size,
            "min_samples": config.min_samples or min(10, size),
            "cluster_selection_method": config.cluster_selection_method,
            "cluster_selection_epsilon": config.cluster_selection_epsilon,
        }
    elif config.method == "kmeans":
        request |= {
            "n_clusters": config.n_clusters,
            "seed": config.seed,
        }
    else:
        request |= {"column": config.column}
    return request


def make_clusters(
    store: Store, request: dict[str, Any], embedding: Record, projection: Record | None, threads: int, run: str | None
) -> Record:
    """Find the clusters of ``request`` and write them."""
    from latentscale.backends.cpu.clustering import layer_tree, nearest_centroid

    parents = [embedding] if projection is None else [embedding, projection]
    writer = ArtifactWriter(store, "clusters", request, parents, run=run)
    names: list[str] = []
    with measured() as cost:
        snapshot = read_snapshot(store, request["snapshot"])
        vectors = load_vectors(store, snapshot, embedding.id)
        if request["method"] == "column":
            clustering, names = _from_column(store, snapshot, vectors, request["column"])
        else:
            points = vectors.matrix if projection is None else read_coordinates(store, projection)
            clustering = find_clusters(points, request, threads=threads)
        nearest, centroids = nearest_centroid(vectors.matrix, clustering.labels)
        sizes = np.bincount(clustering.labels[clustering.labels >= 0], minlength=clustering.n_clusters)
        layers = layer_tree(centroids, sizes, factor=request["layer_factor"], max_layers=request["max_layers"] - 1)
        members = pa.table(
            {
                "row_id": pa.array(vectors.row_ids),
                "cluster": pa.array(clustering.labels.astype(np.int32)),
                "nearest_cluster": pa.array(nearest.astype(np.int32)),
                "probability": pa.array(clustering.probabilities.astype(np.float32)),
            }
        )
        writer.put_table("members", members)
        dim = int(vectors.matrix.shape[1])
        tree: dict[str, pa.Array] = {
            "cluster": pa.array(np.arange(clustering.n_clusters, dtype=np.int32)),
            "size": pa.array(sizes.astype(np.int64)),
            "nearest_size": pa.array(np.bincount(nearest[nearest >= 0], minlength=clustering.n_clusters)),
            "persistence": pa.array(clustering.persistence.astype(np.float32)),
            "centroid": pa.FixedSizeListArray.from_arrays(pa.array(centroids.astype(np.float32).reshape(-1)), dim),
        }
        for depth, layer in enumerate(layers, start=1):
            tree[f"layer_{depth}"] = pa.array(np.asarray(layer, dtype=np.int32))
        if names:
            tree["name"] = pa.array(names, pa.string())
        writer.put_table("tree", pa.table(tree))
    noise = int((clustering.labels < 0).sum())
    return writer.commit(
        counts={
            "documents": len(vectors),
            "clusters": clustering.n_clusters,
            "noise": noise,
            "noise_share": round(noise / len(vectors), 4),
            "layers": [clustering.n_clusters, *(int(layer.max()) + 1 for layer in layers)],
        },
        cost=cost,
        choices={"backend": "cpu", "method": clustering.method, **clustering.details},
        notes=clustering.notes,
    )


def find_clusters(points: NDArray[np.float32], request: dict[str, Any], *, threads: int) -> Clustering:
    """Cluster ``points`` (float32, shape (n, d)) as ``request`` says."""
    from latentscale.backends.cpu.clustering import hdbscan, kmeans

    if request["method"] == "kmeans":
        return kmeans(points, n_clusters=request["n_clusters"], seed=request["seed"], threads=threads)
    return hdbscan(
        points,
        min_cluster_size=request["min_cluster_size"],
        min_samples=request["min_samples"],
        cluster_selection_method=request["cluster_selection_method"],
        cluster_selection_epsilon=request["cluster_selection_epsilon"],
    )


def _from_column(store: Store, snapshot: Snapshot, vectors: Vectors, column: str) -> tuple[Clustering, list[str]]:
    """Take the clusters from a source column: ids by size, null is noise."""
    values = column_values(store, snapshot, vectors.row_ids, column)
    counts: dict[str, int] = {}
    for value in values:
        if value is not None:
            counts[value] = counts.get(value, 0) + 1
    if len(counts) > MAX_COLUMN_CLUSTERS:
        raise CorpusError(
            f"the column {column!r} has {len(counts):,} different values, too many for clusters",
            hint=f"Choose a column with at most {MAX_COLUMN_CLUSTERS:,} values.",
        )
    names = sorted(counts, key=lambda value: -counts[value])
    place = {name: index for index, name in enumerate(names)}
    labels = np.array([-1 if value is None else place[value] for value in values], dtype=np.int32)
    clustering = Clustering(
        labels=labels,
        probabilities=(labels >= 0).astype(np.float32),
        persistence=np.full(len(names), np.nan, dtype=np.float32),
        method="column",
    )
    return clustering, names


@dataclass(frozen=True, slots=True, kw_only=True)
class Clusters:
    """The clusters of a map, as read back.

    Attributes
    ----------
    row_ids : int64 ndarray, shape (n,)
    cluster, nearest_cluster : int32 ndarray, shape (n,)
    probability : float32 ndarray, shape (n,)
    tree : pyarrow.Table
        One row a cluster: ``cluster``, ``size``, ``nearest_size``, ``persistence``, ``centroid``, ``layer_<n>``.
    """

    row_ids: NDArray[np.int64]
    cluster: NDArray[np.int32]
    nearest_cluster: NDArray[np.int32]
    probability: NDArray[np.float32]
    tree: pa.Table

    def coarser(self) -> list[NDArray[np.int32]]:
        """For layers 1, 2, …: the id in that layer of each cluster of layer 0."""
        names = [name for name in self.tree.column_names if name.startswith("layer_")]
        return [self.tree[name].to_numpy().astype(np.int32) for name in names]

    def memberships(self) -> list[NDArray[np.int32]]:
        """For layers 0, 1, …: the cluster of each document, -1 for noise (int32, shape (n,))."""
        return [self.cluster, *(_lift(layer, self.cluster) for layer in self.coarser())]

    def nearest_memberships(self) -> list[NDArray[np.int32]]:
        """As ``memberships``, with noise counted to its nearest cluster."""
        return [self.nearest_cluster, *(_lift(layer, self.nearest_cluster) for layer in self.coarser())]


def _lift(of_cluster: NDArray[np.int32], cluster: NDArray[np.int32]) -> NDArray[np.int32]:
    return np.append(of_cluster, np.int32(-1))[cluster]


def read_clusters(store: Store, record: Record) -> Clusters:
    """Read the clusters that an artifact holds."""
    members = read_table(store, record, "members")
    return Clusters(
        row_ids=members["row_id"].to_numpy(),
        cluster=members["cluster"].to_numpy(),
        nearest_cluster=members["nearest_cluster"].to_numpy(),
        probability=members["probability"].to_numpy(),
        tree=read_table(store, record, "tree"),
    )
