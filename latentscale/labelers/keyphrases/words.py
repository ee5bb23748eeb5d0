"""Words of texts as a person would read them, and which of them cannot carry a label."""

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
"""Characters of a text that are read for keyphrases: what a text is about is said early."""

BREAK = 0
"""Id of what no phrase crosses: punctuation, markup, the end of a line with a stop, the end of the text."""

_TAG = re.compile(r"<[^<>]{0,300}>")
# Who wrote or got a mail: the name before an address in angle brackets.
_SENDER = re.compile(
    r"""(?:^|[\n,;:"(])[ \t]*["']?([^\W\d_][\w.'’-]*(?:[ \t]+[\w.'’-]+){0,4})["']?[ \t]+<[^<>\s@]+@[^<>\s]+>"""
)
_URL = re.compile(r"(?:https?://|ftp://|www\.)\S+|\S+@\S+\.\w+")


def _marks() -> str:
    """Ranges of the combining marks, and the joiners of letters, for a class of a regular expression."""
    # Marks of all scripts are in these. Between them are Han characters, Hangul and private use; variation selectors of
    # Han characters are far above.
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
# Vowels of Hindi, points of Hebrew, accents of decomposed text: marks belong to the letter before them, and Python
# counts none of them among the characters of words.
_MARKS = _marks()
_LETTERS = rf"[^\W{_HAN_AND_KANA}]+(?:[{_MARKS}]+[^\W{_HAN_AND_KANA}]*)*"
# Between two letters they end no word: hyphens, apostrophes, the point of Catalan, geresh and gershayim of Hebrew.
_INSIDE = r"'’\-\u2010\u2011\u00b7\u2027\u05f3\u05f4"
# A word; or one Han or kana character, since those scripts do not space their words; or any other visible sign.
_TOKEN = re.compile(
    rf"[{_HAN_AND_KANA}][{_MARKS}]*"
    rf"|{_LETTERS}(?:(?:[{_INSIDE}]|\.(?=[^\W\d])){_LETTERS})*(?:\+\+|\#(?!\w))?"
    r"|[^\w\s]|\n"
)
# The same for ASCII, which is most of many corpora: it takes half the time.
_ASCII_TOKEN = re.compile(r"\w+(?:(?:['\-]|\.(?=[a-zA-Z_]))\w+)*(?:\+\+|\#(?!\w))?|[^\w\s\x1c-\x1f]|\n", re.ASCII)
# They end a word wherever they follow it.
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

# Fine within a phrase ("pending for days", "home page"), empty by themselves.
_WEAK = "weak.txt"

# The only words that may stand inside a phrase without carrying it: "lack of funds", "card was declined".
_CONNECTORS = frozenset(
    (
        *("a", "an", "and", "as", "at", "by", "for", "from", "in", "into", "is", "my", "not", "of", "on", "or", "our"),
        *("the", "to", "was", "with", "your"),
        *("can't", "didn't", "doesn't", "don't", "hasn't", "isn't", "wasn't", "won't"),
    )
)


class Vocabulary:
    """Every written form of a word that was met, with its id from 1 on.

    Attributes
    ----------
    senders : Counter of str
        How often a word, case-folded, was in a name before an address of mail: "Jane Doe <jane@example.org>".
    """

    def __init__(self) -> None:
        self._ids: defaultdict[str, int] = defaultdict(count(1).__next__)
        self._chunks = _Chunks(self._ids)
        self.senders: Counter[str] = Counter()

    def encode(self, texts: Sequence[str]) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
        """Return the ids of the words and signs in the first ``MAX_CHARACTERS`` of each text.

        Returns
        -------
        int32 ndarray, shape (n_tokens,)
            Of all texts, one after the other.
        int64 ndarray, shape (n_texts,)
            How many each has.
        """
        if not len(texts):
            return np.empty(0, np.int32), np.empty(0, np.int64)
        # No token crosses white space: what stands between spaces is looked at once, however often it comes.
        parts: Any = pc.call_function("split_pattern", [pa.array(map(self._cut, texts), pa.large_string())], _BY_SPACE)
        chunks: Any = pc.call_function("list_flatten", [parts]).dictionary_encode()
        encoded = [self._chunks[chunk] for chunk in chunks.dictionary.to_pylist()]
        ids = np.fromiter(chain.from_iterable(encoded), np.int32)
        sizes = np.fromiter(map(len, encoded), np.int64, len(encoded))
        begins = np.cumsum(sizes) - sizes
        stream = chunks.indices.to_numpy(zero_copy_only=False)
        ends = np.concatenate([[0], np.cumsum(sizes[stream])])
        tokens = ids[np.repeat(begins[stream] - ends[:-1], sizes[stream]) + np.arange(ends[-1])]
        return tokens, np.diff(ends[parts.offsets.to_numpy()])

    def forms(self) -> list[str]:
        """Return the written forms; ``forms()[i]`` has id ``i`` (the first is the break)."""
        return ["", *self._ids]

    def _cut(self, text: str) -> str:
        """The beginning of a text without markup and addresses, with white space around the ends of lines."""
        # Not in the middle of a word, unless that is all there is.
        cut = text if len(text) <= MAX_CHARACTERS else "".join(text[:MAX_CHARACTERS].rsplit(maxsplit=1)[:1])
        if "@" in cut and "<" in cut:
            for name in _SENDER.findall(cut):
                self.senders.update(_fold(word.strip(".'’-")) for word in name.split())
        if "<" in cut:
            cut = _TAG.sub(" | ", cut)
        if "&" in cut:
            cut = html.unescape(cut)
        if "://" in cut or "www." in cut or "@" in cut:
            cut = _URL.sub(" | ", cut)
        return cut.replace("\n", " \n ")


