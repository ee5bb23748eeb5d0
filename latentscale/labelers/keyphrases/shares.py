"""In what share of each cluster's documents each phrase is, layer by layer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from latentscale.labelers.keyphrases.terms import Terms

_FREQUENT = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """Shares of documents with each phrase, for the clusters of one layer.

    Attributes
    ----------
    clusters : int32 ndarray, shape (n_rows,)
        In ascending order. It may begin with -1: documents in no cluster are part of the outside.
    members : list of int64 ndarray
        Documents read of each cluster, as rows of ``Terms``.
    sizes : int64 ndarray, shape (n_rows,)
        Documents of each cluster, read or not.
    shares : scipy CSR matrix, shape (n_rows, n_terms)
        Share of a cluster's documents that have a phrase, each document counted for as many as it was drawn from.
    early : scipy CSR matrix, shape (n_rows, n_terms)
        The same, of those that have it near their beginning.
    spread : scipy CSR matrix, shape (n_rows, n_terms)
        Shares balanced over the clusters of the next finer layer: ``(sum of w * sqrt(share))**2``, which is the share
        where it is the same in all of them, and less the more a few of them have it all. Layer 0: the shares.
    rarity : float64 ndarray, shape (n_terms,)
        ``log(1 + 1 / sum of the shares over all clusters)``: the inverse frequency of class-based TF-IDF.
    total : float64 ndarray, shape (n_terms,)
        Documents of the corpus that have it, estimated.
    frequent : int32 ndarray
        Phrases of one word that more than a tenth of the documents have.
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
        """Documents of the corpus."""
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
    positions : int64 ndarray, shape (n_read,)
        Which of them were read, in the order of ``terms``.
    weights : float64 ndarray, shape (n_read,)
        For how many documents each stands.
    finer : Layer, optional
        The next finer layer.
    parents : int32 ndarray, optional
        Cluster of this layer of each row of ``finer``.
    """
    from scipy.sparse import csr_matrix

    clusters, sizes = np.unique(membership, return_counts=True)
    of_document = np.searchsorted(clusters, membership[positions])
    read = np.bincount(of_document, minlength=len(clusters))
    weighed = np.bincount(of_document, weights=weights, minlength=len(clusters))
    grouping = csr_matrix(
        ((weights / weighed[of_document]).astype(np.float32), (of_document, np.arange(len(positions)))),
        shape=(len(clusters), len(positions)),
    )
    shares = _ordered(grouping @ terms.documents)
    total = np.asarray(shares.T @ sizes).ravel()
    common = np.flatnonzero(total > _FREQUENT * len(membership))
    single = (terms.words[common, 1:] == 0).all(axis=1)
    spread = shares
    if finer is not None and parents is not None:
        row_of = np.searchsorted(clusters, parents)
        portions = finer.sizes / sizes[row_of]
        joining = csr_matrix(
            (portions.astype(np.float32), (row_of, np.arange(len(parents)))), shape=(len(clusters), len(parents))
        )
        spread = _ordered((joining @ finer.shares.sqrt()).power(2))
    return Layer(
        clusters=clusters.astype(np.int32),
        members=np.split(np.argsort(of_document, kind="stable"), np.cumsum(read)[:-1]),
        sizes=sizes,
        shares=shares,
        early=_ordered(grouping @ terms.early),
        spread=spread,
        rarity=np.log1p(1.0 / np.maximum(np.asarray(shares[clusters >= 0].sum(axis=0)).ravel(), 1e-9)),
        total=total,
        frequent=common[single].astype(np.int32),
    )


def _ordered(matrix: Any) -> Any:
    matrix.sort_indices()
    return matrix
