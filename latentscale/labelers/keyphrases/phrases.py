"""Name clusters by the words and phrases that set their texts apart."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from latentscale.labelers.keyphrases.compose import (
    choose_phrases,
    distinct_phrases,
    holding_phrase,
    joining_phrase,
    phrase_stems,
    telling_phrases,
)
from latentscale.labelers.keyphrases.scores import Candidates, find_candidates
from latentscale.labelers.keyphrases.shares import Layer, measure_layer
from latentscale.labelers.keyphrases.terms import Terms, count_terms, find_forms
from latentscale.labelers.keyphrases.words import Vocabulary, Words

TextBatches = Callable[[], Iterator[tuple[NDArray[np.int64], Sequence[str]]]]

# Documents read over all clusters: 120,000 texts of 1,000 characters are counted in about a gigabyte.
_MAX_DOCUMENTS = 120_000
_CANDIDATES = 200
# Phrases that a label is chosen from.
_CONSIDERED = 24


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterLabel:
    """The name of one cluster, with the evidence for it.

    Attributes
    ----------
    layer, cluster : int
        Which one.
    label : str
        Unique within the whole tree.
    keyphrases : list of str
        The phrases that set the cluster apart, best first; no word is in two of them.
    source : {"keyphrases", "none"}
        ``"none"``: its texts have no usable word, and the label is its number.
    coverage : float
        Share of the cluster's documents that have a word or phrase that the label is made of. Where a label shows a
        word in the phrase that it is mostly in ("activate my card"), the word counts.
    coverage_outside : float
        The same for all other documents.
    documents_read : int
        At most ``max_documents_per_cluster`` for each cluster of the finest layer in it.
    """

    layer: int
    cluster: int
    label: str
    keyphrases: list[str]
    source: str = "keyphrases"
    coverage: float = 0.0
    coverage_outside: float = 0.0
    documents_read: int = 0


def label_clusters(
    texts: TextBatches,
    memberships: Sequence[NDArray[np.int32]],
    *,
    max_keyphrases: int,
    max_documents_per_cluster: int,
    seed: int,
    ngram_range: tuple[int, int] = (1, 3),
) -> list[ClusterLabel]:
    """Name every cluster of every layer by the phrases that tell its texts from all others.

    A phrase counts once a document. ``find_candidates`` scores the phrases of a cluster: class-based TF-IDF
    (Grootendorst 2022) with the information that a phrase gives on the cluster in place of its mere frequency. A label
    is the best phrase, with one or two more where that is not enough (``choose_phrases``).

    Parameters
    ----------
    texts : callable
        Returns an iterator of batches: matrix positions, int64 of shape (n,), and the n texts. Read once.
    memberships : sequence of int32 ndarray, shape (n_documents,)
        Cluster of each document, one array a layer, the finest first; -1 for none. Each cluster lies in one of the
        next coarser layer.
    max_keyphrases : int
        Kept for each cluster.
    max_documents_per_cluster : int
        Read for each cluster of the finest layer, chosen by ``seed``; fewer where there are more than 120,000 in all.
        Each document read represents an equal part of its cluster, so that coarser layers are counted by size.
    ngram_range : (int, int)
        Shortest and longest phrase, in words.

    Returns
    -------
    list of ClusterLabel
        By layer, then by cluster.

    Raises
    ------
    ValueError
        If a cluster lies in several of the next coarser layer.
    """
    if not memberships:
        return []
    sample = _sample(memberships, limit=max_documents_per_cluster, seed=seed)
    vocabulary = Vocabulary()
    positions, forms, starts = _read(texts, sample, vocabulary)
    names = vocabulary.forms()
    words = Words(names, np.bincount(forms, minlength=len(names)))
    longest = (1, 1) if len(names) == 1 else ngram_range
    # A phrase of one document sets nothing apart, except where there are hardly any documents.
    rare = 1 if len(positions) < 50 else 2 if len(positions) < 2_000 else 3
    terms = count_terms(forms, starts, words, ngram_range=longest, min_documents=rare)

    chosen: list[_Choice] = []
    taken: set[frozenset[str]] = set()
    finer: Layer | None = None
    weights = _weights(memberships, positions)
    for depth, membership in enumerate(memberships):
        parents = _parents(memberships[depth - 1], membership) if depth else None
        layer = measure_layer(terms, membership, positions, weights, finer=finer, parents=parents)
        groups = (memberships[depth - 1] if depth else membership)[positions]
        chosen.extend(
            _choose(terms, layer, row, depth, groups, weights, words, taken, max_keyphrases)
            for row in np.flatnonzero(layer.clusters >= 0).tolist()
        )
        finer = layer
    return _write(chosen, terms, forms, starts, words, memberships, positions, weights)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Choice:
    """What was chosen for one cluster: columns of ``Terms``, not yet spelt."""

    layer: int
    cluster: int
    counted: tuple[int, ...] = ()
    shown: tuple[int, ...] = ()
    keyphrases: tuple[int, ...] = ()
    documents_read: int = 0


def _choose(
    terms: Terms,
    layer: Layer,
    row: int,
    depth: int,
    groups: NDArray[np.int32],
    weights: NDArray[np.float64],
    words: Words,
    taken: set[frozenset[str]],
    max_keyphrases: int,
) -> _Choice:
    """Choose the keyphrases of one cluster, and from them its label; note the label in ``taken``."""
    cluster, members = int(layer.clusters[row]), layer.members[row]
    found = find_candidates(terms, layer, row, words, limit=_CANDIDATES)
    if len(found.columns) == 0:
        return _Choice(layer=depth, cluster=cluster, documents_read=len(members))
    kept = distinct_phrases(found, terms, words, limit=max(max_keyphrases, _CONSIDERED))
    columns = found.columns[kept]
    incidence = terms.documents[members][:, columns].toarray() > 0
    label = choose_phrases(
        incidence,
        np.unique(groups[members], return_inverse=True)[1],
        weights[members],
        found.worth[kept],
        telling_phrases(found, terms, words)[kept],
        found.lengths[kept],
    )
    # The next best phrases tell two clusters apart that the same words name.
    spare = [at for at in range(len(kept)) if at not in label]
    while True:
        counted = tuple(int(columns[at]) for at in label)
        shown = _shown(found, terms, words, counted, incidence[:, label], weights[members])
        spelt = frozenset().union(*(phrase_stems(terms.words[column], words) for column in shown))
        if spelt not in taken or not spare:
            break
        label.append(spare.pop(0))
    taken.add(spelt)
    rest = [at for at in range(len(kept)) if at not in label]
    return _Choice(
        layer=depth,
        cluster=cluster,
        counted=counted,
        shown=shown,
        keyphrases=tuple(int(columns[at]) for at in sorted([*label, *rest][:max_keyphrases])),
        documents_read=len(members),
    )


def _shown(
    found: Candidates,
    terms: Terms,
    words: Words,
    label: tuple[int, ...],
    has: NDArray[np.bool_],
    weights: NDArray[np.float64],
) -> tuple[int, ...]:
    """Return the phrases that a reader sees for ``label``: words that the cluster joins are shown joined."""
    joined = joining_phrase(found, terms, label, float(np.average(has.all(axis=1), weights=weights)))
    if joined is not None:
        return (joined,)
    held = holding_phrase(found, terms, words, label)
    return label if held is None else (held, *label[1:])


def _weights(memberships: Sequence[NDArray[np.int32]], positions: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the number of documents that each document read represents: its finest cluster's size, divided evenly."""
    clusters, of_document = np.unique(memberships[0], return_inverse=True)
    sizes = np.bincount(of_document, minlength=len(clusters))
    read = np.bincount(of_document[positions], minlength=len(clusters))
    return (sizes / np.maximum(read, 1))[of_document[positions]]


