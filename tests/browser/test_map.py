"""The page in a real browser: drawing, reading documents, choosing and sharing."""

from __future__ import annotations

import re
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Response, expect

from tests.browser.assistive import faults
from tests.browser.opened import Opened

Open = Callable[..., Opened]
CENTRE = (600, 400)


def coloured(picture: Image.Image) -> int:
    """Pixels of the map's own part that are neither ground nor grey."""
    pixels = np.asarray(picture.crop((330, 0, 1140, 760))).astype(int)
    return int((pixels.max(axis=2) - pixels.min(axis=2) > 45).sum())


def at(picture: Image.Image, x: int, y: int, reach: int = 1) -> np.ndarray:
    return np.asarray(picture.crop((x - reach, y - reach, x + reach + 1, y + reach + 1))).astype(int).mean(axis=(0, 1))


def lonely(data, *, cluster: int | None = None) -> int:
    """A document that no other lies near, so that a pixel and a pick are its own."""
    from scipy.spatial import cKDTree

    distance = cKDTree(data.coordinates).query(data.coordinates, k=2)[0][:, 1]
    if cluster is not None:
        distance = np.where(data.clusters == cluster, distance, 0)
    else:
        distance = np.where(data.clusters >= 0, distance, 0)
    return int(distance.argmax())


def view_of(data, row: int, span: float = 1.0) -> str:
    x, y = data.coordinates[row]
    return f"#v={x:.6f},{y:.6f},{span}"


def test_points_are_drawn_in_colour_with_their_labels(site, opened: Open) -> None:
    it = opened()
    page = it.goto(site.url())
    assert coloured(it.picture()) > 10_000
    expect(page).to_have_title("Synthetic map")
    expect(page.locator(".badge")).to_have_text("All 20,000 documents drawn")
    expect(page.locator(".facts")).to_have_text(re.compile(r"^20,000 documents · 16 clusters · 20 % noise$"))
    labels = page.locator("#labels .label").all_text_contents()
    assert {"amber region", "basin region"} <= set(labels)
    assert 4 < len(labels) <= 150


def test_labels_on_the_screen_do_not_overlap(site, opened: Open) -> None:
    it = opened()
    page = it.goto(site.url())
    for _ in range(5):
        boxes = it.boxes("#labels .label:not(.hidden)")
        for i, a in enumerate(boxes):
            for b in boxes[:i]:
                apart = a["x"] + a["width"] <= b["x"] + 1 or b["x"] + b["width"] <= a["x"] + 1
                above = a["y"] + a["height"] <= b["y"] + 1 or b["y"] + b["height"] <= a["y"] + 1
                assert apart or above, (a, b)
        page.keyboard.press("+")


def test_resting_on_a_point_shows_its_text(either, opened: Open, synthetic) -> None:
    it = opened()
    for row in (lonely(either.data), lonely(either.data, cluster=3)):
        page = it.goto("about:blank", ready=False)
        page = it.goto(either.url(view_of(either.data, row)))
        expect(it.hover((CENTRE[0] + 2, CENTRE[1] + 2))).to_contain_text(synthetic.text_of(row))
        expect(page.locator("#overlay .hovered")).to_have_count(1)


def test_a_document_that_moves_under_a_resting_pointer_is_shown(site, opened: Open, synthetic) -> None:
    row = lonely(site.data, cluster=5)
    it = opened()
    page = it.goto(site.url(view_of(site.data, row, span=0.2) + "&i=1.0"))
    card = page.locator(".hover-card")
    it.point(CENTRE)
    expect(card).to_have_count(0)
    page.keyboard.press("Escape")
    expect(card).to_contain_text(synthetic.text_of(row))
    page.keyboard.press("ArrowRight")
    it.settled()
    expect(card).to_have_count(0)
    page.keyboard.press("ArrowLeft")
    expect(card).to_contain_text(synthetic.text_of(row))
    place = it.box(".hover-card")
    it.page.set_viewport_size({"width": 1300, "height": 800})
    it.settled()
    expect(card).to_have_count(0)
    it.page.set_viewport_size({"width": 1200, "height": 800})
    expect(card).to_contain_text(synthetic.text_of(row))
    assert it.box(".hover-card") == place


