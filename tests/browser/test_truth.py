"""Statements of the page are correct: counts, missing files with reasons, themes, URLs."""

from __future__ import annotations

import re
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Page, Route, expect

from tests.browser.opened import Opened

Open = Callable[..., Opened]
CENTRE = (600, 400)
GROUND = {"dark": (14, 17, 23), "light": (251, 251, 249)}


def inked(picture: Image.Image) -> int:
    """Pixels of the map's own part that are not ground."""
    pixels = np.asarray(picture.crop((330, 0, 1140, 740))).astype(int)
    return int((np.abs(pixels - GROUND["dark"]).max(axis=2) > 25).sum())


def coloured(picture: Image.Image) -> int:
    pixels = np.asarray(picture.crop((330, 0, 1140, 740))).astype(int)
    return int((np.ptp(pixels, axis=2) > 45).sum())


def badge(page: Page) -> str:
    return re.sub(r"\s+", " ", page.locator(".badge").text_content()).strip()


def missing(route: Route) -> None:
    route.fulfill(status=404, body="no")


def in_view(data, view: tuple[float, float, float]) -> int:
    x, y, span = view
    near = np.abs(data.coordinates - (x, y)) <= np.array([600, 400]) * span / 800
    return int(near.all(axis=1).sum())


def test_the_badge_counts_the_documents_in_view(site, opened: Open) -> None:
    it = opened()
    # The first is in the address that is opened, the others are gone to.
    for view in ("0,10,3", "10,0,0.6", "7,7,1.7", "0,0,24"):
        page = it.goto(site.url(f"#v={view}"))
        seen = it.view()
        assert np.allclose(seen, [float(value) for value in view.split(",")], atol=1e-3), "it is there"
        told = re.match(r"(?:All )?([\d,]+)(?: of 20,000)? documents drawn", badge(page))
        assert told, badge(page)
        # A point's place is stored in steps of a tile: one at the very edge may fall on the other side.
        assert abs(int(told[1].replace(",", "")) - in_view(site.data, seen)) <= 3, view
        assert badge(page).startswith("All") == (in_view(site.data, seen) == 20_000)
        if not badge(page).startswith("All"):
            assert badge(page).endswith("all that are in view")


def test_an_empty_view_is_reported_and_leads_back(site, opened: Open) -> None:
    it = opened()
    page = it.goto(site.url("#v=0,0,2"))
    assert in_view(site.data, it.view()) == 0
    assert badge(page) == "No document is in view Back to the map"
    page.get_by_role("button", name="Back to the map").click()
    it.settled()
    assert badge(page) == "All 20,000 documents drawn"


def test_the_map_cannot_be_left(site, opened: Open) -> None:
    it = opened()
    it.goto(site.url("#v=1e30,-1e30,20"))
    x, y, span = it.view()
    low, high = site.data.coordinates.min(axis=0), site.data.coordinates.max(axis=0)
    assert x - 0.75 * span < high[0]
    assert y + 0.5 * span > low[1]


def test_while_a_column_loads_points_are_grey_and_the_page_says_so(site, opened: Open) -> None:
    it = opened()
    page = it.goto(site.url())
    before = it.picture()
    held: list[Route] = []
    page.route("**/cols/**", lambda route: held.append(route))
    page.get_by_label("Colour by").select_option(label="kind")
    expect(page.locator(".badge")).to_contain_text("reading kind: points are grey until then")
    expect(page.locator(".badge .pulse")).to_be_visible()
    it.until(lambda: bool(held), "the column is asked for")
    page.evaluate("() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")
    page.mouse.move(600, 790)
    it.until(lambda: coloured(shot(page)) < 0.2 * coloured(before), "the points are grey")
    assert inked(shot(page)) > 0.6 * inked(before), "and all there"
    page.route("**/cols/**", lambda route: route.continue_())
    for route in held:
        route.continue_()
    assert coloured(it.picture()) > 10_000
    assert badge(page) == "All 20,000 documents drawn"


