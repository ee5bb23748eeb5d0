"""Label a coarser cluster by phrases that its children share, or else by its two largest children."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from latentscale.labelers.keyphrases.scores import Candidates
from latentscale.labelers.keyphrases.shares import Layer

# Minimum share of a child's documents for the child to have a phrase: absolute, and relative to the parent's share.
_HAS, _HAS_OF_PARENT = 0.08, 0.35
# Minimum children that must have a shared phrase: as a share of their number, and of the parent's documents.
_OF_CHILDREN, _OF_DOCUMENTS = 0.5, 0.6
# Minimum share of the parent's documents for a shared phrase, and minimum ratio to its share outside.
_COVERS, _RARER = 0.12, 4.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Children:
    """The clusters of the next finer layer within one cluster.

    Attributes
    ----------
    rows : int64 ndarray, shape (n_children,)
        Rows of the finer layer, largest cluster first.
    portions : float64 ndarray, shape (n_children,)
        Share of the parent's documents in each.
    """

    rows: NDArray[np.int64]
    portions: NDArray[np.float64]


def children_of(cluster: int, finer: Layer, parents: NDArray[np.int32]) -> Children:
    """Return the children of ``cluster``; ``parents`` has the parent of each row of ``finer``."""
    rows = np.flatnonzero((parents == cluster) & (finer.clusters >= 0))
    rows = rows[np.argsort(-finer.sizes[rows], kind="stable")]
    return Children(rows=rows, portions=finer.sizes[rows] / max(int(finer.sizes[rows].sum()), 1))


def shared_phrases(
    candidates: Candidates, columns: NDArray[np.int64], kept: list[int], finer: Layer, children: Children
) -> NDArray[np.bool_]:
    """Return which of the ``kept`` candidates of a parent its children share, so that they can label it.

    Parameters
    ----------
    columns : int64 ndarray, shape (n_kept,)
        Columns of ``Terms`` of the kept candidates.
    """
    inside = finer.shares[children.rows][:, columns].toarray()
    shares, outside = candidates.shares[kept], candidates.outside[kept]
    has_phrase = inside >= np.maximum(_HAS, _HAS_OF_PARENT * shares)
    in_enough_children = has_phrase.sum(axis=0) >= max(2, int(np.ceil(_OF_CHILDREN * len(children.rows))))
    in_enough_documents = children.portions @ has_phrase >= _OF_DOCUMENTS
    return (
        in_enough_children
        & in_enough_documents
        & (shares >= _COVERS)
        & (shares >= _RARER * outside)
        & ~candidates.leaning[kept]
    )
