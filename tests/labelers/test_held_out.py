"""The held-out test, and which clusters are siblings."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from latentscale.labelers.held_out import HeldOutTest
from latentscale.labelers.model import RejectedLabel
from latentscale.labelers.protocol import ClusterEvidence, Label, NoLabel
from latentscale.stages.siblings import sibling_groups

AXES = np.eye(4, dtype=np.float32)
WORDS = {"cards": 0, "flights": 1, "weather": 2}


def embed(texts: Sequence[str]) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """The axis of the first known word of each text."""
    found = [next((WORDS[word] for word in text.lower().split() if word in WORDS), None) for text in texts]
    vectors = np.stack([AXES[3] * 0 if axis is None else AXES[axis] for axis in found])
    return vectors, np.array([axis is not None for axis in found])


def documents(*axes: int) -> NDArray[np.float32]:
    return np.stack([0.8 * AXES[axis] + 0.6 * AXES[3] for axis in axes])


def trial(siblings: Sequence[Sequence[int]] = ((1, 2), (0, 2), (0, 1))) -> HeldOutTest:
    return HeldOutTest([documents(0, 0, 0, 1), documents(1, 1), documents(2, 0)], siblings, embed)


def test_the_share_is_that_of_documents_nearest_to_their_own_label() -> None:
    found = trial().try_labels(["Cards", "Flights", "Weather"], [0, 1, 2])
    assert {at: (round(one.share, 3), one.rival) for at, one in found.items()} == {
        0: (0.75, None),
        1: (1.0, None),
        2: (0.5, None),
    }


def test_a_label_that_a_siblings_beats_has_a_rival() -> None:
    found = trial().try_labels(["Flights", "Cards", "Weather"], [0, 1, 2])
    assert (found[0].share, found[0].rival) == (0.25, 1)
    assert (found[1].share, found[1].rival) == (0.0, 0)
    instead = trial().try_instead(["Flights", "Cards", "Weather"], 1, "More flights")
    assert instead is not None
    # Two labels with one vector share what is nearest to both.
    assert instead.share == pytest.approx(0.5)


def test_what_cannot_be_measured_is_left_out() -> None:
    assert trial().try_labels(["Unheard", "Flights", "Weather"], [0, 1]).keys() == {1}
    alone = trial(siblings=[[], [], []])
    assert alone.try_labels(["Cards", "Flights", "Weather"], [0, 1, 2]) == {}
    empty = HeldOutTest([documents(0)[:0], documents(1)], [[1], [0]], embed)
    assert empty.try_labels(["Cards", "Flights"], [0, 1]).keys() == {1}


def test_siblings_have_one_parent_and_the_top_is_one_family() -> None:
    wanted = [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1)]
    assert sibling_groups(wanted, [0, 0, 1, None, None]) == [[0, 1], [2], [3, 4]]


class Scripted:
    """A labeler that says what a test tells it to."""

    batch = 1
    concurrency = 2

    def __init__(self, answers: Sequence[Any]) -> None:
        self.answers = list(answers)
        self.asked: list[str] = []

    def label(self, evidence: Sequence[ClusterEvidence]) -> list[Any]:
        self.asked += [one.suggestion for one in evidence]
        return [self.answers[one.cluster] for one in evidence]

    def reconsider(self, doubts: Sequence[RejectedLabel]) -> Iterator[tuple[int, NoLabel]]:
        for number, one in enumerate(doubts):
            self.asked.append(f"again {one.evidence.cluster}: {one.reason}")
            yield number, NoLabel(reason="it is no label", final=True)


def evidence(cluster: int, *texts: str) -> ClusterEvidence:
    return ClusterEvidence(
        layer=0,
        cluster=cluster,
        size=9 - cluster,
        suggestion=f"Suggested {cluster}",
        keyphrases=("cards", "flights", "weather")[cluster : cluster + 1],
        exemplars=(1,),
        texts=texts or (f"text {cluster}",),
    )


def naming(tmp_path: Any, labeler: Scripted, found: Sequence[ClusterEvidence]) -> Any:
    from latentscale.labelers.naming import Naming
    from latentscale.storage.objects import Store

    return Naming(
        Store(str(tmp_path)),
        lambda: labeler,  # type: ignore[arg-type,return-value]
        identity={"name": "scripted"},
        keeps_receipts=True,
        evidence=found,
    )


def said(label: str) -> Label:
    return Label(label=label, source="scripted")


def test_a_label_that_fails_twice_goes_by_its_keyphrases_unless_these_do_worse(tmp_path: Any) -> None:
    labeler = Scripted([said("Flights"), said("Cards"), said("Weather")])
    one = naming(tmp_path, labeler, [evidence(0), evidence(1), evidence(2)])
    one.ask()
    one.test(trial(), [[0, 1, 2]])
    reasons = [label.reason for label in one.named.labels]
    assert [label.source for label in one.named.labels] == ["keyphrases", "keyphrases", "scripted"]
    assert "held out, 25% are nearest to it, and more to its sibling's 'Cards'" in reasons[0]
    assert sum(text.startswith("again") for text in labeler.asked) == 2
    # The same again asks nothing.
    labeler.asked.clear()
    again = naming(tmp_path, labeler, [evidence(0), evidence(1), evidence(2)])
    again.ask()
    again.test(trial(), [[0, 1, 2]])
    assert labeler.asked == []
    assert again.named.labels == one.named.labels


def test_a_label_of_unknown_words_needs_one_that_the_evidence_has(tmp_path: Any) -> None:
    found = [evidence(0, "a zorgle is a thing"), evidence(1), evidence(2)]
    one = naming(tmp_path, Scripted([said("Zorgles"), said("PWNED"), said("Weather")]), found)
    one.ask()
    one.test(trial(), [[0, 1, 2]])
    assert [label.source for label in one.named.labels] == ["scripted", "keyphrases", "scripted"]
    assert "knows one of its words" in one.named.labels[1].reason


def test_clusters_with_one_evidence_are_asked_about_once(tmp_path: Any) -> None:
    same = [evidence(0, "a copy"), evidence(0, "a copy"), evidence(1)]
    labeler = Scripted([said("Cards"), said("Flights")])
    one = naming(tmp_path, labeler, same)
    one.ask()
    assert sorted(labeler.asked) == ["Suggested 0", "Suggested 1"]
    assert [label.label for label in one.named.labels] == ["Cards", "Cards", "Flights"]
    one.distinguish([[2], [0]])
    assert one.named.asked == 2