def until_ground(it: Opened, ground: tuple[int, ...]) -> None:
    it.until(lambda: tuple(np.asarray(shot(it.page))[790, 700]) == ground, f"the ground is {ground}")


def shot(page: Page) -> Image.Image:
    import io

    return Image.open(io.BytesIO(page.screenshot())).convert("RGB")


def test_panels_opened_by_a_url_wait_for_the_manifest(site, opened: Open) -> None:
    it = opened()
    held: list[Route] = []
    it.page.route("**/manifest.json", lambda route: held.append(route))
    page = it.goto(site.url("#o=filters,selection,tags,documents,quality"), ready=False)
    there = "names => names.every(name => performance.getEntriesByType('resource').some(e => e.name.includes(name)))"
    page.wait_for_function(there, arg=["selection-panel", "tags-panel"])
    expect(page.locator("[data-panel] .card.loading")).to_have_count(2)
    it.until(lambda: bool(held), "the manifest is asked for")
    held[0].continue_()
    it.ready()
    expect(page.locator("[data-panel] .card.loading")).to_have_count(0)
    expect(page.get_by_role("complementary", name="Tags").get_by_role("status")).to_have_text("No tag yet")


def test_a_column_that_is_missing_leaves_grey_points_a_sentence_and_another_try(site, opened: Open) -> None:
    it = opened(errors=True)
    page = it.goto(site.url())
    before = it.picture()
    page.route("**/cols/**", missing)
    page.get_by_label("Colour by").select_option(label="kind")
    expect(page.locator(".badge")).to_contain_text("kind could not be read for 20,000 documents, which are grey")
    expect(page.get_by_role("alert")).to_contain_text(re.compile(r"cols/c1/.*parquet is missing on the server"))
    grey = it.picture()
    assert inked(grey) > 0.6 * inked(before)
    assert coloured(grey) < 0.2 * coloured(before)
    page.unroute("**/cols/**")
    page.get_by_role("alert").get_by_role("button", name="Try again").click()
    assert coloured(it.picture()) > 10_000
    expect(page.get_by_role("alert")).to_have_count(0)
    assert badge(page) == "All 20,000 documents drawn"


@pytest.mark.parametrize(
    ("file", "says"),
    [
        ("labels.json", "Clusters:"),
        ("clusters.json", "Outlines and keyphrases of clusters:"),
        ("index.json", "Columns:"),
    ],
)
@pytest.mark.parametrize("how", ["missing", "cut"])
def test_the_map_is_drawn_without_each_of_its_side_files(site, opened: Open, file: str, says: str, how: str) -> None:
    it = opened(errors=True)
    address = f"**/{file}"
    it.page.route(address, missing if how == "missing" else lambda route: route.fulfill(body='{"layers":'))
    page = it.goto(site.url("#i=1.0"))
    alert = page.get_by_role("alert")
    expect(alert).to_contain_text(says)
    expect(alert).to_contain_text(f"{file} is {'missing on the server' if how == 'missing' else 'not JSON'}")
    assert inked(it.picture()) > 10_000
    assert badge(page) == "All 20,000 documents drawn"
    page.unroute(address)
    alert.get_by_role("button", name="Try again").click()
    expect(alert).to_have_count(0)
    it.settled()
    expect(page.get_by_role("treeitem", name=re.compile("^amber region"))).to_have_attribute("aria-selected", "true")
    expect(page.get_by_label("Colour by").locator("option")).to_have_count(9)
    expect(page.get_by_role("complementary", name="Chosen cluster")).to_be_visible()


def test_documents_of_a_tile_that_is_missing_are_missed_by_the_badge(site, opened: Open) -> None:
    it = opened(errors=True)
    it.page.route(re.compile(r"/tiles/1-"), missing)
    page = it.goto(site.url())
    assert re.match(
        r"16,384 of 20,000 documents drawn · 3,616 documents around here missing: \d files could not be read Try again",
        badge(page),
    ), badge(page)
    page.get_by_role("button", name="Dismiss").click()
    it.settled()
    assert "missing" in badge(page), "what is dismissed is still true"
    page.unroute(re.compile(r"/tiles/1-"))
    page.locator(".badge").get_by_role("button", name="Try again").click()
    it.ready()
    assert badge(page) == "All 20,000 documents drawn"


