"""Name clusters by the words and phrases that set their texts apart."""

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

# Documents read over all clusters: 120,000 texts of 1,000 characters are counted in about a gigabyte.
_MAX_DOCUMENTS = 120_000
_CANDIDATES = 200
# Phrases that a label is chosen from.
_CONSIDERED = 24
# Of those that the children of a cluster share, so many name it.
_SHARED_PHRASES = 2


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
    stop_words: Collection[str] = (),
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
    stop_words : collection of str
        Words, case-folded, that are in no phrase, beside those of the languages that the texts are in.

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
    # A phrase of one document sets nothing apart, except where there are hardly any documents.
    rare = 1 if len(positions) < 50 else 2 if len(positions) < 2_000 else 3
    words = Words(
        names,
        np.bincount(forms, minlength=len(names)),
        documents_inside(forms, starts, names),
        stop_words,
        fillers=distinctive_fillers(forms, starts, names, memberships[0][positions]),
        least=rare,
    )
    words.persons = person_words(forms, words, vocabulary.senders)
    longest = (1, 1) if len(names) == 1 else ngram_range
    terms = count_terms(forms, starts, words, ngram_range=longest, min_documents=rare)

    chosen: list[_Choice] = []
    taken: set[frozenset[str]] = set()
    finer: Layer | None = None
    below: dict[int, _Choice] = {}
    weights = _weights(memberships, positions)
    for depth, membership in enumerate(memberships):
        parents = _parents(memberships[depth - 1], membership) if depth else None
        layer = measure_layer(terms, membership, positions, weights, finer=finer, parents=parents)
        groups = (memberships[depth - 1] if depth else membership)[positions]
        of_layer: dict[int, _Choice] = {}
        for row in np.flatnonzero(layer.clusters >= 0).tolist():
            inside: _Inside | None = None
            if finer is not None and parents is not None:
                children = children_of(int(layer.clusters[row]), finer, parents)
                named = [below[int(finer.clusters[child])] for child in children.rows.tolist()]
                inside = _Inside(finer=finer, children=children, named=named)
            of_layer[int(layer.clusters[row])] = _choose(
                terms, layer, row, depth, groups, weights, words, taken, max_keyphrases, inside
            )
        chosen.extend(of_layer.values())
        finer, below = layer, of_layer
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
    joined_by: str = ", "


@dataclass(frozen=True, slots=True, kw_only=True)
class _Inside:
    """What lies in a cluster of a coarser layer: its children, and what was chosen for each."""

    finer: Layer
    children: Children
    named: list[_Choice]


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
    inside: _Inside | None,
) -> _Choice:
    """Choose the keyphrases of one cluster, and from them its label; note the label in ``taken``."""
    cluster, members = int(layer.clusters[row]), layer.members[row]
    found = find_candidates(terms, layer, row, words, limit=_CANDIDATES)
    if len(found.columns) == 0:
        return _Choice(layer=depth, cluster=cluster, documents_read=len(members))
    kept = distinct_phrases(found, terms, words, limit=max(max_keyphrases, _CONSIDERED))
    columns = found.columns[kept]
    usable = np.arange(len(kept))
    if inside is not None and len(inside.children.rows) > 1:
        usable = np.flatnonzero(shared_phrases(found, columns, kept, inside.finer, inside.children))
    incidence = terms.documents[members][:, columns[usable]].toarray() > 0
    label: list[int] = []
    if len(usable):
        label = choose_phrases(
            incidence,
            np.unique(groups[members], return_inverse=True)[1],
            weights[members],
            found.worth[kept][usable],
            standalone_phrases(found, terms, words)[kept][usable],
            specific_phrases(found, terms, words)[kept][usable],
            np.asarray(words.persons[terms.words[columns[usable]]].any(axis=1)),
            found.lengths[kept][usable],
        )[: None if inside is None else _SHARED_PHRASES]
    choice = _Choice(layer=depth, cluster=cluster, documents_read=len(members))

    def named(label: list[int]) -> _Choice:
        counted = tuple(int(columns[usable[at]]) for at in label)
        shown = _shown(found, terms, words, counted, incidence[:, label], weights[members])
        return replace(choice, counted=counted, shown=shown)

    def is_free(choice: _Choice) -> bool:
        return _stems(choice.shown, terms, words) not in taken

    # The next best phrases tell two clusters apart that the same words name.
    spare = [at for at in range(len(usable)) if at not in label]
    while label:
        choice = named(label)
        if is_free(choice) or not spare:
            break
        label.append(spare.pop(0))
    if inside is not None and not (label and is_free(choice)):
        others = [at for at in range(len(kept)) if at not in usable[label]]
        by_children = _by_children(choice, inside, taken, terms, words)
        with_another = (
            replace(choice, counted=(*choice.counted, int(columns[at])), shown=(*choice.shown, int(columns[at])))
            for at in others
        )
        choice = by_children or next(filter(is_free, with_another), choice)
    taken.add(_stems(choice.shown, terms, words))
    order = [at for at in range(len(kept)) if at in usable[label]]
    order = sorted([*order, *(at for at in range(len(kept)) if at not in order)][:max_keyphrases])
    return replace(choice, keyphrases=tuple(int(columns[at]) for at in order))


def _by_children(
    choice: _Choice, inside: _Inside, taken: set[frozenset[str]], terms: Terms, words: Words
) -> _Choice | None:
    """The same with the name of its two largest children; of others where those two name another cluster."""
    named = [child for child in inside.named if child.shown]
    for second in range(1, len(named)):
        pair = (named[0], named[second])
        shown = tuple(column for child in pair for column in child.shown[:1])
        stems = [phrase_stems(terms.words[column], words) for column in shown]
        if not stems[0] & stems[1] and stems[0] | stems[1] not in taken:
            counted = tuple(dict.fromkeys(column for child in pair for column in child.counted[:1]))
            return replace(choice, counted=counted, shown=shown, joined_by=" / ")
    return None


def _stems(shown: tuple[int, ...], terms: Terms, words: Words) -> frozenset[str]:
    return frozenset[str]().union(*(phrase_stems(terms.words[column], words) for column in shown))


def _shown(
    found: Candidates,
    terms: Terms,
    words: Words,
    label: tuple[int, ...],
    has: NDArray[np.bool_],
    weights: NDArray[np.float64],
) -> tuple[int, ...]:
    """Return the phrases that a reader sees for ``label``: words that the cluster joins are shown joined."""
    if len(label) == 2 and is_enough(found, terms, words, label[0]):
        # The word alone would have been a label: the phrase that it stands in needs no companion.
        held = holding_phrase(found, terms, words, label[:1])
        if held is not None:
            return (held,)
    joined = joining_phrase(found, terms, words, label, float(np.average(has.all(axis=1), weights=weights)))
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
    lengths: list[NDArray[np.int64]] = []
    for rows, batch in texts():
        wanted = np.flatnonzero(sample[rows])
        encoded, counts = vocabulary.encode([batch[at] for at in wanted.tolist()])
        positions.append(np.asarray(rows, dtype=np.int64)[wanted])
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
        label = words.capitalise(choice.joined_by.join(parts)) if parts else f"Cluster {choice.cluster}"
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
