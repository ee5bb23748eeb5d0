"""Grow: a new map that shows its parent's points where they are, and those of documents that came since."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from latentscale.config import DriftConfig, PublishConfig
from latentscale.provenance import measured
from latentscale.stages.cluster import Clusters, read_clusters
from latentscale.stages.place import Fit, read_placement
from latentscale.stages.publish import published_columns, write_points, write_viewer
from latentscale.storage.artifacts import ArtifactWriter, Record
from latentscale.storage.objects import Store
from latentscale.storage.parquet import encode_table, read_parquet
from latentscale.storage.segments import (
    Segment,
    contains,
    map_folder,
    point_objects,
    read_points,
    removed_row_ids,
    segments_of,
)
from latentscale.storage.snapshots import Snapshot, read_snapshot
from latentscale.viewer import write_labels
from latentscale.viewer.density import map_density

VERSION = 1
# The page reads one generation of tiles a segment.
MAX_SEGMENTS = 8

Ids = NDArray[np.int64]
_POINT = ("row_id", "x", "y", "cluster", "nearest_cluster", "probability", "density", "outlier_score")


def grown_request(
    publish: PublishConfig, drift: DriftConfig, parent: Record, placement: Record, fit: Fit, snapshot: Snapshot
) -> dict[str, Any]:
    """Everything that alters a map that an update makes; what was fitted is as in the map that it grew from."""
    return {
        **fit.map.request,
        "grown": VERSION,
        "snapshot": snapshot.id,
        "publish": publish.model_dump(mode="json") | {"title": parent.request["publish"]["title"]},
        "update": {"parent": parent.id, "fit": fit.map.id, "placement": placement.id, "drift": drift.model_dump()},
    }


def make_grown_map(
    store: Store, request: dict[str, Any], parent: Record, placement: Record, fit: Fit, run: str | None
) -> Record:
    """Write the map of ``request``: its own points and tiles, what its parent's segments show no more, then its record.

    Small segments of earlier updates are written anew with the new points, so that a map has few of them: as in a
    log-structured merge tree, a segment joins once as many points have come after it.
    """
    writer = ArtifactWriter(store, "map", request, [placement, parent], run=run)
    settings = request["publish"]
    with measured() as cost:
        snapshot = read_snapshot(store, request["snapshot"])
        placed, taken, gone = read_placement(store, placement)
        clusters = read_clusters(store, fit.clusters)
        segments = segments_of(parent)
        shown = _shown(store, parent)
        keep = _absorb(shown, gone, placed.num_rows + len(taken), len(segments))
        own = _own_points(store, parent, placed, taken, gone, keep, snapshot)
        kept, removed = _kept_segments(store, writer, parent, segments[:keep], gone)
        labels = _labels(store, parent, shown, own, gone, clusters)
        quality = _quality(store, request, parent, fit, shown, own, gone)
        counts: dict[str, Any] = {
            "added": placement.counts["documents"],
            "gone": placement.counts["gone"],
        } | _counts(shown, own, gone, labels)
        if own.num_rows:
            page = _write_own(writer, store, snapshot, own, clusters, labels, request, quality, shown, gone, parent)
            own_segment = Segment(
                map=writer.id,
                documents=own.num_rows,
                points=[part.name for part in writer.parts if part.name.startswith("points/")],
                page=page,
            )
            kept = [*kept, own_segment]
        elif any(segment.page for segment in kept):
            # No tiles of its own, which would carry the labels with the sizes of now.
            boxes = np.array([segment.page["extent"] for segment in kept if segment.page])
            side = float((boxes[:, 2:].max(axis=0) - boxes[:, :2].min(axis=0)).max()) or 1.0
            write_labels(
                labels.drop_columns(["centroid"]), lambda name, data: writer.put(f"viewer/{name}", data), side=side
            )
            counts["page_labels"] = True
        writer.put("labels.parquet", memoryview(encode_table(labels, facts={"map": writer.id})), rows=labels.num_rows)
        # Redrawn by the next fit: the new points are too few to alter a picture of this size.
        writer.put("thumbnail.png", store.read_bytes(f"{parent.folder}/thumbnail.png"))
        writer.put("quality.json", json.dumps(quality, indent=1, ensure_ascii=False).encode())
        counts["published"] = parent.counts["published"]
        if any(segment.page for segment in kept):
            counts["page"] = next(segment.page for segment in reversed(kept) if segment.page)
    drift = quality["drift"]
    due = [f"A refit is due (latentscale update {store.url} --refit): {' '.join(drift['reasons'])}"]
    return writer.commit(
        counts=counts | {"removed": sum(len(ids) for ids in removed)},
        cost=cost,
        choices={"backend": "cpu", "publish": settings["text"]},
        notes=due if drift["refit_due"] else [],
        segments=[segment.as_json() for segment in kept],
    )


def _shown(store: Store, parent: Record) -> pa.Table:
    """What the parent shows: the columns of ``_POINT`` that it has, and ``segment``."""
    tables: list[pa.Table] = []
    for index, table in read_points(store, parent, ["row_id", "x", "y", "cluster", "nearest_cluster"]):
        tables.append(table.append_column("segment", pa.array(np.full(table.num_rows, index, dtype=np.int32))))
    return pa.concat_tables(tables)


def _absorb(shown: pa.Table, gone: Ids, own: int, segments: int) -> int:
    """How many segments of the parent stay as they are; the later ones are written anew with the new points."""
    left = ~contains(gone, shown["row_id"].to_numpy())
    sizes = np.bincount(shown["segment"].to_numpy()[left], minlength=segments)
    keep = segments
    # The fit, segment 0, always stays: its points are many, and nothing of them changes.
    while keep > 1 and (sizes[keep - 1] <= own or keep >= MAX_SEGMENTS):
        own += int(sizes[keep - 1])
        keep -= 1
    return keep


def _own_points(
    store: Store, parent: Record, placed: pa.Table, taken: Ids, gone: Ids, keep: int, snapshot: Snapshot
) -> pa.Table:
    """The points that the new map writes itself, by place: new ones, moved ones and those of small old segments."""
    tables: list[pa.Table] = [placed.select(list(_POINT))]
    segments = segments_of(parent)
    for index, segment in enumerate(segments):
        if index < keep and not len(taken):
            continue
        removed = removed_row_ids(store, parent, segment)
        for name in point_objects(segment):
            table = read_parquet(store, name)
            ids = table["row_id"].to_numpy()
            here = ~contains(removed, ids) & (contains(taken, ids) | ((index >= keep) & ~contains(gone, ids)))
            if not here.any():
                continue
            if "outlier_score" not in table.column_names:
                table = table.append_column("outlier_score", pa.array([None] * table.num_rows, pa.float32()))
            tables.append(table.select(list(_POINT)).filter(pa.array(here)))
    own = pa.concat_tables(tables)
    return own.take(pa.array(np.argsort(snapshot.places(own["row_id"].to_numpy()), kind="stable")))


def _kept_segments(
    store: Store, writer: ArtifactWriter, parent: Record, segments: Sequence[Segment], gone: Ids
) -> tuple[list[Segment], list[Ids]]:
    """Write what the segments show no more, for readers of the points and for the page."""
    from latentscale.viewer.removed import write_removed

    kept: list[Segment] = []
    removed: list[Ids] = []
    for index, segment in enumerate(segments):
        ids = [read_parquet(store, name, ["row_id"])["row_id"].to_numpy() for name in point_objects(segment)]
        held = np.sort(np.concatenate(ids))
        before = removed_row_ids(store, parent, segment)
        now = np.union1d(before, gone[contains(held, gone)])
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


def _now(shown: pa.Table, own: pa.Table, gone: Ids, name: str) -> NDArray[Any]:
    """A column of all points of the new map, those that it writes itself last."""
    ids = shown["row_id"].to_numpy()
    old = ~contains(gone, ids) & ~contains(np.sort(own["row_id"].to_numpy()), ids)
    return np.concatenate([shown[name].to_numpy()[old], own[name].to_numpy()])


def _labels(store: Store, parent: Record, shown: pa.Table, own: pa.Table, gone: Ids, clusters: Clusters) -> pa.Table:
    """The parent's labels with the sizes that the clusters have now, and without exemplars that are gone."""
    labels = read_parquet(store, f"{parent.folder}/labels.parquet")
    members = _memberships(_now(shown, own, gone, "cluster"), clusters)
    nearest = _memberships(_now(shown, own, gone, "nearest_cluster"), clusters)
    layers, ids = labels["layer"].to_numpy(), labels["cluster"].to_numpy()
    for name, memberships in (("size", members), ("nearest_size", nearest)):
        sizes = np.zeros(labels.num_rows, dtype=np.int64)
        for layer, membership in enumerate(memberships):
            here = layers == layer
            counts = np.bincount(membership[membership >= 0], minlength=int(ids[here].max(initial=-1)) + 1)
            sizes[here] = counts[ids[here]]
        labels = labels.set_column(labels.column_names.index(name), name, pa.array(sizes))
    left = gone[~contains(np.sort(own["row_id"].to_numpy()), gone)]
    exemplars = [
        [row for row in (rows or []) if not bool(contains(left, np.array([row]))[0])]
        for rows in labels["exemplars"].to_pylist()
    ]
    place = labels.column_names.index("exemplars")
    return labels.set_column(place, "exemplars", pa.array(exemplars, labels.schema.field("exemplars").type))


