"""Commands that build maps: `run`, `update`, `promote` and the single stages."""

from __future__ import annotations

import json
import sys
from collections.abc import Generator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from latentscale.cli.program import program
from latentscale.cli.streams import files_of_streams
from latentscale.errors import LatentScaleError, RequestError, UndecidedTextError, refuse_stream
from latentscale.file_names import argument
from latentscale.registry import stages

if TYPE_CHECKING:
    from latentscale.workspace import Mode, Observer, Outcome, Workspace

Corpus = Annotated[list[str], typer.Argument(help="Files, folders, globs or URLs; a job.yaml; or the word `demo`.")]
Out = Annotated[str | None, typer.Option("--out", "-o", help="The workspace: a folder or URL.")]
Text = Annotated[
    str | None, typer.Option("--text", "-t", help="Text column, template '{title}\\n{abstract}' or path 'chat[].text'.")
]
Id = Annotated[str | None, typer.Option("--id", help="Column that identifies a document.")]
Format = Annotated[
    str | None,
    typer.Option(
        "--format",
        help="parquet, csv, tsv, jsonl, json, arrow, excel, lines (one document per line) or files; else by suffix.",
    ),
]
Vectors = Annotated[
    str | None,
    typer.Option("--vectors", help="Vector column, or a .npy or .parquet file with one row per row of a single table."),
]
Where = Annotated[str | None, typer.Option("--where", help='SQL condition on the columns: "year >= 2020".')]
Limit = Annotated[int | None, typer.Option("--limit", help="Take only the first N documents.")]
Sample = Annotated[float | None, typer.Option("--sample", help="Take this fraction of the documents, sampled by hash.")]
Exclude = Annotated[
    list[str] | None, typer.Option("--exclude", help="Leave out the documents whose ids are listed in this file.")
]
Only = Annotated[str | None, typer.Option("--only", help="Take only the documents whose ids are listed in this file.")]
ExcludeClusters = Annotated[
    str | None,
    typer.Option("--exclude-clusters", help="Leave out the documents of clusters of the current map: 14,17."),
]
EngineName = Annotated[str | None, typer.Option("--engine", help="auto, local or ray.")]
Address = Annotated[
    str | None, typer.Option("--address", help="A Ray cluster: auto, HOST:PORT or ray://HOST:PORT; means --engine ray.")
]
Memory = Annotated[
    str | None,
    typer.Option(
        "--memory", help="Memory limit of the job on this machine, such as 8GB; a job that needs more is refused."
    ),
]
Set = Annotated[list[str] | None, typer.Option("--set", help="Any setting: --set project.n_neighbors=30.")]
Storage = Annotated[
    list[str] | None,
    typer.Option("--storage", metavar="KEY=VALUE", help="Object store access: --storage endpoint_url=URL."),
]
AsJson = Annotated[bool, typer.Option("--json", help="As JSON.")]
Progress = Annotated[
    str, typer.Option("--progress", help="auto (bars on a terminal, else a few lines), terminal, plain, json or quiet.")
]
MetricsFile = Annotated[
    Path | None,
    typer.Option("--metrics-file", help="Write metrics of the run to this file at its end, for Prometheus."),
]
MapName = Annotated[
    str | None, typer.Option("--name", help="A name for the map, accepted by other commands.", metavar="NAME")
]
WorkspaceArgument = Annotated[str, typer.Argument(help="The workspace.", metavar="WORKSPACE")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command(name="run", rich_help_panel="Make a map")(run)
    app.command(name="update", rich_help_panel="Make a map")(update)
    app.command(name="promote", rich_help_panel="Make a map")(promote)
    app.command(name="ingest", rich_help_panel="One stage")(ingest)
    for entry in stages():
        if entry.help:
            command = label if entry.name == "label" else _stage_command(entry.name)
            app.command(name=entry.name, help=entry.help, rich_help_panel="One stage")(command)


def run(
    context: typer.Context,
    corpus: Corpus,
    out: Out = None,
    text: Text = None,
    id: Id = None,
    vectors: Vectors = None,
    format: Format = None,
    where: Where = None,
    limit: Limit = None,
    sample: Sample = None,
    exclude: Exclude = None,
    only: Only = None,
    exclude_clusters: ExcludeClusters = None,
    engine: EngineName = None,
    address: Address = None,
    refit: Annotated[bool, typer.Option("--refit", help="Align the new map to the current one.")] = False,
    name: MapName = None,
    sweep: Annotated[
        list[str] | None,
        typer.Option("--sweep", help="Build a map for each value, publish none: --sweep project.n_neighbors=10,25,50."),
    ] = None,
    sheet: Annotated[
        Path | None, typer.Option("--sheet", help="With --sweep: write thumbnails of the maps to an .html file.")
    ] = None,
    preview: Annotated[
        bool | None,
        typer.Option(
            "--preview/--no-preview", help="Show the unfinished map during the run: preview.html in the workspace."
        ),
    ] = None,
    memory: Memory = None,
    set: Set = None,
    storage: Storage = None,
    progress: Progress = "auto",
    metrics_file: MetricsFile = None,
    as_json: AsJson = False,
) -> None:
    """Build a map of a corpus: run all stages, from reading the documents to publishing the page.

    Repeating the command resumes an interrupted run; stages that are complete are skipped.
    """
    with observed(progress, metrics_file) as observer:
        shown = [] if preview is None else [f"project.preview={str(preview).lower()}"]
        overrides = [*engine_overrides(engine, address, memory), *shown, *(set or [])]
        values = job_values(corpus, out, text, id, format, where, limit, sample, overrides, storage)
        take_vectors(values, vectors)
        keep_out_of(values["corpus"], observer)
        values["corpus"].update(selections(exclude, only, exclude_clusters))
        if sweep or sheet:
            if refit or not sweep:
                raise RequestError("--sheet goes with --sweep, and --refit does not", hint="--sweep cluster.method=a,b")
            _sweep(values, observer, sweep, sheet=sheet, names=name, command=context.obj, as_json=as_json)
            return
        _run(values, observer, until="publish", refit=refit, name=name, command=context.obj, as_json=as_json)


def ingest(
    context: typer.Context,
    corpus: Corpus,
    out: Out = None,
    text: Text = None,
    id: Id = None,
    vectors: Vectors = None,
    format: Format = None,
    where: Where = None,
    limit: Limit = None,
    sample: Sample = None,
    engine: EngineName = None,
    address: Address = None,
    set: Set = None,
    storage: Storage = None,
    progress: Progress = "auto",
    metrics_file: MetricsFile = None,
    as_json: AsJson = False,
) -> None:
    """Read a corpus into a workspace, rejecting the rows that cannot be used."""
    with observed(progress, metrics_file) as observer:
        overrides = [*engine_overrides(engine, address), *(set or [])]
        values = job_values(corpus, out, text, id, format, where, limit, sample, overrides, storage)
        take_vectors(values, vectors)
        keep_out_of(values["corpus"], observer)
        _run(values, observer, until="ingest", command=context.obj, as_json=as_json)


def update(
    context: typer.Context,
    workspace: WorkspaceArgument,
    refit: Annotated[bool, typer.Option("--refit", help="Fit a new map, aligned to the old one.")] = False,
    name: MapName = None,
    engine: EngineName = None,
    address: Address = None,
    set: Set = None,
    storage: Storage = None,
    progress: Progress = "auto",
    metrics_file: MetricsFile = None,
    as_json: AsJson = False,
) -> None:
    """Update a map to its current corpus; no existing point moves.

    Only new and changed documents are read and embedded; documents missing from the corpus are removed from the map.
    """
    with observed(progress, metrics_file, workspace) as observer:
        overrides = [*engine_overrides(engine, address), *(set or [])]
        opened = existing_workspace(workspace, storage, observer=observer)
        if is_job_file(workspace):
            opened.check_selection(job_file(workspace).get("corpus") or {}, where=workspace)
        outcome = opened.run_update(overrides=overrides, refit=refit, name=name, progress=observer, command=context.obj)
        _finish(opened, outcome, as_json=as_json)


def promote(
    workspace: WorkspaceArgument,
    map: Annotated[str, typer.Argument(help="Id or name of a map; latentscale list shows them.")],
    name: Annotated[str | None, typer.Option("--name", help="Also give the map this name.")] = None,
    storage: Storage = None,
) -> None:
    """Make another map the current one, and show it on the page."""
    from latentscale.cli.report import console

    chosen = existing_workspace(workspace, storage).promote(map, name=name)
    console().print(f"The current map is {chosen.id}" + (f", called {name}" if name else ""))


def _stage_command(stage: str) -> Any:
    def command(
        context: typer.Context,
        workspace: WorkspaceArgument,
        engine: EngineName = None,
        address: Address = None,
        set: Set = None,
        storage: Storage = None,
        progress: Progress = "auto",
        metrics_file: MetricsFile = None,
        as_json: AsJson = False,
    ) -> None:
        with observed(progress, metrics_file, workspace) as observer:
            overrides = [*engine_overrides(engine, address), *(set or [])]
            opened = existing_workspace(workspace, storage, observer=observer)
            outcome = opened.run_stages(overrides, until=stage, progress=observer, command=context.obj)
            _finish(opened, outcome, as_json=as_json)

    return command


def label(
    context: typer.Context,
    workspace: WorkspaceArgument,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only estimate what a service would charge for the labels.")
    ] = False,
    engine: EngineName = None,
    address: Address = None,
    set: Set = None,
    storage: Storage = None,
    progress: Progress = "auto",
    metrics_file: MetricsFile = None,
    as_json: AsJson = False,
) -> None:
    """Name the clusters."""
    if not dry_run:
        _stage_command("label")(context, workspace, engine, address, set, storage, progress, metrics_file, as_json)
        return
    from dataclasses import asdict

    from latentscale.cli.report import console

    quoted = existing_workspace(workspace, storage).quote_labels([*engine_overrides(engine, address), *(set or [])])
    if as_json:
        print(json.dumps(None if quoted is None else asdict(quoted[0]), indent=1))
    else:
        console().print("These labels cost nothing: no service gives them." if quoted is None else quoted[1])


