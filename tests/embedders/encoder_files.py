"""Files of a small BERT in the layout of sentence-transformers, written without torch."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

# fmt: off
WORDS = (
    "a", "an", "and", "battery", "blue", "card", "fire", "game", "green", "kernel", "letter", "library", "map", "music",
    "network", "of", "paint", "query", "red", "the",
)
# fmt: on
HIDDEN = 16
NEW = "sentence_transformers.sentence_transformer.modules"
OLD = "sentence_transformers.models"


def word_pieces(words: Sequence[str] = WORDS) -> Tokenizer:
    """A tokenizer like BERT's: lower case, word pieces, [CLS] and [SEP]."""
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
    letters = [f"{mark}{letter}" for mark in ("", "##") for letter in "abcdefghijklmnopqrstuvwxyz0123456789:."]
    vocabulary = list(dict.fromkeys([*special, *words, *letters]))
    tokenizer = Tokenizer(models.WordPiece({word: place for place, word in enumerate(vocabulary)}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    tokenizer.add_special_tokens(special)
    return tokenizer


def write(path: Path, content: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content), encoding="utf-8")


def write_encoder(
    folder: Path,
    *,
    modules: Sequence[str] = ("Transformer", "Pooling", "Normalize"),
    package: str = OLD,
    pooling: Mapping[str, Any] | None = None,
    config: Mapping[str, Any] | None = None,
    lengths: Mapping[str, Any] | None = None,
    prompts: Mapping[str, Any] | None = None,
) -> Path:
    """Write a whole folder; the weights are arrays of the right header, and no model's."""
    write(
        folder / "config.json",
        {"model_type": "bert", "hidden_size": HIDDEN, "max_position_embeddings": 64} | dict(config or {}),
    )
    folders = {"Transformer": "", **{name: f"{number}_{name}" for number, name in enumerate(modules) if number}}
    write(
        folder / "modules.json",
        [
            {"idx": n, "name": str(n), "path": folders[name], "type": f"{package}.{name}"}
            for n, name in enumerate(modules)
        ],
    )
    if "Pooling" in modules:
        content = {"word_embedding_dimension": HIDDEN, "pooling_mode_mean_tokens": True} if pooling is None else pooling
        write(folder / folders["Pooling"] / "config.json", content)
    if lengths is not None:
        write(folder / "sentence_bert_config.json", lengths)
    if prompts is not None:
        write(folder / "config_sentence_transformers.json", prompts)
    word_pieces().save(str(folder / "tokenizer.json"))
    save_file({"embeddings.word_embeddings.weight": np.zeros((80, HIDDEN), np.float32)}, folder / "model.safetensors")
    return folder


def write_dense(folder: Path, *, inputs: int = HIDDEN, outputs: int = 8, **changed: Any) -> None:
    """Write a linear layer."""
    config = {"in_features": inputs, "out_features": outputs, "bias": True} | changed
    write(folder / "config.json", config)
    save_file(
        {"linear.weight": np.zeros((outputs, inputs), np.float32), "linear.bias": np.zeros(outputs, np.float32)},
        folder / "model.safetensors",
    )
