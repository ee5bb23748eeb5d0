"""What the page shows of documents in no cluster: ``publish.noise``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pyarrow as pa

from latentscale.stages.cluster import Clusters


def shown_clusters(clusters: Clusters, settings: Mapping[str, Any]) -> Clusters:
    """The clusters as the page colours and counts them; with ``nearest``, noise is in its nearest cluster."""
    return replace(clusters, cluster=clusters.nearest_cluster) if _nearest(settings) else clusters


def shown_labels(labels: pa.Table, settings: Mapping[str, Any]) -> pa.Table:
    """The table of labels with the sizes that the page gives."""
    if not _nearest(settings):
        return labels
    at = labels.schema.get_field_index("size")
    field = labels.schema.field(at)
    return labels.set_column(at, field, labels["nearest_size"].cast(field.type))


def _nearest(settings: Mapping[str, Any]) -> bool:
    # Maps that keep their noise, as all did once, do not name the setting.
    return settings.get("noise") == "nearest"
