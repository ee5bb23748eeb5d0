"""The worker of ingest: reads units, composes texts, rejects rows, and writes each shard as one object."""

from __future__ import annotations

import time
from collections.abc import Iterator

import numpy as np
import pyarrow as pa

from latentscale.config import CorpusConfig, IngestConfig
from latentscale.readers import read_input
from latentscale.readers.columns import (
    OWN_COLUMNS,
    candidate_types,
    stored_id_column,
    stored_name,
    stored_text_column,
    value_facts,
)
from latentscale.readers.documents import DOCUMENT, DocumentMaker
from latentscale.readers.inputs import check_unchanged
from latentscale.readers.partitions import partitions_of
from latentscale.readers.shard import REJECT_SCHEMA, Shard
from latentscale.stages.ingest.plan import VERSION, stage_digest
from latentscale.stages.ingest.receipts import ShardReceipt, receipt_of, reject_name, shard_key
from latentscale.stages.ingest.units import IngestUnit
from latentscale.storage.objects import Store
from latentscale.storage.parquet import Footer, read_footer, write_parquet
from latentscale.storage.snapshot import document_name


class IngestWorker:
    """Reads units, composes texts, rejects rows, and writes each shard as one object.

    Parameters
    ----------
    store : Store
        The workspace.
    corpus : CorpusConfig
    ingest : IngestConfig
    """

    def __init__(self, store: Store, corpus: CorpusConfig, ingest: IngestConfig) -> None:
        self._store = store
        self._corpus = corpus
        self._ingest = ingest
        self._stage = stage_digest(corpus, ingest)

    def __call__(self, unit: IngestUnit) -> list[ShardReceipt]:
        """Write the missing shards of ``unit``; returns the receipts of all of its shards.

        Raises
        ------
        LatentScaleError
            If the input or the store fails; shards written so far remain.
        """
        receipts: list[ShardReceipt] = []
        started = time.perf_counter()
        waiting: Shard | None = None
        # A shard is written once it is known whether it is the last.
        for shard in self._shards(unit):
            if waiting is not None:
                receipts.append(self._write(unit, waiting, len(receipts), last=False, started=started))
                started = time.perf_counter()
            waiting = shard
        receipts.append(self._write(unit, waiting or Shard(), len(receipts), last=True, started=started))
        return receipts

    def _shards(self, unit: IngestUnit) -> Iterator[Shard]:
        maker = DocumentMaker(self._corpus, self._ingest)
        shard = Shard()
        left = self._corpus.limit
        for file in unit.inputs:
            # Do not read beyond the limit.
            verified = self._corpus.limit is None
            groups = unit.row_groups
            for block in read_input(file, self._corpus, self._ingest, row_groups=groups, verified=verified):
                documents = maker.make(block, file)
                ends = np.cumsum(documents.kind == DOCUMENT)
                stop = len(ends)
                if left is not None and stop and ends[-1] >= left:
                    # Rows after the limit are ignored.
                    stop = int(np.searchsorted(ends, left)) + 1
                begin = 0
                while begin < stop:
                    end = shard.room(documents, begin, stop, self._ingest)
                    if end > begin:
                        shard.take(documents, begin, end)
                        begin = end
                    if begin < stop:
                        yield shard.sealed(maker)
                        shard = Shard()
                if left is not None:
                    left -= int(ends[stop - 1]) if stop else 0
                    if left <= 0:
                        yield shard.sealed(maker)
                        return
            if unit.row_groups is None:
                maker.finish(file)
        if shard.rows_in:
            yield shard.sealed(maker)

    def _write(self, unit: IngestUnit, shard: Shard, index: int, *, last: bool, started: float) -> ShardReceipt:
        key = shard_key(unit.key, index, last=last)
        name = document_name(key)
        found = self._store.info(name)
        if found is not None:
            return receipt_of(name, read_footer(self._store, name), found.size)
        table = shard.table(self._corpus)
        vectors = self._corpus.vectors_column()
        facts = shard.facts() | {
            "kind": "documents",
            "version": VERSION,
            "unit": unit.key,
            "index": index,
            "last": last,
            "stage": self._stage,
            "text": stored_text_column(self._corpus),
            "id": stored_id_column(self._corpus),
            "vectors": stored_name(vectors, self._corpus) if vectors else None,
            "types": self._types(unit, table) | _facts_of_values(table),
        }
        # The key names the listed version: a file that changed while it was read must not be stored under it.
        for file in unit.inputs:
            check_unchanged(file)
        if shard.rejects["source"]:
            rejects = pa.table(shard.rejects, schema=REJECT_SCHEMA)
            # Before the documents, whose object is the receipt of both.
            write_parquet(self._store, reject_name(key), rejects, facts={"kind": "rejects", "unit": unit.key})
        info = write_parquet(self._store, name, table, facts=facts)
        footer = Footer(rows=table.num_rows, facts=facts, schema=table.schema)
        return receipt_of(name, footer, info.size, seconds=round(time.perf_counter() - started, 4))

    def _types(self, unit: IngestUnit, table: pa.Table) -> dict[str, list[str]]:
        """Candidate types of text columns from CSV files and paths; in other formats text is text."""
        kept = {stored_text_column(self._corpus)}
        names = {name for name in table.column_names if name not in kept}
        if any(file.format not in ("csv", "tsv") for file in unit.inputs):
            of_paths = [{stored_name(n, self._corpus) for n in partitions_of(file.path)} for file in unit.inputs]
            names &= set[str].intersection(*of_paths)
        return {
            field.name: candidate_types(table.column(field.name))
            for field in table.schema
            if pa.types.is_string(field.type) and field.name in names
        }


def _facts_of_values(table: pa.Table) -> dict[str, list[str]]:
    """Facts that determine which other types can represent the values of typed columns."""
    facts = {name: value_facts(table.column(name)) for name in table.column_names if name not in OWN_COLUMNS}
    return {name: found for name, found in facts.items() if found is not None}