def test_a_server_with_ranges_sends_parts_of_row_packs_and_one_without_sends_few(either, opened: Open) -> None:
    it = opened()
    answers: list[Response] = []
    it.page.on("response", lambda answer: answers.append(answer) if "/rows/" in answer.url else None)
    it.goto(either.url(view_of(either.data, lonely(either.data))))
    expect(it.hover(CENTRE)).to_contain_text("Document number")
    it.until(lambda: bool(answers), "no answer was heard")
    sizes = [(answer.status, len(answer.body())) for answer in answers]
    statuses = {status for status, _ in sizes}
    assert statuses in ({206}, {200})
    assert sum(size for _, size in sizes) < (200_000 if statuses == {206} else 1_400_000)


def test_a_click_pins_the_document_with_all_its_columns(either, opened: Open, synthetic) -> None:
    row = lonely(either.data, cluster=5)
    it = opened()
    page = it.goto(either.url(view_of(either.data, row)))
    page.mouse.click(*CENTRE)
    panel = page.get_by_role("complementary", name="Pinned document")
    expect(panel).to_contain_text(synthetic.text_of(row))
    names = panel.locator("dt").all_text_contents()
    assert names == [name for name in either.data.columns if name != "body"]
    values = dict(zip(names, panel.locator("dd").all_text_contents(), strict=True))
    assert values["note"] == f"note {row}"
    assert values["published"] == str(np.datetime64(row % 3650, "D"))
    assert values["score"] == ("–" if row % 10 == 0 else str(row))
    assert values["__proto__"] == f"proto {row % 3}"
    links = panel.locator("a")
    if row % 2:
        expect(links).to_have_attribute("href", f"https://example.org/{row}")
        expect(links).to_have_attribute("rel", "noopener noreferrer")
    else:
        expect(links).to_have_count(0)
    page.keyboard.press("Escape")
    expect(panel).to_have_count(0)