def engine_overrides(engine: str | None, address: str | None, memory: str | None = None) -> list[str]:
    """Settings from the options `--engine`, `--address` and `--memory`; an address is that of a Ray cluster.

    Raises
    ------
    RequestError
        If address and engine contradict each other, or the memory limit is zero.
    """
    if address is not None and engine not in (None, "auto", "ray"):
        raise RequestError(f"--address is that of a Ray cluster, but --engine is {engine}", hint="Leave one out.")
    name = "ray" if address is not None else engine
    found = [f"engine.name={name}"] if name is not None else []
    if memory is not None and memory.strip() in ("", "0"):
        raise RequestError(f"--memory {memory!r} is no amount that a job could work in", hint="Write --memory 8GB.")
    found += [f"engine.memory={memory!r}"] if memory is not None else []
    if name == "local":
        # A job file or the run before may have named a cluster.
        found += ["engine.address=null", "engine.runtime_env=null"]
    return found if address is None else [*found, f"engine.address={address!r}"]


def selections(exclude: list[str] | None, only: str | None, clusters: str | None) -> dict[str, Any]:
    """Corpus settings from `--exclude`, `--only` and `--exclude-clusters`.

    Raises
    ------
    RequestError
        If the cluster ids are not integers.
    """
    found: dict[str, Any] = {} if exclude is None else {"exclude": exclude}
    if only is not None:
        found["only"] = only
    if clusters is not None:
        try:
            found["exclude_clusters"] = [int(one) for one in clusters.split(",")]
        except ValueError:
            raise RequestError(
                f"--exclude-clusters {clusters!r}: these are not cluster numbers",
                hint="Write --exclude-clusters 14,17; latentscale clusters lists them.",
            ) from None
    return found


