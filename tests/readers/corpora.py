"""List and ingest small corpora, for the tests of readers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa

from latentscale.config import CorpusConfig, IngestConfig
from latentscale.readers.input_table import InputTable
from latentscale.readers.inputs import list_inputs
from latentscale.readers.unread import Unread
from latentscale.stages import ingest
from latentscale.storage.objects import Store
from latentscale.storage.parquet import read_footer, read_parquet


def listed(*sources: str | Path, **settings: Any) -> InputTable:
    return list_inputs(CorpusConfig(sources=tuple(map(str, sources)), **settings))


def listed_and_left(*sources: str | Path, **settings: Any) -> tuple[list[str], Unread]:
    """Paths of what is read, and what is not."""
    unread = Unread()
    files = list_inputs(CorpusConfig(sources=tuple(map(str, sources)), **settings), [], unread)
    return [file.path for file in files], unread


class Ingested:
    """What one ingest of a corpus gave."""

    def __init__(self, folder: Path, sources: tuple[str | Path, ...], settings: dict[str, Any]) -> None:
        self.corpus = CorpusConfig(sources=tuple(map(str, sources)), **{"text": "text", **settings})
        shape = IngestConfig()
        self.store = Store(str(folder))
        inputs = list_inputs(self.corpus)
        self.check = ingest.check_corpus(inputs, self.corpus, shape)
        worker = ingest.IngestWorker(self.store, self.corpus, shape)
        units = ingest.plan_ingest(inputs, self.corpus, shape)
        self.receipts = [receipt for unit in units for receipt in worker(unit)]
        tables = [read_parquet(self.store, receipt.name) for receipt in self.receipts]
        footers = [read_footer(self.store, receipt.name) for receipt in self.receipts]
        schema = ingest.unify_columns([(footer.schema, footer.facts) for footer in footers])
        self.table: pa.Table = pa.concat_tables([ingest.conform(table, schema) for table in tables])

    @property
    def rows(self) -> list[dict[str, Any]]:
        return [
            {k: v for k, v in row.items() if k not in ("row", "source", "source_row")} for row in self.table.to_pylist()
        ]

    @property
    def texts(self) -> list[str]:
        return self.table.column(ingest.stored_text_column(self.corpus)).to_pylist()

    @property
    def sources(self) -> list[str]:
        return list(dict.fromkeys(self.table.column("source").to_pylist()))

    @property
    def rejects(self) -> list[tuple[int, int | None, str]]:
        """Row, line and reason of each reject."""
        return [
            (row["source_row"], row["line"], row["reason"])
            for receipt in self.receipts
            if receipt.rejected
            for row in read_parquet(self.store, ingest.reject_name(receipt.key)).to_pylist()
        ]
