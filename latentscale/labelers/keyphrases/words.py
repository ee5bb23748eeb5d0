"""Split texts into words for keyphrases, normalise them, and determine which can be part of phrases."""

from __future__ import annotations

import html
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Sequence
from functools import lru_cache
from itertools import chain, compress, count
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from latentscale.labelers.keyphrases.stop_words import english_stop_words, foreign_stop_words, listed_words

MAX_CHARACTERS = 1_000
"""Characters of a text that are read for keyphrases: its topic is usually stated early."""

BREAK = 0
"""Id of breaks, which no phrase crosses: punctuation, markup, ends of lines with a full stop, ends of texts."""

_TAG = re.compile(r"<[^<>]{0,300}>")
# Sender or recipient of an email: the name before an address in angle brackets.
_SENDER = re.compile(
    r"""(?:^|[\n,;:"(])[ \t]*["']?([^\W\d_][\w.'’-]*(?:[ \t]+[\w.'’-]+){0,4})["']?[ \t]+<[^<>\s@]+@[^<>\s]+>"""
)
_URL = re.compile(r"(?:https?://|ftp://|www\.)\S+|\S+@\S+\.\w+")


def _marks() -> str:
    """Return the ranges of combining marks and joiners, for a character class of a regular expression."""
    # These ranges contain the marks of all scripts. Between them are Han characters, Hangul and private use; variation
    # selectors of Han characters are added below.
    scripts = (range(0x300, 0x3400), range(0xA000, 0xAC00), range(0xFB00, 0x12000), range(0x16000, 0x1F000))
    codes = [code for part in scripts for code in part if unicodedata.category(chr(code))[0] == "M"]
    codes += [0x200C, 0x200D, *range(0xE0100, 0xE01F0)]
    ranges: list[list[int]] = []
    for code in sorted(codes):
        if ranges and ranges[-1][1] == code - 1:
            ranges[-1][1] = code
        else:
            ranges.append([code, code])
    return "".join(f"{chr(first)}-{chr(last)}" for first, last in ranges)


_HAN_AND_KANA = r"\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
# Combining marks (Hindi vowels, Hebrew points, accents of decomposed text) belong to the preceding letter, but are not
# matched by \w in Python.
_MARKS = _marks()
_LETTERS = rf"[^\W{_HAN_AND_KANA}]+(?:[{_MARKS}]+[^\W{_HAN_AND_KANA}]*)*"
# These do not end a word between two letters: hyphens, apostrophes, the Catalan middle dot, Hebrew geresh, gershayim.
_INSIDE = r"'’\-\u2010\u2011\u00b7\u2027\u05f3\u05f4"
# A word; or one Han or kana character, since those scripts do not separate words; or any other visible character.
_TOKEN = re.compile(
    rf"[{_HAN_AND_KANA}][{_MARKS}]*"
    rf"|{_LETTERS}(?:(?:[{_INSIDE}]|\.(?=[^\W\d])){_LETTERS})*(?:\+\+|\#(?!\w))?"
    r"|[^\w\s]|\n"
)
# The same for ASCII text, in half the time.
_ASCII_TOKEN = re.compile(r"\w+(?:(?:['\-]|\.(?=[a-zA-Z_]))\w+)*(?:\+\+|\#(?!\w))?|[^\w\s\x1c-\x1f]|\n", re.ASCII)
# Punctuation that always ends a word.
_SIGNS = frozenset(".,;:!?()[]\"'-/")
_BY_SPACE = pc.SplitPatternOptions(" ")
_UNSPACED = re.compile(rf"^[{_HAN_AND_KANA}][{_MARKS}]*$")
_LETTERS_ONLY = re.compile(r"[bcdfghj-np-tv-xz]{2,5}$")  # "xml", which is not read as a word
_CONTRACTION = re.compile(r"['’](?:t|m|re|ve|ll|d)$")
_POSSESSIVE = re.compile(r"['’]s?$")

_RELEASE = re.compile(r"^v\d+$")  # of "v2.14.0"
_VERSION = re.compile(r"^(.*?[^\W\d]{2})v?[\d.]+$")
_ENDINGS = (
    *("ization", "isation", "ication", "etical", "ations", "ation", "ments", "ment", "ings", "ing", "ers", "ies"),
    *("ied", "ed", "er", "es", "ions", "ion", "ally", "al", "ly", "ical", "ic", "s", "y", "e"),
)

# Words that are useful within a phrase ("pending for days", "home page"), but not by themselves.
_WEAK = "weak.txt"

# English words allowed inside a phrase, but not at its ends: "lack of funds", "card was declined".
_CONNECTORS = frozenset(
    (
        *("a", "an", "and", "as", "at", "by", "for", "from", "in", "into", "is", "my", "not", "of", "on", "or", "our"),
        *("the", "to", "was", "with", "your"),
        *("can't", "didn't", "doesn't", "don't", "hasn't", "isn't", "wasn't", "won't"),
    )
)


