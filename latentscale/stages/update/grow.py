"""Grow: a map that adds points of new documents to those of its parent, which do not move."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from latentscale.config import DriftConfig
from latentscale.file_names import argument
from latentscale.stages.cluster import Clusters, read_clusters
from latentscale.stages.publish import MapRequest, publish_settings, published_columns, write_points, write_viewer
from latentscale.stages.publish.map import PublishStage
from latentscale.stages.publish.meaning import meaning_of
from latentscale.stages.publish.noise import shown_labels
from latentscale.stages.stage import MapJob, StageContext, Work
from latentscale.stages.update.fit import Fit, read_fit
from latentscale.stages.update.place import read_placement
from latentscale.stages.update.similar import similar_of_update
from latentscale.storage.artifacts import ArtifactWriter, Record, needed_record
from latentscale.storage.objects import Store
from latentscale.storage.parquet import encode_table, read_existing, read_parquet
from latentscale.storage.provenance import measured
from latentscale.storage.segments import (
    Segment,
    contains,
    map_folder,
    point_objects,
    read_points,
    removed_row_ids,
    segments_of,
)
from latentscale.storage.snapshot import Snapshot
from latentscale.storage.snapshots import read_snapshot
from latentscale.storage.vectors import vectors_at
from latentscale.viewer import write_labels
from latentscale.viewer.density import map_density
from latentscale.viewer.height import Height
from latentscale.viewer.meaning import Meaning
from latentscale.viewer.similar import Similar

VERSION = 1
# The page reads one generation of tiles per segment.
MAX_SEGMENTS = 8

Ids = NDArray[np.int64]
_POINT = ("row_id", "x", "y", "cluster", "nearest_cluster", "probability", "density")
# Columns that may be missing from points and placements of earlier versions.
_LATER = {"neighbor_distance": pa.float32(), "outlier_score": pa.float32(), "fitted": pa.bool_()}


@dataclass(frozen=True, kw_only=True)
class GrownPoints:
    """The points of a grown map: those reused from its parent, and those that it writes itself.

    Attributes
    ----------
    parent_points : pyarrow.Table
        All that the parent shows: ``row_id``, ``x``, ``y``, ``cluster``, ``nearest_cluster`` and their ``segment``; on
        a map of three dimensions ``z``, too.
    new_points : pyarrow.Table
        What the map writes itself, with the columns of a placement: added, moved, and taken over from small segments.
    removed_ids : int64 ndarray, ascending
        ``row_id`` of the parent's points that are removed or rewritten.
    """

    parent_points: pa.Table
    new_points: pa.Table
    removed_ids: Ids

    @property
    def axes(self) -> list[str]:
        """Names of the coordinates: ``x``, ``y`` and, on a map of three dimensions, ``z``."""
        return [name for name in ("x", "y", "z") if name in self.parent_points.column_names]

    @cached_property
    def new_ids(self) -> Ids:
        """``row_id`` of the new points, ascending."""
        return np.sort(self.new_points["row_id"].to_numpy())

    @cached_property
    def stays(self) -> NDArray[np.bool_]:
        """Mask of the parent's points that are reused in the parent's segments (bool, shape of ``parent_points``)."""
        ids = self.parent_points["row_id"].to_numpy()
        return ~contains(self.removed_ids, ids) & ~contains(self.new_ids, ids)

    @cached_property
    def left_ids(self) -> Ids:
        """``row_id`` of documents that are no longer on the map, ascending."""
        return self.removed_ids[~contains(self.new_ids, self.removed_ids)]

    def column(self, name: str) -> NDArray[Any]:
        """Return a column of all points of the grown map, the new ones last."""
        return np.concatenate([self.parent_points[name].to_numpy()[self.stays], self.new_points[name].to_numpy()])


class GrowStage(PublishStage):
    """Makes a map that adds points of new documents to those of its parent, which do not move.

    Small segments of earlier updates are rewritten with the new points, so that a map has few of them: as in a
    log-structured merge tree, a segment is merged once at least as many points were added after it.
    """

    def works(self, job: MapJob) -> Iterator[Work]:
        """Return nothing: updates call ``work``."""
        return iter(())

    def work(self, job: MapJob, fit: Fit, parent: Record) -> Work:
        """Return the map that adds the job's placement to ``parent``, with the same fit.

        Its publish settings are those of the fit, whose tiles are used together with the new ones.
        """
        placement = job.records["place"]
        fitted = MapRequest.read(fit.map.request)
        request = replace(
            fitted,
            grown=VERSION,
            snapshot=job.snapshot.id,
            publish=publish_settings(job.config.publish, title=parent.request["publish"]["title"]),
            update={
                "parent": parent.id,
                "fit": fit.map.id,
                "placement": placement.id,
                "drift": drift_settings(job.config.update.drift),
            },
        )
        return Work(stage=self, slot=self.name, title=self.name, request=request, parents=(placement, parent))

    def make(self, context: StageContext, request: MapRequest) -> Record:
        """Write the new points and tiles, the lists of points removed from the parent's segments, then the record."""
        store, settings = context.store, request.publish
        update = request.update or {}
        parent = needed_record(store, "map", str(update["parent"]))
        placement = needed_record(store, "placement", str(update["placement"]))
        fit = read_fit(store, parent)
        writer = ArtifactWriter(store, self.kind, request.identity(), [placement, parent], run=context.run)
        with measured() as cost:
            snapshot = read_snapshot(store, request.snapshot)
            placed, reused, removed_ids = read_placement(store, placement)
            clusters = read_clusters(store, fit.clusters)
            segments = segments_of(parent)
            axes = ["z"] if fit.height else []
            shown = _parent_points(store, parent, axes)
            keep = _kept_segments_count(shown, removed_ids, placed.num_rows + len(reused), len(segments))
            points = GrownPoints(
                parent_points=shown,
                new_points=_new_points(store, parent, placed, reused, removed_ids, keep, snapshot, axes),
                removed_ids=removed_ids,
            )
            kept, removed = _kept_segments(store, writer, parent, segments[:keep], removed_ids)
            labels = _labels(store, parent, points, clusters)
            quality = _quality(store, update, parent, fit, points)
            counts: dict[str, Any] = {
                "added": placement.counts["documents"],
                "gone": placement.counts["removed"],
            } | _counts(points, labels)
            if points.new_points.num_rows:
                similar = (
                    similar_of_update(
                        store,
                        snapshot,
                        fit,
                        clusters.row_ids,
                        points.parent_points.filter(pa.array(points.stays)),
                        segments[:keep],
                        points.new_points["row_id"].to_numpy(),
                        placement,
                        threads=context.threads,
                    )
                    if settings["viewer"]
                    else None
                )
                page = _write_new(writer, store, snapshot, points, clusters, labels, request, quality, parent, similar)
                own_segment = Segment(
                    map=writer.id,
                    documents=points.new_points.num_rows,
                    points=[part.name for part in writer.parts if part.name.startswith("points/")],
                    page=page,
                )
                kept = [*kept, own_segment]
            elif any(segment.page for segment in kept):
                # Without new points there are no new tiles, which would have the labels with current sizes.
                boxes = np.array([segment.page["extent"] for segment in kept if segment.page])
                side = float((boxes[:, 2:].max(axis=0) - boxes[:, :2].min(axis=0)).max()) or 1.0
                write_labels(
                    shown_labels(labels, settings).drop_columns(["centroid"]),
                    lambda name, data: writer.put(f"viewer/{name}", data),
                    side=side,
                )
                counts["page_labels"] = True
            table = memoryview(encode_table(labels, facts={"map": writer.id}))
            writer.put("labels.parquet", table, rows=labels.num_rows)
            # Kept until the next fit: new points are too few to change a picture of this size.
            writer.put("thumbnail.png", store.read_bytes(f"{parent.folder}/thumbnail.png"))
            writer.put("quality.json", json.dumps(quality, indent=1, ensure_ascii=False).encode())
            counts["published"] = parent.counts["published"]
            if any(segment.page for segment in kept):
                counts["page"] = next(segment.page for segment in reversed(kept) if segment.page)
        drift = quality["drift"]
        due = [f"A refit is due (latentscale update {argument(store.url)} --refit): {' '.join(drift['reasons'])}"]
        return writer.commit(
            counts=counts | {"removed": sum(len(ids) for ids in removed)},
            cost=cost,
            choices={"publish": settings["text"]},
            notes=due if drift["refit_due"] else [],
            segments=[segment.as_json() for segment in kept],
            job=context.job,
        )