def _counts(shown: pa.Table, own: pa.Table, gone: Ids, labels: pa.Table) -> dict[str, Any]:
    cluster = _now(shown, own, gone, "cluster")
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


def _quality(
    store: Store,
    request: Mapping[str, Any],
    parent: Record,
    fit: Fit,
    shown: pa.Table,
    own: pa.Table,
    gone: Ids,
) -> dict[str, Any]:
    """What was measured of the fit, and how far the documents that came since are from it."""
    from latentscale.drift import Added, measure_drift

    measured_then = json.loads(store.read_bytes(f"{fit.map.folder}/quality.json"))
    then = read_clusters(store, fit.clusters)
    sizes = then.tree["size"].to_pylist()
    added = _added(store, parent, own, gone)
    here = np.sort(_now(shown, own, gone, "row_id"))
    drift = measure_drift(
        Added.count(added["cluster"].to_numpy().astype(np.int32), added["outlier_score"].to_numpy().astype(np.float32)),
        fitted=len(then.row_ids),
        noise=int((then.cluster < 0).sum()),
        sizes={cluster: size for cluster, size in enumerate(sizes) if size},
        removed=int((~contains(here, then.row_ids)).sum()),
        **request["update"]["drift"],
    )
    return measured_then | {"fit": fit.map.id, "drift": drift}


