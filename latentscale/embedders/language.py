"""Detect that a corpus is not in English, the only language of the shipped model."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence

ENGLISH = "English or undecided"
MULTILINGUAL = "minishlab/potion-multilingual-128M"
"""Recommended static model for a corpus that is not in English."""

_MAX_CHARACTERS = 600
_WORD = re.compile(r"[^\W\d_]+")

# Code point ranges of common scripts other than Latin.
_SCRIPTS = (
    (0x0370, 0x03FF, "Greek"),
    (0x0400, 0x052F, "Cyrillic"),
    (0x0530, 0x058F, "Armenian"),
    (0x0590, 0x05FF, "Hebrew"),
    (0x0600, 0x077F, "Arabic"),
    (0x0900, 0x0DFF, "Indic"),
    (0x0E00, 0x0E7F, "Thai"),
    (0x10A0, 0x10FF, "Georgian"),
    (0x1100, 0x11FF, "Korean"),
    (0x3040, 0x30FF, "Japanese"),
    (0x3400, 0x9FFF, "Chinese or Japanese"),
    (0xAC00, 0xD7AF, "Korean"),
)

# Extended Latin, mathematical letters and symbols, which do not indicate a language.
_NEUTRAL = ((0x1D00, 0x1EFF), (0x2000, 0x2BFF), (0x1D400, 0x1D7FF))

# Words that are frequent in one language and rare in the others listed; many are distinguished by accents.
_FUNCTION_WORDS = {
    ENGLISH: "the of and is are was were with for that this from you not have it be by at which or to my how what",
    "German": "der das und ist nicht mit ein eine für von den dem auf auch sich wird werden ich wie zu oder im bei",
    "French": "le les des est une dans pour que qui sur avec pas ce au du je vous nous et sont cette ou plus",
    "Spanish": "el los las una es por con para del que se su como más pero este está mi y lo al sus son",
    "Italian": "il di che è per una con del della non sono gli nel alla dei più anche questo come si le",
    "Portuguese": "o os uma é não para com do da em que no na dos das por mais como são ao seu",
    "Dutch": "het een van en niet dat zijn op met voor aan ook maar bij wordt ik je naar deze",
    "Polish": "nie jest się na do że jak po dla przez od są tym oraz który czy",
    "Swedish, Danish or Norwegian": "och att det som på är för med av den inte til af ikke og har ett et jag",
    "Turkish": "bir ve bu için ile çok olarak daha gibi ne olan var değil",
    "Indonesian or Malay": "yang dan untuk dengan dari ini itu pada tidak adalah dalam akan",
    "Vietnamese": "là và của có không được cho một các trong với này",
    "Czech or Slovak": "je se že jsem jako ale pro jsou nebo také který byl",
    "Romanian": "și este în pentru cu nu din că sunt mai ale",
}
_LANGUAGES: dict[str, tuple[str, ...]] = {}
for _language, _words in _FUNCTION_WORDS.items():
    for _word in _words.split():
        _LANGUAGES[_word] = (*_LANGUAGES.get(_word, ()), _language)


def count_languages(texts: Sequence[str], *, max_texts: int = 500) -> Counter[str]:
    """Count texts by the language or script that their first 600 characters look like.

    At most ``max_texts`` evenly spaced texts are read: reading all would cost half as much as embedding.

    Latin text counts as another language if it has at least three function words of that language, and more than twice
    as many as English ones; short or unclear texts count as English. The counts of shards can be summed.
    """
    step = max(1, -(-len(texts) // max_texts))
    return Counter(language_of(text) for text in texts[::step])


def language_notice(counts: Mapping[str, int], *, share: float = 0.05) -> str | None:
    """Return a sentence for the user if at least ``share`` of the texts are not in English, else None."""
    total = sum(counts.values())
    others = sorted(((n, name) for name, n in counts.items() if name != ENGLISH and n > 0), reverse=True)
    foreign = sum(n for n, _ in others)
    if total == 0 or foreign < share * total:
        return None
    named = ", ".join(f"{name} {n / total:.0%}" for n, name in others[:3])
    return (
        f"about {foreign / total:.0%} of the texts do not look English ({named}): the static model knows English only, "
        f"and will place them poorly. One for many languages: latentscale models pull {MULTILINGUAL}, then "
        f"--set embed.model={MULTILINGUAL}"
    )


def language_of(text: str) -> str:
    """Detect language or script from the first 600 characters of a text: see :func:`count_languages`."""
    text = text[:_MAX_CHARACTERS]
    if not text.isascii():
        script = _script_of(text)
        if script is not None:
            return script
    votes: Counter[str] = Counter()
    for word in _WORD.findall(text.lower()):
        for language in _LANGUAGES.get(word, ()):
            votes[language] += 1
    english = votes.pop(ENGLISH, 0)
    if not votes:
        return ENGLISH
    language, count = max(votes.items(), key=lambda item: (item[1], item[0]))
    return language if count >= 3 and count > 2 * english else ENGLISH


def _script_of(text: str) -> str | None:
    letters = [ord(character) for character in text if character.isalpha()]
    foreign = [code for code in letters if code >= 0x0370 and not any(low <= code <= high for low, high in _NEUTRAL)]
    # At least a third: formulas and quoted names in another script do not make a text foreign.
    if 3 * len(foreign) < len(letters) or not foreign:
        return None
    counts = Counter(
        next((name for low, high, name in _SCRIPTS if low <= code <= high), "another script") for code in foreign
    )
    if counts.get("Japanese"):
        return "Japanese"
    return max(counts.items(), key=lambda item: (item[1], item[0]))[0]
