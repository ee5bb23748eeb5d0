"""Pictures drawn in Python have the colours of the page, which uses the same file."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from latentscale.viewer.palette import Theme, cluster_colors, grey


def table(n: int) -> pa.Table:
    positions = np.random.default_rng(0).random((n, 2))
    rows = [
        {"layer": 0, "cluster": c, "size": n - c, "parent": None} | dict(zip("xy", positions[c].tolist(), strict=True))
        for c in range(n)
    ]
    return pa.Table.from_pylist(rows)


@pytest.mark.parametrize("theme", ["dark", "light"])
def test_twelve_clusters_have_twelve_colours_distinct_from_the_background(theme: Theme) -> None:
    colors = cluster_colors(table(12), theme=theme)
    assert colors.shape == (12, 3)
    assert len({tuple(c) for c in colors.tolist()}) == 12
    assert np.abs(colors.astype(int) - grey("ground", theme=theme)).max(axis=1).min() > 60


def test_noise_is_between_background_and_clusters_in_lightness() -> None:
    dark, light = grey("noise", theme="dark"), grey("noise", theme="light")
    assert max(grey("ground", theme="dark")) < min(dark) < max(light) < min(grey("ground", theme="light"))
