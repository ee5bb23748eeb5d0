"""What follows the pooling of a sentence encoder: linear layers, normalisations, in float32."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from latentscale.embedders.encoder.weights import WEIGHTS, wanted_shapes
from latentscale.embedders.model_json import refusal
from latentscale.embedders.sentence_folder import Dense, Head, LayerNorm, Normalize

if TYPE_CHECKING:
    from torch import Tensor

# sentence-transformers makes its layer normalisation with torch's own default.
_EPSILON = 1e-5


def load_head(head: Head, device: str) -> Callable[[Tensor], Tensor]:
    """A function from vectors to vectors, float32, with its weights on the device.

    Raises
    ------
    ConfigError
        If its activation is none of torch's.
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
        found = activation(functional.linear(vectors, weight, bias))
        if not head.residual:
            return found
        return found + (vectors if residual is None else functional.linear(vectors, residual))

    return dense


def _arrays(head: Dense | LayerNorm, device: str) -> dict[str, Any]:
    from safetensors.torch import load_file

    found = load_file(head.folder / WEIGHTS)
    return {name: found[name].float().to(device) for name in wanted_shapes(head)}


def _activation(head: Dense) -> Any:
    import torch

    found = getattr(torch.nn, head.activation, None)
    if not isinstance(found, type) or not issubclass(found, torch.nn.Module):
        raise refusal(head.folder / "config.json", f"has the activation {head.activation!r}, which torch does not have")
    return found()
