"""Arrow files and streams, and the folders of Hugging Face data sets."""

from __future__ import annotations

import datetime
import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.feather
import pyarrow.ipc
import pyarrow.parquet as pq
import pytest
from corpora import listed, listed_and_left

from latentscale.config import CorpusConfig
from latentscale.errors import CorpusError
from latentscale.readers import arrow
from latentscale.readers.arrow import read_arrow
from latentscale.readers.arrow_bounds import decompressed_sizes
from latentscale.readers.inputs import open_input
from latentscale.readers.parquet import BATCH_BYTES

TABLE = pa.table(
    {
        "text": pa.array([f"text {i}" if i % 7 else None for i in range(100)]),
        "kind": pa.array(["a", "b"] * 50).dictionary_encode(),
        "when": pa.array([datetime.datetime(2026, 1, 2, 3, i % 60) for i in range(100)], pa.timestamp("ms")),
        "tags": pa.array([["x", None], None] * 50),
        "chat": pa.array([[{"role": "user", "content": "hi"}], []] * 50),
        "view": pa.array(["long enough not to be inlined", None] * 50, pa.string_view()),
        "runs": pa.RunEndEncodedArray.from_arrays(pa.array([60, 100], pa.int32()), pa.array([1, 2])),
    }
)


def refusal(action: Callable[[], Any]) -> str:
    with pytest.raises(CorpusError) as error:
        action()
    assert len(str(error.value).splitlines()) <= 6
    return str(error.value)


def write_stream(path: Path, table: pa.Table) -> Path:
    with pa.ipc.new_stream(path, table.schema) as writer:
        writer.write_table(table, max_chunksize=30)
    return path


def write_file(path: Path, table: pa.Table, compression: str | None = None) -> Path:
    with pa.ipc.new_file(path, table.schema, options=pa.ipc.IpcWriteOptions(compression=compression)) as writer:
        writer.write_table(table, max_chunksize=30)
    return path


@pytest.mark.parametrize("kind", ["stream", "file", "lz4", "zstd", "feather", "file.gz"])
def test_files_and_streams_give_their_rows(tmp_path: Path, ingested: Callable[..., Any], kind: str):
    path = tmp_path / f"a.{'feather' if kind == 'feather' else 'arrow'}"
    if kind == "stream":
        write_stream(path, TABLE)
    elif kind == "feather":
        pyarrow.feather.write_feather(TABLE.drop(["runs"]), path)
    else:
        write_file(path, TABLE, kind if kind in ("lz4", "zstd") else None)
    if kind == "file.gz":
        packed = tmp_path / "a.arrow.gz"
        packed.write_bytes(gzip.compress(path.read_bytes()))
        path = packed
    made = ingested(path)
    expected = [row for row in TABLE.to_pylist() if row["text"] is not None]
    for row in expected:
        if kind == "feather":
            del row["runs"]
    assert made.rows == expected
    assert [row for row, _, reason in made.rejects if reason == "null_text"] == list(range(0, 100, 7))


@pytest.mark.parametrize("write", [write_stream, write_file])
def test_truncated_files_are_refused_at_any_length(
    tmp_path: Path, ingested: Callable[..., Any], write: Callable[[Path, pa.Table], Path]
):
    whole = write(tmp_path / "a.arrow", TABLE.select(["text", "kind"])).read_bytes()
    for cut in {8, 9, 16, *np.linspace(1, len(whole) - 10, 12, dtype=int).tolist()}:
        (tmp_path / "a.arrow").write_bytes(whole[:-cut])
        assert "not a complete Arrow file" in refusal(lambda: ingested(tmp_path / "a.arrow"))


def test_feather_1_and_unions_are_refused_by_their_names(tmp_path: Path, ingested: Callable[..., Any]):
    (tmp_path / "a.feather").write_bytes(b"FEA1" + b"\0" * 100)
    assert "first version of Feather" in refusal(lambda: ingested(tmp_path / "a.feather"))
    union = pa.UnionArray.from_sparse(pa.array([0, 1], pa.int8()), [pa.array([1, 2]), pa.array(["a", "b"])])
    write_file(tmp_path / "b.arrow", pa.table({"text": ["x", "y"], "u": union}))
    assert "'u' of b.arrow is of type sparse_union" in refusal(lambda: ingested(tmp_path / "b.arrow"))


