"""Edits of clusters: seen at once on the page, saved as a file, and in the map that the command line makes with it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from playwright.sync_api import Locator, Page, expect

from latentscale.demo import corpus_path
from tests.browser.assistive import faults
from tests.browser.opened import Opened

Open = Callable[..., Opened]
PHONE = {"width": 390, "height": 780}
HOSTILE = "<img src=x onerror=\"document.title='owned'\"> & 'so' \\ on"


@dataclass(frozen=True, kw_only=True)
class Real:
    """A map that the pipeline made of 700 documents."""

    workspace: Path
    url: str
    map: str
    labels: list[dict[str, Any]]


@pytest.fixture
def real(tmp_path_factory: pytest.TempPathFactory, made: Path, serve_folder) -> Real:
    """One of its own for each test: an import makes another map the current one."""
    import latentscale

    top = tmp_path_factory.mktemp("edits")
    shutil.copytree(made, top / "map")
    current = latentscale.open(top / "map").current
    assert current is not None
    labels = current.labels().sort("layer", "size", descending=[False, True]).to_dicts()
    return Real(workspace=top / "map", url=f"{serve_folder(top)}/map/viewer/", map=current.id, labels=labels)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    import latentscale

    out = tmp_path_factory.mktemp("made") / "map"
    documents = pl.read_parquet(corpus_path()).sample(700, shuffle=True, seed=3).select("package", "text")
    latentscale.run(documents, out=out, id="package", text="text", cluster={"min_cluster_size": 8}, progress="quiet")
    return out


def edits(page: Page) -> Locator:
    return page.get_by_role("complementary", name="Edits of clusters")


def card(page: Page) -> Locator:
    return page.get_by_role("complementary", name="Chosen cluster")


def edit(it: Opened, *, name: str | None = None, description: str | None = None, hide: bool | None = None) -> None:
    """Edit the cluster that is chosen, by keys."""
    card(it.page).get_by_role("button", name="Edit", exact=True).press("Enter")
    form = it.page.get_by_role("form", name="Edit the cluster")
    expect(form.get_by_label("Name")).to_be_focused()
    if description is not None:
        form.get_by_label("Description").fill(description)
    if hide is not None:
        form.get_by_label("Hide its label on the map").set_checked(hide)
    if name is not None:
        form.get_by_label("Name").fill(name)
    form.get_by_label("Name").press("Enter")
    expect(form).to_have_count(0)
    it.settled()


def keep(it: Opened, name: str) -> None:
    """Leave a picture for somebody to look at, if they said where."""
    folder = os.environ.get("LATENTSCALE_PICTURES")
    if folder:
        it.picture().save(Path(folder) / f"{name}.png")


def choose(it: Opened, cluster: dict[str, Any], more: str = "") -> None:
    """Choose a cluster by the page's address, with the view as it is."""
    view = ",".join(map(str, it.view()))
    it.page.evaluate("hash => { location.hash = hash }", f"#v={view}&i={cluster['layer']}.{cluster['cluster']}{more}")
    it.page.reload()
    it.ready()


def drawn_labels(page: Page) -> list[str]:
    """Labels that have room in this view, those under panels too."""
    return sorted(page.locator("#labels .label").all_text_contents())