class _Chunks(dict[str, list[int]]):
    """The ids of the words and signs in what stands between spaces."""

    def __init__(self, ids: defaultdict[str, int]) -> None:
        super().__init__()
        self._ids = ids

    def __missing__(self, chunk: str) -> list[int]:
        ids = self._ids
        # Nearly all are a word, or one with a sign behind it: that needs no regular expression.
        if not chunk.isascii():
            found = [ids[token] for token in _TOKEN.findall(chunk)]
        elif chunk.isalnum():
            found = [ids[chunk]]
        elif chunk[-1:] in _SIGNS and chunk[:-1].isalnum():
            found = [ids[chunk[:-1]], ids[chunk[-1]]]
        else:
            found = [ids[token] for token in _ASCII_TOKEN.findall(chunk)]
        self[chunk] = found
        return found


class Words:
    """The words behind the written forms: case and plural folded.

    Parameters
    ----------
    forms : sequence of str
        ``Vocabulary.forms()``.
    counts : int64 ndarray, shape (n_forms,)
        How often each form was met.
    inside : int64 ndarray, shape (n_forms,), optional
        In how many documents each form was met where no sentence begins: there its case says something.
    stop_words : collection of str
        Words, case-folded, that are in no phrase.
    fillers : collection of str
        Fillers that can start and end phrases of this corpus, see ``distinctive_fillers``.
    least : int
        Words that were met fewer times, in all forms, are breaks: no phrase is made of them.

    Attributes
    ----------
    of_form : int32 ndarray, shape (n_forms,)
        The word of each form; 0 is a break.
    folded : list of str
        The case-folded form of each form; empty for a break.
    carries : bool ndarray, shape (n_words,)
        Whether a word may begin or end a phrase.
    stands : bool ndarray, shape (n_words,)
        Whether it may be a phrase by itself.
    joins : bool ndarray, shape (n_words,)
        Whether it may be inside a phrase.
    named : bool ndarray, shape (n_words,)
        Whether it is usually not in lower case, as names and abbreviations are.
    weak, connects, verbal : bool ndarray, shape (n_words,)
        Whether it says little by itself; whether it only links others; whether it looks like an English participle.
    is_distinctive : bool ndarray, shape (n_words,)
        Whether it is one of ``fillers``.
    persons : bool ndarray, shape (n_words,)
        Whether it is the name of a person; none until ``person_words`` has looked.
    """

    def __init__(
        self,
        forms: list[str],
        counts: NDArray[np.int64],
        inside: NDArray[np.int64] | None = None,
        stop_words: Collection[str] = (),
        *,
        fillers: Collection[str] = (),
        least: int = 1,
    ) -> None:
        folded = [form.lower() if form.isascii() and form.isalpha() else _fold(form) for form in forms]
        totals: defaultdict[str, int] = defaultdict(int)
        for word, n in zip(folded, counts.tolist(), strict=True):
            totals[word] += n
        everything: dict[str, int] = {"": 0}
        of_form = np.fromiter(
            (
                everything.setdefault(_singular(word, totals) if word[-1:] == "s" else word, len(everything))
                for word in folded
            ),
            np.int32,
            len(forms),
        )
        # Most words of a corpus are met once or twice: nothing more is found out about those.
        kept = np.bincount(of_form, weights=counts, minlength=len(everything)) >= least
        kept[BREAK] = True
        self.of_form = np.where(kept, np.cumsum(kept, dtype=np.int32) - 1, BREAK)[of_form].astype(np.int32)
        ids = {word: at for at, word in enumerate(compress(everything, kept.tolist()))}
        spellings: defaultdict[str, dict[str, int]] = defaultdict(dict)
        settled: defaultdict[str, dict[str, int]] = defaultdict(dict)
        for position in np.flatnonzero(self.of_form).tolist():
            word, written = folded[position], _POSSESSIVE.sub("", unicodedata.normalize("NFC", forms[position]))
            spellings[word][written] = spellings[word].get(written, 0) + int(counts[position])
            if inside is not None and inside[position]:
                settled[word][written] = settled[word].get(written, 0) + int(inside[position])
        self.folded = folded
        self._usual = {word: _usual(settled.get(word) or by_form) for word, by_form in spellings.items()}
        self._spellings = spellings
        never, weak = frozenset(stop_words), listed_words(_WEAK)
        allowed_fillers = frozenset(fillers) - never
        english = (english_stop_words() - allowed_fillers) | never
        stops = english | foreign_stop_words(totals)
        self.carries = np.array([self._may_carry(word, stops) for word in ids])
        # Outside English any word may be inside: "tarjeta de crédito".
        self.joins = self.carries | np.array([word in _CONNECTORS or word not in english for word in ids])
        self.joins &= np.array([word not in never for word in ids])
        self.persons = np.zeros(len(ids), dtype=np.bool_)
        self.named = np.array([self._usual.get(word, "") != word for word in ids])
        self._texts = list(ids)
        self._stems: dict[int, frozenset[str]] = {0: frozenset()}
        self.weak = np.array([word in weak for word in ids])
        self.connects = np.array([word in _CONNECTORS for word in ids])
        self.is_distinctive = np.array([word in allowed_fillers for word in ids])
        self.stands = self.carries & ~self.weak & ~self.is_distinctive
        self.stands &= np.array(
            [len(word) > 1 and not _is_adverb(word, totals) and not _RELEASE.match(word) for word in ids]
        )
        self.verbal = np.array([word.endswith(("ed", "ing")) and len(word) > 5 and word.isascii() for word in ids])

    def text(self, word: int) -> str:
        """Return the folded word."""
        return self._texts[word]

    def stems(self, word: int) -> frozenset[str]:
        """Return the stems of a word: of its parts, and of "topup" for "top-up"; none of one that only links others."""
        found = self._stems.get(word)
        if found is None:
            text = "" if self.connects[word] else self._texts[word]
            parts = {part for part in (*text.split("-"), text.replace("-", "")) if part}
            found = self._stems[word] = frozenset(map(stem, parts))
        return found

    def write(self, forms: Iterable[int]) -> str:
        """Write the phrase made of these forms, each in the spelling that the corpus mostly uses."""
        return join_words([self._usual[self.folded[form]] for form in forms])

    def capitalise(self, text: str) -> str:
        """Begin with a capital: as the corpus does with that word, if it does ("GCC"), and "iPhone" as it is."""
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
        # "C" and "R" are languages, "s" and "x" are leftovers.
        return len(word) > 1 or spelling.isupper() or bool(_UNSPACED.match(word))


