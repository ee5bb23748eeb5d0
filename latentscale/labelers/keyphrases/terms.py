"""Find the phrases of documents, with sorted integer keys instead of strings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from latentscale.labelers.keyphrases.words import BREAK, Words

EARLY = 25
"""Number of tokens at the beginning of a text that are considered its title or first sentence."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """The phrases of a sample of documents.

    Attributes
    ----------
    words : int32 ndarray, shape (n_terms, longest phrase)
        Word ids of each phrase, 0 after its end.
    documents : scipy CSR matrix, shape (n_documents, n_terms), float32
        1 where a document contains the phrase.
    early : scipy CSR matrix, shape (n_documents, n_terms), float32
        1 where the phrase starts among the first ``EARLY`` tokens of the document.
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
    """Find all phrases of ``ngram_range`` words that occur in ``min_documents`` documents.

    A phrase starts and ends with a word in ``Words.can_start_or_end``, contains no punctuation, and consists of words
    that occur in ``min_documents`` documents themselves.

    Parameters
    ----------
    forms : int32 ndarray, shape (n_tokens,)
        Ids of the written forms of all documents, concatenated.
    starts : int64 ndarray, shape (n_documents + 1,)
        Offsets of the documents in ``forms``.
    """
    from scipy.sparse import csr_matrix

    n_documents = len(starts) - 1
    stream = words.of_form[forms]
    document_of = np.repeat(np.arange(n_documents, dtype=np.int32), np.diff(starts))

    # Words in too few documents end a phrase, like punctuation; the others get compact ids, so that keys fit int64.
    frequency = _documents_with(document_of, stream, len(words.can_start_or_end))
    is_kept = frequency >= min_documents
    is_kept[BREAK] = False
    compact_ids = np.zeros(len(is_kept), dtype=np.int64)
    compact_ids[is_kept] = np.arange(1, int(is_kept.sum()) + 1)
    word_ids = np.concatenate([[0], np.flatnonzero(is_kept)]).astype(np.int32)
    stream = compact_ids[stream]
    base = len(word_ids)
    if base ** ngram_range[1] >= 2**62:
        raise OverflowError(f"{base:,} words are too many for phrases of {ngram_range[1]}")
    edges, standalone, inner = (
        words.can_start_or_end[word_ids],
        words.can_stand_alone[word_ids],
        words.can_be_inside[word_ids],
    )

    rows: list[NDArray[np.int32]] = []
    columns: list[NDArray[np.int64]] = []
    early: list[NDArray[np.bool_]] = []
    spelled: list[NDArray[np.int32]] = []
    offset = 0
    for length in range(ngram_range[0], ngram_range[1] + 1):
        positions = _phrases(stream, document_of, length, edge=standalone if length == 1 else edges, inside=inner)
        keys = _keys(stream, positions, base, length)
        documents, keys, first = _distinct(document_of[positions], keys, positions)
        terms, inverse, counts = np.unique(keys, return_inverse=True, return_counts=True)
        frequent = counts >= min_documents
        term_of_key = np.cumsum(frequent) - 1 + offset
        pair_kept = frequent[inverse]
        rows.append(documents[pair_kept])
        columns.append(term_of_key[inverse[pair_kept]])
        early.append((first - starts[documents] < EARLY)[pair_kept])
        spelled.append(_split_keys(terms[frequent], length, base, word_ids, width=ngram_range[1]))
        offset += int(frequent.sum())
    row, column, is_early = np.concatenate(rows), np.concatenate(columns).astype(np.int32), np.concatenate(early)

    def matrix(row: NDArray[np.int32], column: NDArray[np.int32]) -> Any:
        return csr_matrix((np.ones(len(row), dtype=np.float32), (row, column)), shape=(n_documents, offset))

    return Terms(
        words=np.concatenate(spelled), documents=matrix(row, column), early=matrix(row[is_early], column[is_early])
    )


def documents_inside(forms: NDArray[np.int32], starts: NDArray[np.int64], names: Sequence[str]) -> NDArray[np.int64]:
    """Count the documents with each form elsewhere than at the start of a sentence or title.

    Parameters
    ----------
    names : sequence of str
        Written forms by id.

    Returns
    -------
    int64 ndarray, shape (n_forms,)
    """
    is_sign = np.array([not (name and (name[0].isalnum() or name[0] == "_")) for name in names])
    inside = ~is_sign[forms]
    inside[1:] &= ~is_sign[forms[:-1]]
    inside[starts[:-1][starts[:-1] < len(forms)]] = False
    document_of = np.repeat(np.arange(len(starts) - 1, dtype=np.int32), np.diff(starts))
    return _documents_with(document_of[inside], forms[inside], len(names))


def _documents_with(document_of: NDArray[np.int32], stream: NDArray[Any], n: int) -> NDArray[np.int64]:
    """Return the number of documents that contain each of ``n`` ids."""
    pairs = document_of.astype(np.int64) * n + stream
    pairs.sort()
    first = np.ones(len(pairs), dtype=np.bool_)
    first[1:] = pairs[1:] != pairs[:-1]
    return np.bincount(pairs[first] % n, minlength=n)


