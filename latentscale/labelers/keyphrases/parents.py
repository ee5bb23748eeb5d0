"""Name a cluster of a coarser layer by what its children share, or else by its two largest children."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from latentscale.labelers.keyphrases.scores import Candidates
from latentscale.labelers.keyphrases.shares import Layer

# A child has a phrase if so large a share of its documents do: of all, and of what the parent's do on average.
_HAS, _HAS_OF_PARENT = 0.08, 0.35
# Children that must have a phrase to share it: part of their number, and of the parent's documents.
_OF_CHILDREN, _OF_DOCUMENTS = 0.5, 0.6
# Share of the parent's documents below which what is shared does not name it, and how many times rarer it is outside.
_COVERS, _RARER = 0.12, 4.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Children:
    """The clusters of the next finer layer that lie in one cluster.

    Attributes
    ----------
    rows : int64 ndarray, shape (n_children,)
        As rows of the finer layer, the largest first.
    portions : float64 ndarray, shape (n_children,)
        Share of the parent's documents that each has.
    """

    rows: NDArray[np.int64]
    portions: NDArray[np.float64]


def children_of(cluster: int, finer: Layer, parents: NDArray[np.int32]) -> Children:
    """Return the children of ``cluster``; ``parents`` has the parent of each row of ``finer``."""
    rows = np.flatnonzero((parents == cluster) & (finer.clusters >= 0))
    rows = rows[np.argsort(-finer.sizes[rows], kind="stable")]
    return Children(rows=rows, portions=finer.sizes[rows] / max(int(finer.sizes[rows].sum()), 1))


def shared_phrases(
    found: Candidates, columns: NDArray[np.int64], kept: list[int], finer: Layer, children: Children
) -> NDArray[np.bool_]:
    """Which of the ``kept`` candidates of a parent its children share, so that they may name it.

    Parameters
    ----------
    columns : int64 ndarray, shape (n_kept,)
        Of the candidates, as columns of ``Terms``.
    """
    inside = finer.shares[children.rows][:, columns].toarray()
    shares, outside = found.shares[kept], found.outside[kept]
    has = inside >= np.maximum(_HAS, _HAS_OF_PARENT * shares)
    enough = has.sum(axis=0) >= max(2, int(np.ceil(_OF_CHILDREN * len(children.rows))))
    widely = children.portions @ has >= _OF_DOCUMENTS
    return enough & widely & (shares >= _COVERS) & (shares >= _RARER * outside) & ~found.leaning[kept]
