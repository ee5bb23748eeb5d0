"""Assign each cluster a hue, and the zoom range in which its label is shown, when the map is published."""

from __future__ import annotations

import json
import math
import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

HUES = 12
_LINE = 168  # px: maximum line width of a label, the same as in the page's style sheet
_MAX_ZOOM = 99.0
_SHARE_FIGURES = ("share", "elsewhere", "lift", "low", "high")
_NUMBER_FIGURES = ("above", "low", "high")


def label_entries(labels: pa.Table, *, side: float) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The contents of ``labels.json`` and ``clusters.json``.

    Parameters
    ----------
    labels : pyarrow.Table
        As ``ViewerData.labels``. Columns ``hue`` and ``shade``, if present, are the clusters' colours.
    side : float
        Edge of the map's square, in its own units.

    Returns
    -------
    labels : dict
        ``layers`` (number of layers), ``hue_layer``, and ``clusters``: per cluster and layer its id, layer, label,
        parent, position, sizes, ``hue`` (0–11), ``shade`` (-1–1), ``px`` (font size) and ``zoom`` (from, to): base-2
        logarithms of pixels per map unit, or null for a label without a position; if a user edited it, ``hidden``
        (true) and ``found``, the label before.
    details : list of dict
        In the same order: source, keyphrases, exemplars, hull; if available, description, the distinctive ``columns``
        and ``numbers`` of the cluster, and the most similar ``sibling`` with ``contrast``, row ids of its exemplars.
    """
    rows = sorted(labels.to_pylist(), key=lambda row: (row["layer"], -row["size"], row["cluster"]))
    layers = max((row["layer"] for row in rows), default=-1) + 1
    hue_layer, hues, shades = _colours(rows, layers=layers, known={})
    sizes = _font_sizes(rows, layers=layers)
    # A layer of three or four clusters says little, and its labels would cover those of the layer with the hues.
    drawn = [
        {**row, "label": ""} if row.get("hidden") or (hue_layer and row["layer"] > hue_layer) else row for row in rows
    ]
    zooms = _zoom_ranges(drawn, sizes=sizes, layers=layers, side=side)
    clusters: list[dict[str, Any]] = []
    details: list[dict[str, Any]] = []
    for i, row in enumerate(rows):
        clusters.append(
            {
                "id": row["cluster"],
                "layer": row["layer"],
                "label": row["label"],
                "parent": row["parent"],
                "x": _round(row["x"]),
                "y": _round(row["y"]),
                **({"z": _round(row["z"])} if "z" in row else {}),
                "size": row["size"],
                "nearest": row["nearest_size"],
                "hue": int(hues[i]),
                "shade": round(float(shades[i]), 3),
                "px": int(sizes[i]),
                "zoom": zooms[i],
            }
            | _edits(row)
        )
        details.append(
            {
                "source": row["source"],
                "keyphrases": list(row["keyphrases"] or []),
                "exemplars": list(row["exemplars"] or []),
                "hull": [_round(v) for v in row["hull"] or []],
            }
            # Most labels have none, so that the key is only written if needed.
            | ({"description": row["description"]} if row.get("description") else {})
            | _evidence(row)
        )
    return {"layers": layers, "hue_layer": hue_layer, "clusters": clusters}, details


def _edits(row: Mapping[str, Any]) -> dict[str, Any]:
    """The edits of a cluster, if any: whether its label is hidden, and the label before."""
    edit = json.loads(row.get("edit") or "{}")
    # A merged cluster has no label from before the merge.
    original = row["label"] if edit.get("merge") else edit.get("label", row["label"])
    return ({"hidden": True} if row.get("hidden") else {}) | ({"found": original} if original != row["label"] else {})


def _evidence(row: Mapping[str, Any]) -> dict[str, Any]:
    """The distinctive facts of a cluster besides its keyphrases, in compact form."""
    evidence: dict[str, Any] = {}
    for name, figures in (("columns", _SHARE_FIGURES), ("numbers", _NUMBER_FIGURES)):
        if row.get(name):
            texts = [key for key in row[name][0] if key not in figures]
            evidence[name] = [
                [*(fact[key] for key in texts), *(float(f"{fact[key]:.3g}") for key in figures)] for fact in row[name]
            ]
    if row.get("sibling") is not None and row.get("contrast"):
        evidence |= {"sibling": row["sibling"], "contrast": list(row["contrast"])}
    return evidence


def cluster_hues(labels: pa.Table, previous: pa.Table | None = None) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Compute the hue (0–11) and shade (-1–1) of each row of ``labels``, a table as ``ViewerData.labels``.

    Rows with a ``hue`` and a ``shade`` keep them. Clusters in ``previous``, matched by layer and id, keep their colour;
    the others get hues that differ from those of their neighbours.

    Parameters
    ----------
    labels : pyarrow.Table
        One row per cluster and layer.
    previous : pyarrow.Table, optional
        The labels of the previous map; without ``hue`` and ``shade``, its colours are computed again.
    """
    rows = labels.to_pylist()
    order = sorted(range(len(rows)), key=lambda i: (rows[i]["layer"], -rows[i]["size"], rows[i]["cluster"]))
    layers = max((row["layer"] for row in rows), default=-1) + 1
    known = _known_colours(previous)
    _, hues, shades = _colours([rows[i] for i in order], layers=layers, known=known)
    back = np.argsort(order)
    return hues[back], shades[back]


