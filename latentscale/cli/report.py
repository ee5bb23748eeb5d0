"""What commands print: tables, run results, status and quality figures, frames."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Mapping
from typing import Any, cast

import polars as pl
from rich.console import Console
from rich.table import Table
from rich.text import Text

from latentscale.cli.program import program
from latentscale.errors import EXIT_DONE, EXIT_QUARANTINE, RequestError
from latentscale.file_names import argument
from latentscale.workspace import Map, Outcome, Workspace

QUALITY_SHOWN = (
    ("recall", "recall@15 of the neighbour graph"),
    ("trustworthiness", "trustworthiness@15"),
    ("preservation", "neighbours preserved@15"),
)

# Of an embedding, the slowest first.
SHOWN_WORKERS = 8


def on_terminal() -> bool:
    """Whether standard output is a terminal."""
    return sys.stdout.isatty()


def console() -> Console:
    """Console on standard output, without markup; lines are not wrapped unless it is a terminal."""
    width = None if on_terminal() else 240
    return Console(highlight=False, markup=False, soft_wrap=True, width=width)


def table(title: str | None, columns: list[str], rows: list[list[Any]]) -> Table:
    """Build a plain table."""
    made = Table(title=title, box=None, pad_edge=False, title_justify="left", header_style="bold")
    for column in columns:
        made.add_column(column)
    for row in rows:
        made.add_row(*(Text("" if value is None else str(value)) for value in row))
    return made


def print_outcome(workspace: Workspace, outcome: Outcome) -> None:
    """Print the figures of a run, the address of the map and how to view it."""
    out = console()
    snapshot = outcome.snapshot
    lines: list[tuple[str, str]] = []
    if outcome.map is not None:
        lines += _map_lines(workspace.get(outcome.map.id), outcome)
    elif snapshot is not None:
        lines.append(("documents", f"{snapshot.documents:,} in {len(snapshot.shards):,} shards"))
        lines += _reject_lines(outcome)
        for stage, record in outcome.records.items():
            facts = " · ".join(f"{key} {_number(value)}" for key, value in record.counts.items())
            lines.append((stage, f"{record.id}  {facts}"))
    did = ", ".join(outcome.made) if outcome.made else "nothing: all results exist already"
    lines.append(("done", f"{did} ({outcome.seconds:.1f} s)"))
    width = max(len(name) for name, _ in lines)
    for name, text in lines:
        out.print(Text(f"{name:<{width}}  ", style="bold") + Text(text))
    if outcome.map is not None:
        out.print()
        out.print(f"The map is in {workspace.url}")
        if workspace.store.is_local:
            out.print(f"Look at it:  {program()} view {argument(workspace.url)}")


def outcome_document(workspace: Workspace, outcome: Outcome) -> dict[str, Any]:
    """The result of ``run``, ``update`` or a stage as ``--json`` prints it; keys stay, others may be added.

    What only a map has is null before there is one; ``added``, ``removed``, ``drift`` and ``refit_due`` are null for a
    map that no update grew.
    """
    facts = outcome.summary(workspace.store)
    chosen = None if outcome.map is None else workspace.get(outcome.map.id)
    quality = chosen.quality if chosen else {}
    return {
        "run": outcome.run,
        "workspace": workspace.url,
        "status": "quarantined" if outcome.quarantined else "done",
        "exit_code": EXIT_QUARANTINE if outcome.quarantined else EXIT_DONE,
        "seconds": round(outcome.seconds, 3),
        "map": facts["map"],
        "changed": facts["changed"],
        "made": facts["made"],
        "artifacts": {stage: record.id for stage, record in outcome.records.items()},
        "documents": outcome.snapshot.documents if chosen is None and outcome.snapshot else facts["documents"],
        "clusters": facts["clusters"],
        "layers": chosen.record.counts["layers"] if chosen else None,
        "noise": facts["noise"],
        "noise_share": chosen.record.counts["noise_share"] if chosen else None,
        "rejects": outcome.rejects,
        "left_out": outcome.filtered,
        "quarantined": outcome.quarantined,
        "added": facts["added"],
        "removed": facts["removed"],
        "drift": quality.get("drift"),
        "refit_due": facts["refit_due"],
        "quality": {name: quality.get(name) for name, _ in QUALITY_SHOWN} if chosen else None,
        "warnings": quality.get("red_flags", []),
    }


def _map_lines(chosen_map: Map, outcome: Outcome) -> list[tuple[str, str]]:
    counts, quality = chosen_map.record.counts, cast("dict[str, Any]", chosen_map.quality)
    lines = [("map", chosen_map.id), ("documents", f"{counts['documents']:,}")]
    if "update" in chosen_map.record.request:
        drift = quality["drift"]
        since = f"{drift['added']:,} added and {drift['removed']:,} removed since the fit {quality['fit']}"
        now = f"{counts['added']:,} new, {counts['gone']:,} removed" if outcome.moved else "nothing changed"
        lines.append(("update", f"{now}; {since}"))
        if drift["refit_due"]:
            lines.append(("refit due", " ".join(drift["reasons"])))
    lines += _reject_lines(outcome)
    layers = counts["layers"]
    coarser = f", joined into {' and '.join(f'{n:,}' for n in layers[1:])}" if len(layers) > 1 else ""
    lines.append(("clusters", f"{counts['clusters']:,}{coarser}"))
    lines.append(("noise", f"{counts['noise']:,} ({counts['noise_share']:.1%})"))
    measured = [f"{title} {_number(quality[key])}" for key, title in QUALITY_SHOWN if quality.get(key) is not None]
    if measured:
        lines.append(("quality", " · ".join(measured)))
    against = quality.get("against")
    if against:
        scores = f"NMI {against['nmi']:.3f}, ARI {against['ari']:.3f}, purity {against['purity']:.3f}"
        lines.append(
            (
                f"with {against['column']}",
                f"{scores}; noise at its nearest cluster: NMI {against['nearest']['nmi']:.3f}",
            )
        )
    lines += [("warning", flag) for flag in quality.get("red_flags", [])]
    lines.append(("on the page", counts["published"]))
    return lines


def _reject_lines(outcome: Outcome) -> list[tuple[str, str]]:
    lines: list[tuple[str, str]] = []
    total = sum(outcome.rejects.values())
    if total:
        reasons = ", ".join(f"{count:,} {reason}" for reason, count in sorted(outcome.rejects.items()))
        lines.append(("rejects", f"{total:,} ({reasons}), row by row in rejects/"))
    else:
        lines.append(("rejects", "0"))
    if len(outcome.unread):
        lines.append(("not read", str(outcome.unread)))
    lines += [("warning", sentence) for sentence in outcome.warnings]
    if outcome.filtered:
        lines.append(("left out", f"{outcome.filtered:,} by where, sample or limit"))
    return lines


def print_status(facts: dict[str, Any]) -> None:
    """Print the result of ``Workspace.status`` without empty entries; the last run and drift on one line each."""
    lines: dict[str, str] = {}
    for key, value in facts.items():
        if value is None or key == "refit_due":
            continue
        if key == "last_run":
            lasted = "" if value["seconds"] is None else f" in {value['seconds']:,.0f} s"
            failed = f": {value['error']['message']}" if value["error"] else ""
            text = f"{value['id']}: {value['status']}, started {value['started']}{lasted}{failed}"
        elif key == "drift":
            due = f"; a refit is due: {' '.join(value['reasons'])}" if value["refit_due"] else "; no refit is due"
            text = f"{value['added']:,} added and {value['removed']:,} removed since the fit{due}"
        elif key == "embedding":
            lines |= _embedding_lines(value)
            continue
        else:
            text = _listed(value) or "" if isinstance(value, list) else _number(value)
        lines[key.replace("_", " ")] = text
    width = max(len(name) for name in lines)
    for name, text in lines.items():
        console().print(Text(f"{name:<{width}}  ") + Text(text))


def _embedding_lines(figures: Mapping[str, Any]) -> dict[str, str]:
    """The total rate of all workers and, if there are several, that of the slowest."""
    devices = ", ".join(f"{count:,} × {device}" for device, count in figures["devices"].items())
    loaded = f"model loaded in {figures['load_seconds']:.1f} s"
    halved = f", {figures['halved']:,} batches halved for lack of memory" if figures["halved"] else ""
    of_all = f"{figures['documents']:,} documents by {devices}: {_rates(figures)}; {loaded}{halved}"
    lines = {"embedding": f"{of_all} (run {figures['run']})"}
    for one in figures["by_worker"][:SHOWN_WORKERS] if figures["workers"] > 1 else ():
        lines[f"  {one['worker']}"] = f"{one['documents']:,} documents on {one['device']}: {_rates(one)}"
    left = figures["workers"] - SHOWN_WORKERS
    return lines | ({"  others": f"{left:,} faster workers: --json"} if left > 0 else {})


def _rates(figures: Mapping[str, Any]) -> str:
    rates = [f"{figures[f'{unit}_per_second'] or 0:,.0f} {unit}/s" for unit in ("documents", "tokens")]
    return f"{', '.join(rates)}, {figures['waiting_share'] or 0:.0%} of the time waiting"


def print_quality(facts: Mapping[str, Any]) -> None:
    """Print the quality figures of a map, by name, and its red flags."""
    flat: dict[str, Any] = {}
    if "fit" in facts:
        # Other commands count documents and noise as they are now.
        flat["fit"] = f"{facts['fit']}: figures of this fit; what updates added and removed since is under drift"
    for key, value in facts.items():
        if isinstance(value, dict):
            inner = cast("dict[str, Any]", value)
            flat |= {f"{key} {name}": item for name, item in inner.items() if not isinstance(item, dict | list)}
            if inner.get("reasons"):
                flat[f"{key} reasons"] = "; ".join(inner["reasons"])
        elif key not in ("red_flags", "fit") and value is not None:
            flat[key] = value
    width = max(len(name) for name in flat)
    for name, value in flat.items():
        console().print(Text(f"{name:<{width}}  ", style="bold") + Text("" if value is None else _number(value)))
    for flag in facts.get("red_flags", []):
        console().print(Text(f"{'warning':<{width}}  ", style="bold") + Text(flag))


_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
FRAME_FORMATS = ("table", "csv", "jsonl", "json")


def print_frame(frame: pl.DataFrame, format: str) -> None:
    """Print a frame as a table, or as CSV, JSON Lines or a JSON array.

    In a table, texts are one line, and the last column is cut at the width of the terminal; elsewhere nothing is cut.
    Values that JSON cannot represent become text.

    Raises
    ------
    RequestError
        If there is no such format.
    """
    if format not in FRAME_FORMATS:
        raise RequestError(f"--format {format!r} is not one of {', '.join(FRAME_FORMATS)}")
    if format == "table":
        _print_table(frame)
    elif format == "csv":
        lists = [name for name, kind in frame.schema.items() if kind.is_nested()]
        texts = [pl.Series(name, map(_listed, frame[name].to_list()), pl.String) for name in lists]
        print(frame.with_columns(texts).write_csv(), end="")
    elif format == "json":
        rows = frame.iter_rows(named=True)
        print(json.dumps(list(rows), ensure_ascii=False, default=str, indent=1))
    else:
        for row in frame.iter_rows(named=True):
            print(json.dumps(row, ensure_ascii=False, default=str))


def _print_table(frame: pl.DataFrame) -> None:
    from rich.cells import cell_len, set_cell_size

    rows = [frame.columns, *([one_line(value) for value in row] for row in frame.iter_rows())]
    widths = [max(cell_len(row[column]) for row in rows) for column in range(frame.width)]
    right = [kind.is_numeric() for kind in frame.dtypes]
    screen = console()
    # At least a few words of the last column, whatever the terminal is.
    room = max(screen.width - sum(width + 2 for width in widths[:-1]), 20) if on_terminal() else None
    for row in rows:
        cells = [
            " " * (width - cell_len(cell)) + cell if aligned else cell + " " * (width - cell_len(cell))
            for cell, width, aligned in zip(row, widths, right, strict=True)
        ]
        last = cells[-1].rstrip()
        if room is not None and cell_len(last) > room:
            last = set_cell_size(last, room - 1).rstrip() + "…"
        print("  ".join([*cells[:-1], last]))


def one_line(value: Any) -> str:
    """A table value as one line, with terminal control characters replaced."""
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.3f}"
    return _CONTROL.sub("�", " ".join((_listed(value) or "").split()))


def _listed(value: Any) -> str | None:
    """A list as comma-separated text; any other value as text."""
    if isinstance(value, list | tuple):
        return ", ".join(str(item) for item in cast("list[Any]", value))
    return None if value is None else str(value)


def _number(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.3f}"
    return f"{value:,}" if isinstance(value, int) else str(value)
