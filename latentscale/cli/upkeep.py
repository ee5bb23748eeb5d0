"""Maintenance commands of a workspace: `verify`, `repair`, `migrate`, `gc`."""

from __future__ import annotations

import json
import re
from typing import Annotated

import typer

from latentscale.cli.work import AsJson, Progress, Storage, WorkspaceArgument, existing_workspace, mode
from latentscale.errors import EXIT_ENVIRONMENT, RequestError

_UNITS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400, "w": 604_800}


def register(app: typer.Typer) -> None:
    """Add the commands."""
    panel = "Upkeep"
    app.command(rich_help_panel=panel)(verify)
    app.command(rich_help_panel=panel)(repair)
    app.command(rich_help_panel=panel)(migrate)
    app.command(rich_help_panel=panel)(gc)


def verify(
    workspace: WorkspaceArgument,
    quick: Annotated[bool, typer.Option("--quick", help="Check listings and footers only, no checksums.")] = False,
    storage: Storage = None,
    as_json: AsJson = False,
) -> None:
    """Check the counts, ids, checksums and schemas of all objects of a workspace; exit code 4 if there are faults."""
    from latentscale.cli.report import console

    report = existing_workspace(workspace, storage).verify(quick=quick)
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


def repair(
    workspace: WorkspaceArgument,
    storage: Storage = None,
    as_json: AsJson = False,
    progress: Progress = "auto",
) -> None:
    """Recompute damaged or missing objects that `verify` finds, where possible; exit code 4 if faults remain."""
    from latentscale.cli.report import console

    # Its own record may be what is damaged.
    done = existing_workspace(workspace, storage, readable=False).repair(progress=mode(progress))
    if as_json:
        print(json.dumps(done.as_json(), indent=1))
    else:
        screen = console()
        for fault in done.mended:
            screen.print(f"mended {fault.object}: {fault.problem}")
        for text in done.lost:
            screen.print(f"LOST   {text}")
        for fault in done.report.faults:
            screen.print(f"FAULT  {fault}")
        left = len(done.report.faults)
        screen.print(
            f"{len(done.mended):,} mended, {len(done.lost):,} lost; {left:,} fault{'' if left == 1 else 's'} left"
        )
    if done.report.faults:
        raise typer.Exit(EXIT_ENVIRONMENT)


def migrate(
    workspace: WorkspaceArgument,
    out: Annotated[str, typer.Option("--out", "-o", help="The new workspace: a folder or URL.")],
    storage: Storage = None,
    progress: Progress = "auto",
) -> None:
    """Rebuild a workspace of an earlier schema in the current one, by running its corpus and settings again."""
    from latentscale.cli.report import console

    made = existing_workspace(workspace, storage, readable=False).migrate(out, progress=mode(progress))
    console().print(f"The map is {made.id} in {out}; {workspace} was not changed")


def gc(
    workspace: WorkspaceArgument,
    grace: Annotated[str, typer.Option("--grace", help="Keep objects younger than this: 24h, 7d.")] = "7d",
    keep_maps: Annotated[
        int | None,
        typer.Option("--keep-maps", min=0, help="Also drop old maps: keep this many of the newest."),
    ] = None,
    delete: Annotated[
        bool, typer.Option("--delete", help="Delete the objects; otherwise they are only listed.")
    ] = False,
    storage: Storage = None,
    as_json: AsJson = False,
) -> None:
    """List, or delete, unreferenced objects of a workspace."""
    from latentscale.cli.report import console, table

    seconds = parse_duration(grace)
    found = existing_workspace(workspace, storage).gc(grace=seconds, keep_maps=keep_maps, delete=delete)
    kinds = found.by_kind()
    total = sum(size for _, size in kinds.values())
    if as_json:
        document = {
            "deleted": delete,
            "objects": len(found.garbage),
            "bytes": total,
            "kinds": {kind.value: {"objects": number, "bytes": size} for kind, (number, size) in kinds.items()},
            "dropped": found.dropped,
            "younger": found.young,
            "names": [item.info.name for item in found.garbage],
        }
        print(json.dumps(document, indent=1))
        return
    screen = console()
    if found.dropped:
        screen.print(f"{'dropped' if delete else 'to drop'}: {', '.join(found.dropped)}")
    if kinds:
        rows = [[kind.description, f"{number:,}", _size(size)] for kind, (number, size) in kinds.items()]
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
    """Parse a duration, ``90s``, ``30m``, ``24h``, ``7d``, ``2w`` or ``0``, to seconds.

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
