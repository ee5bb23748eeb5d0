"""What a person reads at the end of a command."""

from __future__ import annotations

import sys
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from latentscale.pipeline import Outcome
from latentscale.workspace import Map, Workspace

QUALITY_SHOWN = (
    ("recall", "recall@15 of the neighbour graph"),
    ("trustworthiness", "trustworthiness@15"),
    ("preservation", "neighbours preserved@15"),
)


def console() -> Console:
    """Standard output; nothing is read as markup, and off a terminal nothing is cut to its width."""
    width = None if sys.stdout.isatty() else 240
    return Console(highlight=False, markup=False, soft_wrap=True, width=width)


def table(title: str | None, columns: list[str], rows: list[list[Any]]) -> Table:
    """A plain table."""
    made = Table(title=title, box=None, pad_edge=False, title_justify="left", header_style="bold")
    for column in columns:
        made.add_column(column)
    for row in rows:
        made.add_row(*(Text("" if value is None else str(value)) for value in row))
    return made


def print_outcome(workspace: Workspace, outcome: Outcome) -> None:
    """Print the numbers of a run, where the map is and how to look at it."""
    out = console()
    snapshot = outcome.snapshot
    lines: list[tuple[str, str]] = []
    if outcome.map is not None:
        lines += _map_lines(Map(workspace, outcome.map), outcome)
    elif snapshot is not None:
        lines.append(("documents", f"{snapshot.documents:,} in {len(snapshot.shards):,} shards"))
        lines += _reject_lines(outcome)
        for stage, record in outcome.records.items():
            facts = " · ".join(f"{key} {_number(value)}" for key, value in record.counts.items())
            lines.append((stage, f"{record.id}  {facts}"))
    did = ", ".join(outcome.made) if outcome.made else "nothing: all of it was there"
    lines.append(("done", f"{did} ({outcome.seconds:.1f} s)"))
    width = max(len(name) for name, _ in lines)
    for name, text in lines:
        out.print(Text(f"{name:<{width}}  ", style="bold") + Text(text))
    if outcome.map is not None:
        out.print()
        out.print(f"The map is in {workspace.url}")
        if workspace.store.is_local:
            out.print(f"Look at it:  latentscale view {workspace.url}")


def _map_lines(shown: Map, outcome: Outcome) -> list[tuple[str, str]]:
    counts, quality = shown.record.counts, shown.quality
    lines = [("map", shown.id), ("documents", f"{counts['documents']:,}")]
    if "update" in shown.record.request:
        drift = quality["drift"]
        since = f"{drift['added']:,} added and {drift['removed']:,} gone since the fit {quality['fit']}"
        lines.append(("update", f"{counts['added']:,} new, {counts['gone']:,} gone; {since}"))
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
    lines += [("look out", flag) for flag in quality.get("red_flags", [])]
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
    if outcome.filtered:
        lines.append(("left out", f"{outcome.filtered:,} by where, sample or limit"))
    return lines


def _number(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.3f}"
    return f"{value:,}" if isinstance(value, int) else str(value)