def join_words(words: list[str]) -> str:
    """Join words with spaces, except between characters of scripts that have none."""
    text = before = ""
    for word in words:
        glued = not text or (_UNSPACED.match(before) and _UNSPACED.match(word))
        text += word if glued else f" {word}"
        before = word
    return text


@lru_cache(maxsize=100_000)
def stem(word: str) -> str:
    """Cut the commonest English endings and version numbers: only to tell that two words of one label say the same."""
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
    """Stems, of which it is known at once whether a further one is a near-synonym of one of them."""

    def __init__(self) -> None:
        self._whole: set[str] = set()
        self._parts: set[str] = set()

    def add(self, stems: Iterable[str]) -> None:
        """Add some."""
        for one in stems:
            self._whole.add(one)
            self._parts.update(_parts(one))

    def __contains__(self, new: str) -> bool:
        return new in self._whole or new in self._parts or not self._whole.isdisjoint(_parts(new))


def _parts(text: str) -> list[str]:
    """What is alike to it and shorter."""
    return [text[:n] for n in range(4, len(text))] + [text[n:] for n in (1, 2) if len(text) - n >= 4]


def _fold(form: str) -> str:
    if not form or not (form[0].isalnum() or form[0] == "_"):
        return ""
    # A letter and its mark are one character in some texts and two in others: café, and cafe with U+0301.
    return _POSSESSIVE.sub("", unicodedata.normalize("NFC", form).casefold().replace("’", "'")).strip("_")


def _singular(word: str, known: dict[str, int]) -> str:
    """Fold a plural into its singular where the corpus has both; a plural on its own stays as it is."""
    if len(word) > 3 and word.endswith("s") and not word.endswith(("ss", "us", "is")):
        for candidate in (word[:-3] + "y" if word.endswith("ies") else "", word[:-1], word[:-2]):
            if len(candidate) > 2 and candidate in known:
                return candidate
    return word


def _usual(by_form: dict[str, int]) -> str:
    if len(by_form) == 1:
        return next(iter(by_form))
    form, n = max(by_form.items(), key=lambda item: (item[1], item[0]))
    return form if n >= 0.6 * sum(by_form.values()) else form.lower()


def _capital(by_form: dict[str, int]) -> str:
    """Return the commonest spelling that begins with a capital, unless that is hardly ever used."""
    form, n = max(
        ((form, n) for form, n in by_form.items() if form[:1].isupper()), key=lambda x: x[::-1], default=("", 0)
    )
    return form if n >= max(2, 0.02 * sum(by_form.values())) else ""


def _is_adverb(word: str, known: dict[str, int]) -> bool:
    """Whether a word is an adverb, "safely" but not "family": the corpus has the word that it derives from."""
    if not word.endswith("ly") or len(word) < 6:
        return False
    return any(base in known for base in (word[:-2], word[:-3] + "y", word[:-1] + "e"))
