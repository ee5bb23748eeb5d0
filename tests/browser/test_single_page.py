"""A page that is one file, opened from the disk."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import expect

from latentscale.viewer.page import single_page
from tests.browser.opened import Opened
from tests.browser.test_map import coloured, lonely, view_of

Open = Callable[..., Opened]


@pytest.fixture(scope="module")
def page_file(make_site, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, object]:
    site = make_site(8_000, heights=True)
    files = {
        path.relative_to(site.folder).as_posix(): path.read_bytes()
        for path in sorted(site.folder.rglob("*"))
        if path.is_file() and (path.parent.name != "assets" and path.name != "index.html")
    }
    path = tmp_path_factory.mktemp("file") / "my map #1.html"
    path.write_bytes(b"".join(single_page("Synthetic map", files)))
    return path, site.data


def test_a_page_in_one_file_draws_reads_and_turns_without_a_request(page_file, opened: Open, synthetic) -> None:
    path, data = page_file
    it = opened()
    page = it.goto(path.as_uri())
    expect(page).to_have_title("Synthetic map")
    expect(page.locator(".badge")).to_have_text("All 8,000 documents drawn")
    assert coloured(it.picture()) > 5_000
    row = lonely(data)
    it.goto("about:blank", ready=False)
    it.goto(path.as_uri() + view_of(data, row))
    expect(it.hover((602, 402))).to_contain_text(synthetic.text_of(row))
    page.mouse.click(602, 402)
    expect(page.get_by_role("complementary", name="Pinned document")).to_contain_text(synthetic.text_of(row))
    assert f"p={3 * row + 5}" in it.address()
    page.keyboard.press("3")
    expect(page.locator("#grid .grid-axes")).to_have_count(1)
    asked = {re.sub(r"[#?].*", "", url) for url in it.requests if not url.startswith(("data:", "blob:", "about:"))}
    assert asked == {path.as_uri()}