def find_forms(
    forms: NDArray[np.int32], starts: NDArray[np.int64], words: Words, phrases: NDArray[np.int32]
) -> list[list[int]]:
    """Return the most frequent written forms of each phrase (word ids, 0 after its end).

    Raises
    ------
    KeyError
        If a phrase does not occur in ``forms``.
    """
    stream = words.of_form[forms]
    document_of = np.repeat(np.arange(len(starts) - 1, dtype=np.int32), np.diff(starts))
    # Drop all other words, except one after each run of words of these phrases, as a break.
    in_phrase = np.zeros(int(words.of_form.max(initial=0)) + 1, dtype=np.bool_)
    in_phrase[phrases] = True
    in_phrase[BREAK] = False
    is_kept = in_phrase[stream]
    is_kept[1:] |= is_kept[:-1]
    compact_ids = np.where(in_phrase, np.cumsum(in_phrase), BREAK)
    forms, stream, document_of = forms[is_kept], compact_ids[stream[is_kept]], document_of[is_kept]
    variants, variant = _variants(compact_ids[words.of_form], words.folded)
    always = np.ones(len(variants), dtype=np.bool_)
    max_variants = max(map(len, variants))
    lengths = (phrases != BREAK).sum(axis=1)
    result: list[list[int]] = [[] for _ in phrases]
    for length in np.unique(lengths).tolist():
        rows = np.flatnonzero(lengths == length)
        phrase_words = compact_ids[phrases[rows, :length]]
        phrase_keys = _keys(phrase_words.ravel(), np.arange(len(rows)) * length, len(always), length)
        order = np.argsort(phrase_keys)
        positions = _phrases(stream, document_of, length, edge=always, inside=always)
        keys = _keys(stream, positions, len(always), length)
        matches = np.minimum(np.searchsorted(phrase_keys, keys, sorter=order), len(phrase_keys) - 1)
        is_match = phrase_keys[order[matches]] == keys
        positions, matches = positions[is_match], order[matches[is_match]]
        spelling_keys = matches.astype(np.int64)
        for step in range(length):
            spelling_keys = spelling_keys * max_variants + variant[forms[positions + step]]
        unique_spellings, counts = np.unique(spelling_keys, return_counts=True)
        # The most frequent one is written last, overwriting the others.
        for spelling in unique_spellings[np.argsort(counts, kind="stable")].tolist():
            variant_digits: list[int] = []
            for _ in range(length):
                spelling, chosen = divmod(spelling, max_variants)
                variant_digits.append(chosen)
            word_ids = phrase_words[spelling].tolist()
            result[rows[spelling]] = [
                variants[word][variant_index]
                for word, variant_index in zip(word_ids, variant_digits[::-1], strict=True)
            ]
    if not all(result):
        raise KeyError("a phrase is nowhere in the texts")
    return result


def _variants(of_form: NDArray[np.int64], folded: Sequence[str]) -> tuple[list[list[int]], NDArray[np.int64]]:
    """Return the forms of each word, merging those that differ only in case, which is chosen over the whole corpus.

    Returns
    -------
    list of list of int
        For each word, the first form of each spelling.
    int64 ndarray, shape (n_forms,)
        Index of each form's spelling in that list.
    """
    variants: list[list[int]] = [[] for _ in range(int(of_form.max(initial=0)) + 1)]
    variant = np.zeros(len(of_form), dtype=np.int64)
    known: dict[str, int] = {}
    for form in np.flatnonzero(of_form).tolist():
        forms_of_word = variants[of_form[form]]
        variant[form] = index = known.setdefault(folded[form], len(forms_of_word))
        if index == len(forms_of_word):
            forms_of_word.append(form)
    return variants, variant


def _keys(stream: NDArray[np.int64], positions: NDArray[np.int64], base: int, length: int) -> NDArray[np.int64]:
    """Encode the phrases of ``length`` words, with ids below ``base``, at ``positions`` as one integer each."""
    keys = np.zeros(len(positions), dtype=np.int64)
    for step in range(length):
        keys = keys * base + stream[positions + step]
    return keys


def _phrases(
    stream: NDArray[np.int64],
    document_of: NDArray[np.int32],
    length: int,
    *,
    edge: NDArray[np.bool_],
    inside: NDArray[np.bool_],
) -> NDArray[np.int64]:
    """Return the positions at which phrases of ``length`` words start."""
    n = len(stream) - length + 1
    if n <= 0:
        return np.empty(0, dtype=np.int64)
    valid = edge[stream[:n]] & edge[stream[length - 1 :]] & (document_of[:n] == document_of[length - 1 :])
    for step in range(1, length - 1):
        valid &= inside[stream[step : n + step]]
    for step in range(length):
        valid &= stream[step : n + step] != BREAK
        for other in range(step):  # no repeated word, as in "buffalo buffalo"
            valid &= stream[step : n + step] != stream[other : n + other]
    return np.flatnonzero(valid)


def _distinct(
    documents: NDArray[np.int32], keys: NDArray[np.int64], positions: NDArray[np.int64]
) -> tuple[NDArray[np.int32], NDArray[np.int64], NDArray[np.int64]]:
    """Return distinct pairs of document and key with their first positions; relies on documents being sorted."""
    order = np.argsort(keys, kind="stable")
    documents, keys = documents[order], keys[order]
    first = np.ones(len(keys), dtype=np.bool_)
    first[1:] = (keys[1:] != keys[:-1]) | (documents[1:] != documents[:-1])
    return documents[first], keys[first], positions[order[first]]


def _split_keys(
    keys: NDArray[np.int64], length: int, base: int, word_ids: NDArray[np.int32], *, width: int
) -> NDArray[np.int32]:
    """Split keys into word ids."""
    result = np.zeros((len(keys), width), dtype=np.int32)
    for step in reversed(range(length)):
        keys, word = np.divmod(keys, base)
        result[:, step] = word_ids[word]
    return result
