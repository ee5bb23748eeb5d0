"""Commands about labels: `labels export`, `labels import`, `labels diff`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from latentscale.cli.explore import FrameFormat
from latentscale.cli.program import program
from latentscale.cli.work import AsJson, Progress, Storage, WorkspaceArgument, existing_workspace, observed
from latentscale.file_names import argument


def register(app: typer.Typer) -> None:
    """Add the group."""
    labels = typer.Typer(no_args_is_help=True, help="Edit the labels of a map in a file; compare two labellings.")
    labels.command(name="export")(export_labels)
    labels.command(name="import")(import_labels)
    labels.command(name="diff")(diff_labels)
    app.add_typer(labels, name="labels", rich_help_panel="Make a map")


def export_labels(
    workspace: WorkspaceArgument,
    to: Annotated[
        Path | None,
        typer.Argument(help="A new file; by default edits.yaml.", metavar="FILE", show_default=False),
    ] = None,
    map: Annotated[str | None, typer.Option("--map", help="Id or name of a map; by default the current one.")] = None,
    format: Annotated[
        str | None, typer.Option("--format", help="yaml, or csv for spreadsheets; by default from the file suffix.")
    ] = None,
    storage: Storage = None,
) -> None:
    """Write the labels of a map to a YAML or CSV file for editing: rename, describe, merge, split or hide clusters."""
    from latentscale.cli.report import console

    to = _file_of(to, format)
    path = existing_workspace(workspace, storage).export_labels(to, map=map)
    console().print(
        f"Wrote {path}. Edit it, then: {program()} labels import {argument(workspace)} {argument(path)}",
        soft_wrap=True,
    )


def import_labels(
    workspace: WorkspaceArgument,
    file: Annotated[
        Path, typer.Argument(help="An edited file of `labels export`, or one saved by a map's page.", metavar="FILE")
    ],
    refit: Annotated[
        bool, typer.Option("--refit", help="Fit a new map with the edits; required if the map has had updates.")
    ] = False,
    storage: Storage = None,
    progress: Progress = "auto",
    as_json: AsJson = False,
) -> None:
    """Apply label edits now and in all later labellings and refits. Edits that no longer apply are listed."""
    from latentscale.cli.report import outcome_document, print_outcome

    with observed(progress, None, workspace) as observer:
        opened = existing_workspace(workspace, storage)
        outcome = opened.import_labels(file, refit=refit, progress=observer)
        if as_json:
            print(json.dumps(outcome_document(opened, outcome), indent=1, ensure_ascii=False))
        else:
            print_outcome(opened, outcome)
        outcome.check_complete()


def diff_labels(
    workspace: WorkspaceArgument,
    first: Annotated[str, typer.Argument(help="Id or name of a map, or id of labels.")],
    second: Annotated[str, typer.Argument(help="Another map or labels.")],
    layer: Annotated[
        int | None, typer.Option("--layer", min=0, help="Only this layer; 0 is the finest. By default all.")
    ] = None,
    changed: Annotated[bool, typer.Option("--changed", help="Leave out unchanged clusters.")] = False,
    format: FrameFormat = "table",
    storage: Storage = None,
    as_json: AsJson = False,
) -> None:
    """Compare two labellings by cluster: label before and after, sizes, common documents, and kind of change."""
    import polars as pl

    from latentscale.cli.report import console, print_frame

    facts = existing_workspace(workspace, storage).diff_labels(first, second, layer=layer)
    if changed:
        facts["clusters"] = [row for row in facts["clusters"] if row["change"] != "same"]
    if as_json:
        print(json.dumps(facts, indent=1, ensure_ascii=False))
        return
    rows = pl.DataFrame(facts["clusters"], infer_schema_length=None)
    if format == "table" and not len(rows):
        console().print(f"All {sum(facts['changes'].values()):,} clusters are the same, and are called the same.")
        return
    if format != "table":
        print_frame(rows, format)
        return
    counts = ("size_before", "size_after", "shared", "overlap")
    print_frame(rows.select("layer", "change", *counts, "label_before", "label_after"), format)
    both = f"{facts['documents']:,} documents in both"
    alone = f"{facts['only_first']:,} and {facts['only_second']:,} in one alone"
    changes = ", ".join(f"{number:,} {change}" for change, number in facts["changes"].items())
    console().print(f"{both}; {alone}. {changes}", soft_wrap=True)


def _file_of(to: Path | None, format: str | None) -> Path:
    """The file to write; its suffix must match the format, since `labels import` detects the format by suffix."""
    from latentscale.errors import RequestError

    if format not in (None, "yaml", "csv"):
        raise RequestError(
            f"--format is yaml or csv (given: {format})", hint="Leave it out, and name the file .yaml or .csv."
        )
    if to is None:
        return Path(f"edits.{format or 'yaml'}")
    if format is not None and (to.suffix.lower() == ".csv") != (format == "csv"):
        raise RequestError(f"{to}: its name does not say {format}", hint=f"Name it {to.with_suffix(f'.{format}')}.")
    return to
