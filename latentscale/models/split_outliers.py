"""Keep the few channels that are hard to round in float32, before a graph is quantised.

A few channels of a transformer's states are many times larger than the others. Activations have one scale for a whole
batch, so that these channels leave few of the 256 steps to the rest. A product of matrices is a sum over channels: the
large ones, at most three in a hundred, are taken out and multiplied in float32, and the rest is rounded finely
(LLM.int8, Dettmers et al. 2022). In float32 the graph computes the same as before.
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
# Of the channels that a layer reads.
SHARE = 0.03
# Without them the rest must be so many times smaller: else the work is not worth it.
GAIN = 2.0


@dataclass(slots=True)
class _Edits:
    """Nodes to insert, by the place of the node before which they go, and weights to add."""

    model: Any
    before: dict[int, list[Any]] = field(default_factory=lambda: defaultdict(list))

    def weight(self, name: str, value: NDArray[Any]) -> str:
        onnx: Any = require("onnx", extra=EXTRA, used_for="quantising a model")
        self.model.graph.initializer.append(onnx.numpy_helper.from_array(np.ascontiguousarray(value), name))
        return name

    def node(self, place: int, kind: str, inputs: Sequence[str], output: str, **attributes: Any) -> str:
        onnx: Any = require("onnx", extra=EXTRA, used_for="quantising a model")
        made = onnx.helper.make_node(kind, list(inputs), [output], name=f"{output}_node", **attributes)
        self.before[place].append(made)
        return output

    def apply(self) -> None:
        for place in sorted(self.before, reverse=True):
            for made in reversed(self.before[place]):
                self.model.graph.node.insert(place, made)


def split_outliers(
    model: Any, feeds: Sequence[Mapping[str, NDArray[np.int64]]], *, share: float = SHARE, gain: float = GAIN
) -> list[str]:
    """Split the products of a graph whose inputs have channels of outliers.

    Parameters
    ----------
    model : onnx.ModelProto
        Changed in place.
    feeds : sequence of mapping
        Inputs of some texts, without padding: the largest values of each channel are measured on them.
    share : float
        Of the channels at most.
    gain : float
        How many times smaller the rest must be.

    Returns
    -------
    list of str
        Names of the products that are to be quantised: all with constant weights, without those of the outliers.
    """
    onnx: Any = require("onnx", extra=EXTRA, used_for="quantising a model")
    graph = model.graph
    weights = {one.name: one for one in graph.initializer}
    products = [
        (place, node)
        for place, node in enumerate(graph.node)
        if node.op_type == "MatMul" and node.input[1] in weights and len(weights[node.input[1]].dims) == 2
    ]
    for place, node in products:
        node.name = node.name or f"product_{place}"
    extents = _extents(model, sorted({node.input[0] for _, node in products}), feeds)
    edits = _Edits(model)
    readers: dict[str, list[tuple[int, Any]]] = defaultdict(list)
    for place, node in products:
        readers[node.input[0]].append((place, node))
    for number, (name, reading) in enumerate(readers.items()):
        large = _outliers(extents[name], share, gain)
        if len(large):
            _split(edits, f"outliers_{number}", name, reading, weights, large, onnx)
    edits.apply()
    used = {name for node in graph.node for name in node.input}
    for one in [one for one in graph.initializer if one.name not in used]:
        graph.initializer.remove(one)
    return [node.name for _, node in products]


def _outliers(extents: NDArray[np.float32], share: float, gain: float) -> NDArray[np.int64]:
    """The channels to take out; none where the others are nearly as large."""
    count = int(np.ceil(len(extents) * share))
    order = np.argsort(-extents, kind="stable")
    if count >= len(order) or extents[order[0]] < gain * extents[order[count]]:
        return np.empty(0, np.int64)
    return np.sort(order[:count])


def _split(
    edits: _Edits,
    stem: str,
    name: str,
    reading: Sequence[tuple[int, Any]],
    weights: Mapping[str, Any],
    large: NDArray[np.int64],
    onnx: Any,
) -> None:
    """Split the products that read one value: the value is taken apart once."""
    graph = edits.model.graph
    first = reading[0][0]
    channels = int(weights[reading[0][1].input[1]].dims[0])
    kept = np.ones(channels, np.float32)
    kept[large] = 0
    rest = edits.node(first, "Mul", [name, edits.weight(f"{stem}_kept", kept)], f"{stem}_rest")
    outliers = edits.node(first, "Gather", [name, edits.weight(f"{stem}_at", large)], stem, axis=-1)
    for number, (place, node) in enumerate(reading):
        array = np.asarray(onnx.numpy_helper.to_array(weights[node.input[1]]), np.float32)
        exact = edits.node(
            place, "MatMul", [outliers, edits.weight(f"{stem}_{number}_exact", array[large])], f"{stem}_{number}_part"
        )
        others = array.copy()
        others[large] = 0
        node.input[0], node.input[1] = rest, edits.weight(f"{stem}_{number}_rest", others)
        # Behind the bias, which onnxruntime computes together with the product.
        at, last = place, node
        following = [(n, one) for n, one in enumerate(graph.node) if node.output[0] in one.input]
        if len(following) == 1 and following[0][1].op_type == "Add" and set(following[0][1].input) & set(weights):
            at, last = following[0]
        whole, last.output[0] = last.output[0], f"{stem}_{number}_rounded"
        edits.node(at + 1, "Add", [last.output[0], exact], whole)


def _extents(
    model: Any, names: Sequence[str], feeds: Sequence[Mapping[str, NDArray[np.int64]]]
) -> dict[str, NDArray[np.float32]]:
    """The largest absolute value of each channel of some values of a graph."""
    onnx: Any = require("onnx", extra=EXTRA, used_for="quantising a model")
    runtime: Any = require("onnxruntime", extra=EXTRA, used_for="quantising a model")
    watched = onnx.ModelProto()
    watched.CopyFrom(model)
    watched.graph.output.extend(onnx.helper.make_empty_tensor_value_info(name) for name in names)
    options = runtime.SessionOptions()
    options.log_severity_level = 4
    session = runtime.InferenceSession(watched.SerializeToString(), options, providers=["CPUExecutionProvider"])
    found: dict[str, NDArray[np.float32]] = {}
    for feed in feeds:
        for name, value in zip(names, session.run(list(names), dict(feed)), strict=True):
            extent = np.abs(value).reshape(-1, value.shape[-1]).max(axis=0)
            found[name] = np.maximum(found[name], extent) if name in found else extent
    return found
