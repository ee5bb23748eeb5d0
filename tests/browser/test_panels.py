"""Panels: the map's quality on a page of the real pipeline, and a panel that was added as the docs say."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from playwright.sync_api import Locator, Page, expect

from tests.browser.assistive import faults
from tests.browser.opened import Opened
from tests.conftest import load

ROOT = Path(__file__).parents[2]
WEB = ROOT / "latentscale/viewer/web"
Open = Callable[..., Opened]
PHONE = {"width": 390, "height": 780}


@dataclass(frozen=True, kw_only=True)
class Real:
    """A page that the pipeline made, as it was at first and after an update."""

    first: str
    url: str
    measured: dict[str, Any]
    grown: dict[str, Any]
    sections: list[dict[str, Any]]


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory, small_corpus: Path, serve_folder) -> Real:
    import latentscale

    top = tmp_path_factory.mktemp("panels")
    documents = pl.read_parquet(small_corpus).head(400)
    corpus = top / "corpus"
    corpus.mkdir()
    documents.head(320).write_parquet(corpus / "a.parquet")
    made = latentscale.run(str(corpus), out=top / "site/map", progress="quiet")
    first = json.loads((top / f"site/map/maps/{made.id}/quality.json").read_bytes())
    shutil.copytree(top / "site/map", top / "site/before")
    documents.tail(80).write_parquet(corpus / "b.parquet")
    grown = latentscale.open(top / "site/map").update()
    maps = [top / f"site/map/maps/{one.id}" for one in (made, grown)]
    origin = serve_folder(top / "site")
    return Real(
        first=f"{origin}/before/viewer/",
        url=f"{origin}/map/viewer/",
        measured=first,
        grown=json.loads((maps[1] / "quality.json").read_bytes()),
        sections=[json.loads((one / "viewer/index.json").read_bytes())["sections"] for one in maps],
    )


def quality_of(page: Page) -> Locator:
    return page.get_by_role("complementary", name="About this map")


def figures(panel: Locator) -> dict[str, str]:
    return dict(zip(panel.locator("dt").all_text_contents(), panel.locator("dd").all_text_contents(), strict=True))


def percent(share: float) -> str:
    value = 100 * share
    return f"{value:.0f} %" if value >= 10 or value == 0 else f"{value:.1f} %"


def test_the_quality_of_a_real_map_is_shown_in_figures_and_words(real: Real, opened: Open) -> None:
    it = opened()
    page = it.goto(real.first)
    page.get_by_role("button", name="About this map").click()
    panel = quality_of(page)
    measured = real.measured
    it.settled()
    shown = figures(panel)
    assert shown["Trustworthiness"].startswith(f"{measured['trustworthiness']:.2f} ")
    assert shown["Neighbours kept"].startswith(f"{percent(measured['preservation'])} of the 15 nearest")
    for name, key in (("Search recall", "recall"), ("Noise", "noise_share"), ("Duplicates", "duplicates")):
        assert shown[name].startswith(f"{percent(measured[key])} "), name
    assert "Stability" not in shown, "it was not measured"
    expect(panel).to_contain_text(f"Measured on 320 of 320 documents in {measured['clusters']} clusters.")
    assert panel.locator(".flag").all_text_contents() == measured["red_flags"]
    doubts = panel.get_by_text("No figure indicates a problem")
    expect(doubts).to_have_count(0 if measured["red_flags"] else 1)


def test_a_real_map_says_how_it_was_made(real: Real, opened: Open) -> None:
    it = opened()
    page = it.goto(f"{real.first}#o=quality")
    it.settled()
    shown = figures(quality_of(page))
    assert re.fullmatch(r"map-[0-9a-f]{16}", shown["Map"])
    assert re.fullmatch(r"20\d\d-\d\d-\d\d \d\d:\d\d UTC", shown["Made"])
    assert shown["Embedding"].startswith("static, revision ")
    assert shown["Layout"].startswith("UMAP, n_neighbors 15, min_dist ")
    assert shown["Clusters"].startswith("hdbscan, ")
    page = it.goto(f"{real.url}#o=quality")
    it.settled()
    grown = figures(quality_of(page))
    assert shown["Map"] in grown["Fitted"]


def test_documents_of_an_update_are_found_by_their_words(real: Real, small_corpus: Path, opened: Open) -> None:
    texts = pl.read_parquet(small_corpus).head(400)["text"].to_list()
    words = [set(re.findall(r"[a-z]{5,}", text.lower())) for text in texts]
    # A word that one document of the update has and no other, and that no other word begins with.
    everywhere = [word for own in words for word in own]
    word = next(w for w in sorted(words[350]) if sum(other.startswith(w) for other in everywhere) == 1)
    it = opened()
    page = it.goto(real.url)
    page.get_by_label("Find documents and clusters").fill(f"{word} ")
    rows = page.get_by_role("grid", name="Documents").get_by_role("row")
    expect(rows).to_have_count(1)
    expect(rows.locator("mark").first).to_have_text(re.compile(word, re.IGNORECASE))
    page = it.goto(real.first)
    page.get_by_label("Find documents and clusters").fill(f"{word} ")
    expect(page.get_by_role("complementary", name="Documents")).to_contain_text("No matching documents")


def test_an_updated_map_says_what_changed_since_its_fit_and_when(real: Real, opened: Open) -> None:
    it = opened()
    page = it.goto(f"{real.url}#o=quality")
    drift = real.grown["drift"]
    expect(quality_of(page)).to_contain_text(
        f"of the last fit; since then {drift['added']} were added ({percent(drift['added_share'])}), 0 removed."
    )
    due = ["A new fit is due. " + " ".join(drift["reasons"])] if drift["refit_due"] else []
    assert drift["refit_due"], "80 documents on 320 are more than a fifth"
    assert quality_of(page).locator(".flag").all_text_contents() == real.grown["red_flags"] + due
    page.get_by_role("button", name=re.compile("Show the 80 documents added last")).click()
    it.settled()
    names = page.locator(".categories .row .name").all_text_contents()
    assert re.fullmatch(r"20\d\d-\d\d-\d\d \d\d:\d\d UTC", names[0])
    assert names[1:] == ["First documents"]


def test_synthetic_maps_have_the_files_of_the_pipeline(real: Real, make_grown) -> None:
    site = make_grown("whole-files", base=1_000, sizes=(300,))
    ours = [
        json.loads((site.folder / f"maps/map-0000000{g}/viewer/index.json").read_bytes())["sections"] for g in range(2)
    ]
    assert [sorted(sections) for sections in ours] == [sorted(sections) for sections in real.sections]
    for mine, theirs in zip(ours, real.sections, strict=True):
        assert mine["quality"].keys() == theirs["quality"].keys()
        assert type(mine["quality"]["growth"]) is type(theirs["quality"]["growth"])
    assert ours[1]["quality"]["growth"].keys() == real.sections[1]["quality"]["growth"].keys()


def test_red_flags_and_all_figures_are_shown(site, opened: Open) -> None:
    it = opened()
    page = it.goto(site.url("#o=quality"))
    panel = quality_of(page)
    expect(panel.locator(".flag")).to_have_text([re.compile("^25% of the documents are identical to another")])
    shown = figures(panel)
    assert shown["Separate parts"] == "3 93 % in the largest"
    assert shown["Stability"].startswith("0.82 ")
    assert shown["kind"] == "0.71 NMI with the clusters; ARI 0.52, purity 0.80"
    expect(panel).to_contain_text("Measured on 10,000 of 20,000 documents in 16 clusters.")


def test_a_panel_opens_by_button_key_and_url_and_returns_the_focus(site, opened: Open) -> None:
    it = opened()
    page = it.goto(site.url())
    button = page.get_by_role("button", name="About this map")
    expect(button).to_have_attribute("aria-expanded", "false")
    button.focus()
    page.keyboard.press("Enter")
    expect(button).to_have_attribute("aria-expanded", "true")
    expect(button).to_be_focused()
    assert it.address().endswith("#o=quality"), "and the view is still the first one"
    page.get_by_role("button", name="Close the panel about the map").click()
    expect(button).to_be_focused()
    expect(quality_of(page)).to_have_count(0)
    page.keyboard.press("q")
    expect(quality_of(page)).to_be_visible()
    page.keyboard.press("Escape")
    expect(quality_of(page)).to_have_count(0)
    page.get_by_role("button", name="Close the list").click()
    shared = it.address()
    assert shared.endswith("#o=-list")
    page.keyboard.press("?")
    expect(page.get_by_role("dialog")).to_contain_text("how far to trust the map")
    again = opened()
    again.goto(shared)
    expect(again.page.locator(".panel-opener")).to_be_visible()
    expect(again.page.locator(".panel")).to_have_count(0)


def labels_clear_of(it: Opened, walls: str) -> None:
    """No label lies under one of ``walls``, a selector."""
    labels, over = it.boxes("#labels .label:not(.hidden)"), it.boxes(walls)
    assert labels
    for a in labels:
        for b in over:
            beside = a["x"] + a["width"] <= b["x"] or b["x"] + b["width"] <= a["x"]
            above = a["y"] + a["height"] <= b["y"] or b["y"] + b["height"] <= a["y"]
            assert beside or above, (a, b)


@pytest.mark.parametrize("motion", ["reduce", pytest.param("no-preference", marks=pytest.mark.slow)])
def test_labels_and_buttons_keep_clear_of_a_panel_that_opens(site, opened: Open, motion: str) -> None:
    it = opened()
    it.page.emulate_media(reduced_motion=motion)
    page = it.goto(site.url())
    for _ in range(3):
        page.keyboard.press("q")
        labels_clear_of(it, ".slot:not(:empty), .toolbar .card, .badge")
        bar = it.boxes(".toolbar .card")[0]
        beside = it.boxes(".side.right .slot:not(:empty)")
        assert bar["x"] + bar["width"] == (beside[0]["x"] - 12 if beside else 1184)


def test_the_first_view_is_clear_of_the_panels_that_the_address_opens(site, opened: Open) -> None:
    def spans(address: str) -> tuple[float, float]:
        it = opened()
        it.goto(site.url(address))
        centres = [box["x"] + box["width"] / 2 for box in it.boxes("#labels .label")]
        return min(centres), max(centres)

    left, right = spans("")
    assert left > 340
    assert 900 < right < 1140
    left, right = spans("#o=quality")
    assert left > 340
    assert right < 760
    left, _ = spans("#o=-list")
    assert left < 330


def test_a_pinned_document_is_not_under_its_panel(site, opened: Open) -> None:
    for size in (PHONE, {"width": 1200, "height": 800}):
        for rest in ("#p=5", "#p=8&o=quality"):
            it = opened()
            it.page.set_viewport_size(size)
            page = it.goto(site.url(rest))
            expect(page.locator("#overlay .pinned")).to_have_count(1)
            ring = it.box("#overlay .pinned")
            x, y = ring["x"] + ring["width"] / 2, ring["y"] + ring["height"] / 2
            assert it.on_top(x, y) == "canvas", (size, rest)


def test_a_phone_shows_the_quality_as_a_sheet_and_the_map_above_it(site, opened: Open) -> None:
    it = opened()
    it.page.set_viewport_size(PHONE)
    page = it.goto(site.url())
    button = page.get_by_role("button", name="About this map")
    opener, box = it.box(".panel-opener"), it.box("[aria-label='About this map']")
    assert opener["y"] + opener["height"] <= box["y"], "the title has its own row"
    assert box["y"] + box["height"] <= 112, "the map's body is below both"
    page.get_by_role("button", name="Zoom in").click()
    assert it.on_top(200, 120) == "canvas", "nothing invisible lies over the map"
    button.click()
    expect(quality_of(page)).to_be_visible()
    sheet = it.box("aside[aria-label='About this map']")
    assert (sheet["x"], sheet["width"]) == (8, 374)
    assert sheet["y"] > 0.46 * 780
    assert sheet["y"] + sheet["height"] == pytest.approx(772, abs=1)


def test_the_quality_panel_is_accessible(site, opened: Open) -> None:
    for scheme in ("dark", "light"):
        it = opened(scheme=scheme)
        page = it.goto(site.url("#o=quality&p=5"))
        expect(quality_of(page)).to_be_visible()
        assert faults(page) == []


@pytest.mark.parametrize("scheme", ["dark", "light"])
def test_contrast_is_known_of_all_text_in_every_panel(site, opened: Open, scheme: str) -> None:
    for rest in ("#o=quality,filters,selection,tags,time&p=5&c=@kind", "#o=documents&i=1.0&c=@score"):
        it = opened(scheme=scheme)
        page = it.goto(site.url(rest))
        assert faults(page, ".side.left", ".side.right", ".side.bottom") == []


@pytest.fixture(scope="module")
def added(synthetic, tmp_path_factory: pytest.TempPathFactory, serve_folder) -> str:
    """A page with the panel and the section of the docs: its own two files, and one line in ``panels.ts``."""
    hook = load("hatch_build_for_tests", ROOT / "hatch_build.py")
    node = hook.node_command()
    if node is None or not (WEB / "node_modules/vite").is_dir():
        pytest.skip("no Node, or the page's libraries are not installed (npm ci in latentscale/viewer/web)")
    docs = (ROOT / "docs/extend.md").read_text()
    top = tmp_path_factory.mktemp("added")
    web = top / "viewer/web"
    shutil.copytree(WEB, web, ignore=shutil.ignore_patterns("node_modules", "tests"))
    (web / "node_modules").symlink_to((WEB / "node_modules").resolve())
    (web / "tests").mkdir()
    for shared in hook.SHARED:
        copy = top / "viewer" / shared.relative_to("latentscale/viewer")
        copy.parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / shared, copy)

    panel = re.search(r"```tsx\n// latentscale/viewer/web/(src/ui/panels/\S+)\n(.*?)```", docs, re.DOTALL)
    line = re.search(r'```ts\n(import "./panels/.*?)```', docs, re.DOTALL)
    section = re.search(r"```python\n# latentscale/viewer/lengths\.py\n(.*?)```", docs, re.DOTALL)
    assert panel is not None
    assert line is not None
    assert section is not None
    assert line[1].count("\n") == 1
    (web / panel[1]).write_text(panel[2])
    with (web / "src/ui/panels.ts").open("a") as file:
        file.write(line[1])
    (top / "lengths.py").write_text(section[1])

    # From the real folder: a linked node_modules would be looked for at its target.
    commands = (["node_modules/typescript/bin/tsc", "--noEmit"], ["node_modules/vite/bin/vite.js", "build"])
    for command in commands:
        done = subprocess.run([*node, *command], cwd=web, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    lengths = load("lengths_of_the_docs_in_a_browser", top / "lengths.py").LENGTHS
    data = synthetic.make_data(2_000)
    folder = synthetic.write_workspace(data, top / "site/map", sections=(*synthetic.SECTIONS, lengths))
    shutil.rmtree(folder / "viewer/assets")
    shutil.copytree(top / "viewer/static", folder / "viewer", dirs_exist_ok=True)
    return serve_folder(top / "site") + "/map/viewer/"


def test_a_custom_panel_needs_a_file_and_a_line(added: str, opened: Open, synthetic) -> None:
    it = opened()
    page = it.goto(added)
    button = page.get_by_role("button", name="Length of the documents")
    expect(button).to_have_attribute("title", "Length of the documents (l)")
    button.click()
    panel = page.get_by_role("complementary", name="Length of the documents")
    characters = sum(len(synthetic.text_of(row)) for row in range(2_000))
    expect(panel).to_contain_text(f"{round(characters / 2_000)} characters on average, {characters:,} in all")
    assert it.address().endswith("#o=lengths")
    labels_clear_of(it, ".slot:not(:empty), .toolbar .card")
    page.keyboard.press("q")
    expect(quality_of(page)).to_be_visible()
    boxes = it.boxes(".side.right .slot:not(:empty)")
    assert boxes[0]["y"] + boxes[0]["height"] <= boxes[1]["y"], "one below the other"
    page.keyboard.press("l")
    expect(panel).to_have_count(0)
    page.keyboard.press("?")
    expect(page.get_by_role("dialog")).to_contain_text("how long the documents are")
    again = opened()
    again.goto(f"{added}#o=lengths")
    expect(again.page.get_by_role("complementary", name="Length of the documents")).to_be_visible()


def test_a_page_ignores_sections_without_a_panel(added: str, opened: Open, make_site) -> None:
    page = opened().goto(make_site(300).url("#o=lengths,-quality"))
    expect(page.get_by_role("button", name="About this map")).to_be_visible()
    other = opened().goto(f"{added}#o=nothing")
    expect(other.get_by_role("button", name="Length of the documents")).to_be_visible()
