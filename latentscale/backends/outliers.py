"""How sparse the embedding is around each document: the distance to its neighbours, and the share that is nearer.

The mean distance to the nearest neighbours is the radius of an estimate of density by nearest neighbours (Loftsgaarden
and Quesenberry 1965), averaged over the neighbours so that no single one decides it. Where the documents near each
other lie on a surface of ``m`` dimensions, the density is in proportion to that distance to the power of ``-m``:
whatever ``m`` is, to order documents by the distance is to order them by density, the densest first.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

JUDGED_BY = 15
"""Neighbours that count: as many as recall is measured at."""

_QUANTILES = 257


def mean_distances(distances: NDArray[np.float32]) -> NDArray[np.float32]:
    """The mean distance of each document to its neighbours; float32, shape (n,)."""
    if distances.shape[1] == 0:
        return np.zeros(len(distances), np.float32)
    return distances.mean(axis=1, dtype=np.float64).astype(np.float32)


def distance_quantiles(distances: NDArray[np.float32]) -> NDArray[np.float32]:
    """Describe how far fitted documents are from their own neighbours.

    Parameters
    ----------
    distances : float32 ndarray, shape (n, k)
        Of the graph of the fit, cut to as many neighbours as new documents will be judged by.

    Returns
    -------
    float32 ndarray, shape (257,)
        Rising quantiles of the mean distance at 0, 1/256, …, 1; infinite where nothing, or a single document, was
        fitted: without neighbours, none is nearer to them than a new one.
    """
    if distances.size == 0:
        return np.full(_QUANTILES, np.inf, np.float32)
    return np.quantile(mean_distances(distances), np.linspace(0.0, 1.0, _QUANTILES)).astype(np.float32)


def outlier_scores(mean_distance: NDArray[np.float32], reference: NDArray[np.float32]) -> NDArray[np.float32]:
    """Outlier score: the share of the fitted documents nearer to their neighbours than each new one is to its own.

    Parameters
    ----------
    mean_distance : float32 ndarray, shape (m,)
        From :func:`mean_distances`, over as many neighbours as the reference.
    reference : float32 ndarray, shape (q,)
        From :func:`distance_quantiles`; or the mean distances of all fitted documents in rising order, for their own
        scores.

    Returns
    -------
    float32 ndarray, shape (m,)
        In [0, 1]: 0.99 is farther out than 99 % of the fit; between two quantiles by linear interpolation.
    """
    steps = np.linspace(0.0, 1.0, len(reference))
    # Of equal quantiles (many copies in the fit) the lowest counts: an equal document is not nearer.
    first = np.searchsorted(reference, mean_distance, side="left")
    below = np.interp(mean_distance, reference, steps)
    return np.where(np.isin(mean_distance, reference), steps[np.minimum(first, len(steps) - 1)], below).astype(
        np.float32
    )


def small_fit_notes(fitted: int) -> list[str]:
    """What to say of places among so many fitted documents; nothing where there are enough to judge by."""
    if fitted > JUDGED_BY:
        return []
    documents = "1 document" if fitted == 1 else f"{fitted} documents"
    return [
        f"The map was fitted on {documents}: others lie where the nearest of these are, and their scores say little."
    ]