def test_a_damaged_file_is_named_with_the_cause(site, opened: Open) -> None:
    it = opened(errors=True)
    it.page.route("**/tiles/0-0-0.parquet", lambda route: route.fulfill(body=route.fetch().body()[:5000]))
    page = it.goto(site.url())
    expect(page.get_by_role("alert")).to_contain_text(
        re.compile(r"Points:.*tiles/0-0-0.parquet is damaged or cut off: ")
    )


def test_a_server_that_stumbles_is_asked_again(site, opened: Open) -> None:
    it = opened(errors=True)
    asked: list[str] = []

    def stumble(route: Route) -> None:
        asked.append(route.request.url)
        if len(asked) < 3:
            route.fulfill(status=503, body="busy")
        else:
            route.continue_()

    it.page.route("**/labels.json", stumble)
    page = it.goto(site.url())
    expect(page.get_by_role("treeitem", name=re.compile("^amber region"))).to_be_visible()
    assert len(asked) == 3
    expect(page.get_by_role("alert")).to_have_count(0)


@pytest.mark.parametrize("scheme", [pytest.param("dark", marks=pytest.mark.slow), "light"])
def test_before_the_script_runs_the_page_has_its_theme_and_blames_nobody(site, opened: Open, scheme: str) -> None:
    held: list[Route] = []
    for rest, theme in (("", scheme), ("#t=light", "light"), ("#t=dark", "dark")):
        it = opened(scheme=scheme)
        page = it.page
        page.route(
            re.compile(r"/assets/index\."),
            lambda route: held.append(route) if route.request.url.endswith(".js") else route.continue_(),
        )
        page.goto(site.url(rest), wait_until="commit")
        expect(page.get_by_text("The map is loading.")).to_be_visible()
        # The style, too, is a file that comes when it comes; the script is held all the while.
        until_ground(it, GROUND[theme])
        expect(page.get_by_text("opened as a file")).to_be_hidden()
        it.until(lambda: bool(held), "the script is asked for")
        held.pop().continue_()
        it.ready()


def test_a_script_that_fails_to_load_is_reported(site, opened: Open) -> None:
    it = opened(errors=True)
    it.page.route(re.compile(r"/assets/index\..*js"), lambda route: route.abort())
    it.page.goto(site.url())
    expect(it.page.get_by_text("The page's script did not arrive")).to_be_visible()
    expect(it.page.get_by_text("opened as a file")).to_be_hidden()


def test_back_and_forward_step_through_choices(site, opened: Open) -> None:
    it = opened()
    page = it.goto(site.url())
    it.settled()
    page.evaluate("window.here = true")
    region = page.get_by_role("treeitem", name=re.compile("^basin region"))
    region.click()
    it.settled()
    page.get_by_label("Colour by").select_option(label="kind")
    it.settled()
    page.keyboard.press("+")
    it.settled()
    page.go_back()
    expect(page.get_by_label("Colour by").locator("option:checked")).to_have_text("Cluster")
    expect(region).to_have_attribute("aria-selected", "true")
    it.settled()
    page.go_back()
    expect(region).to_have_attribute("aria-selected", "false")
    it.settled()
    page.go_forward()
    expect(region).to_have_attribute("aria-selected", "true")
    it.settled()
    page.evaluate("location.hash = '#c=@kind&k=@kind%203&z=2&p=8'")
    expect(page.get_by_role("complementary", name="Pinned document")).to_contain_text("Document number 1 ")
    expect(page.locator(".categories .row[aria-pressed=true] .name")).to_have_text("kind 3")
    expect(region).to_have_attribute("aria-selected", "false")
    assert page.evaluate("window.here"), "the page was not loaded again"
    page.go_back()
    expect(page.get_by_role("complementary", name="Pinned document")).to_have_count(0)
    expect(region).to_have_attribute("aria-selected", "true")


