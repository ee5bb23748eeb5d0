"""Hive-style partition columns: folders named ``key=value`` in the path of a file."""

from __future__ import annotations

from dataclasses import replace
from urllib.parse import unquote

import pyarrow as pa

from latentscale.file_names import escaped
from latentscale.readers.records import Block

NULL = "__HIVE_DEFAULT_PARTITION__"


def partitions_of(path: str) -> dict[str, str | None]:
    """Return keys and values of the folders of a path, percent-decoded."""
    found: dict[str, str | None] = {}
    if "=" not in path:
        return found
    for part in path.split("/")[:-1]:
        key, separator, value = part.partition("=")
        if separator and key:
            found[_decoded(key)] = None if value == NULL else _decoded(value)
    return found


def _decoded(text: str) -> str:
    return escaped(unquote(text, errors="surrogateescape"))


def with_partitions(block: Block, partitions: dict[str, str | None]) -> Block:
    """Add the partition columns to a block; columns of the file take precedence.

    Values are text; as for CSV, narrower types are inferred when all shards exist.
    """
    table = block.table
    for name, value in partitions.items():
        if name not in table.column_names:
            column = pa.nulls(table.num_rows, pa.string())
            if value is not None:
                column = pa.repeat(pa.scalar(value, pa.string()), table.num_rows)
            table = table.append_column(name, column)
    return replace(block, table=table)
