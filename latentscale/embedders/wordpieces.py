"""Token ids of texts: a BERT tokenizer is called once for each distinct word.

Such a tokenizer treats words independently, so that their ids can be cached. On package descriptions that takes a fifth
of the tokenizer's CPU time, with equal ids (a test compares them on generated text). Other tokenizers get whole texts.
"""

from __future__ import annotations

from array import array
from collections.abc import Generator, Sequence
from contextlib import contextmanager
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
# The first words, which are common, are looked up by Arrow without a Python object for each: at most this many, and as
# many as is worthwhile for the length of the texts.
_FIRST_WORDS = 1 << 16
_CHARACTERS_A_FIRST_WORD = 16
_ENTRY_BYTES = 160  # a short string, its slot in the dict, its index and one or two token ids


class WordPieces:
    """Token ids of texts, equal to ``tokenizer.encode(text, add_special_tokens=False).ids`` for each text.

    Each cached word has an index, and token ids are stored consecutively by index, so that NumPy can gather the ids of
    a batch. Thread-safe.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._splitter = word_splitter(tokenizer)
        self._lock = Lock()
        self._clear()

    def encode(self, texts: Sequence[str]) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
        """Return concatenated token ids of all texts, without truncation or special tokens, and their number per text.

        Raises
        ------
        ConfigError
            If the tokenizer fails for a text.
        """
        if self._splitter is None:
            return self._encode(texts)
        first = self._first_words(sum(map(len, texts)))
        words = self._splitter.split(texts, first)
        gathered = self._gather(words, first)
        if gathered is None:
            return self._encode(texts)
        if not len(words.rest):
            return gathered
        ids, lengths = gathered
        rest: list[int] = words.rest.tolist()
        rest_ids, rest_lengths = self._encode([texts[row] for row in rest])
        lengths[words.rest] = rest_lengths
        is_rest = np.zeros(len(texts), dtype=np.bool_)
        is_rest[words.rest] = True
        mask = np.repeat(is_rest, lengths)
        merged = np.empty(len(mask), dtype=np.int32)
        merged[mask], merged[~mask] = rest_ids, ids
        return merged, lengths

    def _first_words(self, characters: int) -> pa.LargeStringArray:
        """Return the words that came first, as many as is worthwhile; their indices are 0, 1, 2 …"""
        with self._lock:
            if 2 * len(self._first) <= min(len(self._numbers), _FIRST_WORDS):
                self._first = pa.array(islice(self._numbers, _FIRST_WORDS), pa.large_string())
            return self._first.slice(0, characters // _CHARACTERS_A_FIRST_WORD)

    def _gather(self, words: Words, first: pa.LargeStringArray) -> tuple[NDArray[np.int32], NDArray[np.int64]] | None:
        """Return concatenated ids and their number per text; None if too many words are new."""
        if not len(words.places):
            return np.empty(0, dtype=np.int32), np.zeros(len(words.counts), dtype=np.int64)
        with self._lock:
            # Another thread may have cleared the cache meanwhile.
            known = len(first) if self._starts_with(first) else 0
            distinct = words.different if known == len(first) else first.to_pylist() + words.different
            numbers = np.concatenate([np.arange(known), self._look_up(distinct)])
            new = np.flatnonzero(numbers < 0)
            if len(new):
                if 2 * len(new) > len(words.places):
                    # Hashes, serial numbers: words that do not recur are not worth caching.
                    return None
                missing = [distinct[index] for index in (new - known).tolist()]
                if self._bytes + _size(missing) > _CACHE_BYTES:
                    # Cheaper than tracking the order of use; common words are cached again within one batch.
                    self._clear()
                    distinct, new = first.to_pylist() + words.different, np.unique(words.places)
                    missing = [distinct[index] for index in new.tolist()]
                self._learn(missing)
                numbers[new] = self._look_up(missing)
            bounds = np.frombuffer(self._bounds, np.int64)
            starts, counts = bounds[numbers], bounds[numbers + 1] - bounds[numbers]
            counts = counts[words.places]
            offsets = np.zeros(len(counts) + 1, dtype=np.int64)
            np.cumsum(counts, out=offsets[1:])
            positions = np.repeat(starts[words.places] - offsets[:-1], counts) + np.arange(offsets[-1])
            ids = np.frombuffer(self._pieces, np.int32)[positions]
            # An array cannot grow while its buffer is exported.
            del bounds
        return ids, np.diff(offsets[np.cumsum(words.counts)], prepend=0)

    def _look_up(self, words: Sequence[str]) -> NDArray[np.int64]:
        """Return the index of each word, -1 if it is new."""
        return np.fromiter(map(self._numbers.get, words, repeat(-1)), np.int64, len(words))

    def _starts_with(self, first: pa.LargeStringArray) -> bool:
        """Whether these words still have the first indices."""
        return not len(first) or (len(self._first) >= len(first) and self._first.slice(0, len(first)).equals(first))

    def _learn(self, words: list[str]) -> None:
        ascii_words = [word for word in words if word.isascii()]
        other_words = [word for word in words if not word.isascii()]
        for batch, encode in ((ascii_words, self._encode_words), (other_words, self._encode)):
            # Trailing spaces distinguish words in the cache, but the tokenizer ignores them.
            ids, lengths = encode([word.rstrip(" ") for word in batch])
            self._bounds.frombytes((self._bounds[-1] + np.cumsum(lengths)).tobytes())
            self._pieces.frombytes(ids.tobytes())
            self._numbers.update(zip(batch, count(len(self._numbers))))
        self._bytes += _size(words)

    def _encode_words(self, words: list[str]) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
        """Return concatenated ids of ASCII words, and their number per word.

        Tokenising many words in one text takes less than half the time of as many texts.
        """
        texts = [" ".join(words[start : start + _WORDS_A_TEXT]) for start in range(0, len(words), _WORDS_A_TEXT)]
        with tokenizer_errors():
            encodings = self._tokenizer.encode_batch(texts, add_special_tokens=False)
        ids = np.fromiter(chain.from_iterable(encoding.ids for encoding in encodings), np.int32)
        counts = [np.bincount(np.array(encoding.word_ids, np.int64)) for encoding in encodings]
        return ids, np.concatenate([np.empty(0, np.int64), *counts])

    def _clear(self) -> None:
        self._numbers: dict[str, int] = {}
        # Token ids of word n: pieces[bounds[n] : bounds[n + 1]].
        self._bounds, self._pieces = array("q", [0]), array("i")
        self._bytes = 0
        self._first = pa.array([], pa.large_string())

    def _encode(self, texts: Sequence[str]) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
        try:
            with tokenizer_errors():
                encodings = self._tokenizer.encode_batch_fast(texts, add_special_tokens=False) if texts else []
        except TypeError:
            # A lone surrogate cannot be encoded.
            return self._encode([_encodable(text) for text in texts])
        rows = [encoding.ids for encoding in encodings]
        lengths = np.fromiter(map(len, rows), np.int64, len(rows))
        return np.fromiter(chain.from_iterable(rows), np.int32, int(lengths.sum())), lengths


@contextmanager
def tokenizer_errors() -> Generator[None]:
    """Turn errors of the library ``tokenizers`` into a ``ConfigError``; others pass."""
    try:
        yield
    except BaseException as error:
        # It raises plain exceptions, and a Rust panic, of a pattern that exceeds its backtracking limit for instance,
        # is not an Exception.
        if type(error) is not Exception and type(error).__name__ != "PanicException":
            raise
        hint = "Files of its vocabulary may be missing or damaged: save the model again, or download it again."
        if "unk" in str(error).lower():
            hint = "Its tokenizer.json names no token for unknown words (unk_token): add one, or use another model."
        raise ConfigError(f"the model's tokenizer fails for a text: {error}", where="embed.model", hint=hint) from error


def _size(words: Sequence[str]) -> int:
    return sum(map(len, words)) + _ENTRY_BYTES * len(words)


def _encodable(text: str) -> str:
    """Join surrogate pairs, and replace lone surrogates with U+FFFD."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