def job_values(
    corpus: list[str],
    out: str | None,
    text: str | None,
    id: str | None,
    format: str | None,
    where: str | None,
    limit: int | None,
    sample: float | None,
    overrides: list[str],
    storage: list[str] | None = None,
    *,
    makes: str = "the workspace of the map",
) -> dict[str, Any]:
    """Nested settings from the options of `run`; options override those of a job.yaml."""
    from latentscale.config import apply_overrides, check_job_file, read_yaml, relative_to_file, storage_overrides

    values: dict[str, Any] = {}
    if len(corpus) == 1 and is_job_file(corpus[0]):
        values = read_yaml(corpus[0])
        check_job_file(values, corpus[0])
        relative_to_file(values, corpus[0])
    else:
        values["corpus"] = {"sources": corpus}
    given = {"text": text, "id": id, "format": format, "where": where, "limit": limit, "sample": sample}
    values.setdefault("corpus", {}).update({key: value for key, value in given.items() if value is not None})
    if out is not None:
        values["out"] = out
    apply_overrides(values, overrides)
    if storage:
        values["storage"] = {**values.get("storage", {}), **storage_overrides(storage)}
    if "out" not in values:
        jobs = [one for one in corpus if is_job_file(one)]
        alone = f" {jobs[0]} is read as a job file where it is the only argument." if jobs else ""
        raise RequestError(f"{makes} is not named", hint=f"Add --out FOLDER.{alone}")
    refuse_stream(values["out"])
    return values


