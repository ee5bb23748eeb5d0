"""The page's colours of clusters, for pictures that are drawn in Python."""

from __future__ import annotations

import json
from functools import cache
from importlib.resources import files
from typing import Any, Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from latentscale.viewer.labels import cluster_hues

Theme = Literal["dark", "light"]


@cache
def _palette() -> dict[str, Any]:
    # The page is built from the same file.
    return json.loads((files("latentscale.viewer") / "palette.json").read_text(encoding="ascii"))


def cluster_colors(labels: pa.Table, *, theme: Theme) -> NDArray[np.uint8]:
    """Colours of the clusters of layer 0, uint8 of shape (n_clusters, 3), by cluster id.

    Parameters
    ----------
    labels : pyarrow.Table
        As in ``labels.parquet``.
    """
    hues, shades = cluster_hues(labels)
    finest = np.flatnonzero(labels["layer"].to_numpy() == 0)
    ids = labels["cluster"].to_numpy()[finest]
    colors = np.zeros((int(ids.max()) + 1 if len(ids) else 0, 3), dtype=np.uint8)
    for row, cluster in zip(finest, ids, strict=True):
        colors[cluster] = cluster_color(int(hues[row]), float(shades[row]), theme=theme)
    return colors


def cluster_color(hue: int, shade: float, *, theme: Theme) -> tuple[int, int, int]:
    """The colour of a cluster of ``hue`` (0–11), varied by its ``shade`` (-1–1)."""
    lightness, chroma, angle = _palette()["hues"][hue % 12]
    return oklch(
        lightness + _palette()["lift"][theme] + 0.055 * shade, chroma * (1 - 0.12 * abs(shade)), angle + 11 * shade
    )


def grey(use: Literal["ground", "noise"], *, theme: Theme) -> tuple[int, int, int]:
    """The page's background colour, or that of noise points."""
    red, green, blue = _palette()[use][theme]
    return red, green, blue


def oklch(lightness: float, chroma: float, hue: float) -> tuple[int, int, int]:
    """Convert an OKLCH colour (Ottosson 2020) to sRGB bytes; out of gamut, chroma is lowered until it fits."""
    angle = np.deg2rad(hue)
    while True:
        rgb = _oklab(lightness, chroma * np.cos(angle), chroma * np.sin(angle))
        if chroma < 0.002 or bool(((rgb >= -0.002) & (rgb <= 1.002)).all()):
            linear = rgb.clip(0, 1)
            encoded = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
            red, green, blue = (255 * encoded).round().astype(int).tolist()
            return red, green, blue
        chroma *= 0.92


def _oklab(lightness: float, a: float, b: float) -> NDArray[np.float64]:
    roots = np.array(
        [
            lightness + 0.3963377774 * a + 0.2158037573 * b,
            lightness - 0.1055613458 * a - 0.0638541728 * b,
            lightness - 0.0894841775 * a - 1.291485548 * b,
        ]
    )
    to_rgb = np.array(
        [
            [4.0767416621, -3.3077115913, 0.2309699292],
            [-1.2684380046, 2.6097574011, -0.3413193965],
            [-0.0041960863, -0.7034186147, 1.707614701],
        ]
    )
    return to_rgb @ roots**3
