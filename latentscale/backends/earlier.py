"""Initial coordinates of a layout from an earlier one of mostly the same documents."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from latentscale.errors import ShapeError

if TYPE_CHECKING:
    from numpy.typing import NDArray

_ROWS_AT_ONCE = 16_384
# In sizes of the earlier layout: documents at exactly the same position would never separate.
_JITTER = 1e-4


def start_from_earlier(
    indices: NDArray[np.integer[Any]], earlier: NDArray[np.float32], known: NDArray[np.bool_], *, seed: int
) -> NDArray[np.float32]:
    """Start documents at their earlier position, and new ones at the mean of their positioned neighbours.

    Documents without a positioned neighbour wait for a later round (breadth-first over the graph). Those that are not
    connected to the earlier layout get uniform random positions. All positions are jittered.

    Parameters
    ----------
    indices : int ndarray, shape (n, k)
        The neighbour graph.
    earlier : float32 ndarray, shape (n, c)
        Earlier coordinates; rows of new documents are ignored.
    known : bool ndarray, shape (n,)
        Which documents are in the earlier layout.

    Returns
    -------
    float32 ndarray, shape (n, c)

    Raises
    ------
    ShapeError
        If the arrays are of different numbers of documents, or no document is known.
    """
    n = len(indices)
    if earlier.ndim != 2 or len(earlier) != n or known.shape != (n,) or not known.any():
        raise ShapeError(
            f"{n:,} documents with neighbours and an earlier layout of shape {earlier.shape} with {int(known.sum()):,} "
            "of them do not match"
        )
    random = np.random.default_rng(seed)
    positions = np.where(known[:, None], earlier, np.float32(0.0)).astype(np.float32)
    low, high = positions[known].min(axis=0), positions[known].max(axis=0)
    placed = known.copy()
    waiting = np.flatnonzero(~placed)
    while len(waiting):
        found = _at_their_neighbors(indices, positions, placed, waiting)
        if not found.any():
            positions[waiting] = random.uniform(low, high, size=(len(waiting), positions.shape[1]))
            break
        # After the round: documents placed in one round do not affect each other.
        placed[waiting[found]] = True
        waiting = waiting[~found]
    size = float((high - low).max())
    return positions + random.normal(scale=_JITTER * (size if size > 0 else 1.0), size=positions.shape).astype(
        np.float32
    )


def _at_their_neighbors(
    indices: NDArray[np.integer[Any]],
    positions: NDArray[np.float32],
    placed: NDArray[np.bool_],
    waiting: NDArray[np.int64],
) -> NDArray[np.bool_]:
    """Move documents of ``waiting`` to the mean of their placed neighbours, in place; returns which had any."""
    found = np.zeros(len(waiting), bool)
    for start in range(0, len(waiting), _ROWS_AT_ONCE):
        rows = waiting[start : start + _ROWS_AT_ONCE]
        near = indices[rows]
        counts = placed[near]
        sums = (positions[near] * counts[:, :, None]).sum(axis=1, dtype=np.float64)
        some = counts.any(axis=1)
        positions[rows[some]] = sums[some] / counts.sum(axis=1)[some, None]
        found[start : start + len(rows)] = some
    return found
