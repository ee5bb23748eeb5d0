"""Write the labels of a map to a file for editing."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from latentscale.errors import RequestError
from latentscale.explore.targets import check_new_file, check_outside_corpus
from latentscale.file_names import at_home
from latentscale.labelers.edit_file import read_edits
from latentscale.labelers.edit_table import SUFFIXES, render_table
from latentscale.labelers.edits import choose_members, render_edits
from latentscale.storage.artifacts import Record, find_record
from latentscale.storage.frames import scan_points
from latentscale.storage.objects import Store
from latentscale.storage.parquet import read_parquet


def write_label_file(store: Store, record: Record, to: str | Path) -> Path:
    """Write every cluster of a map, with the documents that identify it and its edits so far.

    Parameters
    ----------
    record : Record
        The map.
    to : str or Path
        A new file: a table if its name ends in ``.csv`` or ``.tsv``, else YAML.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    RequestError
        If the file already exists, since edits in it would be lost, or the next update would read it as documents.
    ConfigError
        If an edit lists more documents than a table cell can hold.
    """
    path = at_home(to)
    check_new_file(path)
    check_outside_corpus(store, path)
    if path.exists():
        raise RequestError(f"{path} is there already, with edits perhaps", hint="Name another file, or remove it.")
    entries = label_entries(store, record)
    as_table = path.suffix.lower() in SUFFIXES
    text = render_table(entries, path.suffix.lower()) if as_table else render_edits(entries, about={"map": record.id})
    path.parent.mkdir(parents=True, exist_ok=True)
    # Written as bytes, so that line endings are not translated.
    path.write_bytes(text.encode())
    return path


def label_entries(store: Store, record: Record) -> Iterator[dict[str, Any]]:
    """The entries that ``labels export`` writes: one for each cluster, and the edits that no longer match a cluster.

    Parameters
    ----------
    record : Record
        The map.

    Yields
    ------
    dict
        ``layer``, ``cluster``, ``label`` (before edits), ``size``, ``members`` and edits; an entry without ``cluster``
        is an unmatched edit, unchanged.
    """
    labels = read_parquet(store, f"{record.folder}/labels.parquet")
    rows = sorted(labels.to_pylist(), key=lambda row: (row["layer"], -row["size"], row["cluster"]))
    columns = {layer: "cluster" if layer == 0 else f"layer_{layer}" for layer in {row["layer"] for row in rows}}
    points = scan_points(store, record).select("row_id", "probability", *columns.values()).collect()
    row_ids, firmness = points["row_id"].to_numpy(), points["probability"].to_numpy()
    for layer in sorted(columns):
        clusters = points[columns[layer]].to_numpy()
        order = np.argsort(clusters, kind="stable")
        bounds = clusters[order]
        for row in (row for row in rows if row["layer"] == layer):
            first, last = np.searchsorted(bounds, [row["cluster"], row["cluster"] + 1])
            members = order[first:last]
            edit: dict[str, Any] = json.loads(row["edit"]) if row.get("edit") else {}
            if len(members) and "merge" not in edit:
                yield edit | {
                    "layer": layer,
                    "cluster": row["cluster"],
                    "label": edit.get("label", row["label"]),
                    "size": len(members),
                    "members": choose_members(row_ids[members], firmness[members]),
                }
    yield from _earlier(store, record, labels)


def _earlier(store: Store, record: Record, labels: pa.Table) -> Iterator[dict[str, Any]]:
    """Unchanged earlier edits: those of clusters that were merged or split, and those that no longer apply."""
    made = find_record(store, "labels", str(record.request.get("labels")))
    given = read_edits(made.request.get("edits", ())) if made else ()
    edits = labels["edit"].to_pylist() if "edit" in labels.column_names else []
    found: list[dict[str, Any]] = [json.loads(edit) for edit in edits if edit]
    keys = {key for edit in found for key in edit.get("keys", ())}
    # Maps of earlier versions have no keys.
    labels_of = {edit["label"] for edit in found if "keys" not in edit}
    return (
        edit.as_json()
        for edit in given
        if edit.merge or edit.split or (edit.key not in keys and edit.label not in labels_of)
    )
