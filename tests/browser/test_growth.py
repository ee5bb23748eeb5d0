"""The page of a map that grew: three generations drawn, counted, found and coloured as one."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Page, expect

from tests.browser.opened import Opened

Open = Callable[..., Opened]
CENTRE = (600, 400)
GROUND = (14, 17, 23)
SUM = 23_340  # 20,000 and two updates of 600 and 3,000; 260 rows have left or were replaced


@pytest.fixture(scope="module", params=["whole-files", "ranges"])
def grown(request: pytest.FixtureRequest, make_grown) -> Any:
    return make_grown(request.param)


@pytest.fixture(scope="module")
def one(make_grown) -> Any:
    return make_grown("whole-files")


def at(picture: Image.Image, x: int, y: int, reach: int = 1) -> np.ndarray:
    return np.asarray(picture.crop((x - reach, y - reach, x + reach + 1, y + reach + 1))).astype(int).mean(axis=(0, 1))


def every_place(map_) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Places of all rows of all generations, gone ones too, with their row numbers and generations."""
    places = np.concatenate([part.coordinates for part in map_.parts])
    rows = np.concatenate([(part.row_ids - 5) // 3 for part in map_.parts])
    generations = np.concatenate([np.full(len(part.row_ids), g) for g, part in enumerate(map_.parts)])
    return places, rows, generations


def loneliest(map_, wanted: np.ndarray) -> int:
    """Which of all places, among ``wanted``, no other lies near."""
    from scipy.spatial import cKDTree

    places, _, _ = every_place(map_)
    distance = cKDTree(places).query(places, k=2)[0][:, 1]
    return int(np.where(wanted, distance, -1).argmax())


def is_gone(map_) -> np.ndarray:
    _, rows, generations = every_place(map_)
    gone = np.zeros(len(rows), bool)
    for g, numbers in enumerate(map_.gone):
        gone |= (generations == g) & np.isin(rows, numbers)
    return gone


def view_of(place: np.ndarray, span: float = 0.1) -> str:
    return f"#v={place[0]:.6f},{place[1]:.6f},{span}"


def legend(page: Page) -> dict[str, int]:
    rows = page.locator(".categories .row")
    names, sizes = rows.locator(".name").all_text_contents(), rows.locator(".size").all_text_contents()
    return {name: int(size.replace(",", "")) for name, size in zip(names, sizes, strict=True)}


def test_all_documents_are_drawn_and_counted_and_none_that_has_left(one, opened: Open) -> None:
    map_ = one.data
    it = opened()
    page = it.goto(one.url())
    assert len(map_.rows) == SUM
    expect(page.locator(".badge")).to_have_text(f"All {SUM:,} documents drawn")
    noise = round(100 * float((map_.clusters < 0).mean()))
    expect(page.locator(".facts")).to_have_text(f"{SUM:,} documents · 16 clusters · {noise} % noise")
    expect(page.get_by_role("treeitem", name=re.compile("In no cluster"))).to_contain_text(
        f"{(map_.clusters < 0).sum():,}"
    )
    # No label is there twice: they are the last generation's.
    labels = page.locator("#labels .label").all_text_contents()
    assert len(labels) == len(set(labels)) >= 16


def test_the_position_of_a_removed_document_is_empty(one, opened: Open) -> None:
    it = opened()
    places, _, _ = every_place(one.data)
    left = loneliest(one.data, is_gone(one.data))
    page = it.goto(one.url(view_of(places[left])))
    assert np.allclose(at(it.picture(), *CENTRE), GROUND, atol=3)
    it.point(CENTRE)
    expect(page.locator(".hover-card")).to_have_count(0)
    page.mouse.click(*CENTRE)
    it.settled()
    expect(page.get_by_role("complementary", name="Pinned document")).to_have_count(0)
    expect(page.locator(".badge")).to_contain_text("No document is in view")


@pytest.mark.parametrize("generation", [0, pytest.param(1, marks=pytest.mark.slow), 2])
def test_documents_of_each_generation_are_read_from_its_folder(grown, opened: Open, synthetic, generation: int) -> None:
    it = opened()
    places, rows, generations = every_place(grown.data)
    chosen = loneliest(grown.data, (generations == generation) & ~is_gone(grown.data))
    page = it.goto(grown.url(view_of(places[chosen])))
    text = synthetic.grown_text(int(rows[chosen]), generation)
    expect(it.hover((CENTRE[0] + 1, CENTRE[1] + 1)).locator("p")).to_have_text(text)
    page.mouse.click(*CENTRE)
    panel = page.get_by_role("complementary", name="Pinned document")
    expect(panel).to_contain_text(text)
    expect(panel.locator("header")).to_have_text(
        re.compile(
            rf"^Document {3 * rows[chosen] + 5:,}" + (f" · added 2026-01-0{generation}" if generation else "") + "$"
        )
    )
    assert it.address().endswith(f"&p={3 * rows[chosen] + 5}")


def test_a_row_id_finds_the_current_version_of_its_document(grown, opened: Open, synthetic) -> None:
    map_ = grown.data
    replaced = int(np.intersect1d(map_.gone[0], map_.rows)[0])
    now = int(map_.generation[map_.rows == replaced][0])
    it = opened()
    page = it.goto(grown.url(f"#p={3 * replaced + 5}"))
    panel = page.get_by_role("complementary", name="Pinned document")
    expect(panel.locator(".document-text")).to_have_text(synthetic.grown_text(replaced, now))
    x, y, _ = it.view()
    place = map_.coordinates[map_.rows == replaced][0]
    old = map_.parts[0].coordinates[(map_.parts[0].row_ids - 5) // 3 == replaced][0]
    assert np.hypot(x - place[0], y - place[1]) < np.hypot(x - old[0], y - old[1])
    # By hand, and one that has left.
    other = int(map_.rows[map_.generation == 1][0])
    page.get_by_label("Find documents and clusters").fill(f"#{3 * other + 5}")
    page.keyboard.press("Enter")
    expect(panel.locator(".document-text")).to_have_text(synthetic.grown_text(other, 1))
    left = int(np.setdiff1d(map_.gone[0], map_.rows)[0])
    page.get_by_label("Find documents and clusters").fill(f"#{3 * left + 5}")
    page.keyboard.press("Enter")
    expect(page.get_by_role("alert")).to_contain_text(f"No document of this map has the row id {3 * left + 5}")


def test_clusters_keep_their_colours_through_updates(one, opened: Open) -> None:
    places, _, generations = every_place(one.data)
    clusters = np.concatenate([part.clusters for part in one.data.parts])
    it = opened()
    seen: dict[int, list[np.ndarray]] = {4: [], 14: []}
    for folder in ("viewer-0", "viewer"):
        for cluster, colours in seen.items():
            chosen = loneliest(one.data, (generations == 0) & ~is_gone(one.data) & (clusters == 7 * cluster))
            it.goto(one.url(view_of(places[chosen])).replace("/viewer/", f"/{folder}/"))
            colours.append(at(it.picture(), *CENTRE))
    for cluster, colours in seen.items():
        assert np.abs(colours[0] - GROUND).max() > 60
        assert np.allclose(colours, colours[0], atol=3), cluster
    assert not np.allclose(seen[4], seen[14], atol=3), "each has its own"


def test_columns_colour_and_count_all_generations_as_one(one, opened: Open) -> None:
    map_ = one.data
    places, _, generations = every_place(map_)
    kinds = np.array([f"kind {i}" for i in range(10)])
    it = opened()
    page = it.goto(one.url())
    picker = page.get_by_label("Colour by")
    picker.select_option(label="kind")
    it.settled()
    names, sizes = np.unique(map_.kinds, return_counts=True)
    assert legend(page) == dict(zip(names.tolist(), sizes.tolist(), strict=True))
    assert list(legend(page).values()) == sorted(legend(page).values(), reverse=True)
    picker.select_option(label="source")
    it.settled()
    assert legend(page)["no value"] == int((map_.generation == 1).sum())
    assert sum(legend(page).values()) == SUM
    picker.select_option(label="score")
    expect(page.locator(".ramp")).to_contain_text(f"{np.isnan(map_.scores).sum():,} of {SUM:,} documents have no value")
    expect(page.locator(".ramp-ends")).to_contain_text(f"{np.nanmax(map_.scores):,.0f}")

    # The same kind has the same colour in each generation.
    owners = np.concatenate([part.nearest_clusters for part in map_.parts]) // 7
    seen = []
    for g in (0, 1):
        wanted = (generations == g) & ~is_gone(map_) & (owners % 5 == 3)
        chosen = loneliest(map_, wanted)
        it.goto("about:blank", ready=False)
        it.goto(one.url(view_of(places[chosen]) + "&c=c1"))
        seen.append(at(it.picture(), *CENTRE))
    assert np.ptp(seen[0]) > 40
    assert np.allclose(seen[0], seen[1], atol=3)
    assert kinds[3] in map_.kinds


def test_the_latest_additions_are_highlighted(one, opened: Open) -> None:
    map_ = one.data
    places, _, generations = every_place(map_)
    old, new = (loneliest(map_, (generations == g) & ~is_gone(map_)) for g in (0, 2))
    it = opened()
    page = it.goto(one.url(view_of(places[new])))
    page.get_by_role("button", name="Show the 3,000 documents added last").click()
    it.settled()
    assert legend(page) == {"2026-01-02": 3_000, "2026-01-01": 540, "First documents": 19_800}
    assert np.abs(at(it.picture(), *CENTRE) - GROUND).max() > 100
    shared = it.address()
    assert "&c=added&k=2" in shared
    page = it.goto("about:blank", ready=False)
    page = it.goto(shared.replace(re.search(r"v=[^&]+", shared)[0], view_of(places[old])[1:]))
    dimmed = at(it.picture(), *CENTRE)
    assert np.abs(dimmed - GROUND).max() < 60, "the first documents are dimmed"
    it.point(CENTRE)
    expect(page.locator(".hover-card")).to_have_count(0)
    page.get_by_role("button", name="Back to all documents").click()
    expect(page.get_by_label("Colour by").locator("option:checked")).to_have_text("Cluster")


def test_exemplars_are_documents_that_are_on_the_map(one, opened: Open) -> None:
    it = opened()
    page = it.goto(one.url("#i=1.7"))
    panel = page.get_by_role("complementary", name="Chosen cluster")
    expect(panel.locator(".exemplar")).to_have_count(3)
    size = int(((one.data.clusters >= 0) & (one.data.clusters // 28 == 1)).sum())
    expect(page.locator(".chosen")).to_have_text(f"{size:,} of {SUM:,} documents")
    expect(panel).to_contain_text(f"{size:,} of {SUM:,} documents")


def test_labels_may_be_those_of_an_update_without_documents(one, opened: Open) -> None:
    manifest = json.loads((one.folder / "viewer/manifest.json").read_bytes())
    manifest["labels"] = manifest["generations"][0]["url"]
    shutil.copytree(one.folder / "viewer", one.folder / "viewer-labels", dirs_exist_ok=True)
    (one.folder / "viewer-labels/manifest.json").write_text(json.dumps(manifest))
    it = opened()
    page = it.goto(one.url().replace("/viewer/", "/viewer-labels/"))
    expect(page.locator(".facts")).to_have_text(re.compile(rf"^{SUM:,} documents · 15 clusters"))
    expect(page.get_by_role("treeitem", name=re.compile("^cedar region"))).to_be_visible()


def test_a_missing_list_of_removed_documents_is_reported(make_grown, opened: Open) -> None:
    site = make_grown("whole-files", base=1_000, sizes=(200, 200))
    (site.folder / "maps/map-00000002/viewer/removed-0.parquet").unlink()
    it = opened(errors=True)
    page = it.goto(site.url(), ready=False)
    expect(page.get_by_role("alert")).to_contain_text("removed-0.parquet is missing on the server")
    # Of the last generation nothing has left: what has is not drawn rather than drawn where it is not any more.
    expect(page.locator(".badge")).to_contain_text("around here missing")


def keep(picture: Image.Image, name: str) -> None:
    """Leave the picture for somebody to look at, if they said where."""
    import os

    folder = os.environ.get("LATENTSCALE_PICTURES")
    if folder:
        picture.save(Path(folder) / f"{name}.png")


def test_a_large_map_and_its_small_update_are_one_picture(make_grown, opened: Open) -> None:
    site = make_grown("whole-files", base=75_000, sizes=(4_000,))
    it = opened()
    page = it.goto(site.url("?budget=25000"))
    keep(it.picture(), "grown-large")
    badge = re.match(r"([\d,]+) of ([\d,]+) documents drawn", page.locator(".badge").text_content())
    drawn, all_ = (int(v.replace(",", "")) for v in badge.groups())
    assert all_ == len(site.data.rows)
    assert 16_384 <= drawn <= 25_000
    # Of the update, as much as of the map: its points stand out by their colour, on a page that draws no more of them.
    page.get_by_role("button", name=re.compile("added last")).click()
    it.ready()
    whole = page.locator(".badge").text_content()
    more = int(re.match(r"([\d,]+)", whole)[1].replace(",", "")) - drawn
    share = drawn / all_
    assert abs(more - 4_000 * (1 - share)) < 0.15 * 4_000, "pressed, all of them are drawn"
