"""Make a label of the best phrases of a cluster, so that together they speak of most of its documents."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from latentscale.labelers.scores import Candidates
from latentscale.labelers.terms import Terms
from latentscale.labelers.words import Words, alike, stem

_MAX_PHRASES = 3
_MAX_WORDS = 5
# What a second phrase on the same document is worth.
_AGAIN = 0.35
# A word stands alone as a label if it is so many times likelier inside the cluster than outside...
_TELLING = 60.0
# ...and in so large a share of it.
_COVERING = 0.75
# Gain, as a share of what the first phrase is worth, below which a phrase is not added.
_WORTHWHILE = 0.12
# Share of the documents with both words of a label in which a phrase must join them to stand for the two.
_JOINED = 0.15


def distinct_phrases(
    candidates: Candidates, terms: Terms, words: Words, *, limit: int
) -> tuple[list[int], list[frozenset[str]]]:
    """Return the best candidates that share no word with a better one, not even a form of it, and their stems."""
    kept: list[int] = []
    stems: list[frozenset[str]] = []
    seen: list[str] = []
    for at, column in enumerate(candidates.columns.tolist()):
        found = frozenset(
            stem(part) for word in terms.words[column] if word > 0 for part in words.text(int(word)).split("-") if part
        )
        if any(alike(new, old) for new in found for old in seen):
            continue
        kept.append(at)
        stems.append(found)
        seen.extend(found)
        if len(kept) == limit:
            break
    return kept, stems


def choose_phrases(
    incidence: NDArray[np.bool_],
    groups: NDArray[np.int64],
    weights: NDArray[np.float64],
    worth: NDArray[np.float64],
    lift: NDArray[np.float64],
    lengths: NDArray[np.int64],
) -> list[int]:
    """Choose up to three phrases, greedily by what each adds.

    Parameters
    ----------
    incidence : bool ndarray, shape (n_documents, n_phrases)
        Which documents have which phrase; the best phrase first.
    groups : int64 ndarray, shape (n_documents,)
        Finer cluster of each document, from 0 on. Gains are balanced over them as the scores are (see ``Layer.spread``),
        so that a label speaks of several rather than of one.
    weights : float64 ndarray, shape (n_documents,)
        For how many documents each stands.
    worth, lift : float64 ndarray, shape (n_phrases,)
        Worth per document, and how many times likelier the phrase is inside the cluster than outside.
    lengths : int64 ndarray, shape (n_phrases,)
        In words.

    Returns
    -------
    list of int
        Phrases, in the order of choice.
    """
    weights = weights / weights.sum()
    portions = np.bincount(groups, weights=weights)
    averaging = np.zeros((len(portions), len(groups)))
    averaging[groups, np.arange(len(groups))] = weights / portions[groups]

    def balanced(described: NDArray[np.float64]) -> NDArray[np.float64]:
        return (portions @ np.sqrt(averaging @ described)) ** 2

    has = incidence.astype(np.float64)
    label = [int(np.argmax(np.round(balanced(has) * worth, 9)))]
    first = float(balanced(has[:, label])[0] * worth[label[0]])
    while len(label) < _MAX_PHRASES:
        matched = has[:, label].sum(axis=1)
        covered = float(weights @ (matched > 0))
        telling = lengths[label[0]] > 1 or lift[label[0]] >= _TELLING
        if covered >= _COVERING and (telling or len(label) > 1):
            break
        before = np.where(matched > 0, 1.0 + _AGAIN * (matched - 1), 0.0)
        after = before[:, None] + has * np.where(matched > 0, _AGAIN, 1.0)[:, None]
        gains = (balanced(after) - balanced(before[:, None])) * worth
        gains[label] = 0.0
        gains[lengths[label].sum() + lengths > _MAX_WORDS] = 0.0
        best = int(np.argmax(np.round(gains, 9)))
        if gains[best] < _WORTHWHILE * first:
            break
        label.append(best)
    return label


def joining_phrase(
    candidates: Iterable[int], shares: NDArray[np.float64], terms: Terms, pair: tuple[int, ...], both: float
) -> int | None:
    """Return the phrase in which the cluster itself joins two words: "lost my card" for "card, lost".

    Parameters
    ----------
    candidates : iterable of int
        Columns of ``terms``.
    shares : float64 ndarray
        Share of the cluster's documents that has each.
    pair : tuple of int
        Columns of the phrases of the label.
    both : float
        Share of the cluster's documents that have both.
    """
    named = terms.words[list(pair)]
    if len(pair) != 2 or (named > 0).sum() != 2:
        return None
    ends = {int(named[0, 0]), int(named[1, 0])}
    columns = np.fromiter(candidates, np.int64)
    phrases = terms.words[columns]
    lengths = (phrases > 0).sum(axis=1)
    last = phrases[np.arange(len(columns)), lengths - 1]
    joins = np.isin(phrases[:, 0], list(ends)) & np.isin(last, list(ends)) & (lengths > 1)
    joins &= shares >= max(_JOINED * both, 0.03)
    return int(columns[joins][np.argmax(shares[joins])]) if joins.any() else None
