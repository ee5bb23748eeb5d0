"""Judge which phrases tell a reader what is in a cluster."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from latentscale.labelers.keyphrases.shares import Layer
from latentscale.labelers.keyphrases.terms import Terms
from latentscale.labelers.keyphrases.words import Words

# A share outside the cluster below which a phrase is no rarer for us: chance, in samples of a thousand.
_RARE = 0.003
# Share outside the cluster at which a phrase is worth half: it is what the corpus is about, not the cluster.
_COMMON = 0.1
# What a person's name is worth: it tells of one text among many, not what they are about.
_PERSON = 0.4


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidates:
    """Phrases of one cluster, best first.

    Attributes
    ----------
    columns : int64 ndarray, shape (n,)
        Which phrases, as columns of ``Terms``.
    scores : float64 ndarray, shape (n,)
        Worth of each for the cluster.
    worth : float64 ndarray, shape (n,)
        The same per document that has it.
    shares, outside : float64 ndarray, shape (n,)
        Share of the cluster's documents that have it, and of all others.
    lengths : int64 ndarray, shape (n,)
        In words.
    leaning : bool ndarray, shape (n,)
        Whether it begins or ends with a word that is frequent everywhere: the stop words of any language.
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

    The score is the share of the cluster's documents that have the phrase, balanced over the finer clusters in it,
    times the information that the phrase gives on the cluster: its term of the Kullback-Leibler divergence.
    (Class-based TF-IDF alone puts a phrase of three members in a hundred first, if only no other cluster has it.) A
    phrase that is never early in a text counts half: titles and first sentences say what it is about, boilerplate ends
    it. The factors were chosen by reading the labels of four corpora.
    """
    columns, shares = _row(layer.shares, row)
    # Documents that the cluster must have with a phrase, so that it does not come from a few of them.
    n_read = len(layer.members[row])
    enough = shares >= (max(0.02, 2 / n_read) if n_read > 20 else 0.0)
    columns, shares = columns[enough], shares[enough]
    phrases = terms.words[columns]
    lengths = (phrases > 0).sum(axis=1)

    n_outside = max(layer.n_documents - int(layer.sizes[row]), 1)
    outside = np.clip((layer.total[columns] - layer.sizes[row] * shares) / n_outside, 0.0, 1.0)
    surprise = np.log(shares / np.maximum(outside, _RARE))
    worth = np.maximum(surprise, 1e-3) * layer.rarity[columns] ** 0.25 / (1.0 + outside / _COMMON)
    worth *= 0.5 + 0.5 * _at(layer.early, row, columns) / shares

    several = lengths > 1
    inner = phrases[:, 1:-1] if phrases.shape[1] > 2 else phrases[:, :0]
    links = words.connects[inner].any(axis=1)
    last = phrases[np.arange(len(phrases)), lengths - 1]
    # Between phrases of equal worth: two words say more than one, and a name more than a description.
    worth[several & ~links] *= np.where(lengths[several & ~links] == 2, 1.3, 1.15)
    persons = words.persons[phrases].any(axis=1)
    worth[words.named[phrases].any(axis=1) & ~persons] *= 1.25
    worth[persons] *= _PERSON
    worth[several & links] *= 0.8
    worth[several & (words.weak[phrases[:, 0]] | words.weak[last])] *= 0.7
    worth[~several & words.verbal[last]] *= 0.8
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
    """Return the values of one row at ``columns``; zero where there is none."""
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
    """Return the phrases that nearly always stand in a longer one: "programming language" where "Haskell" precedes it.

    Of the longest phrases counted, those are fragments that run on into another one.
    """
    frequent = np.flatnonzero((lengths > 1) & (shares >= 0.1))
    share = {tuple(phrases[at, : lengths[at]].tolist()): float(shares[at]) for at in frequent.tolist()}
    longest = phrases.shape[1]
    # Of each phrase, the most frequent longer one that it is in; of a longest one, that it runs on into.
    whole: dict[tuple[int, ...], float] = {}
    begins: dict[tuple[int, ...], float] = {}
    ends: dict[tuple[int, ...], float] = {}
    for phrase, value in share.items():
        for part in (phrase[:-1], phrase[1:]):
            whole[part] = max(whole.get(part, 0.0), value)
        if len(phrase) == longest:
            begins[phrase[:-1]] = max(begins.get(phrase[:-1], 0.0), value)
            ends[phrase[1:]] = max(ends.get(phrase[1:], 0.0), value)
    found: list[int] = []
    for at in frequent.tolist():
        phrase = tuple(phrases[at, : lengths[at]].tolist())
        if len(phrase) < longest:
            container = whole.get(phrase, 0.0)
        else:
            container = max(begins.get(phrase[1:], 0.0), ends.get(phrase[:-1], 0.0))
        if container >= 0.85 * share[phrase]:
            found.append(at)
    return np.array(found, dtype=np.int64)
