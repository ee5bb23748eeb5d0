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
Set = Annotated[list[str] | None, typer.Option("--set", help="Any setting: --set project.n_neighbors=30.")]
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
    set: Set = None,
    progress: Progress = "auto",
) -> None:
    """Turn a corpus into a map: everything, from the first stage to the page.

    The same command again goes on where it stopped, and does nothing where nothing is left to do.
    """
    values = job_values(corpus, out, text, id, format, where, limit, sample, engine, set)
    _run(values, until="publish", progress=progress)


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
    set: Set = None,
    progress: Progress = "auto",
) -> None:
    """Read a corpus into a workspace, setting aside what cannot be used."""
    values = job_values(corpus, out, text, id, format, where, limit, sample, engine, set)
    _run(values, until="ingest", progress=progress)


def _stage_command(stage: str) -> Any:
    def command(
        workspace: WorkspaceArgument,
        engine: EngineName = None,
        set: Set = None,
        progress: Progress = "auto",
    ) -> None:
        import latentscale
        from latentscale.config import apply_overrides

        opened = latentscale.open(workspace)
        values = opened.settings(of_last_run=True)
        overrides = list(set or [])
        if engine:
            overrides.append(f"engine.name={engine}")
        apply_overrides(values, overrides)
        _run(values, until=stage, progress=progress, from_snapshot=True)

    return command


def job_values(
    corpus: list[str],
    out: str | None,
    text: str | None,
    id: str | None,
    format: str | None,
    where: str | None,
    limit: int | None,
    sample: float | None,
    engine: str | None,
    overrides: list[str] | None,
) -> dict[str, Any]:
    """Nested settings from the options of `run`; a job.yaml is read and the options laid over it."""
    from latentscale.config import apply_overrides, read_yaml

    values: dict[str, Any] = {}
    if len(corpus) == 1 and corpus[0].lower().endswith((".yaml", ".yml")):
        values = read_yaml(corpus[0])
    else:
        values["corpus"] = {"sources": corpus}
    given = {"text": text, "id": id, "format": format, "where": where, "limit": limit, "sample": sample}
    values.setdefault("corpus", {}).update({key: value for key, value in given.items() if value is not None})
    if engine is not None:
        values.setdefault("engine", {})["name"] = engine
    if out is not None:
        values["out"] = out
    apply_overrides(values, overrides or [])
    if "out" not in values:
        raise RequestError("it is not said where the map shall be", hint="Add --out FOLDER.")
    return values


def _run(values: dict[str, Any], *, until: str, progress: str, from_snapshot: bool = False) -> None:
    import latentscale
    from latentscale.cli.report import print_outcome

    if progress not in ("auto", "terminal", "json", "quiet"):
        raise RequestError(f"--progress {progress!r} is not one of auto, terminal, json, quiet")
    workspace = latentscale.open(values["out"], storage_options=_options(values))
    snapshot = workspace.snapshot if from_snapshot else None
    outcome = workspace.run(values, until=cast(Any, until), snapshot=snapshot, progress=cast(Any, progress))
    print_outcome(workspace, outcome)


def _options(values: dict[str, Any]) -> dict[str, Any] | None:
    options = values["corpus"].get("storage_options") if "://" in str(values["out"]) else None
    return cast("dict[str, Any] | None", options)


def existing_workspace(url: str) -> Any:
    """Open a workspace that must be there.

    Raises
    ------
    WorkspaceError
        If there is none.
    """
    import latentscale

    if "://" not in url and not Path(url).exists():
        raise WorkspaceError(f"there is no workspace {url}", hint="latentscale run CORPUS --text COLUMN --out FOLDER")
    workspace = latentscale.open(url)
    _ = workspace.record
    return workspace
