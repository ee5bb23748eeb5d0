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
    """The figures of ``quality.json`` that the page shows; ``Quality`` in ``web/src/engine/format.ts`` is the same.

    Shares are from 0 to 1; what is not defined for so few documents, or was not measured, is None.

    Attributes
    ----------
    map : str
        Id of the map whose page it is.
    documents, clusters : int
        What was measured; of an updated map, those of its fit.
    k, sample : int
        Neighbours that ``trustworthiness`` and ``preservation`` compare, of so many documents.
    trustworthiness, preservation : float or None
        How far neighbours on the map are neighbours in the embedding; share of the latter that the map keeps.
    recall : float or None
        Share of the true nearest neighbours that the neighbour graph has.
    noise_share, duplicates, outlier_rate : float
        Documents in no cluster, with the vector of another, far off the map.
    components : int
        Parts of the neighbour graph that no edge joins.
    largest_component : float
        Share of the documents in the largest of them.
    stability : float or None
        ARI of the clusters of two seeds, from -1 to 1.
    against : Agreement or None
    red_flags : tuple of str
        Reasons to doubt the map, a sentence each.
    growth : Growth or None
        Of an updated map.
    space : InSpace or None
        Of a map of three dimensions; the figures above are of the flat one.
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
        """Take what the page shows from the content of a ``quality.json``.

        Raises
        ------
        ShapeError
            If a figure is missing, or is out of its range.
        """
        against, drift, space = facts.get("against"), facts.get("drift"), facts.get("space")
        try:
            found = cls(
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
            raise ShapeError(f"the map's quality lacks {missing}", where=map) from None
        found.check()
        return found

    def check(self) -> None:
        """Raise if a figure cannot be what its name says.

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
                raise ShapeError(f"the map's {name} is {value!r}, and is a count", where=self.map)
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
                raise ShapeError(f"the map's {name} is {value!r}, and is from {least:g} to 1", where=self.map)


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
