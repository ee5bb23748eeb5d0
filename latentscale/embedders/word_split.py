"""The words of texts as BERT's tokenizers separate them, for many texts at once, by classes of bytes.

At ASCII white space and ASCII punctuation such a tokenizer always separates, and nothing that it does to characters
(cleaning, accents, lower case, word pieces) reaches over such a place. So the stretches between them can be tokenised
each by itself, and each different one once. A stretch may hold other characters, a dash or a quotation mark of Unicode
for instance, at which the tokenizer separates further.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

if TYPE_CHECKING:
    from tokenizers import Tokenizer

_SPACES = b" \t\n\r"
# Of each byte, its class, and what it says of its text.
_SPACE, _INSIDE, _SIGN = 0, 1, 2
_CLASS, _WATCHED, _UNFIT = 3, 4, 8
# First bytes, in UTF-8, of scripts that are written without spaces, or whose words hardly come back; and no characters.
_UNSPACED = (0xE0, *range(0xE3, 0x100))


@dataclass(frozen=True, slots=True, kw_only=True)
class Words:
    """The words of some texts.

    Attributes
    ----------
    different : list of str
        Each word once that is not among the known ones; spaces behind it are a part of it.
    places : integer ndarray, shape (n_words,)
        Place of each word in the known ones and ``different`` behind them, one text after the other.
    counts : int64 ndarray, shape (n_texts,)
        Words of each text.
    rest : int64 ndarray
        Texts, ascending, that only the tokenizer can read; they have no words here.
    """

    different: list[str]
    places: NDArray[Any]
    counts: NDArray[np.int64]
    rest: NDArray[np.int64]


class WordSplitter:
    """Separates texts as a tokenizer of BERT's kind does.

    Parameters
    ----------
    lowercase : bool
        Whether the tokenizer makes no difference between capital and small letters.
    added : sequence of str
        Tokens that the tokenizer looks for before it separates words. A text with one of them is left to it.
    """

    def __init__(self, *, lowercase: bool, added: Sequence[str]) -> None:
        every = bytes(range(256)).translate(bytes.maketrans(_SPACES, b" " * len(_SPACES)))
        self._letters = every.lower() if lowercase else every
        classes = np.full(256, _INSIDE, np.uint8)
        classes[list(_SPACES)] = _SPACE
        classes[[code for code in range(33, 127) if not chr(code).isalnum()]] = _SIGN
        for token in added:
            # Lower case of one character may be several.
            for form in (token[:1], token[:1].lower(), token[:1].upper()):
                classes[form.encode(errors="surrogatepass")[0]] |= _WATCHED
        classes[[code for code in (*range(32), 127) if code not in _SPACES]] |= _UNFIT
        classes[list(_UNSPACED)] |= _UNFIT
        self._classes = classes.tobytes()
        self._has_added = re.compile("|".join(map(re.escape, added)), re.IGNORECASE).search if added else None

    def split(self, texts: Sequence[str], known: pa.LargeStringArray | None = None) -> Words:
        """Separate ``texts``; memory is about ten times their bytes while this runs.

        Parameters
        ----------
        texts : sequence of str
        known : pyarrow.LargeStringArray, optional
            Different words that need not be returned as strings.
        """
        # Half of a pair of surrogates is no character; what is made of it here has a mark.
        parts = [text.encode(errors="surrogatepass") for text in texts]
        codes, classes, ends = self._joined(parts)
        rest = self._unfit(texts, classes, ends)
        if len(rest):
            for row in rest.tolist():
                parts[row] = b""
            codes, classes, ends = self._joined(parts)
        classes = classes & _CLASS
        inside = classes == _INSIDE
        begins = classes == _SIGN
        begins[:1] |= inside[:1]
        begins[1:] |= inside[1:] & ~inside[:-1]
        # A word reaches to the next one, spaces included: taking them out costs more than the few words that differ
        # by them.
        starts = np.flatnonzero(begins)
        counts = np.diff(np.searchsorted(starts, ends), prepend=0)
        if not len(starts):
            return Words(different=[], places=starts, counts=counts, rest=rest)
        buffers = [None, pa.py_buffer(np.append(starts, len(codes))), pa.py_buffer(codes)]
        words = pa.Array.from_buffers(pa.large_string(), len(starts), buffers)
        # The known words are the first ones of the dictionary, so that their places are known, too.
        before = [] if known is None or not len(known) else [known]
        encoded = pa.chunked_array([*before, words]).dictionary_encode().chunks[-1]
        return Words(
            different=encoded.dictionary.slice(sum(map(len, before))).to_pylist(),
            places=encoded.indices.to_numpy(),
            counts=counts,
            rest=rest,
        )

    def _joined(self, parts: Sequence[bytes]) -> tuple[bytes, NDArray[np.uint8], NDArray[np.int64]]:
        """All bytes, with their letters and spaces made alike; the class of each; and where each text ends."""
        whole = b" ".join([*parts, b""])
        ends = np.cumsum(np.fromiter(map(len, parts), np.int64, len(parts)) + 1)
        return whole.translate(self._letters), np.frombuffer(whole.translate(self._classes), np.uint8), ends

    def _unfit(self, texts: Sequence[str], classes: NDArray[np.uint8], ends: NDArray[np.int64]) -> NDArray[np.int64]:
        """Rows of the texts that are left to the tokenizer."""
        marked = np.flatnonzero(classes > _CLASS)
        rows = np.searchsorted(ends, marked, side="right")
        unfit = np.unique(rows[classes[marked] >= _UNFIT])
        watched = np.setdiff1d(rows, unfit)
        if self._has_added is None or not len(watched):
            return unfit
        candidates: list[int] = watched.tolist()
        found = [row for row in candidates if self._has_added(texts[row])]
        return np.union1d(unfit, np.array(found, np.int64))


def word_splitter(tokenizer: Tokenizer) -> WordSplitter | None:
    """The splitter that separates texts as ``tokenizer`` does; None where there is none."""
    normalizer = tokenizer.normalizer
    known = (
        type(normalizer).__name__ == "BertNormalizer"
        and type(tokenizer.pre_tokenizer).__name__ == "BertPreTokenizer"
        and type(tokenizer.model).__name__ == "WordPiece"
    )
    if not known:
        return None
    added = tokenizer.get_added_tokens_decoder().values()
    if any(token.normalized or not token.content or " " in token.content for token in added):
        # Texts and words that become such a token without capitals and accents, or beside each other, cannot be told.
        return None
    return WordSplitter(lowercase=normalizer.lowercase, added=[token.content for token in added])
