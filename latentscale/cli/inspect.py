"""Commands that inspect: `plan`, `status`, `list`, `show`, `diff`."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated

import typer

from latentscale.cli.work import (
    AsJson,
    EngineName,
    Format,
    Id,
    Limit,
    Memory,
    Out,
    Sample,
    Set,
    Storage,
    Text,
    Where,
    WorkspaceArgument,
    engine_overrides,
    existing_workspace,
    is_job_file,
    job_values,
)
from latentscale.errors import RequestError

if TYPE_CHECKING:
    from latentscale.workspace import Record


def register(app: typer.Typer) -> None:
    """Add the commands."""
    panel = "Inspect"
    app.command(rich_help_panel=panel)(plan)
    app.command(rich_help_panel=panel)(status)
    app.command(name="list", rich_help_panel=panel)(list_artifacts)
    app.command(rich_help_panel=panel)(show)
    app.command(rich_help_panel=panel)(diff)


def plan(
    corpus: Annotated[list[str] | None, typer.Argument(help="As for `run`; leave it out with --documents.")] = None,
    documents: Annotated[
        float | None, typer.Option("--documents", help="Assume this many documents, such as 1e8; no corpus is read.")
    ] = None,
    characters: Annotated[
        int | None,
        typer.Option("--characters", help="Mean text length in characters, with --documents; 450 by default."),
    ] = None,
    gpus: Annotated[
        int | None, typer.Option("--gpus", min=0, help="Assume this many GPUs; by default those of this machine.")
    ] = None,
    memory: Memory = None,
    out: Out = None,
    text: Text = None,
    id: Id = None,
    format: Format = None,
    where: Where = None,
    limit: Limit = None,
    sample: Sample = None,
    engine: EngineName = None,
    set: Set = None,
    storage: Storage = None,
    as_json: AsJson = False,
) -> None:
    """Estimate shards, gigabytes and minutes for each stage of `run`. Nothing is written or downloaded."""
    from dataclasses import asdict

    import latentscale
    from latentscale.cli.report import console, table

    if not corpus and documents is None:
        raise RequestError("there is no corpus to plan for", hint="Name one, or say how large it is: --documents 1e6.")
    if corpus and documents is not None and not is_job_file(corpus[0]):
        raise RequestError("a corpus and --documents were given", hint="Leave one out.")
    overrides = [*engine_overrides(engine, None, memory), *(set or [])]
    sources = corpus or ["assumed"]
    values = job_values(sources, out or "unnamed", text, id, format, where, limit, sample, overrides, storage)
    workspace = latentscale.open(values["out"], storage=values.get("storage"), must_exist=False)
    number = None if documents is None else round(documents)
    planned = workspace.plan_job(values, documents=number, characters=characters, gpus=gpus)
    if as_json:
        print(json.dumps(asdict(planned), indent=1))
        return
    rows = [
        [
            s.stage,
            f"{s.shards:,}" if s.shards else "",
            _gigabytes(s.disk_gb),
            _gigabytes(s.memory_gb),
            f"{s.cpu_seconds:,.0f}",
            _minutes(s.minutes),
        ]
        for s in planned.stages
    ]
    minutes = sum(s.minutes for s in planned.stages)
    disk = sum(s.disk_gb for s in planned.stages)
    whole = [_gigabytes(disk), _gigabytes(planned.memory_gb), f"{planned.cpu_seconds:,.0f}", _minutes(minutes)]
    screen = console()
    held = f", {_gigabytes(planned.input_gb)} GB in {planned.files:,} files" if planned.files else ""
    screen.print(f"{planned.documents:,} documents ({planned.basis}){held}")
    columns = ["stage", "shards", "GB on disk", "GB of memory", "CPU-s", "time"]
    screen.print(table(None, columns, [*rows, ["all", "", *whole]]))
    for note in planned.notes:
        screen.print(note)


def _gigabytes(value: float) -> str:
    return f"{value:,.0f}" if value >= 10 else f"{value:.2g}"


def _minutes(value: float) -> str:
    return f"{value * 60:.0f} s" if value < 1 else f"{value:.1f} min" if value < 120 else f"{value / 60:,.0f} h"


def status(workspace: WorkspaceArgument, storage: Storage = None, as_json: AsJson = False) -> None:
    """Show the progress of a workspace and how its last run ended."""
    from latentscale.cli.report import print_status

    facts = existing_workspace(workspace, storage).status()
    if as_json:
        print(json.dumps(facts, indent=1))
        return
    print_status(facts)


def list_artifacts(workspace: WorkspaceArgument, storage: Storage = None, as_json: AsJson = False) -> None:
    """List all artifacts, oldest first."""
    from latentscale.cli.report import console, table

    opened = existing_workspace(workspace, storage)
    current = opened.current
    records = opened.artifacts
    names: dict[str, list[str]] = {}
    for name, identity in opened.names.items():
        names.setdefault(identity, []).append(name)
    if as_json:
        print(
            json.dumps(
                [
                    {"id": r.id, "kind": r.kind, "created": r.created, "counts": r.counts, "names": names.get(r.id, [])}
                    for r in records
                ]
            )
        )
        return
    rows = [
        [
            "*" if current and record.id == current.id else "",
            record.id,
            ", ".join(names.get(record.id, [])),
            record.created,
            f"{record.cost.get('seconds', 0):.1f} s",
            _counts(record),
        ]
        for record in records
    ]
    console().print(table(None, ["", "id", "name", "made", "took", "counts"], rows))


def _counts(record: Record) -> str:
    # The shards of an embedding grow with the corpus; its record keeps the numbers of the run that began it.
    # The points that a map hides in earlier segments are removed there, and mostly on the map again in its own.
    hidden = "removed" if record.kind == "map" else None
    counts = {key: value for key, value in record.counts.items() if key != hidden}
    shown = {"dim": counts["dim"]} if record.kind == "embedding" else counts
    return ", ".join(f"{key} {value:,}" for key, value in shown.items() if isinstance(value, int | float))


def show(
    workspace: WorkspaceArgument,
    artifact: Annotated[str, typer.Argument(help="Id of an artifact.")],
    storage: Storage = None,
) -> None:
    """Print the record of an artifact as JSON."""
    print(existing_workspace(workspace, storage).artifact(artifact).to_json().decode())


def diff(
    workspace: WorkspaceArgument,
    first: Annotated[str, typer.Argument(help="Id of an artifact, or name of a map.")],
    second: Annotated[str, typer.Argument(help="Another artifact of the same kind.")],
    vectors: Annotated[bool, typer.Option(help="Compare the vectors if the embeddings differ.")] = True,
    storage: Storage = None,
    as_json: AsJson = False,
) -> None:
    """Compare two artifacts: settings and counts; for maps also clusters and positions. For labels: `labels diff`."""
    from latentscale.cli.diff_report import print_diff

    facts = existing_workspace(workspace, storage).diff(first, second, vectors=vectors)
    if as_json:
        print(json.dumps(facts, indent=1, ensure_ascii=False))
        return
    print_diff(facts, first, second)
