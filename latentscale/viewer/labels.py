"""Choose each cluster's hue and the zooms at which its label has room, once, when the map is published."""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

HUES = 12
_LINE = 168  # px: a label wraps at this width, in the page's style sheet as here
_NEVER = 99.0


def label_entries(labels: pa.Table, *, side: float) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """What ``labels.json`` and ``clusters.json`` hold.

    Parameters
    ----------
    labels : pyarrow.Table
        As ``ViewerData.labels``.
    side : float
        Edge of the map's square, in its own units.

    Returns
    -------
    labels : dict
        ``layers`` (number of layers), ``hue_layer``, and ``clusters``: per cluster and layer its id, layer, label,
        parent, place, sizes, ``hue`` (0–11), ``shade`` (-1–1), ``px`` (font size) and ``zoom`` (from, to): base-2
        logarithms of the pixels a unit of the map, or null for a label without a place.
    details : list of dict
        In the same order: source, keyphrases, exemplars, hull.
    """
    rows = sorted(labels.to_pylist(), key=lambda row: (row["layer"], -row["size"], row["cluster"]))
    layers = max((row["layer"] for row in rows), default=-1) + 1
    hue_layer, hues, shades = _colours(rows, layers=layers)
    sizes = _font_sizes(rows, layers=layers)
    # Three or four clusters say little, and their labels would cover those of the layer that has the hues.
    drawn = [row if not hue_layer or row["layer"] <= hue_layer else {**row, "label": ""} for row in rows]
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
                "size": row["size"],
                "nearest": row["nearest_size"],
                "hue": int(hues[i]),
                "shade": round(float(shades[i]), 3),
                "px": int(sizes[i]),
                "zoom": zooms[i],
            }
        )
        details.append(
            {
                "source": row["source"],
                "keyphrases": list(row["keyphrases"] or []),
                "exemplars": list(row["exemplars"] or []),
                "hull": [_round(v) for v in row["hull"] or []],
            }
        )
    return {"layers": layers, "hue_layer": hue_layer, "clusters": clusters}, details


def cluster_hues(labels: pa.Table) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """The hue (0–11) and shade (-1–1) of each row of ``labels``, which is as ``ViewerData.labels``."""
    rows = labels.to_pylist()
    order = sorted(range(len(rows)), key=lambda i: (rows[i]["layer"], -rows[i]["size"], rows[i]["cluster"]))
    layers = max((row["layer"] for row in rows), default=-1) + 1
    _, hues, shades = _colours([rows[i] for i in order], layers=layers)
    back = np.argsort(order)
    return hues[back], shades[back]


def _colours(rows: Sequence[dict[str, Any]], *, layers: int) -> tuple[int, NDArray[np.int64], NDArray[np.float64]]:
    """A hue for each cluster of one layer, so that neighbours differ; shades of it for what lies below."""
    index = {(row["layer"], row["cluster"]): i for i, row in enumerate(rows)}
    counts = np.bincount([row["layer"] for row in rows], minlength=max(layers, 1))
    # The coarsest layer that has enough clusters to tell apart; two or three hues would waste the palette.
    hue_layer = next((layer for layer in range(layers - 1, 0, -1) if counts[layer] >= 5), 0)
    hues = np.zeros(len(rows), np.int64)
    shades = np.zeros(len(rows))
    seeds = [i for i, row in enumerate(rows) if row["layer"] == hue_layer]
    place = np.array([[row["x"] or 0.0, row["y"] or 0.0] for row in rows], np.float64).reshape(-1, 2)
    spread = float(np.ptp(place, axis=0).max()) or 1.0 if len(rows) else 1.0
    given: list[int] = []
    for i in seeds:  # by size: the largest choose first
        cost = np.bincount(hues[given], minlength=HUES).astype(np.float64) * 0.5
        for j in given:
            near = 1 / (0.05 + float(np.hypot(*(place[i] - place[j]))) / spread)
            # Hues that stand side by side in the palette are alike too, though less.
            cost[hues[j]] += near
            cost[(hues[j] + 1) % HUES] += 0.2 * near
            cost[(hues[j] - 1) % HUES] += 0.2 * near
        hues[i] = int(np.argmin(cost))
        given.append(i)
    for layer in range(hue_layer - 1, -1, -1):
        families: dict[int, list[int]] = {}
        for i, row in enumerate(rows):
            if row["layer"] == layer:
                parent = index.get((layer + 1, row["parent"]))
                hues[i] = hues[parent] if parent is not None else row["cluster"] % HUES
                families.setdefault(-1 if parent is None else parent, []).append(i)
        for parent, children in families.items():
            # Siblings that lie side by side get shades far apart (van der Corput's sequence).
            children.sort(key=lambda i: (place[i, 0] + place[i, 1], rows[i]["cluster"]))
            base = shades[parent] * 0.5 if parent >= 0 else 0.0
            for k, i in enumerate(children):
                shades[i] = (
                    float(np.clip(base + (2 * _van_der_corput(k + 1) - 1), -1, 1)) if len(children) > 1 else base
                )
    for layer in range(hue_layer + 1, layers):
        for i, row in enumerate(rows):
            if row["layer"] == layer:
                below = [j for j, r in enumerate(rows) if r["layer"] == layer - 1 and r["parent"] == row["cluster"]]
                hues[i] = hues[below[0]] if below else row["cluster"] % HUES
    return hue_layer, hues, shades


