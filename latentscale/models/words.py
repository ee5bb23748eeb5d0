"""Extend the vocabulary of a static model with whole words, such as technical terms."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from latentscale.errors import ConfigError

if TYPE_CHECKING:
    from tokenizers import Tokenizer

_WORD = re.compile(r"[^\W_]{3,40}")


def missing_words(tokenizer: Tokenizer, passages: Iterable[str], *, count: int, least: int) -> list[str]:
    """Return words that the tokenizer splits into several pieces, by descending number of passages.

    Parameters
    ----------
    tokenizer : tokenizers.Tokenizer
        With WordPiece, which uses the longest matching entry: an added word is used wherever it is a whole word.
    count : int
        Maximum number of words.
    least : int
        Minimum number of passages that contain a word.

    Raises
    ------
    ConfigError
        If the tokenizer's model is not WordPiece.
    """
    kind = type(tokenizer.model).__name__
    if kind != "WordPiece":
        raise ConfigError(
            f"words can be added to a WordPiece vocabulary only, and this teacher's is {kind}",
            hint="Distil without them: words=0.",
        )
    normalizer = tokenizer.normalizer
    passage_counts: Counter[str] = Counter()
    for passage in passages:
        passage_counts.update(set(_WORD.findall(normalizer.normalize_str(passage) if normalizer else passage)))
    frequent = [
        word for word, passages_with in passage_counts.most_common() if passages_with >= least and not word.isdigit()
    ]
    missing: list[str] = []
    for word in frequent:
        if len(missing) == count:
            break
        if len(tokenizer.encode(word, add_special_tokens=False).ids) > 1:
            missing.append(word)
    return missing


def with_words(tokenizer: Tokenizer, words: Sequence[str]) -> Tokenizer:
    """Return the tokenizer with ``words`` appended to its vocabulary, in order."""
    from tokenizers import Tokenizer as Reader

    if not words:
        return tokenizer
    serialized = json.loads(tokenizer.to_str())
    vocabulary: dict[str, int] = serialized["model"]["vocab"]
    first = max(vocabulary.values()) + 1
    vocabulary.update({word: first + index for index, word in enumerate(words)})
    return Reader.from_str(json.dumps(serialized, ensure_ascii=False))
