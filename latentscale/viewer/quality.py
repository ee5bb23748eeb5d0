"""The quality figures of a map on the page: one type from ``quality.json`` to the browser."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import isfinite
from typing import Any

from latentscale.errors import ShapeError


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreement:
    """Agreement of the clusters with a column of classes.

    Attributes
    ----------
    column : str
    nmi, ari, purity : float
        Noise counts as a cluster of its own; ``ari`` is from -1 to 1, the others from 0 to 1.
    """

    column: str
    nmi: float
    ari: float
    purity: float


@dataclass(frozen=True, slots=True, kw_only=True)
class InSpace:
    """Quality figures of the 3-D layout of a map with three dimensions.

    Attributes
    ----------
    trustworthiness, preservation : float or None
        As of ``MapQuality``, with the heights.
    """

    trustworthiness: float | None
    preservation: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Growth:
    """Changes by updates since the map was fitted.

    Attributes
    ----------
    fitted, added, removed : int
        Documents of the fit, added since, and removed from it since.
    refit_due : bool
    reasons : tuple of str
        Why a refit is due, a sentence each.
    """

    fitted: int
    added: int
    removed: int
    refit_due: bool
    reasons: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class MapQuality:
    """The figures of ``quality.json`` that the page shows, as ``Quality`` in ``web/src/engine/format.ts``.

    Shares are from 0 to 1; figures that were not measured, or are undefined for so few documents, are None.

    Attributes
    ----------
    map : str
        Id of the map.
    documents, clusters : int
        Numbers of documents and clusters measured; for an updated map, those of its fit.
    k, sample : int
        Number of neighbours that ``trustworthiness`` and ``preservation`` compare, and of documents sampled for them.
    trustworthiness, preservation : float or None
        Trustworthiness (Venna and Kaski 2001): whether neighbours on the map are neighbours in the embedding; and the
        share of the neighbours in the embedding that are neighbours on the map.
    recall : float or None
        Share of the true nearest neighbours that the neighbour graph contains.
    noise_share, duplicates, outlier_rate : float
        Shares of documents in no cluster, of those with the vector of another document, and of outliers.
    components : int
        Connected components of the neighbour graph.
    largest_component : float
        Share of the documents in the largest component.
    stability : float or None
        Adjusted Rand index of the clusters with two seeds, from -1 to 1.
    against : Agreement or None
    red_flags : tuple of str
        Reasons to doubt the map, a sentence each.
    growth : Growth or None
        Set for updated maps.
    space : InSpace or None
        Set for three-dimensional maps; the figures above are those of the 2-D layout.
    """

    map: str
    documents: int
    clusters: int
    k: int
    sample: int
    trustworthiness: float | None
    preservation: float | None
    recall: float | None
    noise_share: float
    duplicates: float
    outlier_rate: float
    components: int
    largest_component: float
    stability: float | None = None
    against: Agreement | None = None
    red_flags: tuple[str, ...] = ()
    growth: Growth | None = None
    space: InSpace | None = None

    @classmethod
    def parse(cls, facts: Mapping[str, Any], *, map: str) -> MapQuality:
        """Read the figures from the content of a ``quality.json``.

        Raises
        ------
        ShapeError
            If a figure is missing or out of range.
        """
        against, drift, space = facts.get("against"), facts.get("drift"), facts.get("space")
        try:
            quality = cls(
                map=map,
                **{name: facts[name] for name in (*_COUNTS, *_SHARES, "stability")},
                red_flags=tuple(facts["red_flags"]),
                against=against and Agreement(**{name: against[name] for name in ("column", "nmi", "ari", "purity")}),
                space=space and InSpace(**{name: space[name] for name in ("trustworthiness", "preservation")}),
                growth=drift
                and Growth(
                    **{name: drift[name] for name in ("fitted", "added", "removed", "refit_due")},
                    reasons=tuple(drift["reasons"]),
                ),
            )
        except KeyError as missing:
            raise ShapeError(f"quality.json of the map lacks {missing}", where=map) from None
        quality.check()
        return quality

    def check(self) -> None:
        """Raise if a figure is out of range.

        Raises
        ------
        ShapeError
            If a count is negative, or a share is not from 0 to 1.
        """
        counts = {name: getattr(self, name) for name in _COUNTS}
        if self.growth is not None:
            counts |= {name: getattr(self.growth, name) for name in ("fitted", "added", "removed")}
        for name, value in counts.items():
            if not isinstance(value, int) or value < 0:
                raise ShapeError(f"the map's {name} is {value!r}, but must be a count", where=self.map)
        ranges = {name: (getattr(self, name), 0.0) for name in _SHARES} | {"stability": (self.stability, -1.0)}
        if self.against is not None:
            ranges |= {name: (getattr(self.against, name), 0.0) for name in ("nmi", "purity")}
            ranges["ari"] = (self.against.ari, -1.0)
        if self.space is not None:
            ranges |= {f"{name} in space": (getattr(self.space, name), 0.0) for name in _OPTIONAL[:2]}
        for name, (value, least) in ranges.items():
            if value is None and name.removesuffix(" in space") in _OPTIONAL:
                continue
            if not isinstance(value, int | float) or not isfinite(value) or not least <= value <= 1:
                raise ShapeError(f"the map's {name} is {value!r}, but must be from {least:g} to 1", where=self.map)


_COUNTS = ("documents", "clusters", "k", "sample", "components")
_OPTIONAL = ("trustworthiness", "preservation", "recall", "stability")
_SHARES = (
    "trustworthiness",
    "preservation",
    "recall",
    "noise_share",
    "duplicates",
    "outlier_rate",
    "largest_component",
)
