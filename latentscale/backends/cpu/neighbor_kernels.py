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
                place = k - 1
                while place > 0 and best[row, place - 1] < score:
                    best[row, place] = best[row, place - 1]
                    indices[row, place] = indices[row, place - 1]
                    place -= 1
                best[row, place] = score
                indices[row, place] = first_column + column
                worst = best[row, k - 1]


@kernel()
def measure_rows(vectors, start, stop, candidates, indices, distances, zero):
    """Sort each row's candidates by cosine distance, without the row itself and without doubles; return the fewest."""
    k = indices.shape[1]
    fewest = k
    for row in range(start, stop):
        found = 0
        for place in range(k):
            indices[row, place] = -1
        for c in range(candidates.shape[1]):
            other = candidates[row, c]
            if other < 0 or other == row:
                continue
            known = False
            for place in range(found):
                if indices[row, place] == other:
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
            place = found
            while place > 0 and (
                distances[row, place - 1] > distance
                or (distances[row, place - 1] == distance and indices[row, place - 1] > other)
            ):
                if place < k:
                    distances[row, place] = distances[row, place - 1]
                    indices[row, place] = indices[row, place - 1]
                place -= 1
            if place < k:
                distances[row, place] = distance
                indices[row, place] = other
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
        for place in range(k):
            squares[r, place] = np.float32(np.inf)
        for other in range(points.shape[0]):
            if other == row:
                continue
            square = np.float32(0.0)
            for d in range(dim):
                step = points[row, d] - points[other, d]
                square += step * step
            if square < worst:
                place = k - 1
                while place > 0 and squares[r, place - 1] > square:
                    squares[r, place] = squares[r, place - 1]
                    indices[r, place] = indices[r, place - 1]
                    place -= 1
                squares[r, place] = square
                indices[r, place] = other
                worst = squares[r, k - 1]


@kernel()
def closer_counts(scores, rows, chosen, counts):
    """Count, for each chosen point of each row, the points that are more similar to the row than it is."""
    for r in range(rows.shape[0]):
        for c in range(chosen.shape[1]):
            score = scores[r, chosen[r, c]]
            closer = 0
            for other in range(scores.shape[1]):
                if scores[r, other] > score and other != rows[r]:
                    closer += 1
            counts[r, c] = closer
