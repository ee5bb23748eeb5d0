"""Incremental update of the current map: add new documents, remove missing ones, keep all existing positions."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

from latentscale.config import JobConfig
from latentscale.engines import check_engine
from latentscale.errors import ConfigError, CorpusError, DamagedObjectError, StorageError, WorkspaceError
from latentscale.file_names import argument
from latentscale.pipeline.context import RunContext
from latentscale.pipeline.history import needed_map
from latentscale.pipeline.label_files import report_pending_edits
from latentscale.pipeline.model_difference import describe_difference
from latentscale.pipeline.observe import Observer
from latentscale.pipeline.preflight import Preflight
from latentscale.pipeline.result import Outcome
from latentscale.pipeline.run import check_settings
from latentscale.pipeline.selections import settle_selections
from latentscale.pipeline.shards import embed_snapshot, ingest_corpus
from latentscale.readers.inputs import list_inputs
from latentscale.readers.unread import Unread
from latentscale.stages import embed, ingest, publish
from latentscale.stages.stage import MapJob
from latentscale.stages.update.fit import Fit, read_fit
from latentscale.stages.update.grow import GROW
from latentscale.stages.update.place import STAGE as PLACE
from latentscale.storage.artifacts import Record, find_record, lacking_part, needed_record
from latentscale.storage.head import current_map, read_head, switch_head
from latentscale.storage.objects import Store
from latentscale.storage.segments import segments_of
from latentscale.storage.snapshot import Snapshot
from latentscale.storage.snapshots import has_shared_row_ids, read_groups, read_snapshot
from latentscale.storage.vectors import spooled_vectors
from latentscale.storage.workspace_record import WorkspaceRecord, read_workspace

# Attempts of an update; if another update finishes first, it starts again from the other's map.
MAX_ROUNDS = 5


def update_job(config: JobConfig, observer: Observer, *, command: Sequence[str] | None = None) -> Outcome:
    """Ingest and embed new and changed documents, place them on the map, and publish the result.

    Returns
    -------
    Outcome
        ``map`` is the current map, also if nothing changed.

    Raises
    ------
    WorkspaceError
        If there is no map yet.
    ConfigError
        If the settings would produce other embeddings than those of the map.
    CorpusError
        If more of the map's documents are missing than ``update.max_removed_fraction`` allows.
    LatentScaleError
        If a check or a stage fails; finished work is kept, and the same request resumes.
    """
    started = time.monotonic()
    context = RunContext(config, observer, command=command)
    store = context.store
    store.check(write=True)
    workspace = read_workspace(store)
    parent = needed_map(store)
    context.outcome.before = parent.id
    check_settings(context, "publish", labels=False)
    report_pending_edits(context, parent)
    _check_embedding(context, parent, workspace, asked=config.embed.options)
    check_engine(context.config.engine)
    units = _plan(context, parent)
    settle_selections(context)
    with context.recorded(), context.leased("update"), spooled_vectors(store):
        for _ in range(MAX_ROUNDS):
            if _try_update(context, units, parent, workspace):
                break
            # Another update finished first. The corpus is listed again, so that its documents are neither added twice
            # nor removed as missing.
            context.observer.note("another update finished first; this one continues from its map")
            parent = current_map(store)
            assert parent is not None, "a workspace that had a current map has one"
            units = _plan(context, parent)
        else:
            raise StorageError(
                f"other updates of {store.url} finished first {MAX_ROUNDS} times",
                hint="Let one update run at a time (concurrencyPolicy: Forbid), then run the same command again.",
            )
    context.outcome.seconds = time.monotonic() - started
    return context.outcome


def _plan(context: RunContext, parent: Record) -> ingest.UnitTable:
    """List the present corpus and split it into units; those of ``parent`` are kept as they are."""
    store = context.store
    notes: list[str] = []
    unread = Unread()
    inputs = list_inputs(context.config.corpus, notes, unread)
    context.settle_fingerprint(inputs)
    config = context.config
    before = read_snapshot(store, str(parent.request["snapshot"]))
    if has_shared_row_ids(before):
        raise WorkspaceError(
            f"{parent.id} has two documents of one row_id: it cannot grow",
            where=store.url,
            hint=f"latentscale update {argument(store.url)} --refit makes a map in which each has its own.",
        )
    units = ingest.plan_ingest(inputs, config.corpus, config.ingest, groups=read_groups(store, before.id))
    # Only new files: the others were checked when they were added.
    new = ingest.units_without(units, before)
    if len(new):
        notes.extend(ingest.check_corpus(new.files(), config.corpus, config.ingest, may_be_empty=True).notes)
    for text in notes:
        context.observer.note(text)
    context.list_in_record(inputs, unread)
    return units


def _check_embedding(
    context: RunContext, parent: Record, workspace: WorkspaceRecord, *, asked: Mapping[str, Any]
) -> None:
    """Check that the model is that of the map; its revision is used unless the options ``asked`` name one."""
    held = find_record(context.store, "embedding", str(parent.request["embedding"]))
    if held is None:
        return
    if "revision" not in asked and held.choices.get("spec", {}).get("kind") == context.spec.kind:
        context.keep_revision(held)
    wanted = embed.STAGE.request(context.spec, context.config, text_column=workspace.text_column).identity()
    if held.request == wanted:
        return
    of_map, asked_for = describe_difference(held.request["model"], wanted["model"])
    raise ConfigError(
        f"{parent.id} was embedded with {of_map}; this update would use {asked_for}",
        where="embed",
        hint="An update uses the model of the map that it grows: leave these settings out, or install that version. "
        f"Another model makes another map: latentscale update {argument(context.store.url)} --refit.",
    )


def _try_update(context: RunContext, units: ingest.UnitTable, parent: Record, workspace: WorkspaceRecord) -> bool:
    """Update the map ``parent``; returns False if another update changed the current map meanwhile."""
    store, outcome = context.store, context.outcome
    _check_shown(store, parent)
    before = read_snapshot(store, str(parent.request["snapshot"]))
    embedding = find_record(store, "embedding", str(parent.request["embedding"]))
    on_map = int(embedding.counts["dim"]) or None if embedding is not None else None
    # What a model gives is compared later; vectors of the corpus are known before any is stored as an embedding.
    given = on_map if context.spec.reads == "vectors" else None
    after = outcome.snapshot = ingest_corpus(context, units, before, growing=True, on_map=given)
    if after.id == before.id:
        outcome.records["publish"] = parent
        # A run that was killed after switching the map may have left an outdated page.
        publish.write_public_page(store, parent)
        return True
    fit = read_fit(store, parent)
    preflight = Preflight(context, ("place",))
    outcome.records["embed"] = embed_snapshot(
        context,
        after,
        workspace,
        parent=before,
        growing=True,
        on_map=on_map,
        before_work=lambda: preflight.check(after.documents),
    )
    job = growing_job(context, fit, outcome.snapshot or after, workspace)
    job.records = outcome.records
    placement = outcome.records["place"] = context.find_or_make(PLACE.work(job, fit, parent))
    _check_removed(context, parent, placement)
    grown = outcome.records["publish"] = context.find_or_make(GROW.work(job, fit, parent))
    if not switch_head(store, expected=parent.id, to=grown.id):
        return False
    publish.write_public_page(store, grown)
    # Another update may have switched the map and written the page meanwhile.
    return read_head(store) == grown.id


def _check_shown(store: Store, parent: Record) -> None:
    """Check by listings that no object of the map is missing or truncated; nothing is read."""
    shown = [parent.id, *(segment.map for segment in segments_of(parent)), read_fit(store, parent).map.id]
    for identity in dict.fromkeys(shown):
        lacking = lacking_part(needed_record(store, "map", identity))
        if lacking is not None:
            raise DamagedObjectError(
                f"{lacking} is missing or cut, and {parent.id} shows it",
                where=store.path(lacking),
                hint=f"latentscale repair {argument(store.url)} makes it again.",
            )


# Settings of publish that do not depend on the corpus: a note says that changing them has no effect on an update.
_HELD_BY_THE_FIT = ("image_origins", "noise", "search", "semantic", "viewer")


def growing_job(context: RunContext, fit: Fit, snapshot: Snapshot, workspace: WorkspaceRecord) -> MapJob:
    """The job that updates a map based on ``fit`` to ``snapshot``."""
    job = context.job(workspace, snapshot)
    # The settings of the map's page and points, as the fit resolved them.
    held = {key: value for key, value in fit.map.request["publish"].items() if key != "title"}
    asked = context.config.publish
    kept = asked.model_validate(held)
    other = [f"publish.{name}" for name in _HELD_BY_THE_FIT if getattr(asked, name) != getattr(kept, name)]
    if other:
        context.observer.note(f"{', '.join(other)}: an update keeps what the fit has; run --refit takes another")
    job.config = context.config.model_copy(update={"publish": kept})
    return job


def _check_removed(context: RunContext, parent: Record, placement: Record) -> None:
    removed, documents = int(placement.counts["removed"]), int(parent.counts["documents"])
    most = context.config.update.max_removed_fraction
    if removed > most * documents:
        raise CorpusError(
            f"{removed:,} of the {documents:,} documents of {parent.id} are missing from the corpus, more than "
            f"update.max_removed_fraction = {most:.0%}: nothing was changed",
            where=", ".join(context.config.corpus.sources),
            hint="If they were removed on purpose, run with --set update.max_removed_fraction=1.",
        )
