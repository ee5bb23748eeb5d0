"""Labels name what is in a cluster, are unique in the whole tree, and survive texts that say nothing."""

from __future__ import annotations

import re

import numpy as np
import polars as pl
import pytest

from latentscale.demo import corpus_path
from latentscale.labelers.keyphrases import ClusterLabel, label_clusters
from latentscale.labelers.words import Vocabulary, join_words, stem


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
    words.encode("C++ and C# in Node.js, don't use e-mail. Or the user's own_name")
    assert {"C++", "C#", "Node.js", "don't", "e-mail", "user's", "own_name"} <= set(words.forms())
