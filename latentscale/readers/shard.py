"""Build a shard of documents up to its limits in rows and bytes, with its rejects."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from latentscale.config import CorpusConfig, IngestConfig
from latentscale.readers.columns import concat, stored_text_column
from latentscale.readers.documents import DOCUMENT, REJECT, SAMPLE, WHERE, DocumentMaker, Documents
from latentscale.readers.records import RejectedRows
from latentscale.storage.common_types import within_calendar

EXAMPLES = 3
"""Number of rejects listed in the footer of a shard."""

REJECT_SCHEMA = pa.schema(
    [
        ("source", pa.string()),
        ("source_row", pa.int64()),
        ("line", pa.int64()),
        ("column", pa.string()),
        ("reason", pa.string()),
        ("detail", pa.string()),
    ]
)


@dataclass(slots=True)
class Shard:
    """A shard under construction."""

    tables: list[pa.Table] = field(default_factory=list[pa.Table])
    sources: list[tuple[str, NDArray[np.int64]]] = field(default_factory=list["tuple[str, NDArray[np.int64]]"])
    rejects: dict[str, list[Any]] = field(default_factory=lambda: {name: [] for name in REJECT_SCHEMA.names})
    counts: NDArray[np.int64] = field(default_factory=lambda: np.zeros(4, dtype=np.int64))
    bytes: int = 0
    renamed: dict[str, str] = field(default_factory=dict[str, str])
    vector_width: int | None = None

    @property
    def rows_in(self) -> int:
        return int(self.counts.sum())

    def room(self, documents: Documents, begin: int, stop: int, ingest: IngestConfig) -> int:
        """Return the end of the rows from ``begin`` that fit, independently of the division into blocks."""
        kind = documents.kind
        is_document = kind == DOCUMENT
        costs = np.zeros(len(kind), dtype=np.int64)
        costs[is_document] = documents.cost
        rejects = np.cumsum(kind[begin:stop] == REJECT)
        ends = (
            np.searchsorted(np.cumsum(is_document[begin:stop]), ingest.shard_rows - self.counts[DOCUMENT], "right"),
            np.searchsorted(rejects, ingest.shard_rows - self.counts[REJECT], "right"),
            np.searchsorted(np.cumsum(costs[begin:stop]), ingest.shard_bytes - self.bytes, "right"),
        )
        end = begin + int(min(ends))
        return begin + 1 if end == begin and not self.rows_in else end

    def take(self, documents: Documents, begin: int, end: int) -> None:
        """Add the rows from position ``begin`` to ``end``."""
        first, count = (
            int((documents.kind[:begin] == DOCUMENT).sum()),
            int((documents.kind[begin:end] == DOCUMENT).sum()),
        )
        if count or not self.tables:
            self.tables.append(documents.table.slice(first, count))
            self.sources.append((documents.source, documents.source_row[first : first + count]))
        self.bytes += int(documents.cost[first : first + count].sum())
        self.counts += np.bincount(documents.kind[begin:end], minlength=4)
        rejects: RejectedRows = documents.rejects
        chosen = [i for i, position in enumerate(rejects.position) if begin <= position < end]
        for name in REJECT_SCHEMA.names:
            values = (
                [documents.source] * len(chosen) if name == "source" else [getattr(rejects, name)[i] for i in chosen]
            )
            self.rejects[name].extend(values)

    def sealed(self, maker: DocumentMaker) -> Shard:
        """Record the current facts of the document maker."""
        self.renamed = dict(maker.renamed)
        self.vector_width = maker.vector_width
        return self

    def table(self, corpus: CorpusConfig) -> pa.Table:
        """Return the table of the shard: row, source, source_row, text, source columns."""
        names: list[str] = list(dict.fromkeys(source for source, _ in self.sources))
        codes = [np.full(len(rows), names.index(source), dtype=np.int32) for source, rows in self.sources]
        rows = [rows for _, rows in self.sources]
        body = concat(self.tables) if self.tables else pa.table({stored_text_column(corpus): pa.array([], pa.string())})
        indices = pa.array(np.concatenate(codes) if codes else np.zeros(0, dtype=np.int32))
        columns: dict[str, Any] = {
            "row": pa.array(np.arange(body.num_rows, dtype=np.int32)),
            "source": pa.DictionaryArray.from_arrays(indices, pa.array(names, pa.string())),
            "source_row": pa.array(np.concatenate(rows) if rows else np.zeros(0, dtype=np.int64)),
        }
        return pa.table(columns | {name: within_calendar(body.column(name)) for name in body.column_names})

    def facts(self) -> dict[str, Any]:
        """Return the metadata of the footer, determined by input and settings alone."""
        rejects = self.rejects
        examples = [
            f"{rejects['source'][i]}:{rejects['line'][i]} {rejects['reason'][i]}"
            if rejects["line"][i] is not None
            else f"{rejects['source'][i]} row {rejects['source_row'][i]} {rejects['reason'][i]}"
            for i in range(min(EXAMPLES, len(rejects["source"])))
        ]
        return {
            "rows_in": self.rows_in,
            "rows": int(self.counts[DOCUMENT]),
            "rejected": int(self.counts[REJECT]),
            "filtered": {"where": int(self.counts[WHERE]), "sample": int(self.counts[SAMPLE])},
            "reasons": dict(sorted(Counter(rejects["reason"]).items())),
            "examples": examples,
            "renamed": dict(sorted(self.renamed.items())),
            "vector_width": self.vector_width,
        }
