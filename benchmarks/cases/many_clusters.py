"""Cost of the members of all clusters as their number grows: one sort, compared with a mask per cluster."""

from __future__ import annotations

import time
from typing import Any

from benchmarks.corpora import Context
from benchmarks.processes import fresh
from benchmarks.report import Result, Target

DOCUMENTS = 1_000_000
CLUSTERS = (100, 1_000, 4_000)


def run(context: Context) -> Result:
    """Compute centres, hulls and members of an increasing number of clusters of a million documents."""
    documents = DOCUMENTS // 20 if context.quick else DOCUMENTS
    rows: list[dict[str, Any]] = []
    walls: dict[int, float] = {}
    for clusters in CLUSTERS:
        usage, measured = fresh(grouped, documents=documents, clusters=clusters)
        walls[clusters] = measured["wall_s"]
        rows.append({"documents": documents, "clusters": clusters, **measured, "peak_mb": usage.peak_mb})
    usage, measured = fresh(classed, documents=documents)
    rows.append({"documents": documents, "clusters": 40, **measured, "peak_mb": usage.peak_mb})
    most, least = max(walls), min(walls)
    return Result(
        title="Passes over the documents for each cluster: members, centres and hulls of many clusters.",
        parameters={"documents": documents},
        rows=[
            {"what": "members, centres and hulls" if "mask_s" in row else "agreement with classes", **row}
            for row in rows
        ],
        targets=[
            Target(
                what=f"time with {most:,} clusters beside that with {least:,}",
                value=walls[most] / walls[least],
                limit=3,
            )
        ],
        notes=[
            "`mask_s`: the members alone by a mask over all documents for each cluster, timed for 50 and multiplied."
        ],
    )


def grouped(documents: int, clusters: int) -> dict[str, Any]:
    """Compute members, centres and hulls of ``clusters`` clusters, as for labels and publish."""
    import numpy as np

    from latentscale.backends.grouping import members_by_cluster
    from latentscale.backends.shapes import hulls

    random = np.random.default_rng(0)
    membership = random.integers(-1, clusters, documents).astype(np.int32)
    coordinates = random.normal(size=(documents, 2)).astype(np.float32)
    hulls(coordinates[:1000], membership[:1000] % 5)
    started = time.perf_counter()
    middles = [np.median(coordinates[members], axis=0) for members in members_by_cluster(membership)]
    outlines = hulls(coordinates, membership)
    wall = time.perf_counter() - started
    assert len(middles) == len(outlines) == clusters
    started = time.perf_counter()
    for cluster in range(50):
        np.flatnonzero(membership == cluster)
    return {"wall_s": wall, "mask_s": (time.perf_counter() - started) * clusters / 50}


def classed(documents: int) -> dict[str, Any]:
    """Compute the agreement with classes as integers, the form in which a text column is read."""
    import numpy as np

    from latentscale.quality.metrics import agreement

    random = np.random.default_rng(0)
    labels = random.integers(-1, 40, documents).astype(np.int32)
    started = time.perf_counter()
    result = agreement(labels, random.integers(-1, 40, documents).astype(np.int32))
    assert result is not None
    return {"wall_s": time.perf_counter() - started}
