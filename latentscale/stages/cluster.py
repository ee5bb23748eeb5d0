"""Cluster: find the clusters of a map, assign noise to the nearest ones, and merge them into coarser layers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from latentscale.backends import Clustering
from latentscale.backends.grouping import joined_at_most
from latentscale.backends.identical import first_occurrence, shared_labels
from latentscale.backends.select import open_backend
from latentscale.config import JobConfig
from latentscale.errors import CorpusError
from latentscale.labelers.edit_file import read_edits
from latentscale.stages.cluster_search import FITS, DensitySettings, about, missed_levels, without_collapse
from latentscale.stages.edited_clusters import anchors_of, clusters_before, hold_coarser, hold_edited, merge_edited
from latentscale.stages.project import LAYOUT_SLOT, MAP_DIMENSIONS, read_coordinates
from latentscale.stages.project import STAGE as PROJECT
from latentscale.stages.rates import OWN_TREE, density_seconds, kmeans_seconds, peak_bytes
from latentscale.stages.split_clusters import move_edited, parts_before, place_edited, split_edited
from latentscale.stages.stage import Cost, JobSize, MapJob, StageContext, Table, WholeStage, Work
from latentscale.storage.artifacts import ArtifactWriter, Record, find_record, needed_record, read_table
from latentscale.storage.objects import Store
from latentscale.storage.parquet import read_parquet
from latentscale.storage.provenance import measured
from latentscale.storage.request import Request, omitted_at_default
from latentscale.storage.segments import read_points
from latentscale.storage.snapshot import Snapshot
from latentscale.storage.snapshots import read_snapshot
from latentscale.storage.vectors import Vectors, column_values, load_vectors

MAX_COLUMN_CLUSTERS = 10_000
# Seed of the K-means that splits an edited cluster.
SPLIT_SEED = 42
# Field of a request with the layout for clustering.
_LAYOUT = "projection"


def default_min_cluster_size(documents: int) -> int:
    """Return 1/500 of the documents, between 5 and 2,000; for fewer than 50 documents 1/10, at least 2."""
    if documents < 50:
        return max(2, documents // 10)
    return min(2_000, max(5, documents // 500))


@dataclass(frozen=True, slots=True, kw_only=True)
class ClustersRequest(Request):
    """Everything that affects the clusters; settings of other methods are None.

    ``align`` is the map whose cluster ids are carried over, ``levels`` the requested numbers of clusters per layer,
    ``anchors`` clusters that were edited by hand, ``adapt`` whether default settings may be replaced if they collapse.
    """

    VERSION: ClassVar[int] = 4

    snapshot: str
    embedding: str
    method: str
    layer_factor: float
    max_layers: int
    # what is clustered; None: the vectors, for K-means
    space: str | None = None
    projection: str | None = None
    min_cluster_size: int | None = None
    min_samples: int | None = None
    cluster_selection_method: str | None = None
    cluster_selection_epsilon: float | None = None
    # K-means
    n_clusters: int | None = None
    seed: int | None = None
    # an existing column
    column: str | None = None
    align: str | None = omitted_at_default(None)
    backend: str = omitted_at_default("cpu")
    levels: tuple[int, ...] | None = omitted_at_default(None)
    adapt: bool = omitted_at_default(False)
    anchors: tuple[Mapping[str, Any], ...] = omitted_at_default(())
    # DBSCAN
    eps: float | None = omitted_at_default(None)


class ClusterStage(WholeStage):
    """Computes the clusters of a map, and the layout for clustering."""

    name = "cluster"
    tables: ClassVar[Mapping[str, Table]] = {
        "members": Table(
            columns={"row_id": "int64", "cluster": "int32", "nearest_cluster": "int32", "probability": "float"},
            by_document=True,
        ),
        "tree": Table(
            columns={"cluster": "int32", "size": "int64", "nearest_size": "int64", "centroid": "fixed_size_list"}
        ),
    }

    def works(self, job: MapJob) -> Iterator[Work]:
        """Return the layout for clustering, if it is not the map's own, and the clusters."""
        config = job.config.cluster
        layout: Record | None = None
        if config.clustered in ("layout", "map"):
            layout = job.records["project"]
            wanted = MAP_DIMENSIONS if config.clustered == "map" else job.config.project.cluster_dimensions
            if wanted != MAP_DIMENSIONS:
                yield PROJECT.layout_of(job, wanted, slot=LAYOUT_SLOT)
                layout = job.records[LAYOUT_SLOT]
        embedding = job.records["embed"]
        request, align = job.aligned("clusters", self._request(job, layout))
        parents = [record for record in (embedding, layout) if record is not None]
        yield Work(stage=self, slot=self.name, title=self.name, request=request, parents=(*parents, *align))

    def _request(self, job: MapJob, layout: Record | None) -> ClustersRequest:
        config = job.config.cluster
        shared: dict[str, Any] = {
            "snapshot": job.snapshot.id,
            "embedding": job.records["embed"].id,
            "method": config.method,
            "layer_factor": config.layer_factor,
            "max_layers": config.max_layers,
            "backend": job.choose(self.name).backend,
            "levels": config.levels,
            "anchors": anchors_of(read_edits(job.config.label.edits), refit=job.align is not None),
        }
        if config.method == "column":
            return ClustersRequest(**shared, column=config.column)
        if config.method != "kmeans" or layout is not None:
            space = _LAYOUT if config.clustered == "layout" else config.clustered
            shared |= {"space": space, "projection": layout.id if layout else None}
        if config.method in ("kmeans", "agglomerative"):
            count = config.n_clusters or (config.levels[0] if config.levels else None)
            return ClustersRequest(**shared, n_clusters=count, seed=config.seed)
        documents = int(job.records["neighbors"].counts["documents"])
        size = config.min_cluster_size or default_min_cluster_size(documents)
        if config.levels and not config.min_cluster_size:
            # At most a tenth of the mean size of the requested clusters, which the default could rule out.
            size = max(2, min(size, documents // (10 * config.levels[0])))
        if config.method == "plscan":
            size = config.min_cluster_size or config.min_samples or min(10, size)
        shared |= {"min_cluster_size": size, "min_samples": config.min_samples or min(10, size)}
        if config.method == "plscan":
            return ClustersRequest(**shared)
        if config.method == "dbscan":
            return ClustersRequest(**shared, eps=config.eps)
        return ClustersRequest(
            **shared,
            cluster_selection_method=config.cluster_selection_method,
            cluster_selection_epsilon=config.cluster_selection_epsilon,
            adapt=config.may_adapt,
        )

    def make(self, context: StageContext, request: ClustersRequest) -> Record:
        """Compute the clusters and write them."""
        store, backend = context.store, open_backend(request.backend)
        embedding = needed_record(store, "embedding", request.embedding)
        projection = needed_record(store, "projection", request.projection) if request.projection else None
        align = needed_record(store, "map", request.align) if request.align else None
        parents = [record for record in (embedding, projection, align) if record is not None]
        writer = ArtifactWriter(store, self.kind, request.identity(), parents, run=context.run)
        names: list[str] = []
        with measured() as cost:
            snapshot = read_snapshot(store, request.snapshot)
            vectors = load_vectors(store, snapshot, embedding.id)
            before = clusters_before(store, align, vectors.row_ids) if align and request.anchors else []
            parts = parts_before(store, align if request.anchors else None, vectors.row_ids)
            if request.method == "column":
                clustering, names = _from_column(store, snapshot, vectors, str(request.column))
            else:
                points = vectors.matrix if projection is None else read_coordinates(store, projection)
                clustering = cluster_points(points, request, threads=context.threads)
                clustering = hold_edited(clustering, vectors.row_ids, request.anchors, before, parts.by_split())
                clustering = _merge_duplicates(clustering, first_occurrence(vectors.matrix))
            nearest, centroids = backend.nearest_centroid(vectors.matrix, clustering.labels)
            sizes = np.bincount(clustering.labels[clustering.labels >= 0], minlength=clustering.n_clusters)
            layers = backend.layer_tree(
                centroids,
                sizes,
                factor=request.layer_factor,
                max_layers=request.max_layers - 1,
                counts=(request.levels or ())[1:],
            )
            if request.anchors and not names:
                layers, kept = hold_coarser(clustering.labels, layers, vectors.row_ids, request.anchors, before)
                clustering = replace(clustering, notes=[*clustering.notes, *kept])

                def kmeans(points: NDArray[np.float32], count: int | None) -> Clustering:
                    return backend.kmeans(points, n_clusters=count, seed=SPLIT_SEED, threads=context.threads)

                clustering, layers, parts = split_edited(
                    clustering, layers, vectors.row_ids, request.anchors, vectors.matrix, parts, kmeans
                )
                clustering, layers = merge_edited(clustering, layers, vectors.row_ids, request.anchors)
                clustering, layers = move_edited(clustering, layers, vectors.row_ids, request.anchors)
                layers = place_edited(clustering, layers, vectors.row_ids, request.anchors)
                nearest, centroids = backend.nearest_centroid(vectors.matrix, clustering.labels)
                sizes = np.bincount(clustering.labels[clustering.labels >= 0], minlength=clustering.n_clusters)
            nearest_sizes = np.bincount(nearest[nearest >= 0], minlength=clustering.n_clusters)
            found = [
                clustering.labels.astype(np.int32),
                *(_lift(np.asarray(n, np.int32), clustering.labels) for n in layers),
            ]
            ids = _identities(store, align, vectors.row_ids, found, names)
            of_cluster = ids[0]
            members = pa.table(
                {
                    "row_id": pa.array(vectors.row_ids),
                    "cluster": pa.array(_lift(of_cluster, clustering.labels)),
                    "nearest_cluster": pa.array(_lift(of_cluster, nearest)),
                    "probability": pa.array(clustering.probabilities.astype(np.float32)),
                }
            )
            if clustering.details.get("parts"):
                members = members.append_column("part", pa.array(parts.of_document))
            writer.put_table("members", members)
            width = int(of_cluster.max(initial=-1)) + 1
            tree: dict[str, pa.Array] = {
                "cluster": pa.array(np.arange(width, dtype=np.int32)),
                "size": pa.array(_spread(sizes.astype(np.int64), of_cluster, width, 0)),
                "nearest_size": pa.array(_spread(nearest_sizes.astype(np.int64), of_cluster, width, 0)),
                "persistence": pa.array(_spread(clustering.persistence.astype(np.float32), of_cluster, width, np.nan)),
                "centroid": pa.FixedSizeListArray.from_arrays(
                    pa.array(_spread(centroids.astype(np.float32), of_cluster, width, 0).reshape(-1)),
                    int(vectors.matrix.shape[1]),
                ),
            }
            for depth, layer in enumerate(layers, start=1):
                lifted = ids[depth][np.asarray(layer, dtype=np.int32)]
                tree[f"layer_{depth}"] = pa.array(_spread(lifted.astype(np.int32), of_cluster, width, -1))
            if names:
                known: list[str | None] = [None] * width
                for name, cluster in zip(names, of_cluster.tolist(), strict=True):
                    known[cluster] = name
                tree["name"] = pa.array(known, pa.string())
            writer.put_table("tree", pa.table(tree))
        noise = int((clustering.labels < 0).sum())
        return writer.commit(
            counts={
                "documents": len(vectors),
                "clusters": clustering.n_clusters,
                "noise": noise,
                "noise_share": round(noise / len(vectors), 4),
                "layers": [clustering.n_clusters, *(int(layer.max()) + 1 for layer in layers)],
                # Ids below these are never reused.
                "ids": [_ids_used(store, align, depth, one) for depth, one in enumerate(ids)],
            }
            | ({"carried": int((of_cluster < _ids_used(store, align, 0, ids[0][:0])).sum())} if align else {}),
            cost=cost,
            choices={"backend": clustering.backend, "method": clustering.method, **clustering.details},
            notes=[*clustering.notes, *missed_levels(request.levels or (), clustering.n_clusters, layers)],
        )

    def cost(self, size: JobSize, config: JobConfig) -> Cost:
        """Estimate by the measured rates of HDBSCAN on a few dimensions, and of K-means on the vectors."""
        settings = config.cluster
        count = settings.n_clusters or (settings.levels or (0,))[0]
        spherical = settings.method == "kmeans" and settings.clustered == "vectors"
        joined = 0
        if settings.method == "agglomerative":
            joined = min(joined_at_most(count), size.documents)
        elif settings.method == "kmeans":
            joined = min(count, size.documents)
        seconds = density_seconds(size.documents, fits=FITS if settings.levels else 1)
        if spherical:
            seconds = 0.7 + kmeans_seconds(size, count or None)
        return Cost(
            cpu_seconds=seconds,
            parallel=spherical or size.documents >= OWN_TREE,
            # Ward's method needs a matrix of all pairs, K-means sums per centroid.
            memory_bytes=peak_bytes(size, fixed=90e6, document=300.0 if spherical else 1_700.0)
            + 8.0 * joined**2
            + (80.0 * count * size.dim if spherical else 0.0),
            disk_bytes=size.documents * 12.0,
            scratch_bytes=size.documents * size.dim * 4.0,
        )


STAGE = ClusterStage()


def _spread(values: NDArray[Any], positions: NDArray[np.int32], length: int, empty: Any) -> NDArray[Any]:
    """Scatter ``values`` to ``positions`` of an array of ``length`` filled with ``empty``."""
    result = np.full((length, *values.shape[1:]), empty, dtype=values.dtype)
    result[positions] = values
    return result


def _ids_used(store: Store, align: Record | None, depth: int, ids: NDArray[np.int32]) -> int:
    """One above the highest id that the layer has ever had, in this map or those it is aligned with."""
    before = 0
    if align is not None:
        record = find_record(store, "clusters", str(align.request["clusters"]))
        used = [] if record is None else record.counts.get("ids", record.counts["layers"])
        before = int(used[depth]) if depth < len(used) else 0
    return max(before, int(ids.max(initial=-1)) + 1)


def _identities(
    store: Store,
    align: Record | None,
    row_ids: NDArray[np.int64],
    memberships: Sequence[NDArray[np.int32]],
    names: Sequence[str],
) -> list[NDArray[np.int32]]:
    """Assign ids to the clusters of each layer: their number, or after a refit the id of the matching earlier cluster.

    Clusters from a column are matched by name, others by the documents shared with those of the map ``align``. Ids are
    never reused for another cluster.
    """
    counts = [int(membership.max(initial=-1)) + 1 for membership in memberships]
    if align is None:
        return [np.arange(count, dtype=np.int32) for count in counts]
    from latentscale.backends.alignment import carry_clusters

    labels = read_parquet(store, f"{align.folder}/labels.parquet", ["layer"])
    columns = ["cluster", *(f"layer_{n}" for n in range(1, int(max(labels["layer"].to_pylist(), default=0)) + 1))]
    points = pa.concat_tables([table for _, table in read_points(store, align, ["row_id", *columns])])
    _, here, there = np.intersect1d(row_ids, points["row_id"].to_numpy(), return_indices=True)
    ids: list[NDArray[np.int32]] = []
    for depth, (membership, count) in enumerate(zip(memberships, counts, strict=True)):
        highest_id = _ids_used(store, align, depth, np.empty(0, dtype=np.int32)) - 1
        if depth == 0 and names:
            record = find_record(store, "clusters", str(align.request["clusters"]))
            tree = read_table(store, record, "tree") if record else None
            before = tree["name"].to_pylist() if tree is not None and "name" in tree.column_names else []
            known = {name: cluster for cluster, name in enumerate(before) if name is not None}
            new_ids = iter(range(highest_id + 1, highest_id + 1 + count))
            ids.append(np.array([known[n] if n in known else next(new_ids) for n in names], dtype=np.int32))
        elif depth < len(columns):
            earlier = points[columns[depth]].to_numpy()[there].astype(np.int32)
            ids.append(carry_clusters(membership[here], earlier, n_new=count, highest_id=highest_id))
        else:
            ids.append(np.arange(count, dtype=np.int32))
    return ids


def cluster_points(points: NDArray[np.float32], request: ClustersRequest, *, threads: int) -> Clustering:
    """Cluster ``points`` (float32, shape (n, d)) with the method and settings of ``request``."""
    backend = open_backend(request.backend)
    if request.method == "kmeans":
        fit_kmeans = backend.kmeans if request.projection is None else backend.kmeans_of_layout
        return fit_kmeans(points, n_clusters=request.n_clusters, seed=int(request.seed or 0), threads=threads)
    if request.method == "agglomerative":
        return backend.agglomerative(points, n_clusters=int(request.n_clusters or 2), seed=int(request.seed or 0))
    if request.method == "dbscan":
        return backend.dbscan(
            points,
            eps=request.eps,
            min_samples=int(request.min_samples or 2),
            min_cluster_size=int(request.min_cluster_size or 2),
            threads=threads,
        )

    if request.method == "plscan":
        return backend.plscan(
            points,
            min_samples=int(request.min_samples or 2),
            min_cluster_size=int(request.min_cluster_size or 2),
            threads=threads,
        )

    def fit(settings: DensitySettings) -> Clustering:
        return backend.hdbscan(
            points,
            **asdict(settings),
            cluster_selection_epsilon=float(request.cluster_selection_epsilon or 0.0),
            threads=threads,
        )

    first = DensitySettings(
        min_cluster_size=int(request.min_cluster_size or 2),
        min_samples=int(request.min_samples or request.min_cluster_size or 2),
        cluster_selection_method="leaf" if request.cluster_selection_method == "leaf" else "eom",
    )
    if request.levels:
        leaf = request.cluster_selection_method == "leaf"
        return about(fit, first, request.levels[0], methods=("leaf",) if leaf else ("eom", "leaf"))
    return without_collapse(fit, first) if request.adapt else fit(first)


def _merge_duplicates(clustering: Clustering, first: NDArray[np.int64]) -> Clustering:
    """Put duplicates in the same cluster; ids are by descending size, without gaps."""
    labels, probabilities = shared_labels(clustering.labels, clustering.probabilities, first)
    if np.array_equal(labels, clustering.labels):
        return replace(clustering, probabilities=probabilities)
    sizes = np.bincount(labels[labels >= 0], minlength=clustering.n_clusters)
    order = np.argsort(-sizes, kind="stable")[: np.count_nonzero(sizes)]
    ranks = np.full(clustering.n_clusters + 1, -1, dtype=np.int32)
    ranks[order] = np.arange(len(order), dtype=np.int32)
    return replace(
        clustering,
        labels=ranks[labels],
        probabilities=probabilities,
        persistence=clustering.persistence[order],
    )


def _from_column(store: Store, snapshot: Snapshot, vectors: Vectors, column: str) -> tuple[Clustering, list[str]]:
    """Use the values of a source column as clusters: ids by descending size, null is noise."""
    values = column_values(store, snapshot, vectors.row_ids, column)
    if len(values.categories) > MAX_COLUMN_CLUSTERS:
        raise CorpusError(
            f"the column {column!r} has {len(values.categories):,} different values, too many for clusters",
            hint=f"Choose a column with at most {MAX_COLUMN_CLUSTERS:,} values.",
        )
    sizes = np.bincount(values.codes[values.codes >= 0], minlength=len(values.categories))
    # Clusters of equal size are in the order of their first document.
    order = np.argsort(-sizes, kind="stable")
    names = [values.categories[code] for code in order.tolist()]
    ranks = np.empty(len(order) + 1, dtype=np.int32)
    ranks[order], ranks[-1] = np.arange(len(order), dtype=np.int32), -1
    labels = ranks[values.codes]
    clustering = Clustering(
        labels=labels,
        probabilities=(labels >= 0).astype(np.float32),
        persistence=np.full(len(names), np.nan, dtype=np.float32),
        method="column",
    )
    return clustering, names


@dataclass(frozen=True, slots=True, kw_only=True)
class Clusters:
    """The clusters of a map.

    Attributes
    ----------
    row_ids : int64 ndarray, shape (n,)
    cluster, nearest_cluster : int32 ndarray, shape (n,)
    probability : float32 ndarray, shape (n,)
    tree : pyarrow.Table
        One row per id, unused ones with a ``size`` of 0:
        ``cluster``, ``size``, ``nearest_size``, ``persistence``, ``centroid``, ``layer_<n>``.
    """

    row_ids: NDArray[np.int64]
    cluster: NDArray[np.int32]
    nearest_cluster: NDArray[np.int32]
    probability: NDArray[np.float32]
    tree: pa.Table

    def coarser(self) -> list[NDArray[np.int32]]:
        """For layers 1, 2, …: the cluster of that layer that each cluster of layer 0 belongs to."""
        names = [name for name in self.tree.column_names if name.startswith("layer_")]
        return [self.tree[name].to_numpy().astype(np.int32) for name in names]

    def memberships(self) -> list[NDArray[np.int32]]:
        """For layers 0, 1, …: the cluster of each document, -1 for noise (int32, shape (n,))."""
        return [self.cluster, *(_lift(layer, self.cluster) for layer in self.coarser())]


def _lift(of_cluster: NDArray[np.int32], cluster: NDArray[np.int32]) -> NDArray[np.int32]:
    return np.append(of_cluster, np.int32(-1))[cluster]


def read_clusters(store: Store, record: Record) -> Clusters:
    """Read the clusters of an artifact."""
    members = read_table(store, record, "members")
    return Clusters(
        row_ids=members["row_id"].to_numpy(),
        cluster=members["cluster"].to_numpy(),
        nearest_cluster=members["nearest_cluster"].to_numpy(),
        probability=members["probability"].to_numpy(),
        tree=read_table(store, record, "tree"),
    )
