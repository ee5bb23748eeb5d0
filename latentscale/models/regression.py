"""Fit the token vectors of a static model to its teacher's embeddings of passages."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from latentscale.errors import require

if TYPE_CHECKING:
    from tokenizers import Tokenizer

_PASSAGES_AT_ONCE = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class RegressionSettings:
    """Hyperparameters of the fit; the defaults are those of the shipped model.

    Attributes
    ----------
    epochs : int
        Passes over all passages.
    batch : int
        Passages per step (mini-batch size).
    learning_rate : float
        Peak learning rate of Adam (Kingma & Ba 2015) for the vectors, with linear warm-up over a twentieth of the steps
        and cosine decay to zero.
    weight_rate : float
        The same, for the logarithm of each token's weight.
    anchor : float
        Decay towards the initial vectors per step, at the peak learning rate. Rare tokens stay close to the teacher's
        embedding of the token alone.
    drop : float
        Dropout rate of the tokens of a passage, so that no token relies on another.
    seed : int
    """

    epochs: int = 8
    batch: int = 1024
    learning_rate: float = 3e-3
    weight_rate: float = 2e-2
    anchor: float = 1e-3
    drop: float = 0.1
    seed: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenBags:
    """Token ids of passages, concatenated.

    Attributes
    ----------
    ids : int32 ndarray, shape (n_tokens,)
    bounds : int64 ndarray, shape (n_passages + 1,)
        Passage ``i`` is ``ids[bounds[i]:bounds[i + 1]]``.
    """

    ids: NDArray[np.int32]
    bounds: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.bounds) - 1

    def counts(self, vocabulary: int) -> NDArray[np.int64]:
        """Count the occurrences of each token of the vocabulary."""
        return np.bincount(self.ids, minlength=vocabulary).astype(np.int64)


def token_bags(tokenizer: Tokenizer, passages: Sequence[str], *, limit: int) -> TokenBags:
    """Tokenise passages, without special and unknown tokens, up to ``limit`` tokens each."""
    unknown = _unknown_id(tokenizer)
    parts: list[NDArray[np.int32]] = []
    for start in range(0, len(passages), _PASSAGES_AT_ONCE):
        for encoded in tokenizer.encode_batch_fast(
            list(passages[start : start + _PASSAGES_AT_ONCE]), add_special_tokens=False
        ):
            ids = np.asarray(encoded.ids[:limit], dtype=np.int32)
            parts.append(ids if unknown is None else ids[ids != unknown])
    bounds = np.zeros(len(parts) + 1, dtype=np.int64)
    np.cumsum([len(part) for part in parts], out=bounds[1:])
    return TokenBags(ids=np.concatenate([np.empty(0, np.int32), *parts]), bounds=bounds)


def regress(
    start: NDArray[np.float32],
    bags: TokenBags,
    targets: NDArray[np.floating[Any]],
    *,
    settings: RegressionSettings,
    device: str = "cpu",
    on_epoch: Callable[[int, float], None] | None = None,
) -> NDArray[np.float32]:
    """Fit token vectors so that the sum over each passage has the direction of its target.

    The loss of a passage is one minus the cosine similarity of the sum of its weighted token vectors and its target.
    Each token has a vector and a weight, which are multiplied at the end.

    Parameters
    ----------
    start : float32 ndarray, shape (vocabulary, dims)
    bags : TokenBags
        Tokens of the passages; empty passages are ignored.
    targets : float ndarray, shape (n_passages, dims)
        In the space of ``start``; only their direction matters.
    device : str
        Torch device.
    on_epoch : callable, optional
        Called after each epoch with its number and mean loss.

    Returns
    -------
    float32 ndarray, shape (vocabulary, dims)

    Raises
    ------
    MissingPackageError
        If torch is not installed.
    """
    torch = require("torch", extra="torch", used_for="fitting a static model to free text")
    torch.manual_seed(settings.seed)
    generator = np.random.default_rng(settings.seed)
    usable = np.flatnonzero(np.diff(bags.bounds) > 0)
    anchor = torch.from_numpy(np.ascontiguousarray(start)).to(device)
    vectors = anchor.clone().requires_grad_(True)
    weights = torch.zeros(len(start), device=device, requires_grad=True)
    optimizer = torch.optim.Adam(
        [
            {"params": [vectors], "lr": settings.learning_rate, "peak": settings.learning_rate},
            {"params": [weights], "lr": settings.weight_rate, "peak": settings.weight_rate},
        ],
        betas=(0.9, 0.99),
    )
    ids = torch.from_numpy(bags.ids).to(device)
    steps = settings.epochs * -(-len(usable) // settings.batch)
    step = 0
    for epoch in range(settings.epochs):
        total = 0.0
        shuffled = generator.permutation(usable)
        for begin in range(0, len(shuffled), settings.batch):
            chosen = shuffled[begin : begin + settings.batch]
            rate = _rate(step, steps)
            for group in optimizer.param_groups:
                group["lr"] = group["peak"] * rate
            positions, offsets = _gather(bags.bounds, chosen)
            batch_ids = ids[torch.from_numpy(positions).to(device)]
            scale = weights.exp()[batch_ids]
            if settings.drop:
                scale = scale * (torch.rand(len(batch_ids), device=device) >= settings.drop)
            sums = torch.nn.functional.embedding_bag(
                batch_ids, vectors, torch.from_numpy(offsets).to(device), mode="sum", per_sample_weights=scale
            )
            batch_targets = torch.from_numpy(np.asarray(targets[chosen], dtype=np.float32)).to(device)
            cosines = torch.nn.functional.cosine_similarity(sums, batch_targets, dim=1, eps=1e-6)
            loss = (1 - cosines).mean()
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            if settings.anchor:
                with torch.no_grad():
                    vectors.lerp_(anchor, settings.anchor * rate)
            total += float(loss.detach()) * len(chosen)
            step += 1
        if on_epoch is not None:
            on_epoch(epoch, total / max(1, len(usable)))
    with torch.no_grad():
        return (vectors * weights.exp()[:, None]).cpu().numpy()


def _rate(step: int, steps: int) -> float:
    """Return the share of the peak learning rate: linear warm-up over a twentieth of the steps, then cosine decay."""
    warm_up = max(1, steps // 20)
    if step < warm_up:
        return (step + 1) / warm_up
    return 0.5 * (1 + math.cos(math.pi * (step - warm_up) / max(1, steps - warm_up)))


def _gather(bounds: NDArray[np.int64], chosen: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the concatenated token positions of the chosen passages, and the offset of each passage."""
    lengths = bounds[chosen + 1] - bounds[chosen]
    offsets = np.cumsum(lengths) - lengths
    positions = np.arange(int(lengths.sum())) + np.repeat(bounds[chosen] - offsets, lengths)
    return positions, offsets


def _unknown_id(tokenizer: Tokenizer) -> int | None:
    name = getattr(tokenizer.model, "unk_token", None)
    return None if name is None else tokenizer.token_to_id(name)
