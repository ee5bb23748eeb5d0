"""The context of a run: settings, store, engine, observer, and the record of the run."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict, replace
from functools import partial

from latentscale.backends.abilities import layout_lacks
from latentscale.backends.canary import Comparison
from latentscale.backends.select import AUTO, REFERENCE, Choice, choose_backend, computes
from latentscale.config import JobConfig
from latentscale.embedders import EmbedderSpec, embedder_spec, read_spec
from latentscale.engines import Engine, Quarantined, chosen_engine, open_engine
from latentscale.errors import EnvironmentFailure, LatentScaleError
from latentscale.machine import Place
from latentscale.pipeline.history import map_job, recorded_fingerprint
from latentscale.pipeline.metrics import ShardMetrics
from latentscale.pipeline.observe import Observer
from latentscale.pipeline.resources import with_default_resources
from latentscale.pipeline.result import Outcome
from latentscale.readers.columns import stored_name
from latentscale.readers.input_table import InputTable
from latentscale.readers.inputs import absolute_source
from latentscale.readers.unread import Unread
from latentscale.registry import resources_of
from latentscale.stages.canary import try_on_documents
from latentscale.stages.context import LayoutPreview
from latentscale.stages.ingest import settled_fingerprint
from latentscale.stages.publish.meaning import check_semantic
from latentscale.stages.stage import MapJob, StageContext, Work
from latentscale.storage.artifacts import Record, find_artifact
from latentscale.storage.lease import hold_lease, warning_of
from latentscale.storage.objects import Store
from latentscale.storage.runs import Run, start_run
from latentscale.storage.snapshot import Snapshot
from latentscale.storage.workspace_record import WorkspaceRecord

# A run's record lists its inputs up to this many; each document names its own file.
MAX_RECORDED_INPUTS = 1_000


def chosen_embedder(config: JobConfig) -> tuple[str | None, EmbedderSpec]:
    """Return the stored column of the corpus's own vectors, if any, and the embedder; no model is loaded.

    Raises
    ------
    ConfigError
        If there is no such embedder, its model does not exist, or what is published needs another.
    """
    vectors = config.corpus.vectors_column()
    column = stored_name(vectors, config.corpus) if vectors else None
    spec = embedder_spec(config.embed, vectors_column=column)
    if config.publish.semantic and config.publish.viewer:
        check_semantic(spec)
    return column, spec


class RunContext:
    """One run of a job, from the check of the corpus to its record.

    Parameters
    ----------
    config : JobConfig
    observer : Observer
    command : sequence of str, optional
        As typed, for the record.

    Attributes
    ----------
    store : Store
        The workspace.
    run : Run
    outcome : Outcome
    metrics : ShardMetrics
    spec : EmbedderSpec
        Of the job; no model is loaded.
    vectors_column : str or None
        Stored column of the corpus's own vectors.
    shows_preview : bool
        Whether a preview has been started.

    Raises
    ------
    ConfigError
        If there is no such embedder, or its model does not exist.
    """

    def __init__(self, config: JobConfig, observer: Observer, *, command: Sequence[str] | None = None) -> None:
        self.vectors_column, self.spec = chosen_embedder(config)
        self.observer = observer
        engine, notice = chosen_engine(config.engine)
        if notice:
            observer.note(notice)
        self.config = with_default_resources(config.model_copy(update={"engine": engine}), self.spec)
        self.store = Store(config.out, storage=config.storage)
        self.metrics = ShardMetrics()
        self.shows_preview = False
        job = config.model_dump(mode="json")
        # The next command may run in another folder.
        job["corpus"]["sources"] = [absolute_source(source) for source in config.corpus.sources]
        self.run: Run = start_run(job, command)
        self.outcome = Outcome(workspace=self.store.url, run=self.run.id)
        observer.begin(self.run.id, self.store.url)
        self._engine: Engine | None = None
        self._choices: dict[str, Choice] = {}
        self._compared: dict[str, Comparison] = {}
        self._settle_spec()

    def keep_revision(self, held: Record) -> None:
        """Use the model revision of an existing embedding, and record it for later runs."""
        self.spec = self.spec.as_held(read_spec(held.choices["spec"]))
        self._settle_spec()

    def _settle_spec(self) -> None:
        """Resolve embedder settings that depend on where it runs, and record them for later runs."""
        self.spec = self.spec.settle(self._embedding_place)
        options = dict(self.config.embed.options) | dict(self.spec.settled_options())
        if options != self.config.embed.options:
            embed = self.config.embed.model_copy(update={"options": options})
            self.config = self.config.model_copy(update={"embed": embed})
            self.run.job["embed"]["options"] = options

    def _embedding_place(self) -> Place:
        place = self.place("embed")
        # A worker without an assigned GPU uses none, even if the machine has one.
        return replace(place, gpus=()) if self.config.engine.resources.of("embed").gpus == 0 else place

    @property
    def engine(self) -> Engine:
        """The engine, opened lazily: a run that reuses everything starts none."""
        if self._engine is None:
            self._engine = open_engine(self.config.engine, on_notice=self.observer.note)
        return self._engine

    def place(self, stage: str) -> Place:
        """The resources of a worker of a stage."""
        return self.engine.place(stage)

    def choose(self, stage: str, *, documents: int) -> Choice:
        """Resolve the backend of a stage, once per run, by the resources where it runs and the number of documents.

        The choice is stored in the run's record.
        """
        if stage not in self._choices:
            owner = resources_of(stage)
            asked = getattr(self.config, owner).backend
            # The setting belongs to another stage, whose backend may not compute this one.
            if owner != stage and not computes(asked, stage):
                asked = AUTO
            self._choices[stage] = choose_backend(
                asked,
                stage,
                partial(self.place, stage),
                documents=documents,
                lacks=lambda kind: layout_lacks(kind, self.config) if stage == "project" else None,
            )
            self.run.facts["backends"] = [asdict(choice) for choice in self._choices.values()]
        return self._choices[stage]

    def trusted(self, stage: str, snapshot: Snapshot, embedding: Record) -> bool:
        """Compare the backend of a stage with the backend cpu on a sample, once per run.

        If a backend chosen by ``auto`` fails, the stage falls back to cpu, which is reported and recorded; the caller
        then requests the stage's work again.

        Raises
        ------
        EnvironmentFailure
            If a backend chosen by name fails.
        """
        asked = getattr(getattr(self.config, resources_of(stage), None), "backend", REFERENCE)
        choice = self.choose(stage, documents=snapshot.documents) if asked != REFERENCE else None
        if choice is None or choice.backend == REFERENCE:
            return True
        if choice.backend not in self._compared:
            found = self._compared[choice.backend] = self.engine.call(
                partial(try_on_documents, backend=choice.backend, snapshot=snapshot.id, embedding=embedding.id),
                StageContext(store=self.store, run=self.run.id),
                stage=stage,
            )
            self.run.facts["compared"] = [one.as_json() for one in self._compared.values()]
            self.observer.event("compared", **found.as_json())
        failed = self._compared[choice.backend].failed
        if not failed:
            return True
        reason = f"the backend {choice.backend} deviates from the CPU backend here: {', '.join(map(str, failed))}"
        if asked != AUTO:
            raise EnvironmentFailure(
                reason,
                where=f"{stage}.backend",
                hint=f"{stage}.backend=auto falls back to the CPU backend. latentscale doctor --selftest shows more.",
            )
        self.observer.note(f"{stage}: {reason}; using the CPU backend")
        self._choices[stage] = Choice(stage=stage, backend=REFERENCE, reason=reason)
        self.run.facts["backends"] = [asdict(one) for one in self._choices.values()]
        return False

    def job(
        self,
        workspace: WorkspaceRecord,
        snapshot: Snapshot,
        *,
        align: Record | None = None,
        earlier: Record | None = None,
    ) -> MapJob:
        """Build the job of a map of ``snapshot``."""
        return MapJob(
            config=self.config,
            store=self.store,
            workspace=workspace,
            snapshot=snapshot,
            choose=partial(self.choose, documents=snapshot.documents),
            align=align,
            earlier=earlier,
            vectors_column=self.vectors_column,
        )

    def settle_fingerprint(self, inputs: InputTable) -> None:
        """Resolve ``ingest.fingerprint: auto``, and record it for later runs."""
        settled = settled_fingerprint(self.config.ingest, inputs, recorded_fingerprint(self.store))
        self.config = self.config.model_copy(update={"ingest": settled})
        self.run.job["ingest"]["fingerprint"] = settled.fingerprint

    def list_in_record(self, inputs: InputTable, unread: Unread) -> None:
        """List the inputs, and unread files of the sources, in the run's record."""
        self.outcome.unread = unread
        self.run.facts |= {
            "inputs": [file.as_json() for file in inputs[:MAX_RECORDED_INPUTS]],
            "input_files": len(inputs),
            "unread": unread.as_json(),
        }

    def find_or_make(
        self, work: Work, *, before_work: Callable[[], None] | None = None, preview: LayoutPreview | None = None
    ) -> Record:
        """Return the existing artifact of ``work``, or build it on the engine.

        Parameters
        ----------
        before_work : callable, optional
            Called before it is built.
        preview : LayoutPreview, optional
            Shows the layout while it is built.
        """
        found = find_artifact(self.store, work.stage.kind, work.request.identity(), work.parents)
        if found is not None:
            self.observer.event("found", stage=work.title, artifact=found.id)
            return found
        if before_work is not None:
            before_work()
        with self.observer.stage(work.title, unit="steps" if work.steps else "documents") as progress:
            record = self.engine.call(
                partial(work.stage.make, request=work.request),
                StageContext(store=self.store, run=self.run.id, job=map_job(self.run.job), preview=preview),
                stage=work.stage.name,
                progress=progress.reach if work.steps else None,
                starts_workers=work.starts_workers,
            )
            if not work.steps:
                progress.advance(int(record.counts.get("documents", 0)))
        self.metrics.add(
            work.stage.name,
            record.id,
            rows=int(record.counts.get("documents", 0)),
            seconds=float(record.cost.get("seconds", 0.0)),
            size=sum(part.bytes for part in record.parts),
        )
        if work.stage.name not in self.outcome.made:
            self.outcome.made.append(work.stage.name)
        self.observer.event("artifact", id=record.id, counts=record.counts, choices=record.choices, cost=record.cost)
        for text in record.notes:
            self.observer.note(text, artifact=record.id)
        return record

    def quarantine(self, stage: str, shard: Quarantined, files: Sequence[str]) -> None:
        """Continue without a shard that killed its workers or failed; the run ends with exit code 3."""
        self.outcome.quarantined.append({"stage": stage, **asdict(shard), "files": list(files[:10])})
        after = f" after {shard.tries} attempts" if shard.tries else ""
        self.observer.note(f"{stage}: the shard {shard.key} is quarantined{after}: {shard.reason}")

    def leased(self, purpose: str) -> AbstractContextManager[object]:
        """Hold the workspace's lease; other active runs are reported as a warning."""
        return hold_lease(
            self.store,
            self.run.id,
            purpose,
            notice=lambda others: self.observer.note(warning_of(others), others=len(others)),
        )

    @contextmanager
    def recorded(self) -> Generator[None]:
        """Write the run's record when it starts and when it ends, successfully or not."""
        run, outcome = self.run, self.outcome
        run.write(self.store)
        status = "failed"
        try:
            yield
            status = "quarantined" if outcome.quarantined else "done"
            self.observer.finish(quarantined=len(outcome.quarantined), **outcome.summary(self.store))
        except BaseException as error:
            self.observer.fail(error)
            if isinstance(error, KeyboardInterrupt):
                status = "interrupted"
            elif isinstance(error, LatentScaleError):
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
                run.end(self.store, status, self.observer.events_jsonl(), self.metrics.table())
            except LatentScaleError:
                # A full disk must not hide the original error.
                if status in ("done", "quarantined"):
                    raise

    def _close(self) -> None:
        if self._engine is not None:
            self._engine.close()
            self._engine = None
