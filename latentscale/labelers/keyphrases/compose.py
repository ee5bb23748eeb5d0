"""Make a label of the best phrases of a cluster, so that together they speak of most of its documents."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from latentscale.labelers.keyphrases.scores import Candidates
from latentscale.labelers.keyphrases.terms import Terms
from latentscale.labelers.keyphrases.words import Stems, Words, are_near_synonyms

_MAX_PHRASES = 3
_MAX_WORDS = 5
# Weight of a further phrase on the same document; lower in coarser layers, which have more to describe.
_REPEAT_WEIGHT = 0.35
_REPEAT_WEIGHT_COARSER = 0.15
# A single word is a label if its lift is at least this...
_STANDALONE_LIFT = 60.0
# ...and this share of the cluster's documents have it.
_COVERING = 0.75
# Smallest gain, relative to the first phrase, and smallest share of its documents, for adding a phrase.
_WORTHWHILE, _MINOR = 0.12, 0.2
# Smallest gain for a second phrase if the first is a single word that is no label by itself: "declined", "phone".
_WORTHWHILE_FOR_ONE = 0.03
# Smallest share and lift of a companion of a single word: "transfer from Europe" for "Europe".
_COMPANION, _COMPANION_LIFT = 0.5, 4.0
# Names of persons in fewer of the cluster's documents are downweighted by these: share, and weight.
_PERSON_SHARE, _RARE_PERSON_WEIGHT = 0.5, 0.1
# A phrase replaces a word if it contains it in this share of the word's documents; more for standalone words.
_MIN_HOLDING = 0.35
_MIN_HOLDING_STANDALONE = 0.4
# Share of the documents with both words of a label in which a phrase must join them to replace the two.
_MIN_JOINED = 0.08


def distinct_phrases(candidates: Candidates, terms: Terms, words: Words, *, limit: int) -> list[int]:
    """Return the best candidates that share no word or form of a word with a better one."""
    selected: list[int] = []
    seen = Stems()
    for index, phrase in enumerate(terms.words[candidates.columns]):
        stems = phrase_stems(phrase, words)
        if any(stem in seen for stem in stems):
            continue
        selected.append(index)
        seen.add(stems)
        if len(selected) == limit:
            break
    return selected


def phrase_stems(phrase: NDArray[np.int32], words: Words) -> frozenset[str]:
    """Return the stems of a phrase: of its words, of their parts, and of "topup" for "top-up"."""
    return frozenset[str]().union(*map(words.stems, phrase.tolist()))


def choose_phrases(
    incidence: NDArray[np.bool_],
    groups: NDArray[np.int64],
    weights: NDArray[np.float64],
    worth: NDArray[np.float64],
    standalone: NDArray[np.bool_],
    specific: NDArray[np.bool_],
    persons: NDArray[np.bool_],
    lengths: NDArray[np.int64],
) -> list[int]:
    """Choose up to three phrases greedily, by marginal gain.

    Parameters
    ----------
    incidence : bool ndarray, shape (n_documents, n_phrases)
        Which documents have which phrase; best phrase first.
    groups : int64 ndarray, shape (n_documents,)
        Finer cluster of each document, from 0. Gains are balanced over them as in ``Layer.spread``, so that a label
        describes several of them.
    weights : float64 ndarray, shape (n_documents,)
        Number of documents that each represents.
    worth : float64 ndarray, shape (n_phrases,)
        Worth per document.
    standalone : bool ndarray, shape (n_phrases,)
        Phrases that can be a label by themselves, see :func:`standalone_phrases`.
    specific : bool ndarray, shape (n_phrases,)
        Phrases that can be the companion of a standalone word, see :func:`specific_phrases`.
    persons : bool ndarray, shape (n_phrases,)
        Names of persons: they are no companions, and start a label only if most documents have them.
    lengths : int64 ndarray, shape (n_phrases,)
        Lengths in words.

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

    repeat_weight = _REPEAT_WEIGHT if len(portions) == 1 else _REPEAT_WEIGHT_COARSER
    occurs = incidence.astype(np.float64)
    shares = weights @ occurs
    first_worth = np.where(persons & (shares < _PERSON_SHARE), _RARE_PERSON_WEIGHT * worth, worth)
    label = [int(np.argmax(np.round(balanced(occurs) * first_worth, 9)))]
    first = float(balanced(occurs[:, label])[0] * worth[label[0]])
    while len(label) < _MAX_PHRASES:
        matched = occurs[:, label].sum(axis=1)
        covered = float(weights @ (matched > 0))
        is_standalone_word = len(label) == 1 and lengths[label[0]] == 1 and standalone[label[0]]
        if covered >= _COVERING and not is_standalone_word and (standalone[label[0]] or len(label) > 1):
            break
        before = np.where(matched > 0, 1.0 + repeat_weight * (matched - 1), 0.0)
        after = before[:, None] + occurs * np.where(matched > 0, repeat_weight, 1.0)[:, None]
        gains = (balanced(after) - balanced(before[:, None])) * worth
        gains[label] = 0.0
        gains[persons] = 0.0
        gains[shares < _MINOR * shares[label[0]]] = 0.0
        gains[lengths[label].sum() + lengths > _MAX_WORDS] = 0.0
        if is_standalone_word and covered >= _COVERING:
            gains[~specific | (shares < _COMPANION)] = 0.0
            best = int(np.argmax(np.round(gains, 9)))
            return [*label, best] if gains[best] > 0 else label
        best = int(np.argmax(np.round(gains, 9)))
        if gains[best] < (_WORTHWHILE_FOR_ONE if len(label) == 1 and not standalone[label[0]] else _WORTHWHILE) * first:
            break
        label.append(best)
    return label


