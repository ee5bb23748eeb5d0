"""A fitted map, on which new documents are placed."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from latentscale.backends import Assignment, Fitted
from latentscale.backends.centers import centers_of, nearest_center
from latentscale.backends.heights import place_heights
from latentscale.backends.select import open_backend
from latentscale.stages.cluster import read_clusters
from latentscale.stages.neighbors import read_graph
from latentscale.stages.project import read_coordinates
from latentscale.storage.artifacts import Record, needed_record
from latentscale.storage.objects import Store
from latentscale.storage.parquet import read_parquet
from latentscale.storage.snapshots import read_snapshot
from latentscale.storage.vectors import load_vectors

Ids = NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Fit:
    """Records of a fitted map that placing documents needs."""

    map: Record
    neighbors: Record
    projection: Record
    clusters: Record
    height: Record | None = None

    def records(self) -> list[Record]:
        """Return all records except the map's."""
        return [self.neighbors, self.projection, self.clusters, *([self.height] if self.height else [])]


def read_fit(store: Store, parent: Record) -> Fit:
    """Read the fit of a map: its own, or that of the map which updates extended.

    Raises
    ------
    DamagedObjectError
        If one of its artifacts is missing.
    """
    update = parent.request.get("update")
    fitted = needed_record(store, "map", str(update["fit"])) if update else parent
    height = fitted.request.get("height")
    return Fit(
        map=fitted,
        neighbors=needed_record(store, "neighbors", str(fitted.request["neighbors"])),
        projection=needed_record(store, "projection", str(fitted.request["projection"])),
        clusters=needed_record(store, "clusters", str(fitted.request["clusters"])),
        height=needed_record(store, "projection", str(height)) if height else None,
    )


