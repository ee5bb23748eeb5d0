"""The protocol of labelers: from evidence of clusters to labels."""

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
        Of the documents of the cluster, and of all others, that have it; in [0, 1].
    lift, low, high : float
        How many times more common it is, and the interval of 95 % of that.
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
    """A column of numbers, or of dates, that are larger or smaller in a cluster than elsewhere.

    Attributes
    ----------
    column : str
    median, elsewhere : str
        The median in the cluster and of all other documents, as a person reads it.
    above, low, high : float
        Probability that a document of the cluster has the larger number of the two, and its interval of 95 %.
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
        Of all documents of the cluster, those that have it; in (0, 1].
    """

    value: str
    share: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Contrast:
    """What is known of the sibling that is most like a cluster.

    Attributes
    ----------
    keyphrases : tuple of str
        As those of the cluster itself.
    texts : tuple of str
        Of those of its exemplars that are most like the cluster.
    """

    keyphrases: tuple[str, ...]
    texts: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterEvidence:
    """The evidence for one cluster, from which it gets a label.

    Attributes
    ----------
    layer, cluster : int
        Which one; 0 is the finest layer.
    size : int
        Its documents.
    suggestion : str
        The label that its keyphrases would give, unique among all; never empty.
    keyphrases : tuple of str
        The phrases that set it apart, best first; empty where its texts have no usable word.
    exemplars : tuple of int
        ``row_id`` of documents that together show what it holds, the most central first.
    texts : tuple of str
        Of the exemplars, cut; empty unless the labeler needs ``texts``.
    columns : tuple of ColumnShare
        The most telling first.
    numbers : tuple of NumberShift
        The most telling first.
    sibling : Contrast or None
        The sibling most like it; None where it has none, and unless the labeler needs ``siblings``.
    majority : Majority or None
        Of the column that ``label.options.column`` names; None where it has no value in it, and unless the labeler
        needs ``majority``.
    members : int64 ndarray, shape (size,)
        ``row_id`` of its documents; empty unless the labeler needs ``members``. They are no part of the identity: a
        labeler that needs them keeps no receipts.
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
        """What a label depends on: neither the number of the cluster nor its size, which a re-clustering alters."""
        found: dict[str, Any] = {
            "layer": self.layer,
            "keyphrases": list(self.keyphrases),
            "texts": list(self.texts),
            "columns": [[one.column, one.value, round(one.share, 2)] for one in self.columns],
        }
        if self.numbers:
            found["numbers"] = [[one.column, one.median, one.elsewhere] for one in self.numbers]
        if self.sibling is not None:
            found["sibling"] = {"keyphrases": list(self.sibling.keyphrases), "texts": list(self.sibling.texts)}
        if self.majority is not None:
            found["majority"] = [self.majority.value, round(self.majority.share, 2)]
        return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Label:
    """The name of a cluster.

    Attributes
    ----------
    label : str
        Short, for a person.
    source : str
        What gave it; the labeler's name, or ``none`` where the label is only a number.
    details : mapping
        What else the labeler has to say, as JSON can hold it.
    description : str
        A sentence on what the cluster holds; empty where there is none.
    confidence : float or None
        The labeler's own, in [0, 1].
    reason : str
        Why the label is not what the labeler would have given; empty where it is.
    """

    label: str
    source: str
    details: Mapping[str, Any] = field(default_factory=dict[str, Any])
    description: str = ""
    confidence: float | None = None
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class NoLabel:
    """A labeler's word that it has no label for a cluster, which then keeps its keyphrases.

    Attributes
    ----------
    reason : str
        Why, for a person.
    final : bool
        Whether asking again would give the same: it is then kept as an answer is.
    """

    reason: str
    final: bool


class Labeler(Protocol):
    """Names clusters from evidence.

    Attributes
    ----------
    name : str
        As in ``latentscale.registry.LABELERS``, in settings and in records.
    needs : frozenset of str
        Evidence that depends on what is needed: ``texts`` and ``majority``, which take time, ``members``, and
        ``columns`` and ``siblings``, which receipts depend on.
    keeps_receipts : bool
        Whether each answer is kept in the workspace as soon as it arrives, so that a run that is killed asks for
        none twice and a re-clustering only for clusters that changed. For answers that cost time or money.
    batch : int
        Clusters in a call.
    concurrency : int
        Calls at a time.
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
        """Refuse invalid settings before anything is computed, and return the labeler's identity.

        Returns
        -------
        mapping
            Everything besides the evidence that alters its labels, prompt and model included.

        Raises
        ------
        ConfigError
            If a setting does not fit.
        MissingPackageError
            If it needs a package that is not installed.
        """
        ...

    @classmethod
    def open(cls, config: LabelConfig, device: str) -> Labeler:
        """Open the labeler in the process where the stage runs."""
        ...

    def label(self, evidence: Sequence[ClusterEvidence]) -> Sequence[Label | NoLabel | None]:
        """Name some clusters, in order; None or the reason for one that it could not name, which keeps its keyphrases.

        Raises
        ------
        LatentScaleError
            If it cannot continue; the labels already given stay.
        """
        ...
