"""Tables of a workspace and of a map: maps, clusters, sweeps, and documents with texts."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, cast

import polars as pl
from polars.io.plugins import register_io_source

from latentscale.errors import ConfigError
from latentscale.explore.documents import read_texts
from latentscale.storage.artifacts import Record
from latentscale.storage.frames import PointSegment, point_segments, read_parts, scan_points
from latentscale.storage.objects import Store
from latentscale.storage.ordered import in_order
from latentscale.storage.snapshots import read_snapshot
from latentscale.storage.workspace_record import read_workspace

FIGURES = ("trustworthiness", "preservation", "stability")


def scan_documents(store: Store, record: Record) -> pl.LazyFrame:
    """Scan the points of a map lazily, with the texts, which are read only if requested, part by part."""
    text = read_workspace(store).text_column
    points = scan_points(store, record)
    if text in points.collect_schema().names():
        return points
    snapshot = read_snapshot(store, str(record.request["snapshot"]))

    def scan(segment: PointSegment) -> pl.LazyFrame:
        schema = pl.Schema({**segment.frame_schema, text: pl.String()})

        def read(name: str, columns: Sequence[str] | None, predicate: pl.Expr | None) -> pl.DataFrame:
            wanted = list(schema) if columns is None else list(columns)
            needed = {*wanted, *(predicate.meta.root_names() if predicate is not None else [])}
            on_text = text in needed
            # Filters on other columns are applied first, so that the texts of dropped rows are never read.
            early = predicate if predicate is not None and text not in predicate.meta.root_names() else None
            frame = segment.read(name, {*(needed - {text}), *(["row_id"] if on_text else [])}, early)
            if on_text:
                texts = read_texts(store, snapshot, frame["row_id"].to_numpy(), text)
                frame = frame.with_columns(pl.Series(text, texts, pl.String))
            if predicate is not None and early is None:
                frame = frame.filter(predicate)
            return frame.select(wanted)

        def batches(
            columns: list[str] | None, predicate: pl.Expr | None, n_rows: int | None, batch_size: int | None
        ) -> Iterator[pl.DataFrame]:
            left = n_rows
            for frame in in_order(store, lambda name: read(name, columns, predicate), segment.names):
                taken = frame if left is None else frame.head(left)
                left = None if left is None else left - len(taken)
                yield taken
                if left == 0:
                    return

        return register_io_source(batches, schema=schema)

    frames = [scan(segment) for segment in point_segments(store, record)]
    return frames[0] if len(frames) == 1 else pl.concat(frames, how="diagonal_relaxed")


def cluster_table(store: Store, record: Record, *, texts: bool = False) -> pl.DataFrame:
    """The clusters of a map, one row each, sorted by layer and decreasing size."""
    labels = read_parts(store, [f"{record.folder}/labels.parquet"])
    first = ["layer", "cluster", "label", "description", "size", "nearest_size", "parent", "keyphrases", "exemplars"]
    frame = labels.select(columns_with_values(labels, first))
    frame = frame.sort("layer", "size", "cluster", descending=[False, True, False])
    if not texts:
        return frame
    column = read_workspace(store).text_column
    rows = frame["exemplars"].explode().drop_nulls().unique().sort()
    snapshot = read_snapshot(store, str(record.request["snapshot"]))
    by_id = dict(zip(rows.to_list(), read_texts(store, snapshot, rows.to_numpy(), column).to_pylist(), strict=True))
    found = [[by_id[row] for row in ids or []] for ids in frame["exemplars"].to_list()]
    return frame.with_columns(pl.Series("exemplar_texts", found, pl.List(pl.String)))


def columns_with_values(labels: pl.DataFrame, wanted: Sequence[str]) -> list[str]:
    """The columns of ``wanted`` that a label table has; ``description`` only if one is not empty."""
    empty = "description" in labels.columns and labels["description"].null_count() == len(labels)
    return [name for name in wanted if name in labels.columns and not (empty and name == "description")]


def map_row(record: Record, *, current: bool, names: Sequence[str]) -> dict[str, Any]:
    """The row of a map in the table of maps."""
    counts = record.counts
    return {
        "map": record.id,
        "name": ", ".join(names) or None,
        "current": current,
        "created": record.created,
        "documents": counts.get("documents"),
        "clusters": counts.get("clusters"),
        "noise_share": counts.get("noise_share"),
        "layers": len(counts.get("layers") or []),
        "updated": "update" in record.request,
    }


MAP_SCHEMA = {
    "map": pl.String(),
    "name": pl.String(),
    "current": pl.Boolean(),
    "created": pl.String(),
    "documents": pl.Int64(),
    "clusters": pl.Int64(),
    "noise_share": pl.Float64(),
    "layers": pl.Int64(),
    "updated": pl.Boolean(),
}


def combinations(groups: Mapping[str, Mapping[str, Any]]) -> list[dict[str, dict[str, Any]]]:
    """All combinations of the settings of a sweep: lists are varied, other values are fixed.

    Raises
    ------
    ConfigError
        If no setting is varied.
    """
    axes: list[list[tuple[str, str, Any]]] = []
    for group, settings in groups.items():
        for name, value in settings.items():
            varied = isinstance(value, list | tuple | range)
            axes.append([(group, name, one) for one in (cast("Sequence[Any]", value) if varied else [value])])
    if all(len(axis) < 2 for axis in axes):
        raise ConfigError(
            "a sweep varies at least one setting",
            hint="Give two values or more: --sweep project.n_neighbors=5,15,30, or in Python a list: "
            'ws.sweep(project={"n_neighbors": [5, 15, 30]}).',
        )
    found: list[dict[str, dict[str, Any]]] = []
    for chosen in itertools.product(*axes):
        one: dict[str, dict[str, Any]] = {}
        for group, name, value in chosen:
            one.setdefault(group, {})[name] = value
        found.append(one)
    return found


def sweep_row(settings: Mapping[str, Mapping[str, Any]], row: Mapping[str, Any], quality: Any) -> dict[str, Any]:
    """The row of a map in the result of a sweep: settings, map and quality figures."""
    given = {
        f"{group}.{name}": value if isinstance(value, str | int | float | bool | None) else json.dumps(value)
        for group, values in settings.items()
        for name, value in values.items()
    }
    figures = {name: quality.get(name) for name in FIGURES}
    against = quality.get("against") or {}
    figures |= {f"against_{name}": against[name] for name in ("nmi", "ari", "purity") if name in against}
    kept = {key: row[key] for key in ("map", "name", "documents", "clusters", "noise_share")}
    return {**given, **kept, **figures, "red_flags": list(quality.get("red_flags", []))}