class Vocabulary:
    """Ids of all written forms, from 1.

    Attributes
    ----------
    senders : Counter of str
        Number of occurrences of each case-folded word in names before email addresses: "Jane Doe <jane@example.org>".
    """

    def __init__(self) -> None:
        self._ids: defaultdict[str, int] = defaultdict(count(1).__next__)
        self._chunks = _Chunks(self._ids)
        self.senders: Counter[str] = Counter()

    def encode(self, texts: Sequence[str]) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
        """Return the ids of the tokens in the first ``MAX_CHARACTERS`` of each text.

        Returns
        -------
        int32 ndarray, shape (n_tokens,)
            Ids of all texts, concatenated.
        int64 ndarray, shape (n_texts,)
            Number of tokens of each text.
        """
        if not len(texts):
            return np.empty(0, np.int32), np.empty(0, np.int64)
        # No token crosses white space: each distinct chunk between spaces is tokenised only once.
        parts: Any = pc.call_function(
            "split_pattern", [pa.array(map(self._prepare, texts), pa.large_string())], _BY_SPACE
        )
        chunks: Any = pc.call_function("list_flatten", [parts]).dictionary_encode()
        encoded = [self._chunks[chunk] for chunk in chunks.dictionary.to_pylist()]
        ids = np.fromiter(chain.from_iterable(encoded), np.int32)
        sizes = np.fromiter(map(len, encoded), np.int64, len(encoded))
        starts = np.cumsum(sizes) - sizes
        chunk_ids = chunks.indices.to_numpy(zero_copy_only=False)
        offsets = np.concatenate([[0], np.cumsum(sizes[chunk_ids])])
        tokens = ids[np.repeat(starts[chunk_ids] - offsets[:-1], sizes[chunk_ids]) + np.arange(offsets[-1])]
        return tokens, np.diff(offsets[parts.offsets.to_numpy()])

    def forms(self) -> list[str]:
        """Return the written forms; ``forms()[i]`` has id ``i`` (the first is the break)."""
        return ["", *self._ids]

    def _prepare(self, text: str) -> str:
        """Truncate a text, remove markup and addresses, and put spaces around line ends."""
        # Truncate between words, unless there is only one.
        prefix = text if len(text) <= MAX_CHARACTERS else "".join(text[:MAX_CHARACTERS].rsplit(maxsplit=1)[:1])
        if "@" in prefix and "<" in prefix:
            for name in _SENDER.findall(prefix):
                self.senders.update(_fold(word.strip(".'’-")) for word in name.split())
        if "<" in prefix:
            prefix = _TAG.sub(" | ", prefix)
        if "&" in prefix:
            prefix = html.unescape(prefix)
        if "://" in prefix or "www." in prefix or "@" in prefix:
            prefix = _URL.sub(" | ", prefix)
        return prefix.replace("\n", " \n ")


class _Chunks(dict[str, list[int]]):
    """Cache of the token ids of each chunk between spaces."""

    def __init__(self, ids: defaultdict[str, int]) -> None:
        super().__init__()
        self._ids = ids

    def __missing__(self, chunk: str) -> list[int]:
        ids = self._ids
        # Nearly all chunks are a word, or a word and a punctuation mark, and need no regular expression.
        if not chunk.isascii():
            tokens = [ids[token] for token in _TOKEN.findall(chunk)]
        elif chunk.isalnum():
            tokens = [ids[chunk]]
        elif chunk[-1:] in _SIGNS and chunk[:-1].isalnum():
            tokens = [ids[chunk[:-1]], ids[chunk[-1]]]
        else:
            tokens = [ids[token] for token in _ASCII_TOKEN.findall(chunk)]
        self[chunk] = tokens
        return tokens


