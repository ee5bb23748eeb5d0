"""Comparison of two labellings, cluster by cluster: labels before and after, and the kind of change."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from latentscale.errors import RequestError, WorkspaceError
from latentscale.explore.map_comparison import cluster_changes
from latentscale.stages.cluster import read_clusters
from latentscale.storage.artifacts import Record, needed_record, read_table
from latentscale.storage.frames import scan_points
from latentscale.storage.objects import Store
from latentscale.storage.parquet import read_parquet

COLUMNS = (
    *("layer", "change", "label_before", "label_after", "size_before", "size_after", "shared", "overlap"),
    *("cluster_before", "cluster_after", "source_before", "source_after"),
)
"""Keys of a row: see :func:`compare_labels`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Labelling:
    """The labels of one side, and the cluster membership of its documents.

    Attributes
    ----------
    row_ids : int64 ndarray, shape (n,)
        Ascending.
    layers : dict of int to int32 ndarray, shape (n,)
        Cluster of each document, by layer; -1 is noise.
    labels : dict of (int, int) to (str, str)
        Label and source, by layer and cluster.
    """

    row_ids: NDArray[np.int64]
    layers: dict[int, NDArray[np.int32]]
    labels: dict[tuple[int, int], tuple[str, str]]


def read_labelling(store: Store, record: Record) -> Labelling:
    """Read the labels and clusters of a map, or of a labels artifact.

    Raises
    ------
    WorkspaceError
        If the artifact is of another kind.
    """
    if record.kind == "labels":
        found = read_clusters(store, needed_record(store, "clusters", str(record.request["clusters"])))
        table, row_ids, memberships = read_table(store, record, "labels"), found.row_ids, found.memberships()
    elif record.kind == "map":
        table = read_parquet(store, f"{record.folder}/labels.parquet")
        depth = max(table["layer"].to_pylist(), default=0)
        names = ["cluster", *(f"layer_{layer}" for layer in range(1, depth + 1))]
        points = scan_points(store, record).select("row_id", *names).collect()
        row_ids, memberships = points["row_id"].to_numpy(), [points[name].to_numpy() for name in names]
    else:
        raise WorkspaceError(
            f"{record.id} is a {record.kind}: it has no labels", hint="latentscale list names maps and labels."
        )
    order = np.argsort(row_ids, kind="stable")
    rows = table.select(["layer", "cluster", "label", "source"]).to_pylist()
    return Labelling(
        row_ids=row_ids[order],
        layers={layer: one[order].astype(np.int32) for layer, one in enumerate(memberships)},
        labels={(row["layer"], row["cluster"]): (row["label"], row["source"]) for row in rows},
    )


def compare_labels(store: Store, first: Record, second: Record, *, layer: int | None = None) -> dict[str, Any]:
    """Compare two labellings of one workspace, cluster by cluster.

    Parameters
    ----------
    layer : int, optional
        Compare only this layer; by default all layers that both have.

    Returns
    -------
    dict
        ``first``, ``second`` (ids), ``documents`` (number in both), ``only_first``, ``only_second``, ``changes``
        (number of rows for each ``change``) and ``clusters``: a list of dicts with the keys ``COLUMNS``, finest layer
        and largest cluster first. ``change`` is ``same`` or ``renamed`` for two clusters whose ``overlap`` (Jaccard
        index) is at least one half; ``split``, ``merged``, ``moved`` or ``dissolved`` as in ``cluster_changes``, with
        a row for each pair; ``split`` also if more than half of a cluster comes from a cluster that stayed the same;
        otherwise ``new``. Values of a missing side are None. ``shared`` counts the documents in both clusters; sizes
        and overlap refer to documents in both labellings.

    Raises
    ------
    WorkspaceError
        If one has no labels, or they have no document in common.
    RequestError
        If one of them lacks that layer.
    """
    before, after = read_labelling(store, first), read_labelling(store, second)
    row_ids, at_first, at_second = np.intersect1d(
        before.row_ids, after.row_ids, assume_unique=True, return_indices=True
    )
    if not len(row_ids):
        raise WorkspaceError(f"{first.id} and {second.id} have no document in common")
    layers = sorted(before.layers.keys() & after.layers.keys())
    if layer is not None and layer not in layers:
        raise RequestError(
            f"--layer {layer}: they have the layers {', '.join(map(str, layers))} in common", hint="Name one of these."
        )
    rows: list[dict[str, Any]] = []
    for one in layers if layer is None else [layer]:
        rows += layer_rows(one, before, after, before.layers[one][at_first], after.layers[one][at_second])
    return {
        "first": first.id,
        "second": second.id,
        "documents": len(row_ids),
        "only_first": len(before.row_ids) - len(row_ids),
        "only_second": len(after.row_ids) - len(row_ids),
        "changes": dict(Counter(row["change"] for row in rows).most_common()),
        "clusters": rows,
    }


def layer_rows(
    layer: int, before: Labelling, after: Labelling, old: NDArray[np.int32], new: NDArray[np.int32]
) -> list[dict[str, Any]]:
    """The rows of one layer; ``old`` and ``new`` are the clusters of the common documents before and after."""
    sizes_old, sizes_new = Counter(old[old >= 0].tolist()), Counter(new[new >= 0].tolist())
    inside = (old >= 0) & (new >= 0)
    shared = Counter(zip(old[inside].tolist(), new[inside].tolist(), strict=True))
    rows: list[dict[str, Any]] = []

    def add(change: str, one: int | None, other: int | None) -> None:
        label_old, source_old = (None, None) if one is None else before.labels.get((layer, one), (None, None))
        label_new, source_new = (None, None) if other is None else after.labels.get((layer, other), (None, None))
        if change == "same" and label_old != label_new:
            change = "renamed"
        size_old, size_new = sizes_old[one] if one is not None else 0, sizes_new[other] if other is not None else 0
        both = 0 if one is None or other is None else shared[one, other]
        rows.append(
            dict(
                zip(
                    COLUMNS,
                    (
                        *(layer, change, label_old, label_new, None if one is None else size_old),
                        *(None if other is None else size_new, both),
                        *(round(both / (size_old + size_new - both), 4), one, other, source_old, source_new),
                    ),
                    strict=True,
                )
            )
        )

    reached: set[int] = set()
    for change in cluster_changes(old, new):
        reached.update(change.after)
        for one in change.before:
            for other in change.after or [None]:
                add(change.change, one, other)
    largest: dict[int, tuple[int, int]] = {}
    for (one, goal), count in shared.items():
        largest[goal] = max(largest.get(goal, (0, -1)), (count, one))
    for other in sorted(sizes_new.keys() - reached):
        count, origin = largest.get(other, (0, -1))
        came = 2 * count > sizes_new[other]
        add("split" if came else "new", origin if came else None, other)
    return sorted(rows, key=lambda row: (-(row["size_before"] or 0), row["cluster_before"] or 0, -(row["shared"])))
