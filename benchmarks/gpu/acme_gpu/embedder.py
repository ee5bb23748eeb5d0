"""The shipped static model, computed on the device of the stage."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal, Self

import numpy as np

from latentscale.config import EmbedConfig, StageResources
from latentscale.embedders import Embedded, EmbedderSpec
from latentscale.models import static_model_path


class TorchStaticSpec(EmbedderSpec):
    """Requests a GPU for each worker."""

    kind: Literal["torch-static"] = "torch-static"
    deterministic: ClassVar[bool] = False

    @classmethod
    def from_settings(cls, config: EmbedConfig, *, vectors_column: str | None) -> Self:
        """There are no settings."""
        return cls()

    @property
    def dimensions(self) -> int:
        """Width of the shipped model."""
        return 256

    def identity(self) -> Mapping[str, Any]:
        """Everything that affects a vector."""
        return {"embedder": "torch-static", "version": 1}

    def resources(self) -> StageResources:
        """Request one GPU."""
        return StageResources(gpus=1)

    def open(self, device: str = "cpu") -> TorchStatic:
        """Load the table onto the device."""
        return TorchStatic(device)


class TorchStatic:
    """Sums rows of the table on the device."""

    def __init__(self, device: str) -> None:
        import torch  # pyright: ignore[reportMissingImports]
        from safetensors.numpy import load_file
        from tokenizers import Tokenizer

        if not device.startswith("cuda"):
            raise RuntimeError(f"the engine gave {device}, not a GPU")
        table = load_file(static_model_path() / "model.safetensors")["embeddings"].astype(np.float32)
        self._bag = torch.nn.EmbeddingBag.from_pretrained(torch.from_numpy(table), mode="sum").to(device)
        self._device = device
        self._tokenizer = Tokenizer.from_file(str(static_model_path() / "tokenizer.json"))
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        self._unknown = self._tokenizer.token_to_id("[UNK]")

    def embed(self, texts: Sequence[str]) -> Embedded:
        """Embed texts, in order."""
        import torch  # pyright: ignore[reportMissingImports]

        encodings = self._tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)
        rows = [[token for token in encoding.ids if token != self._unknown][:512] for encoding in encodings]
        lengths = np.array([len(row) for row in rows], dtype=np.int64)
        ids = torch.tensor([token for row in rows for token in row], dtype=torch.int64, device=self._device)
        offsets = torch.tensor(np.cumsum(lengths) - lengths, device=self._device)
        sums = self._bag(ids, offsets)
        vectors = torch.nn.functional.normalize(sums.double(), dim=1).float().cpu().numpy()
        embeddable = np.linalg.norm(vectors, axis=1) > 0.5
        return Embedded(vectors=vectors, embeddable=embeddable, tokens=int(lengths.sum()), unknown=0, truncated=0)
