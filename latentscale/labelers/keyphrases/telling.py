"""Which words that say nothing in most corpora tell clusters of this one apart: "change" in questions on a PIN."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from latentscale.labelers.keyphrases.stop_words import filler_words

# A filler tells if so large a share of one cluster's documents have it, and so many times the share of all others.
_SHARE, _LIFT = 0.4, 6.0
# Clusters with fewer documents say nothing of it.
_LEAST = 10
# Words and signs of a text, in the middle of all: in longer ones a filler is an accident of the sentences around.
_SHORT = 40


def telling_fillers(
    forms: NDArray[np.int32], starts: NDArray[np.int64], names: Sequence[str], clusters: NDArray[np.int32]
) -> frozenset[str]:
    """Return the fillers that stand in much of one cluster and are rare elsewhere; none where texts are long.

    They may begin and end phrases ("change my PIN", "card not working") and are none by themselves.

    Parameters
    ----------
    forms : int32 ndarray, shape (n_tokens,)
        The written forms of all documents, one after the other.
    starts : int64 ndarray, shape (n_documents + 1,)
        Where each document begins in ``forms``.
    names : sequence of str
        The written forms by their ids.
    clusters : int32 ndarray, shape (n_documents,)
        Of the finest layer; -1 for none.
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
