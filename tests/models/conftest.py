"""A hub on loopback, an empty cache, and a real static model small enough to be fetched in every test."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save

from tests.conftest import load


@pytest.fixture(scope="session")
def hub_module() -> ModuleType:
    return load("hub_server", Path(__file__).with_name("hub_server.py"))


@pytest.fixture
def hub_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, and an environment in which the hub cannot be reached."""
    for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_TOKEN", "HUGGINGFACE_HUB_CACHE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    return tmp_path / "hub"


@pytest.fixture
def hub(hub_module: ModuleType, hub_cache: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The hub's server, which the environment names."""
    with hub_module.hub_server() as server:
        monkeypatch.setenv("HF_ENDPOINT", server.endpoint)
        yield server


@pytest.fixture(scope="session")
def static_files() -> Mapping[str, bytes]:
    """A model2vec model of seven tokens and four dimensions."""
    words = ["[PAD]", "[UNK]", "red", "green", "blue", "card", "letter"]
    tokenizer = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [],
        "normalizer": {"type": "Lowercase"},
        "pre_tokenizer": {"type": "Whitespace"},
        "post_processor": None,
        "decoder": None,
        "model": {
            "type": "WordPiece",
            "unk_token": "[UNK]",
            "continuing_subword_prefix": "##",
            "max_input_chars_per_word": 100,
            "vocab": {word: place for place, word in enumerate(words)},
        },
    }
    table = np.random.default_rng(0).standard_normal((len(words), 4)).astype(np.float32)
    card = "---\nlicense: mit\nlanguage:\n- en\n- de\nlibrary_name: model2vec\n---\n# A model\n"
    return {
        "config.json": json.dumps({"model_type": "model2vec", "hidden_dim": 4, "seq_length": 64}).encode(),
        "model.safetensors": save({"embeddings": table}),
        "tokenizer.json": json.dumps(tokenizer).encode(),
        "README.md": card.encode(),
        "pytorch_model.bin": b"never",
        "modeling.py": b"raise SystemExit",
    }


def cache_model(
    cache: Path, name: str, files: Mapping[str, bytes], *, commit: str, branch: str | None = "main"
) -> Path:
    """Lay files out as the hub's client does."""
    folder = cache / ("models--" + name.replace("/", "--"))
    snapshot = folder / "snapshots" / commit
    for place, content in files.items():
        (snapshot / place).parent.mkdir(parents=True, exist_ok=True)
        (snapshot / place).write_bytes(content)
    if branch:
        (folder / "refs").mkdir(parents=True, exist_ok=True)
        (folder / "refs" / branch).write_text(commit)
    return snapshot
