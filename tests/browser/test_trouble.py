"""The page when the corpus is hostile, files are missing or the browser cannot draw."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from tests.browser.opened import Opened

Open = Callable[..., Opened]


@pytest.fixture(scope="module")
def hostile(make_site):
    return make_site(600, hostile=True)


def test_markup_in_texts_labels_and_column_names_is_shown_and_not_run(hostile, opened: Open, synthetic) -> None:
    it = opened()
    row = next(i for i in range(0, 600, 2) if hostile.data.clusters[i] == 0)
    page = it.goto(hostile.url(f"#p={3 * row + 5}"))
    panel = page.get_by_role("complementary", name="Pinned document")
    expect(panel.locator(".document-text")).to_have_text(synthetic.HOSTILE)
    it.settled()
    assert synthetic.HOSTILE in panel.locator("dt").all_text_contents()
    expect(panel).to_contain_text(f"{synthetic.HOSTILE} {row}")
    expect(panel.locator(".cluster-path")).to_contain_text(synthetic.HOSTILE)
    expect(panel.locator("a")).to_have_count(0)  # its url is javascript:
    assert synthetic.HOSTILE in page.locator("#labels .label").all_text_contents()
    x, y = hostile.data.coordinates[row]
    page = it.goto("about:blank", ready=False)
    page = it.goto(hostile.url(f"#v={x:.6f},{y:.6f},0.05"))
    expect(it.hover((600, 400)).locator("p")).to_have_text(synthetic.HOSTILE)
    page.get_by_label("Find documents and clusters").fill("<img")
    expect(page.locator(".topics .row:not(.context)")).to_contain_text([synthetic.HOSTILE])
    assert page.locator("img").count() == 0
    assert page.title() == "Synthetic map"


def test_a_missing_manifest_is_explained(hostile, opened: Open, tmp_path: Path) -> None:
    it = opened(errors=True)
    moved = hostile.folder / "viewer/manifest.json"
    kept = moved.read_bytes()
    moved.unlink()
    try:
        page = it.goto(hostile.url(), ready=False)
        alert = page.get_by_role("alert")
        expect(alert).to_contain_text("The map's files are not here")
        expect(alert).to_contain_text("manifest.json is missing on the server")
        expect(alert).to_contain_text("latentscale view")
        moved.write_bytes(b"<html>not here</html>")
        os.utime(moved, (1_000_000_000, 1_000_000_000))
        page.reload()
        expect(page.get_by_role("alert")).to_contain_text("manifest.json is not JSON")
        # The server's dates are in whole seconds: without a new one the browser may keep what it has.
        moved.write_bytes(b'{"schema": 99, "generations": [{}]}')
        page.reload()
        expect(page.get_by_role("alert")).to_contain_text("of format 99")
    finally:
        moved.write_bytes(kept)


def test_a_viewer_folder_without_its_map_is_explained(hostile, opened: Open) -> None:
    it = opened(errors=True)
    maps = hostile.folder / "maps"
    maps.rename(hostile.folder / "elsewhere")
    try:
        page = it.goto(hostile.url(), ready=False)
        alert = page.get_by_role("alert")
        expect(alert).to_contain_text("The map's files are not here")
        expect(alert).to_contain_text("../maps/map-00000001/viewer/tiles/0-0-0.parquet is missing on the server")
        expect(alert).to_contain_text("Serve the folder above this one")
    finally:
        (hostile.folder / "elsewhere").rename(maps)
    page.get_by_role("button", name="Try again").click()
    expect(page.locator(".badge")).to_contain_text("documents drawn")


def test_a_missing_tile_is_reported_and_the_rest_is_drawn(hostile, opened: Open) -> None:
    it = opened(errors=True)
    tile = hostile.folder / "maps/map-00000001/viewer/tiles/0-0-0.parquet"
    kept = tile.read_bytes()
    tile.unlink()
    try:
        page = it.goto(hostile.url(), ready=False)
        expect(page.get_by_role("alert")).to_contain_text("tiles/0-0-0.parquet is missing on the server")
        expect(page.locator(".panel")).to_be_visible()
    finally:
        tile.write_bytes(kept)


def test_unreadable_documents_are_reported_and_requested_again(hostile, opened: Open) -> None:
    it = opened(errors=True)
    it.page.route("**/rows/*.parquet", lambda route: route.fulfill(status=404, body=""))
    page = it.goto(hostile.url("#p=5&o=documents"), ready=False)
    alert = page.get_by_role("alert")
    expect(alert).to_contain_text(re.compile("Document: .*rows/0.parquet is missing on the server"))
    expect(alert).to_contain_text(re.compile("Documents of the list: .*rows/0.parquet is missing on the server"))
    row = page.get_by_role("grid", name="Documents").get_by_role("row").first
    expect(row).to_have_text("The document could not be read.")
    page.unroute("**/rows/*.parquet")
    alert.get_by_role("button", name="Try again").click()
    expect(page.get_by_role("complementary", name="Pinned document")).to_be_visible()
    expect(row).not_to_contain_text("could not be read")
    expect(alert).to_have_count(0)


def test_a_page_opened_as_a_file_says_how_to_serve_it(hostile, opened: Open, tmp_path: Path) -> None:
    shutil.copytree(hostile.folder / "viewer", tmp_path / "viewer")
    it = opened(errors=True)
    page = it.goto((tmp_path / "viewer/index.html").as_uri(), ready=False)
    told = page.locator("#offline")
    expect(told).to_be_visible()
    expect(told.locator(".file")).to_contain_text("python -m http.server")
    expect(page.get_by_text("The map is loading.")).to_be_hidden()
    assert page.evaluate("getComputedStyle(document.body).margin") == "0px", "the style is read from a file too"


def test_a_browser_without_webgl_shows_what_is_missing(hostile, browser: Browser) -> None:
    with browser.new_context() as context:
        page = context.new_page()
        page.add_init_script(
            "HTMLCanvasElement.prototype.getContext = new Proxy(HTMLCanvasElement.prototype.getContext, "
            "{ apply: (f, self, [kind, ...rest]) => /webgl/.test(kind) ? null : f.call(self, kind, ...rest) })"
        )
        page.goto(hostile.url())
        expect(page.get_by_role("alert")).to_contain_text("WebGL 2")


def test_an_unknown_document_in_the_url_is_reported(hostile, opened: Open) -> None:
    it = opened()
    page = it.goto(hostile.url("#p=6"))
    expect(page.get_by_role("alert")).to_contain_text("No document of this map has the row id 6")


def test_a_map_of_one_document_is_a_map(make_site, opened: Open) -> None:
    it = opened()
    page = it.goto(make_site(1).url())
    expect(page.locator(".badge")).to_have_text("1 document drawn")