def _van_der_corput(k: int) -> float:
    value, base = 0.0, 0.5
    while k:
        value += base * (k & 1)
        k >>= 1
        base /= 2
    return value


def _font_sizes(rows: Sequence[dict[str, Any]], *, layers: int) -> NDArray[np.int64]:
    """12–14 px on layer 0 by size, up to 19 px on the coarsest."""
    sizes = np.zeros(len(rows), np.int64)
    for layer in range(layers):
        at = [i for i, row in enumerate(rows) if row["layer"] == layer]
        largest = max(math.log(1 + rows[i]["size"]) for i in at) if at else 1.0
        base = 12 if layer == 0 else 15 + 2 * (layer - 1) / max(1, layers - 2) if layers > 2 else 15
        for i in at:
            weight = math.log(1 + rows[i]["size"]) / (largest or 1.0)
            sizes[i] = round(base + 2 * max(0.0, (weight - 0.6) / 0.4))
    return sizes


def _box(text: str, px: int) -> tuple[float, float]:
    """Width and height in px that the page's style sheet gives a label, a little on the safe side."""
    width = px * sum(1.0 if unicodedata.east_asian_width(c) in "WF" else 0.57 for c in text)
    line = _LINE * px / 13
    lines = max(1, math.ceil(width / line))
    # Words do not break evenly: the widest of several lines comes near the limit.
    return min(width, line) + 14, lines * px * 1.22 + 6


def _zoom_ranges(
    rows: Sequence[dict[str, Any]], *, sizes: NDArray[np.int64], layers: int, side: float
) -> list[list[float] | None]:
    """The zooms between which each label is shown.

    A label shows from the scale on at which its box is clear of the boxes of all that come before it (coarser layers
    first, then by size). Zooming in only moves boxes apart, so a label that shows never disappears for lack of
    room, and panning changes nothing. A coarse label ends where its cluster is wider than a screen.
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
        # One that comes later than this one ends cannot be in its way.
        clear = np.where(since[:k] < until[k], clear, 0)
        since[k] = clear.max() if k else 0.0
        start = max(lowest - 4, math.log2(since[k])) if since[k] > 0 else lowest - 4
        if not math.isfinite(start) or since[k] >= until[k]:
            since[k], until[k] = np.inf, 0  # Never has room: two labels at one place.
            continue
        end = math.log2(until[k]) if math.isfinite(until[k]) else _NEVER
        ranges[i] = [round(start + 0.005, 2), round(end, 2)]
    return ranges


def _finite(value: float | None) -> bool:
    return value is not None and math.isfinite(value)


def _round(value: float | None) -> float | None:
    return float(f"{value:.6g}") if value is not None and math.isfinite(value) else None
