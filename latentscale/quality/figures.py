"""Types of the figures in ``quality.json``; see docs/file-format.md."""

from __future__ import annotations

from typing import NotRequired, TypedDict


class Persistence(TypedDict):
    """Persistence of the clusters of HDBSCAN."""

    least: float
    median: float
    largest: float


class NearestAgreement(TypedDict):
    """Agreement with known classes, noise at its nearest cluster."""

    nmi: float
    ari: float
    purity: float


class Agreement(NearestAgreement):
    """Agreement of the clusters with a column of known classes, noise as a cluster of its own."""

    column: str
    documents: int
    classes: int
    nearest: NearestAgreement


class Growth(TypedDict):
    """The cluster with the largest relative growth."""

    cluster: int
    fitted: int
    added: int
    growth: float


class Drift(TypedDict):
    """Drift of documents added since a fit."""

    fitted: int
    added: int
    removed: int
    added_share: float
    removed_share: float
    noise_share_fitted: float | None
    noise_share_added: float | None
    ood_share: float | None
    largest_growth: Growth | None
    refit_due: bool
    reasons: list[str]


class LabelScores(TypedDict):
    """Scores of the labels over the clusters of all layers; ``held_out`` if they were tested on held-out documents."""

    labels: int
    unique: float
    coverage: float | None
    coverage_outside: float | None
    coverage_lift: NotRequired[float | None]
    held_out: float | None
    fallback_share: float
    sources: dict[str, int]


class Followed(TypedDict):
    """Share of the information on confounders that clusters explain; None if all documents have the same value."""

    length: float | None
    language: float | None
    file: float | None


class SpaceFigures(TypedDict):
    """Figures of a three-dimensional layout; the others are those of the flat one."""

    trustworthiness: float | None
    preservation: float | None
    k: int
    sample: int
    outlier_rate: float


class Quality(TypedDict):
    """Figures of a map. Shares are in [0, 1]; figures that are undefined for few documents are None."""

    documents: int
    clusters: int
    recall: float | None
    trustworthiness: float | None
    preservation: float | None
    k: int | None
    sample: int | None
    outlier_rate: float | None
    components: int
    largest_component: float
    duplicates: float | None
    noise_share: float
    largest_cluster_share: NotRequired[float]
    collapsed: NotRequired[str | None]
    persistence: Persistence | None
    stability: float | None
    against: Agreement | None
    labels: NotRequired[LabelScores | None]
    truncated: NotRequired[float | None]
    follows: NotRequired[Followed | None]
    red_flags: list[str]
    space: NotRequired[SpaceFigures]
    fit: NotRequired[str]
    drift: NotRequired[Drift]
