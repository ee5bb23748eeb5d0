"""The stages that work shard by shard, ingest and embed, with the engine that runs them and the record of the run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Generator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from latentscale.config import JobConfig
from latentscale.embedders.language import language_notice
from latentscale.engines import Engine, Quarantined, open_engine
from latentscale.errors import CorpusError, LatentScaleError
from latentscale.observe import Observer
from latentscale.outcome import Outcome
from latentscale.provenance import available_processors, measured
from latentscale.readers.columns import stored_name
from latentscale.stages import embed, ingest
from latentscale.storage.artifacts import ArtifactWriter, Record, find_record
from latentscale.storage.attempts import AttemptLog
from latentscale.storage.lease import hold_lease, warning_of
from latentscale.storage.listing import Listing
from latentscale.storage.objects import Store
from latentscale.storage.runs import Run
from latentscale.storage.snapshots import Shard, Snapshot, make_snapshot, without_shards
from latentscale.storage.workspace_record import WorkspaceRecord

# Up to so many two-character folders are listed one by one; beyond, everything below is.
LISTED_FOLDERS = 24


class ShardStages:
    """Runs ingest and embed of one job.

    Parameters
    ----------
    config : JobConfig
    observer : Observer
    command : sequence of str, optional
        As typed, for the record.
    """

    def __init__(self, config: JobConfig, observer: Observer, *, command: Sequence[str] | None = None) -> None:
        self.config = config
        self.observer = observer
        self.store = Store(config.out, storage=config.storage)
        self.threads = config.engine.threads or available_processors()
        self._command = command
        self._engine: Engine | None = None
        self._metrics: list[dict[str, Any]] = []

    @property
    def engine(self) -> Engine:
        """The engine, opened when it is first needed: a run that finds everything starts none."""
        if self._engine is None:
            self._engine = open_engine(self.config.engine, say=self.observer.note)
        return self._engine

    @property
    def _vectors_column(self) -> str | None:
        corpus = self.config.corpus
        return stored_name(corpus.vectors, corpus) if corpus.vectors else None

    def _leased(self, run: Run, purpose: str) -> AbstractContextManager[object]:
        """Say that this run is at work; one that is at work already is a warning, nothing is waited for."""
        return hold_lease(
            self.store,
            run.id,
            purpose,
            notice=lambda others: self.observer.note(warning_of(others), others=len(others)),
        )

    @contextmanager
    def _recorded(self, run: Run, outcome: Outcome) -> Generator[None]:
        run.write(self.store)
        status = "failed"
        try:
            yield
            status = "quarantined" if outcome.quarantined else "done"
        except KeyboardInterrupt:
            status = "interrupted"
            raise
        except LatentScaleError as error:
            run.facts["error"] = {"kind": type(error).__name__, "message": error.message, "where": error.where}
            raise
        finally:
            run.facts |= {
                "engine": self._engine.describe() if self._engine else None,
                "snapshot": outcome.snapshot.id if outcome.snapshot else None,
                "rejects": outcome.rejects,
                "filtered": outcome.filtered,
                "artifacts": {stage: record.id for stage, record in outcome.records.items()},
                "made": outcome.made,
                "quarantined": outcome.quarantined,
            }
            self._close()
            try:
                run.end(self.store, status, self.observer.events_jsonl(), self._metrics)
            except LatentScaleError:
                # A full disk must not hide the error that is already on its way.
                if status in ("done", "quarantined"):
                    raise

    def _close(self) -> None:
        if self._engine is not None:
            self._engine.close()
            self._engine = None

    def _ingest(self, units: ingest.UnitTable, outcome: Outcome, parent: Snapshot | None, *, growing: bool) -> Snapshot:
        """Do the units whose shards are not there, and list all shards as a snapshot.

        Parameters
        ----------
        parent : Snapshot or None
            Of the current map: its documents keep their row ids.
        growing : bool
            Units of which ``parent`` has the shards are taken as done; only the others are looked at.
        """
        asked = ingest.units_without(units, parent) if growing and parent is not None else units
        listing = self._listing(ingest.FOLDER, asked.keys)
        pending, done = ingest.pending_units(asked, listing)
        with self.observer.stage("ingest") as progress:
            receipts = ingest.read_receipts(self.store, listing, done)
            progress.advance(sum(receipt.rows for receipt in receipts))
            make = partial(ingest.IngestWorker, self.store, self.config.corpus, self.config.ingest)
            attempts = AttemptLog(self.store, outcome.run)
            for made in (
                self.engine.map_shards(
                    make,
                    pending,
                    stage="ingest",
                    task_type=ingest.IngestUnit,
                    receipt_type=list[ingest.ShardReceipt],
                    attempts=attempts,
                )
                if pending
                else ()
            ):
                if isinstance(made, Quarantined):
                    unit = pending[int(pending.places(pa.array([made.key], pa.large_string()))[0])]
                    self._set_aside("ingest", made, outcome, [file.path for file in unit.inputs])
                    continue
                receipts.extend(made)
                progress.advance(sum(receipt.rows for receipt in made))
                self._metrics.extend(
                    {"stage": "ingest", "key": r.key, "rows": r.rows, "bytes": r.bytes, "seconds": r.seconds}
                    for r in made
                )
            if pending:
                outcome.made.append("ingest")
            if not receipts and not growing:
                outcome.check_complete()
            receipts = ingest.in_input_order(units, receipts)
            if receipts or not growing:
                ingest.check_rejects(receipts, self.config.ingest, alone=not growing)
            frame = ingest.shard_frame(receipts)
            if growing and parent is not None:
                frame = ingest.with_known_shards(frame, units, parent)
            snapshot = make_snapshot(
                self.store,
                frame,
                id_column=ingest.stored_id_column(self.config.corpus),
                text_column=ingest.stored_text_column(self.config.corpus),
                parent=parent,
                groups=ingest.group_members(units, self.config.corpus, self.config.ingest),
            )
        reasons: Counter[str] = Counter()
        for receipt in receipts:
            reasons.update(receipt.reasons)
        replaced = len(snapshot.superseded) - (len(parent.superseded) if growing and parent is not None else 0)
        if replaced > 0:
            reasons["superseded"] += replaced
        outcome.rejects = dict(reasons)
        outcome.filtered = sum(receipt.filtered for receipt in receipts)
        return snapshot

    def _listing(self, folder: str, keys: pa.Array) -> Listing:
        """List what a folder holds of some keys, and perhaps more."""
        starts = pc.call_function("utf8_slice_codeunits", [keys], pc.SliceOptions(0, 2)).unique().to_pylist()
        if not 0 < len(starts) <= LISTED_FOLDERS:
            return self.store.list(folder, brief=True) if starts else Listing()
        return self.store.list(*(f"{folder}/{start}" for start in starts), brief=True)

    def _set_aside(self, stage: str, shard: Quarantined, outcome: Outcome, files: list[str]) -> None:
        outcome.quarantined.append({"stage": stage, **asdict(shard), "files": files[:10]})
        self.observer.note(f"{stage}: the shard {shard.key} is set aside after {shard.tries} tries: {shard.reason}")

    def _embed(
        self,
        snapshot: Snapshot,
        record: WorkspaceRecord,
        run: Run,
        outcome: Outcome,
        *,
        done: Snapshot | None = None,
    ) -> Record:
        """Embed the shards of ``snapshot`` that have no vectors yet; those of ``done`` are known to have them."""
        config = self.config
        request = embed.embedding_request(
            config.embed, text_column=record.text_column, vectors_column=self._vectors_column
        )
        writer = ArtifactWriter(self.store, "embedding", request, [], run=run.id)
        shards = snapshot.shards_without(done)
        listing = self._listing(writer.folder, shards.keys)
        missing = embed.pending_shards(shards, writer.id, listing)
        pending, there = (shards.take(np.flatnonzero(chosen)) for chosen in (missing, ~missing))
        with measured() as cost, self.observer.stage("embed", total=int(shards.rows.sum())) as progress:
            progress.advance(int(there.rows.sum()))
            make = partial(embed.EmbedWorker, self.store, config.embed, record.text_column, self._vectors_column)
            attempts = AttemptLog(self.store, outcome.run)
            receipts: list[embed.EmbedReceipt] = []
            lost: list[str] = []
            for receipt in (
                self.engine.map_shards(
                    make, pending, stage="embed", task_type=Shard, receipt_type=embed.EmbedReceipt, attempts=attempts
                )
                if pending
                else ()
            ):
                if isinstance(receipt, Quarantined):
                    self._set_aside("embed", receipt, outcome, [])
                    lost.append(receipt.key)
                    continue
                receipts.append(receipt)
                progress.advance(receipt.rows)
                self._metrics.append(
                    {"stage": "embed", "key": receipt.key, "rows": receipt.rows, "seconds": receipt.seconds}
                )
            receipts.extend(embed.read_receipt(self.store, writer.id, shard) for shard in there)
        if lost:
            if len(lost) == len(snapshot.shards):
                outcome.check_complete()
            snapshot = outcome.snapshot = without_shards(self.store, snapshot, lost)
        if pending:
            outcome.made.append("embed")
        widths = sorted({receipt.dim for receipt in receipts if receipt.embedded})
        if len(widths) > 1:
            raise CorpusError(
                f"the vectors of the corpus have different widths: {', '.join(map(str, widths))}",
                hint="Every vector must come from one model.",
            )
        rows = sum(receipt.rows for receipt in receipts)
        embedded = sum(receipt.embedded for receipt in receipts)
        if embedded < rows:
            outcome.rejects["not_embeddable"] = rows - embedded
        languages: Counter[str] = Counter()
        for receipt in receipts:
            languages.update(receipt.languages)
        notice = language_notice(languages) if config.embed.model == "static" else None
        if notice:
            self.observer.note(notice)
        cut = sum(receipt.truncated for receipt in receipts)
        if cut:
            self.observer.note(
                f"{cut:,} texts are longer than {config.embed.max_tokens:,} tokens: the rest of them is not read"
            )
        found = find_record(self.store, "embedding", writer.id)
        if found is not None:
            return found
        counts = {
            "rows": rows,
            "embedded": embedded,
            "unique": sum(receipt.unique for receipt in receipts),
            "tokens": sum(receipt.tokens for receipt in receipts),
            "unknown": sum(receipt.unknown for receipt in receipts),
            "truncated": sum(receipt.truncated for receipt in receipts),
            "dim": receipts[0].dim,
        }
        return writer.commit(
            counts=counts,
            cost=cost,
            choices={"model": config.embed.model, "max_tokens": config.embed.max_tokens},
            notes=["counts and cost are those of the run that wrote this record"],
        )