def test_the_list_isolates_clusters_and_escape_brings_all_back(site, opened: Open) -> None:
    row = lonely(site.data, cluster=5)
    it = opened()
    page = it.goto(site.url(view_of(site.data, row, span=0.2)))
    before = at(it.picture(), *CENTRE)
    page = it.goto("about:blank", ready=False)
    page = it.goto(site.url(view_of(site.data, row, span=0.2) + "&i=1.0"))
    region = page.get_by_role("treeitem", name=re.compile("^amber region"))
    expect(region).to_have_attribute("aria-selected", "true")
    size = int(((site.data.clusters >= 0) & (site.data.clusters // 4 == 0)).sum())
    expect(page.locator(".chosen")).to_have_text(f"{size:,} of 20,000 documents")
    it.point((600, 700))
    dimmed = at(it.picture(), *CENTRE)
    assert np.ptp(dimmed) < 0.5 * np.ptp(before), "a point of another cluster loses its colour"
    it.point(CENTRE)
    expect(page.locator(".hover-card")).to_have_count(0)
    page.get_by_role("treeitem", name=re.compile("^basin region")).click()
    assert np.allclose(at(it.picture(), *CENTRE), before, atol=12), "cluster 5 is part of the second region"
    page.keyboard.press("Escape")
    expect(page.locator(".chosen")).to_have_count(0)


def test_a_cluster_that_is_out_of_sight_is_brought_into_view(site, opened: Open) -> None:
    it = opened()
    page = it.goto(site.url(view_of(site.data, lonely(site.data, cluster=5), span=0.2)))
    page.get_by_role("treeitem", name=re.compile("^basin region")).click()
    x, y, _ = it.view()
    assert np.allclose([x, y], site.data.coordinates[lonely(site.data, cluster=5)], atol=1e-4), "a part of it is seen"
    page.keyboard.press("Escape")
    page.get_by_role("treeitem", name=re.compile("^amber region")).click()
    x, y, _ = it.view()
    inside = site.data.coordinates[(site.data.clusters >= 0) & (site.data.clusters // 4 == 0)]
    assert np.hypot(*(inside - (x, y)).T).min() < 5


def test_points_take_the_colour_of_a_column(site, opened: Open) -> None:
    row = lonely(site.data, cluster=5)
    it = opened()
    page = it.goto(site.url(view_of(site.data, row, span=0.2)))
    picker = page.get_by_label("Colour by")
    seen = [at(it.picture(), *CENTRE)]
    for name in ("kind", "score", "Density", "Nearest cluster, noise too"):
        picker.select_option(label=name)
        seen.append(at(it.picture(), *CENTRE))
    assert np.abs(seen[1] - seen[2]).max() > 20
    assert np.abs(seen[2] - seen[3]).max() > 5
    assert np.allclose(seen[4], seen[0], atol=12), "the nearest cluster of a clustered point is its own"
    picker.select_option(label="kind")
    values = page.locator(".categories .row")
    expect(values).to_have_count(5)
    own = f"kind {int(site.data.nearest_clusters[row]) % 5}"
    other = next(f"kind {i}" for i in range(5) if f"kind {i}" != own)
    page.locator(".categories").get_by_role("button", name=re.compile(f"^{other}")).click()
    assert np.ptp(at(it.picture(), *CENTRE)) < 0.5 * np.ptp(seen[1])
    picker.select_option(label="score")
    expect(page.locator(".ramp")).to_contain_text("2,000 of 20,000 documents have no value")
    expect(page.locator(".ramp-ends")).to_contain_text("19,999")


def test_a_url_restores_the_view(site, opened: Open, synthetic) -> None:
    row = lonely(site.data, cluster=5)
    it = opened(scheme="dark")
    page = it.goto(site.url(view_of(site.data, row)))
    page.get_by_label("Colour by").select_option(label="published")
    page.get_by_role("treeitem", name=re.compile("^basin region")).click()
    page.get_by_role("button", name="Light page").click()
    page.mouse.click(*CENTRE)
    expect(page.get_by_role("complementary", name="Pinned document")).to_be_visible()
    # A picture of the map alone: the pointer rests on a button.
    page.get_by_role("button", name="Dark page").hover()
    shared = it.address()
    assert re.search(r"#v=.*&t=light&c=%40published.*&i=1\.1.*&p=" + str(3 * row + 5), shared)
    other = opened(scheme="dark")
    again = other.goto(shared)
    expect(again.locator("html")).to_have_attribute("data-theme", "light")
    expect(again.get_by_role("complementary", name="Pinned document")).to_contain_text(synthetic.text_of(row))
    expect(again.get_by_label("Colour by").locator("option:checked")).to_have_text("published")
    expect(again.get_by_role("treeitem", name=re.compile("^basin region"))).to_have_attribute("aria-selected", "true")
    again.get_by_role("button", name="Dark page").hover()
    difference = np.abs(np.asarray(it.picture()).astype(int) - np.asarray(other.picture())).max(axis=2)
    assert (difference > 40).mean() < 0.002, "the same picture"


@pytest.mark.parametrize(("scheme", "ground"), [("dark", (14, 17, 23)), ("light", (251, 251, 249))])
def test_the_page_follows_the_system_and_its_button(site, opened: Open, scheme: str, ground: tuple[int, ...]) -> None:
    it = opened(scheme=scheme)
    page = it.goto(site.url())
    first = it.picture()
    assert tuple(at(first, 700, 794, 2).round().astype(int)) == ground
    assert coloured(first) > 10_000
    page.keyboard.press("t")
    other = (251, 251, 249) if scheme == "dark" else (14, 17, 23)
    assert tuple(at(it.picture(), 700, 794, 2).round().astype(int)) == other


def test_keys_zoom_pan_help_and_find(site, opened: Open) -> None:
    it = opened()
    page = it.goto(site.url())
    page.keyboard.press("+")
    x, y, span = it.view()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowUp")
    moved = it.view()
    assert moved[0] > x
    assert moved[1] > y
    page.keyboard.press("-")
    assert it.view()[2] > span
    page.keyboard.press("?")
    expect(page.get_by_role("dialog")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_have_count(0)
    page.keyboard.press("/")
    page.keyboard.type("cedar")
    named = page.locator(".topics .row:not(.context) mark")
    expect(named).to_have_text(["cedar", "cedar"])
    it.settled()
    assert 2 <= page.locator(".topics .row:not(.context)").count() <= 4


def test_enter_pins_the_document_in_the_middle(site, opened: Open, synthetic) -> None:
    row = lonely(site.data, cluster=5)
    it = opened()
    page = it.goto(site.url(view_of(site.data, row)))
    page.locator("#canvas").focus()
    page.keyboard.press("Enter")
    expect(page.get_by_role("complementary", name="Pinned document")).to_contain_text(synthetic.text_of(row))


def test_tab_reaches_the_map_its_buttons_and_the_list(site, opened: Open) -> None:
    it = opened()
    page = it.goto(site.url())
    names: list[str] = []
    for _ in range(21):
        page.keyboard.press("Tab")
        names.append(
            page.evaluate(
                "() => document.activeElement.getAttribute('aria-label') || document.activeElement.textContent"
            )
        )
    for name in ("Zoom in", "Show the whole map", "Help", "Close the list", "Find documents and clusters"):
        assert name in names
    assert names[0].startswith("Map of the documents")
    assert any(name.startswith("amber region") for name in names)
    page.get_by_role("button", name="Close the list").focus()
    page.keyboard.press("Enter")
    expect(page.locator(".panel-opener")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.get_by_role("button", name="Close the list")).to_be_focused()
    page.keyboard.press("?")
    expect(page.get_by_role("dialog").get_by_role("button")).to_be_focused()
    page.keyboard.press("Escape")
    expect(page.get_by_role("button", name="Close the list")).to_be_focused()


def test_the_legend_is_used_by_keys(site, opened: Open) -> None:
    it = opened()
    page = it.goto(site.url())
    row = page.locator(".topics .row").first
    row.focus()
    page.keyboard.press("Enter")
    expect(row).to_have_attribute("aria-selected", "true")
    page.keyboard.press("Space")
    expect(row).to_have_attribute("aria-selected", "false")


def test_the_first_view_frames_the_body_and_the_whole_map_its_outliers(make_site, opened: Open) -> None:
    site = make_site(4_000, outliers=20)
    it = opened()
    page = it.goto(site.url())
    body = coloured(it.picture())
    page.keyboard.press("0")
    assert it.view()[2] > 100, "the outliers lie a hundred units away"
    assert coloured(it.picture()) < 0.2 * body
    page.keyboard.press("Home")
    assert it.view()[2] < 40
    assert abs(coloured(it.picture()) - body) < 0.1 * body


def test_no_label_is_cut_by_a_panel_or_the_window(site, opened: Open) -> None:
    it = opened()
    page = it.goto(site.url())
    for key in ("+", "ArrowLeft", "ArrowUp", "+", "ArrowRight"):
        page.keyboard.press(key)
        walls = [it.boxes(s)[0] for s in (".panel", ".toolbar .card", ".badge")]
        labels = it.boxes("#labels .label:not(.hidden)")
        assert labels
        for box in labels:
            assert box["x"] >= 0
            assert box["y"] >= 0
            assert box["x"] + box["width"] <= 1200
            assert box["y"] + box["height"] <= 800
            for wall in walls:
                beside = box["x"] + box["width"] <= wall["x"] or wall["x"] + wall["width"] <= box["x"]
                above = box["y"] + box["height"] <= wall["y"] or wall["y"] + wall["height"] <= box["y"]
                assert beside or above, (box, wall)


def test_the_wheel_zooms_and_a_drag_moves(site, opened: Open) -> None:
    it = opened()
    page = it.goto(site.url())
    page.mouse.move(*CENTRE)
    page.mouse.wheel(0, -600)
    expect(page).to_have_url(re.compile("#v="))
    zoomed = it.view()
    page.mouse.down()
    page.mouse.move(500, 300, steps=5)
    page.mouse.up()
    moved = it.view()
    assert moved[0] > zoomed[0]
    assert moved[1] < zoomed[1]
    assert moved[2] == zoomed[2]


def test_a_sample_says_of_how_many(make_site, opened: Open) -> None:
    site = make_site(70_000)
    it = opened()
    page = it.goto(site.url())
    # Software drawing: fifty thousand points at most.
    text = page.locator(".badge").text_content()
    drawn = int(re.match(r"([\d,]+) of 70,000 documents drawn", text)[1].replace(",", ""))
    # The budget is kept as if points lay evenly in their tiles.
    assert 16_384 <= drawn <= 52_500
    assert "as many as this machine draws smoothly" in text


COUNT_FRAMES = """() => {
  const { prototype } = WebGL2RenderingContext;
  const draw = prototype.drawArrays;
  window.frames_drawn = new Set();
  prototype.drawArrays = function (...given) {
    window.frames_drawn.add(document.timeline.currentTime);
    return draw.apply(this, given);
  };
}"""


def test_points_are_drawn_again_only_when_something_of_them_changes(site, opened: Open) -> None:
    it = opened()
    page = it.goto(site.url(view_of(site.data, lonely(site.data, cluster=5))))
    page.evaluate(COUNT_FRAMES)

    def drawn() -> int:
        it.settled()
        return page.evaluate("() => { const { size } = frames_drawn; frames_drawn.clear(); return size; }")

    it.hover(CENTRE)
    page.mouse.click(*CENTRE)
    expect(page.get_by_role("complementary", name="Pinned document")).to_be_visible()
    page.keyboard.press("Escape")
    page.keyboard.press("s")
    page.keyboard.press("q")
    assert drawn() == 0, "a ring, a card and panels lie over the points"
    page.keyboard.press("t")
    assert drawn() == 1
    page.keyboard.press("ArrowRight")
    assert drawn() > 0
    page.keyboard.press("ArrowLeft")
    assert drawn() == 1, "all tiles are here"
    page.get_by_role("treeitem", name=re.compile("^amber region")).click()
    assert drawn() > 0


def test_the_first_picture_costs_little(site, opened: Open) -> None:
    it = opened()
    sent: dict[str, int] = {}
    it.page.on("response", lambda r: sent.__setitem__(r.url, len(r.body())))
    it.goto(site.url())
    data = sum(size for url, size in sent.items() if "/assets/" not in url)
    assert data < 160_000
    assert not [url for url in sent if "/rows/" in url or "/cols/" in url]


def test_chosen_clusters_show_their_exemplars(site, opened: Open) -> None:
    it = opened()
    page = it.goto(site.url())
    page.get_by_role("treeitem", name=re.compile("^cedar region")).click()
    panel = page.get_by_role("complementary", name="Chosen cluster")
    expect(panel.locator(".exemplar")).to_have_count(3)
    expect(panel).to_contain_text("of 20,000 documents")
    panel.locator(".exemplar").first.click()
    expect(page.get_by_role("complementary", name="Pinned document")).to_be_visible()


def test_a_small_window_keeps_the_map_in_sight(site, opened: Open) -> None:
    it = opened()
    it.page.set_viewport_size({"width": 390, "height": 760})
    page = it.goto(site.url())
    expect(page.locator(".panel")).to_have_count(0)
    page.get_by_role("button", name="Synthetic map").click()
    expect(page.locator(".panel")).to_be_visible()


def test_the_page_is_accessible(site, opened: Open) -> None:
    for scheme in ("dark", "light"):
        it = opened(scheme=scheme)
        page = it.goto(site.url(view_of(site.data, lonely(site.data))))
        page.mouse.click(*CENTRE)
        expect(page.get_by_role("complementary", name="Pinned document")).to_be_visible()
        assert faults(page) == []
