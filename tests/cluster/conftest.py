"""A cluster of three nodes for all tests of this folder, a corpus, and what one process makes of it."""

from __future__ import annotations

import importlib.util
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import polars as pl
import pytest

import latentscale
from tests.s3 import swift

SECRET = "testing-of-the-nodes"
SETTINGS: dict[str, Any] = {"ingest": {"shard_rows": 64}, "quality": {"sample": 100}}


@pytest.fixture(scope="session")
def ray_nodes() -> ModuleType:
    """``tests/cluster/ray_nodes.py``."""
    pytest.importorskip("ray", reason="the extra `ray` is not installed")
    if not sys.platform.startswith("linux"):
        pytest.skip("nodes of their own loopback addresses need Linux")
    spec = importlib.util.spec_from_file_location("ray_nodes", Path(__file__).with_name("ray_nodes.py"))
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules["ray_nodes"] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def cluster(ray_nodes: ModuleType) -> Iterator[Any]:
    """Three nodes with one processor each. Tests that lose one add another."""
    folder = Path(tempfile.mkdtemp(prefix="ls"))
    made = ray_nodes.Cluster(folder, {"AWS_ACCESS_KEY_ID": swift.KEY, "AWS_SECRET_ACCESS_KEY": SECRET})
    try:
        made.add(wait=False, resources={"blue": 1})
        made.add(wait=False, resources={"green": 1})
        made.wait_for(*made.nodes)
        yield made
    finally:
        made.close()
        shutil.rmtree(folder, ignore_errors=True)


class Bucket:
    """A Swift server to which the nodes have the keys, and this process has them for what a test reads and writes."""

    def __init__(self, endpoint: str) -> None:
        import botocore.session
        from botocore.config import Config

        self.endpoint = endpoint
        self.secret = SECRET
        self.storage = {"endpoint_url": endpoint, "region": swift.REGION}
        self._client = botocore.session.get_session().create_client(
            "s3",
            endpoint_url=endpoint,
            region_name=swift.REGION,
            aws_access_key_id=swift.KEY,
            aws_secret_access_key=SECRET,
            config=Config(
                s3={"addressing_style": "path"},
                request_checksum_calculation="when_required",
                response_checksum_validation="when_required",
            ),
        )
        for name in ("example-raw", "example-maps"):
            self._client.create_bucket(Bucket=name)

    def put(self, bucket: str, key: str, data: bytes) -> None:
        """Write an object."""
        self._client.put_object(Bucket=bucket, Key=key, Body=data)

    def keys(self, bucket: str, prefix: str) -> list[str]:
        """List objects."""
        found = self._client.list_objects_v2(Bucket=bucket, Prefix=prefix)
        return [one["Key"] for one in found.get("Contents", [])]


@pytest.fixture
def bucket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bucket]:
    """The buckets of ``jobs/*.yaml`` on a server of their own."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", swift.KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    with swift.swift(tmp_path / "swift", secret=SECRET) as server:
        yield Bucket(server.endpoint)


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory, demo: pl.DataFrame) -> Path:
    """1,500 documents in twelve files of several formats, which make twelve units of ingest and 24 shards."""
    folder = tmp_path_factory.mktemp("cluster") / "corpus"
    folder.mkdir()
    frame = demo.sort("package").head(1_500).rename({"text": "body"})
    for i, part in enumerate(frame.iter_slices(125)):
        if i % 2:
            part.write_ndjson(folder / f"part-{i:02}.jsonl")
        else:
            part.write_parquet(folder / f"part-{i:02}.parquet")
    return folder


@pytest.fixture(scope="session")
def local(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The map that one process makes of the corpus."""
    out = tmp_path_factory.mktemp("local") / "map"
    latentscale.run(str(corpus), out=out, text="body", id="package", progress="quiet", **SETTINGS)
    return out
