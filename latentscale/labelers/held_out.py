"""The held-out test: whether documents that no labeler was shown are nearer to their label than to its siblings'."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Embed = Callable[[Sequence[str]], tuple[NDArray[np.float32], NDArray[np.bool_]]]
"""Vectors of unit length of some texts, and which of them have one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldOut:
    """How a label did on the documents that its labeler was not shown.

    Attributes
    ----------
    share : float
        Of the documents, to whom their own label is nearest, in [0, 1]; documents with two nearest count half.
    rival : int or None
        The sibling whose label is nearest to more of them than their own is; None where there is none.
    """

    share: float
    rival: int | None


class HeldOutTest:
    """Tries labels on held-out documents, in the space of the map's own embedder.

    Parameters
    ----------
    documents : sequence of float32 ndarray, shape (n_documents, dim)
        Of each cluster: vectors of unit length; none where all of its documents were shown.
    siblings : sequence of sequence of int
        Of each cluster: those that its label has to differ from.
    embed : callable
        The map's embedder.
    """

    def __init__(
        self, documents: Sequence[NDArray[np.float32]], siblings: Sequence[Sequence[int]], embed: Embed
    ) -> None:
        self._documents = documents
        self._siblings = siblings
        self._embed = embed
        self._known: dict[str, NDArray[np.float32] | None] = {}

    def vectors(self, labels: Sequence[str]) -> list[NDArray[np.float32] | None]:
        """The vectors of labels; None for one that the embedder knows no word of."""
        new = [label for label in dict.fromkeys(labels) if label not in self._known]
        if new:
            found, embeddable = self._embed(new)
            for label, vector, good in zip(new, found, embeddable.tolist(), strict=True):
                self._known[label] = np.asarray(vector, np.float32) if good else None
        return [self._known[label] for label in labels]

    def try_labels(self, labels: Sequence[str], wanted: Sequence[int]) -> dict[int, HeldOut]:
        """Try the labels of some clusters among those of their siblings.

        Parameters
        ----------
        labels : sequence of str
            Of all clusters.
        wanted : sequence of int
            The clusters to try.

        Returns
        -------
        dict of int to HeldOut
            No entry for a cluster without held-out documents or siblings, or whose label has no vector.
        """
        vectors = self.vectors(labels)
        return {at: found for at in wanted if (found := self._try(vectors, at, vectors[at])) is not None}

    def try_instead(self, labels: Sequence[str], at: int, label: str) -> HeldOut | None:
        """Try another label for a cluster, among the labels of its siblings."""
        return self._try(self.vectors(labels), at, self.vectors([label])[0])

    def _try(
        self, vectors: Sequence[NDArray[np.float32] | None], at: int, own: NDArray[np.float32] | None
    ) -> HeldOut | None:
        documents = self._documents[at]
        others = [one for one in self._siblings[at] if vectors[one] is not None]
        if own is None or not others or not len(documents):
            return None
        # Every label is a column; its own is the first.
        near = documents @ np.stack([own, *(np.asarray(vectors[one]) for one in others)]).T
        nearest = near >= near.max(axis=1, keepdims=True) - 1e-6
        shares = (nearest / nearest.sum(axis=1, keepdims=True)).mean(axis=0)
        best = int(np.argmax(shares))
        return HeldOut(share=float(shares[0]), rival=others[best - 1] if shares[best] > shares[0] + 1e-6 else None)
