"""The published page is opened straight from the object store in Chromium, no server of ours between."""

from __future__ import annotations

import json
import urllib.request
from pathlib import Path
from typing import Any

import polars as pl
import pytest

import latentscale as ls

from .conftest import ROOT, load  # isort: skip

chromium = load("browser_conftest", ROOT / "tests/browser/conftest.py")
browser, opened, built_page = chromium.browser, chromium.opened, chromium.built_page

pytestmark = pytest.mark.browser


def public_address(bucket: Any) -> str:
    """Let everybody read the bucket, and say where it is then."""
    if bucket.server.name == "moto":
        return f"{bucket.server.endpoint}/{bucket.name}"
    # Swift gives public pages under its own address, not under that of its s3api.
    keys = {"X-Auth-User": bucket.server.key, "X-Auth-Key": bucket.server.secret}
    request = urllib.request.Request(f"{bucket.server.endpoint}/auth/v1.0", headers=keys)
    with urllib.request.urlopen(request) as answer:
        storage, token = answer.headers["X-Storage-Url"], answer.headers["X-Auth-Token"]
    headers = {"X-Auth-Token": token, "X-Container-Read": ".r:*"}
    urllib.request.urlopen(urllib.request.Request(f"{storage}/{bucket.name}", headers=headers, method="POST")).close()
    return f"{storage}/{bucket.name}"


def test_the_page_opens_from_the_bucket(bucket: Any, opened: Any, demo: pl.DataFrame, tmp_path: Path) -> None:
    demo.sample(1_500, seed=1).write_parquet(tmp_path / "corpus.parquet")
    settings: dict[str, Any] = {"project": {"n_epochs": 60}, "publish": {"title": "From a bucket"}}
    made = ls.run(
        str(tmp_path / "corpus.parquet"), text="text", out=bucket.url("map"), storage=bucket.storage, **settings
    )
    address = public_address(bucket)
    with urllib.request.urlopen(f"{address}/map/viewer/manifest.json") as answer:
        assert json.load(answer)["schema"]
        assert answer.headers["Content-Type"].startswith("application/json")
    view = opened()
    page = view.goto(f"{address}/map/viewer/index.html")
    assert "From a bucket" in page.title() + page.inner_text("body")
    assert f"{made.record.counts['documents']:,}" in page.inner_text("body")
    assert all(url.startswith((address, "data:", "blob:")) for url in view.requests)
    picture = view.picture()
    if folder := __import__("os").environ.get("LATENTSCALE_PICTURES"):
        picture.save(Path(folder) / f"bucket-{bucket.server.name}.png")
    colours = picture.resize((300, 200)).getcolors(60_000)
    assert colours is not None
    assert len(colours) > 100
