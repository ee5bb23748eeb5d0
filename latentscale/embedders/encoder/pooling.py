"""Pool token vectors in torch, with the six modes of sentence-transformers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


def pool(hidden: Tensor, lengths: Tensor, modes: Sequence[str], *, skipped: int = 0) -> Tensor:
    """Pool token vectors; rows are padded on the right.

    Sums are in float32, whatever the model's precision.

    Parameters
    ----------
    hidden : Tensor, shape (n, width, d)
    lengths : int Tensor, shape (n,)
        Tokens of each row.
    modes : sequence of str
        Modes of ``latentscale.embedders.sentence_folder.POOLING``; the results are concatenated.
    skipped : int
        Tokens at the start of each row to exclude: the prompt, for models that do not pool it.

    Returns
    -------
    float32 Tensor, shape (n, d * len(modes))
    """
    import torch

    positions = torch.arange(hidden.shape[1], device=hidden.device)
    mask = (positions < lengths[:, None]) & (positions >= skipped)
    pooled = [_POOLS[mode](hidden, lengths, mask, skipped) for mode in modes]
    return pooled[0] if len(pooled) == 1 else torch.cat(pooled, dim=1)


def _first(hidden: Tensor, lengths: Tensor, mask: Tensor, skipped: int) -> Tensor:
    return hidden[:, min(skipped, hidden.shape[1] - 1)].float()


def _last(hidden: Tensor, lengths: Tensor, mask: Tensor, skipped: int) -> Tensor:
    index = (lengths.long() - 1).clamp(min=0)[:, None, None].expand(-1, 1, hidden.shape[2])
    return hidden.gather(1, index).squeeze(1).float()


def _largest(hidden: Tensor, lengths: Tensor, mask: Tensor, skipped: int) -> Tensor:
    return hidden.masked_fill(~mask[:, :, None], float("-inf")).amax(dim=1).float()


def _mean(hidden: Tensor, lengths: Tensor, mask: Tensor, skipped: int) -> Tensor:
    return _sum(hidden, mask) / mask.sum(dim=1).clamp(min=1)[:, None]


def _mean_by_root(hidden: Tensor, lengths: Tensor, mask: Tensor, skipped: int) -> Tensor:
    return _sum(hidden, mask) / mask.sum(dim=1).clamp(min=1).sqrt()[:, None]


def _mean_by_position(hidden: Tensor, lengths: Tensor, mask: Tensor, skipped: int) -> Tensor:
    import torch

    weights = torch.arange(1, hidden.shape[1] + 1, device=hidden.device, dtype=torch.float32) * mask
    return (hidden.float() * weights[:, :, None]).sum(dim=1) / weights.sum(dim=1).clamp(min=1e-9)[:, None]


def _sum(hidden: Tensor, mask: Tensor) -> Tensor:
    # Values in the padding may be infinite in half precision, and infinity times zero is NaN.
    import torch

    return hidden.masked_fill(~mask[:, :, None], 0).sum(dim=1, dtype=torch.float32)


_POOLS = {
    "cls": _first,
    "max": _largest,
    "mean": _mean,
    "mean_sqrt_len_tokens": _mean_by_root,
    "weightedmean": _mean_by_position,
    "lasttoken": _last,
}
