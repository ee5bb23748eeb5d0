"""Folders of models from anywhere: read in either form, and refused by file and array before a value is used."""

from __future__ import annotations

import json
import shutil
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from latentscale.embedders.static import StaticEmbedder, StaticSpec
from latentscale.errors import ConfigError
from latentscale.models import static_model_path

TEXTS = ["What can I do if my card has not arrived?", "battery", "naïve café"]
TOKENS = len(load_file(static_model_path() / "model.safetensors")["embeddings"])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    shutil.copytree(static_model_path(), tmp_path / "model")
    return tmp_path / "model"


def table(dim: int = 8) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(TOKENS, dim)).astype(np.float32)


@pytest.mark.parametrize(
    ("arrays", "said"),
    [
        ({"embeddings": table()[:, 0]}, "'embeddings' has the shape"),
        ({"embeddings": table()[:100]}, "'embeddings' has 100 vectors"),
        ({"embeddings": table()[:, :0]}, "'embeddings' has the shape"),
        ({"other": table()}, "'embeddings' is missing; there are other"),
        ({"embeddings": np.zeros((TOKENS, 8), bool)}, "type BOOL"),
        ({"embeddings": np.full((TOKENS, 8), np.nan, np.float32)}, "not finite"),
        ({"embeddings": np.full((TOKENS, 8), 1e300)}, "not finite"),
        ({"embeddings": np.full((TOKENS, 8), 3e38, np.float32)}, "so large"),
        ({"embeddings": table(), "weights": np.ones(10, np.float32)}, "'weights' has 10 values"),
        ({"embeddings": table(), "weights": np.ones((TOKENS, 2), np.float32)}, "'weights' has the shape"),
        ({"embeddings": table(), "weights": np.full(TOKENS, 1e37, np.float32)}, "so large"),
        ({"embeddings": table()[:9], "mapping": np.full(TOKENS, 9)}, "'mapping' has rows 9 to 9 of 9"),
        ({"embeddings": table()[:9], "mapping": np.full(TOKENS, -1)}, "'mapping' has rows -1"),
        ({"embeddings": table()[:9], "mapping": np.zeros(5, np.int64)}, "'mapping' has 5 values"),
        ({"embeddings": table()[:9], "mapping": np.zeros(TOKENS, np.float32)}, "'mapping' has the shape"),
        ({"embeddings": table(), "mapping": np.full(TOKENS, 2**32)}, "'mapping' has rows"),
    ],
)
def test_an_array_that_does_not_fit_is_refused(folder: Path, arrays: dict[str, np.ndarray], said: str) -> None:
    save_file(arrays, folder / "model.safetensors")
    with pytest.raises(ConfigError, match=said) as refused:
        StaticEmbedder(folder)
    assert "model.safetensors" in refused.value.message
    assert refused.value.where == "embed.model"