def test_a_url_names_columns_and_missing_ones_are_reported(site, opened: Open) -> None:
    it = opened()
    page = it.goto(site.url("#c=@no%20such"))
    expect(page.get_by_role("alert")).to_contain_text("This map has no column no such to colour by.")
    expect(page.get_by_label("Colour by").locator("option:checked")).to_have_text("Cluster")
    page.get_by_label("Colour by").select_option(label="__proto__")
    page.locator(".categories .row").first.click()
    assert re.search(r"c=%40__proto__&k=%40proto%20\d", it.address())


def test_invalid_parts_of_a_url_are_reported_and_ignored(site, opened: Open) -> None:
    it = opened()
    page = it.goto(site.url("#c=@no%20such&f.@nowhere=1..2&w=@nothing"))
    alert = page.get_by_role("alert")
    expect(alert).to_contain_text("This map has no column no such to colour by.")
    expect(alert).to_contain_text("This map has no column nowhere to filter by.")
    expect(alert).to_contain_text("This map has no numbers nothing to size points by.")
    assert "#" not in it.address()


def test_a_click_on_a_label_chooses_its_cluster(site, opened: Open) -> None:
    it = opened()
    page = it.goto(site.url())
    box = next(
        b
        for b, text in zip(
            it.boxes("#labels .label:not(.hidden)"),
            page.locator("#labels .label:not(.hidden)").all_text_contents(),
            strict=True,
        )
        if text == "cedar region"
    )
    place = (box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    it.point(place)
    expect(page.locator("#overlay .hull")).to_have_count(1)
    page.mouse.click(*place)
    expect(page.get_by_role("complementary", name="Chosen cluster")).to_contain_text("cedar region")
    page.get_by_role("button", name="Zoom to it").click()
    x, y, span = it.view()
    inside = site.data.coordinates[(site.data.clusters >= 0) & (site.data.clusters // 4 == 2)]
    assert (np.abs(inside - (x, y)) < np.array([0.75, 0.5]) * span).all()


def test_on_a_phone_the_list_makes_room_for_the_cluster_that_is_chosen(site, opened: Open) -> None:
    it = opened()
    it.page.set_viewport_size({"width": 390, "height": 844})
    page = it.goto(site.url())
    page.get_by_role("button", name="Synthetic map").click()
    page.get_by_role("treeitem", name=re.compile("^delta region")).click()
    card = page.get_by_role("complementary", name="Chosen cluster")
    expect(card).to_contain_text("delta region")
    expect(page.locator(".panel")).to_have_count(0)
    assert it.box(".framed")["y"] > 350


def test_a_lost_graphics_context_is_recreated(site, opened: Open) -> None:
    it = opened(errors=True)
    page = it.goto(site.url("#v=10,0,4&i=0.0"))
    before = it.picture()
    lose = "document.getElementById('canvas').getContext('webgl2').getExtension('WEBGL_lose_context').loseContext()"
    page.evaluate("document.getElementById('canvas').lost = true")
    page.evaluate(lose)
    it.until(lambda: page.evaluate("!document.getElementById('canvas').lost"), "the canvas is another one")
    it.ready()
    difference = np.abs(np.asarray(it.picture()).astype(int) - np.asarray(before)).max(axis=2)
    assert (difference > 40).mean() < 0.002, "the same picture"
    expect(page.get_by_role("alert")).to_have_count(0)
    page.keyboard.press("+")
    assert it.view()[2] < 4
    for _ in range(2):
        page.evaluate("document.getElementById('canvas').lost = true")
        page.evaluate(lose)
        it.until(
            lambda: page.evaluate(
                "!document.getElementById('canvas').lost || document.querySelector('.veil') !== null"
            ),
            "lost again",
        )
        # The map is drawn on it a while after it is there: lost before that, nobody hears of it.
        it.settled()
    expect(page.get_by_role("alert")).to_contain_text("keeps dropping the map")
    page.get_by_role("button", name="Try again").click()
    it.ready()
    expect(page.get_by_role("alert")).to_have_count(0)