class FittedMap:
    """Vectors, graph, layout and clusters of a fit, in memory for placing documents.

    Parameters
    ----------
    store : Store
        Workspace of the map.
    fit : Fit

    Attributes
    ----------
    clusters : Clusters
    column : str or None
        The source column whose values are the clusters, if they come from one.
    """

    def __init__(self, store: Store, fit: Fit) -> None:
        layout, request = fit.projection.request, fit.map.request
        self._n_neighbors, self._spread = int(layout["n_neighbors"]), float(layout["spread"])
        self._seed = int(layout["seed"])
        vectors = load_vectors(store, read_snapshot(store, str(request["snapshot"])), str(request["embedding"]))
        clusters = self.clusters = read_clusters(store, fit.clusters)
        centroids = np.concatenate([chunk.flatten().to_numpy() for chunk in clusters.tree["centroid"].chunks] or [[]])
        self._fitted = Fitted(
            vectors=vectors.matrix,
            graph=read_graph(store, fit.neighbors),
            coordinates=read_coordinates(store, fit.projection),
            cluster=clusters.cluster,
            probability=clusters.probability,
            centroids=centroids.reshape(-1, vectors.matrix.shape[1]).astype(np.float32),
            sizes=clusters.tree["size"].to_numpy(),
        )
        self._density = _fit_density(store, fit, clusters.row_ids)
        self._space = read_coordinates(store, fit.height) if fit.height else None
        request = fit.clusters.request
        self._method, self._clustered = request["method"], request.get("space")
        # K-means on the layout assigns by the nearest centre; edited clusters are no cells of it, so neighbours vote.
        areas = self._method == "kmeans" and self._clustered == "map" and not request.get("anchors")
        of_fit = self._fitted
        self._centers = centers_of(of_fit.coordinates, of_fit.cluster, len(of_fit.sizes)) if areas else None
        self.column = str(fit.clusters.request["column"]) if self._method == "column" else None

    @property
    def width(self) -> int:
        """Dimension of the vectors."""
        return int(self._fitted.vectors.shape[1])

    def place(
        self,
        matrix: NDArray[np.float32],
        values: Sequence[str | None] | None,
        *,
        backend: str,
        recall_target: float,
        threads: int,
    ) -> tuple[dict[str, NDArray[Any]], Assignment]:
        """Place documents, and assign clusters.

        Parameters
        ----------
        matrix : float32 ndarray, shape (m, dim)
            Unit rows.
        values : sequence of str or None
            Value of ``column`` for each document, if the clusters come from a column.

        Returns
        -------
        columns : dict of str to ndarray, shape (m,)
            ``x``, ``y``, ``cluster``, ``nearest_cluster``, ``probability``, ``density``, ``neighbor_distance``,
            ``outlier_score``, and ``z`` on a map of three dimensions.
        assignment : Assignment
        """
        assignment = open_backend(backend).assign(
            matrix,
            self._fitted,
            keys=_keys(matrix),
            n_neighbors=self._n_neighbors,
            spread=self._spread,
            recall_target=recall_target,
            seed=self._seed,
            threads=threads,
        )
        cluster, nearest, probability = self._by_method(matrix, values, assignment)
        places = assignment.coordinates.astype(np.float32)
        columns: dict[str, NDArray[Any]] = {
            "x": np.ascontiguousarray(places[:, 0]),
            "y": np.ascontiguousarray(places[:, 1]),
            "cluster": cluster.astype(np.int32),
            "nearest_cluster": nearest.astype(np.int32),
            "probability": probability.astype(np.float32),
            "density": np.median(self._density[assignment.indices], axis=1).astype(np.float32),
            "neighbor_distance": assignment.neighbor_distance.astype(np.float32),
            "outlier_score": assignment.outlier_score.astype(np.float32),
        }
        if self._space is not None:
            columns["z"] = place_heights(assignment.indices, places, self._space, n_neighbors=self._n_neighbors)
        return columns, assignment

    def _by_method(
        self, matrix: NDArray[np.float32], values: Sequence[str | None] | None, assignment: Assignment
    ) -> tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.float32]]:
        """Assign cluster, nearest cluster and probability by the clustering method of the fit."""
        tree = self.clusters.tree
        used = np.flatnonzero(self._fitted.sizes > 0)
        if self._centers is not None:
            nearest, closeness = nearest_center(assignment.coordinates, self._centers[used])
            chosen = used[nearest].astype(np.int32)
            return chosen, chosen, closeness
        if self._method == "kmeans" and self._clustered is None:
            # K-means has no noise: the nearest centroid, with its cosine as the probability.
            cosines = matrix @ self._fitted.centroids[used].T
            nearest = used[cosines.argmax(axis=1)].astype(np.int32)
            return nearest, nearest, cosines.max(axis=1).clip(0.0, 1.0)
        if values is not None:
            ids = {name: i for i, name in enumerate(tree["name"].to_pylist()) if name is not None}
            chosen = np.array([-1 if value is None else ids.get(value, -1) for value in values], dtype=np.int32)
            nearest = np.where(chosen < 0, assignment.nearest_cluster, chosen).astype(np.int32)
            return chosen, nearest, (chosen >= 0).astype(np.float32)
        return assignment.cluster, assignment.nearest_cluster, assignment.probability


def _keys(matrix: NDArray[np.float32]) -> NDArray[np.uint64]:
    """Hash each vector and its occurrence number, as seeds for the jitter of positions.

    Row ids would depend on the order in which files arrived. Duplicates get different seeds, so that their positions
    differ.
    """
    copies: Counter[bytes] = Counter()
    digests = bytearray()
    for row in np.ascontiguousarray(matrix):
        whole = hashlib.blake2b(row.tobytes(), digest_size=16).digest()
        digests += hashlib.blake2b(whole + copies[whole].to_bytes(8, "little"), digest_size=8).digest()
        copies[whole] += 1
    return np.frombuffer(bytes(digests), dtype="<u8").astype(np.uint64)


def _fit_density(store: Store, fit: Fit, row_ids: Ids) -> NDArray[np.float32]:
    """Read the density around each fitted document, in the order of ``row_ids``."""
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