GROW = GrowStage()


def drift_settings(config: DriftConfig) -> dict[str, float]:
    """The settings of ``update.drift`` that affect a map."""
    return {
        "added_share": config.added_share,
        "removed_share": config.removed_share,
        "ood_share": config.ood_share,
        "noise_increase": config.noise_increase,
        "cluster_growth": config.cluster_growth,
    }


def _parent_points(store: Store, parent: Record, axes: Sequence[str]) -> pa.Table:
    """Read the points of the parent, with their segment and coordinates ``axes``."""
    tables: list[pa.Table] = []
    for index, table in read_points(store, parent, ["row_id", "x", "y", *axes, "cluster", "nearest_cluster"]):
        tables.append(table.append_column("segment", pa.array(np.full(table.num_rows, index, dtype=np.int32))))
    return pa.concat_tables(tables)


def _kept_segments_count(shown: pa.Table, removed_ids: Ids, own: int, segments: int) -> int:
    """Number of the parent's segments that are kept; later ones are rewritten with the new points."""
    left = ~contains(removed_ids, shown["row_id"].to_numpy())
    sizes = np.bincount(shown["segment"].to_numpy()[left], minlength=segments)
    keep = segments
    # Segment 0, the fit, is always kept: it is large, and its points do not change.
    while keep > 1 and (sizes[keep - 1] <= own or keep >= MAX_SEGMENTS):
        own += int(sizes[keep - 1])
        keep -= 1
    return keep


