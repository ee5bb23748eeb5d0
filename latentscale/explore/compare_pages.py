"""A page that compares two maps side by side, linked by row ids, with moved documents and changed clusters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from latentscale.errors import RequestError
from latentscale.explore.documents import read_texts
from latentscale.explore.export import export
from latentscale.explore.map_comparison import Comparison, Layout, compare_layouts
from latentscale.explore.map_diff import cluster_names, most_moved, read_layout
from latentscale.explore.targets import check_new_page, new_folder
from latentscale.stages.publish import page_title
from latentscale.storage.artifacts import Record
from latentscale.storage.frames import scan_points
from latentscale.storage.objects import Store
from latentscale.storage.snapshots import read_snapshot
from latentscale.storage.workspace_record import read_workspace
from latentscale.viewer import compare as page_of_two
from latentscale.viewer.added_columns import AddedColumn, add_columns

MOVED = 50
# The nearest neighbours of all documents on both maps are in memory at once.
MOST_DOCUMENTS = 1_000_000
_TEXT = 140
_NO_CLUSTER = "in no cluster"


def write_comparison(
    store: Store, first: Record, second: Record, to: Path, *, names: tuple[str, str]
) -> dict[str, Any]:
    """Write a comparison page of two maps to a new folder, and return its figures.

    Both map pages get the columns ``moved``, ``neighbours kept`` and the cluster on the other map.

    Parameters
    ----------
    names : tuple of str
        Names of the two maps on the page.

    Returns
    -------
    dict
        ``documents`` (number on both), ``only`` (numbers on one map only), ``residual`` (the median of ``moved``),
        ``kept`` (mean fraction of the 15 nearest documents that are the same on both), ``changes`` (as
        ``ClusterChange``), ``labels`` (of each map, by cluster), ``moved`` (the 50 documents that moved most:
        ``row_id``, ``moved``, ``kept``, ``text``).

    Raises
    ------
    RequestError
        If both are the same map, or they have more than ``MOST_DOCUMENTS`` documents.
    WorkspaceError
        If the folder is not empty, a map has no page, or they have no document in common.
    """
    if first.id == second.id:
        raise RequestError(f"{first.id} is compared with itself", hint="latentscale list names the other maps.")
    for record in (first, second):
        documents = int(record.counts["documents"])
        if documents > MOST_DOCUMENTS:
            raise RequestError(
                f"{record.id} has {documents:,} documents, and at most {MOST_DOCUMENTS:,} are compared side by side",
                hint="latentscale diff compares settings, counts and clusters of maps of any size.",
            )
    check_new_page(store, to)
    found = compare_layouts(_layout(store, first), _layout(store, second))
    labels = [cluster_names(store, record) for record in (first, second)]
    others = [f"cluster on {name}" for name in (names[1], names[0])]
    facts = {
        "title": f"{page_title(first)}: {names[0]} and {names[1]}",
        "names": list(names),
        "other": others,
        "documents": len(found.row_ids),
        "only": list(found.only),
        "residual": round(found.residual, 4),
        "kept": round(float(found.kept.mean()), 4),
        "changes": [change.as_json() for change in found.changes],
        "labels": [{str(cluster): label for cluster, label in own.items()} for own in labels],
        "moved": _moved(store, first, found),
    }
    with new_folder(to) as made:
        for side, record in enumerate((first, second)):
            folder = made / "ab"[side]
            export(store, record, folder, what="page")
            numbers = {"moved": found.moved, "neighbours kept": found.kept}
            columns = [AddedColumn(name=name, row_ids=found.row_ids, values=values) for name, values in numbers.items()]
            add_columns(folder, [*columns, _clusters(found, others[side], found.clusters[1 - side], labels[1 - side])])
        for name, content in page_of_two.files(facts):
            (made / name).write_bytes(content)
    return facts


def _layout(store: Store, record: Record) -> Layout:
    return read_layout(scan_points(store, record).select("row_id", "x", "y", "cluster").collect())


def _clusters(found: Comparison, name: str, clusters: NDArray[np.int32], labels: Mapping[int, str]) -> AddedColumn:
    """The clusters of the other map as a column, with the categories by decreasing size."""
    ids, codes, counts = np.unique(clusters, return_inverse=True, return_counts=True)
    order = np.argsort(-counts, kind="stable")
    rank = np.empty(len(order), np.int64)
    rank[order] = np.arange(len(order))
    shown = [_NO_CLUSTER if ids[i] < 0 else labels[int(ids[i])] for i in order]
    return AddedColumn(name=name, row_ids=found.row_ids, values=rank[codes], categories=shown)


def _moved(store: Store, record: Record, found: Comparison) -> list[dict[str, Any]]:
    order = most_moved(found, MOVED)
    snapshot = read_snapshot(store, str(record.request["snapshot"]))
    texts: Sequence[str | None] = _texts(
        read_texts(store, snapshot, found.row_ids[order], read_workspace(store).text_column)
    )
    return [
        {
            "row_id": int(found.row_ids[i]),
            "moved": round(float(found.moved[i]), 4),
            "kept": round(float(found.kept[i]), 4),
            "text": " ".join((text or "").split())[:_TEXT],
        }
        for i, text in zip(order, texts, strict=True)
    ]


def _texts(column: pa.ChunkedArray) -> list[str | None]:
    return column.to_pylist()
