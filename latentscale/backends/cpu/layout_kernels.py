"""Numba kernels of UMAP's stochastic gradient descent."""

# pyright: basic

import numpy as np

from latentscale.backends.cpu.compiled import kernel

# Both gradients depend on the squared distance only. They are interpolated in a table with 32 linear pieces per octave,
# indexed by the leading bits of the float: relative error below 2e-4, three times faster than computing a power.
FIRST_BITS = np.int32((127 - 60) << 23)
PIECES_SHIFT = 18
TABLE_SIZE = (120 << 5) + 2
FRACTION_MASK = np.int32((1 << PIECES_SHIFT) - 1)
FRACTION_SCALE = np.float32(1.0 / (1 << PIECES_SHIFT))
# Edge weights are fractions of 2**32, so that the edges sampled in an epoch are found without a branch.
FULL_WEIGHT = (1 << 32) - 1
# Edges whose negative samples are drawn in one batch: their forces are independent, so the loop vectorizes. With one
# batch per vertex, layouts preserved 1 % fewer neighbours.
EDGES_PER_BATCH = 3
EDGES_PER_BLOCK = 256


@kernel()
def coefficient(table, squared):
    """Interpolate the table of a force at a squared distance."""
    bits = max(np.float32(squared).view(np.int32) - FIRST_BITS, np.int32(0))
    index = np.uint64(min(bits >> np.int32(PIECES_SHIFT), np.int32(TABLE_SIZE - 2)))
    low, high = table[index], table[index + np.uint64(1)]
    return low + np.float32(bits & FRACTION_MASK) * FRACTION_SCALE * (high - low)


@kernel()
def hash_uint32(value):
    """Hash 32 bits (the function lowbias32 of C. Wellons' hash prospector)."""
    value = np.uint32(value ^ (value >> np.uint32(16)))
    value = np.uint32(value * np.uint32(0x7FEB352D))
    value = np.uint32(value ^ (value >> np.uint32(15)))
    value = np.uint32(value * np.uint32(0x846CA68B))
    return np.uint32(value ^ (value >> np.uint32(16)))


@kernel()
def is_sampled(epoch, weight):
    """Whether an edge is sampled in an epoch: whether epochs * weight crosses a multiple of 2**32."""
    return np.uint32(np.uint32(epoch + 1) * weight) < weight


@kernel()
def move_vertices(positions, start, stop, first, indptr, tail, weight, epoch, alpha, pull, push, negatives, seed):
    """Run one epoch over the edges of the vertices ``start:stop``; both ends of an edge move, as in umap-learn.

    Axes before ``first`` are fixed: they count for distances only. ``weight`` is the weight of each edge as uint32, a
    fraction of ``FULL_WEIGHT``: an edge of weight w is sampled in a share w of the epochs, evenly spaced.
    """
    n = np.uint64(positions.shape[0])
    dim = positions.shape[1]
    flat = positions.reshape(-1)
    four = np.float32(4.0)
    # Random numbers are hashes of the seed, the epoch and the vertex: there is no generator state.
    key = hash_uint32(
        np.uint32(hash_uint32(np.uint32(seed)) ^ hash_uint32(np.uint32(seed >> np.uint64(32))))
        ^ hash_uint32(np.uint32(epoch))
    )
    tail_offsets = np.empty(EDGES_PER_BLOCK, np.int64)
    negatives_offsets = np.empty(EDGES_PER_BATCH * negatives, np.int64)
    force = np.empty(EDGES_PER_BATCH * negatives, np.float32)
    current = np.empty(dim, np.float32)
    for i in range(start, stop):
        for d in range(dim):
            current[d] = flat[i * dim + d]
        base = hash_uint32(np.uint32(np.uint32(i) ^ key))
        n_drawn = 0
        block_start = indptr[i]
        while block_start < indptr[i + 1]:
            block_end = min(block_start + EDGES_PER_BLOCK, indptr[i + 1])
            n_sampled = 0
            for e in range(block_start, block_end):
                tail_offsets[n_sampled] = np.int64(tail[e]) * dim
                n_sampled += is_sampled(epoch, weight[e])
            block_start = block_end
            edge = 0
            while edge < n_sampled:
                batch_end = min(edge + EDGES_PER_BATCH, n_sampled)
                n_negatives = (batch_end - edge) * negatives
                while edge < batch_end:
                    j = tail_offsets[edge]
                    edge += 1
                    squared = np.float32(0.0)
                    for d in range(dim):
                        step = current[d] - flat[j + d]
                        squared += step * step
                    if squared > 0.0:
                        strength = coefficient(pull, squared)
                        for d in range(first, dim):
                            step = alpha * min(max(strength * (current[d] - flat[j + d]), -four), four)
                            current[d] -= step
                            flat[j + d] += step
                for k in range(n_negatives):
                    hashed = hash_uint32(np.uint32(base + np.uint32(np.uint32(n_drawn + k) * np.uint32(0x9E3779B9))))
                    negatives_offsets[k] = np.int64((np.uint64(hashed) * n) >> np.uint64(32)) * dim
                    force[k] = np.float32(0.0)
                n_drawn += n_negatives
                for d in range(dim):
                    for k in range(n_negatives):
                        step = current[d] - flat[negatives_offsets[k] + d]
                        force[k] += step * step
                for k in range(n_negatives):
                    # No repulsion from the vertex itself, whose old position is still in ``flat``.
                    force[k] = coefficient(push, force[k]) if negatives_offsets[k] != i * dim else np.float32(0.0)
                for d in range(first, dim):
                    total = np.float32(0.0)
                    for k in range(n_negatives):
                        total += min(max(force[k] * (current[d] - flat[negatives_offsets[k] + d]), -four), four)
                    current[d] += alpha * total
        for d in range(first, dim):
            flat[i * dim + d] = current[d]
