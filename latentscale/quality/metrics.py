"""Quality metrics of a map, and red flags in sentences."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from latentscale.errors import ShapeError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from latentscale.backends.results import NeighborGraph


# Uncertainty coefficient from which clusters follow a confounder.
MOST_TOLD = 0.5
_FOLLOWED = {
    "length": "how long a text is: they may follow length instead of topic",
    "language": "which language a text is in: they follow that before topic; a model for many languages would not",
    "file": "which file a document is from: unless the files are topics, they follow the source",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreement:
    """Agreement of clusters with known classes, over the documents with a class.

    Attributes
    ----------
    nmi : float
        Normalised mutual information (arithmetic mean), in [0, 1].
    ari : float
        Adjusted Rand index; 0 for chance, 1 for equality.
    purity : float
        Share of documents in the most frequent class of their cluster.
    documents : int
        Number of compared documents.
    classes : int
        Number of distinct classes.
    """

    nmi: float
    ari: float
    purity: float
    documents: int
    classes: int


def agreement(labels: NDArray[np.int32], classes: Sequence[Any] | NDArray[np.integer]) -> Agreement | None:
    """Compare clusters with known classes; noise (-1) counts as one more cluster.

    Parameters
    ----------
    labels : int32 ndarray, shape (n,)
    classes : sequence of length n, or int ndarray, shape (n,)
        Any values; documents with None are left out. Integers are classes by number, negative for none.

    Returns
    -------
    Agreement or None
        None if no document has a class.

    Raises
    ------
    ShapeError
        If the two are of different lengths.
    """
    if len(labels) != len(classes):
        raise ShapeError(f"the clustering has {len(labels):,} documents, the classes {len(classes):,}")
    if isinstance(classes, np.ndarray):
        known = classes
    else:
        ids: dict[str, int] = {}
        known = np.array([-1 if value is None else ids.setdefault(str(value), len(ids)) for value in classes], np.int64)
    kept = known >= 0
    if not kept.any():
        return None
    from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score
    from sklearn.metrics.cluster import contingency_matrix

    ours, theirs = np.asarray(labels)[kept], known[kept]
    table: Any = contingency_matrix(theirs, ours, sparse=True)
    return Agreement(
        nmi=float(normalized_mutual_info_score(theirs, ours)),
        ari=float(adjusted_rand_score(theirs, ours)),
        purity=float(table.max(axis=0).sum() / len(ours)),
        documents=len(ours),
        classes=int(table.shape[0]),
    )


def uncertainty_coefficient(labels: NDArray[np.int32], classes: NDArray[np.integer]) -> float | None:
    """Compute Theil's uncertainty coefficient U(class | cluster) (Theil 1970), adjusted for chance.

    Unlike NMI it does not depend on the ratio of the numbers of clusters and classes.

    Parameters
    ----------
    labels, classes : int ndarray, shape (n,)

    Returns
    -------
    float or None
        0 for independence, 1 if every cluster has a single class. None with fewer than 200 documents, fewer than two
        clusters, or more than 95 % of one class.
    """
    n = len(labels)
    clusters, members = np.unique(labels, return_counts=True)
    if n < 200 or len(clusters) < 2:
        return None
    of_class, codes, sizes = np.unique(classes, return_inverse=True, return_counts=True)
    if sizes.max() > 0.95 * n:
        return None

    def both(codes: NDArray[np.integer]) -> float:
        """Joint entropy of class and cluster."""
        pairs = np.searchsorted(clusters, labels) * len(of_class) + codes
        return _entropy(np.unique(pairs, return_counts=True)[1])

    random = np.random.default_rng(0)
    by_chance = float(np.mean([both(random.permutation(codes)) for _ in range(5)]))
    # Mutual information is H(class) + H(cluster) - H(both); permutations change only the joint entropy.
    left = by_chance - _entropy(members)
    return min(max((by_chance - both(codes)) / max(left, 1e-12), 0.0), 1.0)


def _entropy(counts: NDArray[np.integer]) -> float:
    shares = counts / counts.sum()
    return float(-(shares * np.log(shares)).sum())


def stability(first: NDArray[np.int32], second: NDArray[np.int32]) -> float:
    """Compute the adjusted Rand index of two clusterings, over documents that are noise in neither.

    Returns
    -------
    float
        1 for equal clusterings, about 0 for independent ones.
    """
    from sklearn.metrics import adjusted_rand_score

    kept = (first >= 0) & (second >= 0)
    return float(adjusted_rand_score(first[kept], second[kept])) if kept.any() else 0.0


def components(graph: NeighborGraph, *, n_neighbors: int) -> tuple[int, float]:
    """Count the connected components of the neighbour graph, with the share of documents in the largest.

    Distances between components on the map are meaningless. As in the layout, the first ``n_neighbors - 1`` neighbours
    are used.
    """
    from scipy import sparse
    from scipy.sparse.csgraph import connected_components

    n = len(graph)
    k = max(0, min(graph.k, n_neighbors - 1))
    if n == 0:
        return 0, 0.0
    edges = sparse.csr_array(
        (np.ones(n * k, np.int8), graph.indices[:, :k].ravel(), np.arange(0, n * k + 1, k) if k else np.zeros(n + 1)),
        shape=(n, n),
    )
    count, part = connected_components(edges, directed=False)
    return int(count), float(np.bincount(part).max() / n)


def duplicate_share(graph: NeighborGraph) -> float:
    """Share of documents with a duplicate vector."""
    return float((graph.distances[:, 0] == 0).mean()) if graph.k else 0.0


def outlier_rate(coordinates: NDArray[Any]) -> float:
    """Share of outliers of the layout: more than half its extent outside the middle 98 % on any axis."""
    if len(coordinates) < 3:
        return 0.0
    low, high = np.percentile(coordinates, [1, 99], axis=0)
    reach = (high - low).max() / 2
    away = (coordinates < low - reach) | (coordinates > high + reach)
    return float(away.any(axis=1).mean())


def noise_share(labels: NDArray[np.int32]) -> float:
    """Share of documents that are noise."""
    return float((labels < 0).mean()) if len(labels) else 0.0


def largest_cluster_share(labels: NDArray[np.int32]) -> float:
    """Share of the documents that are in the largest cluster."""
    clustered = labels[labels >= 0]
    return float(np.bincount(clustered).max() / len(labels)) if len(clustered) else 0.0


def persistence_summary(persistence: NDArray[np.float32]) -> dict[str, float] | None:
    """Smallest, median and largest persistence of the clusters; None if undefined."""
    known = persistence[np.isfinite(persistence)]
    if len(known) == 0:
        return None
    return {"least": float(known.min()), "median": float(np.median(known)), "largest": float(known.max())}


def red_flags(facts: Mapping[str, Any]) -> list[str]:
    """Describe in sentences why a map may be misleading.

    Parameters
    ----------
    facts : mapping
        What was measured, by the names used here: ``documents``, ``recall``, ``trustworthiness``, ``preservation``,
        ``outlier_rate``, ``components``, ``largest_component``, ``duplicates``, ``clusters``, ``noise_share``,
        ``largest_cluster_share``, ``collapsed`` (in words), ``stability``, ``truncated`` and ``max_tokens``,
        ``follows``. Missing or None values are skipped.

    Returns
    -------
    list of str
        One sentence for each doubt, the number first; empty if there is none.
    """

    def value(name: str) -> float | None:
        fact = facts.get(name)
        return None if fact is None else float(fact)

    flags: list[str] = []
    documents = value("documents")
    if documents is not None and documents < 50:
        return [f"The corpus is too small ({documents:,.0f}) for a map to mean much."]
    if (recall := value("recall")) is not None and recall < 0.9:
        flags.append(f"The search found {recall:.0%} of the true neighbours: parts of the map may be torn apart.")
    if (trust := value("trustworthiness")) is not None and trust < 0.8:
        flags.append(f"Trustworthiness is {trust:.2f}: many documents that lie together are not alike.")
    if (kept := value("preservation")) is not None and kept < 0.1:
        flags.append(f"{kept:.0%} of each document's nearest are near it on the map: read regions, not neighbours.")
    if (far := value("outlier_rate")) is not None and far > 0.005:
        flags.append(f"{far:.1%} of the documents lie far off the map and make the rest look small.")
    parts, largest = value("components"), value("largest_component")
    if parts is not None and parts > 1 and (largest is None or largest < 0.95):
        flags.append(f"The documents fall into {parts:,.0f} parts without a link: distances between them mean nothing.")
    if (same := value("duplicates")) is not None and same > 0.2:
        flags.append(f"{same:.0%} of the documents are identical to another: dense spots may be copies, not topics.")
    clusters = value("clusters")
    if clusters is not None and clusters < 2:
        # Copies of one text are no two clusters at any size.
        copies = same is not None and same > 0.95
        flags.append("There are no two clusters" + ("." if copies else ": try a smaller min_cluster_size."))
    elif clusters is not None and clusters < 5 and documents is not None and documents >= 1_000:
        flags.append(f"There are {clusters:,.0f} clusters of {documents:,.0f} documents: order more by cluster.levels.")
    if (largest_cluster := value("largest_cluster_share")) is not None and largest_cluster > 0.5:
        flags.append(f"{largest_cluster:.0%} of the documents are in one cluster: its label says little of them.")
    if (collapsed := facts.get("collapsed")) is not None:
        flags.append(f"The default clusters collapsed ({collapsed}), and others were tried: see the record.")
    if (noise := value("noise_share")) is not None and noise > 0.5:
        flags.append(f"{noise:.0%} of the documents are in no cluster: the labels speak for the minority.")
    if (stable := value("stability")) is not None and stable < 0.6:
        flags.append(f"Two seeds agree only to {stable:.2f} (ARI): cluster borders are partly chance.")
    if (cut := value("truncated")) is not None and cut > 0.5:
        at = f" at {facts['max_tokens']:,} tokens" if facts.get("max_tokens") else ""
        flags.append(f"{cut:.0%} of the texts were cut{at}: the map shows how they begin, not what they are about.")
    followed: Mapping[str, float | None] = facts.get("follows") or {}
    for name, sentence in _FOLLOWED.items():
        told = followed.get(name)
        if told is not None and told > MOST_TOLD:
            flags.append(f"The clusters tell {told:.0%} of {sentence}.")
    return flags
