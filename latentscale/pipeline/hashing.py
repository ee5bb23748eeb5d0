"""Have the workers hash a column of many shards, so that no text of the corpus passes through the driver."""

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
from latentscale.storage.hashed_rows import HashRows, hashed_rows, kept_rows
from latentscale.storage.objects import Store
from latentscale.storage.shard_hashes import hashed_keys
from latentscale.storage.snapshot import COMPRESSION, Ids, Shard, ShardTable
from latentscale.storage.spool import Records

# Of one processor, about: what reading, decoding and hashing takes of a column of ids, and of one of texts besides.
ROWS_A_SECOND = 2e6
BYTES_A_SECOND = 250e6
# Less work than this is done here: a worker has started, and got its first shard, when that is over.
HERE_SECONDS = 4.0


def hash_by_workers(context: RunContext, *, text_column: str) -> HashRows:
    """Hash columns of shards as the engine of a run does its work, where there is more of it than a moment's.

    Each shard's hashes are an object of the workspace until a run of hashes has them, so that a run that was killed is
    resumed.
    """

    def hashes(store: Store, shards: ShardTable, numbers: Ids, column: str) -> Iterator[Records]:
        asked = shards.take(numbers)
        # Of a run that was killed.
        held = pc.SetLookupOptions(pa.array(sorted(hashed_keys(store, column)), pa.string()))
        there = np.asarray(pc.call_function("is_in", [asked.keys], held))
        left = asked.take(np.flatnonzero(~there))
        seconds = int(left.rows.sum()) / ROWS_A_SECOND
        if column == text_column:
            seconds += COMPRESSION * float(left.bytes.sum()) / BYTES_A_SECOND
        if not there.any() and seconds < HERE_SECONDS:
            yield from hashed_rows(store, shards, numbers, column)
            return
        _hash(context, left, column, seconds)
        yield from kept_rows(store, shards, numbers, column)

    return hashes


def _hash(context: RunContext, shards: ShardTable, column: str, seconds: float) -> None:
    worked = 0.0
    for made in context.engine.map_shards(
        partial(HashWorker, context.store, column),
        shards,
        stage="ingest",
        task_type=Shard,
        receipt_type=HashReceipt,
        attempts=AttemptLog(context.store, context.run.id),
        seconds=seconds,
    ):
        if isinstance(made, Quarantined):
            # Without it nobody knows which of its documents are those of other shards.
            raise EnvironmentFailure(
                f"the column {column!r} of the shard {made.key} was not hashed: {made.reason}",
                where=context.store.path(f"documents/{made.key[:2]}/{made.key}.parquet"),
                hint="`latentscale verify` says whether it is damaged. Where memory is short, smaller shards help: "
                "ingest.shard_rows.",
            )
        worked += made.seconds
    context.observer.event(
        "hashed", column=column, shards=len(shards), documents=int(shards.rows.sum()), seconds=round(worked, 3)
    )
