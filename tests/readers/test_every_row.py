"""Property: every input row is in exactly one of documents, rejects and filtered rows."""

from __future__ import annotations

import bz2
import csv
import io
import json
import lzma
import tempfile
import zipfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.ipc
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from latentscale.config import CorpusConfig, IngestConfig
from latentscale.readers import read_input
from latentscale.readers.inputs import list_inputs
from latentscale.stages import ingest
from latentscale.storage.objects import Store
from latentscale.storage.parquet import read_parquet

TEXT = st.one_of(
    st.none(),
    st.sampled_from(["", " ", "\u200b", "\ufeff \u3000", "x" * 41, 'say "hi"', "a,b", "two\nlines", "tab\there"]),
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00\r"), max_size=45),
)
ROW = st.fixed_dictionaries({"n": st.integers(0, 99), "text": TEXT})
FAST = settings(max_examples=60)


def ingested(path: Path, folder: Path, **more: Any) -> tuple[dict[int, str], dict[int, str], int, int]:
    """Documents by source row, reasons by source row, filtered rows, rows read."""
    corpus = CorpusConfig(sources=(str(path),), text="text", **more)
    shape = IngestConfig(shard_rows=7, max_text_characters=40)
    store = Store(str(folder / "ws"))
    documents: dict[int, str] = {}
    rejects: dict[int, str] = {}
    filtered = rows_in = 0
    for unit in ingest.plan_ingest(list_inputs(corpus), corpus, shape):
        for receipt in ingest.IngestWorker(store, corpus, shape)(unit):
            table = read_parquet(store, receipt.name)
            assert table["row"].to_pylist() == list(range(receipt.rows))
            assert receipt.rows <= 7
            rows = dict(zip(table["source_row"].to_pylist(), table["text"].to_pylist(), strict=True))
            assert len(rows) == receipt.rows
            assert not rows.keys() & documents.keys()
            documents |= rows
            filtered += receipt.filtered
            rows_in += receipt.rows_in
            if receipt.rejected:
                written = read_parquet(store, ingest.reject_name(receipt.key))
                assert written.num_rows == receipt.rejected
                assert not set(written["source_row"].to_pylist()) & rejects.keys()
                rejects |= dict(zip(written["source_row"].to_pylist(), written["reason"].to_pylist(), strict=True))
    assert not documents.keys() & rejects.keys()
    assert list(documents) == sorted(documents)
    return documents, rejects, filtered, rows_in


def written(rows: list[dict[str, Any]], kind: str, folder: Path) -> Path:
    path = folder / f"corpus.{kind}"
    if kind == "parquet":
        schema = pa.schema([("n", pa.int64()), ("text", pa.string())])
        pq.write_table(pa.Table.from_pylist(rows, schema=schema), path, row_group_size=5)
    elif kind == "jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    else:
        sink = io.StringIO(newline="")
        writer = csv.writer(sink, delimiter="\t" if kind == "tsv" else ",")
        writer.writerow(["n", "text"])
        writer.writerows([row["n"], row["text"]] for row in rows)
        path.write_bytes(sink.getvalue().encode())
    return path


@pytest.mark.parametrize("kind", ["parquet", "jsonl", "csv"])
@FAST
@given(rows=st.lists(ROW, max_size=40), sample=st.sampled_from([None, 0.5]), where=st.sampled_from([None, "n >= 30"]))
def test_every_row_of_a_table_is_a_document_or_a_reject(
    kind: str, rows: list[dict[str, Any]], sample: float | None, where: str | None
):
    with tempfile.TemporaryDirectory() as folder:
        path = written(rows, kind, Path(folder))
        documents, rejects, filtered, rows_in = ingested(path, Path(folder), sample=sample, where=where)
    assert rows_in == len(rows)
    assert len(documents) + len(rejects) + filtered == len(rows)
    for place, text in documents.items():
        assert text == rows[place]["text"]
    for place, reason in rejects.items():
        text = rows[place]["text"]
        assert (reason == "null_text") == (text is None) or (kind == "csv" and reason == "blank_text")
        assert (reason == "too_long") == (text is not None and len(text) > 40)
    if sample is None and where is None:
        assert filtered == 0


def test_rows_for_which_the_condition_cannot_be_evaluated_are_rejects(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("n,text\n" + "".join(f"{n},a text\n" for n in ("7", "none", "", "90", "1e3")))
    documents, rejects, filtered, rows_in = ingested(path, tmp_path, where="n >= 30")
    assert (list(documents), rejects, filtered, rows_in) == ([3, 4], {1: "not_comparable"}, 2, 5)


LINE = st.one_of(
    st.sampled_from([b"", b"  ", b'{"text": "good"}', b'{"text": 1}', b'{"n": 1}', b"[]", b'{"text": "\xff"}', b"\r"]),
    st.binary(max_size=20).map(lambda line: line.replace(b"\n", b"")),
)


@FAST
@given(lines=st.lists(LINE, max_size=30))
def test_every_line_of_broken_json_is_a_document_or_a_reject(lines: list[bytes]):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "a.jsonl")
        # The first line keeps the file from being taken for a compressed one.
        path.write_bytes(b"\n".join([b'{"text": "first"}', *lines]))
        documents, rejects, filtered, rows_in = ingested(path, Path(folder))
    present = {number for number, line in enumerate(lines, 1) if line.strip()} | {0}
    assert documents.keys() | rejects.keys() == present
    assert rows_in == len(present)
    assert filtered == 0
    good = [number for number, line in enumerate(lines, 1) if line == b'{"text": "good"}']
    assert all(documents[number] == "good" for number in good)


