"""Scores of labels, for any labeler."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

# Sources of fallback labels.
_FALLBACKS = ("keyphrases", "none")


def label_scores(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """Score the labels of a map.

    Parameters
    ----------
    rows : sequence of mapping
        Rows of the table of labels: ``layer``, ``label``, ``source``, and optionally ``coverage``,
        ``coverage_outside`` and ``held_out``.

    Returns
    -------
    dict or None
        See docs/file-format.md; None without clusters. Means are unweighted over clusters.
    """
    if not rows:
        return None
    names = [(row["layer"], str(row["label"]).casefold()) for row in rows]
    counted, sources = Counter(names), Counter(str(row["source"]) for row in rows)
    inside, outside = _mean(rows, "coverage"), _mean(rows, "coverage_outside")
    by_labeler = any(row["source"] not in (*_FALLBACKS, "column") for row in rows)
    return {
        "labels": len(rows),
        "unique": sum(counted[name] == 1 for name in names) / len(rows),
        "coverage": inside,
        "coverage_outside": outside,
        "coverage_lift": None if inside is None or not outside else inside / outside,
        "held_out": _mean(rows, "held_out"),
        # Keyphrases are no fallback for the labeler keyphrases: only labels without a word are.
        "fallback_share": sum(row["source"] in (_FALLBACKS if by_labeler else ("none",)) for row in rows) / len(rows),
        "sources": dict(sorted(sources.items())),
    }


def _mean(rows: Sequence[Mapping[str, Any]], column: str) -> float | None:
    """Mean of a column over clusters with a value."""
    known = [float(row[column]) for row in rows if row.get(column) is not None]
    return sum(known) / len(known) if known else None
