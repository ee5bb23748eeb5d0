"""A graph is quantised with its outliers left in float32: nearer to the original, and only where it pays."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from latentscale.embedders.onnx_header import read_header
from latentscale.models.quantise_onnx import Int8Settings, quantise
from latentscale.models.split_outliers import split_outliers

onnx = pytest.importorskip("onnx", reason="graphs are quantised with onnx")
onnxruntime = pytest.importorskip("onnxruntime", reason="and with onnxruntime")

TOKENS, WIDTH, OUT = 50, 64, 24
LARGE = (5, 40)


def graph(path: Path, *, outliers: bool, shared: bool = False) -> Path:
    """A layer over vectors of tokens, with a bias; or two that read the same."""
    rng = np.random.default_rng(0)
    table = rng.normal(size=(TOKENS, WIDTH)).astype(np.float32)
    if outliers:
        table[:, LARGE] *= 60
    helper, from_array = onnx.helper, onnx.numpy_helper.from_array
    weights = {"table": table, "weight": rng.normal(size=(WIDTH, OUT)).astype(np.float32)}
    weights["bias"] = rng.normal(size=OUT).astype(np.float32)
    nodes = [
        helper.make_node("Gather", ["table", "input_ids"], ["vectors"]),
        helper.make_node("MatMul", ["vectors", "weight"], ["product"]),
        helper.make_node("Add", ["product", "bias"], ["layer"]),
    ]
    result = "layer"
    if shared:
        weights["other"] = rng.normal(size=(WIDTH, OUT)).astype(np.float32)
        nodes.append(helper.make_node("MatMul", ["vectors", "other"], ["product2"]))
        nodes.append(helper.make_node("Mul", ["layer", "product2"], ["both"]))
        result = "both"
    nodes.append(helper.make_node("Identity", [result], ["states"]))
    info = helper.make_tensor_value_info
    made = helper.make_graph(
        nodes,
        "layer",
        [info("input_ids", onnx.TensorProto.INT64, ["batch", "tokens"])],
        [info("states", onnx.TensorProto.FLOAT, ["batch", "tokens", OUT])],
        [from_array(value, name) for name, value in weights.items()],
    )
    onnx.save(helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), str(path))
    return path


def feeds() -> list[dict[str, np.ndarray]]:
    return [{"input_ids": np.array([[token, (7 * token) % TOKENS]])} for token in range(0, TOKENS, 5)]


def computed(model: Any) -> np.ndarray:
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    return session.run(["states"], {"input_ids": np.arange(TOKENS)[None]})[0]


@pytest.mark.parametrize("shared", [False, True])
def test_in_float32_a_split_graph_computes_the_same(tmp_path: Path, shared: bool) -> None:
    path = graph(tmp_path / "model.onnx", outliers=True, shared=shared)
    before = computed(str(path))
    model = onnx.load(str(path))
    products = split_outliers(model, feeds())
    onnx.checker.check_model(model)
    assert len(products) == (2 if shared else 1)
    assert [node.op_type for node in model.graph.node].count("MatMul") == 2 * len(products)
    taken = next(one for one in model.graph.initializer if one.name.endswith("_at"))
    assert set(LARGE) <= set(onnx.numpy_helper.to_array(taken).tolist())
    np.testing.assert_allclose(computed(model.SerializeToString()), before, rtol=1e-4, atol=1e-3)


def test_a_graph_without_outliers_is_left_as_it_is(tmp_path: Path) -> None:
    model = onnx.load(str(graph(tmp_path / "model.onnx", outliers=False)))
    nodes = [node.op_type for node in model.graph.node]
    assert len(split_outliers(model, feeds())) == 1
    assert [node.op_type for node in model.graph.node] == nodes


def test_int8_is_several_times_nearer_with_the_outliers_in_float32(tmp_path: Path) -> None:
    source = graph(tmp_path / "model.onnx", outliers=True)
    wanted = computed(str(source))
    errors: list[float] = []
    for name, settings in (("split", Int8Settings()), ("plain", Int8Settings(outliers=0.0))):
        quantise(source, tmp_path / f"{name}.onnx", settings, feeds())
        assert read_header(tmp_path / f"{name}.onnx").quantised
        errors.append(float(np.abs(computed(str(tmp_path / f"{name}.onnx")) - wanted).mean()))
    assert 0 < errors[0] < errors[1] / 4
    assert not read_header(source).quantised
