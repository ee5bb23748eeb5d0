"""Commands that make things: `run` and the stages one by one."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, cast

import typer

from latentscale.errors import RequestError, WorkspaceError

Corpus = Annotated[list[str], typer.Argument(help="Files, folders, globs or URLs; a job.yaml; or the word demo.")]
Out = Annotated[str | None, typer.Option("--out", "-o", help="The workspace: a folder or URL.")]
Text = Annotated[str | None, typer.Option("--text", "-t", help="Text column, or a template: '{title}\\n{abstract}'.")]
Id = Annotated[str | None, typer.Option("--id", help="Column that identifies a document.")]
Format = Annotated[str | None, typer.Option("--format", help="parquet, csv, tsv, jsonl, lines, files; else by name.")]
Where = Annotated[str | None, typer.Option("--where", help='SQL condition on the columns: "year >= 2020".')]
Limit = Annotated[int | None, typer.Option("--limit", help="Take the first so many documents.")]
Sample = Annotated[float | None, typer.Option("--sample", help="Take this share of the documents, chosen by hash.")]
EngineName = Annotated[str | None, typer.Option("--engine", help="local or ray.")]
Address = Annotated[
    str | None, typer.Option("--address", help="A Ray cluster: auto, HOST:PORT or ray://HOST:PORT; means --engine ray.")
]
Set = Annotated[list[str] | None, typer.Option("--set", help="Any setting: --set project.n_neighbors=30.")]
Storage = Annotated[
    list[str] | None,
    typer.Option("--storage", metavar="KEY=VALUE", help="How to reach a bucket: --storage endpoint_url=URL."),
]
Progress = Annotated[str, typer.Option("--progress", help="auto, terminal, json or quiet.")]
WorkspaceArgument = Annotated[str, typer.Argument(help="The workspace.", metavar="WORKSPACE")]

STAGE_HELP = {
    "embed": "Make vectors of the documents.",
    "neighbors": "Compute the nearest-neighbour graph.",
    "project": "Lay the documents out in two dimensions.",
    "cluster": "Find clusters.",
    "label": "Name the clusters.",
    "publish": "Write points, page and quality, and make the map the current one.",
}


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command(name="run", rich_help_panel="Make a map")(run)
    app.command(name="update", rich_help_panel="Make a map")(update)
    app.command(name="promote", rich_help_panel="Make a map")(promote)
    app.command(name="ingest", rich_help_panel="One stage")(ingest)
    for stage, text in STAGE_HELP.items():
        app.command(name=stage, help=text, rich_help_panel="One stage")(_stage_command(stage))


def run(
    corpus: Corpus,
    out: Out = None,
    text: Text = None,
    id: Id = None,
    format: Format = None,
    where: Where = None,
    limit: Limit = None,
    sample: Sample = None,
    engine: EngineName = None,
    address: Address = None,
    refit: Annotated[bool, typer.Option("--refit", help="Lay the new map on the current one.")] = False,
    set: Set = None,
    storage: Storage = None,
    progress: Progress = "auto",
) -> None:
    """Turn a corpus into a map: everything, from the first stage to the page.

    The same command again goes on where it stopped, and does nothing where nothing is left to do.
    """
    values = job_values(
        corpus, out, text, id, format, where, limit, sample, [*engine_overrides(engine, address), *(set or [])], storage
    )
    _run(values, until="publish", progress=progress, refit=refit)


def ingest(
    corpus: Corpus,
    out: Out = None,
    text: Text = None,
    id: Id = None,
    format: Format = None,
    where: Where = None,
    limit: Limit = None,
    sample: Sample = None,
    engine: EngineName = None,
    address: Address = None,
    set: Set = None,
    storage: Storage = None,
    progress: Progress = "auto",
) -> None:
    """Read a corpus into a workspace, setting aside what cannot be used."""
    values = job_values(
        corpus, out, text, id, format, where, limit, sample, [*engine_overrides(engine, address), *(set or [])], storage
    )
    _run(values, until="ingest", progress=progress)


def update(
    workspace: WorkspaceArgument,
    refit: Annotated[bool, typer.Option("--refit", help="Make a new map, laid on the old one.")] = False,
    engine: EngineName = None,
    address: Address = None,
    set: Set = None,
    storage: Storage = None,
    progress: Progress = "auto",
) -> None:
    """Bring a map to what its corpus holds now; no old point moves.

    Only what is new or changed is read and embedded. Documents that are gone leave the map.
    """
    from latentscale.config import apply_overrides

    opened = existing_workspace(workspace, storage)
    values = opened.map_settings()
    apply_overrides(values, [*engine_overrides(engine, address), *(set or [])])
    _finish(opened, opened.run_update(values, refit=refit, progress=cast(Any, _mode(progress))))


def promote(
    workspace: WorkspaceArgument,
    map: Annotated[str, typer.Argument(help="Id or name of a map; latentscale list shows them.")],
    storage: Storage = None,
) -> None:
    """Make an earlier map the current one again, on its page too."""
    from latentscale.cli.report import console

    chosen = existing_workspace(workspace, storage).promote(map)
    console().print(f"The current map is {chosen.id}")


def _stage_command(stage: str) -> Any:
    def command(
        workspace: WorkspaceArgument,
        engine: EngineName = None,
        address: Address = None,
        set: Set = None,
        storage: Storage = None,
        progress: Progress = "auto",
    ) -> None:
        from latentscale.config import apply_overrides

        opened = existing_workspace(workspace, storage)
        values = opened.settings(of_last_run=True)
        apply_overrides(values, [*engine_overrides(engine, address), *(set or [])])
        if storage:
            values["storage"] = opened.store.storage.model_dump(mode="json")
        _run(values, until=stage, progress=progress, from_snapshot=True)

    return command


def engine_overrides(engine: str | None, address: str | None) -> list[str]:
    """Settings from the options `--engine` and `--address`; an address is that of a Ray cluster.

    Raises
    ------
    RequestError
        If the two contradict each other.
    """
    if address is not None and engine not in (None, "ray"):
        raise RequestError(f"--address is that of a Ray cluster, but --engine is {engine}", hint="Leave one out.")
    name = "ray" if address is not None else engine
    found = [f"engine.name={name}"] if name is not None else []
    if name == "local":
        # A job file or the run before may have named a cluster.
        found += ["engine.address=null", "engine.runtime_env=null"]
    return found if address is None else [*found, f"engine.address={address!r}"]


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
) -> dict[str, Any]:
    """Nested settings from the options of `run`; a job.yaml is read and the options laid over it."""
    from latentscale.config import apply_overrides, read_yaml, storage_overrides

    values: dict[str, Any] = {}
    if len(corpus) == 1 and corpus[0].lower().endswith((".yaml", ".yml")):
        values = read_yaml(corpus[0])
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
        raise RequestError("it is not said where the map shall be", hint="Add --out FOLDER.")
    return values


def _run(
    values: dict[str, Any], *, until: str, progress: str, from_snapshot: bool = False, refit: bool = False
) -> None:
    import latentscale

    workspace = latentscale.open(values["out"], storage=values.get("storage"))
    snapshot = workspace.snapshot if from_snapshot else None
    shown = cast(Any, _mode(progress))
    outcome = workspace.run(values, until=cast(Any, until), snapshot=snapshot, refit=refit, progress=shown)
    _finish(workspace, outcome)


def _mode(progress: str) -> str:
    if progress not in ("auto", "terminal", "json", "quiet"):
        raise RequestError(f"--progress {progress!r} is not one of auto, terminal, json, quiet")
    return progress


def _finish(workspace: Any, outcome: Any) -> None:
    """Say what was done; shards that had to be set aside end the command with their own exit code."""
    from latentscale.cli.report import print_outcome

    print_outcome(workspace, outcome)
    outcome.check_complete()


def existing_workspace(url: str, storage: list[str] | None = None) -> Any:
    """Open a workspace that must be there, reached as ``--storage`` says.

    Raises
    ------
    WorkspaceError
        If there is none.
    """
    import latentscale
    from latentscale.config import storage_overrides

    if "://" not in url and not Path(url).exists():
        raise WorkspaceError(f"there is no workspace {url}", hint="latentscale run CORPUS --text COLUMN --out FOLDER")
    workspace = latentscale.open(url, storage=storage_overrides(storage) if storage else None)
    workspace.store.check()
    _ = workspace.record
    return workspace