def test_a_table_that_memory_cannot_hold_is_refused_by_its_header(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("latentscale.embedders.model_folder.available_memory", lambda: 1_000_000)
    with pytest.raises(ConfigError, match=r"'embeddings' takes 0\.0 GB of memory"):
        StaticSpec(folder=str(folder)).dimensions  # noqa: B018


@pytest.mark.parametrize("pattern", ["(a+)+$", r"(\p{L}*\s*)*x", "(?:(?:a|b)*c?)+d", "(x+x+)+y"])
def test_a_pattern_that_runs_away_is_refused(folder: Path, pattern: str) -> None:
    described = json.loads((folder / "tokenizer.json").read_text())
    split = {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}
    described["pre_tokenizer"] = {"type": "Sequence", "pretokenizers": [split]}
    (folder / "tokenizer.json").write_text(json.dumps(described))
    with pytest.raises(ConfigError, match=r"tokenizer\.json has a pattern"):
        StaticEmbedder(folder)


def test_the_patterns_of_common_tokenizers_are_read(folder: Path) -> None:
    described = json.loads((folder / "tokenizer.json").read_text())
    for pattern in (
        r"'s|'t|'re| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+",
        r"(?i:'s|'t)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+",
    ):
        described["pre_tokenizer"] = {
            "type": "Split",
            "pattern": {"Regex": pattern},
            "behavior": "Isolated",
            "invert": False,
        }
        (folder / "tokenizer.json").write_text(json.dumps(described))
        assert StaticEmbedder(folder).embed(TEXTS).embeddable.all()


@pytest.mark.parametrize("content", ["[" * 100_000, "{}", "nothing", '{"model": {"type": "WordLevel", "vocab": {}}}'])
def test_a_damaged_tokenizer_is_refused(folder: Path, content: str) -> None:
    (folder / "tokenizer.json").write_text(content)
    with pytest.raises(ConfigError, match=r"tokenizer\.json"):
        StaticEmbedder(folder)


def test_bfloat16_is_read(folder: Path) -> None:
    values = table()
    values = (values.view(np.uint32) & np.uint32(0xFFFF0000)).view(np.float32)
    save_file({"embeddings": values}, folder / "model.safetensors")
    expected = StaticEmbedder(folder).embed(TEXTS).vectors
    data = (values.view(np.uint32) >> np.uint32(16)).astype("<u2").tobytes()
    header = json.dumps(
        {"embeddings": {"dtype": "BF16", "shape": list(values.shape), "data_offsets": [0, len(data)]}}
    ).encode()
    (folder / "model.safetensors").write_bytes(struct.pack("<Q", len(header)) + header + data)
    assert StaticSpec(folder=str(folder)).dimensions == 8
    np.testing.assert_array_equal(StaticEmbedder(folder).embed(TEXTS).vectors, expected)


def sentence_transformers(folder: Path, modules: list[dict[str, Any]]) -> Path:
    """The model of ``folder`` in the form that sentence-transformers saves."""
    inner = folder / "0_StaticEmbedding"
    inner.mkdir()
    arrays = load_file(folder / "model.safetensors")
    save_file({"embedding.weight": arrays["embeddings"].astype(np.float32)}, inner / "model.safetensors")
    (folder / "model.safetensors").unlink()
    (folder / "tokenizer.json").rename(inner / "tokenizer.json")
    (folder / "config.json").unlink()
    (folder / "modules.json").write_text(json.dumps(modules))
    return folder


STATIC = {"idx": 0, "name": "0", "path": "0_StaticEmbedding", "type": "sentence_transformers.models.StaticEmbedding"}


def test_the_form_of_sentence_transformers_is_read(folder: Path) -> None:
    expected = StaticEmbedder(folder).embed(TEXTS).vectors
    normalize = {"idx": 1, "name": "1", "path": "1_Normalize", "type": "sentence_transformers.models.Normalize"}
    model = sentence_transformers(folder, [STATIC, normalize])
    spec = StaticSpec(folder=str(model))
    assert spec.dimensions == expected.shape[1]
    assert spec.identity()["dim"] == expected.shape[1]
    np.testing.assert_allclose(spec.open().embed(TEXTS).vectors, expected, atol=1e-6)


@pytest.mark.parametrize(
    ("modules", "said"),
    [
        ([{**STATIC, "type": "sentence_transformers.models.Transformer"}], "with Transformer, not a static one"),
        ([STATIC, {**STATIC, "type": "sentence_transformers.models.Dense"}], "with Dense"),
        ([{**STATIC, "path": "../elsewhere"}], "leads out of its folder"),
        ([{**STATIC, "path": "missing"}], "missing in missing"),
        ([], "no module"),
        ({"a": 1}, "not a list of modules"),
    ],
)
def test_another_model_of_sentence_transformers_is_refused(folder: Path, modules: Any, said: str) -> None:
    model = sentence_transformers(folder, modules)
    with pytest.raises(ConfigError, match=said):
        StaticEmbedder(model)
