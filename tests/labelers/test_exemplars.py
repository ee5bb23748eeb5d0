"""Exemplars show the breadth of a cluster, the same ones each time."""

from __future__ import annotations

import numpy as np

from latentscale.embedders import open_embedder
from latentscale.labelers import exemplars
from latentscale.labelers.exemplars import choose_exemplars


def blobs(n_per_blob: int) -> np.ndarray:
    # Seeded here: the points of a test are the same ones, whichever tests its process ran before.
    random = np.random.default_rng(7)
    centres = np.eye(4, 16, dtype=np.float32)
    points = np.repeat(centres, n_per_blob, axis=0) + 0.05 * random.standard_normal((4 * n_per_blob, 16)).astype(
        np.float32
    )
    return points / np.linalg.norm(points, axis=1, keepdims=True)


def choose(vectors, members, *, k=4):
    return choose_exemplars(vectors, np.asarray(members, dtype=np.int64), k=k)


def test_one_exemplar_comes_from_each_part_of_a_cluster():
    chosen = choose(blobs(50), np.arange(200))
    assert sorted(position // 50 for position in chosen.tolist()) == [0, 1, 2, 3]


def test_they_cover_a_cluster_better_than_random_members_do():
    vectors = open_embedder().embed([f"{a} {b} {c}" for a in WORDS for b in WORDS for c in WORDS]).vectors
    members = np.arange(len(vectors))

    def cover(chosen) -> float:
        return float((vectors @ vectors[chosen].T).max(axis=1).mean())

    random = np.mean([cover(np.random.default_rng(seed).choice(members, 8, replace=False)) for seed in range(20)])
    assert cover(choose(vectors, members, k=8)) > random + 0.03


def test_only_members_are_chosen_and_the_first_is_the_most_central():
    vectors = blobs(50)
    members = np.arange(50, 100)
    chosen = choose(vectors, members, k=3)
    assert set(chosen.tolist()) <= set(members.tolist())
    totals = np.clip(vectors[members] @ vectors[members].T, 0, 1).sum(axis=1)
    assert chosen[0] == members[np.argmax(np.round(totals.astype(np.float64), 4))]


def test_the_whole_of_a_large_cluster_is_looked_at_whatever_the_order_of_its_members():
    vectors = blobs(500).astype(np.float16)
    # A small part that a sample of some hundreds would mostly miss.
    vectors[1970:] = np.eye(16)[15] + 0.01 * np.random.default_rng(8).standard_normal((30, 16))
    first = choose(vectors, np.arange(2000), k=5)
    assert first.tolist() == choose(vectors, np.arange(2000)[::-1], k=5).tolist()
    assert sorted({position // 500 for position in first.tolist() if position < 1970}) == [0, 1, 2, 3]
    assert (first >= 1970).sum() == 1


def test_rounds_choose_nearly_as_well_as_one_choice_among_all(monkeypatch):
    texts = [f"{a} {b} {c} {d}" for a in WORDS for b in WORDS for c in WORDS for d in WORDS]
    vectors = open_embedder().embed(texts).vectors
    members = np.arange(len(vectors))

    def worth(chosen) -> float:
        return float(np.clip(vectors @ vectors[chosen].T, 0, 1).max(axis=1).sum())

    in_rounds = choose(vectors, members, k=8)
    monkeypatch.setattr(exemplars, "_PART", len(vectors))
    assert worth(in_rounds) > 0.98 * worth(choose(vectors, members, k=8))


def test_similarities_that_are_not_held_give_the_same_choice(monkeypatch):
    vectors = blobs(60)
    held = choose(vectors, np.arange(240), k=6)
    monkeypatch.setattr(exemplars, "_MAX_SIMILARITIES", 0)
    monkeypatch.setattr(exemplars, "_BLOCK", 37)
    assert choose(vectors, np.arange(240), k=6).tolist() == held.tolist()


def test_of_given_candidates_the_best_for_all_members_are_chosen():
    vectors = blobs(50)
    candidates = np.array([3, 60, 61, 62, 170])
    chosen = choose_exemplars(vectors, np.arange(200), k=3, candidates=candidates)
    assert sorted(position // 50 for position in chosen.tolist()) == [0, 1, 3]


def test_equal_documents_are_shown_once_and_those_without_a_vector_never():
    vectors = np.zeros((10, 4), dtype=np.float32)
    vectors[:6, 0] = 1.0
    vectors[6:8, 1] = 1.0
    vectors[9] = np.nan
    assert choose(vectors, np.arange(10), k=8).tolist() == [0, 6]


def test_an_empty_cluster_and_one_without_any_vector_have_no_exemplars():
    vectors = np.zeros((3, 4), dtype=np.float32)
    assert choose(vectors, []).tolist() == []
    assert choose(vectors, [0, 1, 2]).tolist() == []


def test_a_memory_mapped_matrix_will_do(tmp_path):
    np.save(tmp_path / "vectors.npy", blobs(20))
    mapped = np.load(tmp_path / "vectors.npy", mmap_mode="r")
    assert len(choose(mapped, np.arange(80))) == 4


WORDS = ["battery", "violin", "tax", "ocean", "compiler", "bread"]
