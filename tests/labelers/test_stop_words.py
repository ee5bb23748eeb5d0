"""Words that are in no label: of the corpus's languages, of a list of one's own; and persons and letter case."""

from __future__ import annotations

from pathlib import Path

import pytest

from latentscale.config.stages import LabelConfig
from latentscale.errors import ConfigError
from latentscale.labelers.keyphrases.stop_words import LANGUAGES, languages_in, listed_words, stop_words_of
from tests.labelers.test_keyphrases import label

GERMAN = "die Katze sitzt auf dem Dach und schläft, weil sie nicht mehr springen kann"
FRENCH = "le chat dort sur le toit parce qu'il ne peut plus sauter avec les autres"


def counts_of(*texts: str) -> dict[str, int]:
    found: dict[str, int] = {}
    for word in " ".join(texts).lower().replace(",", "").split():
        found[word] = found.get(word, 0) + 1
    return found


def test_the_languages_of_a_corpus_are_found_beside_each_other():
    assert languages_in(counts_of(GERMAN, FRENCH)) == ("de", "fr")
    assert languages_in(counts_of(GERMAN, *["the cat sits on the roof and cannot jump"] * 9)) == ("de",)


@pytest.mark.parametrize("text", ["the bin folder is at /usr/bin as in all men die hard", ""])
def test_english_is_not_taken_for_another_language(text):
    assert languages_in(counts_of(*[text] * 50)) == ()


def test_the_lists_are_sorted_folded_and_of_words():
    for name in ("en", *LANGUAGES):
        words = listed_words(f"languages/{name}.txt")
        assert len(words) > 100
        assert all(word == word.casefold() and word[0].isalpha() for word in words)


def test_labels_of_two_languages_have_the_stop_words_of_neither():
    texts = [f"{GERMAN} Kater{n % 7}" for n in range(40)] + [f"{FRENCH} matou{n % 7}" for n in range(40)]
    for one in label(texts, [0] * 40 + [1] * 40):
        for phrase in one.keyphrases:
            edges = {phrase.lower().split()[0], phrase.lower().split()[-1]}
            assert not edges & {"die", "auf", "dem", "weil", "sie", "le", "sur", "parce", "plus", "avec", "autres"}


def test_stop_words_of_ones_own_are_in_no_phrase():
    texts = [f"acme printer jam in tray number {n}" for n in range(30)] + [
        f"acme network outage {n}" for n in range(30)
    ]
    with_them = label(texts, [0] * 30 + [1] * 30)
    without = label(texts, [0] * 30 + [1] * 30, stop_words=("printer", "acme"))
    assert any("printer" in phrase.lower() for one in with_them for phrase in one.keyphrases)
    assert not any("printer" in phrase.lower() for one in without for phrase in [one.label, *one.keyphrases])
    assert all(one.keyphrases for one in without)


def test_a_file_of_words_is_read_with_comments_and_folded(tmp_path: Path):
    (tmp_path / "own.txt").write_text("Acme  # the company\n# nothing\nprinter Toner\n", encoding="utf-8")
    assert stop_words_of(str(tmp_path / "own.txt")) == ("acme", "printer", "toner")
    assert stop_words_of(["Toner", "acme", "ACME"]) == ("acme", "toner")
    assert stop_words_of(None) == ()


@pytest.mark.parametrize(
    ("content", "said"),
    [(None, "there is no file"), (b"\xff\xfe\x00", "cannot be read as text"), (b"# none\n", "no word")],
)
def test_a_file_that_is_no_list_is_refused(tmp_path: Path, content: bytes | None, said: str):
    if content is not None:
        (tmp_path / "own.txt").write_bytes(content)
    with pytest.raises(ConfigError, match=said):
        stop_words_of(str(tmp_path / "own.txt"))


def test_the_shortest_phrase_comes_first_in_a_range():
    assert LabelConfig(ngram_range=[2, 3]).ngram_range == (2, 3)
    with pytest.raises(ValueError, match="the shortest comes first"):
        LabelConfig(ngram_range=[3, 1])


def test_a_range_of_phrases_is_kept():
    texts = [f"solar panel roof number {n}" for n in range(30)] + [f"wind turbine blade {n}" for n in range(30)]
    for one in label(texts, [0] * 30 + [1] * 30, ngram_range=(2, 2)):
        assert one.keyphrases
        assert all(len(phrase.split()) == 2 for phrase in one.keyphrases)


def test_persons_are_weighed_down_with_their_family_names():
    plots = [
        f"The detective John Walcott hunts a killer in the harbour. Later Walcott finds the weapon {n}"
        for n in range(30)
    ]
    others = [
        f"A farmer called Mary Dunmore sells her horses at the market. Soon Dunmore leaves {n}" for n in range(30)
    ]
    first, second = label(plots + others, [0] * 30 + [1] * 30)
    for one in (first, second):
        assert not {"John", "Walcott", "Mary", "Dunmore"} & set(one.label.replace(",", "").split())


def test_the_case_is_that_of_most_documents_where_no_sentence_begins():
    texts = [f"Printers fail. We saw that printers fail with an ATM {n}" for n in range(20)]
    texts += [f"Printers jam {n}" for n in range(60)]
    words = " ".join(phrase for one in label(texts, [0] * 20 + [1] * 60) for phrase in one.keyphrases)
    assert "Printers" not in words
    assert "ATM" in words


@pytest.mark.parametrize("apostrophe", ["'", "’"])
def test_contractions_stay_whole(apostrophe):
    texts = [f"the card can{apostrophe}t withdraw money {n}" for n in range(30)] + [f"blue sky {n}" for n in range(30)]
    for one in label(texts, [0] * 30 + [1] * 30):
        words = " ".join([one.label, *one.keyphrases]).lower().replace(",", "").split()
        assert not {"can", "t", "cant"} & set(words)
