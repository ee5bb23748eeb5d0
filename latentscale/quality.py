"""Measure how far a map can be trusted, and say in words what to doubt."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from latentscale.backends.cpu.parallel import blocks, run_blocks
from latentscale.backends.cpu.vectors import unit_rows
from latentscale.errors import ShapeError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from latentscale.backends.results import NeighborGraph

_ROWS_AT_ONCE = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Faithfulness:
    """How well a layout keeps the neighbourhoods of the embedding, on a sample of documents.

    Attributes
    ----------
    trustworthiness : float or None
        Venna and Kaski 2001, in [0, 1]: 1 if nobody became a neighbour who was not near before. None where it is not
        defined (fewer than ``1.5 k`` documents, about).
    preservation : float or None
        Share of a document's ``k`` nearest in the embedding that are among its ``k`` nearest in the layout.
    k : int
        Neighbours looked at.
    sample : int
        Documents looked at.
    """

    trustworthiness: float | None
    preservation: float | None
    k: int
    sample: int


def faithfulness(
    vectors: NDArray[Any], coordinates: NDArray[Any], *, k: int, sample: int, seed: int, threads: int
) -> Faithfulness:
    """Compare neighbourhoods of an embedding (cosine) with those of its layout (Euclidean).

    The sampled documents are compared with every document in both spaces, exactly. Ties in the embedding (identical
    texts) count for the layout: any of the tied documents is a true neighbour.

    Parameters
    ----------
    vectors : ndarray, shape (n, dim)
    coordinates : ndarray, shape (n, 2 or more)
    k : int
        Lowered to ``n - 1`` where it is larger.
    sample : int
        At most so many documents, drawn with ``seed``.

    Raises
    ------
    ShapeError
        If the two are of different numbers of documents.
    """
    n = len(vectors)
    if len(coordinates) != n:
        raise ShapeError(f"the embedding has {n:,} documents, the layout {len(coordinates):,}")
    k = min(k, n - 1)
    if k < 1:
        return Faithfulness(trustworthiness=None, preservation=None, k=0, sample=0)
    from latentscale.backends.cpu.neighbor_kernels import closer_counts, nearest_in_layout

    unit = unit_rows(vectors)
    points = np.ascontiguousarray(coordinates, np.float32)
    rows = fixed_sample(n, sample, seed=seed)

    def compare(start: int, stop: int) -> tuple[int, int]:
        some = rows[start:stop]
        scores = unit[some] @ unit.T
        near = np.empty((len(some), k), np.int64)
        nearest_in_layout(points, some, near, np.empty((len(some), k), np.float32))
        closer = np.empty((len(some), k), np.int64)
        closer_counts(scores, some, near, closer)
        return int(np.maximum(closer + 1 - k, 0).sum()), int((closer < k).sum())

    counted = run_blocks(compare, blocks(len(rows), _ROWS_AT_ONCE), threads=threads)
    penalty = sum(pair[0] for pair in counted)
    kept = sum(pair[1] for pair in counted)
    scale = k * (2 * n - 3 * k - 1)
    return Faithfulness(
        trustworthiness=1.0 - 2.0 * penalty / (len(rows) * scale) if scale > 0 and 2 * k < n else None,
        preservation=kept / (len(rows) * k),
        k=k,
        sample=len(rows),
    )


def fixed_sample(n: int, size: int, *, seed: int) -> NDArray[np.int64]:
    """Draw at most ``size`` of ``n`` positions, sorted; the same ones for the same seed."""
    if n <= size:
        return np.arange(n, dtype=np.int64)
    return np.sort(np.random.default_rng(seed).choice(n, size, replace=False)).astype(np.int64)
