"""Types of what a comparison of two artifacts says, as docs/clusters.md lists it."""

from __future__ import annotations

from typing import Any, Literal, TypedDict

Change = Literal["same", "split", "merged", "moved", "dissolved"]


class Agreement(TypedDict):
    """How far two clusterings agree; null where they share no document."""

    ari: float | None
    nmi: float | None


class NoiseDiff(TypedDict):
    """Documents in no cluster, among those that both have."""

    both: int
    only_first: int
    only_second: int


class ClusterChangeFigures(TypedDict):
    """What became of clusters of the first that both have documents of."""

    change: Change
    before: list[int]
    after: list[int]
    documents: int


class ClustersDiff(TypedDict):
    """Two clusterings, of layer 0."""

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
    """Mean and quantiles of a figure over documents."""

    mean: float
    q05: float
    q25: float
    q50: float
    q75: float
    q95: float


class NeighboursKept(Spread):
    """Share of the ``k`` nearest documents on the first map that are among the ``k`` nearest on the second."""

    k: int
    sample: int


class MovedDocument(TypedDict):
    """A document that moved far."""

    row_id: int
    displacement: float
    before: int
    after: int
    text: str


class LayoutDiff(TypedDict):
    """The places of documents on two maps."""

    documents: int
    only_first: int
    only_second: int
    displacement: Spread
    neighbours: NeighboursKept
    moved: list[MovedDocument]


class Diff(TypedDict):
    """Two artifacts of one kind; null where a part does not apply to them."""

    settings: dict[str, tuple[Any, Any]]
    counts: dict[str, tuple[Any, Any]]
    clusters: ClustersDiff | None
    layout: LayoutDiff | None
    vectors: dict[str, Any] | None
