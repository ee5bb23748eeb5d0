"""Kinds of label that a newcomer finds weak, with sentences as customers of a bank and packagers write them."""

from __future__ import annotations

import numpy as np
import pytest

from latentscale.labelers.keyphrases.phrases import ClusterLabel, label_clusters

CHANGE_PIN = [
    "How do I change my PIN?",
    "Can I change my PIN at an ATM?",
    "I want to change my PIN",
    "Where can I change my PIN?",
    "Is it possible to change my PIN abroad?",
    "I would like to change my PIN in Austria",
    "Do I have to go to the bank to change my PIN?",
    "What is the quickest way to change my PIN?",
    "Can I change my PIN from another country?",
    "Please let me change my PIN",
    "I am in Austria, can I change my PIN?",
    "How can I change my PIN without the app?",
]
FIND_PIN = [
    "I do not have my PIN",
    "Where is my PIN?",
    "How do I find the PIN?",
    "Is the PIN delivered separately?",
    "The PIN never arrived",
    "I never got a PIN for my card",
    "Will the PIN come with my card?",
    "I can't see the PIN anywhere",
    "My PIN was not in the envelope",
    "When is the PIN sent?",
    "Which PIN do I enter?",
    "There is no PIN in the letter",
]
BROKEN_CARD = [
    "My card isn't working",
    "Why is it that my card isn't working?",
    "The physical card isn't working",
    "My card isn't working at the shop",
    "My new card isn't working",
    "My card isn't working, what now?",
    "I'm at the counter and my card isn't working",
    "My card isn't working any longer",
    "Since today my card isn't working",
    "For some reason my card isn't working",
    "My physical card doesn't seem to work",
    "Can you find out why my card isn't working?",
]
EUROPE = [
    "How long will a transfer from Europe take?",
    "When will my transfer from Europe arrive?",
    "I expect a transfer from Europe",
    "Is a transfer from Europe free?",
    "A transfer from Europe is late",
    "What is the fee for a transfer from Europe?",
    "Can I get a transfer from Europe?",
    "Is my transfer from Europe lost?",
    "The transfer to Europe is still pending",
    "Does a transfer within Europe take days?",
    "My transfer from Europe shows no amount",
    "Why is a transfer from Europe slower?",
]
TRANSFERS = [
    "Why was my transfer declined?",
    "My transfer failed",
    "A transfer was declined yesterday",
    "The transfer keeps failing",
    "I made a transfer that was declined",
    "Why did the transfer fail?",
    "Can I repeat a declined transfer?",
    "Where is the money of a declined transfer?",
    "The beneficiary says the transfer failed",
    "My first transfer was declined, the second failed",
    "Transfer declined without a reason",
    "Is a declined transfer refunded?",
]
PERL = [
    f"Perl module {rest}" for rest in ("for dates", "for colours", "for mail", "for maps", "to sort", "to parse logs")
]
PYTHON = [f"Python bindings {rest}" for rest in ("for Qt", "for cairo", "for audio", "for maps", "of zlib", "of curl")]
OTHERS = [
    *("Desktop calendar", "Tetris clone", "Mail server", "Image viewer", "Text editor", "Chess engine", "FTP client"),
    *("Module loader of the kernel", "Bindings of keys for the shell", "Backup script", "Disk monitor", "Spam filter"),
] * 5


PEOPLE = [
    *("Orla Quimby <orla@example.org>", "Tadeu Brask <tadeu@example.org>", "Ines Vandal <ines@example.net>"),
    *("Bryn Okoro <bryn@example.com>", "Yuki Farrow <yuki@example.org>", "Anselm Dutt <anselm@example.net>"),
]
SUBJECTS = {
    "proxy": ["Proxy ignores no_proxy", "Add proxy tests", "Proxy authentication fails", "Document the proxy settings"],
    "cookies": ["Session cookies are lost", "Keep session cookies", "Session cookies twice", "Test session cookies"],
    "typo": ["Fix typo in the guide", "Fix typo in a comment", "Fix typo", "Fix typo of the readme"],
}


