"""Outlier scores: the mean distance of a document to its nearest neighbours, and its quantile in the fit.

The distance to the k-th nearest neighbour is the radius of the k-nearest-neighbour density estimate (Loftsgaarden and
Quesenberry 1965); here it is averaged over the neighbours, so that no single one decides. In an intrinsic dimension
``m`` the density is proportional to the distance to the power of ``-m``: for any ``m``, ordering documents by distance
is ordering them by density, the densest first.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

JUDGED_BY = 15
"""Number of neighbours in the mean distance; recall is measured at the same number."""

_QUANTILES = 257


def mean_distances(distances: NDArray[np.float32]) -> NDArray[np.float32]:
    """Compute the mean distance of each document to its neighbours: float32, shape (n,)."""
    if distances.shape[1] == 0:
        return np.zeros(len(distances), np.float32)
    return distances.mean(axis=1, dtype=np.float64).astype(np.float32)


def distance_quantiles(distances: NDArray[np.float32]) -> NDArray[np.float32]:
    """Compute quantiles of the mean distances of the fitted documents.

    Parameters
    ----------
    distances : float32 ndarray, shape (n, k)
        From the graph of the fit, with as many neighbours as are used for new documents.

    Returns
    -------
    float32 ndarray, shape (257,)
        Quantiles of the mean distance at 0, 1/256, …, 1; infinite where fewer than two documents were fitted, so that
        all scores are 0.
    """
    if distances.size == 0:
        return np.full(_QUANTILES, np.inf, np.float32)
    return np.quantile(mean_distances(distances), np.linspace(0.0, 1.0, _QUANTILES)).astype(np.float32)


def outlier_scores(mean_distance: NDArray[np.float32], reference: NDArray[np.float32]) -> NDArray[np.float32]:
    """Compute outlier scores: the share of fitted documents with a smaller mean distance than each new one.

    Parameters
    ----------
    mean_distance : float32 ndarray, shape (m,)
        From :func:`mean_distances`, over as many neighbours as the reference.
    reference : float32 ndarray, shape (q,)
        From :func:`distance_quantiles`; or the sorted mean distances of all fitted documents, for their own scores.

    Returns
    -------
    float32 ndarray, shape (m,)
        In [0, 1]; interpolated linearly between quantiles. 0.99 is farther out than 99 % of the fit.
    """
    steps = np.linspace(0.0, 1.0, len(reference))
    # Of equal quantiles (many duplicates in the fit) the lowest counts: an equal document is not nearer.
    first = np.searchsorted(reference, mean_distance, side="left")
    below = np.interp(mean_distance, reference, steps)
    return np.where(np.isin(mean_distance, reference), steps[np.minimum(first, len(steps) - 1)], below).astype(
        np.float32
    )


def small_fit_notes(fitted: int) -> list[str]:
    """Return a note where too few documents were fitted for meaningful positions and scores."""
    if fitted > JUDGED_BY:
        return []
    documents = "1 document" if fitted == 1 else f"{fitted} documents"
    return [
        f"The map was fitted on {documents}: others lie where the nearest of these are, and their scores say little."
    ]
