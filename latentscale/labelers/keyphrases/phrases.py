"""Label clusters with their most distinctive words and phrases."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from latentscale.labelers.keyphrases.compose import (
    choose_phrases,
    distinct_phrases,
    holding_phrase,
    is_enough,
    joining_phrase,
    phrase_stems,
    specific_phrases,
    standalone_phrases,
)
from latentscale.labelers.keyphrases.distinctive_fillers import distinctive_fillers
from latentscale.labelers.keyphrases.parents import Children, children_of, shared_phrases
from latentscale.labelers.keyphrases.persons import person_words
from latentscale.labelers.keyphrases.scores import Candidates, find_candidates
from latentscale.labelers.keyphrases.shares import Layer, measure_layer
from latentscale.labelers.keyphrases.terms import Terms, count_terms, documents_inside, find_forms
from latentscale.labelers.keyphrases.words import Vocabulary, Words

TextBatches = Callable[[], Iterator[tuple[NDArray[np.int64], Sequence[str]]]]

# Sampled documents over all clusters: 120,000 texts of 1,000 characters take about a gigabyte.
_MAX_DOCUMENTS = 120_000
_CANDIDATES = 200
# Number of distinct phrases from which a label is chosen.
_CONSIDERED = 24
# Maximum shared phrases in the label of a coarser cluster.
_SHARED_PHRASES = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterLabel:
    """The label of a cluster, with its evidence.

    Attributes
    ----------
    layer, cluster : int
        Layer and number of the cluster.
    label : str
        Unique in the tree.
    keyphrases : list of str
        The most distinctive phrases, best first; no two share a word.
    source : {"keyphrases", "none"}
        ``"none"``: its texts contain no usable word, and the label is its number.
    coverage : float
        Share of the cluster's documents that contain a phrase of the label. If a word is displayed within a longer
        phrase ("activate my card"), documents with the word count.
    coverage_outside : float
        The same share of all other documents.
    documents_read : int
        Sampled documents: at most ``max_documents_per_cluster`` per finest cluster in it.
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
    stop_words: Collection[str] = (),
) -> list[ClusterLabel]:
    """Label all clusters of all layers with their distinctive phrases.

    A phrase counts once per document. ``find_candidates`` scores the phrases of a cluster: class-based TF-IDF
    (Grootendorst 2022) with the information that a phrase provides about the cluster instead of its frequency. A label
    is the best phrase, with one or two more if needed (``choose_phrases``).

    Parameters
    ----------
    texts : callable
        Returns an iterator of batches: matrix positions, int64 of shape (n,), and the n texts. Read once.
    memberships : sequence of int32 ndarray, shape (n_documents,)
        Cluster of each document, one array per layer, finest first; -1 for none. Each cluster is within one cluster of
        the next coarser layer.
    max_keyphrases : int
        Maximum keyphrases per cluster.
    max_documents_per_cluster : int
        Maximum sample per finest cluster, drawn with ``seed``; smaller if the total would exceed 120,000. Sampled
        documents are weighted, so that coarser layers are counted by size.
    ngram_range : (int, int)
        Shortest and longest phrase, in words.
    stop_words : collection of str
        Case-folded words to exclude from phrases, in addition to stop words of the texts' languages.

    Returns
    -------
    list of ClusterLabel
        Ordered by layer, then by cluster.

    Raises
    ------
    ValueError
        If a cluster is split between clusters of the next coarser layer.
    """
    if not memberships:
        return []
    sample = _sample(memberships, limit=max_documents_per_cluster, seed=seed)
    vocabulary = Vocabulary()
    positions, forms, starts = _read(texts, sample, vocabulary)
    names = vocabulary.forms()
    # A phrase of a single document is not distinctive, unless there are very few documents.
    min_documents = 1 if len(positions) < 50 else 2 if len(positions) < 2_000 else 3
    words = Words(
        names,
        np.bincount(forms, minlength=len(names)),
        documents_inside(forms, starts, names),
        stop_words,
        fillers=distinctive_fillers(forms, starts, names, memberships[0][positions]),
        min_count=min_documents,
    )
    words.persons = person_words(forms, words, vocabulary.senders)
    usable_ngram_range = (1, 1) if len(names) == 1 else ngram_range
    terms = count_terms(forms, starts, words, ngram_range=usable_ngram_range, min_documents=min_documents)

    choices: list[_Choice] = []
    used_labels: set[frozenset[str]] = set()
    finer: Layer | None = None
    finer_choices: dict[int, _Choice] = {}
    weights = _weights(memberships, positions)
    for depth, membership in enumerate(memberships):
        parents = _parents(memberships[depth - 1], membership) if depth else None
        layer = measure_layer(terms, membership, positions, weights, finer=finer, parents=parents)
        groups = (memberships[depth - 1] if depth else membership)[positions]
        layer_choices: dict[int, _Choice] = {}
        for row in np.flatnonzero(layer.clusters >= 0).tolist():
            subtree: _Subtree | None = None
            if finer is not None and parents is not None:
                children = children_of(int(layer.clusters[row]), finer, parents)
                child_choices = [finer_choices[int(finer.clusters[child])] for child in children.rows.tolist()]
                subtree = _Subtree(finer=finer, children=children, choices=child_choices)
            layer_choices[int(layer.clusters[row])] = _choose(
                terms, layer, row, depth, groups, weights, words, used_labels, max_keyphrases, subtree
            )
        choices.extend(layer_choices.values())
        finer, finer_choices = layer, layer_choices
    return _write(choices, terms, forms, starts, words, memberships, positions, weights)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Choice:
    """Phrases chosen for a cluster, as columns of ``Terms``: ``counted`` for its coverage, ``shown`` for its label."""

    layer: int
    cluster: int
    counted: tuple[int, ...] = ()
    shown: tuple[int, ...] = ()
    keyphrases: tuple[int, ...] = ()
    documents_read: int = 0
    joined_by: str = ", "


