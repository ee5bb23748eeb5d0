"""The output of readers: blocks of rows in input order, with rejected rows."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from latentscale.config import IngestConfig

EXCERPT = 160


@dataclass(slots=True)
class RejectedRows:
    """Rejected rows in columnar form; all lists have equal length.

    Attributes
    ----------
    position : list of int
        Position of the row in its block.
    source_row : list of int
        0-based, as in the documents.
    line : list of int or None
        1-based physical line where the row begins, for formats with lines.
    column, reason, detail : list of str
        The invalid column ("" for the whole row), a reason code, and an excerpt.
    """

    position: list[int] = field(default_factory=list[int])
    source_row: list[int] = field(default_factory=list[int])
    line: list[int | None] = field(default_factory=list["int | None"])
    column: list[str] = field(default_factory=list[str])
    reason: list[str] = field(default_factory=list[str])
    detail: list[str] = field(default_factory=list[str])

    def __len__(self) -> int:
        return len(self.position)

    def add(self, *, position: int, source_row: int, line: int | None, column: str, reason: str, detail: str) -> None:
        """Reject one row."""
        self.position.append(position)
        self.source_row.append(source_row)
        self.line.append(line)
        self.column.append(column)
        self.reason.append(reason)
        self.detail.append(excerpt(detail))


@dataclass(slots=True, kw_only=True)
class Block:
    """Some rows of one input, in order.

    Each of ``size`` positions is either in ``table`` (at ``position``) or in ``rejects``.

    Attributes
    ----------
    source : str
        Path of the input, relative to the corpus.
    size : int
        Number of rows read.
    table : pyarrow.Table
        Source columns of the accepted rows, under their original names.
    position : int64 ndarray, shape (table.num_rows,)
        Ascending.
    source_row : int64 ndarray, shape (table.num_rows,)
        0-based: data row of parquet and CSV (header and blank lines not counted), line of JSONL and text.
    line : int64 ndarray or None, shape (table.num_rows,)
        1-based physical line, for formats with lines.
    cost : int64 ndarray, shape (table.num_rows,)
        Decoded size of each row in bytes.
    rejects : RejectedRows
    """

    source: str
    size: int
    table: pa.Table
    position: NDArray[np.int64]
    source_row: NDArray[np.int64]
    line: NDArray[np.int64] | None
    cost: NDArray[np.int64]
    rejects: RejectedRows


def excerpt(text: str) -> str:
    """Shorten a text for an error message, replacing what UTF-8 cannot encode."""
    short = text[:EXCERPT].encode("utf-8", "replace").decode("utf-8")
    return short if len(text) <= EXCERPT else short + "…"


def record_limit(ingest: IngestConfig) -> int:
    """Return the maximum bytes of a record: the longest allowed text as escaped JSON, with a margin.

    Longer records are rejected without reading them, so that an endless line cannot exhaust memory.
    """
    return (4 << 20) + 12 * ingest.max_text_characters
