"""Commands that look at a map: `view`, `search`, `export`."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Annotated

import typer

from latentscale.cli.work import Storage, WorkspaceArgument, existing_workspace

MapOption = Annotated[str | None, typer.Option("--map", "-m", help="Id of a map; by default the current one.")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    panel = "Look at a map"
    app.command(rich_help_panel=panel)(view)
    app.command(rich_help_panel=panel)(search)
    app.command(rich_help_panel=panel)(export)


def view(
    workspace: WorkspaceArgument,
    port: Annotated[int, typer.Option(help="Port on loopback; 0 for any.")] = 8765,
    browser: Annotated[bool, typer.Option(help="Open a browser.")] = True,
    storage: Storage = None,
) -> None:
    """Serve the page on this machine, until Ctrl-C."""
    with contextlib.suppress(KeyboardInterrupt):
        existing_workspace(workspace, storage).view(port=port, open_browser=browser)


def search(
    workspace: WorkspaceArgument,
    query: Annotated[str, typer.Argument(help="A text.")],
    k: Annotated[int, typer.Option("-k", min=1, help="How many documents.")] = 10,
    map: MapOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document a line.")] = False,
    storage: Storage = None,
) -> None:
    """Find the documents that are nearest to a text."""
    import json
    from dataclasses import asdict

    from latentscale.cli.report import console, table

    hits = existing_workspace(workspace, storage).the_map(map).search(query, k=k)
    if as_json:
        for hit in hits:
            print(json.dumps(asdict(hit), ensure_ascii=False))
        return
    rows = [[f"{hit.score:.3f}", hit.row_id, " ".join(hit.text.split())[:160]] for hit in hits]
    console().print(table(None, ["score", "row_id", "text"], rows))


def export(
    workspace: WorkspaceArgument,
    to: Annotated[Path, typer.Argument(help="points.parquet, .csv or .jsonl; or a folder for the page alone.")],
    map: MapOption = None,
    text: Annotated[bool, typer.Option(help="Add the text to the points.")] = False,
    storage: Storage = None,
) -> None:
    """Write a map's points to one file, or its page to a folder of its own."""
    import latentscale.export

    written = latentscale.export.export(existing_workspace(workspace, storage).the_map(map), to, text=text)
    print(f"{written} written")
