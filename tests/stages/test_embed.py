"""Shards of documents without vectors are pending."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from latentscale.config import CorpusConfig, IngestConfig
from latentscale.digest import artifact_id
from latentscale.embedders.column import ColumnSpec
from latentscale.readers.inputs import list_inputs
from latentscale.stages import embed, ingest
from latentscale.storage.listing import Listing
from latentscale.storage.objects import Store
from latentscale.storage.remote.protocol import ObjectInfo
from latentscale.storage.snapshot import NO_SHARDS, ShardTable
from latentscale.storage.snapshots import make_snapshot
from latentscale.storage.vectors import load_vectors


def shards(keys: list[str]) -> ShardTable:
    ones = np.ones(len(keys), dtype=np.int64)
    return ShardTable(keys=pa.array(keys, pa.string()), rows=ones, bases=np.cumsum(ones) - 1, bytes=ones)


def listing(*names: str) -> Listing:
    return Listing((ObjectInfo(name=name, size=1, version="") for name in names), brief=True)


@pytest.mark.parametrize("batch", [20_000, 2])
def test_shards_without_an_object_of_vectors_are_pending(monkeypatch: pytest.MonkeyPatch, batch: int) -> None:
    monkeypatch.setattr(embed, "BATCH", batch)
    there = listing(
        "embeddings/embedding-1/aa/aa1.parquet",
        "embeddings/embedding-1/bb/bb1.parquet.part",
        "embeddings/embedding-1/cc/deep/cc1.parquet",
        "embeddings/embedding-1/dd/dd1.parquet",
        "embeddings/embedding-1/zz/zz1.parquet",
        "embeddings/embedding-2/ee/ee1.parquet",
    )
    asked = ["dd1", "bb1", "aa1", "cc1", "ee1"]
    assert embed.pending_shards(shards(asked), "embedding-1", there).tolist() == [False, True, False, True, True]


def test_without_shards_none_is_pending() -> None:
    there = listing("embeddings/embedding-1/aa/aa1.parquet")
    assert embed.pending_shards(NO_SHARDS, "embedding-1", there).tolist() == []
    assert embed.pending_shards(shards(["aa1"]), "embedding-1", Listing()).tolist() == [True]


@pytest.mark.parametrize("kind", [pa.null(), pa.list_(pa.float32())])
def test_a_shard_without_any_vectors_is_stored_like_the_others(tmp_path: Path, kind: pa.DataType) -> None:
    """Whichever comes first, and whatever type the empty column has."""
    for name, vectors in (("a", pa.nulls(2, kind)), ("b", pa.array([[3.0, 4.0], None]))):
        pq.write_table(pa.table({"text": [f"{name}1", f"{name}2"], "v": vectors}), tmp_path / f"{name}.parquet")
    store = Store(str(tmp_path / "ws"))
    corpus = CorpusConfig(sources=(str(tmp_path / "a.parquet"), str(tmp_path / "b.parquet")), vectors="v")
    inputs = list_inputs(corpus)
    ingest.check_corpus(inputs, corpus)
    worker = ingest.IngestWorker(store, corpus, IngestConfig(shard_rows=2))
    receipts = [one for unit in ingest.plan_ingest(inputs, corpus, IngestConfig(shard_rows=2)) for one in worker(unit)]
    frame = pl.DataFrame({"key": [r.key for r in receipts], "rows": [r.rows for r in receipts], "bytes": 1})
    snapshot = make_snapshot(store, frame, id_column=None, text_column="text", parent=None)
    request = embed.EmbeddingRequest(model={"model": "column"}, dtype="float32", text="text")
    embedder = embed.EmbedWorker(store, ColumnSpec(column="v"), request)
    for shard in snapshot.shards:
        embedder(shard)
    found = load_vectors(store, snapshot, artifact_id("embedding", request.identity()))
    np.testing.assert_allclose(found.matrix, [[0.6, 0.8]], rtol=1e-6)
    assert found.offsets.tolist() == [2]
