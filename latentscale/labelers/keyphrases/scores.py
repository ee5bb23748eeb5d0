"""Score how well phrases describe a cluster."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from latentscale.labelers.keyphrases.shares import Layer
from latentscale.labelers.keyphrases.terms import Terms
from latentscale.labelers.keyphrases.words import Words

# Shares outside the cluster are not distinguished below this: in samples of a thousand they are due to chance.
_RARE = 0.003
# Share outside the cluster at which a phrase's worth is halved: it describes the corpus, not the cluster.
_COMMON = 0.1
# Factor for names of persons, which describe single texts.
_PERSON = 0.4


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidates:
    """Phrases of one cluster, best first.

    Attributes
    ----------
    columns : int64 ndarray, shape (n,)
        Columns of ``Terms``.
    scores : float64 ndarray, shape (n,)
        Score for the cluster.
    worth : float64 ndarray, shape (n,)
        Score per document with the phrase.
    shares, outside : float64 ndarray, shape (n,)
        Share of the cluster's documents with the phrase, and of all others.
    lengths : int64 ndarray, shape (n,)
        Lengths in words.
    leaning : bool ndarray, shape (n,)
        Whether it starts or ends with a word that is frequent everywhere, like stop words of any language.
    """

    columns: NDArray[np.int64]
    scores: NDArray[np.float64]
    worth: NDArray[np.float64]
    shares: NDArray[np.float64]
    outside: NDArray[np.float64]
    lengths: NDArray[np.int64]
    leaning: NDArray[np.bool_]


def find_candidates(terms: Terms, layer: Layer, row: int, words: Words, *, limit: int) -> Candidates:
    """Score the phrases of one cluster and return the ``limit`` best.

    The score is the share of the cluster's documents with the phrase, balanced over the finer clusters in it, times the
    information that the phrase provides about the cluster: its term of the Kullback-Leibler divergence. (Class-based
    TF-IDF alone ranks a phrase of 3 % of the members first if no other cluster has it.) Phrases that never occur early
    in a text count half, since titles and first sentences state the topic, and boilerplate comes last. The factors
    were chosen by reading the labels of four corpora.
    """
    columns, shares = _row(layer.shares, row)
    # Minimum share, so that a phrase is not from a few documents only.
    n_read = len(layer.members[row])
    is_frequent = shares >= (max(0.02, 2 / n_read) if n_read > 20 else 0.0)
    columns, shares = columns[is_frequent], shares[is_frequent]
    phrases = terms.words[columns]
    lengths = (phrases > 0).sum(axis=1)

    n_outside = max(layer.n_documents - int(layer.sizes[row]), 1)
    outside = np.clip((layer.total[columns] - layer.sizes[row] * shares) / n_outside, 0.0, 1.0)
    surprise = np.log(shares / np.maximum(outside, _RARE))
    worth = np.maximum(surprise, 1e-3) * layer.rarity[columns] ** 0.25 / (1.0 + outside / _COMMON)
    worth *= 0.5 + 0.5 * _at(layer.early, row, columns) / shares

    is_multiword = lengths > 1
    inside = phrases[:, 1:-1] if phrases.shape[1] > 2 else phrases[:, :0]
    has_connector = words.is_connector[inside].any(axis=1)
    last = phrases[np.arange(len(phrases)), lengths - 1]
    # Prefer multi-word phrases to single words, and names to descriptions.
    worth[is_multiword & ~has_connector] *= np.where(lengths[is_multiword & ~has_connector] == 2, 1.3, 1.15)
    persons = words.persons[phrases].any(axis=1)
    worth[words.named[phrases].any(axis=1) & ~persons] *= 1.25
    worth[persons] *= _PERSON
    worth[is_multiword & has_connector] *= 0.8
    worth[is_multiword & (words.weak[phrases[:, 0]] | words.weak[last])] *= 0.7
    worth[~is_multiword & words.is_participle[last]] *= 0.8
    leaning = _leaning(layer, row, phrases[:, 0], last, lengths, terms)
    worth[leaning] *= 0.3
    worth[_fragments(phrases, lengths, shares)] *= 0.6

    scores = _at(layer.spread, row, columns) * worth
    order = np.lexsort((columns, -scores))[:limit]
    return Candidates(
        columns=columns[order].astype(np.int64),
        scores=scores[order],
        worth=worth[order],
        shares=shares[order],
        outside=outside[order],
        lengths=lengths[order],
        leaning=leaning[order],
    )


def _row(matrix: Any, row: int) -> tuple[NDArray[np.int32], NDArray[np.float64]]:
    begin, end = matrix.indptr[row : row + 2]
    return matrix.indices[begin:end], matrix.data[begin:end].astype(np.float64)


def _at(matrix: Any, row: int, columns: NDArray[np.int32]) -> NDArray[np.float64]:
    """Return the values of one row at ``columns``; zero where absent."""
    present, values = _row(matrix, row)
    if len(present) == 0:
        return np.zeros(len(columns))
    nearest = np.minimum(np.searchsorted(present, columns), len(present) - 1)
    return np.where(present[nearest] == columns, values[nearest], 0.0)


def _leaning(
    layer: Layer,
    row: int,
    first: NDArray[np.int32],
    last: NDArray[np.int32],
    lengths: NDArray[np.int64],
    terms: Terms,
) -> NDArray[np.bool_]:
    frequent = layer.frequent
    inside = _at(layer.shares, row, frequent)
    common = terms.words[frequent[inside < 1.5 * layer.total[frequent] / layer.n_documents], 0]
    return (lengths > 1) & (np.isin(first, common) | np.isin(last, common))


def _fragments(
    phrases: NDArray[np.int32], lengths: NDArray[np.int64], shares: NDArray[np.float64]
) -> NDArray[np.int64]:
    """Return phrases that nearly always occur within a longer one, such as "programming language" after "Haskell".

    Phrases of maximum length are fragments if they nearly always overlap with the next one.
    """
    frequent = np.flatnonzero((lengths > 1) & (shares >= 0.1))
    share = {tuple(phrases[index, : lengths[index]].tolist()): float(shares[index]) for index in frequent.tolist()}
    longest = phrases.shape[1]
    # Share of the most frequent longer phrase that contains each phrase; for maximum length, of one that overlaps it.
    container_shares: dict[tuple[int, ...], float] = {}
    shares_by_start: dict[tuple[int, ...], float] = {}
    shares_by_end: dict[tuple[int, ...], float] = {}
    for phrase, value in share.items():
        for part in (phrase[:-1], phrase[1:]):
            container_shares[part] = max(container_shares.get(part, 0.0), value)
        if len(phrase) == longest:
            shares_by_start[phrase[:-1]] = max(shares_by_start.get(phrase[:-1], 0.0), value)
            shares_by_end[phrase[1:]] = max(shares_by_end.get(phrase[1:], 0.0), value)
    fragments: list[int] = []
    for index in frequent.tolist():
        phrase = tuple(phrases[index, : lengths[index]].tolist())
        if len(phrase) < longest:
            container = container_shares.get(phrase, 0.0)
        else:
            container = max(shares_by_start.get(phrase[1:], 0.0), shares_by_end.get(phrase[:-1], 0.0))
        if container >= 0.85 * share[phrase]:
            fragments.append(index)
    return np.array(fragments, dtype=np.int64)
