"""Stop words: of the languages of a corpus, and from a file of the user."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from importlib.resources import files

from latentscale.errors import ConfigError
from latentscale.file_names import at_home

LANGUAGES = ("de", "es", "fr", "it", "nl", "pl", "pt", "sv")
"""Languages other than English with a list."""

# A language is detected if words that are only in its list have this minimum share of all occurrences...
_MIN_SHARE = 0.01
# ...and this minimum share of its list occurs ("bin" alone is a folder, not German). In small corpora, this number.
_MIN_OF_LIST, _SMALL_CORPUS, _MIN_IN_SMALL = 0.12, 3_000, 4
# In addition to function words: verbs and fillers of every corpus, which make fragments ("library contains").
_FILLERS = "fillers.txt"
# A phrase that starts or ends with one of these is a fragment: "transfer take", "top-up need".
_LIGHT_WORDS = frozenset(
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
_MAX_CHARACTERS = 1_000_000


@cache
def listed_words(name: str) -> frozenset[str]:
    """Return the words of a list shipped with the package."""
    folder = files(__package__ or "latentscale.labelers.keyphrases")
    return frozenset(folder.joinpath(name).read_text(encoding="utf-8").casefold().split())


def filler_words() -> frozenset[str]:
    """Return the fillers that may be distinctive in a corpus: no function words, light verbs or markup."""
    return listed_words(_FILLERS) - listed_words("languages/en.txt") - _LIGHT_WORDS


def english_stop_words() -> frozenset[str]:
    """Return the lower-case words that do not start or end a phrase in any corpus."""
    return listed_words("languages/en.txt") | listed_words(_FILLERS)


def languages_in(counts: Mapping[str, int]) -> tuple[str, ...]:
    """Detect which of ``LANGUAGES`` a corpus is in, from the counts of its case-folded words."""
    lists = {name: listed_words(f"languages/{name}.txt") for name in LANGUAGES}
    total = max(sum(counts.values()), 1)
    detected: list[str] = []
    for name, words in lists.items():
        in_other_lists = english_stop_words().union(*(other for key, other in lists.items() if key != name))
        specific = words - in_other_lists
        occurring = [counts[word] for word in specific if word in counts]
        minimum = _MIN_IN_SMALL if total < _SMALL_CORPUS else _MIN_OF_LIST * len(specific)
        if len(occurring) >= minimum and sum(occurring) >= _MIN_SHARE * total:
            detected.append(name)
    return tuple(detected)


def foreign_stop_words(counts: Mapping[str, int]) -> frozenset[str]:
    """Return the stop words of the languages of a corpus other than English."""
    return frozenset[str]().union(*(listed_words(f"languages/{name}.txt") for name in languages_in(counts)))


def stop_words_of(given: str | Sequence[str] | None) -> tuple[str, ...]:
    """Return the user's stop words, case-folded and sorted; reads them if ``given`` is a file name.

    Raises
    ------
    ConfigError
        If the file is unreadable or invalid.
    """
    if isinstance(given, str):
        return read_stop_words(given)
    return tuple(sorted({word.casefold() for word in given or ()}))


def read_stop_words(path: str) -> tuple[str, ...]:
    """Read a word list: UTF-8, separated by white space; ``#`` starts a comment.

    Returns
    -------
    tuple of str
        Case-folded, sorted and distinct.

    Raises
    ------
    ConfigError
        If the file does not exist, is not text, or contains no words.
    """
    file_path = at_home(path)
    hint = "Write one word a line, in UTF-8."
    if not file_path.is_file():
        raise ConfigError(f"label.stop_words: there is no file {path}", hint=hint)
    try:
        with file_path.open(encoding="utf-8-sig") as file:
            text = file.read(_MAX_CHARACTERS + 1)
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"label.stop_words: {path} cannot be read as text: {error}", hint=hint) from None
    if len(text) > _MAX_CHARACTERS:
        raise ConfigError(f"label.stop_words: {path} is longer than {_MAX_CHARACTERS:,} characters", hint=hint)
    words = {word.casefold() for line in text.splitlines() for word in line.partition("#")[0].split()}
    if not words:
        raise ConfigError(f"label.stop_words: {path} contains no words", hint=hint)
    return tuple(sorted(words))
