"""Whole words that join the vocabulary of a static model, so that names of special fields are not spelt in pieces."""

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
    """The words in the most passages that the tokenizer spells in several pieces, the most frequent first.

    Parameters
    ----------
    tokenizer : tokenizers.Tokenizer
        With WordPiece, which takes the longest entry that fits: a word that is added is used wherever it stands alone.
    count : int
        At most.
    least : int
        Passages that a word must be in.

    Raises
    ------
    ConfigError
        If the tokenizer has another model.
    """
    kind = type(tokenizer.model).__name__
    if kind != "WordPiece":
        raise ConfigError(
            f"words can be added to a WordPiece vocabulary only, and this teacher's is {kind}",
            hint="Distil without them: words=0.",
        )
    normalizer = tokenizer.normalizer
    seen: Counter[str] = Counter()
    for passage in passages:
        seen.update(set(_WORD.findall(normalizer.normalize_str(passage) if normalizer else passage)))
    common = [word for word, passages_with in seen.most_common() if passages_with >= least and not word.isdigit()]
    found: list[str] = []
    for word in common:
        if len(found) == count:
            break
        if len(tokenizer.encode(word, add_special_tokens=False).ids) > 1:
            found.append(word)
    return found


def with_words(tokenizer: Tokenizer, words: Sequence[str]) -> Tokenizer:
    """The tokenizer with ``words`` after its own entries, in order."""
    from tokenizers import Tokenizer as Reader

    if not words:
        return tokenizer
    content = json.loads(tokenizer.to_str())
    vocabulary: dict[str, int] = content["model"]["vocab"]
    first = max(vocabulary.values()) + 1
    vocabulary.update({word: first + place for place, word in enumerate(words)})
    return Reader.from_str(json.dumps(content, ensure_ascii=False))