def standalone_phrases(candidates: Candidates, terms: Terms, words: Words) -> NDArray[np.bool_]:
    """Whether each phrase can be a label by itself: several words, or one with a high lift that is no participle."""
    lift = candidates.shares / np.maximum(candidates.outside, 1e-9)
    return (candidates.lengths > 1) | (
        (lift >= _STANDALONE_LIFT) & ~words.is_participle[terms.words[candidates.columns, 0]]
    )


def specific_phrases(candidates: Candidates, terms: Terms, words: Words) -> NDArray[np.bool_]:
    """Whether each phrase can be the companion of a standalone word: a high lift, and no abbreviation."""
    short = np.array([len(words.text(int(word))) < 3 for word in terms.words[candidates.columns, 0]], dtype=np.bool_)
    return (candidates.shares >= _COMPANION_LIFT * candidates.outside) & ~(short & (candidates.lengths == 1))


def is_enough(candidates: Candidates, terms: Terms, words: Words, column: int) -> bool:
    """Whether a phrase, a column of ``terms``, is a sufficient label: standalone, and in most of the documents."""
    index = int(np.flatnonzero(candidates.columns == column)[0])
    return bool(standalone_phrases(candidates, terms, words)[index] and candidates.shares[index] >= _COVERING)


def joining_phrase(
    candidates: Candidates, terms: Terms, words: Words, pair: tuple[int, ...], both: float
) -> int | None:
    """Return the phrase in which the cluster itself joins two words: "lost my card" for "card, lost".

    Parameters
    ----------
    pair : tuple of int
        Columns of the phrases of the label.
    both : float
        Share of the cluster's documents that have both.
    """
    label_phrases = terms.words[list(pair)]
    if len(pair) != 2 or (label_phrases > 0).sum() != 2:
        return None
    ends = {int(label_phrases[0, 0]), int(label_phrases[1, 0])}
    phrases = terms.words[candidates.columns]
    last = phrases[np.arange(len(phrases)), candidates.lengths - 1]
    joins = np.isin(phrases[:, 0], list(ends)) & np.isin(last, list(ends)) & (candidates.lengths > 1)
    joins &= ~words.persons[phrases].any(axis=1)
    joins &= candidates.shares >= max(_MIN_JOINED * both, 0.03)
    return int(candidates.columns[joins][np.argmax(candidates.shares[joins])]) if joins.any() else None


def holding_phrase(candidates: Candidates, terms: Terms, words: Words, label: tuple[int, ...]) -> int | None:
    """Return the phrase that mostly contains the first word of a label: "activate my card" for "activate".

    None for names. No word of the phrase may be similar to the rest of ``label``, which has columns of ``terms``.
    """
    (first, *padding), rest = terms.words[label[0]].tolist(), terms.words[list(label[1:])]
    if any(padding) or words.named[first]:
        return None
    phrases = terms.words[candidates.columns]
    first_index = int(np.flatnonzero(candidates.columns == label[0])[0])
    share = candidates.shares[first_index]
    min_share = _MIN_HOLDING_STANDALONE if standalone_phrases(candidates, terms, words)[first_index] else _MIN_HOLDING
    holds = (phrases == first).any(axis=1) & (candidates.lengths > 1) & ~candidates.leaning
    holds &= ~words.persons[phrases].any(axis=1)
    holds &= (candidates.lengths <= _MAX_WORDS - (rest > 0).sum()) & (candidates.shares >= min_share * share)
    others = [other for phrase in rest for other in phrase_stems(phrase, words)]
    for index in np.flatnonzero(holds)[np.argsort(-candidates.shares[holds], kind="stable")].tolist():
        if not any(are_near_synonyms(stem, other) for stem in phrase_stems(phrases[index], words) for other in others):
            return int(candidates.columns[index])
    return None
