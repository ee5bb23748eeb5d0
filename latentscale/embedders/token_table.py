"""Token table of a static model, with which other programs compute the same embeddings."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from latentscale.embedders.model_folder import LoadedModel
from latentscale.embedders.tokens import unknown_token


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenTable:
    """WordPiece vocabulary with a vector for each token.

    Attributes
    ----------
    tokens : sequence of str
        By token id; empty for unused ids.
    vectors : float32 ndarray, shape (t, d)
        Contribution of each token to the sum of a text; zeros for the unknown token.
    rules : mapping
        Settings of the tokenizer: ``lowercase``, ``strip_accents``, ``clean_text``, ``handle_chinese_chars``,
        ``prefix`` of pieces that continue a word, ``longest`` word in characters, ``unknown`` token, ``added`` tokens,
        which are matched first, ``max_tokens`` and ``max_characters`` of a text.
    """

    tokens: Sequence[str]
    vectors: NDArray[np.float32]
    rules: Mapping[str, Any]


def token_table(model: LoadedModel, *, max_tokens: int, max_characters: int) -> TokenTable | None:
    """Return the token table of a model; None if its tokenizer is not a BERT tokenizer."""
    serialized = json.loads(model.tokenizer.to_str())
    normalizer, pieces = serialized.get("normalizer") or {}, serialized["model"]
    added = serialized.get("added_tokens") or []
    supported = not any(
        entry["normalized"] or entry["lstrip"] or entry["rstrip"] or entry["single_word"] for entry in added
    )
    kinds = (normalizer.get("type"), (serialized.get("pre_tokenizer") or {}).get("type"), pieces.get("type"))
    if kinds != ("BertNormalizer", "BertPreTokenizer", "WordPiece") or not supported:
        return None
    tokens = [""] * (max(model.vocabulary.values()) + 1)
    for token, index in model.vocabulary.items():
        tokens[index] = token
    vectors = model.table[: len(tokens)] if model.mapping is None else model.table[model.mapping[: len(tokens)]]
    vectors = vectors.copy() if model.weights is None else vectors * model.weights[: len(tokens), None]
    unknown = unknown_token(model.tokenizer)
    if unknown is not None:
        vectors[unknown] = 0
    accents = normalizer["strip_accents"]
    rules = {
        "lowercase": normalizer["lowercase"],
        "strip_accents": normalizer["lowercase"] if accents is None else accents,
        "clean_text": normalizer["clean_text"],
        "handle_chinese_chars": normalizer["handle_chinese_chars"],
        "prefix": pieces["continuing_subword_prefix"],
        "longest": pieces["max_input_chars_per_word"],
        "unknown": pieces["unk_token"],
        "added": [entry["content"] for entry in added],
        "max_tokens": max_tokens,
        "max_characters": max_characters,
    }
    return TokenTable(tokens=tokens, vectors=vectors, rules=rules)
