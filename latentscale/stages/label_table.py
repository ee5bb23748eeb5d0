"""Columns of the table of labels, which are also in that of a map."""

from __future__ import annotations

import pyarrow as pa

from latentscale.stages.stage import Table

SHARES = pa.struct(
    [("column", pa.string()), ("value", pa.string())]
    + [(name, pa.float32()) for name in ("share", "elsewhere", "lift", "low", "high")]
)
"""A value of a column that is more common in a cluster than elsewhere."""
NUMBERS = pa.struct(
    [(name, pa.string()) for name in ("column", "median", "elsewhere")]
    + [(name, pa.float32()) for name in ("above", "low", "high")]
)
"""A column whose numbers are larger or smaller in a cluster than elsewhere."""
LABELS_SCHEMA = pa.schema(
    [
        ("layer", pa.int32()),
        ("cluster", pa.int32()),
        ("label", pa.string()),
        ("source", pa.string()),
        ("keyphrases", pa.list_(pa.string())),
        ("exemplars", pa.list_(pa.int64())),
        ("parent", pa.int32()),
        ("size", pa.int64()),
        ("nearest_size", pa.int64()),
        ("persistence", pa.float32()),
        ("coverage", pa.float32()),
        ("coverage_outside", pa.float32()),
        ("documents_read", pa.int64()),
        ("receipt", pa.string()),
        ("description", pa.string()),
        ("confidence", pa.float32()),
        ("reason", pa.string()),
        ("held_out", pa.float32()),
        ("receipts", pa.list_(pa.string())),
        ("hidden", pa.bool_()),
        ("edit", pa.string()),
        ("columns", pa.list_(SHARES)),
        ("numbers", pa.list_(NUMBERS)),
        ("sibling", pa.int32()),
        ("contrast", pa.list_(pa.int64())),
    ]
)
LABELS_TABLE = Table(
    columns={
        "layer": "int32",
        "cluster": "int32",
        "label": "string",
        "source": "string",
        "keyphrases": "list",
        "exemplars": "list",
        "parent": "int32",
        "size": "int64",
        "nearest_size": "int64",
    }
)