class Words:
    """The words of written forms, with case and plural folded.

    Parameters
    ----------
    forms : sequence of str
        ``Vocabulary.forms()``.
    counts : int64 ndarray, shape (n_forms,)
        Number of occurrences of each form.
    inside : int64 ndarray, shape (n_forms,), optional
        Number of documents with each form not at the start of a sentence, where its case is informative.
    stop_words : collection of str
        Case-folded words that are excluded from phrases.
    fillers : collection of str
        Fillers that can start and end phrases of this corpus: see ``distinctive_fillers``.
    min_count : int
        Minimum number of occurrences, over all forms; rarer words are breaks.

    Attributes
    ----------
    of_form : int32 ndarray, shape (n_forms,)
        Word id of each form; 0 is a break.
    folded : list of str
        The case-folded form of each form; empty for a break.
    can_start_or_end : bool ndarray, shape (n_words,)
        Whether a word can start or end a phrase.
    can_stand_alone : bool ndarray, shape (n_words,)
        Whether it can be a phrase by itself.
    can_be_inside : bool ndarray, shape (n_words,)
        Whether it can be inside a phrase.
    named : bool ndarray, shape (n_words,)
        Whether it is usually not in lower case, like names and abbreviations.
    weak, is_connector, is_participle : bool ndarray, shape (n_words,)
        Whether it is uninformative by itself; is a connector; looks like an English participle.
    is_distinctive : bool ndarray, shape (n_words,)
        Whether it is one of ``fillers``.
    persons : bool ndarray, shape (n_words,)
        Whether it is the name of a person; all false until assigned from ``person_words``.
    """

    def __init__(
        self,
        forms: list[str],
        counts: NDArray[np.int64],
        inside: NDArray[np.int64] | None = None,
        stop_words: Collection[str] = (),
        *,
        fillers: Collection[str] = (),
        min_count: int = 1,
    ) -> None:
        folded = [form.lower() if form.isascii() and form.isalpha() else _fold(form) for form in forms]
        totals: defaultdict[str, int] = defaultdict(int)
        for word, occurrences in zip(folded, counts.tolist(), strict=True):
            totals[word] += occurrences
        word_ids: dict[str, int] = {"": 0}
        of_form = np.fromiter(
            (
                word_ids.setdefault(_singular(word, totals) if word[-1:] == "s" else word, len(word_ids))
                for word in folded
            ),
            np.int32,
            len(forms),
        )
        # Most words of a corpus occur once or twice: skip them.
        is_kept = np.bincount(of_form, weights=counts, minlength=len(word_ids)) >= min_count
        is_kept[BREAK] = True
        self.of_form = np.where(is_kept, np.cumsum(is_kept, dtype=np.int32) - 1, BREAK)[of_form].astype(np.int32)
        ids = {word: index for index, word in enumerate(compress(word_ids, is_kept.tolist()))}
        spellings: defaultdict[str, dict[str, int]] = defaultdict(dict)
        inside_spellings: defaultdict[str, dict[str, int]] = defaultdict(dict)
        for position in np.flatnonzero(self.of_form).tolist():
            word, spelling = folded[position], _POSSESSIVE.sub("", unicodedata.normalize("NFC", forms[position]))
            spellings[word][spelling] = spellings[word].get(spelling, 0) + int(counts[position])
            if inside is not None and inside[position]:
                inside_spellings[word][spelling] = inside_spellings[word].get(spelling, 0) + int(inside[position])
        self.folded = folded
        self._usual = {word: _usual(inside_spellings.get(word) or by_form) for word, by_form in spellings.items()}
        self._spellings = spellings
        excluded, weak = frozenset(stop_words), listed_words(_WEAK)
        usable_fillers = frozenset(fillers) - excluded
        english = (english_stop_words() - usable_fillers) | excluded
        stop_word_set = english | foreign_stop_words(totals)
        self.can_start_or_end = np.array([self._may_carry(word, stop_word_set) for word in ids])
        # In other languages any word can be inside: "tarjeta de crédito".
        self.can_be_inside = self.can_start_or_end | np.array(
            [word in _CONNECTORS or word not in english for word in ids]
        )
        self.can_be_inside &= np.array([word not in excluded for word in ids])
        self.persons = np.zeros(len(ids), dtype=np.bool_)
        self.named = np.array([self._usual.get(word, "") != word for word in ids])
        self._texts = list(ids)
        self._stems: dict[int, frozenset[str]] = {0: frozenset()}
        self.weak = np.array([word in weak for word in ids])
        self.is_connector = np.array([word in _CONNECTORS for word in ids])
        self.is_distinctive = np.array([word in usable_fillers for word in ids])
        self.can_stand_alone = self.can_start_or_end & ~self.weak & ~self.is_distinctive
        self.can_stand_alone &= np.array(
            [len(word) > 1 and not _is_adverb(word, totals) and not _RELEASE.match(word) for word in ids]
        )
        self.is_participle = np.array(
            [word.endswith(("ed", "ing")) and len(word) > 5 and word.isascii() for word in ids]
        )

    def text(self, word: int) -> str:
        """Return the folded word."""
        return self._texts[word]

    def stems(self, word: int) -> frozenset[str]:
        """Return the stems of a word: of its parts, and of "topup" for "top-up"; none for connectors."""
        stems = self._stems.get(word)
        if stems is None:
            text = "" if self.is_connector[word] else self._texts[word]
            parts = {part for part in (*text.split("-"), text.replace("-", "")) if part}
            stems = self._stems[word] = frozenset(map(stem, parts))
        return stems

    def write(self, forms: Iterable[int]) -> str:
        """Render the phrase of these forms, each in its usual spelling in the corpus."""
        return join_words([self._usual[self.folded[form]] for form in forms])

    def capitalise(self, text: str) -> str:
        """Capitalise the first word: as in the corpus, if it does ("GCC"); mixed case ("iPhone") is unchanged."""
        first, space, rest = text.partition(" ")
        bare = first.rstrip(",")
        if bare == bare.lower():
            plain = bare.upper() if _LETTERS_ONLY.match(bare) else bare[:1].title() + bare[1:]
            first = (_capital(self._spellings.get(_fold(bare), {})) or plain) + first[len(bare) :]
        return first + space + rest

    def _may_carry(self, word: str, stops: frozenset[str]) -> bool:
        if not word or word in stops or word[0].isdigit() or _CONTRACTION.search(word):
            return False
        spelling = self._usual.get(word, word)
        # "C" and "R" are programming languages, "s" and "x" are fragments.
        return len(word) > 1 or spelling.isupper() or bool(_UNSPACED.match(word))


