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
        self._vectors: dict[str, NDArray[np.float32] | None] = {}

    def vectors(self, labels: Sequence[str]) -> list[NDArray[np.float32] | None]:
        """Embed labels; None for labels without a word known to the embedder."""
        new = [label for label in dict.fromkeys(labels) if label not in self._vectors]
        if new:
            vectors, embeddable = self._embed(new)
            for label, vector, has_vector in zip(new, vectors, embeddable.tolist(), strict=True):
                self._vectors[label] = np.asarray(vector, np.float32) if has_vector else None
        return [self._vectors[label] for label in labels]

    def try_labels(self, labels: Sequence[str], clusters: Sequence[int]) -> dict[int, HeldOutScore]:
        """Test the labels of some clusters against those of their siblings.

        Parameters
        ----------
        labels : sequence of str
            The labels of all clusters.
        clusters : sequence of int
            The clusters to test.

        Returns
        -------
        dict of int to HeldOutScore
            Scores; clusters without held-out documents, siblings or a label vector have none.
        """
        vectors = self.vectors(labels)
        return {
            cluster: score
            for cluster in clusters
            if (score := self._score(vectors, cluster, vectors[cluster])) is not None
        }

    def try_instead(self, labels: Sequence[str], cluster: int, label: str) -> HeldOutScore | None:
        """Test an alternative label of a cluster against the labels of its siblings."""
        return self._score(self.vectors(labels), cluster, self.vectors([label])[0])

    def _score(
        self, vectors: Sequence[NDArray[np.float32] | None], cluster: int, vector: NDArray[np.float32] | None
    ) -> HeldOutScore | None:
        documents = self._documents[cluster]
        siblings = [sibling for sibling in self._siblings[cluster] if vectors[sibling] is not None]
        if vector is None or not siblings or not len(documents):
            return None
        # A column for each label; the cluster's own is first.
        similarities = documents @ np.stack([vector, *(np.asarray(vectors[sibling]) for sibling in siblings)]).T
        nearest = similarities >= similarities.max(axis=1, keepdims=True) - 1e-6
        shares = (nearest / nearest.sum(axis=1, keepdims=True)).mean(axis=0)
        nearest_label = int(np.argmax(shares))
        return HeldOutScore(
            share=float(shares[0]),
            rival=siblings[nearest_label - 1] if shares[nearest_label] > shares[0] + 1e-6 else None,
        )