def test_edits_on_the_page_are_in_the_map_after_labels_import(real: Real, opened: Open, tmp_path: Path) -> None:
    import latentscale

    it = opened(accept_downloads=True)
    page = it.goto(real.url)
    page.locator("#canvas").press("+")
    it.settled()
    # One of each layer that are on the map, and another one.
    seen = drawn_labels(page)
    first, second = (next(one for one in real.labels if one["layer"] == at and one["label"] in seen) for at in (1, 0))
    third = next(one for one in real.labels if one["layer"] == 0 and one != second)
    choose(it, second)
    assert second["label"] in drawn_labels(page)
    edit(it, hide=True)
    assert second["label"] not in drawn_labels(page)
    page.locator("#find").fill(second["label"])
    row = page.locator(".tree .row", has=page.locator(".edit-mark", has_text="hidden"))
    expect(row.locator(".name")).to_have_text(second["label"])
    page.locator("#find").fill("")

    choose(it, first)
    expect(card(page).get_by_role("heading", level=2)).to_have_text(first["label"])
    edit(it, name=f"  {HOSTILE}\u00a0", description="What\nis in it.")
    # At once: on the card, in the tree, on the map, and for who searches.
    expect(card(page).get_by_role("heading", level=2)).to_have_text(HOSTILE)
    expect(card(page).locator(".description")).to_have_text("What is in it.")
    expect(card(page)).to_contain_text(f"It was found as “{first['label']}”.")
    expect(page.locator(".tree .row", has_text=HOSTILE).locator(".edit-mark")).to_have_text("edited")
    assert page.locator("#labels .label.edited").all_text_contents() == [HOSTILE]
    page.locator("#find").fill("onerror")
    expect(page.locator(".tree mark")).to_have_text("onerror")
    page.locator("#find").fill("")

    # A third is edited, and edited back.
    choose(it, third)
    edit(it, name="For a while")
    card(page).get_by_role("button", name="Undo").click()
    expect(card(page).get_by_role("heading", level=2)).to_have_text(third["label"])

    # The browser has kept them.
    choose(it, first, "&o=edits")
    expect(edits(page).get_by_role("status").first).to_have_text("2 edited clusters")
    assert page.title() != "owned"
    assert page.locator("img").count() == 0
    keep(it, "edits")
    with page.expect_download() as download:
        edits(page).get_by_role("button", name="Save as edits.yaml").click()
    assert download.value.suggested_filename == "edits.yaml"
    file = tmp_path / "edits.yaml"
    file.write_bytes(Path(download.value.path()).read_bytes())
    command = edits(page).locator("code").inner_text().split()
    assert command == ["latentscale", "labels", "import", "WORKSPACE", "edits.yaml"]
    shown, address = drawn_labels(page), it.address()

    words = [{"WORKSPACE": str(real.workspace), "edits.yaml": str(file)}.get(word, word) for word in command[1:]]
    done = subprocess.run([sys.executable, "-m", "latentscale", *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    current = latentscale.open(real.workspace).current
    assert current is not None
    assert current.id != real.map
    labels = {(one["layer"], one["cluster"]): one for one in current.labels().to_dicts()}
    renamed, hidden = labels[1, first["cluster"]], labels[0, second["cluster"]]
    assert (renamed["label"], renamed["description"], renamed["source"]) == (HOSTILE, "What is in it.", "edited")
    assert [key for key, one in labels.items() if one["hidden"]] == [(0, second["cluster"])]
    assert hidden["label"] == second["label"]

    # Its page shows the same, for everybody: a browser that knows of no edits.
    other = opened(accept_downloads=True)
    there = other.goto(address)
    expect(card(there).get_by_role("heading", level=2)).to_have_text(HOSTILE)
    expect(edits(there).get_by_role("status").first).to_have_text("No cluster is edited")
    assert drawn_labels(there) == shown
    assert there.title() != "owned"
    expect(there.locator("#labels .label.edited")).to_have_count(0)

    # What the map has by hand is taken back on the page, too.
    edit(other, name=first["label"])
    expect(card(there).get_by_role("heading", level=2)).to_have_text(first["label"])
    with there.expect_download() as download:
        edits(there).get_by_role("button", name="Save as edits.yaml").click()
    saved = Path(download.value.path()).read_text()
    assert '"rename":null' in saved
    # And the first browser's edits are of an earlier map now, all of which are in this one.
    page.reload()
    it.ready()
    expect(edits(page)).to_contain_text("2 clusters were edited on an earlier map at this address.")
    edits(page).get_by_role("button", name="Transfer the edits").click()
    expect(edits(page).get_by_role("status").first).to_have_text("No cluster is edited")
    # A file comes back onto the page that it is of, and others are refused.
    (tmp_path / "saved.yaml").write_text(saved)
    page.locator("input[type=file]").set_input_files(tmp_path / "saved.yaml")
    expect(edits(page).get_by_role("status").first).to_have_text("1 edited cluster")
    expect(edits(page).locator(".tags .name")).to_have_text([first["label"]])
    latentscale.open(real.workspace).export_labels(tmp_path / "whole.yaml")
    page.locator("input[type=file]").set_input_files(tmp_path / "whole.yaml")
    expect(page.get_by_role("alert")).to_contain_text("whole.yaml is not an edits file that a page saved")


def test_the_page_places_labels_like_publishing(real: Real, opened: Open) -> None:
    cluster = real.labels[0]
    it = opened()
    page = it.goto(f"{real.url}#i={cluster['layer']}.{cluster['cluster']}")
    page.locator("#canvas").press("+")
    edit(it, name=f"{cluster['label']} ")
    assert page.evaluate("Object.keys(localStorage).filter(key => key.startsWith('latentscale edits'))") == []
    seen: list[list[str]] = []
    # Where only a description is edited, the zooms are those of the file; of a name as long, all are computed anew.
    for change in ({"description": "Only described."}, {"name": cluster["label"][::-1]}):
        edit(it, **change)
        choose(it, cluster)
        seen.append([one for one in drawn_labels(page) if one not in (cluster["label"], cluster["label"][::-1])])
    assert seen[0] == seen[1]
    assert len(seen[0]) > 4


def test_edits_are_made_by_keys_on_a_phone_and_by_assistive_technology(real: Real, opened: Open) -> None:
    it = opened(scheme="light")
    cluster = next(one for one in real.labels if one["layer"] == 1)
    page = it.goto(real.url)
    page.locator(".tree .row", has_text=cluster["label"]).first.click()
    card(page).get_by_role("button", name="Edit", exact=True).press("Enter")
    form = page.get_by_role("form", name="Edit the cluster")
    name = form.get_by_label("Name")
    expect(name).to_be_focused()
    name.fill("")
    expect(form.get_by_role("alert")).to_have_text("A cluster needs a name.")
    expect(form.get_by_role("button", name="Keep")).to_be_disabled()
    name.fill("x" * 201)
    expect(form.get_by_role("alert")).to_have_text("At most 200 characters.")
    keep(it, "edits-form")
    assert faults(page, "[data-panel=document]") == []
    # Letters are text, and Escape leaves the form alone, not the cluster.
    name.press("t")
    name.press("Escape")
    expect(form).to_have_count(0)
    expect(card(page).get_by_role("button", name="Edit", exact=True)).to_be_focused()
    expect(card(page).get_by_role("heading", level=2)).to_have_text(cluster["label"])
    edit(it, name="By keys", description="Said.", hide=True)
    page.keyboard.press("e")
    expect(edits(page)).to_have_count(1)
    it.settled()
    assert faults(page, "[data-panel=document]", "[data-panel=edits]", "[data-panel=list]") == []
    edits(page).get_by_role("button", name="Undo the edit of By keys").press("Enter")
    expect(edits(page).locator(".tags li")).to_have_count(0)

    small = opened(has_touch=True)
    small.page.set_viewport_size(PHONE)
    page = small.goto(f"{real.url}#i=1.{cluster['cluster']}")
    card(page).get_by_role("button", name="Edit", exact=True).tap()
    form = page.get_by_role("form", name="Edit the cluster")
    form.get_by_label("Name").fill("By a finger")
    keep(small, "edits-phone")
    for part in form.locator("input, textarea, button").all():
        box = part.bounding_box()
        assert box is not None
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= PHONE["width"]
    form.get_by_role("button", name="Keep").tap()
    small.settled()
    expect(card(page).get_by_role("heading", level=2)).to_have_text("By a finger")
    page.get_by_role("button", name="Edits of clusters").tap()
    expect(edits(page).locator(".tags .name")).to_have_text("By a finger")
    page.get_by_role("button", name="Close the edits").tap()
    small.settled()
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
    assert faults(page, "[data-panel=document]") == []


def test_missing_browser_storage_is_reported_and_damaged_edits_are_ignored(real: Real, opened: Open) -> None:
    cluster = real.labels[0]
    it = opened()
    it.page.add_init_script("Object.defineProperty(window, 'localStorage', { get() { throw new Error('denied'); } });")
    page = it.goto(f"{real.url}#i=0.{cluster['cluster']}")
    edit(it, name="Kept nowhere")
    expect(card(page)).to_contain_text("This browser does not keep edits")
    other = opened()
    other.page.add_init_script(f"localStorage.setItem('latentscale edits {real.map}', '[{{')")
    page = other.goto(f"{real.url}#i=0.{cluster['cluster']}")
    expect(card(page).get_by_role("heading", level=2)).to_have_text(cluster["label"])
