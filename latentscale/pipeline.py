"""The pipeline: ordered stages, each of which finds its artifact or makes it."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Any, Literal

from latentscale.backends.capability import describe as describe_machine
from latentscale.config import JobConfig
from latentscale.embedders import check_model
from latentscale.embedders.language import language_notice
from latentscale.engines import Engine, Quarantined, open_engine
from latentscale.errors import CorpusError, LatentScaleError, QuarantineError
from latentscale.observe import Observer
from latentscale.planning import check_resources
from latentscale.provenance import available_processors, measured
from latentscale.readers.columns import stored_name
from latentscale.stages import cluster, embed, ingest, label, neighbors, project, publish
from latentscale.storage.artifacts import ArtifactWriter, Kind, Record, find_artifact, find_record
from latentscale.storage.attempts import AttemptLog
from latentscale.storage.head import current_snapshot, read_head, write_head
from latentscale.storage.inputs import InputFile, list_inputs
from latentscale.storage.objects import Store
from latentscale.storage.runs import Run, start_run
from latentscale.storage.snapshots import Shard, Snapshot, make_snapshot, without_shards
from latentscale.storage.workspace_record import WorkspaceRecord, claim_workspace

StageName = Literal["ingest", "embed", "neighbors", "project", "cluster", "label", "publish"]
# A run's record lists its inputs up to this many; each document names its own file.
MAX_RECORDED_INPUTS = 1_000
STAGES: tuple[StageName, ...] = ("ingest", "embed", "neighbors", "project", "cluster", "label", "publish")


@dataclass(slots=True, kw_only=True)
class Outcome:
    """What a run gave.

    Attributes
    ----------
    workspace : str
        Its path or URL.
    run : str
    snapshot : Snapshot or None
    rejects : dict of str to int
        Rows set aside, by reason.
    filtered : int
        Rows that ``where``, ``sample`` or ``limit`` left out.
    records : dict of str to Record
        By stage; ``project`` is the map's layout, ``layout`` the one that clusters were found on.
    made : list of str
        Stages that did something; the others found their artifact.
    quarantined : list of dict
        Shards that were given up, since each try of them ended with its worker's death: ``stage``, ``key``, ``tries``,
        ``reason`` and, at ingest, the ``files``. Their documents are not in the map.
    seconds : float
    """

    workspace: str
    run: str
    snapshot: Snapshot | None = None
    rejects: dict[str, int] = field(default_factory=dict[str, int])
    filtered: int = 0
    records: dict[str, Record] = field(default_factory=dict[str, Record])
    made: list[str] = field(default_factory=list[str])
    quarantined: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    seconds: float = 0.0

    @property
    def map(self) -> Record | None:
        """The published map, where the run came that far."""
        return self.records.get("publish")

    def check_complete(self) -> None:
        """Raise if shards had to be set aside, after all that could be done was done.

        Raises
        ------
        QuarantineError
            Naming them.
        """
        if not self.quarantined:
            return
        first = self.quarantined[0]
        number = len(self.quarantined)
        raise QuarantineError(
            f"{number:,} shard{'s were' if number > 1 else ' was'} set aside: each of {first['tries']} tries of "
            f"{first['stage']} {first['key']} ended with its worker's death ({first['reason']})",
            where=", ".join(first.get("files", [])[:3]) or None,
            hint=f"The map is there without them. runs/{self.run}/run.json lists them; the same command tries again.",
        )


class Pipeline:
    """Runs the stages of one job.

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
        self.store = Store(config.out, options=config.corpus.storage_options if "://" in config.out else None)
        self.threads = config.engine.threads or available_processors()
        self._command = command
        self._engine: Engine | None = None
        self._metrics: list[dict[str, Any]] = []

    @property
    def engine(self) -> Engine:
        """The engine, opened when it is first needed: a run that finds everything starts none."""
        if self._engine is None:
            self._engine = open_engine(self.config.engine)
        return self._engine

    @property
    def _vectors_column(self) -> str | None:
        corpus = self.config.corpus
        return stored_name(corpus.vectors, corpus) if corpus.vectors else None

    def run(self, *, until: StageName = "publish", snapshot: Snapshot | None = None) -> Outcome:
        """Run all stages up to ``until``.

        Parameters
        ----------
        until : str
            The last stage to run.
        snapshot : Snapshot, optional
            Start from these documents instead of reading the corpus.

        Raises
        ------
        LatentScaleError
            With what is wrong; what was done until then stays, and the same request goes on from there.
        """
        started = time.monotonic()
        inputs: list[InputFile] = []
        if snapshot is None:
            # All that can be wrong with the request is found before anything is written or any model is loaded.
            notes: list[str] = []
            inputs = list_inputs(self.config.corpus, notes)
            check = ingest.check_corpus(inputs, self.config.corpus, self.config.ingest)
            if len(inputs) == 1:
                publish.check_columns(self.config, list(check.columns))
            for text in (*notes, *check.notes):
                self.observer.note(text)
        check_model(self.config.embed.model)
        corpus = self.config.corpus
        units = ingest.plan_ingest(inputs, corpus, self.config.ingest) if snapshot is None else []
        record = claim_workspace(
            self.store,
            self.config,
            text_column=ingest.stored_text_column(corpus),
            id_column=ingest.stored_id_column(corpus),
            unit_keys=[unit.key for unit in units] if snapshot is None else None,
        )
        # Options for a store may hold keys, which no record keeps.
        run = start_run(self.config.model_dump(mode="json", exclude={"corpus": {"storage_options"}}), self._command)
        run.facts |= {
            "inputs": [file.as_json() for file in inputs[:MAX_RECORDED_INPUTS]],
            "input_files": len(inputs),
            "backends": [asdict(choice) for choice in describe_machine().stages],
        }
        outcome = Outcome(workspace=self.store.url, run=run.id)
        with self._recorded(run, outcome):
            if snapshot is None:
                snapshot = self._ingest(units, outcome)
            outcome.snapshot = snapshot
            self._build(snapshot, record, until, run, outcome)
        outcome.seconds = time.monotonic() - started
        return outcome

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

    # ------------------------------------------------------------------------------------------------- shard stages

    def _ingest(self, units: Sequence[ingest.IngestUnit], outcome: Outcome) -> Snapshot:
        pending, done = ingest.pending_units(units, self.store.list("documents"), self.store)
        with self.observer.stage("ingest") as progress:
            receipts = list(done)
            progress.advance(sum(receipt.rows for receipt in done))
            make = partial(ingest.IngestWorker, self.store, self.config.corpus, self.config.ingest)
            attempts = AttemptLog(self.store, outcome.run)
            by_key = {unit.key: unit for unit in pending}
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
                    self._set_aside("ingest", made, outcome, [file.path for file in by_key[made.key].inputs])
                    continue
                receipts.extend(made)
                progress.advance(sum(receipt.rows for receipt in made))
                self._metrics.extend(
                    {"stage": "ingest", "key": r.key, "rows": r.rows, "bytes": r.bytes, "seconds": r.seconds}
                    for r in made
                )
            if pending:
                outcome.made.append("ingest")
            if not receipts:
                outcome.check_complete()
            receipts = ingest.in_input_order(units, receipts)
            ingest.check_rejects(receipts, self.config.ingest)
            snapshot = make_snapshot(
                self.store,
                ingest.shard_frame(receipts),
                id_column=ingest.stored_id_column(self.config.corpus),
                text_column=ingest.stored_text_column(self.config.corpus),
                parent=current_snapshot(self.store),
            )
        reasons: Counter[str] = Counter()
        for receipt in receipts:
            reasons.update(receipt.reasons)
        if len(snapshot.superseded):
            reasons["superseded"] += len(snapshot.superseded)
        outcome.rejects = dict(reasons)
        outcome.filtered = sum(receipt.filtered for receipt in receipts)
        return snapshot

    def _set_aside(self, stage: str, shard: Quarantined, outcome: Outcome, files: list[str]) -> None:
        outcome.quarantined.append({"stage": stage, **asdict(shard), "files": files[:10]})
        self.observer.note(f"{stage}: the shard {shard.key} is set aside after {shard.tries} tries: {shard.reason}")

    def _embed(self, snapshot: Snapshot, record: WorkspaceRecord, run: Run, outcome: Outcome) -> Record:
        config = self.config
        request = embed.embedding_request(
            config.embed, text_column=record.text_column, vectors_column=self._vectors_column
        )
        writer = ArtifactWriter(self.store, "embedding", request, [], run=run.id)
        listing = self.store.list(writer.folder)
        pending = embed.pending_shards(snapshot, writer.id, listing)
        missing = {shard.key for shard in pending}
        with measured() as cost, self.observer.stage("embed", total=snapshot.rows) as progress:
            progress.advance(sum(shard.rows for shard in snapshot.shards if shard.key not in missing))
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
            receipts.extend(
                embed.read_receipt(self.store, writer.id, shard)
                for shard in snapshot.shards
                if shard.key not in missing
            )
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

    # ------------------------------------------------------------------------------------------------ global stages

    def _build(
        self, snapshot: Snapshot, workspace: WorkspaceRecord, until: StageName, run: Run, outcome: Outcome
    ) -> None:
        config, records = self.config, outcome.records
        last = STAGES.index(until)
        if last < STAGES.index("embed"):
            return
        # A wrong column name is found now and not after the layout.
        clustering, measuring, publishing = publish.resolve_columns(
            self.store, snapshot, config, workspace.text_column, self._vectors_column
        )
        embedding = records["embed"] = self._embed(snapshot, workspace, run, outcome)
        # Without the shards that had to be set aside.
        snapshot = outcome.snapshot or snapshot
        if last < STAGES.index("neighbors"):
            return
        # Said now, and not by the operating system an hour later.
        check_resources(snapshot.documents, int(embedding.counts["dim"]), self.store, 0.0)
        mode = project.resolve_mode(config.project, snapshot.documents)
        request = neighbors.neighbors_request(
            config.neighbors, config.project, snapshot_id=snapshot.id, embedding=embedding
        )
        graph = records["neighbors"] = self._stage(
            "neighbors",
            "neighbors",
            request,
            [embedding],
            outcome,
            partial(neighbors.make_neighbors, self.store, request, embedding, self.threads, run.id),
        )
        if last < STAGES.index("project"):
            return
        plane = records["project"] = self._projection(graph, project.MAP_DIMENSIONS, mode, run, outcome)
        if last < STAGES.index("cluster"):
            return
        layout: Record | None = None
        if config.cluster.method == "hdbscan" and config.cluster.space != "vectors":
            wanted = project.MAP_DIMENSIONS if config.cluster.space == "map" else config.project.cluster_dimensions
            layout = plane
            if wanted != project.MAP_DIMENSIONS:
                layout = records["layout"] = self._projection(graph, wanted, mode, run, outcome)
        request = cluster.clusters_request(
            clustering,
            snapshot_id=snapshot.id,
            embedding=embedding,
            projection=layout,
            documents=int(graph.counts["documents"]),
        )
        clusters = records["cluster"] = self._stage(
            "cluster",
            "clusters",
            request,
            [embedding] if layout is None else [embedding, layout],
            outcome,
            partial(cluster.make_clusters, self.store, request, embedding, layout, self.threads, run.id),
        )
        if last < STAGES.index("label"):
            return
        request = label.labels_request(config.label, clusters, text_column=workspace.text_column)
        labels = records["label"] = self._stage(
            "label",
            "labels",
            request,
            [clusters],
            outcome,
            partial(label.make_labels, self.store, request, clusters, run.id),
        )
        if last < STAGES.index("publish"):
            return
        parents = publish.MapParents(neighbors=graph, projection=plane, clusters=clusters, labels=labels)
        request = publish.map_request(
            publishing,
            measuring,
            parents,
            title=config.publish.title or workspace.name,
            workspace=workspace,
            vectors_column=self._vectors_column,
        )
        done = records["publish"] = self._stage(
            "publish",
            "map",
            request,
            parents.records(),
            outcome,
            partial(publish.make_map, self.store, request, parents, self.threads, run.id),
        )
        self._show(done)

    def _projection(
        self, graph: Record, n_components: int, mode: Literal["exact", "fast"], run: Run, outcome: Outcome
    ) -> Record:
        request = project.projection_request(self.config.project, graph, n_components=n_components, mode=mode)
        return self._stage(
            f"project {n_components}-D",
            "projection",
            request,
            [graph],
            outcome,
            partial(project.make_projection, self.store, request, graph, self.threads, run.id),
            steps=True,
        )

    def _stage(
        self,
        title: str,
        kind: Kind,
        request: dict[str, Any],
        parents: Sequence[Record],
        outcome: Outcome,
        make: Callable[..., Record],
        *,
        steps: bool = False,
    ) -> Record:
        """Find the artifact of ``request``, or make it with the engine; ``steps``: ``make`` tells its progress."""
        found = find_artifact(self.store, kind, request, parents)
        if found is not None:
            self.observer.event("found", stage=title, artifact=found.id)
            return found
        with self.observer.stage(title, unit="steps" if steps else "documents") as progress:
            record = self.engine.call(make, stage=kind, progress=progress.reach if steps else None)
            if not steps:
                progress.advance(int(record.counts.get("documents", 0)))
        outcome.made.append(title)
        self.observer.event("artifact", id=record.id, counts=record.counts, choices=record.choices, cost=record.cost)
        for text in record.notes:
            self.observer.note(text, artifact=record.id)
        return record

    def _show(self, record: Record) -> None:
        """Make ``record`` the current map, on its page too; both are overwritten in place, the page last."""
        if read_head(self.store) != record.id:
            write_head(self.store, record.id)
        publish.write_public_page(self.store, record)
