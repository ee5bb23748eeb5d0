"""Run a job: a loop over the stages, each of which reuses its artifacts or builds them."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial

from latentscale.backends.select import check_backend, check_layouts, check_workers
from latentscale.config import JobConfig
from latentscale.engines import check_engine
from latentscale.errors import ConfigError, WorkspaceError, require
from latentscale.file_names import argument
from latentscale.labelers import labeler_class
from latentscale.labelers.model import runs_in_the_job
from latentscale.pipeline.context import RunContext
from latentscale.pipeline.estimate import estimate_size
from latentscale.pipeline.history import changed_selection, settings_of_map
from latentscale.pipeline.label_files import settle_label_files
from latentscale.pipeline.label_model import check_labeler, probe_labeler
from latentscale.pipeline.observe import Observer
from latentscale.pipeline.preflight import NOT_OF_A_RUN, Preflight
from latentscale.pipeline.preview import ended_preview, preview_of
from latentscale.pipeline.result import Outcome
from latentscale.pipeline.selections import settle_selections
from latentscale.pipeline.shards import embed_snapshot, ingest_corpus
from latentscale.readers.inputs import absolute_source, list_inputs
from latentscale.readers.text_files import refuse_undecided
from latentscale.readers.unread import Unread
from latentscale.registry import load_stage, stages
from latentscale.stages import embed, ingest, publish
from latentscale.stages.earlier import check_earlier, settle_start
from latentscale.stages.stage import MapJob, WholeStage, Work
from latentscale.storage.artifacts import Record, find_record
from latentscale.storage.head import current_map, read_head, write_head
from latentscale.storage.objects import Store
from latentscale.storage.snapshot import COMPRESSION, Snapshot
from latentscale.storage.snapshots import read_groups, read_snapshot
from latentscale.storage.vectors import spooled_vectors
from latentscale.storage.workspace_record import WorkspaceRecord, claim_workspace, read_workspace


def stage_names() -> list[str]:
    """Names of the stages of a run, in order."""
    return [entry.name for entry in stages() if entry.name not in NOT_OF_A_RUN]


def run_job(
    config: JobConfig,
    observer: Observer,
    *,
    until: str = "publish",
    snapshot: Snapshot | None = None,
    refit: bool = False,
    show_map: bool = True,
    command: Sequence[str] | None = None,
) -> Outcome:
    """Run all stages of a job up to and including ``until``.

    Parameters
    ----------
    until : str
        The last stage to run.
    snapshot : Snapshot, optional
        Start from these documents instead of reading the corpus.
    refit : bool
        Align the new layout to that of the current map by rotation, reflection and translation, and keep the ids, and
        so the colours, of clusters found in both.
    show_map : bool
        Whether the map becomes the current one, shown by the page.
    command : sequence of str, optional
        The command line, for the run record.

    Raises
    ------
    WorkspaceError
        If the current map has had updates, and this run would replace it by a new fit without ``refit``.
    LatentScaleError
        If a check or a stage fails; finished work is kept, and the same request resumes.
    """
    started = time.monotonic()
    context = RunContext(config, observer, command=command)
    store, outcome = context.store, context.outcome
    store.check(write=True)
    outcome.before, outcome.published = read_head(store), show_map
    current = current_map(store)
    if refit and current is None:
        raise WorkspaceError(
            f"{store.url} has no map yet that a new one could be aligned to", hint="Run without --refit."
        )
    if current is not None and not refit and show_map and until == "publish":
        _refuse_over_grown(store, current)
    names = stage_names()[: stage_names().index(until) + 1] if until in stage_names() else []
    if current is not None and "project" in names:
        given = context.config
        context.config = settle_start(store, given, current, refit=refit, clusters="cluster" in names)
        if refit and context.config is not given:
            observer.note(
                f"The layouts start from those of {current.id}, whose labels were edited: more edits then fit the new "
                "clusters. project.init=pca starts anew."
            )
    # Before the corpus is listed, which may take minutes.
    check_engine(context.config.engine)
    check_settings(context, until)
    if "project" in names:
        check_earlier(store, context.config, current, clusters="cluster" in names)
    if "label" in names:
        check_labeler(context)
    units = None
    parent = None if current is None else read_snapshot(store, str(current.request["snapshot"]))
    if snapshot is None:
        units = _plan(context, parent, until)
        corpus = config.corpus
        workspace = claim_workspace(
            store,
            config,
            text_column=ingest.stored_text_column(corpus),
            id_column=ingest.stored_id_column(corpus),
            sources=[absolute_source(source) for source in corpus.sources],
            unit_keys=units.keys,
        )
        settle_selections(context)
        if current is not None and not refit and show_map and until == "publish":
            _propose_refit(context, current)
    else:
        workspace = read_workspace(store)
    context.run.facts["published"] = show_map
    with context.recorded(), context.leased("run"), spooled_vectors(store), ended_preview(context):
        documents = (
            snapshot
            if units is None
            else ingest_corpus(context, units, parent, growing=False, embeds=until != "ingest")
        )
        assert documents is not None, "either there are documents or units to read them from"
        outcome.snapshot = documents
        if until != "ingest":
            align = current if refit else _aligned_before(store, current, snapshot)
            make_map(context, documents, workspace, parent, align, until, earlier=current)
            if show_map and outcome.map is not None:
                show(context, outcome.map)
    outcome.seconds = time.monotonic() - started
    return outcome


def _aligned_before(store: Store, current: Record | None, snapshot: Snapshot | None) -> Record | None:
    """The map to which the current one was aligned, if the run uses the same documents: its layout is kept aligned."""
    if current is None or snapshot is None or current.request.get("snapshot") != snapshot.id:
        return None
    earlier = current.request.get("align")
    return find_record(store, "map", str(earlier)) if earlier else None


def _refuse_over_grown(store: Store, current: Record) -> None:
    """Require ``refit`` to replace a map that has had updates: all positions and clusters would change."""
    update = current.request.get("update")
    if update is None:
        return
    url = store.url
    raise WorkspaceError(
        f"{current.id}, the current map of {url}, has grown by updates since its fit: this would fit all its "
        "documents again, and points, clusters and colours would be others",
        hint=f"`latentscale update {argument(url)}` adds what is new and moves no point; with --refit a new map is "
        "aligned to the old one.",
    )


def _propose_refit(context: RunContext, current: Record) -> None:
    """If the corpus selection changed, note that ``refit`` keeps the positions and cluster ids comparable."""
    try:
        before = settings_of_map(context.store, current)["corpus"]
    except WorkspaceError:
        return
    changed = changed_selection(before, context.run.job["corpus"])
    if changed:
        context.observer.note(
            f"The corpus is not chosen as that of {current.id} was ({'; '.join(changed)}): this makes a new map, with "
            "positions, cluster ids and colours of its own; with --refit it is aligned to that one."
        )


def check_settings(context: RunContext, until: str, *, labels: bool = True) -> None:
    """Validate the settings of all stages before anything is read.

    Parameters
    ----------
    labels : bool
        Whether the job may label clusters; an update does not, and needs no language model.

    Raises
    ------
    ConfigError
        If a stage, embedder, backend or labeler does not exist, or rejects its settings.
    """
    config = context.config
    names = stage_names()
    if until not in names:
        raise ConfigError(f"there is no stage {until!r}", hint=f"The stages are {', '.join(names)}.")
    context.spec.identity()
    for name in ("neighbors", "project", "cluster"):
        check_backend(getattr(config, name).backend, name)
    check_layouts(config)
    if config.cluster.method == "plscan":
        require("fast_plscan", extra="plscan", used_for="cluster.method=plscan")
    if (config.engine.resources.of("neighbors").workers or 1) > 1:
        check_workers(config.neighbors.backend, engine=config.engine.name)
    labeler = labeler_class(config.label.method)
    if labels or not runs_in_the_job(labeler):
        labeler.check(config.label)
    settle_label_files(context)


def _plan(context: RunContext, parent: Snapshot | None, until: str) -> ingest.UnitTable:
    """List the corpus, check its files, and split it into units.

    Invalid requests are found here, before anything is written or a model is loaded.
    """
    config = context.config
    notes: list[str] = []
    unread = Unread()
    inputs = list_inputs(config.corpus, notes, unread)
    if parent is None:
        refuse_undecided(inputs, config.corpus)
    context.settle_fingerprint(inputs)
    check = ingest.check_corpus(inputs, config.corpus, config.ingest)
    if len(inputs) == 1:
        publish.check_columns(config, list(check.columns))
    for text in (*notes, *check.notes):
        context.observer.note(text)
    context.list_in_record(inputs, unread)
    # Existing shards need no further space, and the selectivity of a condition is unknown until it was applied.
    if parent is None and config.corpus.where is None:
        size = estimate_size(inputs, config, check)
        stages = stage_names()[: stage_names().index(until) + 1]
        Preflight(context, stages).check_estimate(size.documents, corpus_bytes=size.bytes)
    groups = read_groups(context.store, parent.id if parent else None)
    return ingest.plan_ingest(inputs, config.corpus, context.config.ingest, groups=groups)


def make_map(
    context: RunContext,
    snapshot: Snapshot,
    workspace: WorkspaceRecord,
    parent: Snapshot | None,
    align: Record | None,
    until: str,
    *,
    earlier: Record | None,
) -> None:
    """Run the stages after ingest, and store their records in the outcome.

    Parameters
    ----------
    parent : Snapshot or None
        The snapshot of the current map; documents that ``snapshot`` shares with it keep their vectors.
    align : Record or None
        The map to which the layout is aligned.
    earlier : Record or None
        The map that initialises the layout with ``project.init: earlier``.
    """
    store, outcome = context.store, context.outcome
    starts = context.config.project.init == "earlier"
    job = context.job(workspace, snapshot, align=align, earlier=earlier if starts else None)
    # A wrong column name must fail here, not after the layout.
    job.config = publish.resolve_columns(store, snapshot, context.config, workspace.text_column, context.vectors_column)
    job.records = outcome.records
    if until != "embed":
        _warn_of_cluster_size(context, snapshot.documents)
    names = stage_names()[: stage_names().index(until) + 1]
    preflight = Preflight(context, names)
    to_probe = ["label"] if "label" in names else []

    def fits() -> None:
        preflight.check(
            job.snapshot.documents,
            embedding=job.records.get("embed"),
            text_bytes=COMPRESSION * float(job.snapshot.shards.bytes.sum()),
        )
        if to_probe and "label" not in job.records:
            to_probe.clear()
            probe_labeler(context)

    for name in stage_names()[1:]:
        stage = load_stage(name)
        if name == embed.STAGE.name:
            outcome.records[name] = embed_snapshot(
                context,
                snapshot,
                workspace,
                parent=parent,
                before_work=fits,
            )
            # Without the shards that had to be quarantined.
            job.snapshot = outcome.snapshot or snapshot
        else:
            while not _try_stage(context, stage, job, fits, publishes="publish" in names and outcome.published):
                pass
        if name == "cluster":
            _check_layer(job)
        if name == "label" and name in outcome.made and "spending" in outcome.records[name].choices:
            context.run.facts["label_spending"] = outcome.records[name].choices["spending"]
        if name == until:
            break


class _BackendReplaced(Exception):  # noqa: N818 - no error: the stage starts again with the other backend
    """The backend of a stage failed its check, and another one was chosen."""


def _try_stage(
    context: RunContext, stage: WholeStage, job: MapJob, fits: Callable[[], None], *, publishes: bool
) -> bool:
    """Run a stage; returns False if its backend was replaced meanwhile, so that the stage must be tried again."""

    def before(work: Work) -> None:
        fits()
        if not context.trusted(work.stage.name, job.snapshot, job.records["embed"]):
            raise _BackendReplaced

    try:
        for work in stage.works(job):
            preview = preview_of(context, job, publishes=publishes) if work.is_shown else None
            job.records[work.slot] = context.find_or_make(work, before_work=partial(before, work), preview=preview)
    except _BackendReplaced:
        return False
    return True


def _check_layer(job: MapJob) -> None:
    """Check that the layer of ``publish.partition_by`` exists, before the clusters are labelled.

    Raises
    ------
    ConfigError
        If not; the message lists the existing layers.
    """
    asked = job.config.publish.partition_by or ""
    layers = len(job.records["cluster"].counts["layers"])
    if publish.layer_number(asked) >= layers:
        there = ", ".join(["cluster", *(f"layer_{n}" for n in range(1, layers))])
        raise ConfigError(
            f"publish.partition_by: there is no {asked}; the clusters have the layers {there}",
            hint="Name one of these, or make more clusters: fewer than eight have no coarser layer.",
        )


def _warn_of_cluster_size(context: RunContext, documents: int) -> None:
    size = context.config.cluster.min_cluster_size
    if context.config.cluster.method in ("hdbscan", "plscan", "dbscan") and size is not None and size > documents:
        sentence = f"cluster.min_cluster_size is {size:,}, and there are {documents:,} documents: nothing can cluster"
        context.outcome.warnings.append(sentence)
        context.observer.note(f"warning: {sentence}")


def show(context: RunContext, record: Record) -> None:
    """Make ``record`` the current map and show it on the page; both objects are overwritten, the page last."""
    if read_head(context.store) != record.id:
        write_head(context.store, record.id)
    publish.write_public_page(context.store, record)