def mails(topic: str, *, mostly: int, day: str) -> list[str]:
    """Mails of one topic: half by one person, nearly all on one day of one month."""
    return [
        f"From: {PEOPLE[mostly if at % 2 else at % len(PEOPLE)]}\n"
        f"Date: {day if at % 6 else 'Sat, 3 Jul'} 2017 16:44:27 +0100\n"
        f"Subject: {SUBJECTS[topic][at % 4]}\n\nReleased with v2.{at}.0. {SUBJECTS[topic][(at + 1) % 4]}."
        for at in range(24)
    ]


def named(*clusters: list[str]) -> list[ClusterLabel]:
    texts = [text for cluster in clusters for text in cluster]
    members = np.repeat(np.arange(len(clusters), dtype=np.int32), [len(cluster) for cluster in clusters])
    return label_clusters(
        lambda: iter([(np.arange(len(texts), dtype=np.int64), texts)]),
        [members],
        max_keyphrases=10,
        max_documents_per_cluster=1_000,
        seed=1,
    )


@pytest.fixture(scope="module")
def questions() -> list[ClusterLabel]:
    return named(CHANGE_PIN, FIND_PIN, BROKEN_CARD, EUROPE, TRANSFERS)


def test_a_verb_that_says_little_elsewhere_tells_siblings_of_one_noun_apart(questions: list[ClusterLabel]) -> None:
    change, find, *_ = questions
    assert change.label == "Change my PIN"
    assert change.coverage > 0.9
    assert change.coverage_outside == 0
    assert "PIN" in find.label
    assert "hange" not in find.label


def test_what_is_denied_stays_denied(questions: list[ClusterLabel]) -> None:
    # "Physical card" is in three of them, and "Card" in half of all questions.
    assert questions[2].label == "Card isn't working"
    assert questions[2].coverage > 0.8


def test_a_bare_place_gets_what_happens_there(questions: list[ClusterLabel]) -> None:
    assert questions[3].label == "Transfer from Europe"


def test_a_bare_name_gets_what_most_documents_of_it_are() -> None:
    perl, python, _ = named(PERL * 3, PYTHON * 3, OTHERS)
    assert perl.label == "Perl module"
    assert python.label == "Python bindings"


def test_no_word_that_says_little_is_a_label_or_an_end_of_one_in_long_texts() -> None:
    tail = " ".join(f"part {letter} of the manual lists its options and files" for letter in "abcdefghij")
    change, find = named([f"{text} {tail}." for text in CHANGE_PIN], [f"{text} {tail}." for text in FIND_PIN])
    phrases = [phrase.lower().split() for one in (change, find) for phrase in (*one.keyphrases, one.label)]
    assert not [words for words in phrases if {"change", "files"} & {words[0], words[-1]}]


def test_mails_are_named_by_what_they_are_about() -> None:
    clusters = [mails("proxy", mostly=0, day="Tue, 9 May"), mails("cookies", mostly=1, day="Wed, 18 Mar")]
    labels = [one.label for one in named(*clusters, mails("typo", mostly=2, day="Sun, 7 Dec"))]
    assert ["proxy" in labels[0].lower(), "ession cookies" in labels[1], "typo" in labels[2].lower()] == [True] * 3
    words = set(" ".join(labels).lower().replace(",", "").split())
    assert not words & {"tue", "may", "wed", "mar", "sun", "dec", "sat", "jul", "v2"}
    assert not words & {word.lower() for person in PEOPLE for word in person.split()[:2]}


def test_who_wrote_nearly_all_of_a_cluster_may_name_it() -> None:
    own = [f"From: Orla Quimby <orla@example.org>\nSubject: {subject}" for subject in OTHERS[:12]]
    first, _ = named(own, mails("proxy", mostly=3, day="Tue, 9 May") + mails("typo", mostly=4, day="Tue, 9 May"))
    assert first.label == "Orla Quimby"


def test_fillers_alone_are_never_a_label() -> None:
    wishes = [f"{word} it works" for word in ("hopefully", "maybe", "surely", "today", "once", "again")] * 3
    assert {one.label.lower() for one in named(wishes, OTHERS)}.isdisjoint({"work", "works"})
