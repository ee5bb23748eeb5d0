"""Labels name what is in a cluster, are unique in the whole tree, and survive texts that say nothing."""

from __future__ import annotations

import re

import numpy as np
import polars as pl
import pytest

from latentscale.demo import corpus_path
from latentscale.labelers.keyphrases.phrases import ClusterLabel, label_clusters
from latentscale.labelers.keyphrases.words import Stems, Vocabulary, Words, are_near_synonyms, join_words, stem


def label(texts, *memberships, **settings) -> list[ClusterLabel]:
    arrays = [np.asarray(membership, dtype=np.int32) for membership in memberships]
    options = {"max_keyphrases": 10, "max_documents_per_cluster": 1000, "seed": 1} | settings

    def batches():
        for start in range(0, len(texts), 700):
            rows = np.arange(start, min(start + 700, len(texts)), dtype=np.int64)
            yield rows, [texts[row] for row in rows]

    return label_clusters(batches, arrays, **options)


@pytest.fixture(scope="module")
def sections() -> tuple[list[str], list[str], np.ndarray]:
    """The demo corpus by its sections: clusters whose names are known."""
    frame = pl.read_parquet(corpus_path()).filter(
        pl.col("section").is_in(["games", "fonts", "haskell", "mail", "kde", "sound", "ruby", "science", "php", "rust"])
    )
    names = sorted(frame["section"].unique())
    return frame["text"].to_list(), names, np.array([names.index(name) for name in frame["section"]], dtype=np.int32)


@pytest.fixture(scope="module")
def section_labels(sections) -> dict[str, ClusterLabel]:
    texts, names, clusters = sections
    return {names[item.cluster]: item for item in label(texts, clusters)}


@pytest.mark.parametrize(
    ("section", "word"),
    [
        ("games", "game"),
        ("fonts", "font"),
        ("haskell", "Haskell"),
        ("mail", "mail"),
        ("kde", "KDE"),
        ("sound", "audio"),
        ("ruby", "Ruby"),
        ("php", "PHP"),
        ("rust", "Rust"),
    ],
)
def test_a_section_is_named_by_its_subject_in_the_spelling_of_the_corpus(section_labels, section, word):
    found = section_labels[section].label
    assert word in found or word.capitalize() in found


def test_labels_cover_their_cluster_and_little_else(section_labels):
    assert np.mean([item.coverage for item in section_labels.values()]) > 0.6
    assert np.mean([item.coverage_outside for item in section_labels.values()]) < 0.08


def test_coverage_is_the_share_of_documents_that_have_a_word_of_the_label(sections, section_labels):
    texts, names, clusters = sections
    games = section_labels["games"]
    assert games.label in {"Game", "Games"}
    has = np.array([re.search(r"(?i)\bgames?\b", text[:1000]) is not None for text in texts])
    member = clusters == names.index("games")
    assert games.documents_read == member.sum()
    assert games.coverage == pytest.approx(has[member].mean(), abs=0.02)
    assert games.coverage_outside == pytest.approx(has[~member].mean(), abs=0.01)


def test_no_word_is_in_two_keyphrases_and_none_begins_or_ends_with_a_filler(section_labels):
    for item in section_labels.values():
        stems = [stem(part) for phrase in item.keyphrases for part in re.split(r"[\s-]+", phrase)]
        carried = [part for part in stems if len(part) > 3]
        assert len(carried) == len(set(carried))
        for phrase in item.keyphrases:
            assert not {"the", "of", "contains", "provides", "for"} & {phrase.split()[0], phrase.split()[-1]}