def _parents(finer: NDArray[np.int32], coarser: NDArray[np.int32]) -> NDArray[np.int32]:
    """Return the coarser cluster of each finer one, in their order."""
    clusters, first = np.unique(finer, return_index=True)
    parents = coarser[first]
    if (parents[np.searchsorted(clusters, finer)] != coarser).any():
        raise ValueError("each cluster must lie in one cluster of the next coarser layer")
    return parents


def _sample(memberships: Sequence[NDArray[np.int32]], *, limit: int, seed: int) -> NDArray[np.bool_]:
    """Choose the documents to read: up to ``limit`` of each finest cluster, and up to five times that of none."""
    n_documents = len(memberships[0])
    chosen = np.zeros(n_documents, dtype=np.bool_)
    if n_documents == 0:
        return chosen
    clusters = memberships[0]
    limit = max(20, min(limit, _MAX_DOCUMENTS // len(np.unique(clusters))))
    shuffled = np.random.default_rng(seed).permutation(n_documents)
    clusters = clusters[shuffled]
    order = np.argsort(clusters, kind="stable")
    first = np.flatnonzero(np.diff(clusters[order], prepend=-2))
    for begin, end in pairwise([*first.tolist(), n_documents]):
        share = limit * 5 if clusters[order[begin]] < 0 else limit
        chosen[shuffled[order[begin : min(end, begin + share)]]] = True
    return chosen


def _read(
    texts: TextBatches, sample: NDArray[np.bool_], vocabulary: Vocabulary
) -> tuple[NDArray[np.int64], NDArray[np.int32], NDArray[np.int64]]:
    """Return the positions of the documents read, their written forms in one row, and where each begins."""
    positions: list[NDArray[np.int64]] = []
    forms: list[NDArray[np.int32]] = []
    lengths: list[int] = []
    for rows, batch in texts():
        wanted = np.flatnonzero(sample[rows])
        encoded = [vocabulary.encode(batch[at]) for at in wanted.tolist()]
        positions.append(np.asarray(rows, dtype=np.int64)[wanted])
        lengths.extend(map(len, encoded))
        forms.append(np.fromiter((form for text in encoded for form in text), np.int32))
    starts = np.zeros(len(lengths) + 1, dtype=np.int64)
    np.cumsum(lengths, out=starts[1:])
    return (
        np.concatenate(positions) if positions else np.empty(0, dtype=np.int64),
        np.concatenate(forms) if forms else np.empty(0, dtype=np.int32),
        starts,
    )


def _write(
    chosen: list[_Choice],
    terms: Terms,
    forms: NDArray[np.int32],
    starts: NDArray[np.int64],
    words: Words,
    memberships: Sequence[NDArray[np.int32]],
    positions: NDArray[np.int64],
    weights: NDArray[np.float64],
) -> list[ClusterLabel]:
    """Spell the chosen phrases as the corpus does, and measure what the labels cover."""
    columns = sorted({column for choice in chosen for column in (*choice.keyphrases, *choice.shown)})
    spelt = dict(zip(columns, map(words.write, find_forms(forms, starts, words, terms.words[columns])), strict=True))
    counted = sorted({column for choice in chosen for column in choice.counted})
    row_of = {column: at for at, column in enumerate(counted)}
    documents = terms.documents[:, counted].tocsc()
    used: set[str] = set()
    labels: list[ClusterLabel] = []
    groups = [membership[positions] for membership in memberships]
    totals = [np.bincount(group + 1, weights=weights) for group in groups]
    everything = float(weights.sum())
    for choice in chosen:
        parts = [spelt[column] for column in choice.shown]
        label = words.capitalise(", ".join(parts)) if parts else f"Cluster {choice.cluster}"
        if label in used:
            numbered = f"{label} ({choice.cluster})"
            label = numbered if numbered not in used else f"{label} ({choice.layer}.{choice.cluster})"
        used.add(label)
        # Only documents that have one of the words are looked at: there may be thousands of clusters.
        columns_of = [documents.indices[slice(*documents.indptr[row_of[c] : row_of[c] + 2])] for c in choice.counted]
        rows = np.unique(np.concatenate(columns_of)) if columns_of else np.empty(0, dtype=np.int64)
        inside = rows[groups[choice.layer][rows] == choice.cluster]
        have, have_inside = float(weights[rows].sum()), float(weights[inside].sum())
        members = float(totals[choice.layer][choice.cluster + 1])
        labels.append(
            ClusterLabel(
                layer=choice.layer,
                cluster=choice.cluster,
                label=label,
                keyphrases=[spelt[column] for column in choice.keyphrases],
                source="keyphrases" if parts else "none",
                coverage=_share(have_inside, members),
                coverage_outside=_share(have - have_inside, everything - members),
                documents_read=choice.documents_read,
            )
        )
    return labels


def _share(part: float, whole: float) -> float:
    # Sums of the same numbers in another order may differ in their last bit.
    return min(1.0, max(0.0, part / whole)) if whole > 1e-9 else 0.0
