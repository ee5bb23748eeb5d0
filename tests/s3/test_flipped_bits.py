"""A bit that flips between the store and a worker does not change a document."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from latentscale.config import CorpusConfig, IngestConfig, StorageConfig
from latentscale.errors import StorageError
from latentscale.readers.inputs import list_inputs
from latentscale.stages import ingest
from latentscale.storage.objects import Store
from latentscale.storage.parquet import read_parquet

TEXTS = [f"a text with the number {i}" for i in range(3_000)]


def content(kind: str) -> bytes:
    if kind == "parquet":
        sink = pa.BufferOutputStream()
        # Nothing in the file itself would show that it was changed.
        pq.write_table(pa.table({"text": TEXTS}), sink, compression="none", use_dictionary=False)
        return sink.getvalue().to_pybytes()
    data = "".join(json.dumps({"text": text}) + "\n" for text in TEXTS).encode()
    return gzip.compress(data) if kind == "jsonl.gz" else data


def read(bucket: Any, out: Path) -> list[str]:
    corpus = CorpusConfig(
        sources=(bucket.url("raw"),), text="text", storage=StorageConfig(**bucket.storage), format="auto"
    )
    store, shape = Store(str(out)), IngestConfig()
    units = ingest.plan_ingest(list_inputs(corpus), corpus, shape)
    worker = ingest.IngestWorker(store, corpus, shape)
    receipts = [receipt for unit in units for receipt in worker(unit)]
    assert sum(receipt.rejected for receipt in receipts) == 0
    return [text for receipt in receipts for text in read_parquet(store, receipt.name)["text"].to_pylist()]


@pytest.mark.parametrize("kind", ["jsonl", "jsonl.gz", "parquet"])
def test_a_flipped_bit_is_noticed_and_the_object_is_read_again(mock_bucket: Any, tmp_path: Path, kind: str) -> None:
    Store(mock_bucket.url("raw"), storage=mock_bucket.direct).put_bytes(f"a.{kind}", content(kind))
    mock_bucket.proxy.planned = [(rf"GET .*a\.{kind}", "flip")]
    assert read(mock_bucket, tmp_path / "ws") == TEXTS
    assert mock_bucket.proxy.happened["flip"] == 1


def test_an_object_that_comes_damaged_every_time_is_refused(mock_bucket: Any, tmp_path: Path) -> None:
    Store(mock_bucket.url("raw"), storage=mock_bucket.direct).put_bytes("a.jsonl", content("jsonl"))
    # Each reading takes two requests; of each another one is damaged.
    mock_bucket.proxy.rate, mock_bucket.proxy.faults, mock_bucket.proxy.only = 1.0, ("flip",), ("GET",)
    flips = iter(range(1_000))
    real = mock_bucket.proxy._forward

    def forward(request: Any) -> tuple[bytes, bytes]:
        head, body = real(request)
        # Another byte each time, beside the one that the proxy itself changes.
        place = next(flips) % max(1, len(body))
        return head, body[:place] + bytes([body[place] ^ 2]) + body[place + 1 :] if request.method == "GET" else body

    mock_bucket.proxy._forward = forward
    file = list_inputs_directly(mock_bucket)
    from latentscale.readers.opening import open_verified

    with pytest.raises(StorageError, match=r"a\.jsonl was damaged in transit from the store") as error:
        open_verified(file, StorageConfig(**mock_bucket.storage))
    assert error.value.exit_code == 4


def list_inputs_directly(bucket: Any) -> Any:
    (file,) = list_inputs(CorpusConfig(sources=(bucket.url("raw"),), storage=StorageConfig(**bucket.direct)))
    return file


def test_an_object_whose_etag_is_no_md5_is_read_all_the_same(mock_bucket: Any, tmp_path: Path) -> None:
    # Uploaded in parts: its ETag is that of a list.
    client = mock_bucket.client
    key = {"Bucket": mock_bucket.name, "Key": "raw/a.jsonl"}
    upload = client.create_multipart_upload(**key)["UploadId"]
    part = client.upload_part(**key, UploadId=upload, PartNumber=1, Body=content("jsonl"))
    parts = {"Parts": [{"ETag": part["ETag"], "PartNumber": 1}]}
    client.complete_multipart_upload(**key, UploadId=upload, MultipartUpload=parts)
    assert read(mock_bucket, tmp_path / "ws") == TEXTS
