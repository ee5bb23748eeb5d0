"""Two maps side by side: choices are shared, and changes are listed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from playwright.sync_api import FrameLocator, Route, expect

from latentscale.explore.map_comparison import Layout, compare_layouts
from latentscale.viewer.added_columns import AddedColumn, add_columns
from latentscale.viewer.compare import files
from tests.browser.assistive import faults
from tests.browser.opened import Opened

Open = Callable[..., Opened]
HOSTILE = "</script><img src=x onerror=\"document.title='owned'\">"


@pytest.fixture(scope="module")
def compared(synthetic: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same 3,000 documents twice, one of them moved far away; on the second, clusters are found anew."""
    folder = tmp_path_factory.mktemp("compared")
    sides = [synthetic.make_data(3000), synthetic.make_data(3000, seed=8)]
    sides[1].coordinates[:] = sides[0].coordinates
    sides[1].coordinates[42] += 9
    found = compare_layouts(*(Layout(row_ids=d.row_ids, coordinates=d.coordinates, clusters=d.clusters) for d in sides))
    labels = [f"topic {i}" for i in range(16)]
    for side, data in zip("ab", sides, strict=True):
        synthetic.write_workspace(data, folder / side, title=f"Map {side}")
        clusters = np.where(data.clusters < 0, 16, data.clusters).astype(np.int64)
        add_columns(
            folder / side,
            [
                AddedColumn(name="moved", row_ids=found.row_ids, values=found.moved),
                AddedColumn(name="neighbours kept", row_ids=found.row_ids, values=found.kept),
                AddedColumn(name="cluster on it", row_ids=found.row_ids, values=clusters, categories=[*labels, "none"]),
            ],
        )
    order = np.argsort(-found.moved, kind="stable")[:3]
    facts = {
        "title": "Two maps",
        "names": ["Before", HOSTILE],
        "other": ["cluster on it", "cluster on it"],
        "documents": 3000,
        "only": [0, 0],
        "residual": found.residual,
        "kept": float(found.kept.mean()),
        "labels": [dict(enumerate(labels)), dict(enumerate(labels))],
        "changes": [{"change": "split", "before": [3], "after": [1, 2], "documents": 150}],
        "moved": [{"row_id": int(found.row_ids[i]), "moved": 1.0, "kept": 0.0, "text": HOSTILE} for i in order],
    }
    for name, content in files(facts):
        (folder / name).write_bytes(content)
    return folder


def drawn(it: Opened) -> list[FrameLocator]:
    """Both maps, once they are drawn and hear each other: the script by which they do comes after the first tile."""
    sides = [it.page.frame_locator("#a"), it.page.frame_locator("#b")]
    for side in sides:
        expect(side.locator(".badge:not(:has(.pulse))")).to_have_count(1)
    it.settled()
    return sides


def test_a_choice_on_one_map_is_shown_on_the_other(
    compared: Path, serve_folder: Callable[[Path], str], opened: Open
) -> None:
    it = opened()
    page = it.goto(f"{serve_folder(compared)}/index.html", ready=False)
    first, second = drawn(it)
    expect(page.locator("#figures")).to_contain_text("3,000 documents on both")
    # A text is text, and the document that moved most is pinned on both maps.
    top = page.locator("#moved button").first
    expect(top.locator("b")).to_have_text(HOSTILE)
    top.click()
    for side in (first, second):
        expect(side.locator("[data-panel=document]")).to_contain_text("Document number 42 ")
    # Pinned from outside, it is brought into view first, and its ring with it.
    it.settled()
    ring = first.locator("#overlay .pinned").bounding_box()
    first.get_by_role("button", name="Close the document").click()
    expect(second.get_by_role("button", name="Close the document")).to_have_count(0)
    # What is pointed at on the first is marked on the second.
    expect(second.locator("#overlay circle")).to_have_count(0)
    page.mouse.move(ring["x"] + ring["width"] / 2, ring["y"] + ring["height"] / 2)
    expect(first.locator(".hover-card")).to_contain_text("Document number 42 ")
    expect(second.locator("#overlay circle")).to_have_count(1)
    # What is selected on the second is selected on the first.
    second.locator("#canvas").press("s")
    second.get_by_role("button", name="All in view").click()
    expect(second.locator("[data-panel=selection]")).to_contain_text("documents selected")
    chosen = second.locator("[data-panel=selection] [role=status]").first.text_content()
    first.locator("#canvas").press("s")
    expect(first.locator("[data-panel=selection] [role=status]").first).to_have_text(chosen)
    # A split cluster: the one on the first map, and those that it went to on the second.
    page.locator("#changes button").click()
    for frame, part in zip(page.frames[1:], ("i=0.3", "i=0.1,0.2"), strict=True):
        frame.wait_for_function("part => location.hash.includes(part)", arg=part)
    page.get_by_role("button", name="Clusters of the other map").click()
    for frame in page.frames[1:]:
        frame.wait_for_function("location.hash.includes('cluster%20on%20it')")
    assert page.title() == "Two maps"


@pytest.mark.parametrize("where", ["a map", "the list"])
def test_a_choice_before_the_other_map_is_loaded_is_shown_on_it_later(
    compared: Path, serve_folder: Callable[[Path], str], opened: Open, where: str
) -> None:
    it = opened()
    held: list[Route] = []
    # The scripts by which the two maps hear each other are late: on the second one, or on both.
    late = "**/assets/linked-pages.*.js" if where == "the list" else "**/b/viewer/assets/linked-pages.*.js"
    it.page.route(late, lambda route: held.append(route))
    page = it.goto(f"{serve_folder(compared)}/index.html", ready=False)
    first, second = page.frame_locator("#a"), page.frame_locator("#b")
    for side in (first, second):
        expect(side.locator(".badge:not(:has(.pulse))")).to_have_count(1)
    while len(held) < (2 if where == "the list" else 1):
        page.wait_for_timeout(10)
    if where == "the list":
        page.locator("#moved button").first.click()
    else:
        first.locator("#canvas").press("s")
        first.get_by_role("button", name="All in view").click()
        expect(first.locator("[data-panel=selection]")).to_contain_text("documents selected")
        # Beside the middle of a cluster there are points.
        box = first.locator("#labels .label.layer-0:not(.hidden)").first.bounding_box()
        page.mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] + 6)
        expect(first.locator("[data-panel=document] .document-text")).to_have_count(1)
    for route in held:
        route.continue_()
    it.settled()
    if where == "the list":
        for side in (first, second):
            expect(side.locator("[data-panel=document]")).to_contain_text("Document number 42 ")
    else:
        named = first.locator("[data-panel=document] .document-text").text_content()
        expect(second.locator("[data-panel=document] .document-text")).to_have_text(named)
        second.locator("#canvas").press("s")
        chosen = first.locator("[data-panel=selection] [role=status]").first.text_content()
        expect(second.locator("[data-panel=selection] [role=status]").first).to_have_text(chosen)


def test_the_comparison_is_accessible(compared: Path, serve_folder: Callable[[Path], str], opened: Open) -> None:
    it = opened(scheme="light")
    page = it.goto(f"{serve_folder(compared)}/index.html", ready=False)
    drawn(it)
    assert faults(page, "header") == []
    assert faults(page, "aside") == []
