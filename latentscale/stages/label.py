"""Label: give each cluster of each layer a name, its keyphrases and its exemplars."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from latentscale.config import LabelConfig
from latentscale.provenance import measured
from latentscale.stages.cluster import Clusters, read_clusters
from latentscale.stages.vectors import load_vectors, stream_documents
from latentscale.storage.artifacts import ArtifactWriter, Record
from latentscale.storage.objects import Store
from latentscale.storage.snapshots import read_snapshot

VERSION = 2
EXEMPLAR_CANDIDATES = 1_000

LABELS_SCHEMA = pa.schema(
    [
        ("layer", pa.int32()),
        ("cluster", pa.int32()),
        ("label", pa.string()),
        ("source", pa.string()),
        ("keyphrases", pa.list_(pa.string())),
        ("exemplars", pa.list_(pa.int64())),
        ("parent", pa.int32()),
        ("size", pa.int64()),
        ("nearest_size", pa.int64()),
        ("persistence", pa.float32()),
        ("coverage", pa.float32()),
        ("coverage_outside", pa.float32()),
        ("documents_read", pa.int64()),
    ]
)


def labels_request(config: LabelConfig, clusters: Record, *, text_column: str) -> dict[str, Any]:
    """Everything that alters the labels."""
    return {
        "version": VERSION,
        "clusters": clusters.id,
        "text": text_column,
        **config.model_dump(),
    }


def make_labels(store: Store, request: dict[str, Any], clusters: Record, run: str | None) -> Record:
    """Label the clusters of ``request`` and write the table."""
    from latentscale.labelers.exemplars import choose_exemplars
    from latentscale.labelers.keyphrases import label_clusters
    from latentscale.labelers.words import MAX_CHARACTERS

    writer = ArtifactWriter(store, "labels", request, [clusters], run=run)
    with measured() as cost:
        found = read_clusters(store, clusters)
        snapshot = read_snapshot(store, clusters.request["snapshot"])
        memberships = found.memberships()

        def texts() -> Iterator[tuple[NDArray[np.int64], Sequence[str]]]:
            for places, batch in stream_documents(store, snapshot, found.row_ids, [request["text"]]):
                yield places, batch.column(0).to_pylist()

        labels = label_clusters(
            texts,
            memberships,
            max_keyphrases=request["max_keyphrases"],
            max_documents_per_cluster=request["max_documents_per_cluster"],
            seed=request["seed"],
        )
        vectors = load_vectors(store, snapshot, clusters.request["embedding"])
        rows: list[dict[str, Any]] = [
            _row(found, memberships, label.layer, label.cluster)
            | {
                "label": label.label,
                "source": label.source,
                "keyphrases": list(label.keyphrases),
                "coverage": label.coverage,
                "coverage_outside": label.coverage_outside,
                "documents_read": label.documents_read,
            }
            for label in labels
        ]
        _use_column_names(found, rows)
        for row in rows:
            members = np.flatnonzero(memberships[row["layer"]] == row["cluster"]).astype(np.int64)
            chosen = choose_exemplars(
                vectors.matrix,
                members,
                k=request["exemplars"],
                max_candidates=EXEMPLAR_CANDIDATES,
                seed=request["seed"],
            )
            row["exemplars"] = found.row_ids[chosen].tolist()
        writer.put_table("labels", pa.Table.from_pylist(rows, schema=LABELS_SCHEMA))
    # Documents read for a coarser layer are among those read for the finest.
    read = sum(row["documents_read"] for row in rows if row["layer"] == 0)
    clustered = sum(row["size"] for row in rows if row["layer"] == 0)
    notes = [f"Only the first {MAX_CHARACTERS:,} characters of a text are read for labels."]
    if read < clustered:
        notes.append(
            f"Labels were counted in {read:,} of the {clustered:,} documents in clusters: "
            f"at most {request['max_documents_per_cluster']:,} of a cluster of the finest layer."
        )
    return writer.commit(
        counts={
            "labels": len(rows),
            "without_words": sum(row["source"] == "none" for row in rows),
            "documents_read": read,
        },
        cost=cost,
        choices={"max_characters": MAX_CHARACTERS, "documents_read": read, "documents_in_clusters": clustered},
        notes=notes,
    )


def _row(found: Clusters, memberships: Sequence[NDArray[np.int32]], layer: int, cluster: int) -> dict[str, Any]:
    coarser = found.coarser()
    parent: int | None = None
    if layer < len(coarser):
        # A cluster's parent is where any cluster of the finest layer below it goes one layer up.
        below = np.arange(len(coarser[layer])) if layer == 0 else coarser[layer - 1]
        parent = int(coarser[layer][np.flatnonzero(below == cluster)[0]])
    sizes = found.tree["size"].to_numpy()
    nearest_sizes = found.tree["nearest_size"].to_numpy()
    inside = np.array([cluster]) if layer == 0 else np.flatnonzero(coarser[layer - 1] == cluster)
    return {
        "layer": layer,
        "cluster": cluster,
        "parent": parent,
        "size": int(sizes[inside].sum()),
        "nearest_size": int(nearest_sizes[inside].sum()),
        "persistence": float(found.tree["persistence"][cluster].as_py()) if layer == 0 else None,
    }


def _use_column_names(found: Clusters, rows: list[dict[str, Any]]) -> None:
    """Clusters that are a column's values are called by those values."""
    if "name" in found.tree.column_names:
        names = found.tree["name"].to_pylist()
        for row in rows:
            if row["layer"] == 0:
                row |= {"label": names[row["cluster"]], "source": "column"}
