"""A rotated 3-D map: transitions, hovering, and its link."""

from __future__ import annotations

import math
import re
from collections.abc import Callable

import numpy as np
import pytest
from playwright.sync_api import expect
from scipy.spatial import cKDTree

from tests.browser.assistive import faults
from tests.browser.opened import Opened

Open = Callable[..., Opened]
WIDTH, HEIGHT = 1200, 800
FOCUS = 1.65


@pytest.fixture(scope="session")
def spatial(make_site):
    return make_site(20_000, heights=True)


def positions(data) -> np.ndarray:
    return np.column_stack([data.coordinates, data.height.z]).astype(float)


def apart(data, view: dict) -> int:
    """A document of a cluster that no other is near on the screen, whatever lies before or behind it."""
    space = positions(data)
    lonely = cKDTree(space).query(space, k=2)[0][:, 1]
    lonely[(data.clusters < 0) | (np.abs(space[:, :2]).max(axis=1) > 12)] = 0
    for row in np.argsort(-lonely)[:300]:
        left, top = projected(space, **view, target=space[row] + np.array([0.9, -0.5, 0.4]))
        if np.sort(np.hypot(left - left[row], top - top[row]))[1] > 14:
            return int(row)
    raise AssertionError("every document is near another on the screen")


def projected(points: np.ndarray, *, turn: float, tilt: float, distance: float, target: np.ndarray):
    """Where places of shape (n, 3) are on the screen; NaN behind the eye."""
    turn, tilt = math.radians(turn), math.radians(tilt)
    right = np.array([math.cos(turn), math.sin(turn), 0])
    up = np.array([-math.sin(turn) * math.cos(tilt), math.cos(turn) * math.cos(tilt), math.sin(tilt)])
    scale = FOCUS * min(WIDTH, HEIGHT) / distance
    away = points - target
    w = 1 - away @ np.cross(right, up) / distance
    w[w < 0.06] = np.nan
    return WIDTH / 2 + away @ right * scale / w, HEIGHT / 2 - away @ up * scale / w


def orbit(it: Opened) -> list[float]:
    found = re.search(r"[#&]d=([^&]+)", it.address())
    assert found, it.page.url
    return [float(value) for value in found[1].split(",")]


def pixels(it: Opened) -> np.ndarray:
    return np.asarray(it.picture()).astype(int)


def coloured(picture: np.ndarray) -> int:
    part = picture[0:760, 330:1140]
    return int((part.max(axis=2) - part.min(axis=2) > 45).sum())


def test_the_key_turns_the_map_in_space_and_lays_it_flat_again(spatial, opened: Open) -> None:
    it = opened()
    page = it.goto(spatial.url())
    flat = pixels(it)
    before = [url for url in it.requests if "space-view" in url or "/cols/z/" in url or "density_3d" in url]
    assert before == []
    page.keyboard.press("3")
    expect(page.locator("#grid .grid-axes")).to_have_count(1)
    button = page.get_by_role("button", name="Turn the map in space")
    expect(button).to_have_attribute("aria-pressed", "true")
    assert it.address().endswith("#d=3")
    space = pixels(it)
    assert coloured(space) > 3_000
    assert (np.abs(space - flat).max(axis=2) > 40).mean() > 0.01
    assert page.locator("#labels .label:not(.hidden)").count() > 4
    after = [url for url in it.requests if re.search(r"space-view|/cols/z/|/cols/density_3d/", url)]
    # A tile of 16,384 and its children, which all are of the one level that is opened.
    assert len([url for url in after if "space-view" in url]) == 1
    assert len([url for url in after if "/cols/z/" in url]) == len([url for url in after if "density_3d" in url]) > 1
    expect(page.locator(".badge")).to_contain_text("20,000 documents drawn")
    button.click()
    expect(page.locator("#grid *")).to_have_count(0)
    page.mouse.move(600, 790)
    assert "d=" not in it.address()
    page.evaluate("document.activeElement.blur()")
    # Chromium may draw the text of a label half a pixel apart from one time to the next.
    again = np.abs(pixels(it) - flat)[0:760, 330:1130].max(axis=2)
    assert (again > 40).mean() < 0.002
    page.go_back()
    expect(page.locator("#grid .grid-axes")).to_have_count(1)