def take_vectors(values: dict[str, Any], vectors: str | None) -> None:
    """Add the vectors of the option `--vectors` to nested settings: they are then used as they are."""
    if vectors is not None:
        values["corpus"]["vectors"] = vectors
        values.setdefault("embed", {}).setdefault("model", "column")


def _run(
    values: dict[str, Any],
    observer: Observer,
    *,
    until: str,
    command: list[str],
    as_json: bool,
    refit: bool = False,
    name: str | None = None,
) -> None:
    import latentscale

    workspace = latentscale.open(values["out"], storage=values.get("storage"), must_exist=False)
    work = partial(workspace.run, until=until, refit=refit, name=name, progress=observer, command=command)
    try:
        outcome = work(values)
    except UndecidedTextError as error:
        values["corpus"]["format"] = _ask_for_format(error)
        outcome = work(values)
    _finish(workspace, outcome, as_json=as_json)


def _sweep(
    values: dict[str, Any],
    observer: Observer,
    varied: list[str],
    *,
    sheet: Path | None,
    names: str | None,
    command: list[str],
    as_json: bool,
) -> None:
    """Read and embed the corpus once, then make a map for each combination of the varied settings."""
    import latentscale
    from latentscale.cli.report import console, print_frame
    from latentscale.config import varied_settings

    groups = varied_settings(varied)
    workspace = latentscale.open(values["out"], storage=values.get("storage"), must_exist=False)
    workspace.check_sweep(values, groups, names=names, sheet=sheet)
    workspace.run(values, until="embed", progress=observer, command=command).check_complete()
    frame = workspace.sweep(names=names, sheet=sheet, **cast("dict[str, Any]", groups))
    print_frame(frame, "json" if as_json else "table")
    if not as_json:
        out = console()
        out.print("\nNone is published. To make one the current map, which the page shows:")
        out.print(f"  {program()} promote {argument(workspace.url)} {frame['map'][0]}")
        if sheet is not None:
            out.print(f"Their pictures are in {sheet}: open it in a browser.")


@contextmanager
def observed(progress: str, metrics_file: Path | None, workspace: str | None = None) -> Generator[Observer]:
    """Observer of a command from the start, so that a failure before the run begins is reported too."""
    from latentscale.workspace import Observer

    with Observer(mode(progress), metrics_file=metrics_file).watched(workspace) as observer:
        yield observer


