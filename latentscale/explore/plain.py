"""Conversion of frames for export: values that CSV, Excel or JSON cannot represent become text."""

from __future__ import annotations

import json
from typing import Any

import polars as pl

from latentscale.viewer.values import plain_value


def plain_frame(frame: pl.DataFrame, suffix: str) -> pl.DataFrame:
    """Return ``frame`` with the columns converted to text that the format ``suffix`` cannot represent.

    In CSV and Excel, nested values become JSON text; in CSV, Excel and JSON Lines, bytes become hexadecimal digits and
    durations ISO 8601 (``PT1.5S``). JSON Lines keeps nested values. Parquet represents all types.
    """
    if suffix == ".parquet":
        return frame
    columns = [_plain_column(column, nested_too=suffix != ".jsonl") for column in frame.iter_columns()]
    return pl.DataFrame(columns)


def _plain_column(column: pl.Series, *, nested_too: bool) -> pl.Series:
    kind = column.dtype
    if kind == pl.Binary:
        return column.bin.encode("hex")
    if kind == pl.Duration:
        return column.dt.to_string("iso")
    if kind.is_nested() and (nested_too or _holds_bytes(kind)):
        texts = [
            None if value is None else json.dumps(plain_value(value), ensure_ascii=False) for value in _values(column)
        ]
        return pl.Series(column.name, texts, pl.String)
    return column


def _holds_bytes(kind: pl.DataType) -> bool:
    """Whether a nested type contains bytes, or is a map, which some versions of polars cannot write as JSON."""
    return "Binary" in str(kind) or not isinstance(kind, pl.List | pl.Array | pl.Struct)


def _values(column: pl.Series) -> list[Any]:
    """The values of a column as built-in Python types, at any depth."""
    return column.to_arrow().to_pylist()