def with_hues(labels: pa.Table, previous: pa.Table | None = None) -> pa.Table:
    """``labels`` with the columns ``hue`` (int8) and ``shade`` (float32), so that clusters keep their colours."""
    hues, shades = cluster_hues(labels, previous)
    rest = labels.drop_columns([name for name in ("hue", "shade") if name in labels.column_names])
    return rest.append_column("hue", pa.array(hues, pa.int8())).append_column("shade", pa.array(shades, pa.float32()))


def _known_colours(previous: pa.Table | None) -> dict[tuple[int, int], tuple[int, float]]:
    if previous is None or not previous.num_rows:
        return {}
    hues, shades = cluster_hues(previous)
    keys = zip(previous["layer"].to_pylist(), previous["cluster"].to_pylist(), strict=True)
    return dict(zip(keys, zip(hues.tolist(), shades.tolist(), strict=True), strict=True))


def _colours(
    rows: Sequence[dict[str, Any]],
    *,
    layers: int,
    known: Mapping[tuple[int, int], tuple[int, float]],
) -> tuple[int, NDArray[np.int64], NDArray[np.float64]]:
    """Assign hues to the clusters of one layer so that neighbours differ, and shades of them to finer layers.

    ``rows`` are sorted by layer, then by size. Clusters in ``known``, and those with a colour, keep it.
    """
    counts = np.bincount([row["layer"] for row in rows], minlength=max(layers, 1))
    # The coarsest layer that has enough clusters to tell apart; two or three hues would waste the palette.
    hue_layer = next((layer for layer in range(layers - 1, 0, -1) if counts[layer] >= 5), 0)
    hues = np.zeros(len(rows), np.int64)
    shades = np.zeros(len(rows))
    settled = np.zeros(len(rows), bool)
    for i, row in enumerate(rows):
        assigned = row.get("hue"), row.get("shade")
        hue, shade = assigned if None not in assigned else known.get((row["layer"], row["cluster"]), (None, None))
        if hue is not None and shade is not None:
            hues[i], shades[i], settled[i] = hue, shade, True
    tree = _ClusterTree(rows)
    positions = np.array([[row["x"] or 0.0, row["y"] or 0.0] for row in rows], np.float64).reshape(-1, 2)
    spread = float(np.ptp(positions, axis=0).max()) or 1.0 if len(rows) else 1.0
    seeds = [i for i, row in enumerate(rows) if row["layer"] == hue_layer]
    coloured = [i for i in seeds if settled[i]]
    for i in (i for i in seeds if not settled[i]):  # by size: the largest choose first
        coloured_children = [j for j in tree.children(i) if settled[j]]
        if coloured_children:
            # A new parent of clusters that have colours takes the hue of the largest part of them.
            weights = np.bincount(hues[coloured_children], [rows[j]["size"] for j in coloured_children], minlength=HUES)
            hues[i] = int(np.argmax(weights))
        else:
            hues[i] = _free_hue(i, coloured, hues=hues, positions=positions, spread=spread)
        coloured.append(i)
    for layer in range(hue_layer - 1, -1, -1):
        siblings: dict[int, list[int]] = {}
        for i, row in enumerate(rows):
            if row["layer"] == layer:
                siblings.setdefault(tree.parent(i), []).append(i)
        for parent, children in siblings.items():
            _shade(children, parent, rows=rows, hues=hues, shades=shades, settled=settled, positions=positions)
    for layer in range(hue_layer + 1, layers):
        for i, row in enumerate(rows):
            if row["layer"] == layer and not settled[i]:
                parts = tree.children(i)
                hues[i] = hues[parts[0]] if parts else row["cluster"] % HUES
    return hue_layer, hues, shades


