"""Filler words that are distinctive of a cluster in this corpus: "change" in questions on a PIN."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from latentscale.labelers.keyphrases.stop_words import filler_words

# Smallest share of a cluster's documents, and lift, of a distinctive filler.
_MIN_SHARE, _MIN_LIFT = 0.4, 6.0
# Smallest size of a cluster that counts.
_MIN_SIZE = 10
# Largest median number of tokens: in longer texts, frequencies of fillers are incidental.
_MAX_TOKENS = 40


def distinctive_fillers(
    forms: NDArray[np.int32], starts: NDArray[np.int64], names: Sequence[str], clusters: NDArray[np.int32]
) -> frozenset[str]:
    """Return fillers that are frequent in one cluster and rare elsewhere; empty for long texts.

    They can start and end phrases ("change my PIN", "card not working") but are no phrases by themselves.

    Parameters
    ----------
    forms : int32 ndarray, shape (n_tokens,)
        Ids of the written forms of all documents, concatenated.
    starts : int64 ndarray, shape (n_documents + 1,)
        Offsets of the documents in ``forms``.
    names : sequence of str
        Written forms by id.
    clusters : int32 ndarray, shape (n_documents,)
        Clusters of the finest layer; -1 is noise.
    """
    if not len(clusters) or np.median(np.diff(starts)) > _MAX_TOKENS:
        return frozenset()
    fillers = sorted(filler_words())
    filler_ids = {word: index for index, word in enumerate(fillers)}
    filler_of_form = np.array([filler_ids.get(name.lower(), -1) for name in names], np.int64)
    filler_of_token = filler_of_form[forms]
    positions = np.flatnonzero(filler_of_token >= 0)
    if not len(positions):
        return frozenset()
    document_of = np.searchsorted(starts, positions, side="right") - 1
    pairs = np.unique(document_of * len(fillers) + filler_of_token[positions])
    documents, words = np.divmod(pairs, len(fillers))
    width = int(clusters.max(initial=-1)) + 2
    cluster_columns = (clusters + 1).astype(np.int64)
    sizes = np.bincount(cluster_columns, minlength=width)
    counts = np.bincount(words * width + cluster_columns[documents], minlength=len(fillers) * width)
    counts = counts.reshape(len(fillers), width)
    shares = counts[:, 1:] / np.maximum(sizes[1:], 1)
    outside = (counts.sum(axis=1, keepdims=True) - counts[:, 1:]) / np.maximum(len(clusters) - sizes[1:], 1)
    is_distinctive = (shares >= _MIN_SHARE) & (shares >= _MIN_LIFT * outside) & (sizes[1:] >= _MIN_SIZE)
    return frozenset(fillers[index] for index in np.flatnonzero(is_distinctive.any(axis=1)).tolist())
