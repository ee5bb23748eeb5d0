"""The compiled loops of the neighbour search and of UMAP's fuzzy set."""

# Numba reads annotations of none of these; they are plain loops over arrays, kept free of allocation.
# pyright: basic

import math

import numpy as np

from latentscale.backends.cpu.compiled import kernel


@kernel()
def merge_top_k(scores, first_column, indices, best):
    """Merge a tile of similarities (rows, columns) into each row's best, both sorted by falling similarity."""
    k = indices.shape[1]
    for row in range(scores.shape[0]):
        worst = best[row, k - 1]
        for column in range(scores.shape[1]):
            score = scores[row, column]
            if score > worst:  # strictly: among equals the first position stays
                slot = k - 1
                while slot > 0 and best[row, slot - 1] < score:
                    best[row, slot] = best[row, slot - 1]
                    indices[row, slot] = indices[row, slot - 1]
                    slot -= 1
                best[row, slot] = score
                indices[row, slot] = first_column + column
                worst = best[row, k - 1]


@kernel()
def measure_rows(vectors, start, stop, candidates, indices, distances, zero):
    """Sort each row's candidates by cosine distance, without the row itself and without doubles; return the fewest."""
    k = indices.shape[1]
    fewest = k
    for row in range(start, stop):
        found = 0
        for slot in range(k):
            indices[row, slot] = -1
        for c in range(candidates.shape[1]):
            other = candidates[row, c]
            if other < 0 or other == row:
                continue
            known = False
            for slot in range(found):
                if indices[row, slot] == other:
                    known = True
                    break
            if known:
                continue
            product = np.float32(0.0)
            for d in range(vectors.shape[1]):
                product += vectors[row, d] * vectors[other, d]
            distance = min(max(np.float32(1.0) - product, np.float32(0.0)), np.float32(2.0))
            if distance < zero:
                distance = np.float32(0.0)
            slot = found
            while slot > 0 and (
                distances[row, slot - 1] > distance
                or (distances[row, slot - 1] == distance and indices[row, slot - 1] > other)
            ):
                if slot < k:
                    distances[row, slot] = distances[row, slot - 1]
                    indices[row, slot] = indices[row, slot - 1]
                slot -= 1
            if slot < k:
                distances[row, slot] = distance
                indices[row, slot] = other
                found = min(found + 1, k)
        fewest = min(fewest, found)
    return fewest


@kernel()
def membership_strengths(distances, target, mean_distance, weights):
    """UMAP's smooth kNN distances and membership strengths (McInnes et al. 2018, algorithms 3 and 2).

    Follows ``umap.umap_.smooth_knn_dist`` and ``compute_membership_strengths`` with ``local_connectivity=1``; the row
    itself, which those count as first neighbour, is not in ``distances``.
    """
    k = distances.shape[1]
    for row in range(distances.shape[0]):
        rho = 0.0
        total = 0.0
        for j in range(k):
            d = float(distances[row, j])
            total += d
            if rho == 0.0 and d > 0.0:
                rho = d
        low = 0.0
        high = math.inf
        sigma = 1.0
        for _ in range(64):
            psum = 0.0
            for j in range(k):
                d = distances[row, j] - rho
                psum += math.exp(-d / sigma) if d > 0.0 else 1.0
            if abs(psum - target) < 1e-5:
                break
            if psum > target:
                high = sigma
                sigma = (low + high) / 2.0
            else:
                low = sigma
                sigma = sigma * 2.0 if high == math.inf else (low + high) / 2.0
        floor = 1e-3 * (total / (k + 1) if rho > 0.0 else mean_distance)
        sigma = max(sigma, floor)
        for j in range(k):
            d = distances[row, j] - rho
            weights[row, j] = 1.0 if d <= 0.0 or sigma == 0.0 else math.exp(-d / sigma)


@kernel()
def nearest_in_layout(points, rows, indices, squares):
    """Find the nearest other points of ``rows`` by Euclidean distance, ties by position, looking at every point."""
    k = indices.shape[1]
    dim = points.shape[1]
    for r in range(rows.shape[0]):
        row = rows[r]
        worst = np.float32(np.inf)
        for slot in range(k):
            squares[r, slot] = np.float32(np.inf)
        for other in range(points.shape[0]):
            if other == row:
                continue
            square = np.float32(0.0)
            for d in range(dim):
                step = points[row, d] - points[other, d]
                square += step * step
            if square < worst:
                slot = k - 1
                while slot > 0 and squares[r, slot - 1] > square:
                    squares[r, slot] = squares[r, slot - 1]
                    indices[r, slot] = indices[r, slot - 1]
                    slot -= 1
                squares[r, slot] = square
                indices[r, slot] = other
                worst = squares[r, k - 1]


@kernel()
def closer_counts(scores, first, rows, limits, counts):
    """Add to ``counts`` how many of the points ``first``, … that ``scores`` are of exceed each limit of each row."""
    for r in range(rows.shape[0]):
        own = rows[r] - first
        for c in range(limits.shape[1]):
            limit = limits[r, c]
            closer = 0
            for other in range(scores.shape[1]):
                if scores[r, other] > limit and other != own:
                    closer += 1
            counts[r, c] += closer
