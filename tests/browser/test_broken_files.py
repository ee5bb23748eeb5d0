"""Every kind of file that the page reads, missing, truncated or replaced: reported by name and requested again."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import Route, expect

from tests.browser.opened import Opened

Open = Callable[..., Opened]
# What is read, and the address that has it read.
KINDS = {
    "tiles/0-0-0.parquet": "",
    "tiles/1-1-1.parquet": "",
    "pages/0-0-0.json": "",
    "labels.json": "",
    "clusters.json": "",
    "index.json": "",
    "cols/density/0-0-0.parquet": "#c=density",
    "cols/c2/0-0-0.parquet": "#f.@score=5..900",
    "rows/0.parquet": "#o=documents",
    "ids/0.parquet": "#p=5",
    "sections/search/terms/0.parquet": "#x.documents=0&o=documents",
}
WAYS = ("missing", "empty", "cut", "other")


def answering(way: str, path: Path) -> Callable[[Route], None]:
    content = path.read_bytes()

    def answer(route: Route) -> None:
        if way == "missing":
            route.fulfill(status=404, body="")
        elif way == "other":
            route.fulfill(status=200, content_type="text/html", body="<!doctype html><title>Log in</title>")
        else:
            route.fulfill(status=200, body=content[: len(content) // 2] if way == "cut" else b"")

    return answer


@pytest.mark.parametrize("file", KINDS)
def test_a_failed_file_is_reported_with_its_cause_and_requested_again(file: str, site, opened: Open) -> None:
    path = site.folder / "maps/map-00000001/viewer" / file
    assert path.is_file()
    ends = re.compile(f"/{re.escape(file)}$")
    it = opened(errors=True)
    page = it.page
    alert = page.get_by_role("alert")
    for way in WAYS:
        it.goto("about:blank", ready=False)
        page.route(ends, answering(way, path))
        it.goto(site.url(KINDS[file]), ready=False)
        cause = "is missing on the server" if way == "missing" else "(is damaged or cut off|is not JSON)"
        expect(alert).to_contain_text(re.compile(f"{re.escape(file)} {cause}"))
        it.settled()
        expect(page.locator("#canvas")).to_be_visible()
        # No sentence says that all is there where it is not.
        if file.startswith(("tiles", "pages")):
            expect(page.locator(".badge")).not_to_contain_text(re.compile("All|all that are in view"))
            expect(page.locator(".badge")).to_contain_text("could not be read")
        page.unroute(ends)
        alert.get_by_role("button", name="Try again").click()
        expect(alert).to_have_count(0)
        it.ready()
        expect(page.locator(".badge")).not_to_contain_text("could not be read")
        if "search" in file:
            expect(page.get_by_role("complementary", name="Documents")).to_contain_text("found")
    assert it.problems == [] or all("404" in problem or "Failed to load" in problem for problem in it.problems)