class _ClusterTree:
    """Parents and children of clusters, by row of the labels."""

    def __init__(self, rows: Sequence[dict[str, Any]]) -> None:
        index = {(row["layer"], row["cluster"]): i for i, row in enumerate(rows)}
        self._parents = [index.get((row["layer"] + 1, row["parent"]), -1) for row in rows]
        self._children: dict[int, list[int]] = {}
        for i, parent in enumerate(self._parents):
            self._children.setdefault(parent, []).append(i)

    def parent(self, i: int) -> int:
        """Return the index of a row's parent, -1 if it has none."""
        return self._parents[i]

    def children(self, i: int) -> list[int]:
        return self._children.get(i, [])


def _free_hue(
    i: int, coloured: list[int], *, hues: NDArray[np.int64], positions: NDArray[np.float64], spread: float
) -> int:
    """The hue that differs most from those of the neighbouring clusters."""
    cost = np.bincount(hues[coloured], minlength=HUES).astype(np.float64) * 0.5
    near = 1 / (0.05 + np.hypot(*(positions[coloured] - positions[i]).T) / spread)
    close = np.bincount(hues[coloured], near, minlength=HUES)
    # Adjacent hues of the palette are similar too, to a lesser degree.
    cost += close + 0.2 * (np.roll(close, 1) + np.roll(close, -1))
    return int(np.argmin(cost))


def _shade(
    children: list[int],
    parent: int,
    *,
    rows: Sequence[dict[str, Any]],
    hues: NDArray[np.int64],
    shades: NDArray[np.float64],
    settled: NDArray[np.bool_],
    positions: NDArray[np.float64],
) -> None:
    """Assign the children of a cluster its hue, with different shades."""
    # Neighbouring siblings get distant shades (van der Corput sequence).
    children = sorted(children, key=lambda i: (positions[i, 0] + positions[i, 1], rows[i]["cluster"]))
    base = shades[parent] * 0.5 if parent >= 0 else 0.0
    taken = [shades[i] for i in children if settled[i]]
    steps = iter(range(1, 1 << 20))
    for i in children:
        if settled[i]:
            continue
        hues[i] = hues[parent] if parent >= 0 else rows[i]["cluster"] % HUES
        if len(children) == 1:
            shades[i] = base
            continue
        min_gap = 1 / (1 + len(children))
        for k in steps:
            shades[i] = float(np.clip(base + (2 * _van_der_corput(k) - 1), -1, 1))
            # Distinct from the shades that are kept; after a few rounds there is no better value.
            if k > 4 * len(children) or all(abs(shades[i] - other) > min_gap for other in taken):
                break


def _van_der_corput(k: int) -> float:
    value, base = 0.0, 0.5
    while k:
        value += base * (k & 1)
        k >>= 1
        base /= 2
    return value