@dataclass(frozen=True, slots=True, kw_only=True)
class _Subtree:
    """The children of a coarser cluster, and the choices for them."""

    finer: Layer
    children: Children
    choices: list[_Choice]


def _choose(
    terms: Terms,
    layer: Layer,
    row: int,
    depth: int,
    groups: NDArray[np.int32],
    weights: NDArray[np.float64],
    words: Words,
    used_labels: set[frozenset[str]],
    max_keyphrases: int,
    subtree: _Subtree | None,
) -> _Choice:
    """Choose the keyphrases of a cluster, and from them its label, which is added to ``used_labels``."""
    cluster, members = int(layer.clusters[row]), layer.members[row]
    candidates = find_candidates(terms, layer, row, words, limit=_CANDIDATES)
    if len(candidates.columns) == 0:
        return _Choice(layer=depth, cluster=cluster, documents_read=len(members))
    kept = distinct_phrases(candidates, terms, words, limit=max(max_keyphrases, _CONSIDERED))
    columns = candidates.columns[kept]
    usable = np.arange(len(kept))
    if subtree is not None and len(subtree.children.rows) > 1:
        usable = np.flatnonzero(shared_phrases(candidates, columns, kept, subtree.finer, subtree.children))
    incidence = terms.documents[members][:, columns[usable]].toarray() > 0
    label: list[int] = []
    if len(usable):
        label = choose_phrases(
            incidence,
            np.unique(groups[members], return_inverse=True)[1],
            weights[members],
            candidates.worth[kept][usable],
            standalone_phrases(candidates, terms, words)[kept][usable],
            specific_phrases(candidates, terms, words)[kept][usable],
            np.asarray(words.persons[terms.words[columns[usable]]].any(axis=1)),
            candidates.lengths[kept][usable],
        )[: None if subtree is None else _SHARED_PHRASES]
    choice = _Choice(layer=depth, cluster=cluster, documents_read=len(members))

    def with_label(label: list[int]) -> _Choice:
        counted = tuple(int(columns[usable[index]]) for index in label)
        shown = _shown(candidates, terms, words, counted, incidence[:, label], weights[members])
        return replace(choice, counted=counted, shown=shown)

    def is_free(choice: _Choice) -> bool:
        return _stems(choice.shown, terms, words) not in used_labels

    # Add the next best phrases to distinguish clusters with the same label.
    unused = [index for index in range(len(usable)) if index not in label]
    while label:
        choice = with_label(label)
        if is_free(choice) or not unused:
            break
        label.append(unused.pop(0))
    if subtree is not None and not (label and is_free(choice)):
        others = [index for index in range(len(kept)) if index not in usable[label]]
        by_children = _by_children(choice, subtree, used_labels, terms, words)
        with_extra_phrase = (
            replace(choice, counted=(*choice.counted, int(columns[index])), shown=(*choice.shown, int(columns[index])))
            for index in others
        )
        choice = by_children or next(filter(is_free, with_extra_phrase), choice)
    used_labels.add(_stems(choice.shown, terms, words))
    order = [index for index in range(len(kept)) if index in usable[label]]
    order = sorted([*order, *(index for index in range(len(kept)) if index not in order)][:max_keyphrases])
    return replace(choice, keyphrases=tuple(int(columns[index]) for index in order))


