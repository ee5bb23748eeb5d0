"""Commands that tell what is there: `plan`, `status`, `list`, `show`, `diff`."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated

import typer

from latentscale.cli.work import (
    Corpus,
    EngineName,
    Format,
    Id,
    Limit,
    Out,
    Sample,
    Set,
    Storage,
    Text,
    Where,
    WorkspaceArgument,
    engine_overrides,
    existing_workspace,
    job_values,
)

if TYPE_CHECKING:
    from latentscale.storage.artifacts import Record

AsJson = Annotated[bool, typer.Option("--json", help="As JSON.")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    panel = "What is there"
    app.command(rich_help_panel=panel)(plan)
    app.command(rich_help_panel=panel)(status)
    app.command(name="list", rich_help_panel=panel)(list_artifacts)
    app.command(rich_help_panel=panel)(show)
    app.command(rich_help_panel=panel)(diff)


def plan(
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
    storage: Storage = None,
    as_json: AsJson = False,
) -> None:
    """Say what `run` would do: shards, gigabytes and minutes of each stage. Nothing is written."""
    from dataclasses import asdict

    from latentscale.cli.report import console, table
    from latentscale.config import parse_job
    from latentscale.planning import plan_job

    overrides = [*engine_overrides(engine, None), *(set or [])]
    values = job_values(corpus, out or "unnamed", text, id, format, where, limit, sample, overrides, storage)
    planned = plan_job(parse_job(values, where="the settings"))
    if as_json:
        print(json.dumps(asdict(planned), indent=1))
        return
    rows = [
        [s.stage, f"{s.shards:,}" if s.shards else "", f"{s.disk_gb:.3g}", f"{s.memory_gb:.2g}", _minutes(s.minutes)]
        for s in planned.stages
    ]
    screen = console()
    screen.print(
        f"{planned.documents:,} documents ({planned.basis}), {planned.input_gb:.3g} GB in {planned.files:,} files"
    )
    screen.print(table(None, ["stage", "shards", "GB on disk", "GB of memory", "time"], rows))
    for note in planned.notes:
        screen.print(note)


def _minutes(value: float) -> str:
    return f"{value * 60:.0f} s" if value < 1 else f"{value:.1f} min"


def status(workspace: WorkspaceArgument, storage: Storage = None, as_json: AsJson = False) -> None:
    """Say how far a workspace is."""
    from latentscale.cli.report import console
    from latentscale.inspection import workspace_status

    facts = workspace_status(existing_workspace(workspace, storage))
    if as_json:
        print(json.dumps(facts, indent=1))
        return
    width = max(len(key) for key in facts)
    for key, value in facts.items():
        console().print(f"{key:<{width}}  {value if not isinstance(value, int) else format(value, ',')}")


def list_artifacts(workspace: WorkspaceArgument, storage: Storage = None, as_json: AsJson = False) -> None:
    """List all artifacts, the oldest first."""
    from latentscale.cli.report import console, table

    opened = existing_workspace(workspace, storage)
    current = opened.current
    records = opened.artifacts
    if as_json:
        print(json.dumps([{"id": r.id, "kind": r.kind, "created": r.created, "counts": r.counts} for r in records]))
        return
    rows = [
        [
            "*" if current and record.id == current.id else "",
            record.id,
            record.name,
            record.created,
            f"{record.cost.get('seconds', 0):.1f} s",
            _counts(record),
        ]
        for record in records
    ]
    console().print(table(None, ["", "id", "name", "made", "took", "counts"], rows))


def _counts(record: Record) -> str:
    # The shards of an embedding grow with the corpus; its record keeps the numbers of the run that began it.
    shown = {"dim": record.counts["dim"]} if record.kind == "embedding" else record.counts
    return ", ".join(f"{key} {value:,}" for key, value in shown.items() if isinstance(value, int | float))


def show(
    workspace: WorkspaceArgument,
    artifact: Annotated[str, typer.Argument(help="Id of an artifact.")],
    storage: Storage = None,
) -> None:
    """Print the whole record of an artifact as JSON."""
    from latentscale.storage.artifacts import read_record

    print(read_record(existing_workspace(workspace, storage).store, artifact).to_json().decode())


def diff(
    workspace: WorkspaceArgument,
    first: Annotated[str, typer.Argument(help="Id of an artifact.")],
    second: Annotated[str, typer.Argument(help="Another of the same kind.")],
    storage: Storage = None,
    as_json: AsJson = False,
) -> None:
    """Say how two artifacts differ: settings, counts and, for clusters and maps, how far they agree."""
    from latentscale.cli.report import console, table
    from latentscale.inspection import compare

    facts = compare(existing_workspace(workspace, storage), first, second)
    if as_json:
        print(json.dumps(facts, indent=1))
        return
    rows = [[key, *values] for key, values in facts["settings"].items()]
    rows += [[key, *values] for key, values in facts["counts"].items()]
    console().print(table(None, ["", first, second], rows))
    for line in facts["agreement"]:
        console().print(line)