def _font_sizes(rows: Sequence[dict[str, Any]], *, layers: int) -> NDArray[np.int64]:
    """Font size: 12–14 px on layer 0 by cluster size, up to 19 px on the coarsest layer."""
    sizes = np.zeros(len(rows), np.int64)
    for layer in range(layers):
        members = [i for i, row in enumerate(rows) if row["layer"] == layer]
        largest = max(math.log(1 + rows[i]["size"]) for i in members) if members else 1.0
        base = 12 if layer == 0 else 15 + 2 * (layer - 1) / max(1, layers - 2) if layers > 2 else 15
        for i in members:
            weight = math.log(1 + rows[i]["size"]) / (largest or 1.0)
            sizes[i] = round(base + 2 * max(0.0, (weight - 0.6) / 0.4))
    return sizes


def _box(text: str, px: int) -> tuple[float, float]:
    """Width and height in px of a label with the page's style sheet, slightly overestimated."""
    width = px * sum(1.0 if unicodedata.east_asian_width(c) in "WF" else 0.57 for c in text)
    line = _LINE * px / 13
    lines = max(1, math.ceil(width / line))
    # Words do not break evenly: the widest of several lines comes near the limit.
    return min(width, line) + 14, lines * px * 1.22 + 6


def _zoom_ranges(
    rows: Sequence[dict[str, Any]], *, sizes: NDArray[np.int64], layers: int, side: float
) -> list[list[float] | None]:
    """The zoom range in which each label is shown.

    A label is shown from the scale on at which its box does not overlap the boxes of labels with higher priority
    (coarser layers first, then by size). Zooming in only moves boxes apart, so that a shown label never disappears for
    lack of room, and panning changes nothing. A coarse label is hidden once its cluster is wider than a screen.
    """
    ranges: list[list[float] | None] = [None] * len(rows)
    order = sorted(range(len(rows)), key=lambda i: (-rows[i]["layer"], -rows[i]["size"], rows[i]["cluster"]))
    order = [i for i in order if rows[i]["label"] and _finite(rows[i]["x"]) and _finite(rows[i]["y"])]
    n = len(order)
    x, y, w, h, until, since = (np.zeros(n) for _ in range(6))
    lowest = math.log2(200 / side)
    for k, i in enumerate(order):
        row = rows[i]
        x[k], y[k] = row["x"], row["y"]
        w[k], h[k] = _box(row["label"], int(sizes[i]))
        hull = np.asarray(row["hull"] or [], np.float64).reshape(-1, 2)
        extent = float(np.ptp(hull, axis=0).max()) if len(hull) >= 3 else 0.0
        until[k] = 1100 / extent if row["layer"] > 0 and extent > 0 else np.inf
        if row["layer"] > 0 and layers > 1 and extent <= 0:
            until[k] = 16 * 1100 / side
        dx, dy = np.abs(x[:k] - x[k]), np.abs(y[:k] - y[k])
        with np.errstate(divide="ignore"):
            clear = np.minimum((w[:k] + w[k]) / 2 / dx, (h[:k] + h[k]) / 2 / dy)
        clear = np.minimum(clear, until[:k])
        # A label whose range starts after this one's ends cannot overlap it.
        clear = np.where(since[:k] < until[k], clear, 0)
        since[k] = clear.max() if k else 0.0
        start = max(lowest - 4, math.log2(since[k])) if since[k] > 0 else lowest - 4
        if not math.isfinite(start) or since[k] >= until[k]:
            since[k], until[k] = np.inf, 0  # Never has room: two labels at one position.
            continue
        end = math.log2(until[k]) if math.isfinite(until[k]) else _MAX_ZOOM
        ranges[i] = [round(start + 0.005, 2), round(end, 2)]
    return ranges


def _finite(value: float | None) -> bool:
    return value is not None and math.isfinite(value)


def _round(value: float | None) -> float | None:
    return float(f"{value:.6g}") if value is not None and math.isfinite(value) else None
