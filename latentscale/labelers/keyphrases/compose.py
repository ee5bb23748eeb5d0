"""Make a label of the best phrases of a cluster, so that together they speak of most of its documents."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from latentscale.labelers.keyphrases.scores import Candidates
from latentscale.labelers.keyphrases.terms import Terms
from latentscale.labelers.keyphrases.words import Stems, Words, alike

_MAX_PHRASES = 3
_MAX_WORDS = 5
# What a second phrase on the same document is worth; less in coarser layers, where there is more to speak of.
_AGAIN = 0.35
_AGAIN_COARSER = 0.15
# A word stands alone as a label if it is so many times likelier inside the cluster than outside...
_TELLING = 60.0
# ...and in so large a share of it.
_COVERING = 0.75
# Gain, as a share of what the first phrase is worth, and share of its documents, below which a phrase is not added.
_WORTHWHILE, _MINOR = 0.12, 0.2
# The same for the second phrase of a label that would be one word which says little alone: "declined", "phone".
_WORTHWHILE_FOR_ONE = 0.03
# A telling word gets a companion that so large a share of the cluster has, and so many times that of the others:
# "transfer from Europe" for "Europe".
_COMPANION, _APART = 0.5, 4.0
# A person's name that fewer of the cluster's documents have is worth so much less as a label: it is of some of them.
_OF_A_PERSON, _OF_FEW = 0.5, 0.1
# Share of the documents with a word in which a phrase must hold it to replace the word; more if the word is telling.
_HELD = 0.35
_HELD_TELLING = 0.4
# Share of the documents with both words of a label in which a phrase must join them to replace the two.
_JOINED = 0.08


def distinct_phrases(candidates: Candidates, terms: Terms, words: Words, *, limit: int) -> list[int]:
    """Return the best candidates that share no word with a better one, not even a form of it."""
    kept: list[int] = []
    seen = Stems()
    for at, phrase in enumerate(terms.words[candidates.columns]):
        found = phrase_stems(phrase, words)
        if any(new in seen for new in found):
            continue
        kept.append(at)
        seen.add(found)
        if len(kept) == limit:
            break
    return kept


def phrase_stems(phrase: NDArray[np.int32], words: Words) -> frozenset[str]:
    """Return the stems of a phrase: of its words, of their parts, and of "topup" for "top-up"."""
    return frozenset[str]().union(*map(words.stems, phrase.tolist()))


def choose_phrases(
    incidence: NDArray[np.bool_],
    groups: NDArray[np.int64],
    weights: NDArray[np.float64],
    worth: NDArray[np.float64],
    telling: NDArray[np.bool_],
    apart: NDArray[np.bool_],
    persons: NDArray[np.bool_],
    lengths: NDArray[np.int64],
) -> list[int]:
    """Choose up to three phrases, greedily by what each adds.

    Parameters
    ----------
    incidence : bool ndarray, shape (n_documents, n_phrases)
        Which documents have which phrase; the best phrase first.
    groups : int64 ndarray, shape (n_documents,)
        Finer cluster of each document, from 0 on. Gains are balanced over them as in
        ``Layer.spread``, so that a label speaks of several rather than of one.
    weights : float64 ndarray, shape (n_documents,)
        For how many documents each stands.
    worth : float64 ndarray, shape (n_phrases,)
        Worth per document.
    telling : bool ndarray, shape (n_phrases,)
        Which may be the label by themselves, see ``telling_phrases``.
    apart : bool ndarray, shape (n_phrases,)
        Which are so much rarer outside that they may stand beside a single word that is telling.
    persons : bool ndarray, shape (n_phrases,)
        Which are names of persons: they are added to no other phrase, and begin a label only where most documents have
        them.
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
        return np.square(portions @ np.sqrt(averaging @ described))

    again = _AGAIN if len(portions) == 1 else _AGAIN_COARSER
    has = incidence.astype(np.float64)
    shares = weights @ has
    first_worth = np.where(persons & (shares < _OF_A_PERSON), _OF_FEW * worth, worth)
    label = [int(np.argmax(np.round(balanced(has) * first_worth, 9)))]
    first = float(balanced(has[:, label])[0] * worth[label[0]])
    while len(label) < _MAX_PHRASES:
        matched = has[:, label].sum(axis=1)
        covered = float(weights @ (matched > 0))
        alone = len(label) == 1 and lengths[label[0]] == 1 and telling[label[0]]
        if covered >= _COVERING and not alone and (telling[label[0]] or len(label) > 1):
            break
        before = np.where(matched > 0, 1.0 + again * (matched - 1), 0.0)
        after = before[:, None] + has * np.where(matched > 0, again, 1.0)[:, None]
        gains = (balanced(after) - balanced(before[:, None])) * worth
        gains[label] = 0.0
        gains[persons] = 0.0
        gains[shares < _MINOR * shares[label[0]]] = 0.0
        gains[lengths[label].sum() + lengths > _MAX_WORDS] = 0.0
        if alone and covered >= _COVERING:
            gains[~apart | (shares < _COMPANION)] = 0.0
            best = int(np.argmax(np.round(gains, 9)))
            return [*label, best] if gains[best] > 0 else label
        best = int(np.argmax(np.round(gains, 9)))
        if gains[best] < (_WORTHWHILE_FOR_ONE if len(label) == 1 and not telling[label[0]] else _WORTHWHILE) * first:
            break
        label.append(best)
    return label


