"""Encoder on a device: maps batches of tokens to unit vectors."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from latentscale.embedders.encoder.heads import load_head
from latentscale.embedders.encoder.loading import LoadSettings, check_place, load_encoder
from latentscale.embedders.encoder.masks import known_padding, register_masks
from latentscale.embedders.encoder.pooling import pool
from latentscale.embedders.sentence_folder import SentenceFolder
from latentscale.errors import ResourceError

if TYPE_CHECKING:
    from torch import Tensor


class SentenceModel:
    """An encoder with pooling and heads on a device.

    Parameters
    ----------
    folder : SentenceFolder
    loading : LoadSettings

    Attributes
    ----------
    attention : str
        Attention implementation in use.
    device : str

    Raises
    ------
    ConfigError
        If the weights do not match the model, or a setting is invalid.
    ResourceError
        If the device is unavailable, or its memory too small.
    MissingPackageError
        If torch or transformers is not installed.
    """

    def __init__(self, folder: SentenceFolder, loading: LoadSettings) -> None:
        check_place(folder, loading)
        import torch

        self._torch = torch
        encoder = load_encoder(folder, loading)
        register_masks()
        self.attention: str = getattr(encoder.config, "_attn_implementation", None) or "unknown"
        try:
            encoder = encoder.to(loading.device)
        except torch.OutOfMemoryError as error:
            reason = " ".join(str(error).split())[:200]
            raise ResourceError(
                f"{folder.path.name} does not fit into the memory of {loading.device}: {reason}",
                where="embed.model",
                hint="Set embed.options.precision to bf16, or use a smaller model or a larger device.",
            ) from error
        self._encoder: Any = torch.compile(encoder, dynamic=True) if loading.compile else encoder
        self._heads = [load_head(head, loading.device) for head in folder.heads]
        self._pooling = loading.pooling
        self._cut = loading.cut
        self.device = loading.device

    def __call__(self, tokens: Tensor, lengths: Tensor, *, padded: bool, skipped: int = 0) -> Tensor:
        """Embed the rows of a batch; asynchronous on a GPU.

        Parameters
        ----------
        tokens : int32 Tensor, shape (n, width)
            On the device, padded on the right.
        lengths : int32 Tensor, shape (n,)
        padded : bool
            Whether any row is shorter than ``width``; reading that from the device would synchronise with it.
        skipped : int
            Tokens at the start of each row that are excluded from the pooling.

        Returns
        -------
        float32 Tensor, shape (n, dimensions)
            Unit vectors; zero vectors stay zero.
        """
        torch = self._torch
        with torch.inference_mode(), known_padding(padded):
            mask = torch.arange(tokens.shape[1], device=tokens.device) < lengths[:, None]
            output = self._encoder(input_ids=tokens.long(), attention_mask=mask.long(), return_dict=True)
            vectors = pool(output.last_hidden_state, lengths, self._pooling, skipped=skipped)
            for head in self._heads:
                vectors = head(vectors)
            if self._cut is not None:
                vectors = vectors[:, : self._cut]
            return torch.nn.functional.normalize(vectors, dim=1)
