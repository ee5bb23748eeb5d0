"""Filler words that are distinctive of a cluster in this corpus: "change" in questions on a PIN."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from latentscale.labelers.keyphrases.stop_words import filler_words

# Smallest share of a cluster's documents, and lift, of a distinctive filler.
_SHARE, _LIFT = 0.4, 6.0
# Smallest size of a cluster that counts.
_LEAST = 10
# Largest median number of tokens: in longer texts, frequencies of fillers are incidental.
_SHORT = 40


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
    if not len(clusters) or np.median(np.diff(starts)) > _SHORT:
        return frozenset()
    fillers = sorted(filler_words())
    number = {word: at for at, word in enumerate(fillers)}
    of_form = np.array([number.get(name.lower(), -1) for name in names], np.int64)
    found = of_form[forms]
    met = np.flatnonzero(found >= 0)
    if not len(met):
        return frozenset()
    owner = np.searchsorted(starts, met, side="right") - 1
    pairs = np.unique(owner * len(fillers) + found[met])
    documents, words = np.divmod(pairs, len(fillers))
    width = int(clusters.max(initial=-1)) + 2
    of_cluster = (clusters + 1).astype(np.int64)
    sizes = np.bincount(of_cluster, minlength=width)
    counts = np.bincount(words * width + of_cluster[documents], minlength=len(fillers) * width)
    counts = counts.reshape(len(fillers), width)
    shares = counts[:, 1:] / np.maximum(sizes[1:], 1)
    outside = (counts.sum(axis=1, keepdims=True) - counts[:, 1:]) / np.maximum(len(clusters) - sizes[1:], 1)
    enough = (shares >= _SHARE) & (shares >= _LIFT * outside) & (sizes[1:] >= _LEAST)
    return frozenset(fillers[at] for at in np.flatnonzero(enough.any(axis=1)).tolist())
