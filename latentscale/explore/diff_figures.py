"""Types of the result of ``Workspace.diff``, as docs/clusters.md lists it."""

from __future__ import annotations

from typing import Any, Literal, TypedDict

Change = Literal["same", "split", "merged", "moved", "dissolved"]


class Agreement(TypedDict):
    """Agreement of two clusterings; None if they have no document in common."""

    ari: float | None
    nmi: float | None


class NoiseDiff(TypedDict):
    """Noise documents, among the documents in both clusterings."""

    both: int
    only_first: int
    only_second: int


class ClusterChangeFigures(TypedDict):
    """A change of one or several clusters of the first clustering; counts are of documents in both."""

    change: Change
    before: list[int]
    after: list[int]
    documents: int


class ClustersDiff(TypedDict):
    """Comparison of two clusterings on layer 0."""

    documents: int
    only_first: int
    only_second: int
    agreement: Agreement
    agreement_nearest: Agreement
    noise: NoiseDiff
    changes: list[ClusterChangeFigures]
    gone: list[int]
    new: list[int]
    names: tuple[dict[str, str], dict[str, str]] | None


class Spread(TypedDict):
    """Mean and quantiles of a per-document figure."""

    mean: float
    q05: float
    q25: float
    q50: float
    q75: float
    q95: float


class NeighboursKept(Spread):
    """Fraction of the ``k`` nearest documents on the first map that are among the ``k`` nearest on the second."""

    k: int
    sample: int


class MovedDocument(TypedDict):
    """One of the documents that moved most."""

    row_id: int
    displacement: float
    before: int
    after: int
    text: str


class LayoutDiff(TypedDict):
    """Comparison of the document positions on two maps."""

    documents: int
    only_first: int
    only_second: int
    displacement: Spread
    neighbours: NeighboursKept
    moved: list[MovedDocument]


class Diff(TypedDict):
    """Comparison of two artifacts of the same kind; parts that do not apply are None."""

    settings: dict[str, tuple[Any, Any]]
    counts: dict[str, tuple[Any, Any]]
    clusters: ClustersDiff | None
    layout: LayoutDiff | None
    vectors: dict[str, Any] | None