def _new_points(
    store: Store,
    parent: Record,
    placed: pa.Table,
    reused: Ids,
    removed_ids: Ids,
    keep: int,
    snapshot: Snapshot,
    axes: Sequence[str],
) -> pa.Table:
    """Build the points that the map writes itself, by offset: new and moved ones, and those of merged segments."""
    tables: list[pa.Table] = [_with_later(placed, axes, fitted=False)]
    segments = segments_of(parent)
    for index, segment in enumerate(segments):
        if index < keep and not len(reused):
            continue
        removed = removed_row_ids(store, parent, segment)
        for name in point_objects(segment):
            table = read_existing(store, name, [*_POINT, *axes, *_LATER])
            ids = table["row_id"].to_numpy()
            here = ~contains(removed, ids) & (contains(reused, ids) | ((index >= keep) & ~contains(removed_ids, ids)))
            if not here.any():
                continue
            tables.append(_with_later(table, axes, fitted=index == 0).filter(pa.array(here)))
    own = pa.concat_tables(tables)
    return own.take(pa.array(np.argsort(snapshot.offsets(own["row_id"].to_numpy()), kind="stable")))


def _with_later(table: pa.Table, axes: Sequence[str], *, fitted: bool) -> pa.Table:
    """Add missing columns; points of earlier versions, without ``fitted``, have no outlier score if rewritten by an
    update."""
    for name, kind in _LATER.items():
        if name in table.column_names:
            continue
        values: Any = pa.nulls(table.num_rows, kind)
        if name == "fitted":
            scored = np.asarray(table["outlier_score"].is_valid()) if not fitted else np.zeros(table.num_rows, bool)
            values = pa.array(~scored)
        table = table.append_column(name, values)
    return table.select([*_POINT, *axes, *_LATER])


