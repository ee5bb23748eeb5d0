"""Labels with the centre and hull of each cluster on the map."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from latentscale.backends.grouping import members_by_cluster
from latentscale.stages.cluster import Clusters


def published_evidence(table: pa.Table, columns: Collection[str]) -> pa.Table:
    """Remove evidence from source columns that are not published."""
    for name in [name for name in ("columns", "numbers") if name in table.column_names]:
        field = table.schema.field(name)
        evidence = [[fact for fact in row or [] if fact["column"] in columns] for row in table[name].to_pylist()]
        table = table.set_column(table.column_names.index(name), field, pa.array(evidence, field.type))
    return table


def map_labels(
    table: pa.Table, clusters: Clusters, coordinates: NDArray[np.float32], space: NDArray[np.float32] | None = None
) -> pa.Table:
    """Add the centre and hull of each cluster on the map, and its centroid, to the labels.

    Parameters
    ----------
    space : float32 ndarray, shape (n, 3), optional
        Three-dimensional coordinates; adds ``z``, the height of each centre.
    """
    from latentscale.backends.shapes import hulls, largest_piece

    memberships = clusters.memberships()
    members = [members_by_cluster(membership) for membership in memberships]
    layers, ids = table["layer"].to_numpy(), table["cluster"].to_numpy()
    outlines = [hulls(coordinates, membership) for membership in memberships]
    centroids = np.concatenate([chunk.flatten().to_numpy() for chunk in clusters.tree["centroid"].chunks] or [[]])
    dim = clusters.tree.schema.field("centroid").type.list_size
    centroids = centroids.reshape(-1, dim).astype(np.float32)
    weights = clusters.tree["size"].to_numpy().astype(np.float32)
    # For each coarser layer, the finest clusters in each of its clusters.
    inner = [members_by_cluster(layer) for layer in clusters.coarser()]
    xs, ys, zs, polygons, means = [], [], [], [], []
    for layer, cluster in zip(layers.tolist(), ids.tolist(), strict=True):
        cluster_members = members[layer][cluster]
        piece = cluster_members[largest_piece(coordinates[cluster_members])]
        positions = coordinates[piece]
        # The document nearest to the median: the median of a ring or crescent is in an empty area.
        middle = np.median(positions, axis=0)
        nearest = int(np.argmin(((positions - middle) ** 2).sum(axis=1)))
        xs.append(float(positions[nearest, 0]))
        ys.append(float(positions[nearest, 1]))
        if space is not None:
            zs.append(float(np.median(space[piece, 2])))
        polygons.append(np.asarray(outlines[layer][cluster], dtype=np.float32).reshape(-1))
        finest = np.array([cluster]) if layer == 0 else inner[layer - 1][cluster]
        mean = (centroids[finest] * weights[finest, None]).sum(axis=0)
        means.append(mean / max(float(np.linalg.norm(mean)), 1e-12))
    flat = np.concatenate(means) if means else np.empty(0, dtype=np.float32)
    result = table.append_column("x", pa.array(xs, pa.float32())).append_column("y", pa.array(ys, pa.float32()))
    if space is not None:
        result = result.append_column("z", pa.array(zs, pa.float32()))
    return result.append_column("hull", pa.array(polygons, pa.list_(pa.float32()))).append_column(
        "centroid", pa.FixedSizeListArray.from_arrays(pa.array(flat.astype(np.float32)), dim)
    )
