"""A hostile corpus through the whole pipeline: markup in texts, column names, labels and title remains text."""

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
    # What distinguishes it, and the cluster most like it.
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


def test_the_files_contain_the_original_text(served: str, opened: Open) -> None:
    it = opened()
    page = it.goto(served)
    manifest = json.loads(page.evaluate("() => fetch('manifest.json').then(r => r.text())"))
    assert manifest["title"] == ATTACK


# What runs in a page that makes markup of texts, by its way in: elements, attributes, addresses, ends of what text may
# stand in, encodings, templates, and what parsers mend.
PAYLOADS = (
    "<script>alert(1)</script>",
    "<SCRIPT SRC=//x.example/x.js></SCRIPT>",
    "<img src=x onerror=alert(1)>",
    "<img src=`x`onerror=alert(1)>",
    "<img/src/onerror=alert(1)>",
    "<svg onload=alert(1)>",
    "<svg><script>alert(1)</script></svg>",
    "<svg><animate onbegin=alert(1) attributeName=x dur=1s>",
    "<svg><set attributeName=onmouseover to=alert(1)>",
    "<math><mi xlink:href='javascript:alert(1)'>x</mi></math>",
    "<iframe src=javascript:alert(1)></iframe>",
    "<iframe srcdoc='<script>parent.alert(1)</script>'></iframe>",
    "<object data=javascript:alert(1)></object>",
    "<embed src=javascript:alert(1)>",
    "<a href=javascript:alert(1)>click</a>",
    "<a href='data:text/html,<script>alert(1)</script>'>click</a>",
    "<form action=javascript:alert(1)><input type=submit></form>",
    "<button formaction=javascript:alert(1)>x</button>",
    "<input autofocus onfocus=alert(1)>",
    "<select autofocus onfocus=alert(1)></select>",
    "<textarea autofocus onfocus=alert(1)></textarea>",
    "<details open ontoggle=alert(1)>x</details>",
    "<video src=x onerror=alert(1)></video>",
    "<video><source onerror=alert(1)></video>",
    "<audio src=x onerror=alert(1)></audio>",
    "<body onload=alert(1)>",
    "<body onpageshow=alert(1)>",
    "<marquee onstart=alert(1)>x</marquee>",
    "<style>@import 'javascript:alert(1)';</style>",
    "<style>*{background:url(javascript:alert(1))}</style>",
    "<link rel=stylesheet href=javascript:alert(1)>",
    "<link rel=import href='data:text/html,<script>alert(1)</script>'>",
    "<meta http-equiv=refresh content='0;url=javascript:alert(1)'>",
    "<base href=//x.example/>",
    "<template><script>alert(1)</script></template>",
    "<noscript><p title='</noscript><img src=x onerror=alert(1)>'>",
    "<title></title><script>alert(1)</script>",
    "</title><script>alert(1)</script>",
    "</script><script>alert(1)</script>",
    "</textarea><script>alert(1)</script>",
    "</style><script>alert(1)</script>",
    "--><script>alert(1)</script><!--",
    "]]><script>alert(1)</script>",
    "'><script>alert(1)</script>",
    '"><script>alert(1)</script>',
    '" onmouseover="alert(1)',
    "' onfocus='alert(1)' autofocus='",
    "&lt;script&gt;alert(1)&lt;/script&gt;",
    "&#60;script&#62;alert(1)&#60;/script&#62;",
    "\\u003cscript\\u003ealert(1)\\u003c/script\\u003e",
    "%3Cscript%3Ealert(1)%3C/script%3E",
    "+ADw-script+AD4-alert(1)+ADw-/script+AD4-",
    "<scr<script>ipt>alert(1)</scr</script>ipt>",
    "<<script>alert(1)//<</script>",
    "<img src=x:x onerror\u2028=alert(1)>",
    "javascript:alert(1)",
    " \tjava\tscript:alert(1)",
    "vbscript:msgbox(1)",
    "{{constructor.constructor('alert(1)')()}}",
    "${alert(1)}",
    "`${alert(1)}`",
    "<%= alert(1) %>",
    "__proto__",
    "constructor",
    "toString",
    "\u202e)1(trela\u202c",
)