def test_a_small_file_that_decodes_to_much_comes_in_small_pieces(tmp_path: Path):
    text = pa.array(["x" * 100_000]).take(pa.array(np.zeros(2_000, dtype=np.int64))).dictionary_encode()
    path = write_file(tmp_path / "a.arrow", pa.table({"text": text}))
    file = listed(path)[0]
    assert file.size < 200_000
    rows = 0
    with open_input(file, None) as raw:
        for block in read_arrow(file, raw, CorpusConfig(sources=(str(path),), max_expansion=100_000)):
            rows += block.size
            assert block.table.nbytes <= BATCH_BYTES + 200_000
    assert rows == 2_000


@pytest.mark.parametrize("kind", ["lz4", "zstd"])
@pytest.mark.parametrize("encoded", [False, True])
def test_batches_that_decompress_to_very_much_are_refused(
    tmp_path: Path, ingested: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, kind: str, encoded: bool
):
    monkeypatch.setattr(arrow, "LARGE", 8 << 20)
    column = pa.array([b"x" * 16_000_000, b"y"]) if not encoded else pa.array([b"x" * 16_000_000]).dictionary_encode()
    table = pa.table({"text": ["a"] * len(column), "much": column})
    path = write_file(tmp_path / "a.arrow", table, kind)
    assert "expands to more than" in refusal(lambda: ingested(path, max_expansion=100))
    sizes = list(decompressed_sizes(pa.memory_map(str(write_file(tmp_path / "b.arrow", TABLE, kind)))))
    assert sizes == []  # a file begins with a magic of eight bytes
    with pa.ipc.new_stream(path, table.schema, options=pa.ipc.IpcWriteOptions(compression=kind)) as writer:
        writer.write_table(table)
    assert "expands to more than" in refusal(lambda: ingested(path, max_expansion=100))
    assert max(size for _, size in decompressed_sizes(pa.memory_map(str(path)))) >= 16_000_000
    packed = tmp_path / "c.arrow.gz"
    packed.write_bytes(gzip.compress(path.read_bytes()))
    assert "expands to more than" in refusal(lambda: ingested(packed, max_expansion=100))
    assert ingested(packed, max_expansion=1_000_000).texts[0] == "a"
    assert ingested(path, max_expansion=1_000_000).texts[0] == "a"


def test_a_data_set_saved_to_disk_is_read_without_its_metadata(tmp_path: Path, ingested: Callable[..., Any]):
    for split in ("train", "test"):
        folder = tmp_path / "set" / split
        folder.mkdir(parents=True)
        names = [f"data-0000{i}-of-00002.arrow" for i in range(2)]
        for name in names:
            write_stream(folder / name, pa.table({"text": [f"{split} {name}"]}))
        (folder / "state.json").write_text(json.dumps({"_data_files": [{"filename": name} for name in names]}))
        (folder / "dataset_info.json").write_text("{}")
    (tmp_path / "set/dataset_dict.json").write_text('{"splits": ["train", "test"]}')
    assert len(ingested(tmp_path / "set").texts) == 4
    (tmp_path / "set/train/data-00001-of-00002.arrow").unlink()
    message = refusal(lambda: ingested(tmp_path / "set"))
    assert "data-00001-of-00002.arrow" in message
    assert "state.json" in message


def test_a_data_set_as_on_the_hub_is_its_parquet_files(tmp_path: Path):
    for name in ("data/train-00000-of-00002.parquet", "data/train-00001-of-00002.parquet", "README.md"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        pq.write_table(pa.table({"text": [name]}), tmp_path / name)
    (tmp_path / "dataset_infos.json").write_text("{}")
    paths, left = listed_and_left(tmp_path)
    assert paths == ["data/train-00000-of-00002.parquet", "data/train-00001-of-00002.parquet"]
    assert left.kinds == {".md beside other files": 1, ".json beside other files": 1}
