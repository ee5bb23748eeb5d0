"""Property: every input row is in exactly one of documents, rejects and filtered rows."""

from __future__ import annotations

import csv
import io
import json
import tempfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from latentscale.config import CorpusConfig, IngestConfig
from latentscale.stages import ingest
from latentscale.storage.inputs import list_inputs
from latentscale.storage.objects import Store
from latentscale.storage.parquet import read_parquet

TEXT = st.one_of(
    st.none(),
    st.sampled_from(["", " ", "\u200b", "\ufeff \u3000", "x" * 41, 'say "hi"', "a,b", "two\nlines", "tab\there"]),
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00\r"), max_size=45),
)
ROW = st.fixed_dictionaries({"n": st.integers(0, 99), "text": TEXT})
FAST = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])


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
                aside = read_parquet(store, ingest.reject_name(receipt.key))
                assert aside.num_rows == receipt.rejected
                assert not set(aside["source_row"].to_pylist()) & rejects.keys()
                rejects |= dict(zip(aside["source_row"].to_pylist(), aside["reason"].to_pylist(), strict=True))
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
def test_every_row_of_a_table_is_in_one_place(
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


LINE = st.one_of(
    st.sampled_from([b"", b"  ", b'{"text": "good"}', b'{"text": 1}', b'{"n": 1}', b"[]", b'{"text": "\xff"}', b"\r"]),
    st.binary(max_size=20).map(lambda line: line.replace(b"\n", b"")),
)


@FAST
@given(lines=st.lists(LINE, max_size=30))
def test_every_line_of_broken_json_is_in_one_place(lines: list[bytes]):
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
def test_every_record_of_broken_csv_is_in_one_place(kind: str, data: str):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, f"a.{kind}")
        header = "n\ttext\n" if kind == "tsv" else "n,text\n"
        path.write_bytes((header + data).encode("utf-8", "surrogateescape"))
        documents, rejects, _, rows_in = ingested(path, Path(folder))
    assert documents.keys() | rejects.keys() == set(range(rows_in))
    # Nothing that could be a document is dropped without a trace.
    assert rows_in or not data.strip("\r\n")
