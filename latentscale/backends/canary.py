"""Compare a backend with the reference backend on a sample of documents, before its results are used."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from latentscale.backends.protocol import Backend

DOCUMENTS = 5_000
MIN_RECALL = 0.99
MAX_DISTANCE_ERROR = 1e-5
MAX_TRUSTWORTHINESS_LOSS = 0.02
MIN_RAND_INDEX = 0.9
MIN_SIMILARITY_RATIO = 0.99
_NEIGHBORS = 15
_EPOCHS = 200
# Defaults of the settings: dimensions of the layout for clusters, min_cluster_size and min_samples.
_DIMENSIONS, _CLUSTER, _DENSE = 5, 10, 10
_CENTROIDS = 50
# Distances within this are ties, as in the neighbour search.
_TIE = 1e-6


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One compared figure.

    Attributes
    ----------
    what : str
    value, limit : float
    at_least : bool
        Whether ``limit`` is a lower bound; otherwise an upper one.
    """

    what: str
    value: float
    limit: float
    at_least: bool

    @property
    def holds(self) -> bool:
        """Whether the value is within the limit; False for NaN."""
        return self.value >= self.limit if self.at_least else self.value <= self.limit

    def __str__(self) -> str:
        return f"{self.what} {self.value:.4g} ({'at least' if self.at_least else 'at most'} {self.limit:g})"


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """The comparison of a backend with the reference.

    Attributes
    ----------
    backend : str
    documents : int
    checks : tuple of Check
    """

    backend: str
    documents: int
    checks: tuple[Check, ...]

    @property
    def failed(self) -> tuple[Check, ...]:
        """The checks that are outside their limits."""
        return tuple(check for check in self.checks if not check.holds)

    def as_json(self) -> dict[str, Any]:
        """Return plain values, for the record of a run."""
        return {**asdict(self), "holds": not self.failed}


def compare_backends(backend: Backend, reference: Backend, vectors: NDArray[Any], *, threads: int) -> Comparison:
    """Run the stages that ``backend`` computes with both backends, and compare the results.

    Neighbours are compared by recall and by their distances; layouts of the same graph by trustworthiness, as their
    coordinates always differ; HDBSCAN on the same layout by the adjusted Rand index with an exact spanning tree;
    K-means by the mean similarity to the centroids.

    Parameters
    ----------
    vectors : float32 ndarray, shape (n, dim)
        Unit rows; a few thousand.

    Returns
    -------
    Comparison
        Without checks where there are fewer than three documents.
    """
    k = min(_NEIGHBORS, len(vectors) - 1)
    checks: list[Check] = []
    if k >= 2:
        truth = reference.neighbors(vectors, k=k, method="exact", recall_target=1.0, seed=0, threads=threads)
        if "neighbors" in backend.stages:
            checks += _neighbor_checks(backend, truth, vectors, k=k, threads=threads)
        if "project" in backend.stages:
            checks += _layout_checks(backend, reference, truth, vectors, k=k, threads=threads)
        if "cluster" in backend.stages:
            checks += _cluster_checks(backend, reference, truth, vectors, k=k, threads=threads)
    return Comparison(backend=backend.name, documents=len(vectors), checks=tuple(checks))


def _neighbor_checks(backend: Backend, truth: Any, vectors: NDArray[Any], *, k: int, threads: int) -> list[Check]:
    graph = backend.neighbors(vectors, k=k, method="auto", recall_target=0.95, seed=0, threads=threads)
    is_near = graph.distances <= truth.distances[:, -1:] + _TIE
    # Distances are checked for the neighbours that were found, right or wrong.
    exact_distances = 1.0 - np.einsum("ij,ikj->ik", vectors, vectors[graph.indices], dtype=np.float64)
    return [
        Check(what="recall of the neighbours", value=float(is_near.mean()), limit=MIN_RECALL, at_least=True),
        Check(
            what="largest error of a distance",
            value=float(np.abs(graph.distances - np.maximum(exact_distances, 0.0)).max()),
            limit=MAX_DISTANCE_ERROR,
            at_least=False,
        ),
    ]


def _layout(
    backend: Backend, truth: Any, vectors: NDArray[Any], *, dimensions: int, k: int, threads: int
) -> NDArray[np.float32]:
    return backend.layout(
        truth,
        vectors,
        n_components=dimensions,
        n_neighbors=k,
        min_dist=0.1,
        spread=1.0,
        n_epochs=_EPOCHS,
        negative_sample_rate=5,
        learning_rate=1.0,
        deterministic=True,
        seed=0,
        threads=threads,
    ).coordinates


def _layout_checks(
    backend: Backend, reference: Backend, truth: Any, vectors: NDArray[Any], *, k: int, threads: int
) -> list[Check]:
    trust: list[float] = []
    for each in (backend, reference):
        coordinates = _layout(each, truth, vectors, dimensions=2, k=k, threads=threads)
        if not np.isfinite(coordinates).all():
            trust.append(float("nan"))
            continue
        faithfulness = reference.faithfulness(vectors, coordinates, k=k, sample=1_000, seed=0, threads=threads)
        if faithfulness.trustworthiness is None:
            return []
        trust.append(faithfulness.trustworthiness)
    return [
        Check(
            what="trustworthiness of a layout below that of the CPU backend",
            value=trust[1] - trust[0],
            limit=MAX_TRUSTWORTHINESS_LOSS,
            at_least=False,
        )
    ]


def _cluster_checks(
    backend: Backend, reference: Backend, truth: Any, vectors: NDArray[Any], *, k: int, threads: int
) -> list[Check]:
    from sklearn.metrics import adjusted_rand_score

    from latentscale.backends.cpu.clustering import exact_hdbscan, hdbscan

    points = _layout(reference, truth, vectors, dimensions=_DIMENSIONS, k=k, threads=threads)
    settings: dict[str, Any] = {
        "min_cluster_size": _CLUSTER,
        "min_samples": _DENSE,
        "cluster_selection_method": "eom",
        "cluster_selection_epsilon": 0.0,
    }
    graph = backend.hdbscan(points, **settings, threads=threads)
    # The backend cpu may use an approximate spanning tree.
    exact = hdbscan(points, **settings, fit=exact_hdbscan)
    similarities = [
        float(
            one.kmeans(vectors, n_clusters=min(_CENTROIDS, len(vectors)), seed=0, threads=threads).probabilities.mean()
        )
        for one in (backend, reference)
    ]
    return [
        Check(
            what="agreement of the clusters (adjusted Rand index)",
            value=float(adjusted_rand_score(exact.labels, graph.labels)),
            limit=MIN_RAND_INDEX,
            at_least=True,
        ),
        Check(
            what="similarity to the centroids of K-means, relative to the CPU backend",
            value=similarities[0] / similarities[1] if similarities[1] > 0 else 1.0,
            limit=MIN_SIMILARITY_RATIO,
            at_least=True,
        ),
    ]