@pytest.mark.slow
def test_hands_and_keys_turn_move_and_zoom(spatial, opened: Open) -> None:
    it = opened()
    page = it.goto(spatial.url("#d=-20,50,40,0,0,3"))
    page.mouse.move(700, 500)
    page.mouse.down()
    page.mouse.move(800, 450, steps=4)
    page.mouse.up()
    turn, tilt, distance, *target = orbit(it)
    assert turn == pytest.approx(-52, abs=0.5)
    assert tilt == pytest.approx(63, abs=0.5)
    assert [distance, *target] == [40, 0, 0, 3]
    page.keyboard.press("ArrowRight")
    assert orbit(it)[0] == pytest.approx(turn + 12, abs=0.1)
    page.keyboard.press("ArrowDown")
    assert orbit(it)[1] == pytest.approx(tilt - 12, abs=0.1)
    page.keyboard.press("ArrowLeft")
    for press in (lambda: page.keyboard.press("Shift+ArrowRight"), lambda: shift_drag(page), lambda: right_drag(page)):
        was = orbit(it)
        press()
        now = orbit(it)
        assert now[:3] == was[:3]
        assert math.dist(now[3:], was[3:]) > 0.5
    was = orbit(it)
    page.keyboard.press("+")
    assert orbit(it)[2] == pytest.approx(was[2] / 2**0.6, rel=1e-3)
    page.mouse.move(600, 400)
    page.mouse.wheel(0, 300)
    assert orbit(it)[2] == pytest.approx(was[2] / 2**0.6 * math.exp(0.48), rel=1e-3)
    assert page.locator(".selection").count() == 0
    page.keyboard.press("Home")
    assert orbit(it)[:2] == [-24, 56]


def shift_drag(page) -> None:
    page.keyboard.down("Shift")
    page.mouse.move(700, 500)
    page.mouse.down()
    page.mouse.move(760, 520, steps=3)
    page.mouse.up()
    page.keyboard.up("Shift")


def right_drag(page) -> None:
    page.mouse.move(700, 500)
    page.mouse.down(button="right")
    page.mouse.move(640, 520, steps=3)
    page.mouse.up(button="right")


def test_shapes_are_drawn_on_the_flat_map(spatial, opened: Open) -> None:
    it = opened()
    page = it.goto(spatial.url("#d=3"))
    expect(page.locator("#grid .grid-axes")).to_have_count(1)
    page.keyboard.press("b")
    hint = page.get_by_text("Draw a box around documents")
    expect(hint).to_be_visible()
    expect(page.get_by_role("button", name="Turn the map in space")).to_have_attribute("aria-pressed", "false")
    page.keyboard.press("3")
    expect(page.locator("#grid .grid-axes")).to_have_count(1)
    expect(hint).to_be_hidden()
    it.settled()
    # Shift and drag moves the map in space, and selects nothing.
    before = it.address()
    page.keyboard.down("Shift")
    page.mouse.move(500, 300)
    page.mouse.down()
    page.mouse.move(700, 500, steps=4)
    page.mouse.up()
    page.keyboard.up("Shift")
    it.settled()
    assert it.address() != before
    assert page.locator("svg.selection").count() == 0
    expect(page.locator(".badge")).not_to_contain_text("selected")


@pytest.mark.slow
def test_the_hovered_document_is_the_one_under_the_pointer(spatial, opened: Open, synthetic) -> None:
    it = opened()
    space = positions(spatial.data)
    for view in ({"turn": -70.0, "tilt": 62.0, "distance": 9.0}, {"turn": 40.0, "tilt": 35.0, "distance": 14.0}):
        row = apart(spatial.data, view)
        # Not in the middle of the window, where a mistake of scale would not show.
        target = np.array([float(f"{v:.5g}") for v in space[row] + np.array([0.9, -0.5, 0.4])])
        numbers = [*view.values(), *target]
        it.goto("about:blank", ready=False)
        page = it.goto(spatial.url("#d=" + ",".join(str(v) for v in numbers)))
        left, top = (float(v[0]) for v in projected(space[[row]], **view, target=target))
        expect(it.hover((left, top))).to_contain_text(synthetic.text_of(row))
        ring = it.box("#overlay .hovered")
        assert ring["x"] + ring["width"] / 2 == pytest.approx(left, abs=1.5)
        assert ring["y"] + ring["height"] / 2 == pytest.approx(top, abs=1.5)
    page.mouse.click(left, top)
    expect(page.locator("#overlay .pinned")).to_have_count(1)
    expect(page.get_by_role("complementary", name="Pinned document")).to_contain_text(synthetic.text_of(row))
    page.mouse.move(900, 790)
    address, picture = it.address(), pixels(it)
    assert f"p={3 * row + 5}" in address
    again = opened()
    again.goto(address)
    again.page.mouse.move(900, 790)
    assert again.address() == address
    assert (np.abs(pixels(again) - picture).max(axis=2) > 30).mean() < 0.002


