"""How far the vectors of an int8 model agree with those in fp32, and whether that is enough to use it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from latentscale.errors import ConfigError

CHECKED_ROWS = 256
"""Documents on which the two are compared."""
LEAST_COSINE, LEAST_RECALL = 0.99, 0.95
"""Below one of these int8 is refused, unless it is forced."""
NEIGHBORS = 15


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreement:
    """What was measured on some texts.

    Attributes
    ----------
    rows : int
        Texts that both models could embed.
    mean_cosine, worst_cosine : float
        Between the two vectors of a text.
    recall : float
        Share of the nearest neighbours of a text, among these texts, that both models agree on.
    neighbors : int
        How many neighbours of each that is: 15, or all others where there are fewer.
    """

    rows: int
    mean_cosine: float
    worst_cosine: float
    recall: float
    neighbors: int


def measure_agreement(vectors: NDArray[np.float32], reference: NDArray[np.float32]) -> Agreement:
    """Compare two sets of unit vectors of the same texts.

    Parameters
    ----------
    vectors, reference : float32 ndarray, shape (n_texts, dim)
        Their widths must be equal.

    Returns
    -------
    Agreement
        All ones where there are fewer than two texts: nothing can be said.
    """
    rows = len(reference)
    if rows == 0:
        return Agreement(rows=0, mean_cosine=1.0, worst_cosine=1.0, recall=1.0, neighbors=0)
    cosines = np.einsum("ij,ij->i", vectors, reference, dtype=np.float64)
    neighbors = min(NEIGHBORS, rows - 1)
    recall = 1.0
    if neighbors:
        found, wanted = nearest(vectors, neighbors), nearest(reference, neighbors)
        recall = float((found[:, :, None] == wanted[:, None, :]).any(axis=2).mean())
    return Agreement(
        rows=rows,
        mean_cosine=round(float(cosines.mean()), 5),
        worst_cosine=round(float(cosines.min()), 5),
        recall=round(recall, 4),
        neighbors=neighbors,
    )


def nearest(vectors: NDArray[np.float32], k: int) -> NDArray[np.int64]:
    """The ``k`` nearest others of each row by cosine (int64, shape (n, k)); among equals the earlier row."""
    similarity = vectors @ vectors.T
    np.fill_diagonal(similarity, -np.inf)
    return np.argsort(-similarity, axis=1, kind="stable")[:, :k]


def verdict(measured: Agreement, *, force: bool) -> Mapping[str, Any]:
    """Decide on int8 by what was measured.

    Parameters
    ----------
    force : bool
        Use it all the same.

    Returns
    -------
    mapping
        The measurement, the limits, ``forced``, and ``summary``, a sentence.

    Raises
    ------
    ConfigError
        If it is too far from fp32, and not forced.
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
            hint="Use fp32, --set embed.options.precision=fp32, or take it as it is: --set embed.options.force=true.",
        )
    return {
        **asdict(measured),
        "least_cosine": LEAST_COSINE,
        "least_recall": LEAST_RECALL,
        "forced": not good,
        "summary": figures + ("" if good else "; used all the same (embed.options.force)"),
    }