def _added(store: Store, parent: Record, own: pa.Table, gone: Ids) -> pa.Table:
    """``cluster`` and ``outlier_score`` of all points that updates placed since the fit and that are shown now."""
    columns = ["cluster", "outlier_score"]
    mine = np.sort(own["row_id"].to_numpy())
    tables = [own.filter(pa.array(~np.isnan(_floats(own["outlier_score"])))).select(columns)]
    segments = segments_of(parent)
    for index, segment in enumerate(segments):
        if index == 0:
            continue
        removed = removed_row_ids(store, parent, segment)
        for name in point_objects(segment):
            table = read_parquet(store, name, ["row_id", *columns])
            ids = table["row_id"].to_numpy()
            scores = _floats(table["outlier_score"])
            here = ~contains(removed, ids) & ~contains(gone, ids) & ~contains(mine, ids) & ~np.isnan(scores)
            tables.append(table.filter(pa.array(here)).select(columns))
    return pa.concat_tables(tables)


def _floats(column: pa.ChunkedArray) -> NDArray[np.float64]:
    return column.to_numpy(zero_copy_only=False).astype(np.float64)


def _write_own(
    writer: ArtifactWriter,
    store: Store,
    snapshot: Snapshot,
    own: pa.Table,
    clusters: Clusters,
    labels: pa.Table,
    request: Mapping[str, Any],
    quality: Mapping[str, Any],
    shown: pa.Table,
    gone: Ids,
    parent: Record,
) -> dict[str, Any] | None:
    settings = request["publish"]
    row_ids = own["row_id"].to_numpy()
    shards = sorted({shard.name: shard for shard, _, _ in snapshot.locate(row_ids)}.values(), key=lambda s: s.base)
    columns = published_columns(store, shards, settings, str(request["text"]), request["vectors"])
    points = Clusters(
        row_ids=row_ids,
        cluster=own["cluster"].to_numpy().astype(np.int32),
        nearest_cluster=own["nearest_cluster"].to_numpy().astype(np.int32),
        probability=own["probability"].to_numpy().astype(np.float32),
        tree=clusters.tree,
    )
    coordinates = np.column_stack([own["x"].to_numpy(), own["y"].to_numpy()]).astype(np.float32)
    thickness = own["density"].to_numpy().astype(np.float32)
    write_points(
        writer,
        store,
        snapshot,
        points,
        coordinates,
        thickness,
        labels,
        columns,
        settings["partition_by"],
        more={"outlier_score": own["outlier_score"].combine_chunks()},
    )
    if not settings["viewer"]:
        return None
    everything = np.column_stack([_now(shown, own, gone, "x"), _now(shown, own, gone, "y")]).astype(np.float32)
    return write_viewer(
        writer,
        store,
        snapshot,
        points,
        coordinates,
        labels,
        columns,
        settings,
        quality,
        density=map_density(everything)[-len(coordinates) :],
        grown=parent,
    )