def _by_children(
    choice: _Choice, subtree: _Subtree, used_labels: set[frozenset[str]], terms: Terms, words: Words
) -> _Choice | None:
    """Return ``choice`` labelled by its two largest children, or others if that label is used; None if impossible."""
    labelled = [child for child in subtree.choices if child.shown]
    for second in range(1, len(labelled)):
        pair = (labelled[0], labelled[second])
        shown = tuple(column for child in pair for column in child.shown[:1])
        stems = [phrase_stems(terms.words[column], words) for column in shown]
        if not stems[0] & stems[1] and stems[0] | stems[1] not in used_labels:
            counted = tuple(dict.fromkeys(column for child in pair for column in child.counted[:1]))
            return replace(choice, counted=counted, shown=shown, joined_by=" / ")
    return None


def _stems(shown: tuple[int, ...], terms: Terms, words: Words) -> frozenset[str]:
    return frozenset[str]().union(*(phrase_stems(terms.words[column], words) for column in shown))


def _shown(
    candidates: Candidates,
    terms: Terms,
    words: Words,
    label: tuple[int, ...],
    incidence: NDArray[np.bool_],
    weights: NDArray[np.float64],
) -> tuple[int, ...]:
    """Return the displayed phrases of ``label``: words that the cluster joins in a phrase are replaced by it."""
    if len(label) == 2 and is_enough(candidates, terms, words, label[0]):
        # The word alone would be a sufficient label: the phrase around it needs no companion.
        phrase = holding_phrase(candidates, terms, words, label[:1])
        if phrase is not None:
            return (phrase,)
    joined = joining_phrase(candidates, terms, words, label, float(np.average(incidence.all(axis=1), weights=weights)))
    if joined is not None:
        return (joined,)
    phrase = holding_phrase(candidates, terms, words, label)
    return label if phrase is None else (phrase, *label[1:])


