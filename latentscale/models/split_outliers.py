"""Keep outlier channels of activations in float32, before a graph is quantised.

A few channels of a transformer's hidden states are many times larger than the others. Activations have one scale per
batch, so that these outliers leave few of the 256 levels to the rest. A matrix product is a sum over channels: outlier
channels, at most 3 %, are multiplied separately in float32, and the rest is quantised more finely (LLM.int8, Dettmers
et al. 2022). Before quantisation the graph is equivalent to the original.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from latentscale.errors import require

EXTRA = "onnx-export"
# Maximum share of the input channels of a layer.
SHARE = 0.03
# Minimum ratio of the largest channel to the largest remaining one: else splitting is not worth the cost.
GAIN = 2.0


@dataclass(slots=True)
class _Edits:
    """Nodes to insert, by the index of the node before which they go, and weights to add."""

    model: Any
    before: dict[int, list[Any]] = field(default_factory=lambda: defaultdict(list))

    def weight(self, name: str, value: NDArray[Any]) -> str:
        onnx: Any = require("onnx", extra=EXTRA, used_for="quantising a model")
        self.model.graph.initializer.append(onnx.numpy_helper.from_array(np.ascontiguousarray(value), name))
        return name

    def node(self, index: int, kind: str, inputs: Sequence[str], output: str, **attributes: Any) -> str:
        onnx: Any = require("onnx", extra=EXTRA, used_for="quantising a model")
        node = onnx.helper.make_node(kind, list(inputs), [output], name=f"{output}_node", **attributes)
        self.before[index].append(node)
        return output

    def apply(self) -> None:
        for index in sorted(self.before, reverse=True):
            for node in reversed(self.before[index]):
                self.model.graph.node.insert(index, node)


def split_outliers(
    model: Any, feeds: Sequence[Mapping[str, NDArray[np.int64]]], *, share: float = SHARE, gain: float = GAIN
) -> list[str]:
    """Split the matrix products of a graph whose inputs have outlier channels.

    Parameters
    ----------
    model : onnx.ModelProto
        Modified in place.
    feeds : sequence of mapping
        Inputs for some texts, without padding, on which the magnitude of channels is measured.
    share : float
        Maximum share of outlier channels.
    gain : float
        Minimum ratio of the largest channel to the largest remaining one.

    Returns
    -------
    list of str
        Names of the products to quantise: all with constant weights, except those of outliers.
    """
    onnx: Any = require("onnx", extra=EXTRA, used_for="quantising a model")
    graph = model.graph
    weights = {initializer.name: initializer for initializer in graph.initializer}
    products = [
        (index, node)
        for index, node in enumerate(graph.node)
        if node.op_type == "MatMul" and node.input[1] in weights and len(weights[node.input[1]].dims) == 2
    ]
    for index, node in products:
        node.name = node.name or f"product_{index}"
    magnitudes = _channel_magnitudes(model, sorted({node.input[0] for _, node in products}), feeds)
    edits = _Edits(model)
    readers: dict[str, list[tuple[int, Any]]] = defaultdict(list)
    for index, node in products:
        readers[node.input[0]].append((index, node))
    for number, (name, products_of_input) in enumerate(readers.items()):
        outliers = _outliers(magnitudes[name], share, gain)
        if len(outliers):
            _split(edits, f"outliers_{number}", name, products_of_input, weights, outliers, onnx)
    edits.apply()
    used = {name for node in graph.node for name in node.input}
    for initializer in [initializer for initializer in graph.initializer if initializer.name not in used]:
        graph.initializer.remove(initializer)
    return [node.name for _, node in products]


def _outliers(magnitudes: NDArray[np.float32], share: float, gain: float) -> NDArray[np.int64]:
    """Return the outlier channels; none if the others are nearly as large."""
    count = int(np.ceil(len(magnitudes) * share))
    order = np.argsort(-magnitudes, kind="stable")
    if count >= len(order) or magnitudes[order[0]] < gain * magnitudes[order[count]]:
        return np.empty(0, np.int64)
    return np.sort(order[:count])


def _split(
    edits: _Edits,
    stem: str,
    name: str,
    products: Sequence[tuple[int, Any]],
    weights: Mapping[str, Any],
    outlier_channels: NDArray[np.int64],
    onnx: Any,
) -> None:
    """Split the products with one common input, which is split once."""
    graph = edits.model.graph
    first = products[0][0]
    channels = int(weights[products[0][1].input[1]].dims[0])
    mask = np.ones(channels, np.float32)
    mask[outlier_channels] = 0
    rest = edits.node(first, "Mul", [name, edits.weight(f"{stem}_kept", mask)], f"{stem}_rest")
    outliers = edits.node(first, "Gather", [name, edits.weight(f"{stem}_at", outlier_channels)], stem, axis=-1)
    for number, (index, node) in enumerate(products):
        array = np.asarray(onnx.numpy_helper.to_array(weights[node.input[1]]), np.float32)
        exact = edits.node(
            index,
            "MatMul",
            [outliers, edits.weight(f"{stem}_{number}_exact", array[outlier_channels])],
            f"{stem}_{number}_part",
        )
        rest_weights = array.copy()
        rest_weights[outlier_channels] = 0
        node.input[0], node.input[1] = rest, edits.weight(f"{stem}_{number}_rest", rest_weights)
        # Insert after the bias, which onnxruntime fuses with the product.
        last_index, last = index, node
        following = [
            (position, follower) for position, follower in enumerate(graph.node) if node.output[0] in follower.input
        ]
        if len(following) == 1 and following[0][1].op_type == "Add" and set(following[0][1].input) & set(weights):
            last_index, last = following[0]
        output, last.output[0] = last.output[0], f"{stem}_{number}_rounded"
        edits.node(last_index + 1, "Add", [last.output[0], exact], output)


def _channel_magnitudes(
    model: Any, names: Sequence[str], feeds: Sequence[Mapping[str, NDArray[np.int64]]]
) -> dict[str, NDArray[np.float32]]:
    """Return the maximum absolute value of each channel of some tensors of a graph."""
    onnx: Any = require("onnx", extra=EXTRA, used_for="quantising a model")
    runtime: Any = require("onnxruntime", extra=EXTRA, used_for="quantising a model")
    instrumented = onnx.ModelProto()
    instrumented.CopyFrom(model)
    instrumented.graph.output.extend(onnx.helper.make_empty_tensor_value_info(name) for name in names)
    options = runtime.SessionOptions()
    options.log_severity_level = 4
    session = runtime.InferenceSession(instrumented.SerializeToString(), options, providers=["CPUExecutionProvider"])
    magnitudes: dict[str, NDArray[np.float32]] = {}
    for feed in feeds:
        for name, value in zip(names, session.run(list(names), dict(feed)), strict=True):
            magnitude = np.abs(value).reshape(-1, value.shape[-1]).max(axis=0)
            magnitudes[name] = np.maximum(magnitudes[name], magnitude) if name in magnitudes else magnitude
    return magnitudes
