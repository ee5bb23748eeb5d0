"""Ingest and embed, the stages that work shard by shard: pending shards, their execution, and the receipts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from latentscale.engines import Quarantined
from latentscale.errors import CorpusError, LatentScaleError, RejectLimitError, name_list
from latentscale.machine import release_memory
from latentscale.pipeline.context import RunContext
from latentscale.pipeline.embed_work import EmbedWork, Widths
from latentscale.pipeline.hashing import WorkerHasher
from latentscale.pipeline.model_check import check_model
from latentscale.pipeline.observe import StageProgress
from latentscale.pipeline.selections import leave_out
from latentscale.pipeline.service import counted_spending, probe_service
from latentscale.pipeline.shared_texts import embed_shared_texts, forget_shared_texts
from latentscale.stages import embed, ingest
from latentscale.stages.embed_receipt import EmbedReceipt, read_embed_receipts
from latentscale.stages.stage import USUAL_BYTES, JobSize
from latentscale.storage.artifacts import ArtifactWriter, Record, find_record
from latentscale.storage.attempts import AttemptLog
from latentscale.storage.listing import Listing
from latentscale.storage.objects import Store
from latentscale.storage.parquet import read_parquet
from latentscale.storage.provenance import measured
from latentscale.storage.receipts import Receipts, ReceiptWriter, list_tables, read_receipts
from latentscale.storage.snapshot import COMPRESSION, NO_IDS, Shard, ShardTable, Snapshot
from latentscale.storage.snapshots import make_snapshot, without_shards
from latentscale.storage.workspace_record import WorkspaceRecord

Task = TypeVar("Task")
Receipt = TypeVar("Receipt")

# Up to this many two-character folders are listed one by one; with more, the whole folder is.
LISTED_FOLDERS = 24
# If more than this fraction of the documents has no vector, a warning is given; otherwise it is only counted.
LOUD_SHARE = 0.05
# Bytes per CPU second for the formats that are read fastest: parquet, JSON Lines.
INGEST_BYTES_A_SECOND = 80e6


def run_shards(
    context: RunContext,
    stage: str,
    make_worker: Callable[[], Any],
    pending: Sequence[Task],
    *,
    task_type: type[Task],
    receipt_type: Any,
    progress: StageProgress,
    seconds: float,
    files_of: Callable[[str], Sequence[str]] = lambda key: (),
) -> Iterable[Any]:
    """Run the pending tasks of a stage on the engine, yield their receipts, and quarantine tasks that kill workers.

    Parameters
    ----------
    make_worker : callable
        Worker factory, called in the worker process.
    receipt_type : type
        Type of a receipt, or ``list`` of it if a task gives several.
    seconds : float
        Estimated CPU seconds of all tasks; the engine starts no processes if their startup would cost more.
    files_of : callable
        Maps a task key to the names of its input files, for the quarantine record.
    """
    if not pending:
        return
    for made in context.engine.map_shards(
        make_worker,
        pending,
        stage=stage,
        task_type=task_type,
        receipt_type=receipt_type,
        attempts=AttemptLog(context.store, context.run.id),
        seconds=seconds,
    ):
        if isinstance(made, Quarantined):
            context.quarantine(stage, made, files_of(made.key))
            continue
        for receipt in made if isinstance(made, list) else [made]:
            failure = getattr(receipt, "failure", "")
            if failure:
                context.quarantine(stage, Quarantined(key=receipt.key, tries=0, reason=failure), files_of(receipt.key))
                continue
            progress.advance(receipt.rows)
            context.metrics.add(
                stage, receipt.key, rows=receipt.rows, seconds=receipt.seconds, size=getattr(receipt, "bytes", 0)
            )
            yield receipt
    context.outcome.made.append(stage)


def ingest_corpus(
    context: RunContext,
    units: ingest.UnitTable,
    parent: Snapshot | None,
    *,
    growing: bool,
    embeds: bool = True,
    on_map: int | None = None,
) -> Snapshot:
    """Ingest the units whose shards do not exist yet, and return the snapshot of all shards.

    Parameters
    ----------
    parent : Snapshot or None
        The snapshot of the current map; its documents keep their row ids.
    growing : bool
        For updates: units whose shards are in ``parent`` count as finished and are not checked.
    embeds : bool
        Whether the same workers embed the documents next, so that their startup pays off in any case.
    on_map : int, optional
        For updates of a map of the corpus's own vectors: their width.
    """
    config, store, outcome = context.config, context.store, context.outcome
    asked = ingest.units_without(units, parent) if growing and parent is not None else units
    listing = list_shards(store, ingest.FOLDER, asked.keys)
    pending, done = ingest.pending_units(asked, listing)

    text_bytes = float(pending.files().sizes.sum())
    seconds = text_bytes / INGEST_BYTES_A_SECOND
    if embeds:
        size = JobSize(
            documents=int(text_bytes / USUAL_BYTES), dim=0, text_bytes=text_bytes, embedder=context.spec.kind
        )
        seconds += embed.STAGE.cost(size, config).cpu_seconds

    def files_of(key: str) -> list[str]:
        unit = pending[int(pending.places(pa.array([key], pa.large_string()))[0])]
        return [file.path for file in unit.inputs]

    with context.observer.stage("ingest") as progress:
        known, new, tables = ingest.finished_receipts(store, listing, done)
        progress.advance(known.total("rows") + new.total("rows"))
        with ReceiptWriter(store, ingest.FOLDER, new, tables) as writer:
            for receipt in run_shards(
                context,
                "ingest",
                partial(ingest.IngestWorker, store, config.corpus, config.ingest),
                pending,
                task_type=ingest.IngestUnit,
                receipt_type=list[ingest.ShardReceipt],
                progress=progress,
                seconds=seconds,
                files_of=files_of,
            ):
                writer.add(receipt)
        if not len(known) and not len(new) and not growing:
            outcome.check_complete()
        receipts = ingest.in_input_order(units, known.concat(new) if len(new) else known)
        del known, new
        if len(receipts) or not growing:
            ingest.check_rejects(
                receipts, config.ingest, alone=not growing, described=partial(_described, store), on_map=on_map
            )
        frame = ingest.shard_frame(receipts)
        reasons: Counter[str] = receipts.sum_by_key("reasons")
        outcome.filtered = receipts.total("filtered")
        # For a million shards the receipts take as much memory as the snapshot.
        del receipts
        release_memory()
        if growing and parent is not None:
            frame = ingest.with_known_shards(frame, units, parent)
        snapshot = make_snapshot(
            store,
            frame,
            id_column=ingest.stored_id_column(config.corpus),
            text_column=ingest.stored_text_column(config.corpus),
            parent=parent,
            groups=ingest.group_members(units, config.corpus, config.ingest),
            hasher=WorkerHasher(context, text_column=ingest.stored_text_column(config.corpus)),
        )
    release_memory()
    snapshot = leave_out(context, snapshot)
    before = parent if growing else None
    for reason, now, then in (
        ("superseded", snapshot.replaced, before.replaced if before else NO_IDS),
        ("excluded", snapshot.excluded, before.excluded if before else NO_IDS),
    ):
        # Rows of earlier runs may have disappeared with their files, so that a difference of counts would be wrong.
        if added := len(np.setdiff1d(now, then, assume_unique=True)):
            reasons[reason] += added
    outcome.rejects = dict(reasons)
    return snapshot


def embed_snapshot(
    context: RunContext,
    snapshot: Snapshot,
    workspace: WorkspaceRecord,
    *,
    parent: Snapshot | None = None,
    growing: bool = False,
    on_map: int | None = None,
    before_work: Callable[[], None] | None = None,
) -> Record:
    """Embed the shards of ``snapshot`` that have no vectors yet, and return the record of the embedding.

    Parameters
    ----------
    parent : Snapshot or None
        The snapshot of the current map; documents that are also in it, with the same text, reuse their vectors.
    growing : bool
        For updates: the shards of ``parent`` are known to have vectors.
    on_map : int, optional
        For updates: the width of the vectors of the map.
    before_work : callable, optional
        Called before the first shard is embedded, if any is pending.
    """
    config, store, outcome = context.config, context.store, context.outcome
    spec = context.spec
    request = embed.STAGE.request(spec, config, text_column=workspace.text_column)
    writer = ArtifactWriter(store, "embedding", request.identity(), [], run=context.run.id)
    shards = snapshot.shards_without(parent if growing else None)
    listing = list_shards(store, writer.folder, shards.keys)
    missing = embed.pending_shards(shards, writer.id, listing)
    pending = shards.take(np.flatnonzero(missing))
    there = shards.take(np.flatnonzero(~missing)) if len(pending) else shards
    if len(pending) and before_work is not None:
        before_work()
    probe = probe_service(context, writer.id) if len(pending) else None
    found = find_record(store, "embedding", writer.id)
    checked = check_model(context, spec, request, pending) if found is None and len(pending) else {}
    text_bytes = COMPRESSION * float(pending.bytes.sum())
    size = JobSize(
        documents=int(pending.rows.sum()), dim=spec.dimensions or 0, text_bytes=text_bytes, embedder=spec.kind
    )
    lost_before = len(outcome.quarantined)

    def report(figures: dict[str, Any]) -> None:
        context.run.facts["embedding"] = figures
        context.run.write(store)

    work = EmbedWork(report)
    with (
        counted_spending(context, writer.id) as spending,
        measured() as cost,
        context.observer.stage("embed", total=int(shards.rows.sum())) as progress,
    ):
        progress.advance(int(there.rows.sum()))
        known, new, tables = _finished(store, writer.id, there)
        carried = parent is not None and len(snapshot.carried_offsets) > 0
        reuse = (parent.id, snapshot.id) if parent is not None and carried else None
        shared = embed_shared_texts(context, spec, request, writer.id, snapshot, pending, work, text_bytes=text_bytes)
        widths = Widths(partial(_described, store), on_map=on_map)
        widths.add_all(known)
        widths.add_all(new)
        with ReceiptWriter(store, writer.id, new, tables) as kept:
            for receipt in run_shards(
                context,
                "embed",
                partial(
                    embed.EmbedWorker,
                    store,
                    spec,
                    request,
                    reuse,
                    context.run.id,
                    shared.folder if shared else None,
                    on_processors=config.engine.resources.of("embed").gpus == 0,
                ),
                pending,
                task_type=Shard,
                receipt_type=EmbedReceipt,
                progress=progress,
                seconds=embed.STAGE.cost(size, config).cpu_seconds,
            ):
                kept.add(receipt)
                work.add(receipt)
                if receipt.embedded:
                    widths.add(receipt.key, receipt.dim)
    lost = [str(one["key"]) for one in outcome.quarantined[lost_before:]]
    if lost:
        if len(lost) == len(snapshot.shards):
            outcome.check_complete()
        snapshot = outcome.snapshot = without_shards(store, snapshot, lost)
    receipts = known.concat(new) if len(new) else known
    if shared is not None:
        receipts = receipts.concat(shared.receipts)
        forget_shared_texts(store, shared)
    figures = work.as_json() if work else None
    if figures is not None:
        context.run.facts["embedding"] = figures
        context.observer.event("embedding", **figures)
    _report(context, spec, receipts, whole=not growing)
    # Another run may have written the record meanwhile.
    found = found or find_record(store, "embedding", writer.id)
    if found is not None:
        return found
    return writer.commit(
        counts={
            **{name: receipts.total(name) for name in ("rows", "embedded", "unique", "reused")},
            **{name: receipts.total(name) for name in ("tokens", "unknown", "truncated")},
            "dim": int(receipts.numbers("dim").max(initial=0)),
        },
        cost=cost,
        choices={
            "model": config.embed.model,
            "max_tokens": config.embed.max_tokens,
            "spec": spec.model_dump(mode="json"),
            "work": figures,
            **({"spending": spending} if spending else {}),
            **({"probe": probe} if probe else {}),
            **({"check": checked} if checked else {}),
        },
        notes=["counts and cost are those of the run that wrote this record"],
    )


def _finished(store: Store, embedding_id: str, there: ShardTable) -> tuple[Receipts, Receipts, dict[str, int]]:
    """The receipts of embedded shards: those in receipt tables, those read one by one, and the tables."""
    read = Receipts(EmbedReceipt)
    if not len(there):
        return Receipts(EmbedReceipt), read, list_tables(store, embedding_id)
    known, tables = read_receipts(store, embedding_id, EmbedReceipt)
    found = known.find(there.keys)
    missing = np.flatnonzero(found < 0)
    if len(missing):
        read.add(read_embed_receipts(store, embedding_id, there.take(missing)))
    return known.take(found[found >= 0]), read, tables


def _described(store: Store, key: str) -> str:
    """The source files of a shard, for messages."""
    try:
        sources = read_parquet(store, f"{ingest.FOLDER}/{key[:2]}/{key}.parquet", ["source"]).column(0).unique()
    except LatentScaleError:
        return f"the shard {key}"
    return name_list([str(one) for one in sources.to_pylist()], 3)


def _report(context: RunContext, spec: Any, receipts: Receipts, *, whole: bool) -> None:
    """Report documents without a vector, truncated texts, and languages that the model does not support.

    ``whole``: these are all shards of the corpus.
    """
    rows, embedded = receipts.total("rows"), receipts.total("embedded")
    if embedded < rows:
        context.outcome.rejects["not_embeddable"] = rows - embedded
    notice = spec.notice(receipts.sum_by_key("languages"))
    if notice:
        context.observer.note(notice)
    _check_embeddable(context, spec, rows=rows, embedded=embedded, whole=whole)
    cut = receipts.total("truncated")
    if cut:
        limit = f"{spec.token_limit:,} tokens" if spec.token_limit else "the model allows"
        context.observer.note(
            f"{cut:,} {'text is' if cut == 1 else 'texts are'} longer than {limit}: the rest is not read"
        )


def _check_embeddable(context: RunContext, spec: Any, *, rows: int, embedded: int, whole: bool) -> None:
    """Raise if more documents than allowed have no vector, and warn if many have none."""
    lost = rows - embedded
    if lost <= LOUD_SHARE * rows or not (embedded or whole):  # a map may grow by documents without a vector
        return
    reason = (
        "their vectors are null or zero"
        if spec.reads == "vectors"
        else "the embedding service refused them: rejects/ has its reasons"
        if spec.terms is not None
        else "the model knows none of their words: they are in another script than it was made for"
    )
    sentence = f"{lost:,} of {rows:,} documents ({lost / rows:.0%}) have no vector and are on no map; {reason}"
    most = context.config.embed.max_unembeddable_fraction
    model = (
        "Compute the missing vectors."
        if spec.reads == "vectors"
        else "Check embed.options by the reasons that the service gives."
        if spec.terms is not None
        else "Give a model of their language: --set embed.model=FOLDER, or vectors (embed.model=column)."
    )
    if not embedded and lost > most * rows:
        raise CorpusError(
            f"no document of the corpus could be embedded: {reason}", where="rejects/, row by row", hint=model
        )
    if lost > most * rows:
        raise RejectLimitError(
            f"{sentence}. More than embed.max_unembeddable_fraction = {most:.0%}",
            where="rejects/, row by row",
            hint=f"{model} Or allow it: --set embed.max_unembeddable_fraction=1.",
        )
    context.outcome.warnings.append(sentence)
    context.observer.note(f"warning: {sentence}")


def list_shards(store: Store, folder: str, keys: pa.Array | pa.ChunkedArray) -> Listing:
    """List the objects of some shard keys in a folder; the listing may contain others."""
    starts = pc.call_function("utf8_slice_codeunits", [keys], pc.SliceOptions(0, 2)).unique().to_pylist()
    if not 0 < len(starts) <= LISTED_FOLDERS:
        return store.list(folder, brief=True) if starts else Listing()
    return store.list(*(f"{folder}/{start}" for start in starts), brief=True)
