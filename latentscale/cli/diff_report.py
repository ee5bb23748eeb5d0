"""What `diff` prints for people."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from latentscale.cli.report import console, one_line, table

# Of the clusters that changed, and of the documents that moved.
SHOWN = 10
_NAME = 32
_TEXT = 80
_SIDES = ("before", "after")


def print_diff(facts: Mapping[str, Any], first: str, second: str) -> None:
    """Print a comparison of two artifacts."""
    rows = [[key, *values] for key, values in facts["settings"].items()]
    rows += [[key, *values] for key, values in facts["counts"].items()]
    console().print(table(None, ["", first, second], rows))
    if facts["clusters"] is not None:
        _print_clusters(facts["clusters"])
    if facts["layout"] is not None:
        _print_layout(facts["layout"])
    if facts["vectors"] is not None:
        _print_vectors(facts["vectors"])


def _print_clusters(facts: Mapping[str, Any]) -> None:
    out = console()
    alone = f"{facts['only_first']:,} in the first only, {facts['only_second']:,} in the second only"
    out.print(f"{facts['documents']:,} documents are in both; {alone}.")
    if not facts["documents"]:
        return
    own, near = facts["agreement"], facts["agreement_nearest"]
    out.print(
        f"Agreement of the clusters: ARI {own['ari']:.3f}, NMI {own['nmi']:.3f} with noise as a cluster; "
        f"ARI {near['ari']:.3f}, NMI {near['nmi']:.3f} with noise at its nearest cluster."
    )
    noise = facts["noise"]
    out.print(
        f"In no cluster: {noise['both']:,} documents in both, {noise['only_first']:,} in the first only, "
        f"{noise['only_second']:,} in the second only."
    )
    counts: Counter[str] = Counter()
    for change in facts["changes"]:
        counts[change["change"]] += len(change["before"])
    parts = [f"{count:,} {change}" for change, count in counts.most_common()]
    parts += [f"{len(facts[key]):,} {key}" for key in ("gone", "new") if facts[key]]
    out.print(f"Clusters: {', '.join(parts) or 'none'}.")
    names = facts["names"] or ({}, {})
    rows = [
        [change["change"], f"{change['documents']:,}", *(_named(change[key], names[n]) for n, key in enumerate(_SIDES))]
        for change in facts["changes"]
        if change["change"] != "same"
    ]
    if rows:
        out.print(table("clusters that changed", ["change", "documents", *_SIDES], rows[:SHOWN]))
        if len(rows) > SHOWN:
            out.print(f"and {len(rows) - SHOWN:,} smaller ones: --json")


def _named(clusters: list[int], names: Mapping[str, str]) -> str:
    """Numbers and labels of clusters."""
    shown: list[str] = []
    for cluster in clusters:
        label = one_line(names.get(str(cluster)))
        shown.append(f"{cluster} {label[: _NAME - 1] + '…' if len(label) > _NAME else label}".strip())
    return "; ".join(shown) or "in no cluster"


def _print_layout(facts: Mapping[str, Any]) -> None:
    out = console()
    moved, near = facts["displacement"], facts["neighbours"]
    out.print(
        f"Aligned, half of the documents moved by at most {moved['q50']:.0%} of the first map's size, "
        f"one in twenty by more than {moved['q95']:.0%}."
    )
    out.print(
        f"Neighbours kept on the map: {near['mean']:.1%} of the {near['k']} nearest, of {near['sample']:,} documents; "
        f"half of these keep at most {near['q50']:.0%}."
    )
    rows = [
        [one["row_id"], f"{one['displacement']:.0%}", one["before"], one["after"], one_line(one["text"])[:_TEXT]]
        for one in facts["moved"][:SHOWN]
    ]
    out.print(table("moved most on the map", ["row_id", "moved", "before", "after", "text"], rows))


def _print_vectors(facts: Mapping[str, Any]) -> None:
    """Print how far two embeddings agree, and the documents that moved most."""
    out = console()
    alone = f"; {facts['only_first']:,} have one in the first only, {facts['only_second']:,} in the second only"
    out.print(f"{facts['documents']:,} documents have a vector in both{alone}.")
    cosine, near = facts["cosine"], facts["neighbours"]
    if cosine is None:
        widths = " and ".join(f"{one:,}" for one in facts["dimensions"])
        out.print(f"The widths differ ({widths}): there is no cosine between them.")
    else:
        spread = ", ".join(f"{key[1:]} % {cosine[key]:.4f}" for key in ("q01", "q05", "q50"))
        out.print(f"Cosine: mean {cosine['mean']:.4f}, least {cosine['least']:.4f}; at most {spread}.")
    out.print(
        f"Neighbours kept: {near['kept']:.1%} of the {near['k']} nearest, of {near['sample']:,} documents; "
        f"half of these keep at most {near['q50']:.0%}, one in twenty at most {near['q05']:.0%}."
    )
    score = "kept" if cosine is None else "cosine"
    rows = [[one["row_id"], f"{one[score]:.4f}", one_line(one["text"])[:_TEXT]] for one in facts["moved"][:SHOWN]]
    out.print(table("moved most", ["row_id", score, "text"], rows))
