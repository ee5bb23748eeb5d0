"""The command `place`: project another corpus onto a map."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from latentscale.cli.work import (
    Address,
    AsJson,
    Corpus,
    EngineName,
    Format,
    Id,
    Limit,
    MetricsFile,
    Out,
    Progress,
    Sample,
    Set,
    Storage,
    Text,
    Vectors,
    Where,
    engine_overrides,
    existing_workspace,
    job_values,
    keep_out_of,
    observed,
    take_vectors,
)


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(name="place", rich_help_panel="Make a map")(place)


def place(
    context: typer.Context,
    corpus: Corpus,
    into: Annotated[str, typer.Option("--into", help="The workspace of the map.", metavar="WORKSPACE")],
    out: Out = None,
    map: Annotated[str | None, typer.Option("--map", help="Id or name of a map; by default the current one.")] = None,
    page: Annotated[
        Path | None,
        typer.Option("--page", help="A new folder for the map's page with the placed documents.", metavar="DIR"),
    ] = None,
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
    """Project another corpus onto a map without changing the map; positions and clusters are written as parquet.

    The documents are embedded with the map's model, shard by shard. Repeating the command resumes an interrupted run.
    """
    import latentscale
    from latentscale.cli.report import console, outcome_document, print_outcome

    with observed(progress, metrics_file) as observer:
        values = job_values(
            corpus, out, text, id, format, where, limit, sample, [], storage, makes="the folder of the placed documents"
        )
        take_vectors(values, vectors)
        keep_out_of(values["corpus"], observer)
        chosen = existing_workspace(into, storage).the_map(map)
        overrides = [*engine_overrides(engine, address), *(set or [])]
        outcome = chosen.run_place(
            values,
            out=values["out"],
            storage=values.get("storage"),
            overrides=overrides,
            page=page,
            progress=observer,
            command=context.obj,
        )
    workspace = latentscale.open(values["out"], storage=values.get("storage"))
    points = f"{workspace.url}/{outcome.records['overlay'].folder}/points"
    if as_json:
        facts = outcome_document(workspace, outcome) | {
            "points": points,
            "placed_on": chosen.id,
            "page": None if page is None else str(page),
            "counts": dict(outcome.records["overlay"].counts),
        }
        print(json.dumps(facts, indent=1, ensure_ascii=False))
    else:
        print_outcome(workspace, outcome)
        console().print(f"\nThe points on {chosen.id} are in {points}")
        if page is not None:
            console().print(f"Look at them:  python -m http.server --bind 127.0.0.1 --directory {page}")
    outcome.check_complete()
