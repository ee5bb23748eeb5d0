"""The layers of a sentence encoder after its pooling in NumPy, for graphs that end before them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from latentscale.embedders.sentence_folder import Dense, Head, LayerNorm
from latentscale.embedders.token_pooling import normalise
from latentscale.errors import ConfigError

Vectors = NDArray[np.float32]
# The default of torch.
_EPSILON = 1e-5


def _gelu(values: Vectors) -> Vectors:
    from scipy.special import erf

    return (values * 0.5 * (1 + erf(values / np.sqrt(2)))).astype(np.float32)


def _identity(values: Vectors) -> Vectors:
    return values


def _relu(values: Vectors) -> Vectors:
    return np.maximum(values, 0)


def _sigmoid(values: Vectors) -> Vectors:
    from scipy.special import expit

    return expit(values)


def _silu(values: Vectors) -> Vectors:
    return values * _sigmoid(values)


_ACTIVATIONS: dict[str, Callable[[Vectors], Vectors]] = {
    "GELU": _gelu,
    "Identity": _identity,
    "ReLU": _relu,
    "SiLU": _silu,
    "Sigmoid": _sigmoid,
    "Tanh": np.tanh,
}


def read_heads(heads: Sequence[Head]) -> Callable[[Vectors], Vectors]:
    """Read the weights of the layers that follow the pooling.

    Returns
    -------
    callable
        Function from pooled vectors to vectors of texts, float32, (n, width) to (n, dimensions).

    Raises
    ------
    ConfigError
        If weights are missing or have the wrong shape, or the activation is not supported.
    """
    layers = [_read(head) for head in heads]

    def apply(vectors: Vectors) -> Vectors:
        for layer in layers:
            vectors = layer(vectors)
        return vectors

    return apply


def _read(head: Head) -> Callable[[Vectors], Vectors]:
    if isinstance(head, Dense):
        return _dense(head)
    if isinstance(head, LayerNorm):
        return _layer_norm(head)
    return normalise


def _dense(head: Dense) -> Callable[[Vectors], Vectors]:
    arrays = _weights(head.folder)
    weight = _array(head.folder, arrays, "linear.weight", (head.out_features, head.in_features))
    bias = _array(head.folder, arrays, "linear.bias", (head.out_features,)) if head.bias else np.float32(0)
    projected = head.residual and head.in_features != head.out_features
    shortcut = _array(head.folder, arrays, "residual.weight", weight.shape) if projected else None
    activation = _ACTIVATIONS.get(head.activation)
    if activation is None:
        raise ConfigError(
            f"the dense layer has the activation {head.activation!r}; those known are {', '.join(_ACTIVATIONS)}",
            where=str(head.folder / "config.json"),
            hint="Compute with torch: --set embed.kind=transformers.",
        )

    def apply(vectors: Vectors) -> Vectors:
        output = activation(vectors @ weight.T + bias)
        if not head.residual:
            return output
        return output + (vectors if shortcut is None else vectors @ shortcut.T)

    return apply


def _layer_norm(head: LayerNorm) -> Callable[[Vectors], Vectors]:
    arrays = _weights(head.folder)
    weight = _array(head.folder, arrays, "norm.weight", (head.width,))
    bias = _array(head.folder, arrays, "norm.bias", (head.width,))

    def apply(vectors: Vectors) -> Vectors:
        centred = vectors - vectors.mean(axis=1, keepdims=True)
        spread = np.sqrt(np.mean(centred * centred, axis=1, keepdims=True) + _EPSILON)
        return centred / spread * weight + bias

    return apply


def _weights(folder: Path) -> dict[str, Any]:
    from safetensors.numpy import load_file

    path = folder / "model.safetensors"
    if not path.is_file():
        raise ConfigError(
            f"{path} is missing",
            where="embed.model",
            hint="Download it, or save the model again; only weights in safetensors are read.",
        )
    try:
        return load_file(path)
    except Exception as error:  # safetensors has its own exception types
        raise ConfigError(
            f"{path} cannot be read: {' '.join(str(error).split())[:300]}",
            where="embed.model",
            hint="Save the model again, or download it again.",
        ) from error


def _array(folder: Path, arrays: dict[str, Any], name: str, shape: tuple[int, ...]) -> Vectors:
    array = arrays.get(name)
    if array is None or array.shape != shape:
        problem = "is missing" if array is None else f"has the shape {array.shape}, not {shape}"
        raise ConfigError(
            f"{folder / 'model.safetensors'}: {name} {problem}",
            where="embed.model",
            hint="Save the model again, or download it again.",
        )
    return np.asarray(array, np.float32)
