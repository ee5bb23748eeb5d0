"""Write the points of a map in parts, optionally partitioned by a column."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from latentscale.backends.grouping import members_by_cluster
from latentscale.errors import ConfigError, CorpusError, name_list
from latentscale.stages.cluster import Clusters
from latentscale.stages.publish.columns import Published, published_documents
from latentscale.storage.artifacts import ArtifactWriter
from latentscale.storage.objects import Store
from latentscale.storage.parquet import encode_table
from latentscale.storage.partitions import partition_facts, partition_folder
from latentscale.storage.snapshot import Snapshot

POINTS_ROWS = 131_072
MAX_PARTITIONS = 1_000
# Float columns, encoded as BYTE_STREAM_SPLIT, which compresses better.
SPLIT_COLUMNS = ("x", "y", "z", "probability", "density", "neighbor_distance", "outlier_score")


def point_columns(
    clusters: Clusters, coordinates: NDArray[np.float32], density: NDArray[np.float32], labels: pa.Table
) -> dict[str, pa.Array]:
    """Build the columns of points that do not come from the corpus: id, position, clusters and their labels.

    Parameters
    ----------
    coordinates : float32 ndarray, shape (n, 2 or 3)
    labels : pyarrow.Table
        ``layer``, ``cluster``, ``label``, as ``labels.parquet`` of a map has them.
    """
    finest = [row for row in labels.select(["layer", "cluster", "label"]).to_pylist() if row["layer"] == 0]
    names = {row["cluster"]: row["label"] for row in finest}
    # After a refit some ids are unused.
    dictionary = pa.array([names.get(i, "") for i in range(max(names, default=-1) + 1)], pa.string())
    noise = clusters.cluster < 0
    columns = {
        "row_id": pa.array(clusters.row_ids),
        "x": pa.array(coordinates[:, 0]),
        "y": pa.array(coordinates[:, 1]),
        **({"z": pa.array(coordinates[:, 2])} if coordinates.shape[1] > 2 else {}),
        "cluster": pa.array(clusters.cluster),
        "nearest_cluster": pa.array(clusters.nearest_cluster),
        "probability": pa.array(clusters.probability),
        "density": pa.array(density.astype(np.float32)),
    }
    for depth, membership in enumerate(clusters.memberships()[1:], start=1):
        columns[f"layer_{depth}"] = pa.array(membership)
    columns["label"] = pa.DictionaryArray.from_arrays(
        pa.array(np.where(noise, 0, clusters.cluster), mask=noise), dictionary
    )
    return columns


def write_points(
    writer: ArtifactWriter,
    store: Store,
    snapshot: Snapshot,
    clusters: Clusters,
    coordinates: NDArray[np.float32],
    density: NDArray[np.float32],
    labels: pa.Table,
    columns: Published,
    partition_by: str | None,
    *,
    extra_columns: Mapping[str, pa.Array] | None = None,
) -> int:
    """Write ``points/update=<snapshot>/`` in parts; returns the number of partitions, 0 if not partitioned.

    Parameters
    ----------
    coordinates : float32 ndarray, shape (n, 2 or 3)
        With three dimensions, points have ``z``, too.
    extra_columns : mapping of str to pyarrow.Array, optional
        Further columns of the points: ``neighbor_distance``, ``outlier_score``, ``fitted``.
    """
    fixed = point_columns(clusters, coordinates, density, labels) | dict(extra_columns or {})
    folder = f"points/update={snapshot.id}"
    read = ["source", "source_row", *columns.points]
    if partition_by is not None and partition_by in columns.schema.names and partition_by not in read:
        read.append(partition_by)
    schema = pa.schema([pa.field("source", pa.string()), pa.field("source_row", pa.int64()), *columns.schema])
    partitions: set[str] = set()
    pieces: list[pa.Table] = []
    part = start = 0

    def flush() -> None:
        nonlocal part, start
        if not pieces:
            return
        documents = pa.concat_tables(pieces)
        stop = start + documents.num_rows
        rows = pa.table({name: column.slice(start, stop - start) for name, column in fixed.items()})
        table = with_source_columns(rows, documents)
        for value, facts, piece in _split(table, partition_by):
            inner = f"{folder}/{value}" if value else folder
            if value and value not in partitions:
                partitions.add(value)
                _check_partitions(partition_by, len(partitions))
            split = [name for name in SPLIT_COLUMNS if name in piece.column_names]
            data = memoryview(encode_table(piece, facts={"map": writer.id, **facts}, byte_stream_split=split))
            writer.put(f"{inner}/part-{part:05d}.parquet", data, rows=piece.num_rows)
        part, start = part + 1, stop
        pieces.clear()

    for table in published_documents(store, snapshot, clusters.row_ids, read, schema):
        pieces.append(table)
        if sum(piece.num_rows for piece in pieces) >= POINTS_ROWS:
            flush()
    flush()
    return len(partitions)


def with_source_columns(points: pa.Table, documents: pa.Table) -> pa.Table:
    """Add the columns of the documents to those of their points.

    Raises
    ------
    CorpusError
        If a column of the corpus has the name of one of the points.
    """
    for name in documents.column_names:
        if name in points.column_names:
            # Possible in workspaces of versions that did not reserve the name; duplicate columns could not be read.
            raise CorpusError(
                f"the corpus has a column {name!r}, which is the name of a column of the points",
                hint="Run it into a new workspace, where the column gets another name; or set publish.columns.",
            )
        points = points.append_column(name, documents[name])
    return points


def _check_partitions(partition_by: str | None, values: int) -> None:
    if values > MAX_PARTITIONS:
        raise CorpusError(
            f"publish.partition_by: {partition_by!r} has more than {MAX_PARTITIONS:,} values",
            hint="Partition by a column with fewer values.",
        )


def _split(table: pa.Table, partition_by: str | None) -> Iterator[tuple[str, dict[str, Any], pa.Table]]:
    """Yield (hive folder, footer facts, rows) for each value of the column, which is dropped from the rows."""
    if partition_by is None:
        yield "", {}, table
        return
    if partition_by not in table.column_names:
        raise ConfigError(
            f"publish.partition_by: there is no column {partition_by!r}",
            hint=f"There are: {name_list(table.column_names)}.",
        )
    column = table[partition_by]
    kind = column.type
    if pa.types.is_dictionary(kind):
        # Nulls have no dictionary code.
        column = column.cast(kind.value_type)
    codes = column.combine_chunks().dictionary_encode(null_encoding="encode")
    # Checked before any part is written.
    _check_partitions(partition_by, len(codes.dictionary))
    without_column = table.drop_columns([partition_by])
    rows_by_value = members_by_cluster(codes.indices.to_numpy(zero_copy_only=False))
    for value, indices in zip(codes.dictionary, rows_by_value, strict=True):
        facts = {"partition": partition_facts(partition_by, value, kind)}
        yield partition_folder(partition_by, value), facts, without_column.take(pa.array(indices))
