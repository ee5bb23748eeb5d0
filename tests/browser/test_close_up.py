"""Maximum zoom: positions of points, their surroundings, and missing files."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from playwright.sync_api import expect

from tests.browser.opened import Opened

Open = Callable[..., Opened]
# Pixels that the map is wide there, and the window's smaller side.
WIDEST, WINDOW = 4_000_000, 800


def entry_of(folder: Path) -> dict:
    (entry,) = json.loads((folder / "viewer/manifest.json").read_text())["generations"]
    return entry


def rows_of_root(folder: Path, entry: dict) -> list[int]:
    """Rows of the corpus, by position, of the documents in the root tile."""
    files = sorted((folder / "viewer" / entry["url"] / "ids").glob("*.parquet"))
    ids = {
        int(position): (int(row_id) - 5) // 3
        for path in files
        for row_id, position in zip(
            *pq.read_table(path, columns=["row_id", "position"]).to_pydict().values(), strict=True
        )
    }
    return [ids[position] for position in range(entry["root"][0])]


def misplaced(site, entry: dict) -> list[int]:
    """Rows of the root tile that its own steps put farthest from their places: 40 pixels and more there."""
    rows = rows_of_root(site.folder, entry)
    steps = (site.data.coordinates[rows].astype(float) - entry["origin"]) / entry["side"] * 65536
    apart = np.abs(steps - np.floor(steps) - 0.5).min(axis=1)
    return [rows[i] for i in np.argsort(-apart)[:3]]


def disc(it: Opened) -> tuple[float, float]:
    """The middle of what is drawn around the middle of the window, in px."""
    picture = np.asarray(it.picture()).astype(int)[330:470, 530:670]
    inked = np.abs(picture - picture[0, 0]).max(axis=2) > 60
    assert inked.any(), "nothing is drawn near the middle"
    down, across = np.nonzero(inked)
    return 530 + across.mean() + 0.5, 330 + down.mean() + 0.5


def test_close_up_every_point_is_drawn_and_hit_at_its_position_after_reading_finer_bits(site, opened: Open) -> None:
    entry = entry_of(site.folder)
    span = entry["side"] * WINDOW / WIDEST
    it = opened()
    page = it.goto(site.url())
    assert not [url for url in it.requests if "/cols/fine/" in url]
    for row in misplaced(site, entry):
        x, y = site.data.coordinates[row].tolist()
        it.goto("about:blank", ready=False)
        page = it.goto(site.url(f"#v={x!r},{y!r},{span!r}"))
        assert it.view()[2] == pytest.approx(span, rel=1e-3), "no closer, and not less"
        middle = disc(it)
        assert middle == pytest.approx((600, 400), abs=1.2)
        expect(it.hover((600, 400))).to_contain_text(f"Document number {row} ")
        page.mouse.click(600, 400)
        expect(page.get_by_role("complementary", name="Pinned document")).to_contain_text(f"Document number {row} ")
        it.settled()
        at = page.locator("#overlay .pinned").evaluate("ring => [ring.cx.baseVal.value, ring.cy.baseVal.value]")
        assert at == pytest.approx((600, 400), abs=1.2)
    assert any("/cols/fine/0-0-0.parquet" in url for url in it.requests)


def test_a_document_that_was_pinned_before_keeps_its_ring_around_its_point(site, opened: Open) -> None:
    entry = entry_of(site.folder)
    row = misplaced(site, entry)[0]
    x, y = site.data.coordinates[row].tolist()
    it = opened()
    page = it.goto(site.url(f"#p={3 * row + 5}"))
    expect(page.get_by_role("complementary", name="Pinned document")).to_be_visible()
    it.settled()
    page.evaluate(f"location.hash = 'v={x!r},{y!r},{entry['side'] * WINDOW / WIDEST!r}&p={3 * row + 5}'")
    it.ready()
    at = page.locator("#overlay .pinned").evaluate("ring => [ring.cx.baseVal.value, ring.cy.baseVal.value]")
    assert at == pytest.approx((600, 400), abs=1.2)


def test_a_box_drawn_close_up_selects_the_visible_points(site, opened: Open) -> None:
    entry = entry_of(site.folder)
    row = misplaced(site, entry)[1]
    x, y = site.data.coordinates[row].tolist()
    it = opened()
    page = it.goto(site.url(f"#v={x!r},{y!r},{entry['side'] * WINDOW / WIDEST!r}"))
    page.locator("#canvas").focus()
    page.keyboard.press("b")
    page.mouse.move(585, 385)
    page.mouse.down()
    page.mouse.move(615, 415, steps=3)
    page.mouse.up()
    expect(page.get_by_role("complementary", name="Documents")).to_contain_text("1 document selected")
    expect(page.get_by_role("row")).to_contain_text(f"Document number {row} ")


def test_unreadable_positions_are_reported_and_requested_again(site, opened: Open) -> None:
    entry = entry_of(site.folder)
    row = misplaced(site, entry)[0]
    x, y = site.data.coordinates[row].tolist()
    it = opened(errors=True)
    it.page.route("**/cols/fine/**", lambda route: route.fulfill(status=404, body=""))
    page = it.goto(site.url(f"#v={x!r},{y!r},{entry['side'] * WINDOW / WIDEST!r}"))
    alert = page.get_by_role("alert")
    expect(alert).to_contain_text(re.compile(r"cols/fine/.*parquet is missing on the server"))
    expect(page.locator(".badge")).to_contain_text("document")
    page.unroute("**/cols/fine/**")
    alert.get_by_role("button", name="Try again").click()
    expect(alert).to_have_count(0)
    it.ready()
    assert disc(it) == pytest.approx((600, 400), abs=1.2)


def test_zoom_is_limited_for_a_map_without_finer_positions(site, opened: Open, tmp_path: Path, serve_folder) -> None:
    shutil.copytree(site.folder, tmp_path / "old")
    for path in (tmp_path / "old/maps").glob("*/viewer/cols/fine"):
        shutil.rmtree(path)
    manifest = tmp_path / "old/viewer/manifest.json"
    whole = json.loads(manifest.read_text())
    del whole["generations"][0]["fine"]
    manifest.write_text(json.dumps(whole))
    it = opened()
    entry = entry_of(site.folder)
    row = misplaced(site, entry)[0]
    x, y = site.data.coordinates[row].tolist()
    it.goto(f"{serve_folder(tmp_path)}/old/viewer/index.html#v={x!r},{y!r},{entry['side'] * WINDOW / WIDEST!r}")
    assert it.view()[2] == pytest.approx(entry["side"] * WINDOW / 262_144, rel=1e-3)
    assert disc(it) == pytest.approx((600, 400), abs=2.6)