@pytest.fixture(scope="module")
def payloads(tmp_path_factory: pytest.TempPathFactory, serve_folder) -> str:
    import latentscale

    top = tmp_path_factory.mktemp("payloads")
    words = [word for value in WORDS.values() for word in value.split()]
    rows = [
        {
            "text": f"{words[i % 8]} {words[(i + k) % 8]} {words[(i * 5 + k) % 8]} {payload} number {i} {k}",
            "title": payload,
            "kind": payload,
            "link": payload,
            payload if i == 0 else "note": payload,
        }
        for i, payload in enumerate(PAYLOADS)
        for k in range(8)
    ]
    with (top / "corpus.jsonl").open("w", encoding="utf-8") as file:
        for row in rows:
            file.write(json.dumps(row) + "\n")
    latentscale.run(
        str(top / "corpus.jsonl"),
        out=top / "site/map",
        text="text",
        cluster={"method": "column", "column": "kind"},
        label={"method": "curated", "options": {"column": "kind"}},
        publish={"title": PAYLOADS[2]},
        progress="quiet",
    )
    return serve_folder(top / "site") + "/map/viewer/"


def test_sixty_ways_in_are_text_in_lists_cards_labels_columns_and_filters(payloads: str, opened: Open) -> None:
    assert len(set(PAYLOADS)) >= 60
    it = opened()
    page = it.goto(payloads)
    made = """() => [...document.querySelectorAll(
      '#app script, #app img:not(.image), #app iframe, #app object, #app embed, #app form, #app video, #app audio,'
      + '#app marquee, #app style, #app link, #app base, #app meta, #app template,'
      + '#app [onerror], #app [onload], #app [onfocus], #app [autofocus], #app [srcdoc], #app [ontoggle]')]
      .map(node => node.outerHTML)"""
    # Attributes that HTML text would have made, too.
    acts = """() => [...document.querySelectorAll('#app *')].flatMap(node => [...node.attributes])
      .filter(({ name, value }) => name.startsWith('on') || (name === 'href' && !/^https?:/.test(value))).length"""
    page.get_by_role("button", name="Open all topics").click()
    page.locator("#canvas").focus()
    page.keyboard.press("d")
    # The list has what lies beside the panels: all of it.
    for key in ("0", "-", "-", "-"):
        it.settled()
        page.keyboard.press(key)
    page.get_by_label("Column beside the documents").select_option(label="title")
    it.settled()
    shown = page.get_by_role("grid", name="Documents")
    read: set[str] = set()
    for _ in range(200):
        it.settled()
        read |= set(shown.locator("[role=row] strong").all_text_contents())
        assert page.evaluate(made) == []
        assert page.evaluate(acts) == 0
        before = shown.evaluate("table => table.scrollTop")
        shown.evaluate("table => table.scrollTop += table.clientHeight")
        if shown.evaluate("table => table.scrollTop") == before:
            break
    plain = {" ".join(text.split()) for text in read}
    assert sum(" ".join(payload.split())[:80] in plain for payload in PAYLOADS) >= 60
    for key in ("f", "s", "q"):
        page.locator("#canvas").focus()
        page.keyboard.press(key)
    page.get_by_label("Colour by").select_option(label="kind")
    it.settled()
    for row in (0, 8 * 13, 8 * 31, 8 * 45, 8 * 57):
        page.evaluate(f"location.hash = 'p={row}&c=@kind'")
        it.settled()
        expect(page.get_by_role("complementary", name="Pinned document")).to_be_visible()
        assert page.evaluate(made) == []
        assert page.evaluate(acts) == 0
