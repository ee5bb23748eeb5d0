"""Numba kernels of densMAP: local radii on the map, and gradient steps of their correlation with the embedding's."""

# pyright: basic

import numpy as np

from latentscale.backends.cpu.compiled import kernel
from latentscale.backends.cpu.layout_kernels import FULL_WEIGHT, coefficient, is_sampled


@kernel()
def map_radii(positions, start, stop, indptr, tail, weight, pull, b, total, radius):
    """Compute the local radii of the vertices ``start:stop`` on the map.

    With phi, UMAP's similarity of the two ends of an edge on the map, ``total`` is the sum of phi over the edges of a
    vertex, and ``radius`` the mean squared distance weighted by phi. Both are 0 for a vertex without edges.
    """
    dim = positions.shape[1]
    flat = positions.reshape(-1)
    for i in range(start, stop):
        phi_sum = 0.0
        spread = 0.0
        for e in range(indptr[i], indptr[i + 1]):
            if weight[e] > 0:
                j = np.int64(tail[e]) * dim
                squared = np.float32(0.0)
                for d in range(dim):
                    step = flat[i * dim + d] - flat[j + d]
                    squared += step * step
                # The table of attractive forces is 2b (1 - phi) / squared.
                phi = 1.0 - squared * coefficient(pull, squared) / (2.0 * b)
                phi_sum += phi
                spread += phi * squared
        total[i] = phi_sum
        radius[i] = spread / phi_sum if phi_sum > 0.0 else 0.0


@kernel()
def move_by_density(positions, start, stop, indptr, tail, weight, epoch, alpha, pull, b, influence, inverse):
    """Take one gradient ascent step of densMAP's correlation along the edges of the vertices ``start:stop``.

    ``influence`` is, for each vertex, the derivative of the weighted correlation by its log radius, divided by its sum
    of phi; ``inverse`` is one over its radius. An epoch samples the same edges as UMAP's own steps.
    """
    dim = positions.shape[1]
    flat = positions.reshape(-1)
    four = np.float32(4.0)
    half = np.float32(0.5)
    full = np.float32(FULL_WEIGHT)
    for i in range(start, stop):
        for e in range(indptr[i], indptr[i + 1]):
            if is_sampled(epoch, weight[e]):
                other = np.int64(tail[e])
                j = other * dim
                squared = np.float32(0.0)
                for d in range(dim):
                    step = flat[i * dim + d] - flat[j + d]
                    squared += step * step
                if squared > 0.0:
                    decay = half * coefficient(pull, squared)
                    phi = np.float32(1.0) - squared * decay / b
                    complement = np.float32(1.0) - squared * decay
                    strength = phi * (
                        influence[i] * (complement * inverse[i] + decay)
                        + influence[other] * (complement * inverse[other] + decay)
                    )
                    # Edges are sampled in proportion to their weight, but count equally in this term.
                    strength *= np.float32(2.0) * full / np.float32(weight[e])
                    for d in range(dim):
                        step = strength * (flat[i * dim + d] - flat[j + d])
                        step = alpha * min(max(step, -four), four)
                        flat[i * dim + d] += step
                        flat[j + d] -= step