def _ask_for_format(error: UndecidedTextError) -> str:
    """Ask the user for the format, if there is a terminal.

    Raises
    ------
    UndecidedTextError
        If there is no terminal, or no answer.
    """
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise error
    typer.echo(f"{error.message}\n  {error.hint}", err=True)
    answer = typer.prompt("files or lines", default="", show_default=False, err=True).strip().lower()
    if answer not in ("files", "lines"):
        raise error
    return answer


def mode(progress: str) -> Mode:
    """The value of `--progress`, which the observer checks."""
    return cast("Mode", progress)


def _finish(workspace: Workspace, outcome: Outcome, *, as_json: bool) -> None:
    """Print the result; with quarantined shards the command ends with the exit code of ``QuarantineError``."""
    from latentscale.cli.report import outcome_document, print_outcome

    if as_json:
        print(json.dumps(outcome_document(workspace, outcome), indent=1, ensure_ascii=False))
    else:
        print_outcome(workspace, outcome)
    outcome.check_complete()


def is_job_file(workspace: str) -> bool:
    """Whether the argument is a job file instead of a workspace."""
    return workspace.lower().endswith((".yaml", ".yml")) and "://" not in workspace


def job_file(path: str) -> dict[str, Any]:
    """Read a job file that was given instead of a workspace.

    Raises
    ------
    RequestError
        If it names no workspace.
    """
    from latentscale.config import read_yaml, relative_to_file

    job = read_yaml(path)
    relative_to_file(job, path)
    if "out" not in job:
        raise RequestError(f"{path} names no workspace", hint="Add `out` to it, or give the workspace itself.")
    return job


def keep_out_of(corpus: Workspace | dict[str, Any], observer: Observer | None = None) -> None:
    """Check that redirected streams and ``--metrics-file`` are not written where they would be read as documents.

    Parameters
    ----------
    corpus : Workspace or dict
        The workspace of the corpus, or its settings.
    observer : Observer, optional
        Of the command; it does not write its metrics file if that is rejected.

    Raises
    ------
    RequestError
        If one of the files is part of the corpus.
    """
    from latentscale.workspace import Workspace, check_no_document

    metrics = None if observer is None else observer.metrics_file
    files = ({} if metrics is None else {"--metrics-file": metrics}) | files_of_streams()
    for name, path in files.items():
        try:
            if isinstance(corpus, Workspace):
                corpus.check_outside_corpus(path)
            else:
                check_no_document(path, corpus)
        except LatentScaleError as error:
            if type(error) is not RequestError:
                # The workspace cannot be read: the command itself reports that, or is meant to diagnose it.
                return
            if observer is not None and path is metrics:
                observer.metrics_file = None
            raise RequestError(f"{name}: {error.message}", where=error.where, hint=error.hint) from error


def existing_workspace(
    url: str, storage: list[str] | None = None, *, readable: bool = True, observer: Observer | None = None
) -> Workspace:
    """Open an existing workspace with the storage settings of ``--storage`` or of a job file.

    Redirected streams and the metrics file must not be part of its corpus: see :func:`keep_out_of`.

    Parameters
    ----------
    url : str
        A folder or URL; or a job.yaml, whose `out` and `storage` are used.
    readable : bool
        Whether the workspace record must be readable.
    observer : Observer, optional
        Of the command.

    Raises
    ------
    WorkspaceError
        If the workspace does not exist, or was written by an incompatible version.
    RequestError
        If the workspace would read an output file of the command as documents.
    """
    import latentscale
    from latentscale.config import storage_overrides

    given: dict[str, Any] = {}
    if is_job_file(url):
        job = job_file(url)
        url, given = str(job["out"]), dict(job.get("storage") or {})
    given |= storage_overrides(storage) if storage else {}
    opened = latentscale.open(url, storage=given or None, must_exist=readable)
    if readable:
        keep_out_of(opened, observer)
    return opened
