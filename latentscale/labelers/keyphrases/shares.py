"""Measure the share of each cluster's documents that contain each phrase, layer by layer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from latentscale.labelers.keyphrases.terms import Terms

_FREQUENT = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """Shares of documents that contain each phrase, for the clusters of one layer.

    Attributes
    ----------
    clusters : int32 ndarray, shape (n_rows,)
        Ascending; may start with -1, since documents in no cluster count as outside of all clusters.
    members : list of int64 ndarray
        Sampled documents of each cluster, as rows of ``Terms``.
    sizes : int64 ndarray, shape (n_rows,)
        Number of documents of each cluster, sampled or not.
    shares : scipy CSR matrix, shape (n_rows, n_terms)
        Share of a cluster's documents that contain a phrase; sampled documents are weighted.
    early : scipy CSR matrix, shape (n_rows, n_terms)
        Share of the documents that contain it near their beginning.
    spread : scipy CSR matrix, shape (n_rows, n_terms)
        Shares balanced over the clusters of the next finer layer: ``(sum of w * sqrt(share))**2``, which is the share
        if it is equal in all of them, and lower the more it is concentrated in a few. In layer 0: the shares.
    rarity : float64 ndarray, shape (n_terms,)
        ``log(1 + 1 / sum of the shares over all clusters)``: the inverse frequency of class-based TF-IDF.
    total : float64 ndarray, shape (n_terms,)
        Estimated number of documents of the corpus that contain it.
    frequent : int32 ndarray
        Phrases of one word in more than a tenth of the documents.
    """

    clusters: NDArray[np.int32]
    members: list[NDArray[np.int64]]
    sizes: NDArray[np.int64]
    shares: Any
    early: Any
    spread: Any
    rarity: NDArray[np.float64]
    total: NDArray[np.float64]
    frequent: NDArray[np.int32]

    @property
    def n_documents(self) -> int:
        """Number of documents of the corpus."""
        return int(self.sizes.sum())


def measure_layer(
    terms: Terms,
    membership: NDArray[np.int32],
    positions: NDArray[np.int64],
    weights: NDArray[np.float64],
    *,
    finer: Layer | None,
    parents: NDArray[np.int32] | None,
) -> Layer:
    """Measure the shares in every cluster of one layer.

    Parameters
    ----------
    membership : int32 ndarray, shape (n_documents,)
        Cluster of every document of the corpus.
    positions : int64 ndarray, shape (n_sampled,)
        The sampled documents, in the order of ``terms``.
    weights : float64 ndarray, shape (n_sampled,)
        Number of documents that each represents.
    finer : Layer, optional
        The next finer layer.
    parents : int32 ndarray, optional
        Cluster in this layer of each row of ``finer``.
    """
    from scipy.sparse import csr_matrix

    clusters, sizes = np.unique(membership, return_counts=True)
    cluster_rows = np.searchsorted(clusters, membership[positions])
    sampled = np.bincount(cluster_rows, minlength=len(clusters))
    weight_sums = np.bincount(cluster_rows, weights=weights, minlength=len(clusters))
    averaging = csr_matrix(
        ((weights / weight_sums[cluster_rows]).astype(np.float32), (cluster_rows, np.arange(len(positions)))),
        shape=(len(clusters), len(positions)),
    )
    shares = _sorted(averaging @ terms.documents)
    total = np.asarray(shares.T @ sizes).ravel()
    frequent = np.flatnonzero(total > _FREQUENT * len(membership))
    one_word = (terms.words[frequent, 1:] == 0).all(axis=1)
    spread = shares
    if finer is not None and parents is not None:
        parent_rows = np.searchsorted(clusters, parents)
        portions = finer.sizes / sizes[parent_rows]
        parent_averaging = csr_matrix(
            (portions.astype(np.float32), (parent_rows, np.arange(len(parents)))), shape=(len(clusters), len(parents))
        )
        spread = _sorted((parent_averaging @ finer.shares.sqrt()).power(2))
    return Layer(
        clusters=clusters.astype(np.int32),
        members=np.split(np.argsort(cluster_rows, kind="stable"), np.cumsum(sampled)[:-1]),
        sizes=sizes,
        shares=shares,
        early=_sorted(averaging @ terms.early),
        spread=spread,
        rarity=np.log1p(1.0 / np.maximum(np.asarray(shares[clusters >= 0].sum(axis=0)).ravel(), 1e-9)),
        total=total,
        frequent=frequent[one_word].astype(np.int32),
    )


def _sorted(matrix: Any) -> Any:
    matrix.sort_indices()
    return matrix
