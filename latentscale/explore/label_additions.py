"""Merge label edits made on the page of a map into the existing edits of the map."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

import polars as pl

from latentscale.explore.label_file import label_entries
from latentscale.labelers.edit_file import Additions
from latentscale.labelers.edits import ACTIONS, FIELDS, Match, match_edits, parse_edits
from latentscale.storage.artifacts import Record
from latentscale.storage.frames import scan_points
from latentscale.storage.objects import Store
from latentscale.storage.parquet import read_parquet


def add_edits(store: Store, record: Record, additions: Additions) -> list[dict[str, Any]]:
    """Merge additional edits into those of a map; for the same cluster the additions take precedence.

    If the additions were made on this map, clusters are matched by id, otherwise by their documents. Entries have the
    documents that ``labels export`` lists.

    Parameters
    ----------
    record : Record
        The map.

    Returns
    -------
    list of dict
        Entries in the form of ``label.edits``. An addition whose cluster is not found is returned unchanged, and is
        reported later among the edits that no longer apply.
    """
    entries = [{name: one[name] for name in FIELDS if name in one} for one in label_entries(store, record)]
    found = {(one["layer"], one["cluster"]): [one] for one in entries if "cluster" in one}
    # A merged cluster: its edits are those of the clusters from which it was merged.
    found |= {place: [one for one in entries if one.get("merge") == name] for place, name in _merged(store, record)}
    for match, addition in zip(_matches(store, record, additions), additions.entries, strict=True):
        edited = found.get((match.layer, match.cluster), [])
        for entry in edited:
            _put(entry, addition)
        if not edited:
            entries.append(dict(addition))
    return [one for one in entries if any(one.get(name) for name in ACTIONS)]


def _put(entry: dict[str, Any], addition: Mapping[str, Any]) -> None:
    for name in ACTIONS:
        if addition.get(name):
            entry[name] = addition[name]
        elif name in addition:
            entry.pop(name, None)


def _merged(store: Store, record: Record) -> Iterator[tuple[tuple[int, int], str]]:
    labels = read_parquet(store, f"{record.folder}/labels.parquet")
    columns = [name for name in ("layer", "cluster", "edit") if name in labels.column_names]
    for row in labels.select(columns).to_pylist():
        name = json.loads(row.get("edit") or "{}").get("merge")
        if name:
            yield (row["layer"], row["cluster"]), name


def _matches(store: Store, record: Record, additions: Additions) -> list[Match]:
    """The match of each addition with a cluster of the map."""
    if additions.map == record.id:
        return [Match(layer=one["layer"], cluster=one["cluster"]) for one in additions.entries]
    points = scan_points(store, record)
    names = points.collect_schema().names()
    layers = [name for name in names if name == "cluster" or name.startswith("layer_")]
    layers.sort(key=lambda name: 0 if name == "cluster" else int(name.removeprefix("layer_")))
    frame = points.select("row_id", *(pl.col(name).fill_null(-1).cast(pl.Int32) for name in layers)).collect()
    # Give each entry an edit: entries without one would be skipped.
    values = {"edits": 1, "clusters": [{**one, "rename": "…"} for one in additions.entries]}
    edits = parse_edits(values, where="additions")
    return match_edits(edits, frame["row_id"].to_numpy(), [frame[name].to_numpy() for name in layers])
