"""The tokens of a static model and their vectors, with which another program embeds texts as the model does."""

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
    """A vocabulary of word pieces (BERT's tokenizer) with a vector for each.

    Attributes
    ----------
    tokens : sequence of str
        By their numbers; empty for a number without a token.
    vectors : float32 ndarray, shape (t, d)
        What each token adds to the sum of a text; zeros for the unknown one.
    rules : mapping
        How a text becomes tokens: ``lowercase``, ``strip_accents``, ``clean_text``, ``handle_chinese_chars``,
        ``prefix`` of pieces inside a word, ``longest`` word in characters, ``unknown``, ``added`` tokens that are
        found before anything else, ``max_tokens`` and ``max_characters`` of a text.
    """

    tokens: Sequence[str]
    vectors: NDArray[np.float32]
    rules: Mapping[str, Any]


def token_table(model: LoadedModel, *, max_tokens: int, max_characters: int) -> TokenTable | None:
    """The table of a model; None for a tokenizer that is not BERT's."""
    described = json.loads(model.tokenizer.to_str())
    normalizer, pieces = described.get("normalizer") or {}, described["model"]
    added = described.get("added_tokens") or []
    plain = not any(one["normalized"] or one["lstrip"] or one["rstrip"] or one["single_word"] for one in added)
    kinds = (normalizer.get("type"), (described.get("pre_tokenizer") or {}).get("type"), pieces.get("type"))
    if kinds != ("BertNormalizer", "BertPreTokenizer", "WordPiece") or not plain:
        return None
    tokens = [""] * (max(model.vocabulary.values()) + 1)
    for token, number in model.vocabulary.items():
        tokens[number] = token
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
        "added": [one["content"] for one in added],
        "max_tokens": max_tokens,
        "max_characters": max_characters,
    }
    return TokenTable(tokens=tokens, vectors=vectors, rules=rules)
