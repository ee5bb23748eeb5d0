"""Commands about labels edited by hand: `labels export`, `labels import`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from latentscale.cli.work import AsJson, Progress, Storage, WorkspaceArgument, existing_workspace, observed
from latentscale.file_names import argument


def register(app: typer.Typer) -> None:
    """Add the group."""
    labels = typer.Typer(no_args_is_help=True, help="Write the labels of a map to a file, and take edits from one.")
    labels.command(name="export")(export_labels)
    labels.command(name="import")(import_labels)
    app.add_typer(labels, name="labels", rich_help_panel="Make a map")


def export_labels(
    workspace: WorkspaceArgument,
    to: Annotated[Path, typer.Argument(help="A new file.", metavar="FILE")] = Path("edits.yaml"),
    map: Annotated[str | None, typer.Option("--map", help="Id or name of a map; by default the current one.")] = None,
    storage: Storage = None,
) -> None:
    """Write the labels of a map to a YAML file, to rename, describe, merge, split or hide clusters there."""
    from latentscale.cli.report import console

    path = existing_workspace(workspace, storage).export_labels(to, map=map)
    console().print(
        f"Wrote {path}. Edit it, then: latentscale labels import {argument(workspace)} {argument(path)}",
        soft_wrap=True,
    )


def import_labels(
    workspace: WorkspaceArgument,
    file: Annotated[Path, typer.Argument(help="A file that `labels export` wrote, with edits.", metavar="FILE")],
    storage: Storage = None,
    progress: Progress = "auto",
    as_json: AsJson = False,
) -> None:
    """Apply the edits of a file: now, and at every later labelling and refit. Edits that no longer fit are listed."""
    from latentscale.cli.report import outcome_document, print_outcome

    with observed(progress, None, workspace) as observer:
        opened = existing_workspace(workspace, storage)
        outcome = opened.import_labels(file, progress=observer)
        if as_json:
            print(json.dumps(outcome_document(opened, outcome), indent=1, ensure_ascii=False))
        else:
            print_outcome(opened, outcome)
        outcome.check_complete()