def test_labels_are_unique_in_the_tree_even_where_a_layer_repeats_the_one_below(sections):
    texts, _, clusters = sections
    labels = label(texts, clusters, clusters, clusters // 2)
    assert len({item.label for item in labels}) == len(labels) == 25
    assert [(item.layer, item.cluster) for item in labels] == sorted((item.layer, item.cluster) for item in labels)


def test_the_same_request_gives_the_same_labels_whatever_the_batches(sections):
    texts, _, clusters = sections
    arguments = {"max_keyphrases": 5, "max_documents_per_cluster": 50, "seed": 3}
    first = label(texts, clusters, **arguments)
    again = label_clusters(
        lambda: iter([(np.arange(len(texts), dtype=np.int64), texts)]), [clusters], ngram_range=(1, 3), **arguments
    )
    assert first == again
    assert {item.documents_read for item in first} == {50}


def test_a_coarser_label_speaks_of_all_its_parts_and_not_of_the_loudest():
    texts = (
        [f"rook endgame, chess opening number {n}" for n in range(60)]
        + [f"sourdough bread, rye flour number {n}" for n in range(40)]
        + [f"income tax, late return number {n}" for n in range(100)]
    )
    finer = [0] * 60 + [1] * 40 + [2] * 100
    labels = label(texts, finer, [0] * 100 + [1] * 100)
    parts = {item.cluster: set(re.findall(r"\w+", item.label.lower())) for item in labels if item.layer == 0}
    both = next(item for item in labels if (item.layer, item.cluster) == (1, 0))
    named = set(re.findall(r"\w+", both.label.lower()))
    assert named & {"rook", "endgame", "chess", "opening"}
    assert named & {"sourdough", "bread", "rye", "flour"}
    assert named not in parts.values()
    assert both.coverage == 1.0


def test_real_sections_joined_in_a_coarser_layer_are_both_in_its_label(sections):
    texts, names, clusters = sections
    pairs = {"fonts": 0, "games": 0, "haskell": 1, "rust": 1}
    keep = np.isin(clusters, [names.index(name) for name in pairs])
    finer = clusters[keep]
    coarser = np.array([pairs[names[cluster]] for cluster in finer], dtype=np.int32)
    first, second = label([text for text, kept in zip(texts, keep, strict=True) if kept], finer, coarser)[-2:]
    assert "game" in first.label.lower()
    assert "font" in first.label.lower()
    assert "Haskell" in second.label
    assert "Rust" in second.label


def test_a_parent_is_named_by_what_its_children_share():
    sports = {"tennis": "racket serve", "football": "goal keeper", "rowing": "oar boat"}
    texts = [f"olympic sport news: {name} {words} number {n}" for name, words in sports.items() for n in range(40)] + [
        f"income tax, late return number {n}" for n in range(80)
    ]
    finer = [0] * 40 + [1] * 40 + [2] * 40 + [3] * 80
    labels = {(one.layer, one.cluster): one.label for one in label(texts, finer, [0] * 120 + [1] * 80)}
    assert "olympic sport" in labels[1, 0].lower()
    assert not any(name in labels[1, 0].lower() for name in sports)
    assert len({name.casefold() for name in labels.values()}) == len(labels)


def test_a_parent_whose_children_share_nothing_has_the_names_of_the_two_largest():
    topics = {"chess opening": 50, "rye bread": 70, "income tax": 60, "coral reef": 30}
    texts = [f"{name} number {n}" for name, size in topics.items() for n in range(size)]
    finer = np.repeat(np.arange(4), list(topics.values()))
    labels = {(one.layer, one.cluster): one for one in label(texts, finer, np.zeros(210))}
    whole = labels[1, 0]
    first, second = whole.label.lower().split(" / ")
    assert labels[0, 1].label.lower().startswith(first)
    assert labels[0, 2].label.lower().startswith(second)
    assert whole.coverage == pytest.approx(130 / 210)


def test_no_parent_has_three_phrases_of_three_children(sections):
    texts, names, clusters = sections
    labels = label(texts, clusters, clusters // 3)
    parents = [item for item in labels if item.layer == 1]
    assert len(parents) == len(names) // 3 + 1
    several = [item for item in parents if (clusters // 3 == item.cluster).sum() > (clusters == 3 * item.cluster).sum()]
    for item in several:
        assert len(re.split(", | / ", item.label)) <= 2


def test_a_coarser_layer_counts_clusters_by_their_size_however_few_documents_were_read():
    texts = ["volcano eruption"] * 900 + ["coral reef"] * 100 + ["stock market"] * 100
    finer = [0] * 900 + [1] * 100 + [2] * 100
    labels = label(texts, finer, [0] * 1000 + [1] * 100, max_documents_per_cluster=50)
    other = next(item for item in labels if (item.layer, item.cluster) == (1, 1))
    whole = next(item for item in labels if (item.layer, item.cluster) == (1, 0))
    assert whole.documents_read == 100
    assert whole.label == "Volcano eruption / coral reef"
    assert whole.coverage == pytest.approx(1.0)
    assert other.coverage_outside == 0.0


def test_clusters_that_do_not_nest_are_refused():
    with pytest.raises(ValueError, match="coarser"):
        label(["a cat", "a dog", "a bird"], [0, 0, 1], [0, 1, 1])


def test_what_ends_every_text_is_not_its_subject():
    end = " It runs on all platforms and was assembled with much gratitude to every contributor of the project."
    words = "the first of many sentences about it says what is in there and how it came to be so " * 2
    texts = [f"violin lessons, volume {n}. {words}{end}" for n in range(40)]
    texts += [f"tomato seeds, packet {n}. {words}" for n in range(40)]
    first, _ = label(texts, [0] * 40 + [1] * 40)
    assert first.label == "Violin lessons"


def test_a_word_of_one_document_sets_no_cluster_apart():
    texts = [f"apple orchard {n}" for n in range(40)] + [f"diesel engine {n}" for n in range(40)]
    texts[0] += " zeppelin zeppelin zeppelin"
    first, _ = label(texts, [0] * 40 + [1] * 40)
    assert "zeppelin" not in " ".join(first.keyphrases)


def test_a_word_is_shown_in_the_phrase_that_it_mostly_stands_in():
    texts = ["How do I activate my card?", "Please activate my card", "I must activate it", "activate my card now"] * 10
    texts += ["The transfer was late", "My transfer is late", "A late transfer", "late again"] * 10
    first, _ = label(texts, [0] * 40 + [1] * 40)
    assert first.label == "Activate my card"
    assert first.coverage == 1.0


@pytest.mark.parametrize(
    ("one", "other"),
    [("log", "logging"), ("mail", "e-mail"), ("auto", "automatically"), ("IP", "IPv6"), ("font", "fonts")],
)
def test_two_forms_of_a_word_are_not_both_in_a_label(one, other):
    texts = [f"{one} of {other} {n}" for n in range(20)] + [f"{one} here {n}" for n in range(10)]
    texts += [f"{other} there {n}" for n in range(10)] + [f"weather forecast {n}" for n in range(40)]
    first, _ = label(texts, [0] * 40 + [1] * 40)
    assert "," not in first.label
    assert any(are_near_synonyms(stem(one), stem(part)) for part in [*other.split("-"), other])


def test_different_words_are_not_taken_for_forms_of_one():
    pairs = [("network", "server"), ("graph", "image"), ("card", "cash"), ("PDF", "PNG")]
    assert not any(are_near_synonyms(stem(first), stem(second)) for first, second in pairs)


def test_a_label_begins_with_the_capitals_that_the_corpus_uses():
    texts = ["gcc front end", "gcc back end", "gcc backends, GCC is old"] * 10 + ["vim runtime, the Vim editor"] * 30
    first, second = label(texts, [0] * 30 + [1] * 30)
    assert first.label.startswith("GCC")
    assert second.label.startswith("Vim")


def test_noise_is_background_and_gets_no_label(sections):
    texts, names, clusters = sections
    noisy = np.where(clusters == names.index("rust"), -1, clusters)
    labels = label(texts, noisy)
    assert {item.cluster for item in labels} == set(range(10)) - {names.index("rust")}


@pytest.mark.parametrize("texts", [["", "  ", "..."], ["the of and"] * 3, ["12 34", "5", "!!"], ["🎉", "---", "<br/>"]])
def test_a_cluster_without_a_usable_word_is_named_by_its_number_and_says_so(texts):
    (item,) = label(texts, [4, 4, 4])
    assert (item.label, item.source, item.keyphrases) == ("Cluster 4", "none", [])


def test_no_documents_and_no_clusters_give_no_labels():
    assert label([], []) == []
    assert label(["a text about cats"] * 3, [-1, -1, -1]) == []


def test_clusters_of_one_document_and_of_identical_documents_get_different_names():
    labels = label(
        ["electric guitar amplifier"] + ["electric guitar amplifier"] * 4 + ["tax return form"], [0, 1, 1, 1, 1, 2]
    )
    assert len({item.label for item in labels}) == 3
    assert all(item.source == "keyphrases" for item in labels)


def test_markup_and_addresses_are_not_words():
    texts = [
        f'<div class="card"><a href="https://example.org/{n}">battery &amp; fan</a> battery charging, me@a.org</div>'
        for n in range(30)
    ] + [f"<p>weather forecast {n} for sailing boats</p>" for n in range(30)]
    first, second = label(texts, [0] * 30 + [1] * 30)
    assert first.label == "Battery charging"
    written = " ".join([*first.keyphrases, *second.keyphrases])
    assert not re.search(r"div|href|https|example|class|amp", written)


def test_a_phrase_is_written_as_the_corpus_writes_it():
    texts = ["MacOS has iPhone drivers", "Our iPhone drivers", "The iPhone driver"] * 10 + [
        "cooking pasta at home"
    ] * 30
    first, second = label(texts, [0] * 30 + [1] * 30)
    assert first.label.startswith("iPhone drivers")
    assert second.label == "Cooking pasta"


def test_very_long_texts_are_cut():
    texts = ["zebra crossing " * 70 + "unicorn " * 100_000] * 5 + ["paper boats"] * 5
    first, _ = label(texts, [0] * 5 + [1] * 5)
    assert "nicorn" not in " ".join([first.label, *first.keyphrases])


def test_other_languages_are_named_without_their_function_words():
    german = [
        "Die Karte ist nicht in der Post, und die neue Karte ist nicht da.",
        "Der Automat hat die Karte in der Bank nicht gelesen, und die Karte ist weg.",
        "Ist die Karte in der Post und nicht in der Bank?",
    ] * 10 + [
        "Die Überweisung ist nicht da, und der Empfänger hat die Überweisung nicht gesehen.",
        "Der Betrag der Überweisung ist nicht richtig, und die Bank ist zu.",
        "Ist die Überweisung in der Bank und nicht da?",
    ] * 10
    first, second = label(german, [0] * 30 + [1] * 30)
    assert "Karte" in first.label
    assert "Überweisung" in second.label
    for item in (first, second):
        assert not {"die", "der", "nicht", "und", "ist"} & set(re.findall(r"\w+", item.label.lower()))


def test_scripts_without_spaces_are_named_too():
    texts = ["電池の充電について"] * 10 + ["天気予報です"] * 10
    first, second = label(texts, [0] * 10 + [1] * 10)
    assert set(first.label) & set("電池充電")
    assert set(second.label) & set("天気予報")
    assert join_words(["電", "池", "pack"]) == "電池 pack"


def test_words_keep_their_signs():
    words = Vocabulary()
    words.encode(["C++ and C# in Node.js, don't use e-mail. Or the user's own_name"])
    assert {"C++", "C#", "Node.js", "don't", "e-mail", "user's", "own_name"} <= set(words.forms())


def test_texts_are_read_together_as_each_alone():
    texts = [
        "Lost card,\ncard lost; (again)",
        "",
        "\n",
        "a\tb\u00a0c  d\r\n",
        "<b>Naïve</b> &amp; x@example.org",
        "C++, C#. 3.5!",
    ]
    together = Vocabulary()
    ids, counts = together.encode(texts * 2)
    names, ends = together.forms(), np.cumsum(counts)
    found = [[names[one] for one in part] for part in np.split(ids, ends[:-1])]
    assert found[: len(texts)] == found[len(texts) :]
    for text, words in zip(texts, found, strict=False):
        alone = Vocabulary()
        assert [alone.forms()[one] for one in alone.encode([text])[0]] == words
    assert found[0] == ["Lost", "card", ",", "\n", "card", "lost", ";", "(", "again", ")"]
    assert found[1:4] == [[], ["\n"], ["a", "b", "c", "d", "\n"]]
    assert found[4:6] == [["|", "Naïve", "|", "&", "|"], ["C++", ",", "C#", ".", "3", ".", "5", "!"]]


@pytest.mark.parametrize(
    ("first", "second"),
    [("auto", "automa"), ("mail", "email"), ("card", "card"), ("car", "card"), ("tore", "store"), ("bank", "tank")],
)
def test_stems_know_what_is_alike(first, second):
    for one, other in ((first, second), (second, first)):
        known = Stems()
        known.add([one])
        assert (other in known) == are_near_synonyms(one, other)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("क्रिकेट मैच में जीत", ["क्रिकेट", "मैच", "में", "जीत"]),
        ("שָׁלוֹם עולם", ["שָׁלוֹם", "עולם"]),
        ("مُحَمَّد می\u200cخواهم", ["مُحَمَّد", "می\u200cخواهم"]),
        ("e\u0301cole nai\u0308ve", ["e\u0301cole", "nai\u0308ve"]),
        ("தமிழ் மொழி", ["தமிழ்", "மொழி"]),
        ("東京か\u3099", ["東", "京", "か\u3099"]),
        ("col·lecció צה״ל re\u2011read", ["col·lecció", "צה״ל", "re\u2011read"]),
        ("don't re-read C++ U.S.A.", ["don't", "re-read", "C++", "U.S.A", "."]),
    ],
)
def test_words_keep_their_combining_marks(text, words):
    vocabulary = Vocabulary()
    ids, _ = vocabulary.encode([text])
    assert [vocabulary.forms()[i] for i in ids] == words


def test_a_letter_and_its_mark_are_the_word_with_the_letter_that_has_it():
    vocabulary = Vocabulary()
    ids, _ = vocabulary.encode(["cafe\u0301 caf\u00e9 Cafe\u0301", "tea"])
    words = Words(vocabulary.forms(), np.bincount(ids, minlength=len(vocabulary.forms())))
    found = [words.of_form[one] for one in ids[:3]]
    assert len({int(one) for one in found}) == 1
    assert words.text(int(found[0])) == "caf\u00e9"
    assert not words.named[found[0]]


def test_characters_with_marks_are_joined_without_spaces():
    assert join_words(["か\u3099", "東", "word", "京"]) == "か\u3099東 word 京"
