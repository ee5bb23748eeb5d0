"""Make one vector of those of a text's tokens, in the six ways of sentence-transformers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


def pool(hidden: Tensor, lengths: Tensor, modes: Sequence[str], *, skipped: int = 0) -> Tensor:
    """Pool vectors of tokens; rows are filled up on the right.

    Sums are taken in float32, whatever the model computes with.

    Parameters
    ----------
    hidden : Tensor, shape (n, width, d)
    lengths : int Tensor, shape (n,)
        Tokens of each row.
    modes : sequence of str
        Of ``latentscale.embedders.sentence_folder.POOLING``; the results are concatenated.
    skipped : int
        Tokens at the start of each row that do not count: the prompt of a model that leaves it out.

    Returns
    -------
    float32 Tensor, shape (n, d * len(modes))
    """
    import torch

    positions = torch.arange(hidden.shape[1], device=hidden.device)
    inside = (positions < lengths[:, None]) & (positions >= skipped)
    parts = [_POOLS[mode](hidden, lengths, inside, skipped) for mode in modes]
    return parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)


def _first(hidden: Tensor, lengths: Tensor, inside: Tensor, skipped: int) -> Tensor:
    return hidden[:, min(skipped, hidden.shape[1] - 1)].float()


def _last(hidden: Tensor, lengths: Tensor, inside: Tensor, skipped: int) -> Tensor:
    index = (lengths.long() - 1).clamp(min=0)[:, None, None].expand(-1, 1, hidden.shape[2])
    return hidden.gather(1, index).squeeze(1).float()


def _largest(hidden: Tensor, lengths: Tensor, inside: Tensor, skipped: int) -> Tensor:
    return hidden.masked_fill(~inside[:, :, None], float("-inf")).amax(dim=1).float()


def _mean(hidden: Tensor, lengths: Tensor, inside: Tensor, skipped: int) -> Tensor:
    return _sum(hidden, inside) / inside.sum(dim=1).clamp(min=1)[:, None]


def _mean_by_root(hidden: Tensor, lengths: Tensor, inside: Tensor, skipped: int) -> Tensor:
    return _sum(hidden, inside) / inside.sum(dim=1).clamp(min=1).sqrt()[:, None]


def _mean_by_position(hidden: Tensor, lengths: Tensor, inside: Tensor, skipped: int) -> Tensor:
    import torch

    weights = torch.arange(1, hidden.shape[1] + 1, device=hidden.device, dtype=torch.float32) * inside
    return (hidden.float() * weights[:, :, None]).sum(dim=1) / weights.sum(dim=1).clamp(min=1e-9)[:, None]


def _sum(hidden: Tensor, inside: Tensor) -> Tensor:
    # Numbers behind the end may be infinite in half precision, and infinity times zero is none.
    import torch

    return hidden.masked_fill(~inside[:, :, None], 0).sum(dim=1, dtype=torch.float32)


_POOLS = {
    "cls": _first,
    "max": _largest,
    "mean": _mean,
    "mean_sqrt_len_tokens": _mean_by_root,
    "weightedmean": _mean_by_position,
    "lasttoken": _last,
}
