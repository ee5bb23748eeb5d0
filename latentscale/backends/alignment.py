"""Align a new fit to an earlier map: its coordinates, and the ids of its clusters."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from latentscale.errors import CorpusError, ShapeError

if TYPE_CHECKING:
    from numpy.typing import NDArray

_ROUNDS = 50
_DRAWS = 60
_REFINED = 4
_SAMPLE = 2000
_MOST_DOCUMENTS = 20_000
# Distances below this share of the map's size get about the same weight.
_NEAR = 0.01


@dataclass(frozen=True, slots=True, kw_only=True)
class Similarity:
    """A similarity transform: rotation or reflection, scale and shift.

    Attributes
    ----------
    rotation : float64 ndarray, shape (c, c)
        Orthogonal; its determinant is -1 where the map is mirrored.
    scale : float
    shift : float64 ndarray, shape (c,)
    residual : float
        Median distance between the shared documents after the fit, as a share of the fixed map's size (the root of
        its variance). 0 for maps that are the same up to a similarity, about 1 where nothing fits.
    """

    rotation: NDArray[np.float64]
    scale: float
    shift: NDArray[np.float64]
    residual: float

    def apply(self, coordinates: NDArray[Any]) -> NDArray[np.float32]:
        """Move positions of shape (n, c) from the moving map to the fixed one."""
        moved = self.scale * (np.asarray(coordinates, np.float64) @ self.rotation) + self.shift
        return moved.astype(np.float32)


def procrustes(moving: NDArray[Any], fixed: NDArray[Any]) -> Similarity:
    """Find the similarity transform that aligns one map of some documents to another map of the same documents.

    Orthogonal Procrustes analysis by the singular value decomposition (Schönemann 1966; with translation and scale
    Gower 1975), made robust: groups that two layouts put in different positions do not turn the rest. It starts from
    all documents and from small draws of them (random sample consensus, Fischler and Bolles 1981), continues with
    weights that fall with the distance (Verboon and Heiser 1992), and keeps the estimate with the least median
    distance. A reflection is allowed. The scale is the ratio of the spreads, not the regression of one map on the
    other, which shrinks a map that fits badly.

    Parameters
    ----------
    moving, fixed : ndarray, shape (s, c)
        The same documents in the same order; of more than 20,000, so many evenly spread ones count.

    Returns
    -------
    Similarity
        No rotation and no scaling where there are fewer than ``c + 1`` documents, or all at one position.

    Raises
    ------
    ShapeError
        If the two are not of one shape.
    CorpusError
        If a coordinate is NaN or infinite.
    """
    if moving.ndim != 2 or moving.shape != fixed.shape:
        raise ShapeError(f"the maps to align have the shapes {moving.shape} and {fixed.shape}")
    start, goal = np.asarray(moving, np.float64), np.asarray(fixed, np.float64)
    if not (np.isfinite(start).all() and np.isfinite(goal).all()):
        raise CorpusError("a map to align has coordinates that are not numbers (NaN or infinite)")
    if len(start) > _MOST_DOCUMENTS:
        some = np.linspace(0, len(start) - 1, _MOST_DOCUMENTS).astype(np.int64)
        start, goal = start[some], goal[some]
    s, c = start.shape
    if s == 0:
        return Similarity(rotation=np.eye(c), scale=1.0, shift=np.zeros(c), residual=0.0)
    size = float(np.sqrt(((goal - goal.mean(axis=0)) ** 2).sum(axis=1).mean()))
    before = float(np.sqrt(((start - start.mean(axis=0)) ** 2).sum(axis=1).mean()))
    if s < c + 1 or size == 0.0 or before == 0.0:
        shift = goal.mean(axis=0) - start.mean(axis=0)
        apart = np.linalg.norm(start + shift - goal, axis=1)
        return Similarity(
            rotation=np.eye(c), scale=1.0, shift=shift, residual=float(np.median(apart)) / size if size else 0.0
        )
    some = np.linspace(0, s - 1, min(s, _SAMPLE)).astype(np.int64)
    random = np.random.default_rng(0)
    starts: list[tuple[float, int, Similarity]] = []
    for draw in range(_DRAWS + 1):
        # All documents, then many small samples: one of them holds only documents that did not move.
        few = slice(None) if draw == 0 else random.choice(s, 2 * c, replace=s < 2 * c)
        for mirrored in (False, True):
            similarity = _weighted(start[few], goal[few], np.ones(len(start[few])), mirrored=mirrored)
            starts.append((float(np.median(_apart(similarity, start[some], goal[some]))), len(starts), similarity))
    finished = [_refined(similarity, start, goal, size=size) for _, _, similarity in sorted(starts)[:_REFINED]]
    finished += [_refined(similarity, start, goal, size=size) for _, _, similarity in starts[:2]]
    return min(finished, key=lambda similarity: similarity.residual)


def align_heights(heights: NDArray[Any], moving: NDArray[Any], fixed: NDArray[Any]) -> tuple[NDArray[np.float32], bool]:
    """Mirror and shift heights to match the earlier ones of shared documents; the sign of a UMAP axis is arbitrary.

    Parameters
    ----------
    heights : ndarray, shape (n,)
    moving, fixed : ndarray, shape (s,)
        The new and the earlier heights of shared documents.

    Returns
    -------
    heights : float32 ndarray, shape (n,)
    mirrored : bool
    """
    start, goal = np.asarray(moving, np.float64), np.asarray(fixed, np.float64)
    mirrored = bool(((start - start.mean()) * (goal - goal.mean())).sum() < 0)
    turned = (-1.0 if mirrored else 1.0) * (np.asarray(heights, np.float64) - np.median(start)) + np.median(goal)
    return turned.astype(np.float32), mirrored


def _refined(
    similarity: Similarity, start: NDArray[np.float64], goal: NDArray[np.float64], *, size: float
) -> Similarity:
    """Refine a similarity by iteratively reweighted least squares: outliers get a small weight."""
    mirrored = bool(np.linalg.det(similarity.rotation) < 0)
    best = similarity
    for _ in range(_ROUNDS):
        apart = _apart(similarity, start, goal)
        middle = float(np.median(apart))
        if middle / size >= best.residual - 1e-6 and best is not similarity:
            break
        best = replace(similarity, residual=middle / size)
        weights = 1.0 / (1.0 + (apart / max(middle, _NEAR * size)) ** 2)
        similarity = _weighted(start, goal, weights, mirrored=mirrored)
    return best


def _weighted(
    start: NDArray[np.float64], goal: NDArray[np.float64], weights: NDArray[np.float64], *, mirrored: bool
) -> Similarity:
    """The weighted least-squares solution with a given handedness (Kabsch 1976, Umeyama 1991)."""
    share = (weights / weights.sum())[:, None]
    from_center, to_center = (share * start).sum(axis=0), (share * goal).sum(axis=0)
    one, other = start - from_center, goal - to_center
    left, _, right = np.linalg.svd((share * one).T @ other)
    hand = np.ones(start.shape[1])
    if (np.linalg.det(left @ right) < 0) != mirrored:
        hand[-1] = -1.0
    rotation = (left * hand) @ right
    spread = float((share * one**2).sum())
    scale = float(np.sqrt((share * other**2).sum() / spread)) if spread > 0 else 1.0
    return Similarity(rotation=rotation, scale=scale, shift=to_center - scale * (from_center @ rotation), residual=0.0)


def _apart(similarity: Similarity, start: NDArray[np.float64], goal: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.linalg.norm(similarity.scale * (start @ similarity.rotation) + similarity.shift - goal, axis=1)


def carry_clusters(new: NDArray[np.int32], old: NDArray[np.int32], *, n_new: int, highest_id: int) -> NDArray[np.int32]:
    """Assign ids to the clusters of a refit: those of the old clusters that they continue, new ids to the others.

    A new cluster continues an old one if, of the documents that are in a cluster of both, more than half of the new
    cluster's were in the old one and more than half of the old one's are in the new one. Both cannot hold for two
    pairs, so the result does not depend on an order. Noise is ignored there, as it varies most between fits; but the
    Jaccard index of the two clusters, noise included, must be at least 1/4, so that a cluster that grew out of noise
    does not inherit the id of a small one.

    Parameters
    ----------
    new, old : int32 ndarray, shape (s,)
        Clusters of the shared documents in both maps; -1 is noise. Old ids need not be dense.
    n_new : int
        New clusters, their ids 0 to ``n_new - 1`` by falling size.
    highest_id : int
        The highest id that any map of the workspace ever used, -1 for none: new ids start above it.

    Returns
    -------
    int32 ndarray, shape (n_new,)
        The id of each new cluster: carried, or new, larger clusters first.

    Raises
    ------
    ShapeError
        If the two are not of the same documents, or an id is out of range.
    """
    if new.shape != old.shape:
        raise ShapeError(f"{len(new):,} documents have new clusters, {len(old):,} have old ones")
    if new.max(initial=-1) >= n_new or old.max(initial=-1) > highest_id:
        raise ShapeError(
            f"cluster ids are out of range: new up to {new.max(initial=-1)} of {n_new}, old up to "
            f"{old.max(initial=-1)} of {highest_id} ever used"
        )
    carried = np.full(n_new, -1, np.int32)
    known, column = np.unique(old, return_inverse=True)
    clustered = known >= 0
    table = np.bincount((new.astype(np.int64) + 1) * len(known) + column, minlength=(n_new + 1) * len(known)).reshape(
        n_new + 1, len(known)
    )
    both = table[1:, clustered]
    if both.size:
        either = table[1:].sum(axis=1)[:, None] + table[:, clustered].sum(axis=0)[None] - both
        same = (2 * both > both.sum(axis=1)[:, None]) & (2 * both > both.sum(axis=0)[None]) & (4 * both >= either)
        one, other = np.nonzero(same)
        carried[one] = known[clustered][other]
    is_new = np.flatnonzero(carried < 0)
    carried[is_new] = highest_id + 1 + np.arange(len(is_new))
    return carried
