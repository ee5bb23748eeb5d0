"""Measure the drift of documents added since the last fit, and whether a refit is due."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

FAR = 0.95
"""A document is far out if so many of the fit are nearer to their neighbours than it is to its own."""

# Shares are compared by their lower confidence bound, at this many standard errors.
_ERRORS = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Added:
    """Counts of documents added to a fit, which can be summed over updates.

    Attributes
    ----------
    documents : int
    noise : int
        Those that are noise.
    far : int
        Those with an outlier score above 0.95.
    sizes : dict of int to int
        Documents by cluster id.
    """

    documents: int = 0
    noise: int = 0
    far: int = 0
    sizes: dict[int, int] = field(default_factory=dict[int, int])

    @classmethod
    def count(cls, cluster: NDArray[np.int32], outlier: NDArray[np.float32]) -> Added:
        """Count documents with a cluster (-1 is noise) and an outlier score in [0, 1] each."""
        ids, members = np.unique(cluster[cluster >= 0], return_counts=True)
        return cls(
            documents=len(cluster),
            noise=int((cluster < 0).sum()),
            far=int((outlier > FAR).sum()),
            sizes=dict(zip(ids.tolist(), members.tolist(), strict=True)),
        )

    @classmethod
    def parse(cls, plain: Mapping[str, Any]) -> Added:
        """Build from the result of :meth:`plain`."""
        return cls(
            documents=int(plain["documents"]),
            noise=int(plain["noise"]),
            far=int(plain["far"]),
            sizes={int(one): int(size) for one, size in plain["sizes"].items()},
        )

    def plain(self) -> dict[str, Any]:
        """Return JSON-compatible counts."""
        sizes = {str(one): self.sizes[one] for one in sorted(self.sizes)}
        return {"documents": self.documents, "noise": self.noise, "far": self.far, "sizes": sizes}

    def __add__(self, other: Added) -> Added:
        sizes = dict(self.sizes)
        for one, size in other.sizes.items():
            sizes[one] = sizes.get(one, 0) + size
        return Added(
            documents=self.documents + other.documents,
            noise=self.noise + other.noise,
            far=self.far + other.far,
            sizes=sizes,
        )


def measure_drift(
    added: Added,
    *,
    fitted: int,
    noise: int,
    sizes: Mapping[int, int],
    removed: int = 0,
    added_share: float = 0.2,
    removed_share: float = 0.2,
    ood_share: float = 0.15,
    noise_increase: float = 0.15,
    cluster_growth: float = 1.0,
) -> dict[str, Any]:
    """Compare documents added since a fit with the fit.

    Shares of added documents are compared by their lower confidence bound (Wilson 1927, two standard errors), and only
    for at least as many documents as the default ``min_cluster_size`` of the fit (1/500 of it, at least 50): a new fit
    could not form a cluster of fewer.

    Parameters
    ----------
    added : Added
        Documents that are on the map and not in the fit.
    fitted : int
        Documents of the fit.
    noise : int
        Noise among those.
    sizes : mapping of int to int
        Documents of the fit by cluster id.
    removed : int
        Documents of the fit that were removed.
    added_share, removed_share : float
        Threshold of added (removed) documents per fitted one.
    ood_share : float
        Threshold of the share of added documents farther out than 95 % of the fit; 0.05 is expected without drift.
    noise_increase : float
        Threshold of the increase of the noise share, compared with the fit.
    cluster_growth : float
        Threshold of added documents of a cluster per fitted one.

    Returns
    -------
    dict
        ``added``, ``removed``, ``fitted`` (documents), ``added_share``, ``removed_share``, ``noise_share_fitted``,
        ``noise_share_added``, ``ood_share`` (None where nothing was added), ``largest_growth`` (None, or ``cluster``,
        ``fitted``, ``added``, ``growth``), ``refit_due`` and ``reasons``, a sentence each.
    """
    total = added.documents
    enough = max(50, fitted // 500)
    reasons: list[str] = []

    def share(part: int, whole: int) -> float | None:
        return part / whole if whole else None

    if (grown := share(total, fitted)) is not None and grown > added_share:
        reasons.append(
            f"{total:,} documents were added to the {fitted:,} that the map was fitted to ({grown:.0%}; "
            f"the limit is {added_share:.0%})."
        )
    if (removed_fraction := share(removed, fitted)) is not None and removed_fraction > removed_share:
        reasons.append(
            f"{removed:,} of the {fitted:,} documents that the map was fitted to were removed ({removed_fraction:.0%}; "
            f"the limit is {removed_share:.0%})."
        )
    far = share(added.far, total)
    if far is not None and added.far >= enough and _at_least(added.far, total) > ood_share:
        reasons.append(
            f"{far:.0%} of the added documents are farther from the fitted ones than 95 % of those are from each "
            f"other (the limit is {ood_share:.0%})."
        )
    noise_before, noise_now = share(noise, fitted), share(added.noise, total)
    if (
        noise_before is not None
        and noise_now is not None
        and added.noise >= enough
        and _at_least(added.noise, total) - noise_before > noise_increase
    ):
        reasons.append(
            f"{noise_now:.0%} of the added documents are in no cluster, {noise_before:.0%} of the fitted ones were "
            f"(the limit is {noise_increase:.0%} more)."
        )
    growth = _largest_growth(added, sizes, least=enough)
    if growth is not None and growth["growth"] > cluster_growth:
        reasons.append(
            f"Cluster {growth['cluster']} gained {growth['added']:,} documents on the {growth['fitted']:,} it was "
            f"fitted with (the limit is {cluster_growth:g} for each)."
        )
    return {
        "fitted": fitted,
        "added": total,
        "removed": removed,
        "added_share": _rounded(grown),
        "removed_share": _rounded(removed_fraction),
        "noise_share_fitted": _rounded(noise_before),
        "noise_share_added": _rounded(noise_now),
        "ood_share": _rounded(far),
        "largest_growth": growth,
        "refit_due": bool(reasons),
        "reasons": reasons,
    }


def _largest_growth(added: Added, sizes: Mapping[int, int], *, least: int) -> dict[str, Any] | None:
    """Find the cluster with the largest relative growth, of those with at least ``least`` added documents."""
    grown = [(gain / sizes[one], -one) for one, gain in added.sizes.items() if gain >= least and sizes.get(one, 0) > 0]
    if not grown:
        return None
    growth, one = max(grown)
    return {"cluster": -one, "fitted": sizes[-one], "added": added.sizes[-one], "growth": round(growth, 4)}


def _at_least(part: int, whole: int) -> float:
    """Lower bound of Wilson's confidence interval of a share."""
    share, square = part / whole, _ERRORS**2
    middle = share + square / (2 * whole)
    half = _ERRORS * float(np.sqrt(share * (1 - share) / whole + square / (4 * whole**2)))
    return (middle - half) / (1 + square / whole)


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 6)
