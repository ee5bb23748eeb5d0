"""Count which words and phrases are in which documents, with sorted integer keys instead of strings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from latentscale.labelers.keyphrases.words import BREAK, Words

EARLY = 25
"""Words and signs at the beginning of a text, where its title is or its first sentence."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """The phrases of a sample of documents.

    Attributes
    ----------
    words : int32 ndarray, shape (n_terms, longest phrase)
        Word ids of each phrase, 0 after its end.
    documents : scipy CSR matrix, shape (n_documents, n_terms), float32
        1 where a document has the phrase.
    early : scipy CSR matrix, shape (n_documents, n_terms), float32
        1 where it is among the first ``EARLY`` words and signs of the document.
    """

    words: NDArray[np.int32]
    documents: Any
    early: Any


def count_terms(
    forms: NDArray[np.int32],
    starts: NDArray[np.int64],
    words: Words,
    *,
    ngram_range: tuple[int, int],
    min_documents: int,
) -> Terms:
    """Find all phrases of ``ngram_range`` words that ``min_documents`` documents have.

    A phrase begins and ends with a word that may carry one, has no punctuation in it, and is made of words that are
    themselves in ``min_documents`` documents.

    Parameters
    ----------
    forms : int32 ndarray, shape (n_tokens,)
        The written forms of all documents, one after the other.
    starts : int64 ndarray, shape (n_documents + 1,)
        Where each document begins in ``forms``.
    """
    from scipy.sparse import csr_matrix

    n_documents = len(starts) - 1
    stream = words.of_form[forms]
    owner = np.repeat(np.arange(n_documents, dtype=np.int32), np.diff(starts))

    # Words in too few documents end a phrase just as punctuation does; the others get small ids, so that keys fit.
    frequency = _documents_with(owner, stream, len(words.carries))
    kept = frequency >= min_documents
    kept[BREAK] = False
    small = np.zeros(len(kept), dtype=np.int64)
    small[kept] = np.arange(1, int(kept.sum()) + 1)
    large = np.concatenate([[0], np.flatnonzero(kept)]).astype(np.int32)
    stream = small[stream]
    base = len(large)
    if base ** ngram_range[1] >= 2**62:
        raise OverflowError(f"{base:,} words are too many for phrases of {ngram_range[1]}")
    carries, stands, joins = words.carries[large], words.stands[large], words.joins[large]

    rows: list[NDArray[np.int32]] = []
    columns: list[NDArray[np.int64]] = []
    early: list[NDArray[np.bool_]] = []
    names: list[NDArray[np.int32]] = []
    offset = 0
    for length in range(ngram_range[0], ngram_range[1] + 1):
        positions = _phrases(stream, owner, length, edge=stands if length == 1 else carries, inside=joins)
        keys = _keys(stream, positions, base, length)
        documents, keys, first = _distinct(owner[positions], keys, positions)
        terms, inverse, counts = np.unique(keys, return_inverse=True, return_counts=True)
        frequent = counts >= min_documents
        number = np.cumsum(frequent) - 1 + offset
        of_pair = frequent[inverse]
        rows.append(documents[of_pair])
        columns.append(number[inverse[of_pair]])
        early.append((first - starts[documents] < EARLY)[of_pair])
        names.append(_spell(terms[frequent], length, base, large, width=ngram_range[1]))
        offset += int(frequent.sum())
    row, column, soon = np.concatenate(rows), np.concatenate(columns).astype(np.int32), np.concatenate(early)

    def matrix(row: NDArray[np.int32], column: NDArray[np.int32]) -> Any:
        return csr_matrix((np.ones(len(row), dtype=np.float32), (row, column)), shape=(n_documents, offset))

    return Terms(words=np.concatenate(names), documents=matrix(row, column), early=matrix(row[soon], column[soon]))


def documents_inside(forms: NDArray[np.int32], starts: NDArray[np.int64], names: Sequence[str]) -> NDArray[np.int64]:
    """Count the documents that have each form elsewhere than where a sentence or title begins.

    Parameters
    ----------
    names : sequence of str
        The written forms by their ids.

    Returns
    -------
    int64 ndarray, shape (n_forms,)
    """
    sign = np.array([not (name and (name[0].isalnum() or name[0] == "_")) for name in names])
    inside = ~sign[forms]
    inside[1:] &= ~sign[forms[:-1]]
    inside[starts[:-1][starts[:-1] < len(forms)]] = False
    owner = np.repeat(np.arange(len(starts) - 1, dtype=np.int32), np.diff(starts))
    return _documents_with(owner[inside], forms[inside], len(names))


def _documents_with(owner: NDArray[np.int32], stream: NDArray[Any], n: int) -> NDArray[np.int64]:
    """Return in how many documents each of ``n`` ids is."""
    pairs = owner.astype(np.int64) * n + stream
    pairs.sort()
    first = np.ones(len(pairs), dtype=np.bool_)
    first[1:] = pairs[1:] != pairs[:-1]
    return np.bincount(pairs[first] % n, minlength=n)


def find_forms(
    forms: NDArray[np.int32], starts: NDArray[np.int64], words: Words, phrases: NDArray[np.int32]
) -> list[list[int]]:
    """Return, for each phrase (word ids, 0 after its end), the written forms in which it is met most often.

    Raises
    ------
    KeyError
        If a phrase is nowhere in ``forms``.
    """
    stream = words.of_form[forms]
    owner = np.repeat(np.arange(len(starts) - 1, dtype=np.int32), np.diff(starts))
    # Words of other phrases are looked at no further: one of them stays behind each run of these, as a break.
    named = np.zeros(int(words.of_form.max(initial=0)) + 1, dtype=np.bool_)
    named[phrases] = True
    named[BREAK] = False
    near = named[stream]
    near[1:] |= near[:-1]
    small = np.where(named, np.cumsum(named), BREAK)
    forms, stream, owner = forms[near], small[stream[near]], owner[near]
    variants, variant = _variants(small[words.of_form], words.folded)
    everything = np.ones(len(variants), dtype=np.bool_)
    most = max(map(len, variants))
    lengths = (phrases != BREAK).sum(axis=1)
    result: list[list[int]] = [[] for _ in phrases]
    for length in np.unique(lengths).tolist():
        rows = np.flatnonzero(lengths == length)
        wanted = small[phrases[rows, :length]]
        own = _keys(wanted.ravel(), np.arange(len(rows)) * length, len(everything), length)
        order = np.argsort(own)
        positions = _phrases(stream, owner, length, edge=everything, inside=everything)
        keys = _keys(stream, positions, len(everything), length)
        at = np.minimum(np.searchsorted(own, keys, sorter=order), len(own) - 1)
        same = own[order[at]] == keys
        positions, at = positions[same], order[at[same]]
        spelt = at.astype(np.int64)
        for step in range(length):
            spelt = spelt * most + variant[forms[positions + step]]
        both, counts = np.unique(spelt, return_counts=True)
        # The most frequent is written last, and stays.
        for spelling in both[np.argsort(counts, kind="stable")].tolist():
            written: list[int] = []
            for _ in range(length):
                spelling, chosen = divmod(spelling, most)
                written.append(chosen)
            found = wanted[spelling].tolist()
            result[rows[spelling]] = [variants[word][one] for word, one in zip(found, written[::-1], strict=True)]
    if not all(result):
        raise KeyError("a phrase is nowhere in the texts")
    return result


def _variants(of_form: NDArray[np.int64], folded: Sequence[str]) -> tuple[list[list[int]], NDArray[np.int64]]:
    """The forms of each word, those that differ in case only once: which case is used is decided over the whole corpus.

    Returns
    -------
    list of list of int
        By word; the first form of each spelling.
    int64 ndarray, shape (n_forms,)
        Which of them each form is.
    """
    variants: list[list[int]] = [[] for _ in range(int(of_form.max(initial=0)) + 1)]
    variant = np.zeros(len(of_form), dtype=np.int64)
    known: dict[str, int] = {}
    for form in np.flatnonzero(of_form).tolist():
        own = variants[of_form[form]]
        variant[form] = at = known.setdefault(folded[form], len(own))
        if at == len(own):
            own.append(form)
    return variants, variant


def _keys(stream: NDArray[np.int64], positions: NDArray[np.int64], base: int, length: int) -> NDArray[np.int64]:
    """One number for each phrase of ``length`` words, all below ``base``, that begins at ``positions``."""
    keys = np.zeros(len(positions), dtype=np.int64)
    for step in range(length):
        keys = keys * base + stream[positions + step]
    return keys


def _phrases(
    stream: NDArray[np.int64],
    owner: NDArray[np.int32],
    length: int,
    *,
    edge: NDArray[np.bool_],
    inside: NDArray[np.bool_],
) -> NDArray[np.int64]:
    """Return where phrases of ``length`` words begin."""
    n = len(stream) - length + 1
    if n <= 0:
        return np.empty(0, dtype=np.int64)
    good = edge[stream[:n]] & edge[stream[length - 1 :]] & (owner[:n] == owner[length - 1 :])
    for step in range(1, length - 1):
        good &= inside[stream[step : n + step]]
    for step in range(length):
        good &= stream[step : n + step] != BREAK
        for other in range(step):  # "buffalo buffalo" is a word said twice
            good &= stream[step : n + step] != stream[other : n + other]
    return np.flatnonzero(good)


def _distinct(
    documents: NDArray[np.int32], keys: NDArray[np.int64], positions: NDArray[np.int64]
) -> tuple[NDArray[np.int32], NDArray[np.int64], NDArray[np.int64]]:
    """Return each pair of a document and a key once, where it is first; documents come in order: one stable sort."""
    order = np.argsort(keys, kind="stable")
    documents, keys = documents[order], keys[order]
    first = np.ones(len(keys), dtype=np.bool_)
    first[1:] = (keys[1:] != keys[:-1]) | (documents[1:] != documents[:-1])
    return documents[first], keys[first], positions[order[first]]


def _spell(
    keys: NDArray[np.int64], length: int, base: int, large: NDArray[np.int32], *, width: int
) -> NDArray[np.int32]:
    """Split keys into word ids."""
    result = np.zeros((len(keys), width), dtype=np.int32)
    for step in reversed(range(length)):
        keys, word = np.divmod(keys, base)
        result[:, step] = large[word]
    return result
