"""UMAP's layout on a device: stochastic gradient descent in batches of edges."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from latentscale.backends.cpu.density import serves_density
from latentscale.backends.cpu.layout import default_epochs, fit_ab, start_positions
from latentscale.backends.shown import cooling, is_shown
from latentscale.backends.torch.density import DensityTerm
from latentscale.backends.torch.device import device_memory, exact_products, repeatable, widest_float
from latentscale.errors import ShapeError

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray

    from latentscale.backends.shown import PreviewCallback
    from latentscale.backends.torch.fuzzy import Edges

# All gradients of a batch are computed at the same positions: with one batch per epoch layouts are clearly worse, with
# twelve to sixteen it equals a sequential one (docs/decisions/0013-torch-backend.md).
BATCHES = 12
_MAX_MOVE = 4.0
_TINY = 1e-30


def layout(
    edges: Edges | None,
    vectors: NDArray[Any],
    *,
    n_components: int,
    min_dist: float,
    spread: float,
    n_epochs: int | None,
    deterministic: bool,
    seed: int,
    negative_sample_rate: int,
    learning_rate: float,
    device: torch.device,
    progress: Callable[[int, int], None] | None = None,
    preview: PreviewCallback | None = None,
    fixed: NDArray[np.float32] | None = None,
    init: NDArray[np.float32] | None = None,
    radii: torch.Tensor | None = None,
    density_weight: float = 0.0,
) -> tuple[NDArray[np.float32], float | None]:
    """Lay out the documents of a fuzzy set in ``n_components`` dimensions.

    Initialized from the first principal components, as in the backend cpu. With ``deterministic`` the result is
    reproducible to the bit on the same device; it takes about 1.4 times as long on a GPU.

    Parameters
    ----------
    edges : Edges or None
        None where no document has a neighbour.
    vectors : ndarray, shape (n, dim)
    fixed : float32 ndarray, shape (n, c), optional
        The first ``c`` coordinates of each document, which are not moved: only the others are optimised.
    preview : callable, optional
        Called with (coordinates, epochs done, epochs) after each quarter of the epochs but the last: those of a copy
        that has cooled down.
    init : float32 ndarray, shape (n, n_components), optional
        Initial coordinates; by default the first principal components of ``vectors``.
    radii : float tensor, shape (n,), optional
        From :func:`latentscale.backends.torch.density.log_radii`: the local densities that the layout is to preserve.
    density_weight : float
        Their weight relative to UMAP's objective.

    Returns
    -------
    coordinates : float32 ndarray, shape (n, n_components)
    float or None
        With ``radii``, the final correlation of the log radii.

    Raises
    ------
    ShapeError
        If graph, vectors and ``fixed`` are of different numbers of documents.
    EnvironmentFailure
        If the edges do not fit in the device's memory.
    """
    import torch

    n = len(vectors)
    if edges is not None and edges.documents != n:
        raise ShapeError(
            f"the neighbour graph covers {edges.documents:,} documents, the embedding {n:,}",
            hint="Build the graph from the same snapshot.",
        )
    start = start_positions(vectors, fixed, init, n_components=n_components, seed=seed)
    epochs = default_epochs(n, n_components) if n_epochs is None else n_epochs
    if n < 2 or edges is None or epochs < 1 or not len(edges.weight):
        return start, None
    curve = fit_ab(spread=spread, min_dist=min_dist)
    with (
        torch.inference_mode(),
        exact_products(),
        repeatable(deterministic),
        device_memory("the layout", device),
    ):
        positions, correlation = _optimize(
            torch.from_numpy(start).to(device),
            edges,
            curve,
            first=0 if fixed is None else fixed.shape[1],
            epochs=epochs,
            n_negatives=negative_sample_rate,
            learning_rate=learning_rate,
            seed=seed,
            progress=progress,
            preview=preview,
            radii=radii,
            density_weight=density_weight,
        )
        return positions.cpu().numpy(), correlation


def _optimize(
    positions: torch.Tensor,
    edges: Edges,
    curve: tuple[float, float],
    *,
    first: int,
    epochs: int,
    n_negatives: int,
    learning_rate: float,
    seed: int,
    progress: Callable[[int, int], None] | None,
    preview: PreviewCallback | None,
    radii: torch.Tensor | None,
    density_weight: float,
) -> tuple[torch.Tensor, float | None]:
    import torch

    device = positions.device
    weight = edges.weight / edges.weight.max()
    # UMAP drops the edges that would be sampled in no epoch.
    is_sampled = weight >= 1.0 / epochs
    low, high, weight = edges.low[is_sampled], edges.high[is_sampled], weight[is_sampled].to(widest_float(device))
    # In the order of the graph, all edges of a document would be in one batch; shuffled, they are spread over batches.
    order = torch.argsort(_splitmix64(torch.arange(len(low), device=device) + seed), stable=True)
    low, high, weight = low[order], high[order], weight[order]
    density = None if radii is None else DensityTerm(radii, low, high, weight, curve, share=density_weight)

    def move(positions: torch.Tensor, epoch: int, rate: float) -> torch.Tensor:
        sampled = torch.floor((epoch + 1) * weight) != torch.floor(epoch * weight)
        sampled = torch.nonzero(sampled).squeeze(1)
        for batch in sampled.chunk(BATCHES):
            # Each pair is two directed edges, and each of those moves both ends.
            head = torch.cat((low[batch], high[batch]))
            tail = torch.cat((high[batch], low[batch]))
            edge = torch.cat((batch, batch + len(low)))
            moves = _gradients(
                positions, head, tail, _negative_samples(edge, n_negatives, epoch, seed) % len(positions), curve
            )
            moves[:, :first] = 0.0
            positions.index_add_(0, head, rate * moves)
        return sampled

    for epoch in range(epochs):
        rate = learning_rate * (1.0 - epoch / epochs)
        sampled = move(positions, epoch, rate)
        if density is not None and serves_density(epoch, epochs):
            density.move(positions, sampled, rate=rate, batches=BATCHES)
        if progress is not None:
            progress(epoch + 1, epochs)
        if preview is not None and is_shown(epoch + 1, epochs):
            preview_positions = positions.clone()
            for next_epoch, next_rate in cooling(epoch + 1, epochs, learning_rate):
                move(preview_positions, next_epoch, next_rate)
            preview(preview_positions.cpu().numpy(), epoch + 1, epochs)
    return positions, None if density is None else density.correlation(positions)


def _gradients(
    positions: torch.Tensor, head: torch.Tensor, tail: torch.Tensor, negatives: torch.Tensor, curve: tuple[float, float]
) -> torch.Tensor:
    """Moves of the heads: twice the attraction to the tails (both directed edges move this end), and repulsion."""
    import torch

    a, b = curve
    head_positions = positions[head]
    to_tail = head_positions - positions[tail]
    squared = (to_tail * to_tail).sum(1, keepdim=True)
    power = a * squared.clamp(min=_TINY) ** b
    pull = 2.0 * b * power / (squared.clamp(min=_TINY) * (1.0 + power))
    moves = -2.0 * torch.clamp(pull * to_tail, -_MAX_MOVE, _MAX_MOVE)
    to_negatives = head_positions[:, None, :] - positions[negatives]
    squared = (to_negatives * to_negatives).sum(2, keepdim=True)
    push = 2.0 * b / ((0.001 + squared) * (1.0 + a * squared.clamp(min=_TINY) ** b))
    repulsion = torch.clamp(push * to_negatives, -_MAX_MOVE, _MAX_MOVE)
    is_self = (negatives == head[:, None])[..., None] | (squared == 0)
    return moves + torch.where(is_self, torch.zeros_like(repulsion), repulsion).sum(1)


def _negative_samples(edge: torch.Tensor, n_negatives: int, epoch: int, seed: int) -> torch.Tensor:
    """Negative samples of edges in an epoch: non-negative int64 of shape (edges, n), the same on every device."""
    import torch

    salt = (seed * 1_000_003 + epoch) * 0x9E3779B97F4A7C1 % 2**62
    counter = edge[:, None] * n_negatives + torch.arange(n_negatives, device=edge.device)
    return _splitmix64(counter + salt) & 0x7FFFFFFF


def _splitmix64(x: torch.Tensor) -> torch.Tensor:
    """The finalizer of splitmix64 (Steele, Lea and Flood 2014), in wrapping int64."""
    x = (x ^ _shift_right(x, 30)) * -4658895280553007687
    x = (x ^ _shift_right(x, 27)) * -7723592293110705685
    return x ^ _shift_right(x, 31)


def _shift_right(x: torch.Tensor, bits: int) -> torch.Tensor:
    """Logical right shift of int64."""
    return (x >> bits) & ((1 << (64 - bits)) - 1)
