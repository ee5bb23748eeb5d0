"""Numba kernels of the neighbour search and of UMAP's fuzzy simplicial set."""

# Plain loops over arrays, without allocations; numba ignores annotations.
# pyright: basic

import math

import numpy as np

from latentscale.backends.cpu.compiled import kernel


@kernel()
def merge_top_k(scores, first_column, indices, best):
    """Merge a tile of similarities (rows, columns) into the top k of each row, in descending order."""
    k = indices.shape[1]
    for row in range(scores.shape[0]):
        worst = best[row, k - 1]
        for column in range(scores.shape[1]):
            score = scores[row, column]
            if score > worst:  # strictly: ties keep the lower position
                slot = k - 1
                while slot > 0 and best[row, slot - 1] < score:
                    best[row, slot] = best[row, slot - 1]
                    indices[row, slot] = indices[row, slot - 1]
                    slot -= 1
                best[row, slot] = score
                indices[row, slot] = first_column + column
                worst = best[row, k - 1]


@kernel()
def rescore_rows(vectors, start, stop, candidates, indices, distances, zero):
    """Keep the k nearest distinct candidates of the rows ``start:stop`` by cosine distance, without the row itself.

    Distances below ``zero`` become 0. Returns the smallest number of neighbours of a row.
    """
    k = indices.shape[1]
    fewest = k
    for row in range(start, stop):
        n_found = 0
        for slot in range(k):
            indices[row, slot] = -1
        for c in range(candidates.shape[1]):
            other = candidates[row, c]
            if other < 0 or other == row:
                continue
            is_known = False
            for slot in range(n_found):
                if indices[row, slot] == other:
                    is_known = True
                    break
            if is_known:
                continue
            product = np.float32(0.0)
            for d in range(vectors.shape[1]):
                product += vectors[row, d] * vectors[other, d]
            distance = min(max(np.float32(1.0) - product, np.float32(0.0)), np.float32(2.0))
            if distance < zero:
                distance = np.float32(0.0)
            slot = n_found
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
                n_found = min(n_found + 1, k)
        fewest = min(fewest, n_found)
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
def knn_in_layout(points, rows, indices, squared_distances):
    """Find the k nearest other points of ``rows`` by Euclidean distance, ties by position, by brute force."""
    k = indices.shape[1]
    dim = points.shape[1]
    for r in range(rows.shape[0]):
        row = rows[r]
        worst = np.float32(np.inf)
        for slot in range(k):
            squared_distances[r, slot] = np.float32(np.inf)
        for other in range(points.shape[0]):
            if other == row:
                continue
            squared = np.float32(0.0)
            for d in range(dim):
                difference = points[row, d] - points[other, d]
                squared += difference * difference
            if squared < worst:
                slot = k - 1
                while slot > 0 and squared_distances[r, slot - 1] > squared:
                    squared_distances[r, slot] = squared_distances[r, slot - 1]
                    indices[r, slot] = indices[r, slot - 1]
                    slot -= 1
                squared_distances[r, slot] = squared
                indices[r, slot] = other
                worst = squared_distances[r, k - 1]


@kernel()
def count_closer(scores, first, rows, limits, counts):
    """Add to ``counts`` how many scores of each row exceed each of its limits; the first column is point ``first``."""
    for r in range(rows.shape[0]):
        own = rows[r] - first
        for c in range(limits.shape[1]):
            limit = limits[r, c]
            closer = 0
            for other in range(scores.shape[1]):
                if scores[r, other] > limit and other != own:
                    closer += 1
            counts[r, c] += closer
