"""Search settings of HDBSCAN: for a requested number of clusters, or to avoid a collapsed clustering."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import zip_longest
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from latentscale.backends import Clustering

# A clustering has collapsed if its largest cluster has a larger share of documents than this, or the noise has...
_LARGEST, _NOISE = 0.5, 0.5
# ...or if there are fewer clusters than this with at least this many documents.
_FEW_CLUSTERS, _MANY_DOCUMENTS = 5, 1_000
# Fits of one search: each at least halves the remaining range of sizes.
FITS = 7
# Ratio to the requested number that counts as met.
_MET = 1.1


@dataclass(frozen=True, slots=True, kw_only=True)
class DensitySettings:
    """Settings of one fit of HDBSCAN."""

    min_cluster_size: int
    min_samples: int
    cluster_selection_method: Literal["eom", "leaf"]


Fit = Callable[[DensitySettings], Clustering]
"""Clusters the documents with some settings."""


def collapse(clustering: Clustering) -> str | None:
    """Describe how a clustering has collapsed, as the end of "The default settings gave …"; None if it has not."""
    documents, found = len(clustering.labels), clustering.n_clusters
    if documents == 0:
        return None
    clustered = clustering.labels[clustering.labels >= 0]
    largest = int(np.bincount(clustered, minlength=1).max())
    if largest > _LARGEST * documents:
        return f"a cluster of {largest:,} of the {documents:,} documents"
    if found < _FEW_CLUSTERS and documents >= _MANY_DOCUMENTS:
        return f"{found} {'cluster' if found == 1 else 'clusters'} of {documents:,} documents"
    noise = documents - len(clustered)
    return f"no cluster for {noise:,} of the {documents:,} documents" if noise > _NOISE * documents else None


def without_collapse(fit: Fit, first: DensitySettings) -> Clustering:
    """Cluster with ``first``, and if that collapses with other settings, until one result has not collapsed.

    If all have, the one with the smallest worst figure (largest cluster, noise) is kept. All fits are in
    ``details["tried"]``, and a note names the settings that replaced the default.

    Parameters
    ----------
    fit : callable
    first : DensitySettings
        The default.
    """
    clustering = fit(first)
    reason = collapse(clustering)
    if reason is None or len(clustering.labels) < _MANY_DOCUMENTS:
        return clustering
    found = [(first, clustering, reason)]
    for settings in _next_better(first):
        clustering = fit(settings)
        found.append((settings, clustering, collapse(clustering) or ""))
        if not found[-1][2]:
            break
    kept, clustering, still = found[-1] if not found[-1][2] else min(found, key=lambda one: _severity(one[1]))
    notes = [*clustering.notes, f"The default settings of HDBSCAN gave {reason}."]
    if kept == first:
        notes.append(f"None of {len(found) - 1} other settings is better: try cluster.method=kmeans.")
    else:
        notes.append(
            f"cluster_selection_method={kept.cluster_selection_method}, min_cluster_size={kept.min_cluster_size} and "
            f"min_samples={kept.min_samples} were used instead"
            + (f", which still gave {still}." if still else f": {clustering.n_clusters:,} clusters.")
        )
    details = {
        "tried": [_tried(settings, one) for settings, one, _ in found],
        "collapsed": reason,
        "replaced_default": kept != first,
    }
    return replace(clustering, notes=notes, details=clustering.details | details)


def about(fit: Fit, first: DensitySettings, wanted: int, *, methods: tuple[Literal["eom", "leaf"], ...]) -> Clustering:
    """Cluster into about ``wanted`` clusters, by searching ``min_cluster_size``.

    The number of clusters decreases with the size, so each fit narrows the range of sizes (by interpolation on log
    scales). If a selection method collapses or misses the number, the next one is tried.

    Parameters
    ----------
    fit : callable
    first : DensitySettings
        Its ``min_cluster_size`` is the smallest that is tried.
    wanted : int
    methods : tuple of {"eom", "leaf"}
        In order of preference.

    Returns
    -------
    Clustering
        All fits are in ``details["tried"]``. A note reports a number that is off by more than a tenth.
    """
    tried: list[tuple[DensitySettings, Clustering]] = []

    def nearest() -> Clustering:
        return min((one for _, one in tried), key=lambda one: (collapse(one) is not None, _miss(one, wanted)))

    for method in methods:
        tried += _narrow(fit, replace(first, cluster_selection_method=method), wanted)
        if collapse(nearest()) is None and _miss(nearest(), wanted) <= np.log(_MET):
            break
    clustering = nearest()
    details = clustering.details | {"ordered": wanted, "tried": [_tried(*one) for one in tried]}
    notes = list(clustering.notes)
    if _miss(clustering, wanted) > np.log(_MET):
        notes.append(
            f"cluster.levels asks for about {wanted:,} clusters of at least {first.min_cluster_size:,} documents; the "
            f"nearest number that HDBSCAN found is {clustering.n_clusters:,}."
        )
    return replace(clustering, notes=notes, details=details)


def missed_levels(levels: Sequence[int], finest: int, layers: Sequence[NDArray[np.int32]]) -> list[str]:
    """Return notes for coarser layers that do not have the requested number of clusters."""
    wanted = levels[1:]
    found = [int(layer.max(initial=-1)) + 1 for layer in layers]
    if not wanted or all(abs(a - b) <= max(1, b // 10) for a, b in zip_longest(found, wanted, fillvalue=0)):
        return []
    ordered, made = (" and ".join(f"{n:,}" for n in counts) for counts in (wanted, found))
    return [
        f"cluster.levels asks for coarser layers of {ordered} clusters; of {finest:,} finest ones, {made or 'none'} "
        f"could be made without a branch of a single child."
    ]


def _narrow(fit: Fit, first: DensitySettings, wanted: int) -> list[tuple[DensitySettings, Clustering]]:
    """Yield fits of one method, converging to the size that gives the number."""
    smallest = fit(first)
    found = [(first, smallest)]
    documents = len(smallest.labels)
    low, high = first.min_cluster_size, max(documents // 2, first.min_cluster_size)
    if smallest.n_clusters <= wanted:
        return found
    # Bracket: too many clusters at ``low``, too few at ``high`` (half of the documents allow one at most).
    at_low, at_high = smallest.n_clusters, 1
    for _ in range(FITS - 1):
        if high - low < 2:
            break
        part = np.log(at_low / wanted) / max(np.log(at_low / max(at_high, 0.5)), 1e-9)
        # Kept away from the ends, so that the range shrinks from both sides.
        size = round(low * (high / low) ** float(np.clip(part, 0.2, 0.8)))
        size = min(max(size, low + 1), high - 1)
        settings = replace(first, min_cluster_size=size)
        clustering = fit(settings)
        found.append((settings, clustering))
        if _miss(clustering, wanted) <= np.log(_MET):
            break
        if clustering.n_clusters > wanted:
            low, at_low = size, clustering.n_clusters
        else:
            high, at_high = size, clustering.n_clusters
    return found


def _next_better(first: DensitySettings) -> Iterator[DensitySettings]:
    """Yield settings to try, those nearest to the default first: leaf clusters, less noise, then smaller clusters."""
    size = first.min_cluster_size
    few = max(2, first.min_samples // 3)
    yield replace(first, cluster_selection_method="leaf")
    yield replace(first, min_samples=few)
    yield replace(first, cluster_selection_method="leaf", min_samples=few)
    half = max(5, size // 2)
    yield DensitySettings(min_cluster_size=half, min_samples=few, cluster_selection_method="leaf")
    yield DensitySettings(min_cluster_size=half, min_samples=1, cluster_selection_method="leaf")


def _severity(clustering: Clustering) -> float:
    """The larger of the largest cluster's share and the noise's share; 1 if there are fewer than two clusters."""
    if clustering.n_clusters < 2:
        return 1.0
    shares = np.bincount(clustering.labels + 1) / len(clustering.labels)
    return float(shares.max())


def _miss(clustering: Clustering, wanted: int) -> float:
    return abs(float(np.log(max(clustering.n_clusters, 0.5) / wanted)))


def _tried(settings: DensitySettings, clustering: Clustering) -> dict[str, Any]:
    shares = np.bincount(clustering.labels + 1, minlength=2) / max(len(clustering.labels), 1)
    return asdict(settings) | {
        "clusters": clustering.n_clusters,
        "largest_share": round(float(shares[1:].max()), 4),
        "noise_share": round(float(shares[0]), 4),
    }
