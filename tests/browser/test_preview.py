"""The preview of a map, opened as a file: its content, reloading, and the link to the map."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import expect

import latentscale
from latentscale.stages.publish import preview
from latentscale.stages.publish.preview import NAME, Preview
from tests.browser.opened import Opened
from tests.browser.test_map import coloured

Open = Callable[..., Opened]


@pytest.fixture(scope="module")
def states(tmp_path_factory: pytest.TempPathFactory, small_corpus: Path) -> tuple[Path, list[Path]]:
    """A workspace, and its preview as it was after each quarter of the layout."""
    root = tmp_path_factory.mktemp("preview")
    pages: list[Path] = []
    show = Preview.show

    def keep(self: Preview, row_ids: Any, coordinates: Any, done: int, total: int) -> None:
        show(self, row_ids, coordinates, done, total)
        pages.append(shutil.copy(root / "ws" / NAME, root / f"{len(pages)}.html"))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Preview, "show", keep)
        # No page of these reads itself again while another thing of it is looked at.
        patch.setattr(preview, "MIN_REFRESH", 100_000.0)
        latentscale.run(
            str(small_corpus),
            out=root / "ws",
            progress="quiet",
            project={"preview": True, "n_epochs": 60},
            cluster={"min_cluster_size": 15},
        )
    return root, pages


def test_an_open_preview_keeps_its_view_when_it_reloads(
    states: tuple[Path, list[Path]], opened: Open, serve_folder: Callable[[Path], str], tmp_path: Path
) -> None:
    root, pages = states
    shutil.copytree(root / "ws", tmp_path / "ws")
    here = tmp_path / "ws" / NAME
    shutil.copy(pages[0], here)
    it = opened()
    page = it.goto(here.as_uri())
    expect(page).to_have_title("ws")
    card = page.get_by_role("complementary", name="Preview")
    expect(card).to_contain_text("The layout after 15 of 60 steps (25%), of all 600 documents.")
    expect(card).to_contain_text("Still to come: clusters and labels.")
    contents = page.get_by_role("navigation", name="Clusters and colours")
    expect(contents).to_contain_text("600 documents")
    for word in ("noise", "0 clusters", "Topics"):
        expect(contents).not_to_contain_text(word)
    expect(page.get_by_label("Colour by")).to_have_value("density")
    first = it.picture()
    assert coloured(first) > 2_000
    page.get_by_label("Colour by").select_option("section")
    page.keyboard.press("+")
    view = it.view()
    shutil.copy(pages[2], here)
    page.get_by_role("button", name="Reload now").click()
    expect(card).to_contain_text("after 45 of 60 steps (75%)")
    it.ready()
    assert it.view() == pytest.approx(view)
    assert page.get_by_label("Colour by").locator("option:checked").inner_text() == "section"
    assert all(url.startswith(here.as_uri()) or url.startswith(("data:", "blob:")) for url in it.requests)

    # Of a file, the page in its place says where the map is; a server's leads there, with the view.
    shutil.copy(root / "ws" / NAME, here)
    page.get_by_role("button", name="Reload now").click()
    expect(page.get_by_role("heading", name="The preview has ended")).to_be_visible()
    expect(page.locator("body")).to_contain_text("latentscale view")
    shutil.copy(pages[3], here)
    served = serve_folder(tmp_path / "ws")
    it.goto(f"{served}/{NAME}#v={','.join(map(str, view))}")
    expect(card).to_contain_text("The layout, done, of all 600 documents")
    shutil.copy(root / "ws" / NAME, here)
    # To the second, as servers have it, it would be as old as the one before.
    os.utime(here, (time.time() + 60, time.time() + 60))
    page.get_by_role("button", name="Reload now").click()
    expect(page.get_by_role("heading", name="Topics")).to_be_visible()
    it.ready()
    assert it.page.url.startswith(f"{served}/viewer/index.html#")
    assert it.view() == pytest.approx(view)


def test_a_preview_reloads_when_due_but_not_while_it_is_used(
    states: tuple[Path, list[Path]], opened: Open, tmp_path: Path
) -> None:
    _, pages = states
    here = tmp_path / NAME
    shutil.copy(pages[0], here)
    it = opened()
    it.page.clock.install()
    page = it.goto(here.as_uri(), ready=False)
    card = page.get_by_role("complementary", name="Preview")
    expect(card).to_contain_text("after 15 of 60 steps")
    expect(card).to_contain_text("reloads when more is done")
    shutil.copy(pages[1], here)
    page.clock.fast_forward(99_000_000)
    page.mouse.move(500, 400)
    page.clock.run_for(2_000)
    expect(card).to_contain_text("after 15 of 60 steps")
    expect(card).to_contain_text("minutes ago")
    page.clock.fast_forward(2_000_000)
    page.clock.run_for(2_000)
    expect(card).to_contain_text("after 30 of 60 steps")
