"""Commands that keep a workspace sound: `verify`, `gc`."""

from __future__ import annotations

import json
import re
from typing import Annotated

import typer

from latentscale.cli.work import Storage, WorkspaceArgument, existing_workspace
from latentscale.errors import EXIT_ENVIRONMENT, RequestError

AsJson = Annotated[bool, typer.Option("--json", help="As JSON.")]

_UNITS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400, "w": 604_800}


def register(app: typer.Typer) -> None:
    """Add the commands."""
    panel = "Upkeep"
    app.command(rich_help_panel=panel)(verify)
    app.command(rich_help_panel=panel)(gc)


def verify(
    workspace: WorkspaceArgument,
    quick: Annotated[bool, typer.Option("--quick", help="Listings and footers only: no checksums.")] = False,
    storage: Storage = None,
    as_json: AsJson = False,
) -> None:
    """Read every object of a workspace and check counts, ids, checksums and schemas; exit code 4 for faults."""
    from latentscale.cli.report import console
    from latentscale.verification import verify_workspace

    report = verify_workspace(existing_workspace(workspace, storage).store, quick=quick)
    if as_json:
        print(json.dumps(report.as_json(), indent=1))
    else:
        screen = console()
        for fault in report.faults:
            screen.print(f"FAULT  {fault}")
        for note in report.notes:
            screen.print(f"note   {note}")
        screen.print(
            f"{report.objects:,} objects, {report.rows:,} documents, {_size(report.bytes)} "
            f"{'listed' if quick else 'checked'} in {report.seconds:.1f} s: "
            f"{len(report.faults):,} fault{'' if len(report.faults) == 1 else 's'}"
        )
    if report.faults:
        raise typer.Exit(EXIT_ENVIRONMENT)


def gc(
    workspace: WorkspaceArgument,
    grace: Annotated[str, typer.Option("--grace", help="Keep what is younger: 24h, 7d.")] = "7d",
    keep_maps: Annotated[
        int | None,
        typer.Option("--keep-maps", min=0, help="Give up all maps but so many of the latest, and what only they need."),
    ] = None,
    delete: Annotated[bool, typer.Option("--delete", help="Delete it; without this nothing is deleted.")] = False,
    storage: Storage = None,
    as_json: AsJson = False,
) -> None:
    """List, or delete, what nothing in a workspace needs any more."""
    from latentscale.cli.report import console, table
    from latentscale.storage.gc import delete_garbage, find_garbage

    store = existing_workspace(workspace, storage).store
    seconds = parse_duration(grace)
    found = (delete_garbage if delete else find_garbage)(store, grace=seconds, keep_maps=keep_maps)
    kinds = found.by_kind()
    total = sum(size for _, size in kinds.values())
    if as_json:
        document = {
            "deleted": delete,
            "objects": len(found.garbage),
            "bytes": total,
            "kinds": {kind: {"objects": number, "bytes": size} for kind, (number, size) in kinds.items()},
            "dropped": found.dropped,
            "younger": found.young,
            "names": [item.info.name for item in found.garbage],
        }
        print(json.dumps(document, indent=1))
        return
    screen = console()
    if found.dropped:
        screen.print(f"{'given up' if delete else 'to give up'}: {', '.join(found.dropped)}")
    if kinds:
        rows = [[kind, f"{number:,}", _size(size)] for kind, (number, size) in kinds.items()]
        screen.print(table(None, ["what", "objects", "bytes"], rows))
    left = f"; {found.young:,} more are younger than {grace}" if found.young else ""
    of = f"of {found.objects:,} objects, {_size(found.bytes)}"
    if delete:
        screen.print(f"{len(found.garbage):,} deleted, {_size(total)}, {of}{left}")
    elif found.garbage:
        screen.print(f"{len(found.garbage):,} would be deleted, {_size(total)}, {of}{left}")
        screen.print("Nothing was deleted. To delete it: the same command with --delete")
    else:
        screen.print(f"nothing to delete {of}{left}")


def parse_duration(text: str) -> float:
    """Seconds of ``90s``, ``30m``, ``24h``, ``7d``, ``2w`` or ``0``.

    Raises
    ------
    RequestError
        If it is none of these.
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([smhdw]?)", text.strip().lower())
    if match is None or (not match[2] and float(match[1])):
        raise RequestError(f"{text!r} is no length of time", hint="Write 90s, 30m, 24h, 7d or 2w.")
    return float(match[1]) * _UNITS.get(match[2], 1)


def _size(number: int) -> str:
    size = float(number)
    for unit in ("bytes", "kB", "MB", "GB"):
        if size < 1_000:
            return f"{size:,.0f} {unit}" if unit == "bytes" else f"{size:,.1f} {unit}"
        size /= 1_000
    return f"{size:,.1f} TB"
