"""Token ids of texts, with a shortcut for plain English in front of the tokenizer.

A BERT-style tokenizer (lower-casing, splitting at white space and punctuation, word pieces) treats each word by
itself, so that its answer for a word can be kept. On ASCII text without control characters the splitting is one
regular expression. That was measured at more than twice the speed of the tokenizer on package descriptions, with equal
ids (a test compares them on generated text); every other text, and every other kind of tokenizer, goes through the
tokenizer.
"""

from __future__ import annotations

import re
from array import array
from collections.abc import Callable, Sequence
from itertools import chain, count, repeat
from threading import Lock
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from latentscale.errors import ConfigError

if TYPE_CHECKING:
    from tokenizers import Tokenizer

_CACHE_BYTES = 32_000_000
_ENTRY_BYTES = 160  # a short string, its slot in the dict, its number and one or two token ids
_WORDS = re.compile(r"[a-z0-9]+|[!-/:-@\[-`{-~]")
_CONTROLS = r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]"


class WordPieces:
    """Token ids of texts, equal to ``tokenizer.encode(text, add_special_tokens=False).ids`` for each text.

    Each known word has a number, under which its token ids are held one after the other, so that the ids of a batch
    are gathered by NumPy: a list for each text took a quarter of the time of embedding.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._unsafe = _shortcut(tokenizer)
        self._lock = Lock()
        self._forget()

    def encode(self, texts: Sequence[str]) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
        """Return the token ids of all texts in one row, uncut, without special tokens, and how many each text has."""
        unsafe = self._unsafe
        if unsafe is None:
            return self._encode(texts)
        words: list[list[str]] = []
        rest: list[int] = []
        for text in texts:
            if text.isascii() and not unsafe(text):
                words.append(_WORDS.findall(text.lower()))
            else:
                rest.append(len(words))
                words.append([])
        known = self._gather(words)
        if known is None:
            return self._encode(texts)
        if not rest:
            return known
        ids, lengths = known
        other_ids, other_lengths = self._encode([texts[row] for row in rest])
        lengths[rest] = other_lengths
        other = np.zeros(len(texts), dtype=np.bool_)
        other[rest] = True
        mask = np.repeat(other, lengths)
        merged = np.empty(len(mask), dtype=np.int32)
        merged[mask], merged[~mask] = other_ids, ids
        return merged, lengths

    def _gather(self, words: Sequence[list[str]]) -> tuple[NDArray[np.int32], NDArray[np.int64]] | None:
        """Ids of texts of words, and how many each has; None where too many of the words are new."""
        flat = list(chain.from_iterable(words))
        if not flat:
            return np.empty(0, dtype=np.int32), np.zeros(len(words), dtype=np.int64)
        with self._lock:
            numbers = self._look_up(flat)
            new = np.flatnonzero(numbers < 0).tolist()
            if new:
                missing = list(dict.fromkeys(map(flat.__getitem__, new)))
                if 2 * len(missing) > len(flat):
                    # Hashes, serial numbers: words that never come back are not worth keeping.
                    return None
                if self._bytes + _size(missing) > _CACHE_BYTES:
                    # Starting over keeps the bound without the cost of an order of use; common words are back in one
                    # batch.
                    self._forget()
                    self._learn(list(dict.fromkeys(flat)))
                    numbers = self._look_up(flat)
                else:
                    self._learn(missing)
                    numbers[new] = self._look_up([flat[place] for place in new])
            bounds = np.frombuffer(self._bounds, np.int64)
            starts, counts = bounds[numbers], bounds[numbers + 1] - bounds[numbers]
            after = np.zeros(len(flat) + 1, dtype=np.int64)
            np.cumsum(counts, out=after[1:])
            places = np.repeat(starts - after[:-1], counts) + np.arange(after[-1])
            ids = np.frombuffer(self._pieces, np.int32)[places]
            # An array that is looked at cannot grow.
            del bounds
        ends = np.cumsum(np.fromiter(map(len, words), np.int64, len(words)))
        return ids, np.diff(after[ends], prepend=0)

    def _look_up(self, words: Sequence[str]) -> NDArray[np.int64]:
        """Number of each word, -1 where it is new."""
        return np.fromiter(map(self._numbers.get, words, repeat(-1)), np.int64, len(words))

    def _learn(self, words: list[str]) -> None:
        ids, lengths = self._encode(words)
        self._bounds.frombytes((self._bounds[-1] + np.cumsum(lengths)).tobytes())
        self._pieces.frombytes(ids.tobytes())
        self._numbers.update(zip(words, count(len(self._numbers))))
        self._bytes += _size(words)

    def _forget(self) -> None:
        self._numbers: dict[str, int] = {}
        # Of the token ids of word n: bounds[n] to bounds[n + 1].
        self._bounds, self._pieces = array("q", [0]), array("i")
        self._bytes = 0

    def _encode(self, texts: Sequence[str]) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
        try:
            encodings = self._tokenizer.encode_batch_fast(texts, add_special_tokens=False) if texts else []
        except BaseException as error:
            # A panic of its compiled code, of a pattern that gives up for instance, is no Exception.
            if type(error).__name__ != "PanicException":
                raise
            raise ConfigError(f"the model's tokenizer.json cannot read a text: {error}", where="embed.model") from error
        rows = [encoding.ids for encoding in encodings]
        lengths = np.fromiter(map(len, rows), np.int64, len(rows))
        return np.fromiter(chain.from_iterable(rows), np.int32, int(lengths.sum())), lengths


def _size(words: Sequence[str]) -> int:
    return sum(map(len, words)) + _ENTRY_BYTES * len(words)


def _shortcut(tokenizer: Tokenizer) -> Callable[[str], Any] | None:
    """Return a function that finds what makes an ASCII text unfit for the shortcut; None where there is no shortcut."""
    normalizer = tokenizer.normalizer
    known = (
        type(normalizer).__name__ == "BertNormalizer"
        and normalizer.lowercase is True
        and normalizer.clean_text is True
        and type(tokenizer.pre_tokenizer).__name__ == "BertPreTokenizer"
        and type(tokenizer.model).__name__ == "WordPiece"
    )
    if not known:
        return None
    added = [token.content for token in tokenizer.get_added_tokens_decoder().values()]
    unsafe = re.compile("|".join([_CONTROLS, *map(re.escape, added)]), re.IGNORECASE).search
    firsts = {form for token in added for form in (token[:1].lower(), token[:1].upper())}
    # One set of characters is searched several times as fast as alternatives.
    suspicious = re.compile(f"[{_CONTROLS[1:-1]}{''.join(map(re.escape, sorted(firsts)))}]").search
    return lambda text: suspicious(text) and unsafe(text)
