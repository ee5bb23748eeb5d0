"""Name clusters by the words and phrases that set their texts apart (class-based TF-IDF)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from latentscale.labelers.terms import Terms, count_terms, find_forms
from latentscale.labelers.words import Vocabulary, Words, stem

TextBatches = Callable[[], Iterator[tuple[NDArray[np.int64], Sequence[str]]]]

# Documents read over all clusters: 120,000 texts of 1,000 characters are counted in about a gigabyte.
_MAX_DOCUMENTS = 120_000
_CANDIDATES = 200
# A share outside the cluster below which a phrase is no rarer for us: chance, in samples of a thousand.
_RARE = 0.003
# Share of a cluster's documents that must have a phrase for it to stand for its two words.
_JOINED = 0.05
_MAX_PHRASES_IN_LABEL = 3
_MAX_WORDS_IN_LABEL = 5


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
        Share of the cluster's documents (of those read) that have a word or phrase that the label is made of.
    coverage_outside : float
        The same for all other documents.
    documents_read : int
        At most ``max_documents_per_cluster``.
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
    """Name every cluster of every layer by its keyphrases, which c-TF-IDF finds (Grootendorst 2022).

    A phrase counts once a document, and its weight in a cluster is the share of the cluster's documents that have it,
    times ``log(1 + 1 / sum of those shares over all clusters)``. A label is the best phrase, with one or two more where
    they cover documents that it does not.

    Parameters
    ----------
    texts : callable
        Returns an iterator of batches: matrix positions, int64 of shape (n,), and the n texts. Read once.
    memberships : sequence of int32 ndarray, shape (n_documents,)
        Cluster of each document, one array a layer, the finest first; -1 for none.
    max_keyphrases : int
        Kept for each cluster.
    max_documents_per_cluster : int
        Read for each cluster, chosen by ``seed``; fewer where there are more than 120,000 in all.
    ngram_range : (int, int)
        Shortest and longest phrase, in words.

    Returns
    -------
    list of ClusterLabel
        By layer, then by cluster.
    """
    sizes = [_sizes(membership) for membership in memberships]
    sample = _sample(memberships, sizes, limit=max_documents_per_cluster, seed=seed)
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
    for layer, membership in enumerate(memberships):
        table = _Table.count(terms, membership[positions], sizes[layer], len(membership))
        lower = {column for choice in chosen for column in choice.phrases[:1]}
        for row, cluster in enumerate(table.clusters):
            if cluster < 0:
                continue
            chosen.append(_choose(terms, table, row, layer, words, taken, lower, max_keyphrases))
    return _write(chosen, terms, forms, starts, words)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Choice:
    """What was chosen for one cluster: columns of ``Terms``, not yet spelt."""

    layer: int
    cluster: int
    phrases: tuple[int, ...]
    keyphrases: tuple[int, ...]
    coverage: float
    coverage_outside: float
    documents_read: int


@dataclass(frozen=True, slots=True, kw_only=True)
class _Table:
    """Shares of documents with each term, for the clusters of one layer.

    ``clusters`` may begin with -1: documents in no cluster are part of the outside.
    """

    clusters: NDArray[np.int32]
    members: list[NDArray[np.int64]]
    sizes: NDArray[np.int64]
    shares: Any
    weights: NDArray[np.float64]
    total: NDArray[np.float64]

    @classmethod
    def count(cls, terms: Terms, clusters: NDArray[np.int32], sizes: dict[int, int], n_documents: int) -> _Table:
        from scipy.sparse import csr_matrix, diags_array

        present, inverse = np.unique(np.concatenate([clusters, _listed(sizes)]), return_inverse=True)
        inverse = inverse[: len(clusters)]
        read = np.bincount(inverse, minlength=len(present))
        grouping = csr_matrix(
            (np.ones(len(clusters), dtype=np.float32), (inverse, np.arange(len(clusters)))),
            shape=(len(present), len(clusters)),
        )
        shares = csr_matrix(diags_array(1.0 / np.maximum(read, 1)) @ (grouping @ terms.documents))
        sizes_in_order = np.array([sizes[int(cluster)] for cluster in present], dtype=np.int64)
        spread = np.asarray(shares[present >= 0].sum(axis=0)).ravel()
        order = np.argsort(inverse, kind="stable")
        return cls(
            clusters=present,
            members=np.split(order, np.cumsum(read)[:-1]),
            sizes=sizes_in_order,
            shares=shares,
            weights=np.log1p(1.0 / np.maximum(spread, 1e-9)),
            total=np.asarray(shares.T @ sizes_in_order).ravel(),
        )


def _choose(
    terms: Terms,
    table: _Table,
    row: int,
    layer: int,
    words: Words,
    taken: set[frozenset[str]],
    lower: set[int],
    max_keyphrases: int,
) -> _Choice:
    """Choose the keyphrases of one cluster, and from them its label; note the label in ``taken``."""
    cluster, members = int(table.clusters[row]), table.members[row]
    nothing = _Choice(
        layer=layer, cluster=cluster, phrases=(), keyphrases=(), coverage=0.0, coverage_outside=0.0,
        documents_read=len(members),
    )  # fmt: skip
    begin, end = table.shares.indptr[row : row + 2]
    columns, shares = table.shares.indices[begin:end], table.shares.data[begin:end]
    enough = shares >= min(0.02, 3 / max(len(members), 1)) if len(members) > 20 else shares > 0
    columns, shares = columns[enough], shares[enough]
    if len(columns) == 0:
        return nothing

    outside = (table.total[columns] - table.sizes[row] * shares) / max(table.sizes.sum() - table.sizes[row], 1)
    lengths = (terms.words[columns] > 0).sum(axis=1)
    # c-TF-IDF alone puts a phrase of three members in a hundred first, if only no other cluster has it; the information
    # that a phrase gives on the cluster (its term of the Kullback-Leibler divergence) asks for both.
    surprise = np.log(shares / np.maximum(outside, _RARE))
    score = shares * np.maximum(surprise, 1e-3) * table.weights[columns] ** 0.25
    # Between phrases of equal worth: two words say more than one, and a name more than a description.
    score[(lengths > 1) & (words.carries[terms.words[columns]].sum(axis=1) == lengths)] *= 1.3
    score[words.named[terms.words[columns]].any(axis=1)] *= 1.15
    score[_leaning(terms, table, row, columns, lengths)] *= 0.3
    score[_fragments(terms.words[columns], lengths, shares)] *= 0.6
    # A coarser layer says something more general than the clusters that it is made of.
    score[np.isin(columns, list(lower))] *= 0.6
    order = np.lexsort((columns, -score))[:_CANDIDATES]

    stems = [_stems(terms.words[columns[at]], words) for at in order]
    kept: list[int] = []
    seen: set[str] = set()
    for at in range(len(order)):
        if len(kept) < max_keyphrases and not stems[at] & seen:
            seen |= stems[at]
            kept.append(at)
    keyphrases = [int(columns[order[at]]) for at in kept]

    incidence = terms.documents[members][:, keyphrases].toarray() > 0
    strength = score[order[kept]]
    label, covered = _compose(incidence, strength, lengths[order[kept]])
    spelt = frozenset().union(*(stems[kept[at]] for at in label))
    # The next best phrases tell two clusters apart that the same words name.
    spare = [at for at in range(len(kept)) if at not in label]
    while spelt in taken and spare:
        label.append(spare.pop(0))
        spelt = frozenset().union(*(stems[kept[at]] for at in label))
        covered = incidence[:, label].any(axis=1)
    taken.add(spelt)
    picked = tuple(keyphrases[at] for at in label)
    shown = _joined(terms, columns, shares, picked) or picked
    return _Choice(
        layer=layer,
        cluster=cluster,
        phrases=shown,
        keyphrases=tuple(keyphrases),
        coverage=float(covered.mean()),
        coverage_outside=_outside(terms, table, row, picked),
        documents_read=len(members),
    )


def _leaning(
    terms: Terms, table: _Table, row: int, columns: NDArray[np.int32], lengths: NDArray[np.int64]
) -> NDArray[np.bool_]:
    """Tell which phrases begin or end with a word that is frequent everywhere: the stop words of any language."""
    single = (terms.words[:, 1:] == 0).all(axis=1)
    alone = np.full(int(terms.words.max(initial=0)) + 1, -1, dtype=np.int64)
    alone[terms.words[single, 0]] = np.flatnonzero(single)
    inside = np.zeros(len(table.total))
    begin, end = table.shares.indptr[row : row + 2]
    inside[table.shares.indices[begin:end]] = table.shares.data[begin:end]
    everywhere = table.total / table.sizes.sum()
    common = (everywhere > 0.1) & (inside < 1.5 * everywhere)
    first = alone[terms.words[columns, 0]]
    last = alone[terms.words[columns, lengths - 1]]
    return (lengths > 1) & ((common[first] & (first >= 0)) | (common[last] & (last >= 0)))


def _fragments(
    phrases: NDArray[np.int32], lengths: NDArray[np.int64], shares: NDArray[np.float32]
) -> NDArray[np.int64]:
    """Return the phrases that nearly always stand in a longer one: "programming language" where "Haskell" precedes it.

    Of the longest phrases counted, those are fragments that run on into another one.
    """
    frequent = np.flatnonzero((lengths > 1) & (shares >= 0.1))
    share = {tuple(phrases[at, : lengths[at]].tolist()): float(shares[at]) for at in frequent.tolist()}
    longest = phrases.shape[1]
    whole: dict[tuple[int, ...], float] = {}
    for phrase, value in share.items():
        inner = (phrase[:-1], phrase[1:])
        for part in inner:
            whole[part] = max(whole.get(part, 0.0), value)
    found: list[int] = []
    for at in frequent.tolist():
        phrase = tuple(phrases[at, : lengths[at]].tolist())
        limit = 0.85 * share[phrase]
        if len(phrase) < longest:
            fragment = whole.get(phrase, 0.0) >= limit
        else:
            fragment = any(
                value >= limit and (other[:-1] == phrase[1:] or other[1:] == phrase[:-1])
                for other, value in share.items()
                if len(other) == longest and other != phrase
            )
        if fragment:
            found.append(at)
    return np.array(found, dtype=np.int64)


def _stems(phrase: NDArray[np.int32], words: Words) -> set[str]:
    return {stem(part) for word in phrase if word > 0 for part in words.text(int(word)).split("-")}


def _compose(
    incidence: NDArray[np.bool_], strength: NDArray[np.float64], lengths: NDArray[np.int64]
) -> tuple[list[int], NDArray[np.bool_]]:
    """Take the best phrase, then up to two that name documents which it does not."""
    label = [0]
    covered = incidence[:, 0].copy()
    while len(label) < _MAX_PHRASES_IN_LABEL and covered.mean() < 0.8:
        gains = (incidence & ~covered[:, None]).mean(axis=0) * np.sqrt(strength / strength[0])
        gains[(strength < 0.3 * strength[0]) | (lengths[label].sum() + lengths > _MAX_WORDS_IN_LABEL)] = 0.0
        best = int(np.argmax(gains))
        if gains[best] < 0.08:
            break
        label.append(best)
        covered |= incidence[:, best]
    return label, covered


def _joined(
    terms: Terms, columns: NDArray[np.int32], shares: NDArray[np.float32], picked: tuple[int, ...]
) -> tuple[int, ...] | None:
    """Return the phrase in which the cluster itself joins the two words of a label: "lost my card" for "card, lost"."""
    named = terms.words[list(picked)]
    if len(picked) != 2 or (named > 0).sum() != 2:
        return None
    candidates = terms.words[columns]
    last = candidates[np.arange(len(columns)), (candidates > 0).sum(axis=1) - 1]
    first, second = int(named[0, 0]), int(named[1, 0])
    both = ((candidates[:, 0] == first) & (last == second)) | ((candidates[:, 0] == second) & (last == first))
    both &= shares >= _JOINED
    return (int(columns[both][np.argmax(shares[both])]),) if both.any() else None


def _outside(terms: Terms, table: _Table, row: int, phrases: Sequence[int]) -> float:
    """Return the share of all documents outside the cluster that have one of ``phrases``."""
    has = np.asarray(terms.documents[:, list(phrases)].sum(axis=1)).ravel() > 0
    found = np.array([has[members].mean() if len(members) else 0.0 for members in table.members])
    others = np.arange(len(table.sizes)) != row
    n_others = table.sizes[others].sum()
    return float((found * table.sizes)[others].sum() / n_others) if n_others else 0.0


def _sizes(membership: NDArray[np.int32]) -> dict[int, int]:
    clusters, counts = np.unique(membership, return_counts=True)
    return dict(zip(clusters.tolist(), counts.tolist(), strict=True))


def _listed(sizes: dict[int, int]) -> NDArray[np.int32]:
    return np.fromiter(sizes, np.int32, len(sizes))


def _sample(
    memberships: Sequence[NDArray[np.int32]], sizes: Sequence[dict[int, int]], *, limit: int, seed: int
) -> NDArray[np.bool_]:
    """Choose the documents to read: up to ``limit`` of each cluster of each layer, and as many per layer of none.

    One order of all documents serves all layers, so that the choices overlap.
    """
    n_documents = len(memberships[0]) if memberships else 0
    chosen = np.zeros(n_documents, dtype=np.bool_)
    limit = max(20, min(limit, _MAX_DOCUMENTS // max(len(sizes[0]) if sizes else 1, 1)))
    shuffled = np.random.default_rng(seed).permutation(n_documents)
    for membership in memberships:
        clusters = membership[shuffled]
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
    chosen: list[_Choice], terms: Terms, forms: NDArray[np.int32], starts: NDArray[np.int64], words: Words
) -> list[ClusterLabel]:
    """Spell the chosen phrases as the corpus does."""
    columns = sorted({column for choice in chosen for column in (*choice.keyphrases, *choice.phrases)})
    spelt = dict(zip(columns, map(words.write, find_forms(forms, starts, words, terms.words[columns])), strict=True))
    used: set[str] = set()
    labels: list[ClusterLabel] = []
    for choice in chosen:
        parts = [spelt[column] for column in choice.phrases]
        label = _capitalised(", ".join(parts)) if parts else f"Cluster {choice.cluster}"
        if label in used:
            label = (
                f"{label} ({choice.cluster})"
                if f"{label} ({choice.cluster})" not in used
                else (f"{label} ({choice.layer}.{choice.cluster})")
            )
        used.add(label)
        labels.append(
            ClusterLabel(
                layer=choice.layer,
                cluster=choice.cluster,
                label=label,
                keyphrases=[spelt[column] for column in choice.keyphrases],
                source="keyphrases" if parts else "none",
                coverage=choice.coverage,
                coverage_outside=choice.coverage_outside,
                documents_read=choice.documents_read,
            )
        )
    return labels


def _capitalised(label: str) -> str:
    """Begin with a capital, but leave "iPhone" and "libGL" as they are."""
    first = label.split(" ", 1)[0]
    return label[0].upper() + label[1:] if first == first.lower() else label
