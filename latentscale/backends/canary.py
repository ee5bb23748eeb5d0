"""Compare a backend with the processors' on some documents, before its results are trusted."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from latentscale.backends.protocol import Backend

DOCUMENTS = 5_000
LEAST_RECALL = 0.99
MOST_DISTANCE = 1e-5
MOST_TRUST = 0.02
LEAST_AGREEMENT = 0.9
LEAST_SIMILARITY = 0.99
_NEIGHBORS = 15
_EPOCHS = 200
# As the settings' defaults: dimensions of the layout for clusters, members of the least and of a dense neighbourhood.
_DIMENSIONS, _CLUSTER, _DENSE = 5, 10, 10
_CENTROIDS = 50
# What counts as equally near: as in the neighbour search.
_TIE = 1e-6


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One comparison.

    Attributes
    ----------
    what : str
    value, limit : float
    at_least : bool
        Whether the value must be at least the limit, and not at most.
    """

    what: str
    value: float
    limit: float
    at_least: bool

    @property
    def holds(self) -> bool:
        """Whether the value is within the limit; a value that is not a number is not."""
        return self.value >= self.limit if self.at_least else self.value <= self.limit

    def __str__(self) -> str:
        return f"{self.what} {self.value:.4g} ({'at least' if self.at_least else 'at most'} {self.limit:g})"


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """A backend beside the one for processors.

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
        """The comparisons that are out of their limits."""
        return tuple(check for check in self.checks if not check.holds)

    def as_json(self) -> dict[str, Any]:
        """For the record of a run."""
        return {**asdict(self), "holds": not self.failed}


def compare_backends(backend: Backend, reference: Backend, vectors: NDArray[Any], *, threads: int) -> Comparison:
    """Compute what ``backend`` offers of neighbours, layouts and clusters by both, and compare.

    Neighbours by the share of the true ones that are found and by their distances, layouts over one graph by their
    trustworthiness: two layouts never have the same coordinates, and need not. Clusters by density of one layout by
    their adjusted Rand index with those of an exact spanning tree, K-means by how near vectors are to the centroids.

    Parameters
    ----------
    vectors : float32 ndarray, shape (n, dim)
        Unit rows; some thousand.

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
    found = backend.neighbors(vectors, k=k, method="auto", recall_target=0.95, seed=0, threads=threads)
    near = found.distances <= truth.distances[:, -1:] + _TIE
    # The distances that it gives to what it found, whatever that is.
    measured = 1.0 - np.einsum("ij,ikj->ik", vectors, vectors[found.indices], dtype=np.float64)
    return [
        Check(what="recall of the neighbours", value=float(near.mean()), limit=LEAST_RECALL, at_least=True),
        Check(
            what="largest error of a distance",
            value=float(np.abs(found.distances - np.maximum(measured, 0.0)).max()),
            limit=MOST_DISTANCE,
            at_least=False,
        ),
    ]


def _laid_out(
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
    for one in (backend, reference):
        made = _laid_out(one, truth, vectors, dimensions=2, k=k, threads=threads)
        if not np.isfinite(made).all():
            trust.append(float("nan"))
            continue
        judged = reference.faithfulness(vectors, made, k=k, sample=1_000, seed=0, threads=threads)
        if judged.trustworthiness is None:
            return []
        trust.append(judged.trustworthiness)
    return [
        Check(
            what="trustworthiness of a layout below the processors'",
            value=trust[1] - trust[0],
            limit=MOST_TRUST,
            at_least=False,
        )
    ]


def _cluster_checks(
    backend: Backend, reference: Backend, truth: Any, vectors: NDArray[Any], *, k: int, threads: int
) -> list[Check]:
    from sklearn.metrics import adjusted_rand_score

    from latentscale.backends.cpu.clustering import exact_hdbscan, hdbscan

    points = _laid_out(reference, truth, vectors, dimensions=_DIMENSIONS, k=k, threads=threads)
    settings: dict[str, Any] = {
        "min_cluster_size": _CLUSTER,
        "min_samples": _DENSE,
        "cluster_selection_method": "eom",
        "cluster_selection_epsilon": 0.0,
    }
    found = backend.hdbscan(points, **settings, threads=threads)
    # The backend cpu may take a spanning tree that is a little too long.
    exact = hdbscan(points, **settings, fit=exact_hdbscan)
    near = [
        float(
            one.kmeans(vectors, n_clusters=min(_CENTROIDS, len(vectors)), seed=0, threads=threads).probabilities.mean()
        )
        for one in (backend, reference)
    ]
    return [
        Check(
            what="agreement of the clusters (adjusted Rand index)",
            value=float(adjusted_rand_score(exact.labels, found.labels)),
            limit=LEAST_AGREEMENT,
            at_least=True,
        ),
        Check(
            what="similarity to the centroids of K-means, beside the processors'",
            value=near[0] / near[1] if near[1] > 0 else 1.0,
            limit=LEAST_SIMILARITY,
            at_least=True,
        ),
    ]
