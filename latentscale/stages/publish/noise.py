"""How the page shows noise: ``publish.noise``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pyarrow as pa

from latentscale.stages.cluster import Clusters


def shown_clusters(clusters: Clusters, settings: Mapping[str, Any]) -> Clusters:
    """Return clusters as shown on the page; with ``nearest``, noise is in its nearest cluster."""
    return replace(clusters, cluster=clusters.nearest_cluster) if _nearest(settings) else clusters


def shown_labels(labels: pa.Table, settings: Mapping[str, Any]) -> pa.Table:
    """Return labels with the cluster sizes shown on the page."""
    if not _nearest(settings):
        return labels
    at = labels.schema.get_field_index("size")
    field = labels.schema.field(at)
    return labels.set_column(at, field, labels["nearest_size"].cast(field.type))


def _nearest(settings: Mapping[str, Any]) -> bool:
    # Absent from maps of versions without this setting, which keep noise.
    return settings.get("noise") == "nearest"
