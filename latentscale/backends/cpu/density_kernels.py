"""The compiled loops of densMAP: local radii on the map, and the steps that bring them near to those of the vectors."""

# pyright: basic

import numpy as np

from latentscale.backends.cpu.compiled import kernel
from latentscale.backends.cpu.layout_kernels import FULL_WEIGHT, coefficient, in_turn


@kernel()
def map_radii(positions, start, stop, indptr, tail, weight, pull, b, total, radius):
    """Measure the local radii of the vertices ``start:stop`` on the map.

    With UMAP's similarity phi of two ends of an edge on the map: ``total`` becomes the sum of phi over the edges of a
    vertex, and ``radius`` the mean of squared distances weighted by it. Both are 0 for a vertex without edges.
    """
    dim = positions.shape[1]
    flat = positions.reshape(-1)
    for i in range(start, stop):
        similar = 0.0
        spread = 0.0
        for e in range(indptr[i], indptr[i + 1]):
            if weight[e] > 0:
                j = np.int64(tail[e]) * dim
                square = np.float32(0.0)
                for d in range(dim):
                    step = flat[i * dim + d] - flat[j + d]
                    square += step * step
                # The table of attractions is 2b (1 - phi) / square.
                phi = 1.0 - square * coefficient(pull, square) / (2.0 * b)
                similar += phi
                spread += phi * square
        total[i] = similar
        radius[i] = spread / similar if similar > 0.0 else 0.0


@kernel()
def move_by_density(positions, start, stop, indptr, tail, weight, epoch, alpha, pull, b, influence, inverse):
    """Take the edges of the vertices ``start:stop`` one step up the gradient of the correlation of densMAP.

    ``influence`` is, for each vertex, the derivative of the weighted correlation by its logarithmic radius, over its
    sum of phi; ``inverse`` is one over its radius. Of an epoch the same edges are taken as by UMAP's own steps.
    """
    dim = positions.shape[1]
    flat = positions.reshape(-1)
    four = np.float32(4.0)
    half = np.float32(0.5)
    full = np.float32(FULL_WEIGHT)
    for i in range(start, stop):
        for e in range(indptr[i], indptr[i + 1]):
            if in_turn(epoch, weight[e]):
                other = np.int64(tail[e])
                j = other * dim
                square = np.float32(0.0)
                for d in range(dim):
                    step = flat[i * dim + d] - flat[j + d]
                    square += step * step
                if square > 0.0:
                    falls = half * coefficient(pull, square)
                    phi = np.float32(1.0) - square * falls / b
                    rest = np.float32(1.0) - square * falls
                    strength = phi * (
                        influence[i] * (rest * inverse[i] + falls) + influence[other] * (rest * inverse[other] + falls)
                    )
                    # Edges come in proportion to their weight, and each counts once.
                    strength *= np.float32(2.0) * full / np.float32(weight[e])
                    for d in range(dim):
                        step = strength * (flat[i * dim + d] - flat[j + d])
                        step = alpha * min(max(step, -four), four)
                        flat[i * dim + d] += step
                        flat[j + d] -= step
