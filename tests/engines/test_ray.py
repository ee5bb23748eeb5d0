"""The Ray engine leaves the same objects as the local one, byte for byte."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pytest

import latentscale
from latentscale.errors import CorpusError, ResourceError

pytest.importorskip("ray", reason="the extra `ray` is not installed")
pytestmark = pytest.mark.ray


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    """One Ray for all tests of this module, two workers, as `latentscale run --engine ray` starts it."""
    import ray

    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    yield
    ray.shutdown()


def objects(workspace: latentscale.Workspace) -> dict[str, bytes]:
    """All objects but records, which hold times, and runs."""
    skipped = ("runs/", "HEAD.json", "workspace.json")
    return {
        name: workspace.store.read_bytes(name)
        for name in workspace.store.list()
        if not name.startswith(skipped) and not name.endswith(("artifact.json", "map.json"))
    }


def test_both_engines_leave_the_same_bytes(tmp_path: Path, small_corpus: Path, cluster: None) -> None:
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    frame = pl.read_parquet(small_corpus)
    for i, part in enumerate(frame.iter_slices(100)):
        part.write_csv(corpus / f"part-{i}.csv")
    settings = {"ingest": {"shard_rows": 40}, "progress": "quiet"}
    latentscale.run(str(corpus), out=tmp_path / "local" / "x", **settings)
    latentscale.run(str(corpus), out=tmp_path / "ray" / "x", engine={"name": "ray"}, **settings)
    local, ray = (latentscale.open(tmp_path / engine / "x") for engine in ("local", "ray"))
    one, two = objects(local), objects(ray)
    assert list(one) == list(two)
    assert [name for name in one if one[name] != two[name]] == []
    assert ray.runs[0]["facts"]["engine"]["engine"] == "ray"


def test_an_error_of_a_worker_comes_back_as_it_was(tmp_path: Path, cluster: None) -> None:
    import numpy as np
    import pyarrow as pa

    vectors = np.random.default_rng(0).standard_normal((50, 8)).tolist()
    vectors[31][2] = float("nan")
    table = pa.table({"text": [f"word {i}" for i in range(50)], "emb": pa.array(vectors, pa.list_(pa.float32()))})
    with pytest.raises(CorpusError, match="NaN"):
        latentscale.run(
            table,
            out=tmp_path / "out",
            progress="quiet",
            engine={"name": "ray"},
            corpus={"vectors": "emb"},
            embed={"model": "column"},
            ingest={"shard_rows": 10},
        )


@pytest.mark.slow
def test_an_address_where_no_cluster_answers_is_named(tmp_path: Path, small_corpus: Path) -> None:
    import ray

    ray.shutdown()
    with pytest.raises(ResourceError, match=r"127\.0\.0\.1:1"):
        latentscale.run(
            str(small_corpus), out=tmp_path / "out", progress="quiet", engine={"name": "ray", "address": "127.0.0.1:1"}
        )
