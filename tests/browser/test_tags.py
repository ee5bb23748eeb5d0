"""Tags and exports of a real map: files saved by the page are read by the command line and DuckDB."""

from __future__ import annotations

import csv
import io
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from PIL import Image
from playwright.sync_api import Page, expect

from tests.browser.assistive import faults
from tests.browser.opened import Opened
from tests.browser.test_select import panel, selected

Open = Callable[..., Opened]
CLIPBOARD = ["clipboard-read", "clipboard-write"]


@dataclass(frozen=True, kw_only=True)
class Real:
    """A map that the pipeline made of 300 documents that have ids of their own."""

    corpus: Path
    workspace: Path
    url: str
    points: pl.DataFrame


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory, small_corpus: Path, serve_folder) -> Real:
    import latentscale

    top = tmp_path_factory.mktemp("tags")
    corpus = top / "corpus.parquet"
    pl.read_parquet(small_corpus).head(300).write_parquet(corpus)
    made = latentscale.run(str(corpus), out=top / "site/map", id="package", text="text", progress="quiet")
    return Real(
        corpus=corpus,
        workspace=top / "site/map",
        url=f"{serve_folder(top / 'site')}/map/viewer/",
        points=made.points().collect(),
    )


def saved(page: Page, name: str, exact: bool = False) -> bytes:
    with page.expect_download() as download:
        page.get_by_role("button", name=name, exact=exact).click()
    return Path(download.value.path()).read_bytes()


def tag(it: Opened, name: str) -> None:
    field = panel(it.page, "Tags").get_by_label("Name of the tag")
    field.fill(name)
    field.press("Enter")
    expect(panel(it.page, "Tags").get_by_role("button", name=f"Select {name}")).to_be_visible()
    it.settled()


@pytest.mark.slow
def test_a_tag_is_kept_coloured_saved_honoured_by_a_run_and_read_again(
    real: Real, opened: Open, tmp_path: Path
) -> None:
    cluster = int(real.points.filter(pl.col("cluster") >= 0)["cluster"][0])
    inside = real.points.filter(pl.col("cluster") == cluster)
    name = 'junk, "old"'
    it = opened(accept_downloads=True)
    page = it.goto(f"{real.url}#i=0.{cluster}&o=selection,tags")
    panel(page).get_by_role("button", name="1 chosen cluster").click()
    assert selected(it) == len(inside)
    tag(it, name)
    page.get_by_role("button", name="Colour by tags").click()
    assert page.locator(".colour-by select").evaluate("s => s.selectedOptions[0].text") == "Tags"
    expect(page.locator(".categories .row .size").first).to_have_text(str(len(inside)))
    assert "tags" not in it.address().partition("#c=")[2], "tags are the reader's own, and in no link"
    file = tmp_path / "tagged.csv"
    file.write_bytes(saved(page, f"Save {name} as CSV"))
    records = list(csv.DictReader(io.StringIO(file.read_text())))
    assert [int(r["row_id"]) for r in records] == sorted(inside["row_id"])
    assert sorted(r["package"] for r in records) == sorted(inside["package"])
    assert {r["tag"] for r in records} == {name}

    # The browser has kept it.
    it.page.reload()
    it.ready()
    expect(panel(page, "Tags").locator(".tags .size")).to_have_text(str(len(inside)))
    page.get_by_role("button", name=f"Remove {name}").click()
    expect(panel(page, "Tags").locator(".tags li")).to_have_count(0)
    # And reads its own file.
    page.locator("input[type=file]").set_input_files(file)
    expect(panel(page, "Tags").locator(".tags .size")).to_have_text(str(len(inside)))
    page.get_by_role("button", name=f"Select {name}").click()
    assert selected(it) == len(inside)
    other = tmp_path / "other.csv"
    other.write_text("id\n3\n")
    page.locator("input[type=file]").set_input_files(other)
    expect(page.get_by_role("alert")).to_contain_text("other.csv has no column row_id; it has id.")

    # The command line takes the same file, alone and left out.
    for option, wanted in (
        ("--only", set(inside["package"])),
        ("--exclude", set(real.points["package"]) - set(inside["package"])),
    ):
        command = [sys.executable, "-m", "latentscale", "run", str(real.corpus), "--text", "text", "--id", "package"]
        out = tmp_path / option.strip("-")
        command += [
            "--out",
            str(out),
            option,
            str(file),
            "--set",
            "project.n_epochs=20",
            "--set",
            "publish.viewer=false",
        ]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        import latentscale

        assert set(latentscale.open(out).current.points().collect()["package"]) == wanted