def _kept_segments(
    store: Store, writer: ArtifactWriter, parent: Record, segments: Sequence[Segment], removed_ids: Ids
) -> tuple[list[Segment], list[Ids]]:
    """Write the list of removed points of each kept segment, for readers of the points and for the page."""
    from latentscale.viewer.removed import write_removed

    kept: list[Segment] = []
    removed: list[Ids] = []
    for index, segment in enumerate(segments):
        ids = [read_parquet(store, name, ["row_id"])["row_id"].to_numpy() for name in point_objects(segment)]
        held = np.sort(np.concatenate(ids))
        before = removed_row_ids(store, parent, segment)
        now = np.union1d(before, removed_ids[contains(held, removed_ids)])
        removed.append(now)
        name: str | None = None
        positions: dict[str, Any] | None = None
        if len(now):
            name = f"removed-{index}.parquet"
            data = memoryview(encode_table(pa.table({"row_id": pa.array(now)}), facts={"map": writer.id}))
            writer.put(name, data, rows=len(now))
            if segment.page is not None:
                folder = f"{map_folder(segment.map)}/viewer"
                known = segment.removed_positions
                file, entry = write_removed(
                    lambda part, at=folder: store.read_bytes(f"{at}/{part}"),
                    segment.page,
                    now,
                    previous=store.read_bytes(f"{parent.folder}/{known['url']}") if known else None,
                )
                writer.put(f"viewer/{name}", file)
                positions = {"url": f"viewer/{name}", **entry}
        kept.append(
            Segment(
                map=segment.map,
                documents=len(held) - len(now),
                points=segment.points,
                page=segment.page,
                removed=name,
                removed_positions=positions,
            )
        )
    return kept, removed


def _memberships(cluster: NDArray[np.int32], clusters: Clusters) -> list[NDArray[np.int32]]:
    return [cluster, *(np.append(layer, np.int32(-1))[cluster] for layer in clusters.coarser())]


def _labels(store: Store, parent: Record, points: GrownPoints, clusters: Clusters) -> pa.Table:
    """Update the parent's labels: current cluster sizes, and without removed exemplars."""
    labels = read_parquet(store, f"{parent.folder}/labels.parquet")
    members = _memberships(points.column("cluster"), clusters)
    nearest = _memberships(points.column("nearest_cluster"), clusters)
    layers, ids = labels["layer"].to_numpy(), labels["cluster"].to_numpy()
    for name, memberships in (("size", members), ("nearest_size", nearest)):
        sizes = np.zeros(labels.num_rows, dtype=np.int64)
        for layer, membership in enumerate(memberships):
            here = layers == layer
            counts = np.bincount(membership[membership >= 0], minlength=int(ids[here].max(initial=-1)) + 1)
            sizes[here] = counts[ids[here]]
        labels = labels.set_column(labels.column_names.index(name), name, pa.array(sizes))
    left = set(points.left_ids.tolist())
    for name in [name for name in ("exemplars", "contrast") if name in labels.column_names]:
        still = [[row for row in (rows or []) if row not in left] for rows in labels[name].to_pylist()]
        field = labels.schema.field(name)
        labels = labels.set_column(labels.column_names.index(name), field, pa.array(still, field.type))
    return labels


def _counts(points: GrownPoints, labels: pa.Table) -> dict[str, Any]:
    cluster = points.column("cluster")
    noise = int((cluster < 0).sum())
    sizes, layers = labels["size"].to_numpy(), labels["layer"].to_numpy()
    alive = [int(((layers == layer) & (sizes > 0)).sum()) for layer in range(int(layers.max(initial=-1)) + 1)]
    return {
        "documents": len(cluster),
        "clusters": alive[0] if alive else 0,
        "noise": noise,
        "noise_share": round(noise / max(len(cluster), 1), 4),
        "layers": alive or [0],
    }


def _quality(store: Store, update: Mapping[str, Any], parent: Record, fit: Fit, points: GrownPoints) -> dict[str, Any]:
    """Quality figures of the fit, and the drift of documents added since."""
    from latentscale.quality.drift import Added, measure_drift

    measured_then = json.loads(store.read_bytes(f"{fit.map.folder}/quality.json"))
    then = read_clusters(store, fit.clusters)
    sizes = then.tree["size"].to_pylist()
    added = _added(store, parent, points)
    here = np.sort(points.column("row_id"))
    drift = measure_drift(
        Added.count(added["cluster"].to_numpy().astype(np.int32), added["outlier_score"].to_numpy().astype(np.float32)),
        fitted=len(then.row_ids),
        noise=int((then.cluster < 0).sum()),
        sizes={cluster: size for cluster, size in enumerate(sizes) if size},
        removed=int((~contains(here, then.row_ids)).sum()),
        **update["drift"],
    )
    return measured_then | {"fit": fit.map.id, "drift": drift}


