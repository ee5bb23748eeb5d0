"""Layers of a sentence encoder after its pooling, in torch and float32."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from latentscale.embedders.encoder.weights import WEIGHTS, expected_shapes
from latentscale.embedders.model_json import refusal
from latentscale.embedders.sentence_folder import Dense, Head, LayerNorm, Normalize

if TYPE_CHECKING:
    from torch import Tensor

# The default of torch, which sentence-transformers uses.
_EPSILON = 1e-5


def load_head(head: Head, device: str) -> Callable[[Tensor], Tensor]:
    """Return a layer as a function from vectors to vectors, float32, with its weights on the device.

    Raises
    ------
    ConfigError
        If torch does not have its activation.
    """
    from torch.nn import functional

    if isinstance(head, Normalize):
        return lambda vectors: functional.normalize(vectors, dim=1)
    arrays = _arrays(head, device)
    if isinstance(head, LayerNorm):
        weight, bias = arrays["norm.weight"], arrays["norm.bias"]
        return lambda vectors: functional.layer_norm(vectors, (head.width,), weight, bias, _EPSILON)
    activation = _activation(head)
    weight, bias, residual = arrays["linear.weight"], arrays.get("linear.bias"), arrays.get("residual.weight")

    def dense(vectors: Tensor) -> Tensor:
        output = activation(functional.linear(vectors, weight, bias))
        if not head.residual:
            return output
        return output + (vectors if residual is None else functional.linear(vectors, residual))

    return dense


def _arrays(head: Dense | LayerNorm, device: str) -> dict[str, Any]:
    from safetensors.torch import load_file

    arrays = load_file(head.folder / WEIGHTS)
    return {name: arrays[name].float().to(device) for name in expected_shapes(head)}


def _activation(head: Dense) -> Any:
    import torch

    activation = getattr(torch.nn, head.activation, None)
    if not isinstance(activation, type) or not issubclass(activation, torch.nn.Module):
        raise refusal(head.folder / "config.json", f"has the activation {head.activation!r}, which torch does not have")
    return activation()
