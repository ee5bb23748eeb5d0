"""The page at one thousand, sixty thousand and a million points: slow, and each size by the same code."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import expect

from tests.browser.opened import Opened

Open = Callable[..., Opened]
CENTRE = (600, 400)
TILE_POINTS = 16_384


def painted(picture: Image.Image) -> int:
    """Pixels of the map's own part that are not the ground."""
    pixels = np.asarray(picture.crop((330, 0, 1130, 760))).astype(int)
    return int((np.abs(pixels - (14, 17, 23)).max(axis=2) > 30).sum())


def keep(picture: Image.Image, name: str) -> None:
    """Leave the picture for somebody to look at, if they said where."""
    folder = os.environ.get("LATENTSCALE_PICTURES")
    if folder:
        picture.save(Path(folder) / f"{name}.png")


def drawn(page) -> int:
    text = page.locator(".badge").text_content()
    return int(re.search(r"([\d,]+)", text)[1].replace(",", ""))


@pytest.mark.slow
@pytest.mark.parametrize("n", [1_000, 60_000, 1_000_000])
def test_a_map_of_any_size_is_drawn_read_and_zoomed_into(n: int, make_site, opened: Open, synthetic) -> None:
    from scipy.spatial import cKDTree

    site = make_site(n, clusters=min(64, max(16, n // 5_000)), batch=8_192)
    data = site.data
    it = opened()
    sizes: dict[str, int] = {}
    it.page.on("response", lambda r: sizes.__setitem__(r.url, len(r.body())))
    page = it.goto(site.url())
    first = it.picture()
    keep(first, f"size-{n}")
    assert painted(first) > (8_000 if n > 1_000 else 2_000)
    assert sum(size for url, size in sizes.items() if "/tiles/0-0-0" in url) < 80_000

    clusters = len(set(data.clusters.tolist()) - {-1})
    share = round(100 * float((data.clusters < 0).mean()))
    facts = rf"^{n:,} documents · {clusters} clusters · {share} % noise$"
    expect(page.locator(".facts")).to_have_text(re.compile(facts))
    # The first picture leaves at most 12 % outside, the badge counts what is in the window, and a level is thinned
    # tile by tile, to about the budget of 50,000 points.
    assert drawn(page) == n if n <= TILE_POINTS else 0.88 * TILE_POINTS <= drawn(page) <= min(n, 50_500)

    # A document that the root tile does not hold, or any if that holds all.
    in_root = root_rows(site)
    assert len(in_root) == min(n, TILE_POINTS)
    candidates = np.setdiff1d(np.arange(n), in_root) if n > TILE_POINTS else np.arange(n)
    distance = cKDTree(data.coordinates).query(data.coordinates[candidates], k=2)[0][:, 1]
    row = int(candidates[distance.argmax()])
    x, y = data.coordinates[row]
    page = it.goto("about:blank", ready=False)
    page = it.goto(site.url(f"#v={x:.6f},{y:.6f},{max(4 * distance.max(), 0.05):.5f}"))
    keep(it.picture(), f"size-{n}-close")
    expect(it.hover((CENTRE[0] + 1, CENTRE[1] + 1)).locator("p")).to_have_text(synthetic.text_of(row))
    deeper = [url for url in sizes if re.search(r"/tiles/[1-9]", url)]
    assert bool(deeper) == (n > TILE_POINTS)
    page.mouse.click(*CENTRE)
    panel = page.get_by_role("complementary", name="Pinned document")
    expect(panel).to_contain_text(f"Document {int(data.row_ids[row]):,}")


@pytest.mark.slow
def test_zooming_into_a_million_points_brings_tile_after_tile(make_site, opened: Open) -> None:
    site = make_site(1_000_000, clusters=64, batch=8_192)
    it = opened()
    depths: set[int] = set()
    it.page.on("request", lambda r: depths.update(int(z) for z in re.findall(r"/tiles/(\d+)-", r.url)))
    x, y = site.data.coordinates[np.flatnonzero(site.data.clusters == 0)].mean(axis=0)
    page = it.goto(site.url(f"#v={x:.5f},{y:.5f},8"))
    seen = [max(depths)]
    for step in range(4):
        for _ in range(3):
            page.keyboard.press("+")
            it.settled()
        seen.append(max(depths))
        keep(it.picture(), f"million-{step}")
        assert painted(it.picture()) > 400
    assert seen[-1] >= seen[0] + 2
    for _ in range(3):
        page.keyboard.press("0")
    assert painted(it.picture()) > 8_000


def root_rows(site) -> np.ndarray:
    """Which documents the root tile holds, from the files as any parquet reader sees them."""
    import pyarrow.parquet as pq

    folder = site.folder / "maps/map-00000001/viewer"
    count = pq.ParquetFile(folder / "tiles/0-0-0.parquet").metadata.num_rows
    packs = sorted((folder / "rows").glob("*.parquet"), key=lambda p: int(p.stem))
    ids: list[int] = []
    for pack in packs:
        if len(ids) >= count:
            break
        ids += pq.read_table(pack, columns=["row_id"])["row_id"].to_pylist()
    return (np.array(ids[:count]) - 5) // 3