def join_words(words: list[str]) -> str:
    """Join words with spaces, except between characters of scripts without spaces."""
    text = previous = ""
    for word in words:
        no_space = not text or (_UNSPACED.match(previous) and _UNSPACED.match(word))
        text += word if no_space else f" {word}"
        previous = word
    return text


@lru_cache(maxsize=100_000)
def stem(word: str) -> str:
    """Strip common English suffixes and version numbers, to detect that two words of a label mean the same."""
    word = word.lower()
    word = _VERSION.sub(r"\1", word)
    for ending in _ENDINGS:
        if word.endswith(ending) and len(word) - len(ending) >= 4:
            word = word[: -len(ending)]
            break
    if len(word) > 3 and word[-1] == word[-2]:
        word = word[:-1]
    return word[:6]


def are_near_synonyms(first: str, second: str) -> bool:
    """Whether two stems are near-synonyms: "auto" and "automa", "mail" and "email"."""
    if len(first) > len(second):
        first, second = second, first
    if len(first) < 4:
        return first == second
    return second.startswith(first) or (second.endswith(first) and len(second) - len(first) <= 2)


class Stems:
    """Set of stems with fast lookup of near-synonyms."""

    def __init__(self) -> None:
        self._stems: set[str] = set()
        self._substrings: set[str] = set()

    def add(self, stems: Iterable[str]) -> None:
        """Add stems."""
        for added in stems:
            self._stems.add(added)
            self._substrings.update(_near_synonyms(added))

    def __contains__(self, new: str) -> bool:
        return new in self._stems or new in self._substrings or not self._stems.isdisjoint(_near_synonyms(new))


def _near_synonyms(text: str) -> list[str]:
    """Return the shorter near-synonyms of a stem, as in ``are_near_synonyms``."""
    return [text[:n] for n in range(4, len(text))] + [text[n:] for n in (1, 2) if len(text) - n >= 4]


def _fold(form: str) -> str:
    if not form or not (form[0].isalnum() or form[0] == "_"):
        return ""
    # Normalise letters with combining marks: é may also be e with U+0301.
    return _POSSESSIVE.sub("", unicodedata.normalize("NFC", form).casefold().replace("’", "'")).strip("_")


def _singular(word: str, known: dict[str, int]) -> str:
    """Return the singular of a plural if the corpus contains both, else the word."""
    if len(word) > 3 and word.endswith("s") and not word.endswith(("ss", "us", "is")):
        for candidate in (word[:-3] + "y" if word.endswith("ies") else "", word[:-1], word[:-2]):
            if len(candidate) > 2 and candidate in known:
                return candidate
    return word


def _usual(by_form: dict[str, int]) -> str:
    if len(by_form) == 1:
        return next(iter(by_form))
    form, occurrences = max(by_form.items(), key=lambda item: (item[1], item[0]))
    return form if occurrences >= 0.6 * sum(by_form.values()) else form.lower()


def _capital(by_form: dict[str, int]) -> str:
    """Return the most common capitalised spelling; empty if it is rare."""
    form, occurrences = max(
        ((form, occurrences) for form, occurrences in by_form.items() if form[:1].isupper()),
        key=lambda x: x[::-1],
        default=("", 0),
    )
    return form if occurrences >= max(2, 0.02 * sum(by_form.values())) else ""


def _is_adverb(word: str, known: dict[str, int]) -> bool:
    """Whether a word is an adverb, such as "safely" but not "family": the corpus contains its base word."""
    if not word.endswith("ly") or len(word) < 6:
        return False
    return any(base in known for base in (word[:-2], word[:-3] + "y", word[:-1] + "e"))
