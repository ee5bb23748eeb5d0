"""Split many texts at once into words like a BERT tokenizer, by byte classes.

Such a tokenizer always splits at ASCII white space and punctuation, and its other steps (cleaning, accents, lower case,
WordPiece) never cross such a boundary. So the parts between them can be tokenised independently, and each distinct one
only once. A part may contain other characters at which the tokenizer splits further, such as a Unicode dash or
quotation mark.
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
# Mask of the class; flags of a byte: it may begin an added token, or its text must not be split here.
_SPACE, _INSIDE, _SIGN = 0, 1, 2
_CLASS, _WATCHED, _UNFIT = 3, 4, 8
# UTF-8 lead bytes of scripts written without spaces or whose words rarely recur; and of invalid characters.
_UNSPACED = (0xE0, *range(0xE3, 0x100))


@dataclass(frozen=True, slots=True, kw_only=True)
class Words:
    """Words of some texts.

    Attributes
    ----------
    different : list of str
        Distinct words that are not among the known ones, including trailing spaces.
    places : integer ndarray, shape (n_words,)
        Index of each word into the known words followed by ``different``; texts are concatenated.
    counts : int64 ndarray, shape (n_texts,)
        Number of words of each text.
    rest : int64 ndarray
        Indices, ascending, of texts that must be tokenised as a whole; they have no words here.
    """

    different: list[str]
    places: NDArray[Any]
    counts: NDArray[np.int64]
    rest: NDArray[np.int64]


class WordSplitter:
    """Splits texts into words like a BERT tokenizer.

    Parameters
    ----------
    lowercase : bool
        Whether the tokenizer lowercases.
    added : sequence of str
        Tokens that the tokenizer matches before splitting words. A text with one of them is not split.
    """

    def __init__(self, *, lowercase: bool, added: Sequence[str]) -> None:
        byte_map = bytes(range(256)).translate(bytes.maketrans(_SPACES, b" " * len(_SPACES)))
        self._letters = byte_map.lower() if lowercase else byte_map
        classes = np.full(256, _INSIDE, np.uint8)
        classes[list(_SPACES)] = _SPACE
        classes[[code for code in range(33, 127) if not chr(code).isalnum()]] = _SIGN
        for token in added:
            # The lower case of a character may be several characters.
            for prefix in (token[:1], token[:1].lower(), token[:1].upper()):
                classes[prefix.encode(errors="surrogatepass")[0]] |= _WATCHED
        classes[[code for code in (*range(32), 127) if code not in _SPACES]] |= _UNFIT
        classes[list(_UNSPACED)] |= _UNFIT
        self._classes = classes.tobytes()
        self._has_added = re.compile("|".join(map(re.escape, added)), re.IGNORECASE).search if added else None

    def split(self, texts: Sequence[str], known: pa.LargeStringArray | None = None) -> Words:
        """Split ``texts``; takes memory of about ten times their bytes.

        Parameters
        ----------
        texts : sequence of str
        known : pyarrow.LargeStringArray, optional
            Distinct words that need not be returned as strings.
        """
        # A lone surrogate is not a character; the bytes it is encoded to here are of the class unfit.
        encoded_texts = [text.encode(errors="surrogatepass") for text in texts]
        codes, classes, ends = self._join(encoded_texts)
        rest = self._unfit(texts, classes, ends)
        if len(rest):
            for row in rest.tolist():
                encoded_texts[row] = b""
            codes, classes, ends = self._join(encoded_texts)
        classes = classes & _CLASS
        inside = classes == _INSIDE
        word_starts = classes == _SIGN
        word_starts[:1] |= inside[:1]
        word_starts[1:] |= inside[1:] & ~inside[:-1]
        # A word extends to the next one, including spaces: removing them costs more than the few words that differ only
        # in them.
        starts = np.flatnonzero(word_starts)
        counts = np.diff(np.searchsorted(starts, ends), prepend=0)
        if not len(starts):
            return Words(different=[], places=starts, counts=counts, rest=rest)
        buffers = [None, pa.py_buffer(np.append(starts, len(codes))), pa.py_buffer(codes)]
        words = pa.Array.from_buffers(pa.large_string(), len(starts), buffers)
        # The known words come first in the dictionary, so that their indices are known.
        known_words = [] if known is None or not len(known) else [known]
        encoded = pa.chunked_array([*known_words, words]).dictionary_encode().chunks[-1]
        return Words(
            different=encoded.dictionary.slice(sum(map(len, known_words))).to_pylist(),
            places=encoded.indices.to_numpy(),
            counts=counts,
            rest=rest,
        )

    def _join(self, encoded_texts: Sequence[bytes]) -> tuple[bytes, NDArray[np.uint8], NDArray[np.int64]]:
        """Return the joined bytes, with case and spaces normalised; the class of each; and the end of each text."""
        joined = b" ".join([*encoded_texts, b""])
        ends = np.cumsum(np.fromiter(map(len, encoded_texts), np.int64, len(encoded_texts)) + 1)
        return joined.translate(self._letters), np.frombuffer(joined.translate(self._classes), np.uint8), ends

    def _unfit(self, texts: Sequence[str], classes: NDArray[np.uint8], ends: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the rows of texts that must not be split."""
        flagged = np.flatnonzero(classes > _CLASS)
        rows = np.searchsorted(ends, flagged, side="right")
        unfit = np.unique(rows[classes[flagged] >= _UNFIT])
        watched = np.setdiff1d(rows, unfit)
        if self._has_added is None or not len(watched):
            return unfit
        candidates: list[int] = watched.tolist()
        with_added = [row for row in candidates if self._has_added(texts[row])]
        return np.union1d(unfit, np.array(with_added, np.int64))


def word_splitter(tokenizer: Tokenizer) -> WordSplitter | None:
    """Return a splitter equivalent to ``tokenizer``; None if its kind is not supported."""
    normalizer = tokenizer.normalizer
    supported = (
        type(normalizer).__name__ == "BertNormalizer"
        and type(tokenizer.pre_tokenizer).__name__ == "BertPreTokenizer"
        and type(tokenizer.model).__name__ == "WordPiece"
    )
    if not supported:
        return None
    added = tokenizer.get_added_tokens_decoder().values()
    if any(token.normalized or not token.content or " " in token.content for token in added):
        # Texts and words that match such a token only after normalisation or across words cannot be detected.
        return None
    return WordSplitter(lowercase=normalizer.lowercase, added=[token.content for token in added])
