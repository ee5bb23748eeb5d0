"""``embed.duplicates: corpus``: texts that occur in several shards are embedded once, before the shards."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import pyarrow.compute as pc

from latentscale.embedders import EmbedderSpec
from latentscale.engines import Quarantined
from latentscale.pipeline.context import RunContext
from latentscale.pipeline.embed_work import EmbedWork
from latentscale.pipeline.hashing import WorkerHasher
from latentscale.stages.embed import STAGE, EmbeddingRequest
from latentscale.stages.embed_receipt import EmbedReceipt
from latentscale.stages.shared_texts import SharedRows, SharedRowsList, SharedTextWorker
from latentscale.stages.stage import JobSize
from latentscale.storage.attempts import AttemptLog
from latentscale.storage.objects import Store
from latentscale.storage.receipts import Receipts
from latentscale.storage.shared_texts import find_shared, read_plan, shared_folder, write_plan
from latentscale.storage.snapshot import ShardTable, Snapshot


@dataclass(frozen=True, slots=True, kw_only=True)
class SharedTexts:
    """The embedded shared texts of a snapshot.

    Attributes
    ----------
    folder : str
        Temporary folder of their vectors, used while the shards are embedded.
    receipts : Receipts
        Counts of their tokens and distinct texts; documents are counted by the shards.
    """

    folder: str
    receipts: Receipts


def embed_shared_texts(
    context: RunContext,
    spec: EmbedderSpec,
    request: EmbeddingRequest,
    embedding_id: str,
    snapshot: Snapshot,
    pending: ShardTable,
    work: EmbedWork,
    *,
    text_bytes: float,
) -> SharedTexts | None:
    """Embed the texts that a shard of ``pending`` shares with another shard; None if the feature does not apply.

    The next run with the same snapshot reuses the vectors that a killed run computed.

    Parameters
    ----------
    work : EmbedWork
        Collects the workers' throughput.
    text_bytes : float
        Decompressed size of the pending shards.
    """
    if context.config.embed.duplicates != "corpus" or spec.reads == "vectors" or not len(pending):
        return None
    store, folder = context.store, shared_folder(embedding_id, snapshot.id)
    offsets = read_plan(store, folder)
    if offsets is None:
        missing = pc.call_function("is_in", [snapshot.shards.keys], pc.SetLookupOptions(pending.keys))
        hasher = WorkerHasher(context, text_column=request.text)
        offsets = find_shared(store, snapshot.shards, request.text, np.asarray(missing), hasher=hasher)
        write_plan(store, folder, offsets)
    receipts = Receipts(EmbedReceipt)
    if not len(offsets):
        return SharedTexts(folder=folder, receipts=receipts)
    context.observer.note(f"{len(offsets):,} texts are in several shards: each is embedded once", texts=len(offsets))
    share = len(offsets) / max(1, int(pending.rows.sum()))
    size = JobSize(documents=len(offsets), dim=spec.dimensions or 0, text_bytes=share * text_bytes, embedder=spec.kind)
    for made in context.engine.map_shards(
        partial(
            SharedTextWorker,
            store,
            spec,
            request,
            folder,
            context.run.id,
            on_processors=context.config.engine.resources.of("embed").gpus == 0,
        ),
        SharedRowsList.of(snapshot.shards, offsets),
        stage="embed",
        task_type=SharedRows,
        receipt_type=EmbedReceipt,
        attempts=AttemptLog(store, context.run.id),
        seconds=STAGE.cost(size, context.config).cpu_seconds,
    ):
        # Texts that failed here are tried again with their shards, which are quarantined if they fail there too.
        if isinstance(made, Quarantined) or made.failure:
            continue
        work.add(made)
        receipts.add([replace(made, rows=0, embedded=0, reused=0)])
    return SharedTexts(folder=folder, receipts=receipts)


def forget_shared_texts(store: Store, shared: SharedTexts) -> None:
    """Delete the temporary vectors of the shared texts after the shards are embedded."""
    store.delete(store.list(shared.folder))