@pytest.mark.slow
def test_bands_of_density_and_sizes_that_follow_it(spatial, opened: Open) -> None:
    it = opened()
    page = it.goto(spatial.url("#d=3&c=density_bands"))
    bands = page.locator(".band")
    expect(bands).to_have_text(["Sparsest quarter", "25–50 %", "50–75 %", "Densest quarter"])
    colours = [
        np.array(list(map(int, re.findall(r"\d+", text)[:3])))
        for text in bands.locator(".swatch").evaluate_all("nodes => nodes.map(node => getComputedStyle(node).color)")
    ]
    picture = pixels(it)[:760, 330:1130].reshape(-1, 3)
    near = [int((np.abs(picture - colour).max(axis=1) < 14).sum()) for colour in colours]
    assert min(near) > 100, near
    page.get_by_role("button", name="Size and opacity of the points").click()
    before = pixels(it)
    page.get_by_label("Larger points where space is sparse").check()
    assert (np.abs(pixels(it) - before).max(axis=2) > 30).mean() > 0.001
    assert "e=1" in it.address()
    page.get_by_label("Grid and axes").uncheck()
    expect(page.locator("#grid *")).to_have_count(0)
    page.get_by_role("slider", name="Height").fill("2")
    assert "h=2" in it.address()


@pytest.mark.slow
def test_results_and_selections_are_highlighted_in_3d(spatial, opened: Open) -> None:
    it = opened()
    page = it.goto(spatial.url("#d=3&x.documents=amber%20orchard"))
    expect(page.locator("#overlay .hit").first).to_be_visible()
    boxes = it.boxes("#overlay .hit")
    assert 5 < len(boxes) <= 60
    assert any(0 < box["x"] < WIDTH and 0 < box["y"] < HEIGHT for box in boxes)
    it.goto("about:blank", ready=False)
    page = it.goto(spatial.url("#d=3"))
    everything = coloured(pixels(it))
    page.keyboard.press("Escape")
    page.locator(".row", has_text="amber region").first.click()
    assert 0 < coloured(pixels(it)) < 0.6 * everything
    it.goto("about:blank", ready=False)
    it.goto(spatial.url(f"#d=3&p={5 + 3 * 17}"))
    expect(page.locator("#overlay .pinned")).to_have_count(1)
    expect(page.locator("#grid .grid-plumb")).to_have_attribute("d", re.compile("^M"))


@pytest.mark.slow
def test_the_map_rotates_automatically_only_if_enabled_and_stops_on_request(spatial, opened: Open) -> None:
    it = opened()
    page = it.goto(spatial.url("#d=3"))
    assert page.get_by_role("button", name="Stop rotating").count() == 0
    place = "() => document.querySelector('#grid .grid-axes').getAttribute('d')"
    start = page.evaluate(place)
    page.get_by_role("button", name="Rotate automatically").click()
    it.until(lambda: page.evaluate(place) != start, "the map does not turn")
    stop = page.get_by_role("button", name="Stop rotating")
    stop.click()
    it.settled()
    rest = page.evaluate(place)
    assert rest != start
    it.settled()
    assert page.evaluate(place) == rest


@pytest.mark.slow
def test_a_flat_map_has_nothing_of_it(site, opened: Open) -> None:
    it = opened()
    page = it.goto(site.url("#d=3&c=density_bands"))
    assert page.get_by_role("button", name="Turn the map in space").count() == 0
    page.keyboard.press("3")
    it.settled()
    assert page.locator("#grid *").count() == 0
    assert not [url for url in it.requests if "space-view" in url or "density_3d" in url]
    assert "d=" not in it.address()


@pytest.mark.slow
def test_missing_heights_are_reported(make_site, opened: Open) -> None:
    broken = make_site(3_000, heights=True)
    (path,) = broken.folder.glob("maps/*/viewer/cols/z/*.parquet")
    kept = path.read_bytes()
    path.unlink()
    it = opened(errors=True)
    page = it.goto(broken.url())
    page.keyboard.press("3")
    expect(page.locator("body")).to_contain_text("Heights")
    expect(page.locator(".badge")).to_contain_text("1 file could not be read")
    path.write_bytes(kept)
    page.get_by_role("button", name="Try again").first.click()
    expect(page.locator(".badge")).to_contain_text("3,000 documents drawn")


@pytest.mark.slow
def test_controls_of_the_3d_map_are_accessible(spatial, opened: Open) -> None:
    for scheme in ("dark", "light"):
        it = opened(scheme=scheme)
        page = it.goto(spatial.url("#d=3&c=density_bands"))
        page.get_by_role("button", name="Size and opacity of the points").click()
        it.settled()
        assert faults(page) == []
