"""A workspace in a bucket is repaired as one on a disk is: the same objects, under the same names."""

from __future__ import annotations

from typing import Any

import polars as pl
import pytest

import latentscale as ls
from tests.s3.conftest import within


def _flip(bucket: Any, key: str) -> None:
    """Alter one byte in the middle of an object, behind the back of the package."""
    data = bytearray(bucket.client.get_object(Bucket=bucket.name, Key=key)["Body"].read())
    data[len(data) // 2] ^= 1
    bucket.client.put_object(Bucket=bucket.name, Key=key, Body=bytes(data))


def _keys(bucket: Any) -> list[str]:
    pages = bucket.client.get_paginator("list_objects_v2").paginate(Bucket=bucket.name)
    return sorted(item["Key"] for page in pages for item in page.get("Contents", ()))


@pytest.mark.slow
def test_damaged_objects_of_a_bucket_are_rebuilt(bucket: Any, demo: pl.DataFrame) -> None:
    url = bucket.url("ws")
    made = ls.run(
        demo.head(240),
        out=url,
        storage=bucket.storage,
        project={"n_epochs": 20},
        cluster={"min_cluster_size": 8},
        progress="quiet",
    )
    before = made.points().collect().sort("row_id")
    keys = _keys(bucket)
    damaged = [
        next(key for key in keys if key.startswith(f"ws/{folder}/") and key.endswith(".parquet"))
        for folder in ("embeddings", "documents", "clusters")
    ]
    deleted = [next(key for key in keys if key.startswith("ws/labels/")), "ws/HEAD.json"]
    for key in damaged:
        _flip(bucket, key)
    for key in deleted:
        bucket.client.delete_object(Bucket=bucket.name, Key=key)
    assert within("verify", url, *bucket.options()) == 4
    assert within("repair", url, *bucket.options()) == 0
    again = ls.open(url, storage=bucket.storage)
    assert again.verify().faults == []
    assert again.the_map().id == made.id
    assert again.the_map().points().collect().sort("row_id").equals(before)
    assert set(keys) <= set(_keys(bucket))