def _weights(memberships: Sequence[NDArray[np.int32]], positions: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the number of documents that each sampled one represents: its finest cluster's size, divided evenly."""
    clusters, cluster_rows = np.unique(memberships[0], return_inverse=True)
    sizes = np.bincount(cluster_rows, minlength=len(clusters))
    sampled = np.bincount(cluster_rows[positions], minlength=len(clusters))
    return (sizes / np.maximum(sampled, 1))[cluster_rows[positions]]


def _parents(finer: NDArray[np.int32], coarser: NDArray[np.int32]) -> NDArray[np.int32]:
    """Return the coarser cluster of each finer one, in ascending order of these."""
    clusters, first = np.unique(finer, return_index=True)
    parents = coarser[first]
    if (parents[np.searchsorted(clusters, finer)] != coarser).any():
        raise ValueError("each cluster must lie in one cluster of the next coarser layer")
    return parents


def _sample(memberships: Sequence[NDArray[np.int32]], *, limit: int, seed: int) -> NDArray[np.bool_]:
    """Sample up to ``limit`` documents of each finest cluster, and up to five times as many in no cluster."""
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
    for start, end in pairwise([*first.tolist(), n_documents]):
        cluster_limit = limit * 5 if clusters[order[start]] < 0 else limit
        chosen[shuffled[order[start : min(end, start + cluster_limit)]]] = True
    return chosen


def _read(
    texts: TextBatches, sample: NDArray[np.bool_], vocabulary: Vocabulary
) -> tuple[NDArray[np.int64], NDArray[np.int32], NDArray[np.int64]]:
    """Return positions of the sampled documents, their concatenated written forms, and offsets."""
    positions: list[NDArray[np.int64]] = []
    forms: list[NDArray[np.int32]] = []
    lengths: list[NDArray[np.int64]] = []
    for rows, batch in texts():
        sampled = np.flatnonzero(sample[rows])
        encoded, counts = vocabulary.encode([batch[index] for index in sampled.tolist()])
        positions.append(np.asarray(rows, dtype=np.int64)[sampled])
        lengths.append(counts)
        forms.append(encoded)
    starts = np.concatenate([np.zeros(1, np.int64), *lengths])
    np.cumsum(starts, out=starts)
    return (
        np.concatenate(positions) if positions else np.empty(0, dtype=np.int64),
        np.concatenate(forms) if forms else np.empty(0, dtype=np.int32),
        starts,
    )


def _write(
    choices: list[_Choice],
    terms: Terms,
    forms: NDArray[np.int32],
    starts: NDArray[np.int64],
    words: Words,
    memberships: Sequence[NDArray[np.int32]],
    positions: NDArray[np.int64],
    weights: NDArray[np.float64],
) -> list[ClusterLabel]:
    """Render the chosen phrases in the corpus's spelling, and measure the coverage of labels."""
    columns = sorted({column for choice in choices for column in (*choice.keyphrases, *choice.shown)})
    spelled = dict(zip(columns, map(words.write, find_forms(forms, starts, words, terms.words[columns])), strict=True))
    counted = sorted({column for choice in choices for column in choice.counted})
    row_of = {column: index for index, column in enumerate(counted)}
    documents = terms.documents[:, counted].tocsc()
    used: set[str] = set()
    labels: list[ClusterLabel] = []
    groups = [membership[positions] for membership in memberships]
    totals = [np.bincount(group + 1, weights=weights) for group in groups]
    total_weight = float(weights.sum())
    for choice in choices:
        phrases = [spelled[column] for column in choice.shown]
        label = words.capitalise(choice.joined_by.join(phrases)) if phrases else f"Cluster {choice.cluster}"
        if label in used:
            numbered = f"{label} ({choice.cluster})"
            label = numbered if numbered not in used else f"{label} ({choice.layer}.{choice.cluster})"
        used.add(label)
        # Use only documents with one of the phrases: there may be thousands of clusters.
        rows_of_phrases = [
            documents.indices[slice(*documents.indptr[row_of[c] : row_of[c] + 2])] for c in choice.counted
        ]
        rows = np.unique(np.concatenate(rows_of_phrases)) if rows_of_phrases else np.empty(0, dtype=np.int64)
        inside = rows[groups[choice.layer][rows] == choice.cluster]
        weight_with, weight_inside = float(weights[rows].sum()), float(weights[inside].sum())
        cluster_weight = float(totals[choice.layer][choice.cluster + 1])
        labels.append(
            ClusterLabel(
                layer=choice.layer,
                cluster=choice.cluster,
                label=label,
                keyphrases=[spelled[column] for column in choice.keyphrases],
                source="keyphrases" if phrases else "none",
                coverage=_share(weight_inside, cluster_weight),
                coverage_outside=_share(weight_with - weight_inside, total_weight - cluster_weight),
                documents_read=choice.documents_read,
            )
        )
    return labels


def _share(part: float, whole: float) -> float:
    # Sums in different order may differ in the last bit.
    return min(1.0, max(0.0, part / whole)) if whole > 1e-9 else 0.0
