"""Lay documents out with UMAP's stochastic descent, many edges at once."""

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

    from latentscale.backends.shown import Shown
    from latentscale.backends.torch.fuzzy import Edges

# All moves of a batch start from the same places: with one batch an epoch the layout is clearly worse, with twelve to
# sixteen it equals one whose moves follow each other (docs/decisions/0013-torch-backend.md).
BATCHES = 12
_FARTHEST_MOVE = 4.0
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
    preview: Shown | None = None,
    fixed: NDArray[np.float32] | None = None,
    init: NDArray[np.float32] | None = None,
    radii: torch.Tensor | None = None,
    density_weight: float = 0.0,
) -> tuple[NDArray[np.float32], float | None]:
    """Lay out the documents of a fuzzy set in ``n_components`` dimensions.

    Starts from the first principal components, as the backend cpu does. With ``deterministic`` the same call gives the
    same bits on the same device; it takes about 1.4 times as long on a GPU.

    Parameters
    ----------
    edges : Edges or None
        None where no document has a neighbour.
    vectors : ndarray, shape (n, dim)
    fixed : float32 ndarray, shape (n, c), optional
        The first ``c`` coordinates of each document, which stay as they are: only the others are optimised.
    preview : callable, optional
        Called with (coordinates, epochs done, epochs) after each quarter of the epochs but the last: those of a copy
        that has cooled down.
    init : float32 ndarray, shape (n, n_components), optional
        Where it starts; by default the first principal components of ``vectors``.
    radii : float tensor, shape (n,), optional
        From :func:`latentscale.backends.torch.density.log_radii`: the local densities that the layout is to keep, too.
    density_weight : float
        How much they count beside UMAP's own aim.

    Returns
    -------
    coordinates : float32 ndarray, shape (n, n_components)
    float or None
        The correlation of logarithmic radii that was reached, with ``radii``.

    Raises
    ------
    ShapeError
        If the graph and the vectors are of different numbers of documents, or ``fixed`` does not fit them.
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
        places, kept = _descend(
            torch.from_numpy(start).to(device),
            edges,
            curve,
            first=0 if fixed is None else fixed.shape[1],
            epochs=epochs,
            negatives=negative_sample_rate,
            learning_rate=learning_rate,
            seed=seed,
            progress=progress,
            preview=preview,
            radii=radii,
            density_weight=density_weight,
        )
        return places.cpu().numpy(), kept


def _descend(
    places: torch.Tensor,
    edges: Edges,
    curve: tuple[float, float],
    *,
    first: int,
    epochs: int,
    negatives: int,
    learning_rate: float,
    seed: int,
    progress: Callable[[int, int], None] | None,
    preview: Shown | None,
    radii: torch.Tensor | None,
    density_weight: float,
) -> tuple[torch.Tensor, float | None]:
    import torch

    device = places.device
    weight = edges.weight / edges.weight.max()
    # UMAP drops the edges that would be sampled in no epoch.
    kept = weight >= 1.0 / epochs
    low, high, weight = edges.low[kept], edges.high[kept], weight[kept].to(widest_float(device))
    # In the order of the graph, the edges of a document would move it in one batch, all from the same place.
    order = torch.argsort(_hashed(torch.arange(len(low), device=device) + seed), stable=True)
    low, high, weight = low[order], high[order], weight[order]
    density = None if radii is None else DensityTerm(radii, low, high, weight, curve, share=density_weight)

    def move(places: torch.Tensor, epoch: int, rate: float) -> torch.Tensor:
        sampled = torch.floor((epoch + 1) * weight) != torch.floor(epoch * weight)
        sampled = torch.nonzero(sampled).squeeze(1)
        for batch in sampled.chunk(BATCHES):
            # Each pair stands for two directed edges; both move both ends.
            head = torch.cat((low[batch], high[batch]))
            tail = torch.cat((high[batch], low[batch]))
            edge = torch.cat((batch, batch + len(low)))
            moves = _moves(places, head, tail, _drawn(edge, negatives, epoch, seed) % len(places), curve)
            moves[:, :first] = 0.0
            places.index_add_(0, head, rate * moves)
        return sampled

    for epoch in range(epochs):
        rate = learning_rate * (1.0 - epoch / epochs)
        sampled = move(places, epoch, rate)
        if density is not None and serves_density(epoch, epochs):
            density.move(places, sampled, rate=rate, batches=BATCHES)
        if progress is not None:
            progress(epoch + 1, epochs)
        if preview is not None and is_shown(epoch + 1, epochs):
            cooled = places.clone()
            for further, slower in cooling(epoch + 1, epochs, learning_rate):
                move(cooled, further, slower)
            preview(cooled.cpu().numpy(), epoch + 1, epochs)
    return places, None if density is None else density.correlation(places)


def _moves(
    places: torch.Tensor, head: torch.Tensor, tail: torch.Tensor, others: torch.Tensor, curve: tuple[float, float]
) -> torch.Tensor:
    """Moves of the heads: towards the tails, twice, as both directed edges move this end; and away from the others."""
    import torch

    a, b = curve
    here = places[head]
    step = here - places[tail]
    square = (step * step).sum(1, keepdim=True)
    power = a * square.clamp(min=_TINY) ** b
    pull = 2.0 * b * power / (square.clamp(min=_TINY) * (1.0 + power))
    moves = -2.0 * torch.clamp(pull * step, -_FARTHEST_MOVE, _FARTHEST_MOVE)
    gap = here[:, None, :] - places[others]
    square = (gap * gap).sum(2, keepdim=True)
    push = 2.0 * b / ((0.001 + square) * (1.0 + a * square.clamp(min=_TINY) ** b))
    away = torch.clamp(push * gap, -_FARTHEST_MOVE, _FARTHEST_MOVE)
    itself = (others == head[:, None])[..., None] | (square == 0)
    return moves + torch.where(itself, torch.zeros_like(away), away).sum(1)


def _drawn(edge: torch.Tensor, negatives: int, epoch: int, seed: int) -> torch.Tensor:
    """Negative samples of edges in an epoch: non-negative int64 of shape (edges, negatives), alike on every device."""
    import torch

    salt = (seed * 1_000_003 + epoch) * 0x9E3779B97F4A7C1 % 2**62
    name = edge[:, None] * negatives + torch.arange(negatives, device=edge.device)
    return _hashed(name + salt) & 0x7FFFFFFF


def _hashed(x: torch.Tensor) -> torch.Tensor:
    """The finalizer of splitmix64 (Steele, Lea and Flood 2014), in int64 that wraps around."""
    x = (x ^ _shifted(x, 30)) * -4658895280553007687
    x = (x ^ _shifted(x, 27)) * -7723592293110705685
    return x ^ _shifted(x, 31)


def _shifted(x: torch.Tensor, bits: int) -> torch.Tensor:
    """Shift right as if the numbers had no sign."""
    return (x >> bits) & ((1 << (64 - bits)) - 1)
