"""Rebuild document shards from the corpus, and vector shards by embedding again."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial

import numpy as np
import pyarrow as pa

from latentscale.embedders import read_spec
from latentscale.pipeline.context import RunContext
from latentscale.pipeline.service import counted_spending
from latentscale.pipeline.shards import run_shards
from latentscale.readers.inputs import list_inputs
from latentscale.repair.backup import ObjectBackup
from latentscale.repair.snapshots import DOCUMENTS
from latentscale.repair.work import Repair
from latentscale.stages import embed, ingest
from latentscale.stages.embed_receipt import EmbedReceipt
from latentscale.storage.artifacts import Record
from latentscale.storage.snapshot import Shard, ShardTable, document_name
from latentscale.storage.snapshots import read_groups
from latentscale.upkeep.checks.artifacts import read_records
from latentscale.upkeep.checks.report import Fault
from latentscale.upkeep.checks.snapshots import read_snapshots


def mend_documents(repair: Repair, faults: Iterable[Fault]) -> None:
    """Ingest the damaged or missing document shards of snapshots again."""
    known, _ = read_snapshots(repair.store)
    listing = repair.store.list("documents", brief=True)
    wanted = {key for one in known.values() for key in (*one.shards.keys.to_pylist(), *one.empty)}
    lost = {key for key in wanted if document_name(key) not in listing}
    for fault in faults:
        parts = fault.object.split("/")
        if parts[0] in ("documents", "rejects") and len(parts) == 3:
            lost.add(parts[2].removesuffix(".parquet"))
        elif parts[0] == "snapshots":
            lost.update(DOCUMENTS.findall(fault.problem))
    if not lost:
        return
    reasons: list[str] = []
    backup = ObjectBackup(repair.store)
    for values, snapshot_id in repair.recorded.jobs():
        done: set[str] = set()

        def work(
            context: RunContext,
            snapshot_id: str = snapshot_id,
            done: set[str] = done,
            lost: frozenset[str] = frozenset(lost),
        ) -> None:
            inputs = list_inputs(context.config.corpus)
            context.settle_fingerprint(inputs)
            config = context.config
            groups = read_groups(repair.store, snapshot_id)
            units = ingest.plan_ingest(inputs, config.corpus, config.ingest, groups=groups)
            unit_keys = sorted({key.rsplit("-", 1)[0] for key in lost})
            found = units.places(pa.array(unit_keys, pa.large_string()))
            pending = units.take(found[found >= 0].astype(np.int64))
            # Existing shards count as finished.
            planned = set(pending.keys.to_pylist())
            for key in [key for key in lost if key.rsplit("-", 1)[0] in planned]:
                backup.remove(document_name(key))
            worker = partial(ingest.IngestWorker, repair.store, config.corpus, config.ingest)
            with context.observer.stage("ingest") as progress:
                for receipt in run_shards(
                    context,
                    "ingest",
                    worker,
                    pending,
                    task_type=ingest.IngestUnit,
                    receipt_type=list[ingest.ShardReceipt],
                    progress=progress,
                    seconds=0.0,
                ):
                    done.add(receipt.key)

        reason = repair.at_work(values, work)
        reasons += [reason] if reason else []
        lost -= done
        backup.restore()
        if not lost:
            return
    for key in sorted(lost):
        why = reasons[-1] if reasons else "the file that they came from has changed or is gone"
        repair.lost[document_name(key)] = f"{document_name(key)}: documents of it, and of maps that show them ({why})"


def mend_vectors(repair: Repair, names: Iterable[str]) -> None:
    """Embed the shards again whose vectors are missing or damaged in the embedding of a map."""
    records, _ = read_records(repair.store)
    known, _ = read_snapshots(repair.store)
    hurt = {name.split("/")[-1].removesuffix(".parquet") for name in names if is_of_vectors(name)}
    for record in [one for one in records.values() if one.kind == "embedding"]:
        used = {str(one.request["snapshot"]) for one in records.values() if one.request.get("embedding") == record.id}
        there = repair.store.list(record.folder, brief=True)
        pending: dict[str, Shard] = {}
        for snapshot in (known[identity] for identity in sorted(used & set(known))):
            for shard in snapshot.shards:
                if shard.key in hurt or embed.vector_name(record.id, shard.key) not in there:
                    pending.setdefault(shard.key, shard)
        if pending and record.choices.get("spec"):
            _embed(repair, record, list(pending.values()))


def _embed(repair: Repair, record: Record, shards: list[Shard]) -> None:
    jobs = repair.recorded.jobs()
    if not jobs:
        return

    def work(context: RunContext) -> None:
        spec = read_spec(record.choices["spec"])
        request = embed.EmbeddingRequest.read(record.request)
        table = ShardTable(
            keys=pa.array([one.key for one in shards], pa.string()),
            rows=np.array([one.rows for one in shards], dtype=np.int64),
            bases=np.array([one.base for one in shards], dtype=np.int64),
            bytes=np.array([one.bytes for one in shards], dtype=np.int64),
        )
        with counted_spending(context, record.id), context.observer.stage("embed") as progress:
            for _ in run_shards(
                context,
                "embed",
                partial(
                    embed.EmbedWorker,
                    repair.store,
                    spec,
                    request,
                    None,
                    context.run.id,
                    on_processors=context.config.engine.resources.of("embed").gpus == 0,
                ),
                table,
                task_type=Shard,
                receipt_type=EmbedReceipt,
                progress=progress,
                seconds=0.0,
            ):
                pass

    backup = ObjectBackup(repair.store)
    for shard in shards:
        backup.remove(embed.vector_name(record.id, shard.key))
    reason = repair.at_work(jobs[0][0], work)
    backup.restore()
    if reason:
        repair.lost[record.folder] = f"{record.folder}: vectors of {len(shards):,} shards ({reason})"


def is_of_vectors(name: str) -> bool:
    parts = name.split("/")
    return len(parts) == 4 and (
        parts[0] == "embeddings" or (parts[0] == "rejects" and parts[1].startswith("embedding-"))
    )
