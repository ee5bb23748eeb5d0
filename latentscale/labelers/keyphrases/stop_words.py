"""Stop words: of the languages that a corpus is in, and of a file of one's own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from importlib.resources import files

from latentscale.errors import ConfigError
from latentscale.file_names import at_home

LANGUAGES = ("de", "es", "fr", "it", "nl", "pl", "pt", "sv")
"""Languages beside English of which there is a list."""

# A language is one of the corpus if words that only its list has are so large a share of all words...
_SHARE = 0.01
# ...and so many of them, as a share of the list, are met: "bin" alone is a folder, not German. Of few texts, so many.
_MET, _FEW_WORDS, _MET_OF_FEW = 0.12, 3_000, 4
# Beyond function words: verbs and fillers that every corpus has, and that make fragments ("library contains").
_FILLERS = "fillers.txt"
# A phrase that one of these begins or ends is a fragment: "transfer take", "top-up need".
_LIGHT = frozenset(
    (
        *("amp", "com", "hello", "hi", "html", "http", "https", "lt", "nbsp", "org", "please", "quot", "www"),
        *(
            "bring",
            "came",
            "come",
            "comes",
            "coming",
            "deal",
            "does",
            "doing",
            "done",
            "gave",
            "getting",
            "give",
            "given",
        ),
        *(
            "gives",
            "giving",
            "going",
            "gone",
            "got",
            "happen",
            "happened",
            "keep",
            "let",
            "lets",
            "make",
            "makes",
            "making",
        ),
        *("need", "needed", "needs", "put", "puts", "said", "say", "says", "take", "taken", "takes", "taking", "tell"),
        *(
            "tried",
            "tries",
            "try",
            "trying",
            "used",
            "uses",
            "using",
            "want",
            "wanted",
            "wants",
            "went",
            "wish",
            "would",
        ),
    )
)
_MOST_CHARACTERS = 1_000_000


@cache
def listed_words(name: str) -> frozenset[str]:
    """Return the words of a list that comes with the package."""
    place = files(__package__ or "latentscale.labelers.keyphrases")
    return frozenset(place.joinpath(name).read_text(encoding="utf-8").casefold().split())


def filler_words() -> frozenset[str]:
    """Return the fillers that may tell clusters of some corpus apart: no function word, light verb or markup."""
    return listed_words(_FILLERS) - listed_words("languages/en.txt") - _LIGHT


def english_stop_words() -> frozenset[str]:
    """Return the words, lower-cased, that neither begin nor end a phrase in any corpus."""
    return listed_words("languages/en.txt") | listed_words(_FILLERS)


def languages_in(counts: Mapping[str, int]) -> tuple[str, ...]:
    """Return which of ``LANGUAGES`` a corpus is in, by how often each of its words (case-folded) is met."""
    lists = {name: listed_words(f"languages/{name}.txt") for name in LANGUAGES}
    everything = max(sum(counts.values()), 1)
    found: list[str] = []
    for name, words in lists.items():
        others = english_stop_words().union(*(other for key, other in lists.items() if key != name))
        own = words - others
        met = [counts[word] for word in own if word in counts]
        enough = _MET_OF_FEW if everything < _FEW_WORDS else _MET * len(own)
        if len(met) >= enough and sum(met) >= _SHARE * everything:
            found.append(name)
    return tuple(found)


def foreign_stop_words(counts: Mapping[str, int]) -> frozenset[str]:
    """Return the stop words of the languages, beside English, that a corpus is in."""
    return frozenset[str]().union(*(listed_words(f"languages/{name}.txt") for name in languages_in(counts)))


def stop_words_of(given: str | Sequence[str] | None) -> tuple[str, ...]:
    """Return one's own stop words, case-folded and sorted: those given, or those of the file that is named.

    Raises
    ------
    ConfigError
        If the file cannot be read as such a list.
    """
    if isinstance(given, str):
        return read_stop_words(given)
    return tuple(sorted({word.casefold() for word in given or ()}))


def read_stop_words(path: str) -> tuple[str, ...]:
    """Read a list of one's own: UTF-8, words apart by white space or lines; what follows a ``#`` is a comment.

    Returns
    -------
    tuple of str
        Case-folded and sorted, each once.

    Raises
    ------
    ConfigError
        If there is no such file, it is no text, or it holds no word.
    """
    place = at_home(path)
    hint = "Write one word a line, in UTF-8."
    if not place.is_file():
        raise ConfigError(f"label.stop_words: there is no file {path}", hint=hint)
    try:
        with place.open(encoding="utf-8-sig") as file:
            text = file.read(_MOST_CHARACTERS + 1)
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"label.stop_words: {path} cannot be read as text: {error}", hint=hint) from None
    if len(text) > _MOST_CHARACTERS:
        raise ConfigError(f"label.stop_words: {path} is longer than {_MOST_CHARACTERS:,} characters", hint=hint)
    words = {word.casefold() for line in text.splitlines() for word in line.partition("#")[0].split()}
    if not words:
        raise ConfigError(f"label.stop_words: {path} holds no word", hint=hint)
    return tuple(sorted(words))
