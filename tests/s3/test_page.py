"""The published page is opened straight from the object store in Chromium, no server of ours between."""

from __future__ import annotations

import json
import os
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import polars as pl
import pytest

import latentscale as ls
from tests.browser import conftest as chromium
from tests.s3.conftest import fast_on

opened, built_page = chromium.opened, chromium.built_page

pytestmark = pytest.mark.browser


def public_address(bucket: Any) -> str:
    """Let everybody read the bucket, and say where it is then."""
    s3 = bucket.client
    if bucket.server.name == "moto":
        # What docs/operations.md says is all that the page needs.
        needed = [f"arn:aws:s3:::{bucket.name}/map/{path}/*" for path in ("viewer", "maps/*/viewer")]
        statement = {"Effect": "Allow", "Principal": "*", "Action": "s3:GetObject", "Resource": needed}
        policy = {"Version": "2012-10-17", "Statement": [statement]}
        s3.put_bucket_policy(Bucket=bucket.name, Policy=json.dumps(policy))
        return f"{bucket.server.endpoint}/{bucket.name}"
    s3.put_bucket_acl(Bucket=bucket.name, ACL="public-read")
    # Swift gives public objects under its own address, not under that of its s3api.
    return f"{bucket.server.endpoint}/v1/AUTH_test/{bucket.name}"


@fast_on("swift")
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
    if bucket.server.name == "moto":
        with pytest.raises(urllib.error.HTTPError, match="403"):
            urllib.request.urlopen(f"{address}/map/workspace.json")
    view = opened()
    page = view.goto(f"{address}/map/viewer/index.html")
    assert "From a bucket" in page.title() + page.inner_text("body")
    assert f"{made.record.counts['documents']:,}" in page.inner_text("body")
    assert all(url.startswith((address, "data:", "blob:")) for url in view.requests)
    picture = view.picture()
    if folder := os.environ.get("LATENTSCALE_PICTURES"):
        picture.save(Path(folder) / f"bucket-{bucket.server.name}.png")
    colours = picture.resize((300, 200)).getcolors(60_000)
    assert colours is not None
    assert len(colours) > 100
