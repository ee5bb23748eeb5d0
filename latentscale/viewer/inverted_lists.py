"""Inverted file index of quantised vectors (IVF; Sivic and Zisserman 2003): residual codes by nearest centroid."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

# Mean number of documents per list, and maximum number of lists, whose centroids the page reads.
LIST_ROWS, MAX_LISTS = 96, 2_048
# Lloyd's algorithm: sample vectors per centroid, and iterations.
_SAMPLE, _ITERATIONS = 16, 4
# Quantisation step, in standard deviations of the residuals; gives an entropy of four bits per component.
_STEP = 0.24
_ROWS_AT_ONCE = 8_192


@dataclass(frozen=True, slots=True, kw_only=True)
class InvertedLists:
    """Vectors as the sum of a centroid and a residual, both quantised to integer steps.

    Attributes
    ----------
    centroids : int8 ndarray, shape (lists, d)
    centroid_step : float
    codes : int8 ndarray, shape (n, d)
        Residuals, in steps of ``step``.
    step : float
    list_of : int32 ndarray, shape (n,)
    """

    centroids: NDArray[np.int8]
    centroid_step: float
    codes: NDArray[np.int8]
    step: float
    list_of: NDArray[np.int32]

    def nearest(
        self, queries: NDArray[np.float32], *, k: int, widths: Sequence[int]
    ) -> Iterator[list[NDArray[np.int64]]]:
        """Yield for each query, and each number of probed lists in ``widths``, the ``k`` best rows, best first."""
        order = np.argsort(self.list_of, kind="stable")
        bounds = np.searchsorted(self.list_of[order], np.arange(len(self.centroids) + 1))
        centroids = self.centroids.astype(np.float32) * np.float32(self.centroid_step)
        centroid_scores = queries @ centroids.T
        chosen = np.argsort(-centroid_scores, axis=1, kind="stable")[:, : max(widths)]
        for query, probed, scores in zip(queries, chosen, centroid_scores, strict=True):
            parts = [order[bounds[i] : bounds[i + 1]] for i in probed]
            rows, ends = np.concatenate(parts), np.cumsum([len(part) for part in parts])
            values = self.codes[rows].astype(np.float32) @ (query * np.float32(self.step)) + scores[self.list_of[rows]]
            best = np.argsort(-values, kind="stable")
            yield [rows[best[best < ends[width - 1]][:k]] for width in widths]


def inverted_lists(vectors: NDArray[np.float32]) -> InvertedLists:
    """Partition unit vectors into lists of about 96, by spherical k-means on a sample; deterministic."""
    n = len(vectors)
    count = max(1, min(MAX_LISTS, n // LIST_ROWS))
    random = np.random.default_rng(0)
    sample = np.ascontiguousarray(vectors[np.sort(random.choice(n, min(n, count * _SAMPLE), replace=False))])
    centroids = sample[random.choice(len(sample), count, replace=False)]
    for _ in range(_ITERATIONS if count > 1 else 1):
        centroids = _means(sample, _nearest(sample, centroids), centroids)
    step = float(np.abs(centroids).max()) / 127 or 1.0
    centroid_codes = np.rint(centroids / step).astype(np.int8)
    rounded = centroid_codes.astype(np.float32) * np.float32(step)
    list_of = _nearest(vectors, rounded)
    spread = float((sample - rounded[_nearest(sample, rounded)]).std()) or 1 / 127
    codes = np.empty(vectors.shape, np.int8)
    for start in range(0, n, _ROWS_AT_ONCE):
        block = slice(start, start + _ROWS_AT_ONCE)
        steps = (vectors[block] - rounded[list_of[block]]) / np.float32(_STEP * spread)
        codes[block] = np.rint(steps).clip(-127, 127)
    return InvertedLists(
        centroids=centroid_codes, centroid_step=step, codes=codes, step=_STEP * spread, list_of=list_of
    )


def _nearest(vectors: NDArray[np.float32], centroids: NDArray[np.float32]) -> NDArray[np.int32]:
    nearest = np.empty(len(vectors), np.int32)
    for start in range(0, len(vectors), _ROWS_AT_ONCE):
        block = slice(start, start + _ROWS_AT_ONCE)
        nearest[block] = (vectors[block] @ centroids.T).argmax(axis=1)
    return nearest


def _means(
    vectors: NDArray[np.float32], list_of: NDArray[np.int32], previous: NDArray[np.float32]
) -> NDArray[np.float32]:
    """The normalised means of the lists; the centroid of an empty list is kept."""
    order = np.argsort(list_of, kind="stable")
    starts = np.flatnonzero(np.r_[True, np.diff(list_of[order]) > 0])
    sums = np.add.reduceat(vectors[order], starts, axis=0)
    norms = np.linalg.norm(sums, axis=1, keepdims=True)
    means = previous.copy()
    means[list_of[order][starts]] = np.where(
        norms > 0, sums / np.maximum(norms, 1e-12), previous[list_of[order][starts]]
    )
    return means
