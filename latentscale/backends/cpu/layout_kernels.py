"""The compiled loop of UMAP's stochastic gradient descent."""

# pyright: basic

import math

import numpy as np

from latentscale.backends.cpu.compiled import kernel

# Both gradients depend on the squared distance alone. They are read from a table with 32 linear pieces an octave,
# indexed by the leading bits of the float: relative error below 2e-4, three times faster than computing a power.
FIRST_BITS = np.int32((127 - 60) << 23)
PIECES_SHIFT = 18
TABLE_SIZE = (120 << 5) + 2
FRACTION_MASK = np.int32((1 << PIECES_SHIFT) - 1)
FRACTION_SCALE = np.float32(1.0 / (1 << PIECES_SHIFT))


@kernel()
def coefficient(table, square):
    bits = np.float32(square).view(np.int32) - FIRST_BITS
    if bits < 0:
        return table[0]
    index = bits >> PIECES_SHIFT
    if index > TABLE_SIZE - 2:
        return table[TABLE_SIZE - 1]
    return table[index] + np.float32(bits & FRACTION_MASK) * FRACTION_SCALE * (table[index + 1] - table[index])


@kernel()
def move_vertices(positions, start, stop, first, indptr, tail, weight, epoch, alpha, pull, push, negatives, seed):
    """Take the edges of the vertices ``start:stop`` through one epoch; both ends of an edge move, as in umap-learn.

    Axes before ``first`` count for distances, and nothing moves along them.
    """
    n = np.uint64(positions.shape[0])
    dim = positions.shape[1]
    four = np.float32(4.0)
    for i in range(start, stop):
        # A generator for each vertex and epoch (splitmix64 seeds a xorshift): no state to keep.
        state = seed + np.uint64(i) * np.uint64(0x9E3779B97F4A7C15) + np.uint64(epoch) * np.uint64(0xD1B54A32D192ED03)
        state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        state = (state ^ (state >> np.uint64(31))) | np.uint64(1)
        for e in range(indptr[i], indptr[i + 1]):
            # An edge of weight w (the strongest has 1) is sampled in w of the epochs, evenly spread.
            if math.floor((epoch + 1) * weight[e]) == math.floor(epoch * weight[e]):
                continue
            j = np.int64(tail[e])
            square = np.float32(0.0)
            for d in range(dim):
                step = positions[i, d] - positions[j, d]
                square += step * step
            if square > 0.0:
                force = coefficient(pull, square)
                for d in range(first, dim):
                    step = alpha * min(max(force * (positions[i, d] - positions[j, d]), -four), four)
                    positions[i, d] -= step
                    positions[j, d] += step
            for _ in range(negatives):
                state ^= state >> np.uint64(12)
                state ^= state << np.uint64(25)
                state ^= state >> np.uint64(27)
                j = np.int64((((state * np.uint64(0x2545F4914F6CDD1D)) >> np.uint64(32)) * n) >> np.uint64(32))
                if j == i:
                    continue
                square = np.float32(0.0)
                for d in range(dim):
                    step = positions[i, d] - positions[j, d]
                    square += step * step
                if square > 0.0:
                    force = coefficient(push, square)
                    for d in range(first, dim):
                        step = force * (positions[i, d] - positions[j, d])
                        positions[i, d] += alpha * min(max(step, -four), four)