@pytest.mark.parametrize("kind", ["csv", "tsv"])
@FAST
@given(data=st.text(st.sampled_from('ab",\t\n\r \\é\udcff'), max_size=80))
def test_every_record_of_broken_csv_is_a_document_or_a_reject(kind: str, data: str):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, f"a.{kind}")
        header = "n\ttext\n" if kind == "tsv" else "n,text\n"
        path.write_bytes((header + data).encode("utf-8", "surrogateescape"))
        documents, rejects, _, rows_in = ingested(path, Path(folder))
    assert documents.keys() | rejects.keys() == set(range(rows_in))
    # Nothing that could be a document is dropped without a trace.
    assert rows_in or not data.strip("\r\n")


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=4,
)


@FAST
@given(values=st.lists(JSON, min_size=1, max_size=12), encoding=st.sampled_from(["utf-8", "utf-16", "gb18030"]))
def test_every_value_of_json_comes_back(values: list[Any], encoding: str):
    """As itself, or in a column of several kinds as JSON."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "a.jsonl")
        lines = [json.dumps({"text": "x", "a": value}, ensure_ascii=encoding != "utf-8") for value in values]
        path.write_bytes("".join(line + "\n" for line in lines).encode(encoding))
        corpus = CorpusConfig(sources=(str(path),), encoding=encoding)
        (block,) = read_input(list_inputs(corpus)[0], corpus, IngestConfig())
    assert block.size == block.table.num_rows == len(values)
    for value, found in zip(values, block.table["a"].to_pylist(), strict=True):
        if isinstance(found, str) and not isinstance(value, str):
            found = json.loads(found)
        assert found == value


def written_otherwise(rows: list[dict[str, Any]], kind: str, folder: Path) -> Path:
    """The rows in one of the formats that hold tables or objects in another way."""
    schema = pa.schema([("n", pa.int64()), ("text", pa.string())])
    table = pa.Table.from_pylist(rows, schema=schema)
    path = folder / f"corpus.{kind.replace('stream.', '').replace('file.', '')}"
    if kind.startswith(("stream", "file")):
        opened = pa.ipc.new_stream if kind.startswith("stream") else pa.ipc.new_file
        with opened(path, schema) as writer:
            writer.write_table(table, max_chunksize=5)
    elif kind == "json":
        path.write_text(json.dumps(rows, indent=1, ensure_ascii=False), encoding="utf-8")
    elif kind in ("jsonl.bz2", "jsonl.xz"):
        pack = bz2.compress if kind.endswith("bz2") else lzma.compress
        path.write_bytes(pack("".join(json.dumps(row) + "\n" for row in rows).encode()))
    else:
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.write(written(rows, "csv", folder), "corpus.csv")
    return path


@pytest.mark.parametrize("kind", ["stream.arrow", "file.arrow", "json", "jsonl.bz2", "jsonl.xz", "zip"])
@settings(FAST, max_examples=20)
@given(rows=st.lists(ROW, min_size=1, max_size=30), where=st.sampled_from([None, "n >= 30"]))
def test_every_row_of_every_container_is_a_document_or_a_reject(
    kind: str, rows: list[dict[str, Any]], where: str | None
):
    with tempfile.TemporaryDirectory() as folder:
        path = written_otherwise(rows, kind, Path(folder))
        documents, rejects, filtered, rows_in = ingested(path, Path(folder), where=where)
    assert rows_in == len(rows) == len(documents) + len(rejects) + filtered
    for place, text in documents.items():
        assert text == rows[place]["text"]
    for place, reason in rejects.items():
        text = rows[place]["text"]
        assert (reason == "null_text") == (text is None) or (kind == "zip" and reason == "blank_text")
        assert (reason == "too_long") == (text is not None and len(text) > 40)


ELEMENT = st.sampled_from(
    ['{"text": "good"}', '{"text": 1}', '{"n": 1}', "[]", "7", '"x"', '{"text": tru}', "{}", "null"]
)


@FAST
@given(elements=st.lists(ELEMENT, max_size=12), between=st.sampled_from([",", " ,\n", ",\n\n  "]))
def test_every_element_of_a_broken_array_is_a_document_or_a_reject(elements: list[str], between: str):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "a.json")
        path.write_text("[" + between.join(['{"text": "first"}', *elements]) + "]\n")
        documents, rejects, filtered, rows_in = ingested(path, Path(folder))
    assert documents.keys() | rejects.keys() == set(range(len(elements) + 1))
    assert (rows_in, filtered) == (len(elements) + 1, 0)
    good = [number for number, element in enumerate(elements, 1) if element == '{"text": "good"}']
    assert [place for place, text in documents.items() if text == "good"] == good