def telling_phrases(found: Candidates, terms: Terms, words: Words) -> NDArray[np.bool_]:
    """Whether a phrase alone is a label: several words, or one that is no participle and rare outside the cluster."""
    lift = found.shares / np.maximum(found.outside, 1e-9)
    return (found.lengths > 1) | ((lift >= _TELLING) & ~words.verbal[terms.words[found.columns, 0]])


def specific_phrases(found: Candidates, terms: Terms, words: Words) -> NDArray[np.bool_]:
    """Whether a phrase may stand beside a telling word: so much rarer outside, and more than an abbreviation."""
    short = np.array([len(words.text(int(word))) < 3 for word in terms.words[found.columns, 0]], dtype=np.bool_)
    return (found.shares >= _APART * found.outside) & ~(short & (found.lengths == 1))


def is_enough(found: Candidates, terms: Terms, words: Words, column: int) -> bool:
    """Whether a phrase, given as a column of ``terms``, is telling and stands in most of the cluster's documents."""
    at = int(np.flatnonzero(found.columns == column)[0])
    return bool(telling_phrases(found, terms, words)[at] and found.shares[at] >= _COVERING)


def joining_phrase(found: Candidates, terms: Terms, words: Words, pair: tuple[int, ...], both: float) -> int | None:
    """Return the phrase in which the cluster itself joins two words: "lost my card" for "card, lost".

    Parameters
    ----------
    pair : tuple of int
        Columns of the phrases of the label.
    both : float
        Share of the cluster's documents that have both.
    """
    named = terms.words[list(pair)]
    if len(pair) != 2 or (named > 0).sum() != 2:
        return None
    ends = {int(named[0, 0]), int(named[1, 0])}
    phrases = terms.words[found.columns]
    last = phrases[np.arange(len(phrases)), found.lengths - 1]
    joins = np.isin(phrases[:, 0], list(ends)) & np.isin(last, list(ends)) & (found.lengths > 1)
    joins &= ~words.persons[phrases].any(axis=1)
    joins &= found.shares >= max(_JOINED * both, 0.03)
    return int(found.columns[joins][np.argmax(found.shares[joins])]) if joins.any() else None


def holding_phrase(found: Candidates, terms: Terms, words: Words, label: tuple[int, ...]) -> int | None:
    """Return the phrase that the first word of a label mostly stands in: "activate my card" for "activate".

    Names stand by themselves, and no word of the phrase may be like one of the rest of ``label``, columns of ``terms``.
    """
    (first, *padding), rest = terms.words[label[0]].tolist(), terms.words[list(label[1:])]
    if any(padding) or words.named[first]:
        return None
    phrases = terms.words[found.columns]
    at_first = int(np.flatnonzero(found.columns == label[0])[0])
    share = found.shares[at_first]
    part = _HELD_TELLING if telling_phrases(found, terms, words)[at_first] else _HELD
    holds = (phrases == first).any(axis=1) & (found.lengths > 1) & ~found.leaning
    holds &= ~words.persons[phrases].any(axis=1)
    holds &= (found.lengths <= _MAX_WORDS - (rest > 0).sum()) & (found.shares >= part * share)
    others = [old for phrase in rest for old in phrase_stems(phrase, words)]
    for at in np.flatnonzero(holds)[np.argsort(-found.shares[holds], kind="stable")].tolist():
        if not any(alike(new, old) for new in phrase_stems(phrases[at], words) for old in others):
            return int(found.columns[at])
    return None
