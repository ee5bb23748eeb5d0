"""Hash a column of many shards on the workers, so that texts do not pass through the driver."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from latentscale.engines import Quarantined
from latentscale.errors import EnvironmentFailure
from latentscale.pipeline.context import RunContext
from latentscale.stages.hash_column import HashReceipt, HashWorker
from latentscale.storage.attempts import AttemptLog
from latentscale.storage.hashed_rows import hashed_rows, kept_rows
from latentscale.storage.shard_hashes import delete_hashes, hashed_keys
from latentscale.storage.snapshot import COMPRESSION, Ids, Shard, ShardTable, document_name
from latentscale.storage.spool import Records

# Approximate throughput of one core for reading, decoding and hashing ids, and texts.
ROWS_A_SECOND = 2e6
BYTES_A_SECOND = 250e6
# Less work than this is done locally, in the time that a worker takes to start.
HERE_SECONDS = 4.0


class WorkerHasher:
    """Hashes columns of shards on the engine of a run, or locally if there is little work.

    Hashes of each shard are stored in the workspace until they are joined, so that a killed run can resume.

    Parameters
    ----------
    context : RunContext
    text_column : str
        Stored name of the text column, which takes longer than an id.
    """

    def __init__(self, context: RunContext, *, text_column: str) -> None:
        self._context = context
        self._text_column = text_column
        self._kept = False

    def hashes(self, shards: ShardTable, numbers: Ids, column: str) -> Iterator[Records]:
        """Yield the hashes of ``column`` of the shards ``numbers``."""
        store, asked = self._context.store, shards.take(numbers)
        if self._seconds(asked, column) < HERE_SECONDS:
            yield from hashed_rows(store, shards, numbers, column)
            return
        self._kept = True
        held = pc.SetLookupOptions(pa.array(sorted(hashed_keys(store, column)), pa.string()))
        there = np.asarray(pc.call_function("is_in", [asked.keys], held))
        if not there.all():
            self._work(asked.take(np.flatnonzero(~there)), column)
        yield from kept_rows(store, shards, numbers, column)

    def forget(self, shards: ShardTable, numbers: Ids, column: str) -> None:
        """Delete the objects of the shards."""
        if self._kept:
            delete_hashes(self._context.store, column, shards.take(numbers).keys)

    def _seconds(self, shards: ShardTable, column: str) -> float:
        seconds = int(shards.rows.sum()) / ROWS_A_SECOND
        if column == self._text_column:
            seconds += COMPRESSION * float(shards.bytes.sum()) / BYTES_A_SECOND
        return seconds

    def _work(self, shards: ShardTable, column: str) -> None:
        context, worked = self._context, 0.0
        for made in context.engine.map_shards(
            partial(HashWorker, context.store, column),
            shards,
            stage="ingest",
            task_type=Shard,
            receipt_type=HashReceipt,
            attempts=AttemptLog(context.store, context.run.id),
            seconds=self._seconds(shards, column),
        ):
            if isinstance(made, Quarantined):
                # Without its hashes, documents cannot be matched.
                raise EnvironmentFailure(
                    f"the column {column!r} of the shard {made.key} was not hashed: {made.reason}",
                    where=context.store.path(document_name(made.key)),
                    hint="`latentscale verify` says whether it is damaged. Where memory is short, smaller shards help: "
                    "ingest.shard_rows.",
                )
            worked += made.seconds
        context.observer.event(
            "hashed", column=column, shards=len(shards), documents=int(shards.rows.sum()), seconds=round(worked, 3)
        )
