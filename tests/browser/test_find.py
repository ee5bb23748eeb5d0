"""Documents are found by their words, listed, and reached by keys."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Page, expect

from tests.browser.assistive import faults
from tests.browser.opened import Opened

Open = Callable[..., Opened]


def rows_of(page: Page):
    return page.get_by_role("grid", name="Documents").get_by_role("row")


def headline(page: Page):
    return page.get_by_role("complementary", name="Documents").get_by_role("status")


def lit(picture: Image.Image) -> int:
    """Pixels of the map between the panels that have a colour."""
    pixels = np.asarray(picture.crop((340, 0, 700, 740))).astype(int)
    return int((np.ptp(pixels, axis=2) > 45).sum())


def about(first: int, second: int, n: int) -> list[int]:
    """Rows of the synthetic map whose text has both words."""
    return [i for i in range(n) if {i % 16, (i // 16) % 16} == {first, second}]


def test_a_word_is_found_ranked_lit_highlighted_and_leads_to_its_point(site, opened: Open) -> None:
    it = opened()
    page = it.goto(site.url())
    before = lit(it.picture())
    page.keyboard.press("/")
    page.keyboard.type("cedar fjord ")
    expected = about(2, 5, 20_000)
    expect(headline(page)).to_have_text(f"{len(expected):,} documents found")
    expect(rows_of(page).first.locator("mark")).to_have_text([re.compile("cedar|fjord")] * 2)
    it.settled()
    assert 0 < lit(it.picture()) < 0.5 * before, "what was not found is dimmed"
    assert page.locator("#overlay .hit").count() == 60
    for text in rows_of(page).all_text_contents():
        assert int(re.search(r"number (\d+)", text)[1]) in expected
    # The searched words are in the address, and go with Escape or the field's content.
    assert "x.documents=cedar%20fjord" in it.address()
    rows_of(page).nth(1).click()
    row = int(re.search(r"number (\d+)", rows_of(page).nth(1).text_content())[1])
    panel = page.get_by_role("complementary", name="Pinned document")
    expect(panel.locator("mark")).to_have_text([re.compile("cedar|fjord")] * 2)
    expect(panel).to_contain_text(f"2 of {len(expected):,}")
    x, y, span = it.view()
    assert np.abs(site.data.coordinates[row] - (x, y)).max() < span / 2
    panel.get_by_role("button", name="Next").click()
    expect(panel).to_contain_text(f"3 of {len(expected):,}")
    page.locator("#canvas").focus()
    page.keyboard.press("p")
    expect(panel).to_contain_text(f"2 of {len(expected):,}")
    page.get_by_label("Find documents and clusters").fill("")
    expect(page.get_by_role("complementary", name="Documents")).to_have_count(0)
    expect(page.locator("#overlay .hit")).to_have_count(0)


def test_a_link_with_a_query_shows_its_results(site, opened: Open) -> None:
    it = opened()
    page = it.goto(site.url("#x.documents=12345"))
    expect(headline(page)).to_have_text("1 document found")
    expect(rows_of(page).first).to_contain_text("Document number 12345 ")
    page.get_by_label("Find documents and clusters").fill("zebra")
    expect(headline(page)).to_have_text("No matching documents")
    page.get_by_label("Find documents and clusters").fill("number 12345 ")
    expect(headline(page)).to_have_text("1 document found · too common to narrow it: number")


def test_documents_like_one_are_listed_lit_and_in_the_link(make_site, opened: Open) -> None:
    it = opened()
    site = make_site(3_000, similar=True)
    page = it.goto(site.url("#p=35"))
    panel = page.get_by_role("complementary", name="Pinned document")
    panel.get_by_role("button", name="More like this").focus()
    page.keyboard.press("Enter")
    expect(headline(page)).to_have_text("4 documents most like document 35")
    expect(rows_of(page)).to_have_text([re.compile(rf"^0\.{9 - i}0 · Document number {11 + i} ") for i in range(4)])
    it.settled()
    assert page.locator("#overlay .hit").count() == 4
    asked = [url for url in it.requests if "/sections/similar/" in url]
    assert len(asked) == 1
    # The clusters stay listed: what is searched for are no words.
    expect(page.locator(".topics .row").first).to_be_visible()
    link = it.address()
    assert "x.documents=like%20%2335" in link
    page.get_by_role("button", name="Select these").click()
    expect(headline(page)).to_contain_text("4 documents selected")
    again = opened()
    expect(headline(again.goto(link))).to_have_text("4 documents most like document 35")
    again.page.get_by_label("Find documents and clusters").fill("like #6")
    expect(again.page.locator("body")).to_contain_text("No document has the row id 6")


def test_documents_are_found_by_meaning_with_keys_alone_and_in_the_link(make_site, opened: Open) -> None:
    it = opened()
    page = it.goto(make_site(3_001, meaning=True).url())
    page.keyboard.press("/")
    page.keyboard.type("Cedars!")
    page.keyboard.press("Tab")
    page.keyboard.press("Tab")
    expect(page.locator(":focus")).to_have_text("Meaning")
    page.keyboard.press("Enter")
    expect(headline(page)).to_have_text("The 100 documents nearest in meaning")
    # The rows are there before their texts.
    it.settled()
    for text in rows_of(page).all_text_contents():
        assert re.match(r"^0\.\d\d · Document number .*\bcedar\b", text)
    link = it.address()
    assert "x.documents=Cedars!" in link
    assert "x.list=meaning" in link
    again = opened()
    expect(headline(again.goto(link))).to_have_text("The 100 documents nearest in meaning")
    again.page.get_by_role("button", name="Words").click()
    expect(headline(again.page)).to_have_text("No matching documents")
    again.page.keyboard.press("q")
    expect(again.page.get_by_role("complementary", name="About this map")).to_contain_text("Found by meaning")


def test_a_map_that_is_not_searched_by_meaning_names_the_command(site, opened: Open) -> None:
    it = opened()
    page = it.goto(site.url("#x.documents=cedar"))
    expect(page.locator(".topics")).to_contain_text(
        'By meaning, from the command line: latentscale search WORKSPACE "cedar"'
    )
    expect(page.get_by_role("button", name="Meaning")).to_have_count(0)


def test_a_map_without_similar_documents_says_so(site, opened: Open) -> None:
    it = opened()
    page = it.goto(site.url("#p=35"))
    panel = page.get_by_role("complementary", name="Pinned document")
    expect(panel).to_contain_text("Similar documents are not stored: publish the map again to get them.")
    expect(panel.get_by_role("button", name="More like this")).to_have_count(0)


def test_markup_that_is_found_is_text(make_site, opened: Open, synthetic) -> None:
    it = opened()
    page = it.goto(make_site(600, hostile=True).url("#x.documents=onerror"))
    expect(headline(page)).to_have_text("300 documents found")
    expect(rows_of(page).first).to_contain_text(synthetic.HOSTILE)
    assert page.locator("img").count() == 0
    assert page.title() == "Synthetic map"


def test_added_documents_are_found_and_removed_ones_are_not(make_grown, opened: Open) -> None:
    site = make_grown("whole-files")
    map_ = site.data
    it = opened()
    page = it.goto(site.url())
    # A row that has left the map, one that was replaced, and one that an update brought.
    gone = next(row for numbers in map_.gone for row in numbers if row not in map_.rows)
    last = int(map_.rows[np.argmax(map_.generation)])
    for row, number in ((int(gone), 0), (last, 1)):
        page.get_by_label("Find documents and clusters").fill(f"{row} ")
        it.settled()
        found = [text for text in rows_of(page).all_text_contents() if re.search(rf"\b{row}\b", text)]
        assert len(found) == number


def test_a_map_without_an_index_offers_no_document_search(make_site, opened: Open) -> None:
    site = make_site(601)
    index = next(site.folder.glob("maps/*/viewer/index.json"))
    kept = index.read_bytes()
    content = json.loads(kept)
    del content["sections"]["search"]
    index.write_text(json.dumps(content))
    try:
        it = opened()
        page = it.goto(site.url())
        page.get_by_label("Find documents and clusters").fill("cedar")
        expect(page.locator(".topics")).to_contain_text("The words of this map's documents are not indexed")
        expect(page.locator(".topics .row:not(.context) mark").first).to_have_text("cedar")
        expect(page.get_by_role("complementary", name="Documents")).to_have_count(0)
    finally:
        index.write_bytes(kept)


def test_documents_in_view_are_listed_and_read_by_keyboard_alone(site, opened: Open) -> None:
    it = opened()
    page = it.goto(site.url("#v=10,0,1.5"))
    page.keyboard.press("d")
    expect(headline(page)).to_contain_text("in view")
    it.settled()
    x, y, span = it.view()
    left, right = 304 + 16 + 20, 1200 - 420 - 16
    told = int(re.match(r"([\d,]+) documents? in view", headline(page).text_content())[1].replace(",", ""))
    near = (site.data.coordinates - (x, y)) * 800 / span
    seen = (near[:, 0] > left - 600) & (near[:, 0] < right - 600) & (np.abs(near[:, 1]) < 400)
    assert 0.6 * seen.sum() <= told <= 1.05 * seen.sum()
    grid = page.get_by_role("grid", name="Documents")
    expect(grid).to_have_attribute("aria-rowcount", str(told))
    # By Tab to the table, by arrows in it, by Enter to the document.
    rows_of(page).first.focus()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowDown")
    expect(page.locator(":focus")).to_have_attribute("aria-rowindex", "3")
    expect(page.locator("#overlay .hovered")).to_have_count(1)
    text = page.locator(":focus").text_content()
    page.keyboard.press("Enter")
    panel = page.get_by_role("complementary", name="Pinned document")
    expect(panel).to_contain_text(re.search(r"Document number \d+", text)[0] + " ")
    rows_of(page).first.focus()
    page.keyboard.press("End")
    it.settled()
    expect(page.locator(":focus")).to_have_attribute("aria-rowindex", str(grid.get_attribute("aria-rowcount")))
    assert rows_of(page).count() < 40, "only what is seen is drawn"


def test_a_chosen_cluster_lists_its_documents_with_a_column_and_sorted(site, opened: Open) -> None:
    it = opened()
    page = it.goto(site.url("#v=10,0,12&i=0.0&o=documents"))
    inside = int((site.data.clusters == 0).sum())
    expect(headline(page)).to_contain_text("of the filtered in view")
    it.settled()
    told = int(re.match(r"([\d,]+) documents", headline(page).text_content())[1].replace(",", ""))
    assert 0 < told <= inside
    page.get_by_label("Column beside the documents").select_option(label="score")
    page.get_by_role("button", name="Sort by score, now none").click()
    expect(page.get_by_role("button", name="Sort by score, now ascending")).to_be_visible()
    it.settled()
    values = [float(v) for v in page.locator(".document-row .beside").all_text_contents() if v not in ("", "–")]
    assert values == sorted(values)
    page.get_by_role("button", name="Sort by score, now ascending").click()
    expect(page.get_by_role("button", name="Sort by score, now descending")).to_be_visible()
    it.settled()
    down = [float(v) for v in page.locator(".document-row .beside").all_text_contents() if v not in ("", "–")]
    assert down == sorted(down, reverse=True)
    assert down[0] > values[0]


@pytest.mark.parametrize("scheme", [pytest.param("dark", marks=pytest.mark.slow), "light"])
def test_search_results_are_accessible(site, opened: Open, scheme: str) -> None:
    it = opened(scheme=scheme)
    page = it.goto(site.url("#x.documents=cedar%20fjord&p=8"))
    expect(rows_of(page).first.locator("mark").first).to_be_visible()
    it.settled()
    assert faults(page) == []


def test_a_phone_shows_results_and_then_the_document(site, opened: Open) -> None:
    it = opened()
    it.page.set_viewport_size({"width": 390, "height": 844})
    page = it.goto(site.url())
    page.get_by_role("button", name="Synthetic map").click()
    page.get_by_label("Find documents and clusters").fill("cedar fjord ")
    page.keyboard.press("Enter")
    expect(page.locator(".panel")).to_have_count(0)
    expect(headline(page)).to_contain_text("documents found")
    rows_of(page).first.click()
    expect(page.get_by_role("complementary", name="Documents")).to_have_count(0)
    panel = page.get_by_role("complementary", name="Pinned document")
    expect(panel).to_contain_text("1 of ")
    panel.get_by_role("button", name="Next").click()
    expect(panel).to_contain_text("2 of ")


def test_a_box_selects_its_documents_and_saves_their_row_ids(site, opened: Open, tmp_path: Path) -> None:
    it = opened(accept_downloads=True)
    page = it.goto(site.url("#v=10,0,4"))
    before = it.view()
    page.keyboard.down("Shift")
    page.mouse.move(500, 300)
    page.mouse.down()
    page.mouse.move(650, 500, steps=4)
    expect(page.locator(".selection")).to_have_count(1)
    page.mouse.up()
    page.keyboard.up("Shift")
    expect(page.locator(".selection")).to_have_count(0)
    places = (site.data.coordinates - before[:2]) * 800 / before[2] * (1, -1) + (600, 400)
    inside = ((places > (500, 300)) & (places < (650, 500))).all(axis=1)
    expect(headline(page)).to_have_text(re.compile(r"^[\d,]+ documents selected$"))
    told = int(re.match(r"([\d,]+) documents selected$", headline(page).text_content())[1].replace(",", ""))
    assert abs(told - inside.sum()) <= 2
    with page.expect_download() as download:
        page.get_by_role("button", name=f"Save {told:,} row ids (CSV)").click()
    download.value.save_as(tmp_path / "ids.csv")
    header, *ids = (tmp_path / "ids.csv").read_text().split()
    assert header == "row_id"
    assert len(set(ids)) == told
    assert len(set(map(int, ids)) ^ set(site.data.row_ids[inside].tolist())) <= 2
    assert it.view() == before, "the map did not move"
    page.locator("#canvas").focus()
    page.keyboard.press("Escape")
    expect(page.get_by_role("complementary", name="Documents")).to_have_count(0)


def test_a_cluster_leads_to_its_documents(site, opened: Open) -> None:
    it = opened()
    page = it.goto(site.url("#i=0.3"))
    page.get_by_role("button", name="List its documents").click()
    it.settled()
    expect(headline(page)).to_contain_text("of the filtered in view")
    # The whole of the cluster is in view now, beside the panels.
    told = int(re.match(r"([\d,]+) documents", headline(page).text_content())[1].replace(",", ""))
    assert 0.9 * (site.data.clusters == 3).sum() <= told <= (site.data.clusters == 3).sum()
    page.get_by_role("button", name="Select these").click()
    expect(headline(page)).to_contain_text(f"{told:,} documents selected")
    page.get_by_role("button", name="Clear the selection").click()
    expect(headline(page)).to_contain_text("in view")
