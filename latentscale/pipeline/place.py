"""Job `place`: project another corpus onto a map, shard by shard, without adding it to the map."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

from latentscale.config import JobConfig, apply_overrides
from latentscale.engines import check_engine
from latentscale.errors import ConfigError, CorpusError, WorkspaceError
from latentscale.pipeline.context import RunContext
from latentscale.pipeline.model_difference import describe_difference
from latentscale.pipeline.observe import Observer
from latentscale.pipeline.preflight import Preflight
from latentscale.pipeline.recorded_settings import RecordedSettings
from latentscale.pipeline.result import Outcome
from latentscale.pipeline.selections import settle_selections
from latentscale.pipeline.shards import embed_snapshot, ingest_corpus
from latentscale.readers.inputs import absolute_source, list_inputs
from latentscale.readers.text_files import refuse_undecided
from latentscale.readers.unread import Unread
from latentscale.stages import embed, ingest
from latentscale.stages.update.fit import read_fit
from latentscale.stages.update.overlay import STAGE as OVERLAY
from latentscale.storage.artifacts import Record, list_records, needed_record
from latentscale.storage.objects import Store
from latentscale.storage.snapshot import Snapshot
from latentscale.storage.snapshots import read_groups, read_snapshot
from latentscale.storage.vectors import release_vectors, spooled_vectors
from latentscale.storage.workspace_record import claim_workspace

# Settings inherited from the map's corpus by default: what a document is.
_OF_THE_CORPUS = ("text", "id")
_COLUMNS = (
    "Text and id are the columns of the map's corpus, unless --text and --id name others; "
    "--set corpus.id=null: documents without ids."
)
# Groups of a map's settings that do not apply to the placed documents.
_OF_THE_MAP = ("corpus", "out", "storage", "publish", "name")


def settings_of_place(
    held: RecordedSettings, placed_on: Record, given: Mapping[str, Any], overrides: Sequence[str] = ()
) -> dict[str, Any]:
    """Build the settings of a job that places a corpus on a map: those of the map, overridden by ``given``.

    Parameters
    ----------
    held : RecordedSettings
        Of the map's workspace.
    given : mapping
        Settings by group. The text and id columns default to those of the map's corpus, and so does the column of
        vectors, if the map was made from vectors.
    overrides : sequence of str
        ``group.field=value``, with the highest priority.

    Raises
    ------
    WorkspaceError
        If the settings of the map's run are missing.
    """
    of_map = held.of_map(placed_on)
    values = {name: group for name, group in of_map.items() if name not in _OF_THE_MAP}
    for name, group in given.items():
        before = values.get(name)
        values[name] = {**before, **group} if isinstance(before, Mapping) else group
    kept = _OF_THE_CORPUS + (("vectors",) if values.get("embed", {}).get("model") == "column" else ())
    corpus = {name: value for name, value in given["corpus"].items() if value is not None}
    values["corpus"] = {**{name: of_map["corpus"].get(name) for name in kept}, **corpus}
    apply_overrides(values, overrides)
    return values


def place_job(
    config: JobConfig, store: Store, placed_on: Record, observer: Observer, *, command: Sequence[str] | None = None
) -> Outcome:
    """Ingest and embed a corpus in its own workspace, and place its documents on a map, which is not changed.

    Parameters
    ----------
    config : JobConfig
        From ``settings_of_place``; ``out`` is the workspace of the placed documents.
    store : Store
        The workspace of the map, which is only read.
    placed_on : Record
        The map.

    Returns
    -------
    Outcome
        ``records["overlay"]`` has the points.

    Raises
    ------
    WorkspaceError
        If ``out`` is the map's workspace, or belongs to another corpus.
    ConfigError
        If the settings would produce other embeddings than those of the map.
    CorpusError
        If the corpus's own vectors have another dimension than the map's.
    LatentScaleError
        If a stage fails; finished work is kept, and the same request resumes.
    """
    started = time.monotonic()
    context = RunContext(config, observer, command=command)
    own, outcome = context.store, context.outcome
    if own.url.rstrip("/") == store.url.rstrip("/"):
        raise WorkspaceError(
            f"{own.url} is the workspace of the map itself",
            hint="Name another folder with --out; to add the documents to the map: latentscale update.",
        )
    own.check(write=True)
    fit = read_fit(store, placed_on)
    embedding = needed_record(store, "embedding", str(fit.map.request["embedding"]))
    _check_embedding(context, placed_on, embedding)
    check_engine(context.config.engine)
    before = _earlier_snapshot(own)
    try:
        units = _plan(context, before)
    except CorpusError as error:
        if "has no column" in error.message:
            error.hint = f"{error.hint or ''} {_COLUMNS}".strip()
        raise
    workspace = claim_workspace(
        own,
        config,
        text_column=ingest.stored_text_column(config.corpus),
        id_column=ingest.stored_id_column(config.corpus),
        sources=[absolute_source(source) for source in config.corpus.sources],
        unit_keys=units.keys,
    )
    settle_selections(context)
    # Its needs depend on the size of the map, whose graph and layout are in memory.
    Preflight(context, (OVERLAY.name,)).check(int(fit.map.counts["documents"]), embedding=embedding)
    context.run.facts["placed_on"] = {"workspace": store.url, "map": placed_on.id}
    context.run.facts["published"] = False
    try:
        with context.recorded(), context.leased("place"), spooled_vectors(own):
            snapshot = outcome.snapshot = ingest_corpus(context, units, before, growing=False)
            made = outcome.records["embed"] = embed_snapshot(context, snapshot, workspace, parent=before)
            _check_width(made, embedding, placed_on)
            job = context.job(workspace, outcome.snapshot or snapshot)
            job.records = outcome.records
            placed = outcome.records[OVERLAY.name] = context.find_or_make(OVERLAY.work(job, store, placed_on))
            _warn_of_distance(context, placed)
    finally:
        release_vectors(store)
    outcome.seconds = time.monotonic() - started
    return outcome


def _check_embedding(context: RunContext, placed_on: Record, held: Record) -> None:
    """Use the model of the map, and its revision unless configured."""
    asked = context.config.embed.options
    if "revision" not in asked and held.choices.get("spec", {}).get("kind") == context.spec.kind:
        context.keep_revision(held)
    wanted = embed.STAGE.request(context.spec, context.config, text_column="").identity()["model"]
    both_columns = context.spec.reads == "vectors" and held.choices.get("spec", {}).get("kind") == context.spec.kind
    if held.request["model"] != wanted and not both_columns:
        of_map, asked_for = describe_difference(held.request["model"], wanted)
        raise ConfigError(
            f"{placed_on.id} was embedded with {of_map}; this would use {asked_for}",
            hint="Documents are placed by the model of the map: leave out embed.model, or install that version.",
        )


def _earlier_snapshot(store: Store) -> Snapshot | None:
    """Snapshot of the documents placed last from this workspace, which keep their row ids."""
    earlier = list_records(store, [OVERLAY.kind])
    return read_snapshot(store, str(earlier[-1].request["snapshot"])) if earlier else None


def _plan(context: RunContext, before: Snapshot | None) -> ingest.UnitTable:
    """List the corpus, check its files, and split it into units, keeping those of ``before``."""
    config = context.config
    notes: list[str] = []
    unread = Unread()
    inputs = list_inputs(config.corpus, notes, unread)
    if before is None:
        refuse_undecided(inputs, config.corpus)
    context.settle_fingerprint(inputs)
    check = ingest.check_corpus(inputs, config.corpus, config.ingest)
    for text in (*notes, *check.notes):
        context.observer.note(text)
    context.list_in_record(inputs, unread)
    groups = read_groups(context.store, before.id if before else None)
    return ingest.plan_ingest(inputs, config.corpus, context.config.ingest, groups=groups)


def _check_width(made: Record, embedding: Record, placed_on: Record) -> None:
    own, of_map = int(made.counts["dim"]), int(embedding.counts["dim"])
    if own != of_map:
        raise CorpusError(
            f"the vectors of the documents have {own:,} dimensions, those of {placed_on.id} have {of_map:,}",
            hint="Documents are placed by vectors of the model that made the map's.",
        )


def _warn_of_distance(context: RunContext, placed: Record) -> None:
    """Warn if many documents are far from the map, as drift does for updates."""
    far, documents = int(placed.counts["far"]), int(placed.counts["documents"])
    if far > max(50, context.config.update.drift.ood_share * documents):
        sentence = (
            f"{far:,} of {documents:,} documents ({far / documents:.0%}) are farther from those of the map than 95 % "
            "of those are from each other: their places mean little (outlier_score)"
        )
        context.outcome.warnings.append(sentence)
        context.observer.note(f"warning: {sentence}")