def test_a_selection_leaves_as_columns_a_query_a_picture_and_a_link(real: Real, opened: Open, tmp_path: Path) -> None:
    duckdb = pytest.importorskip("duckdb")
    cluster = int(real.points.filter(pl.col("cluster") >= 0)["cluster"][0])
    inside = real.points.filter(pl.col("cluster") == cluster).sort("row_id")
    it = opened(accept_downloads=True, permissions=CLIPBOARD)
    page = it.goto(f"{real.url}#i=0.{cluster}&o=selection")
    panel(page).get_by_role("button", name="1 chosen cluster").click()
    assert selected(it) == len(inside)
    columns = pl.read_csv(io.BytesIO(saved(page, "Columns (CSV)")))
    assert columns["row_id"].to_list() == inside["row_id"].to_list()
    assert columns["package"].to_list() == inside["package"].to_list()
    texts = pl.read_parquet(real.corpus).select("package", "text")
    assert (
        columns.join(texts, on="package", suffix="_source")
        .select((pl.col("text") == pl.col("text_source")).all())
        .item()
    )

    page.get_by_role("button", name="Copy DuckDB query").click()
    expect(panel(page)).to_contain_text("Query copied")
    query = page.evaluate("navigator.clipboard.readText()")
    folder = f"{real.workspace}/maps"
    found = duckdb.sql(query.replace("'maps", f"'{folder}")).fetchall()
    assert len(found) == len(inside)
    page.get_by_role("button", name="Copy link").click()
    expect(panel(page)).to_contain_text("Link copied")
    assert page.evaluate("navigator.clipboard.readText()") == it.address()

    shown = np.asarray(it.picture()).astype(int)
    picture = Image.open(io.BytesIO(saved(page, "Picture (PNG)"))).convert("RGB")
    assert picture.size == (1200, 800)
    pixels = np.asarray(picture).astype(int)
    # Where no panel lies over the page, it shows the same; and the title besides.
    middle = np.s_[300:700, 360:700]
    assert (np.abs(pixels[middle] - shown[middle]).max(axis=2) > 60).mean() < 0.03
    assert (np.ptp(pixels[middle], axis=2) > 45).sum() > 50
    assert (pixels[10:46, 18:200].max(axis=2) > 150).sum() > 60


def test_tags_are_accessible(real: Real, opened: Open) -> None:
    it = opened(scheme="light")
    page = it.goto(f"{real.url}#i=n&o=selection,tags,-list")
    panel(page).get_by_role("button", name="1 chosen cluster").press("Enter")
    assert selected(it) > 0
    tag(it, "by keys")
    assert faults(page, "[data-panel=selection]", "[data-panel=tags]") == []


@pytest.mark.slow
def test_a_selection_on_the_page_is_read_in_python(real: Real, opened: Open) -> None:
    import latentscale

    shown = latentscale.open(real.workspace).current
    assert shown is not None
    view = shown.view(block=False)
    assert view is not None
    try:
        assert view.selection == []
        clusters = real.points.filter(pl.col("cluster") >= 0)["cluster"].unique().sort()[:2].to_list()
        inside = real.points.filter(pl.col("cluster").is_in(clusters))
        it = opened()
        page = it.goto(f"{view.address}#i={','.join(f'0.{one}' for one in clusters)}&o=selection")
        with page.expect_response(lambda answer: answer.url.endswith("/selection")) as answered:
            panel(page).get_by_role("button", name="2 chosen clusters").click()
        assert answered.value.status == 204
        assert selected(it) == len(inside)
        assert view.selection == sorted(inside["row_id"])
        documents = view.documents()
        assert documents["row_id"].to_list() == view.selection
        assert set(documents["text"]) == set(shown.documents().collect()["text"].gather(inside["row_id"]))
        with page.expect_response(lambda answer: answer.url.endswith("/selection")):
            panel(page).get_by_role("button", name="Clear").click()
        assert view.selection == []
        assert view.documents().is_empty()
        # The same page from any other address tells nobody anything.
        sent: list[str] = []
        page.on("request", lambda request: sent.append(request.method))
        it.goto(f"{real.url}#i=0.{clusters[0]}&o=selection")
        panel(page).get_by_role("button", name="1 chosen cluster").click()
        assert selected(it) > 0
        assert set(sent) == {"GET"}
        assert view.selection == []
        assert it.problems == []
    finally:
        view.close()


@pytest.mark.slow
def test_placed_documents_are_shown_on_the_map_they_were_placed_on(
    real: Real, opened: Open, small_corpus: Path, tmp_path: Path, serve_folder
) -> None:
    import latentscale

    shown = latentscale.open(real.workspace).current
    assert shown is not None
    others = pl.read_parquet(small_corpus)[300:360]
    placed = shown.place(others, tmp_path / "others", text="text", id="package", page=tmp_path / "page")
    it = opened()
    page = it.goto(f"{serve_folder(tmp_path / 'page')}/index.html")
    assert page.url.endswith("/viewer/index.html#c=%40from")
    expect(page.locator(".categories .row")).to_have_text(["map300", "placed60"])
    expect(page.get_by_role("heading", level=1)).to_have_text("others on map")
    expect(page.locator(".newest")).to_have_count(0)
    page.locator(".categories .row", has_text="placed").click()
    it.settled()
    assert "60" in page.locator(".badge").inner_text()
    # One of them by its row id, which is above those of the map.
    row = placed.points().collect().row(5, named=True)
    page.goto(f"{page.url.partition('#')[0]}#p={row['row_id'] + 1000}")
    page.reload()
    it.ready()
    text = dict(others.select("package", "text").iter_rows())[row["package"]]
    expect(page.get_by_text(text[:40]).first).to_be_visible()
    expect(page.get_by_text("placed, from others")).to_be_visible()
    assert faults(page) == []
    assert it.problems == []
