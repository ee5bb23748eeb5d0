"""Token ids of texts: a tokenizer of BERT's kind is asked about each different word once.

Such a tokenizer treats each word by itself, so that its answer for a word can be kept. On package descriptions that
takes a fifth of the tokenizer's processor time, with equal ids (a test compares them on generated text). Every other
kind of tokenizer reads whole texts.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from itertools import chain, count, islice, repeat
from threading import Lock
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from latentscale.embedders.word_split import Words, word_splitter
from latentscale.errors import ConfigError

if TYPE_CHECKING:
    from tokenizers import Tokenizer

_CACHE_BYTES = 32_000_000
_WORDS_A_TEXT = 256
# Words that are looked up by Arrow, without an object for each: the ones that came first, which are common. One is
# worth it for so many characters.
_FIRST_WORDS = 1 << 16
_CHARACTERS_A_FIRST_WORD = 16
_ENTRY_BYTES = 160  # a short string, its slot in the dict, its number and one or two token ids


class WordPieces:
    """Token ids of texts, equal to ``tokenizer.encode(text, add_special_tokens=False).ids`` for each text.

    Each known word has a number, under which its token ids are held one after the other, so that the ids of a batch
    are gathered by NumPy. Several threads may share one.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._splitter = word_splitter(tokenizer)
        self._lock = Lock()
        self._forget()

    def encode(self, texts: Sequence[str]) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
        """Return the token ids of all texts in one row, uncut, without special tokens, and how many each text has.

        Raises
        ------
        ConfigError
            If the tokenizer gives up on a text.
        """
        if self._splitter is None:
            return self._encode(texts)
        first = self._first_words(sum(map(len, texts)))
        words = self._splitter.split(texts, first)
        known = self._gather(words, first)
        if known is None:
            return self._encode(texts)
        if not len(words.rest):
            return known
        ids, lengths = known
        rest: list[int] = words.rest.tolist()
        other_ids, other_lengths = self._encode([texts[row] for row in rest])
        lengths[words.rest] = other_lengths
        other = np.zeros(len(texts), dtype=np.bool_)
        other[words.rest] = True
        mask = np.repeat(other, lengths)
        merged = np.empty(len(mask), dtype=np.int32)
        merged[mask], merged[~mask] = other_ids, ids
        return merged, lengths

    def _first_words(self, characters: int) -> pa.LargeStringArray:
        """Words that came first, as many as are worth it; their numbers are 0, 1, 2 …"""
        with self._lock:
            if 2 * len(self._first) <= min(len(self._numbers), _FIRST_WORDS):
                self._first = pa.array(islice(self._numbers, _FIRST_WORDS), pa.large_string())
            return self._first.slice(0, characters // _CHARACTERS_A_FIRST_WORD)

    def _gather(self, words: Words, first: pa.LargeStringArray) -> tuple[NDArray[np.int32], NDArray[np.int64]] | None:
        """Ids of texts of words, and how many each has; None where too many of the words are new."""
        if not len(words.places):
            return np.empty(0, dtype=np.int32), np.zeros(len(words.counts), dtype=np.int64)
        with self._lock:
            # Another thread may have started the cache over meanwhile.
            known = len(first) if self._starts_with(first) else 0
            different = words.different if known == len(first) else first.to_pylist() + words.different
            numbers = np.concatenate([np.arange(known), self._look_up(different)])
            new = np.flatnonzero(numbers < 0)
            if len(new):
                if 2 * len(new) > len(words.places):
                    # Hashes, serial numbers: words that never come back are not worth keeping.
                    return None
                missing = [different[place] for place in (new - known).tolist()]
                if self._bytes + _size(missing) > _CACHE_BYTES:
                    # Starting over keeps the bound without the cost of an order of use; common words are back in one
                    # batch.
                    self._forget()
                    different, new = first.to_pylist() + words.different, np.unique(words.places)
                    missing = [different[place] for place in new.tolist()]
                self._learn(missing)
                numbers[new] = self._look_up(missing)
            bounds = np.frombuffer(self._bounds, np.int64)
            starts, counts = bounds[numbers], bounds[numbers + 1] - bounds[numbers]
            counts = counts[words.places]
            after = np.zeros(len(counts) + 1, dtype=np.int64)
            np.cumsum(counts, out=after[1:])
            held = np.repeat(starts[words.places] - after[:-1], counts) + np.arange(after[-1])
            ids = np.frombuffer(self._pieces, np.int32)[held]
            # An array that is looked at cannot grow.
            del bounds
        return ids, np.diff(after[np.cumsum(words.counts)], prepend=0)

    def _look_up(self, words: Sequence[str]) -> NDArray[np.int64]:
        """Number of each word, -1 where it is new."""
        return np.fromiter(map(self._numbers.get, words, repeat(-1)), np.int64, len(words))

    def _starts_with(self, first: pa.LargeStringArray) -> bool:
        """Whether words have the first numbers still."""
        return not len(first) or (len(self._first) >= len(first) and self._first.slice(0, len(first)).equals(first))

    def _learn(self, words: list[str]) -> None:
        plain = [word for word in words if word.isascii()]
        others = [word for word in words if not word.isascii()]
        for some, encode in ((plain, self._encode_words), (others, self._encode)):
            # What is behind a word keeps it apart from others, and is nothing to the tokenizer.
            ids, lengths = encode([word.rstrip(" ") for word in some])
            self._bounds.frombytes((self._bounds[-1] + np.cumsum(lengths)).tobytes())
            self._pieces.frombytes(ids.tobytes())
            self._numbers.update(zip(some, count(len(self._numbers))))
        self._bytes += _size(words)

    def _encode_words(self, words: list[str]) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
        """Ids of ASCII words, and how many each has: many words a text take less than half the time of many texts."""
        texts = [" ".join(words[at : at + _WORDS_A_TEXT]) for at in range(0, len(words), _WORDS_A_TEXT)]
        encodings = self._tokenizer.encode_batch(texts, add_special_tokens=False)
        ids = np.fromiter(chain.from_iterable(one.ids for one in encodings), np.int32)
        counts = [np.bincount(np.array(one.word_ids, np.int64)) for one in encodings]
        return ids, np.concatenate([np.empty(0, np.int64), *counts])

    def _forget(self) -> None:
        self._numbers: dict[str, int] = {}
        # Of the token ids of word n: bounds[n] to bounds[n + 1].
        self._bounds, self._pieces = array("q", [0]), array("i")
        self._bytes = 0
        self._first = pa.array([], pa.large_string())

    def _encode(self, texts: Sequence[str]) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
        try:
            encodings = self._tokenizer.encode_batch_fast(texts, add_special_tokens=False) if texts else []
        except TypeError:
            # A lone surrogate is no character that can be encoded.
            return self._encode([_encodable(text) for text in texts])
        except BaseException as error:
            # A panic of its compiled code, of a pattern that gives up for instance, is no Exception.
            if type(error).__name__ != "PanicException":
                raise
            raise ConfigError(
                f"the model's tokenizer cannot read a text: {error}",
                where="embed.model",
                hint="Save the model again, or fetch it anew.",
            ) from error
        rows = [encoding.ids for encoding in encodings]
        lengths = np.fromiter(map(len, rows), np.int64, len(rows))
        return np.fromiter(chain.from_iterable(rows), np.int32, int(lengths.sum())), lengths


def _size(words: Sequence[str]) -> int:
    return sum(map(len, words)) + _ENTRY_BYTES * len(words)


def _encodable(text: str) -> str:
    """With pairs of surrogates joined, and lone ones replaced by the sign for what cannot be shown."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
