"""A sentence encoder of a few hundred bytes in ONNX, and what it should give, by NumPy."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
WORDS = [*SPECIAL, "the", "a", "cat", "dog", "sat", "ran", "on", "under", "mat", "hat", "query", ":", "passage"]
HIDDEN = 8
TABLE = np.random.default_rng(1).normal(size=(len(WORDS), HIDDEN)).astype(np.float32)


def tiny_folder(
    folder: Path,
    *,
    pooled: bool = True,
    modules: bool = True,
    pooling: dict[str, Any] | None = None,
    prompts: dict[str, str] | None = None,
    inputs: tuple[str, ...] = ("input_ids", "attention_mask"),
    input_type: str = "INT64",
    table: np.ndarray | None = None,
    int8: bool = False,
    noise: float = 0.0,
) -> Path:
    """Write a folder with tokenizer, descriptions and graph.

    The state of a token is its vector plus the mean of its text's, so that it depends on mask and neighbours as those
    of a transformer do.
    """
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = Tokenizer(models.WordLevel({word: at for at, word in enumerate(WORDS)}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.add_special_tokens(SPECIAL)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    tokenizer.save(str(folder / "tokenizer.json"))
    write(
        folder / "config.json",
        {"model_type": "bert", "hidden_size": HIDDEN, "max_position_embeddings": 32, "pad_token_id": 0},
    )
    if modules:
        kinds = [("Transformer", ""), ("Pooling", "1_Pooling"), ("Normalize", "2_Normalize")]
        described = [
            {"idx": at, "name": str(at), "path": path, "type": f"sentence_transformers.models.{kind}"}
            for at, (kind, path) in enumerate(kinds)
        ]
        write(folder / "modules.json", described)
        write(
            folder / "1_Pooling/config.json",
            {"word_embedding_dimension": HIDDEN, "pooling_mode_mean_tokens": True} | (pooling or {}),
        )
    if prompts is not None:
        write(folder / "config_sentence_transformers.json", {"prompts": prompts, "default_prompt_name": None})
    write_graph(folder / "onnx/model.onnx", pooled=pooled, inputs=inputs, input_type=input_type, table=table)
    if int8:
        rounded = TABLE + np.random.default_rng(2).normal(size=TABLE.shape).astype(np.float32) * noise
        write_graph(folder / "onnx/model_int8.onnx", pooled=pooled, table=rounded, quantised=True)
    return folder


def write(path: Path, content: Any) -> None:
    """Write a JSON file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content), encoding="utf-8")


def write_graph(
    path: Path,
    *,
    pooled: bool = True,
    inputs: tuple[str, ...] = ("input_ids", "attention_mask"),
    input_type: str = "INT64",
    table: np.ndarray | None = None,
    output: str | None = None,
    opset: int = 17,
    quantised: bool = False,
    data_file: str | None = None,
    dims: tuple[Any, Any] = ("batch", "tokens"),
    double: bool = False,
) -> None:
    """Write the graph; ``quantised`` rounds its table to bytes."""
    onnx = pytest.importorskip("onnx", reason="the tiny graphs of these tests are written with onnx")
    helper, kinds = onnx.helper, onnx.TensorProto
    table = TABLE if table is None else table
    width = table.shape[1]
    weights = [onnx.numpy_helper.from_array(np.array([2], np.int64), "last")]
    weights.append(onnx.numpy_helper.from_array(np.array([1], np.int64), "first"))
    nodes = []
    if quantised:
        scale = np.float32(np.abs(table).max() / 127)
        weights.append(onnx.numpy_helper.from_array(np.rint(table / scale).astype(np.int8), "bytes"))
        weights.append(onnx.numpy_helper.from_array(scale, "scale"))
        nodes.append(helper.make_node("DequantizeLinear", ["bytes", "scale"], ["table"]))
    else:
        weights.append(onnx.numpy_helper.from_array(table, "table"))
    nodes += [
        helper.make_node("Gather", ["table", "input_ids"], ["vectors"]),
        helper.make_node("Cast", ["attention_mask"], ["mask2"], to=kinds.FLOAT),
        helper.make_node("Unsqueeze", ["mask2", "last"], ["mask"]),
        helper.make_node("Mul", ["vectors", "mask"], ["inside"]),
        helper.make_node("ReduceSum", ["inside", "first"], ["sum"], keepdims=1),
        helper.make_node("ReduceSum", ["mask", "first"], ["count"], keepdims=1),
        helper.make_node("Div", ["sum", "count"], ["mean"]),
        helper.make_node("Add", ["vectors", "mean"], ["states"]),
    ]
    name = output or ("sentence_embedding" if pooled else "last_hidden_state")
    shape: list[Any] = ["batch", "tokens", width]
    found = "states"
    if pooled:
        nodes += [
            helper.make_node("Mul", ["states", "mask"], ["counted"]),
            helper.make_node("ReduceSum", ["counted", "first"], ["total"], keepdims=0),
            helper.make_node("LpNormalization", ["total"], ["unit"], axis=-1, p=2),
        ]
        shape, found = ["batch", width], "unit"
    kind = kinds.DOUBLE if double else kinds.FLOAT
    nodes.append(helper.make_node("Cast", [found], [name], to=kind))
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info(one, getattr(kinds, input_type), list(dims)) for one in inputs],
        [helper.make_tensor_value_info(name, kind, shape)],
        weights,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    path.parent.mkdir(parents=True, exist_ok=True)
    if data_file is None:
        onnx.save(model, str(path))
    else:
        onnx.save(model, str(path), save_as_external_data=True, location=data_file, size_threshold=100)


def expected(text: str, *, prompt: str = "", without_prompt: bool = False, limit: int = 32) -> np.ndarray:
    """The vector of a text, by NumPy: one text, no padding."""
    ids = [2, *words_of(prompt + text)[: limit - 2], 3]
    vectors = TABLE[ids]
    states = vectors + vectors.mean(axis=0)
    skipped = 1 + len(words_of(prompt)) if without_prompt else 0
    total = states[skipped:].sum(axis=0)
    return total / np.linalg.norm(total)


def words_of(text: str) -> list[int]:
    """Tokens of a text without special ones."""
    numbers = {word: at for at, word in enumerate(WORDS)}
    return [numbers.get(word, 1) for word in text.lower().replace(":", " : ").split()]
