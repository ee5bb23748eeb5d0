"""The compiled loop of UMAP's stochastic gradient descent."""

# pyright: basic

import numpy as np

from latentscale.backends.cpu.compiled import kernel

# Both gradients depend on the squared distance alone. They are read from a table with 32 linear pieces an octave,
# indexed by the leading bits of the float: relative error below 2e-4, three times faster than computing a power.
FIRST_BITS = np.int32((127 - 60) << 23)
PIECES_SHIFT = 18
TABLE_SIZE = (120 << 5) + 2
FRACTION_MASK = np.int32((1 << PIECES_SHIFT) - 1)
FRACTION_SCALE = np.float32(1.0 / (1 << PIECES_SHIFT))
# Weights of edges are fractions of 2**32, so that the edges of an epoch are found without a branch.
FULL_WEIGHT = (1 << 32) - 1
# Edges whose negative samples are drawn together: their forces do not depend on each other, so that the processor
# computes them side by side. With those of all edges of a vertex, layouts kept 1 % fewer neighbours.
EDGES_TOGETHER = 3
EDGES_AT_ONCE = 256


@kernel()
def coefficient(table, square):
    bits = max(np.float32(square).view(np.int32) - FIRST_BITS, np.int32(0))
    index = np.uint64(min(bits >> np.int32(PIECES_SHIFT), np.int32(TABLE_SIZE - 2)))
    low, high = table[index], table[index + np.uint64(1)]
    return low + np.float32(bits & FRACTION_MASK) * FRACTION_SCALE * (high - low)


@kernel()
def mixed(value):
    """Hash 32 bits (the function lowbias32 of C. Wellons' hash prospector)."""
    value = np.uint32(value ^ (value >> np.uint32(16)))
    value = np.uint32(value * np.uint32(0x7FEB352D))
    value = np.uint32(value ^ (value >> np.uint32(15)))
    value = np.uint32(value * np.uint32(0x846CA68B))
    return np.uint32(value ^ (value >> np.uint32(16)))


@kernel()
def in_turn(epoch, weight):
    """Whether an edge is sampled in an epoch: whether its weight goes past a multiple of 2**32."""
    return np.uint32(np.uint32(epoch + 1) * weight) < weight


@kernel()
def move_vertices(positions, start, stop, first, indptr, tail, weight, epoch, alpha, pull, push, negatives, seed):
    """Take the edges of the vertices ``start:stop`` through one epoch; both ends of an edge move, as in umap-learn.

    Axes before ``first`` count for distances, and nothing moves along them. ``weight`` is that of each edge as uint32,
    a fraction of ``FULL_WEIGHT``: an edge of weight w is sampled in w of the epochs, evenly spread.
    """
    n = np.uint64(positions.shape[0])
    dim = positions.shape[1]
    flat = positions.reshape(-1)
    four = np.float32(4.0)
    # What is random depends on the seed, the epoch and the vertex alone: no state to keep.
    key = mixed(np.uint32(mixed(np.uint32(seed)) ^ mixed(np.uint32(seed >> np.uint64(32)))) ^ mixed(np.uint32(epoch)))
    near = np.empty(EDGES_AT_ONCE, np.int64)
    random = np.empty(EDGES_TOGETHER * negatives, np.int64)
    force = np.empty(EDGES_TOGETHER * negatives, np.float32)
    own = np.empty(dim, np.float32)
    for i in range(start, stop):
        for d in range(dim):
            own[d] = flat[i * dim + d]
        base = mixed(np.uint32(np.uint32(i) ^ key))
        drawn = 0
        begin = indptr[i]
        while begin < indptr[i + 1]:
            end = min(begin + EDGES_AT_ONCE, indptr[i + 1])
            sampled = 0
            for e in range(begin, end):
                near[sampled] = np.int64(tail[e]) * dim
                sampled += in_turn(epoch, weight[e])
            begin = end
            edge = 0
            while edge < sampled:
                last = min(edge + EDGES_TOGETHER, sampled)
                count = (last - edge) * negatives
                while edge < last:
                    j = near[edge]
                    edge += 1
                    square = np.float32(0.0)
                    for d in range(dim):
                        step = own[d] - flat[j + d]
                        square += step * step
                    if square > 0.0:
                        strength = coefficient(pull, square)
                        for d in range(first, dim):
                            step = alpha * min(max(strength * (own[d] - flat[j + d]), -four), four)
                            own[d] -= step
                            flat[j + d] += step
                for k in range(count):
                    hashed = mixed(np.uint32(base + np.uint32(np.uint32(drawn + k) * np.uint32(0x9E3779B9))))
                    random[k] = np.int64((np.uint64(hashed) * n) >> np.uint64(32)) * dim
                    force[k] = np.float32(0.0)
                drawn += count
                for d in range(dim):
                    for k in range(count):
                        step = own[d] - flat[random[k] + d]
                        force[k] += step * step
                for k in range(count):
                    # From itself a vertex is not pushed: ``flat`` has it where it was.
                    force[k] = coefficient(push, force[k]) if random[k] != i * dim else np.float32(0.0)
                for d in range(first, dim):
                    total = np.float32(0.0)
                    for k in range(count):
                        total += min(max(force[k] * (own[d] - flat[random[k] + d]), -four), four)
                    own[d] += alpha * total
        for d in range(first, dim):
            flat[i * dim + d] = own[d]
