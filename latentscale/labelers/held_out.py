"""The held-out test: whether documents not shown to the labeler are nearer to their label than to sibling labels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Embed = Callable[[Sequence[str]], tuple[NDArray[np.float32], NDArray[np.bool_]]]
"""Embeds texts: returns unit vectors, and whether each text has one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldOutScore:
    """The score of a label on held-out documents.

    Attributes
    ----------
    share : float
        Share of the documents whose nearest label is their own, in [0, 1]; ties count half.
    rival : int or None
        The sibling whose label is nearest to more of the documents than their own label, if any.
    """

    share: float
    rival: int | None


class HeldOutTest:
    """Tests labels on held-out documents, in the embedding space of the map.

    Parameters
    ----------
    documents : sequence of float32 ndarray, shape (n_documents, dim)
        Unit vectors of the held-out documents of each cluster; empty if all documents were shown.
    siblings : sequence of sequence of int
        For each cluster, the clusters from which its label must differ.
    embed : callable
        Embeds texts with the embedder of the map.
    """

    def __init__(
        self, documents: Sequence[NDArray[np.float32]], siblings: Sequence[Sequence[int]], embed: Embed
    ) -> None:
        self._documents = documents
        self._siblings = siblings
        self._embed = embed
        self._known: dict[str, NDArray[np.float32] | None] = {}

    def vectors(self, labels: Sequence[str]) -> list[NDArray[np.float32] | None]:
        """Embed labels; None for labels without a word known to the embedder."""
        new = [label for label in dict.fromkeys(labels) if label not in self._known]
        if new:
            found, embeddable = self._embed(new)
            for label, vector, good in zip(new, found, embeddable.tolist(), strict=True):
                self._known[label] = np.asarray(vector, np.float32) if good else None
        return [self._known[label] for label in labels]

    def try_labels(self, labels: Sequence[str], wanted: Sequence[int]) -> dict[int, HeldOutScore]:
        """Test the labels of some clusters against those of their siblings.

        Parameters
        ----------
        labels : sequence of str
            The labels of all clusters.
        wanted : sequence of int
            The clusters to test.

        Returns
        -------
        dict of int to HeldOutScore
            Scores; clusters without held-out documents, siblings or a label vector have none.
        """
        vectors = self.vectors(labels)
        return {at: found for at in wanted if (found := self._try(vectors, at, vectors[at])) is not None}

    def try_instead(self, labels: Sequence[str], at: int, label: str) -> HeldOutScore | None:
        """Test an alternative label of a cluster against the labels of its siblings."""
        return self._try(self.vectors(labels), at, self.vectors([label])[0])

    def _try(
        self, vectors: Sequence[NDArray[np.float32] | None], at: int, own: NDArray[np.float32] | None
    ) -> HeldOutScore | None:
        documents = self._documents[at]
        others = [one for one in self._siblings[at] if vectors[one] is not None]
        if own is None or not others or not len(documents):
            return None
        # A column for each label; the cluster's own is first.
        near = documents @ np.stack([own, *(np.asarray(vectors[one]) for one in others)]).T
        nearest = near >= near.max(axis=1, keepdims=True) - 1e-6
        shares = (nearest / nearest.sum(axis=1, keepdims=True)).mean(axis=0)
        best = int(np.argmax(shares))
        return HeldOutScore(share=float(shares[0]), rival=others[best - 1] if shares[best] > shares[0] + 1e-6 else None)