def _added(store: Store, parent: Record, points: GrownPoints) -> pa.Table:
    """``cluster`` and ``outlier_score`` of all current points that were placed by updates since the fit."""
    columns = ["cluster", "outlier_score"]
    own = points.new_points
    tables = [own.filter(pa.array(_placed(own))).select(columns)]
    segments = segments_of(parent)
    for index, segment in enumerate(segments):
        if index == 0:
            continue
        removed = removed_row_ids(store, parent, segment)
        for name in point_objects(segment):
            table = _with_later(read_existing(store, name, [*_POINT, *_LATER]), (), fitted=False)
            ids = table["row_id"].to_numpy()
            here = (
                ~contains(removed, ids)
                & ~contains(points.removed_ids, ids)
                & ~contains(points.new_ids, ids)
                & _placed(table)
            )
            tables.append(table.filter(pa.array(here)).select(columns))
    return pa.concat_tables(tables)


def _placed(table: pa.Table) -> NDArray[np.bool_]:
    """Mask of the points that were placed by an update."""
    return ~table["fitted"].to_numpy(zero_copy_only=False).astype(bool)


def _write_new(
    writer: ArtifactWriter,
    store: Store,
    snapshot: Snapshot,
    grown: GrownPoints,
    clusters: Clusters,
    labels: pa.Table,
    request: MapRequest,
    quality: Mapping[str, Any],
    parent: Record,
    similar: Similar | None,
) -> dict[str, Any] | None:
    """Write the new points and their tiles; returns the entry of the page's manifest."""
    settings, own = request.publish, grown.new_points
    row_ids = own["row_id"].to_numpy()
    shards = sorted({shard.name: shard for shard, _, _ in snapshot.locate(row_ids)}.values(), key=lambda s: s.base)
    # As in one run over all documents: a column with conflicting types is text in the new segment, too.
    columns = published_columns(store, shards, settings, request.text, request.vectors, all_shards=snapshot.shards)
    points = Clusters(
        row_ids=row_ids,
        cluster=own["cluster"].to_numpy().astype(np.int32),
        nearest_cluster=own["nearest_cluster"].to_numpy().astype(np.int32),
        probability=own["probability"].to_numpy().astype(np.float32),
        tree=clusters.tree,
    )
    places = np.column_stack([own[axis].to_numpy() for axis in grown.axes]).astype(np.float32)
    density = own["density"].to_numpy().astype(np.float32)
    write_points(
        writer,
        store,
        snapshot,
        points,
        places,
        density,
        labels,
        columns,
        settings["partition_by"],
        extra_columns={name: own[name].combine_chunks() for name in _LATER},
    )
    if not settings["viewer"]:
        return None
    everything = np.column_stack([grown.column(axis) for axis in grown.axes]).astype(np.float32)
    flat = np.ascontiguousarray(everything[:, :2])
    return write_viewer(
        writer,
        store,
        snapshot,
        points,
        flat[-len(places) :],
        labels,
        columns,
        settings,
        quality,
        density=map_density(flat)[-len(places) :],
        grown=parent,
        height=Height.of(everything, last=len(places)) if len(grown.axes) > 2 else None,
        similar=similar,
        meaning=_meaning(store, snapshot, request, row_ids, labels) if settings.get("semantic") else None,
    )


def _meaning(store: Store, snapshot: Snapshot, request: MapRequest, row_ids: Ids, labels: pa.Table) -> Meaning:
    """Build the semantic search data of the new documents."""
    vectors = vectors_at(store, snapshot, request.embedding, snapshot.offsets(row_ids))
    return meaning_of(needed_record(store, "embedding", request.embedding), vectors.matrix, labels, first=False)
