"""The cluster hierarchy of a map as indented text."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import polars as pl

_DOCUMENTS = "documents"
_NUMBER = "layer.cluster"


def tree_lines(labels: pl.DataFrame, *, width: int = 100) -> Iterator[str]:
    """Yield the cluster hierarchy as lines below a heading: children below parents, largest first, with size and id.

    Parameters
    ----------
    labels : polars.DataFrame
        ``layer``, ``cluster``, ``parent``, ``size``, ``label``; hidden and empty clusters are left out.
    width : int
        Maximum line length in characters.
    """
    rows = [row for row in labels.to_dicts() if row["size"] and not row.get("hidden")]
    top = max((row["layer"] for row in rows), default=0)
    known = {(row["layer"], row["cluster"]) for row in rows}
    below: dict[tuple[int, int] | None, list[dict[str, Any]]] = {}
    for row in rows:
        parent = (row["layer"] + 1, row["parent"])
        below.setdefault(parent if row["parent"] is not None and parent in known else None, []).append(row)

    def lines(of: tuple[int, int] | None, depth: int) -> Iterator[str]:
        for row in sorted(below.get(of, []), key=lambda row: (-row["layer"], -row["size"], row["cluster"])):
            name = f"{'  ' * (depth + (top - row['layer'] if of is None else 0))}{shown(row['label'])}"
            number = f"{row['layer']}.{row['cluster']}"
            yield f"{row['size']:>{len(_DOCUMENTS)},}  {number:<{len(_NUMBER)}}  {name[:width]}"
            yield from lines((row["layer"], row["cluster"]), depth + 1)

    yield f"{_DOCUMENTS}  {_NUMBER}  label"
    yield from lines(None, 0)


def shown(label: str) -> str:
    """A label on one line, without terminal control characters."""
    return "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in label)
