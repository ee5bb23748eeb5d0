"""Measure how well the vectors of an int8 model agree with those in fp32, and accept or reject the model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from latentscale.errors import ConfigError

CHECKED_ROWS = 256
"""Number of documents in the comparison."""
LEAST_COSINE, LEAST_RECALL = 0.99, 0.95
"""Below either limit int8 is rejected, unless forced."""
NEIGHBORS = 15


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreement:
    """Agreement of two models on some texts.

    Attributes
    ----------
    rows : int
        Texts that both models embedded.
    mean_cosine, worst_cosine : float
        Cosine similarity of the two vectors of a text.
    recall : float
        Mean share of a text's nearest neighbours, among these texts, that both models have in common.
    neighbors : int
        Neighbours per text: 15, or all other texts if fewer.
    """

    rows: int
    mean_cosine: float
    worst_cosine: float
    recall: float
    neighbors: int


def measure_agreement(vectors: NDArray[np.float32], reference: NDArray[np.float32]) -> Agreement:
    """Compare two sets of unit vectors for the same texts.

    Parameters
    ----------
    vectors, reference : float32 ndarray, shape (n_texts, dim)
        Of equal width.

    Returns
    -------
    Agreement
        All ones without texts; the recall is 1 for a single text.
    """
    rows = len(reference)
    if rows == 0:
        return Agreement(rows=0, mean_cosine=1.0, worst_cosine=1.0, recall=1.0, neighbors=0)
    cosines = np.einsum("ij,ij->i", vectors, reference, dtype=np.float64)
    neighbors = min(NEIGHBORS, rows - 1)
    recall = 1.0
    if neighbors:
        neighbor_ids, reference_ids = nearest(vectors, neighbors), nearest(reference, neighbors)
        recall = float((neighbor_ids[:, :, None] == reference_ids[:, None, :]).any(axis=2).mean())
    return Agreement(
        rows=rows,
        mean_cosine=round(float(cosines.mean()), 5),
        worst_cosine=round(float(cosines.min()), 5),
        recall=round(recall, 4),
        neighbors=neighbors,
    )


def nearest(vectors: NDArray[np.float32], k: int) -> NDArray[np.int64]:
    """Return the ``k`` nearest other rows by cosine (int64, shape (n, k)); ties go to the earlier row."""
    similarity = vectors @ vectors.T
    np.fill_diagonal(similarity, -np.inf)
    return np.argsort(-similarity, axis=1, kind="stable")[:, :k]


def verdict(measured: Agreement, *, force: bool) -> Mapping[str, Any]:
    """Accept or reject int8.

    Parameters
    ----------
    force : bool
        Accept it regardless.

    Returns
    -------
    mapping
        The measurement, the limits, ``forced``, and ``summary``, a sentence for the user.

    Raises
    ------
    ConfigError
        If the agreement is below a limit, and not forced.
    """
    good = measured.mean_cosine >= LEAST_COSINE and measured.recall >= LEAST_RECALL
    figures = (
        f"int8 against fp32 on {measured.rows} documents: mean cosine {measured.mean_cosine:.4f} (at least "
        f"{LEAST_COSINE}), {measured.recall:.1%} of the {measured.neighbors} nearest neighbours kept (at least "
        f"{LEAST_RECALL:.0%})"
    )
    if not good and not force:
        raise ConfigError(
            f"int8 is too far from fp32 for these documents. {figures}",
            where="embed.options.precision",
            hint="Use fp32, --set embed.options.precision=fp32, or accept it: --set embed.options.force=true.",
        )
    return {
        **asdict(measured),
        "least_cosine": LEAST_COSINE,
        "least_recall": LEAST_RECALL,
        "forced": not good,
        "summary": figures + ("" if good else "; used all the same (embed.options.force)"),
    }
