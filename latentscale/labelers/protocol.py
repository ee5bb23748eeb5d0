"""The protocol of labelers, which turn evidence of clusters into labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from latentscale.config import LabelConfig

Evidence = Literal["texts", "columns", "siblings", "members", "majority"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ColumnShare:
    """A value of a source column that is more common in a cluster than elsewhere.

    Attributes
    ----------
    column, value : str
    share, elsewhere : float
        Share of the cluster's documents, and of all others, that have the value; in [0, 1].
    lift, low, high : float
        Ratio of the shares, and its 95 % confidence interval.
    """

    column: str
    value: str
    share: float
    elsewhere: float
    lift: float
    low: float
    high: float


@dataclass(frozen=True, slots=True, kw_only=True)
class NumberShift:
    """A column of numbers or dates whose values are larger or smaller in a cluster than elsewhere.

    Attributes
    ----------
    column : str
    median, elsewhere : str
        The medians of the cluster and of all other documents, formatted for display.
    above, low, high : float
        Probability that a random document of the cluster has a larger value than one outside, and its 95 % interval.
    """

    column: str
    median: str
    elsewhere: str
    above: float
    low: float
    high: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Majority:
    """The value of a source column that most documents of a cluster have.

    Attributes
    ----------
    value : str
    share : float
        Share of the cluster's documents that have it; in (0, 1].
    """

    value: str
    share: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Contrast:
    """Evidence for the sibling that is most similar to a cluster.

    Attributes
    ----------
    keyphrases : tuple of str
        Keyphrases of the sibling.
    texts : tuple of str
        Texts of its exemplars that are most similar to the cluster.
    """

    keyphrases: tuple[str, ...]
    texts: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterEvidence:
    """The evidence for one cluster, from which its label is made.

    Attributes
    ----------
    layer, cluster : int
        Its layer, 0 being the finest, and number.
    size : int
        Number of documents.
    suggestion : str
        The unique label made of its keyphrases; never empty.
    keyphrases : tuple of str
        The phrases that distinguish it, best first; empty if its texts have no usable word.
    exemplars : tuple of int
        ``row_id`` of representative documents, most central first.
    texts : tuple of str
        Truncated texts of the exemplars; empty unless the labeler needs ``texts``.
    columns : tuple of ColumnShare
        Most distinctive first.
    numbers : tuple of NumberShift
        Most distinctive first.
    sibling : Contrast or None
        The most similar sibling; None if there is none, or unless the labeler needs ``siblings``.
    majority : Majority or None
        Of the column named by ``label.options.column``; None if the cluster has no value in it, or unless the labeler
        needs ``majority``.
    members : int64 ndarray, shape (size,)
        ``row_id`` of its documents; empty unless the labeler needs ``members``. Not part of the identity, so a labeler
        that needs them keeps no receipts.
    """

    layer: int
    cluster: int
    size: int
    suggestion: str
    keyphrases: tuple[str, ...]
    exemplars: tuple[int, ...]
    texts: tuple[str, ...] = ()
    columns: tuple[ColumnShare, ...] = ()
    numbers: tuple[NumberShift, ...] = ()
    sibling: Contrast | None = None
    majority: Majority | None = None
    members: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64), compare=False, repr=False)

    def identity(self) -> dict[str, Any]:
        """Return what a label depends on, excluding the cluster's number and size, which reclustering alters."""
        identity: dict[str, Any] = {
            "layer": self.layer,
            "keyphrases": list(self.keyphrases),
            "texts": list(self.texts),
            "columns": [[column.column, column.value, round(column.share, 2)] for column in self.columns],
        }
        if self.numbers:
            identity["numbers"] = [[column.column, column.median, column.elsewhere] for column in self.numbers]
        if self.sibling is not None:
            identity["sibling"] = {"keyphrases": list(self.sibling.keyphrases), "texts": list(self.sibling.texts)}
        if self.majority is not None:
            identity["majority"] = [self.majority.value, round(self.majority.share, 2)]
        return identity


@dataclass(frozen=True, slots=True, kw_only=True)
class Label:
    """The name of a cluster.

    Attributes
    ----------
    label : str
        Short name for display.
    source : str
        Its origin: the labeler's name, or ``none`` if the label is only a number.
    details : mapping
        Additional output of the labeler, representable in JSON.
    description : str
        A sentence about the cluster; empty if there is none.
    confidence : float or None
        The labeler's own confidence, in [0, 1].
    reason : str
        Why the label is a fallback; empty if it is the labeler's own.
    """

    label: str
    source: str
    details: Mapping[str, Any] = field(default_factory=dict[str, Any])
    description: str = ""
    confidence: float | None = None
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class NoLabel:
    """States that a labeler has no label for a cluster, which then keeps its keyphrases.

    Attributes
    ----------
    reason : str
        Why, for the user.
    final : bool
        Whether a retry would give the same result; if so, a receipt is kept, as for a label.
    """

    reason: str
    final: bool


class Labeler(Protocol):
    """Names clusters from evidence.

    Attributes
    ----------
    name : str
        Name in ``latentscale.registry.LABELERS``, settings and records.
    needs : frozenset of str
        Optional evidence to be computed: ``texts`` and ``majority``, which take time, ``members``, and ``columns`` and
        ``siblings``, on which receipts depend.
    keeps_receipts : bool
        Whether each answer is stored in the workspace as soon as it arrives, so that a resumed run repeats no request
        and a reclustering only asks about changed clusters. For answers that cost time or money.
    batch : int
        Clusters per call.
    concurrency : int
        Concurrent calls.
    """

    name: ClassVar[str]
    needs: ClassVar[frozenset[Evidence]]
    keeps_receipts: ClassVar[bool]

    @property
    def batch(self) -> int: ...

    @property
    def concurrency(self) -> int: ...

    @classmethod
    def check(cls, config: LabelConfig) -> Mapping[str, Any]:
        """Reject invalid settings before any computation, and return the labeler's identity.

        Returns
        -------
        mapping
            Everything that affects its labels besides the evidence, including prompt and model.

        Raises
        ------
        ConfigError
            If a setting is invalid.
        MissingPackageError
            If it needs a package that is not installed.
        """
        ...

    @classmethod
    def open(cls, config: LabelConfig, device: str) -> Labeler:
        """Open the labeler in the process in which the stage runs."""
        ...

    def label(self, evidence: Sequence[ClusterEvidence]) -> Sequence[Label | NoLabel | None]:
        """Label clusters, in order; None or ``NoLabel`` for those without a label, which keep their keyphrases.

        Raises
        ------
        LatentScaleError
            If it cannot continue; labels already returned are kept.
        """
        ...
