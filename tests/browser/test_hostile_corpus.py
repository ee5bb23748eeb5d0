"""A hostile corpus through the whole pipeline: markup in texts, column names, labels and title stays text."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import expect

from tests.browser.opened import Opened

Open = Callable[..., Opened]
ATTACK = "<img src=x onerror=alert(1)>"
LABEL = "<img src=x onerror=alert(2)><script>alert(3)</script>"
COLUMN = "<img src=x onerror=alert(4)>"
WORDS = {LABEL: "whale squid reef tide", "plain": "violin cello sonata fugue"}


def write_corpus(path: Path) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["text", "kind", COLUMN, "link"])
        for i in range(240):
            kind = LABEL if i % 2 else "plain"
            words = WORDS[kind].split()
            text = f"{words[i % 4]} {words[(i // 4) % 4]} and {words[(i // 7) % 4]}, number {i}"
            if i % 3 == 1:
                text = f"{ATTACK} {text}"
            writer.writerow([text, kind, f"{ATTACK} {i % 5}", "javascript:alert(5)"])


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory, serve_folder) -> str:
    import latentscale

    top = tmp_path_factory.mktemp("hostile")
    corpus = top / "corpus.csv"
    write_corpus(corpus)
    latentscale.run(
        str(corpus),
        out=top / "site/map",
        text="text",
        cluster={"method": "column", "column": "kind"},
        publish={"title": ATTACK},
        progress="quiet",
    )
    return serve_folder(top / "site") + "/map/viewer/"


def test_a_hostile_corpus_is_shown_as_text_everywhere(served: str, opened: Open) -> None:
    it = opened()
    page = it.goto(served)
    expect(page.locator(".panel h1")).to_have_text(ATTACK)
    expect(page).to_have_title(ATTACK)
    expect(page.locator("#labels")).to_contain_text(LABEL)
    row = page.locator(".topics .row").filter(has_text=LABEL)
    expect(row).to_have_count(1)

    page.get_by_label("Colour by").select_option(label=COLUMN)
    legend = page.locator(".categories .row")
    expect(legend).to_have_count(5)
    expect(legend.first).to_contain_text(ATTACK)

    row.click()
    cluster = page.get_by_role("complementary", name="Chosen cluster")
    expect(cluster.locator("h2")).to_have_text(LABEL)
    # What sets it apart, and the cluster most like it.
    evidence = cluster.locator(".evidence")
    expect(evidence.locator("dt").first).to_have_text("kind")
    expect(evidence.locator("dd").first).to_contain_text(f"{LABEL}: 100 % of its documents, 0 % of the others")
    expect(cluster.get_by_role("button", name="plain", exact=True)).to_be_visible()
    attacked = cluster.locator(".exemplar").filter(has_text=ATTACK)
    expect(cluster.locator(".exemplar").first).to_be_visible()
    it.settled()
    (attacked if attacked.count() else cluster.locator(".exemplar")).first.click()
    panel = page.get_by_role("complementary", name="Pinned document")
    expect(panel.locator("dt")).to_have_text(["kind", COLUMN, "link"])
    expect(panel.locator("dd").nth(0)).to_have_text(LABEL)
    expect(panel.locator("dd").nth(1)).to_contain_text(ATTACK)
    expect(panel.locator("dd").nth(2)).to_have_text("javascript:alert(5)")
    expect(panel.locator("a")).to_have_count(0)
    expect(panel.locator(".cluster-path")).to_contain_text(LABEL)

    # Pinning moved nothing away: what is under the ring can be hovered as well.
    card = it.hover("#overlay .pinned")
    expect(card.locator("p")).to_contain_text("number")
    expect(card.locator(".cluster-path")).to_contain_text(LABEL)
    assert page.locator("img, iframe, object, #app script").count() == 0
    assert not [url for url in it.requests if url.rstrip("/").endswith("/x")], "nothing asked for the picture"


def test_a_hostile_text_is_shown_in_the_cards(served: str, opened: Open) -> None:
    it = opened()
    page = it.goto(f"{served}#p=1")
    panel = page.get_by_role("complementary", name="Pinned document")
    expect(panel.locator(".document-text")).to_contain_text(ATTACK)
    it.settled()
    text = panel.locator(".document-text").text_content()
    expect(it.hover("#overlay .pinned").locator("p")).to_have_text(text)
    page.get_by_label("Find documents and clusters").fill("<img")
    expect(page.locator(".topics .row:not(.context)")).to_have_count(1)
    assert page.locator("img").count() == 0


def test_the_files_hold_the_text_as_it_was(served: str, opened: Open) -> None:
    it = opened()
    page = it.goto(served)
    manifest = json.loads(page.evaluate("() => fetch('manifest.json').then(r => r.text())"))
    assert manifest["title"] == ATTACK
