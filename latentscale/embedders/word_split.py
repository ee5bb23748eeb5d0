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
_SPACE, _INSIDE, _SIGN = 0, 1, 2
_WATCHED, _UNFIT = 1, 2
# First bytes, in UTF-8, of scripts that are written without spaces, or whose words hardly come back; and no characters.
_UNSPACED = (0xE0, *range(0xE3, 0x100))


@dataclass(frozen=True, slots=True, kw_only=True)
class Words:
    """The words of some texts.

    Attributes
    ----------
    different : list of str
        Each word once.
    places : integer ndarray, shape (n_words,)
        Place in ``different`` of each word, one text after the other.
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
        every = bytes(range(256))
        self._letters = every.lower() if lowercase else every
        self._kinds = np.full(256, _INSIDE, np.uint8)
        self._kinds[list(_SPACES)] = _SPACE
        self._kinds[[code for code in range(33, 127) if not chr(code).isalnum()]] = _SIGN
        self._marks = np.zeros(256, np.uint8)
        for token in added:
            # Lower case of one character may be several.
            for form in (token[:1], token[:1].lower(), token[:1].upper()):
                self._marks[form.encode(errors="surrogatepass")[0]] = _WATCHED
        self._marks[[code for code in (*range(32), 127) if code not in _SPACES]] = _UNFIT
        self._marks[list(_UNSPACED)] = _UNFIT
        self._has_added = re.compile("|".join(map(re.escape, added)), re.IGNORECASE).search if added else None

    def split(self, texts: Sequence[str]) -> Words:
        """Separate ``texts``; memory is about sixteen times their bytes while this runs."""
        # Half of a pair of surrogates is no character; what is made of it here has a mark.
        parts = [text.encode(errors="surrogatepass") for text in texts]
        ends = np.cumsum(np.fromiter(map(len, parts), np.int64, len(parts)) + 1)
        codes = np.frombuffer(b" ".join([*parts, b""]).translate(self._letters), np.uint8)
        kinds = self._kinds[codes]
        rest = self._unfit(texts, codes, ends)
        for row in rest.tolist():
            kinds[ends[row - 1] if row else 0 : ends[row]] = _SPACE
        inside = kinds == _INSIDE
        begins = kinds == _SIGN
        begins[:1] |= inside[:1]
        begins[1:] |= inside[1:] & ~inside[:-1]
        kept = kinds != _SPACE
        whole = codes[kept]
        offsets = np.append(np.flatnonzero(begins[kept]), len(whole))
        buffers = [None, pa.py_buffer(offsets), pa.py_buffer(whole)]
        encoded = pa.Array.from_buffers(pa.large_string(), len(offsets) - 1, buffers).dictionary_encode()
        return Words(
            different=encoded.dictionary.to_pylist(),
            places=encoded.indices.to_numpy(),
            counts=np.diff(np.searchsorted(np.flatnonzero(begins), ends), prepend=0),
            rest=rest,
        )

    def _unfit(self, texts: Sequence[str], codes: NDArray[np.uint8], ends: NDArray[np.int64]) -> NDArray[np.int64]:
        """Rows of the texts that are left to the tokenizer."""
        marks = self._marks[codes]
        marked = np.flatnonzero(marks)
        rows = np.searchsorted(ends, marked, side="right")
        unfit = np.unique(rows[marks[marked] == _UNFIT])
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
