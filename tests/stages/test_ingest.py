"""Ingest of real files of every format, good and bad."""

from __future__ import annotations

import gzip
import json
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

from latentscale.config import CorpusConfig, IngestConfig
from latentscale.errors import ConfigError, CorpusError, RejectLimitError
from latentscale.readers.frames import spool_frame
from latentscale.readers.inputs import list_inputs
from latentscale.stages import ingest
from latentscale.stages.ingest import plan as ingest_plan
from latentscale.storage.objects import Store
from latentscale.storage.parquet import read_footer, read_parquet
from latentscale.storage.snapshot import document_name

ROWS = [
    {"text": "a map of the sea", "id": 1, "score": 0.5, "lang": "en"},
    {"text": 'quotes " and, commas\nand two lines', "id": 2, "score": None, "lang": "de"},
    {"text": "naïve café — 東京", "id": 3, "score": 2.0, "lang": "fr"},
]


class Run:
    """One ingest of one corpus into one workspace."""

    def __init__(self, store: Store, sources: Sequence[str | Path] | str | Path, **settings: Any) -> None:
        sources = [sources] if isinstance(sources, str | Path) else sources
        shape = {k: settings.pop(k) for k in list(settings) if k in IngestConfig.model_fields}
        self.corpus = CorpusConfig(sources=tuple(map(str, sources)), **settings)
        self.ingest = IngestConfig(**shape)
        self.store = store
        inputs = list_inputs(self.corpus)
        self.check = ingest.check_corpus(inputs, self.corpus, self.ingest)
        self.units = ingest.plan_ingest(inputs, self.corpus, self.ingest)
        listing = store.list("documents")
        self.pending, done = ingest.pending_units(self.units, listing)
        worker = ingest.IngestWorker(store, self.corpus, self.ingest)
        known, new, _ = ingest.finished_receipts(store, listing, done)
        assert len(known) == 0, "no table of receipts was written"
        new.add(receipt for unit in self.pending for receipt in worker(unit))
        self.table = ingest.in_input_order(self.units, new)
        self.receipts = [ingest.read_receipt(store, document_name(key)) for key in self.table.keys.to_pylist()]

    def limits(self) -> None:
        ingest.check_rejects(self.table, self.ingest)

    def documents(self) -> list[dict[str, Any]]:
        return [row for r in self.receipts for row in read_parquet(self.store, r.name).to_pylist()]

    def texts(self) -> list[str]:
        return [row[ingest.stored_text_column(self.corpus)] for row in self.documents()]

    def rejects(self) -> list[dict[str, Any]]:
        return [
            row
            for r in self.receipts
            if r.rejected
            for row in read_parquet(self.store, ingest.reject_name(r.key)).to_pylist()
        ]

    def reasons(self) -> list[tuple[int, str]]:
        return [(row["source_row"], row["reason"]) for row in self.rejects()]


@pytest.fixture
def run(tmp_path: Path) -> Callable[..., Run]:
    store = Store(str(tmp_path / "ws"))
    return lambda sources, **settings: Run(store, sources, **settings)


def write(path: Path, rows: Sequence[dict[str, Any]]) -> Path:
    kind = path.name.split(".")[1]
    if kind == "parquet":
        sink = pa.BufferOutputStream()
        pq.write_table(pa.Table.from_pylist(list(rows)), sink)
        data = sink.getvalue().to_pybytes()
    elif kind == "jsonl":
        data = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()
    else:
        data = pl.DataFrame(rows).write_csv(separator="\t" if kind == "tsv" else ",").encode()
    if path.suffix == ".gz":
        data = gzip.compress(data)
    elif path.suffix == ".zst":
        data = zstandard.compress(data)
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("suffix", ["", ".gz", ".zst"])
@pytest.mark.parametrize("kind", ["parquet", "csv", "tsv", "jsonl"])
def test_every_format_gives_the_same_documents(tmp_path: Path, run: Callable[..., Run], kind: str, suffix: str):
    made = run(write(tmp_path / f"corpus.{kind}{suffix}", ROWS), text="text", id="id")
    made.limits()
    tables = [read_parquet(made.store, r.name) for r in made.receipts]
    footers = [read_footer(made.store, r.name) for r in made.receipts]
    schema = ingest.unify_columns([(f.schema, f.facts) for f in footers])
    table = ingest.conform(tables[0], schema)
    assert table.column_names[:4] == ["row", "source", "source_row", "text"]
    rows = table.select(["text", "id", "score", "lang"]).to_pylist()
    assert rows == ROWS
    assert table["row"].to_pylist() == table["source_row"].to_pylist() == [0, 1, 2]
    assert set(table["source"].to_pylist()) == {f"corpus.{kind}{suffix}"}
    assert table.schema.field("id").type == pa.int64()
    assert table.schema.field("score").type == pa.float64()


@pytest.mark.parametrize("suffix", ["", ".gz", ".zst"])
def test_lines_of_a_text_file_are_documents(tmp_path: Path, run: Callable[..., Run], suffix: str):
    data = b"\xef\xbb\xbffirst line\r\n\r\nsecond \xc3\xa9\nbad \xff here\nlast"
    packed = {"": data, ".gz": gzip.compress(data), ".zst": zstandard.compress(data)}[suffix]
    (tmp_path / f"a.txt{suffix}").write_bytes(packed)
    made = run(tmp_path / f"a.txt{suffix}")
    assert made.texts() == ["first line", "second é", "last"]
    assert [row["source_row"] for row in made.documents()] == [0, 2, 4]
    assert made.reasons() == [(3, "undecodable")]


@pytest.mark.parametrize("kind", ["txt", "jsonl", "csv", "md"])
def test_lines_may_end_with_a_carriage_return_alone(tmp_path: Path, run: Callable[..., Run], kind: str):
    lines = ["one", "two", "three"]
    if kind == "jsonl":
        lines = [json.dumps({"text": line}) for line in lines]
    elif kind == "csv":
        lines = ["text", *lines]
    (tmp_path / f"a.{kind}").write_bytes("\r".join(lines).encode())
    expected = ["one\ntwo\nthree"] if kind == "md" else ["one", "two", "three"]
    assert run(tmp_path / f"a.{kind}", text="text").texts() == expected
    # Where other lines end as usual, it is a character of the text.
    (tmp_path / "b.txt").write_bytes(b"one\rtwo\nthree\n")
    assert run(tmp_path / "b.txt").texts() == ["one\rtwo", "three"]


def test_settings_added_later_change_no_key_at_their_defaults():
    corpus = CorpusConfig(sources=("x",), text="text")
    assert ingest_plan.stage_digest(corpus, IngestConfig()) == "0b3007fcc0d42675fecc8ecb83608932"
    assert ingest_plan.stage_digest(corpus, IngestConfig(max_columns=9)) == "0b3007fcc0d42675fecc8ecb83608932"
    others = [{"quote": "'"}, {"escape": "^"}, {"header": False}, {"comment": "%"}, {"skip_lines": 2}]
    changed = {ingest_plan.stage_digest(corpus.model_copy(update=one), IngestConfig()) for one in others}
    assert len(changed | {"0b3007fcc0d42675fecc8ecb83608932"}) == 6


def test_files_of_text_are_documents_with_their_path(tmp_path: Path, run: Callable[..., Run]):
    folder = tmp_path / "notes"
    folder.mkdir()
    for name in ("b.md", "a.md", "c.txt"):
        (folder / name).write_text(f"# {name}\n\nbody\n")
    made = run(folder, format="files")
    assert [(row["path"], row["text"]) for row in made.documents()] == [
        (name, f"# {name}\n\nbody\n") for name in ("a.md", "b.md", "c.txt")
    ]


def test_mixed_formats_come_in_input_order(tmp_path: Path, run: Callable[..., Run]):
    for name in ("c.csv", "a.jsonl", "b.parquet"):
        write(tmp_path / name, [{"text": name}])
    made = run([tmp_path / "c.csv", tmp_path / "a.jsonl", tmp_path / "b.parquet"], text="text")
    assert made.texts() == ["c.csv", "a.jsonl", "b.parquet"]


def test_a_template_joins_columns_and_nulls_are_empty(tmp_path: Path, run: Callable[..., Run]):
    rows = [
        {"title": "One", "year": 2001, "text": "kept"},
        {"title": None, "year": 2002, "text": None},
        {"title": "  ", "year": None, "text": "x"},
    ]
    made = run(write(tmp_path / "a.jsonl", rows), text="{title} ({year})\\nend")
    assert made.texts() == ["One (2001)\nend", " (2002)\nend"]
    assert made.reasons() == [(2, "blank_text")]
    assert [row["source_text"] for row in made.documents()] == ["kept", None]


def test_reserved_names_are_stored_under_others(tmp_path: Path, run: Callable[..., Run]):
    names = ["row", "source", "source_row", "x", "label", "source_label", "source_source_row", "layer_3", "layers"]
    names += ["outlier_score", "update", "row_id", "cluster", "probability", "density", "y", "nearest_cluster"]
    made = run(write(tmp_path / "a.parquet", [{"body": "hello"} | {name: name for name in names}]), text="body")
    row = made.documents()[0]
    stored = {name: made.receipts[0].renamed.get(name, name) for name in names}
    assert len(set(stored.values())) == len(names)
    assert all(row[stored[name]] == name for name in names)
    assert stored["layers"] == "layers"
    assert stored["x"] == "source_x"
    assert (row["row"], row["source"], row["source_row"]) == (0, "a.parquet", 0)


def test_only_bad_texts_are_rejected(tmp_path: Path, run: Callable[..., Run]):
    texts = ["good", None, "", " \t\u200b\ufeff\u00a0", "x" * 101, "also good"]
    for kind in ("parquet", "jsonl"):
        made = run(
            write(tmp_path / f"a.{kind}", [{"text": text, "n": i} for i, text in enumerate(texts)]),
            text="text",
            max_text_characters=100,
        )
        assert made.texts() == ["good", "also good"]
        assert made.reasons() == [(1, "null_text"), (2, "blank_text"), (3, "blank_text"), (4, "too_long")]
        assert [row["line"] for row in made.rejects()] == ([None] * 4 if kind == "parquet" else [2, 3, 4, 5])


def test_ragged_rows_are_rejected_with_their_line(tmp_path: Path, run: Callable[..., Run]):
    (tmp_path / "a.csv").write_text('id,text\n1,"two\nlines, here"\n\n2,too,many\n3\n4,fine\n')
    made = run(tmp_path / "a.csv", text="text")
    assert made.texts() == ["two\nlines, here", "fine"]
    assert [(r["source_row"], r["line"], r["reason"]) for r in made.rejects()] == [(1, 5, "ragged"), (2, 6, "ragged")]
    assert [row["source_row"] for row in made.documents()] == [0, 3]
    assert "3 fields instead of 2" in made.rejects()[0]["detail"]


def test_an_unclosed_quote_rejects_no_other_row(tmp_path: Path, run: Callable[..., Run]):
    rows = "".join(f'{i},"row {i}"\n' for i in range(100))
    (tmp_path / "a.csv").write_text('id,text\n0,"open\n' + rows + '7,"never closed\n8,last\n')
    made = run(tmp_path / "a.csv", text="text")
    assert made.texts() == [f"row {i}" for i in range(100)] + ["last"]
    assert [(r["line"], r["reason"]) for r in made.rejects()] == [(2, "bad_quoting"), (103, "bad_quoting")]


def test_quotes_inside_a_field_are_kept(tmp_path: Path, run: Callable[..., Run]):
    (tmp_path / "a.csv").write_text('id,text\n1,"abc" def\n2,5" disk\n3,"say ""hi"""\n')
    assert run(tmp_path / "a.csv", text="text").texts() == ['"abc" def', '5" disk', 'say "hi"']


def test_lines_of_a_tab_separated_file_are_not_joined_by_stray_quotes(tmp_path: Path, run: Callable[..., Run]):
    (tmp_path / "a.tsv").write_text('id\ttext\n1\t"Hello he said\n2\tplain\n3\tend"\n4\t"open\n')
    assert run(tmp_path / "a.tsv", text="text").texts() == ['"Hello he said', "plain", 'end"', '"open']


def test_a_csv_with_bom_crlf_and_odd_header_is_read(tmp_path: Path, run: Callable[..., Run]):
    (tmp_path / "a.csv").write_bytes(b'\xef\xbb\xbftext,,a,a\r\n"one\r\ntwo",x,1,2\r\n')
    row = run(tmp_path / "a.csv", text="text").documents()[0]
    assert {k: v for k, v in row.items() if k not in ("row", "source", "source_row")} == {
        "text": "one\r\ntwo",
        "column_2": "x",
        "a": "1",
        "a_2": "2",
    }


@pytest.mark.parametrize(
    ("encoding", "text"), [("cp1252", "naïve “café”"), ("utf-16", "東京 café"), ("gb18030", "北京")]
)
def test_other_encodings_are_read_if_configured(tmp_path: Path, run: Callable[..., Run], encoding: str, text: str):
    (tmp_path / "a.csv").write_bytes(f"id,text\n1,{text}\n2,plain\n".encode(encoding))
    (tmp_path / "b.jsonl").write_bytes((json.dumps({"text": text}, ensure_ascii=False) + "\n").encode(encoding))
    assert run([tmp_path / "a.csv", tmp_path / "b.jsonl"], text="text", encoding=encoding).texts() == [
        text,
        "plain",
        text,
    ]


def test_rows_that_are_not_utf8_are_rejected(tmp_path: Path, run: Callable[..., Run]):
    (tmp_path / "a.csv").write_bytes(b"id,text\n1,good\n2,caf\xe9\n3,fine\n")
    (tmp_path / "b.jsonl").write_bytes(b'{"text": "good"}\n{"text": "caf\xe9"}\n{"text": "fine"}\n')
    made = run(tmp_path / "a.csv", text="text")
    assert (made.texts(), made.reasons()) == (["good", "fine"], [(1, "undecodable")])
    made = run(tmp_path / "b.jsonl", text="text")
    assert (made.texts(), made.reasons()) == (["good", "fine"], [(1, "undecodable")])


def test_strings_of_parquet_that_are_not_utf8_are_rejected(tmp_path: Path, run: Callable[..., Run]):
    raw = pa.array([b"good", b"caf\xe9", b"fine"], pa.binary())
    text = pa.StringArray.from_buffers(3, raw.buffers()[1], raw.buffers()[2])
    pq.write_table(pa.table({"text": text}), tmp_path / "a.parquet")
    made = run(tmp_path / "a.parquet", text="text")
    assert (made.texts(), made.reasons()) == (["good", "fine"], [(1, "undecodable")])


def test_json_lines_of_every_kind_are_kept_or_rejected(tmp_path: Path, run: Callable[..., Run]):
    (tmp_path / "a.jsonl").write_text(
        '{"text": "one", "n": 1, "tags": ["a", "b"]}\n'
        "\n"
        '{"text": "cut\n'
        '["text"]\n'
        '{"n": 2.5, "text": "two", "extra": {"k": true}}\n'
        '{"text": 5}\n'
        '{"text": NaN}\n'
        '{"text": "three", "n": NaN}\n'
        '{"text": "half \\ud83d of a pair"}\n'
    )
    made = run(tmp_path / "a.jsonl", text="text")
    assert [(row["text"], row["tags"], row["extra"]) for row in made.documents()] == [
        ("one", '["a","b"]', None),
        ("two", None, '{"k":true}'),
        ("three", None, None),
        ("half \ufffd of a pair", None, None),
    ]
    assert made.reasons() == [(2, "not_json"), (3, "not_an_object"), (5, "not_text"), (6, "null_text")]
    assert [row["line"] for row in made.rejects()] == [3, 4, 6, 7]


def test_types_of_json_follow_the_values(tmp_path: Path, run: Callable[..., Run]):
    rows = [
        {"text": "a", "int": 1, "mixed": 1, "number": 1, "flag": True, "big": 2**70, "never": None},
        {"text": "b", "int": None, "mixed": "x", "number": 0.5, "flag": False, "big": 1, "never": None},
    ]
    made = run(write(tmp_path / "a.jsonl", rows), text="text")
    schema = read_parquet(made.store, made.receipts[0].name).schema
    kinds = {name: str(schema.field(name).type) for name in ("int", "mixed", "number", "flag", "never")}
    assert kinds == {"int": "int64", "mixed": "string", "number": "double", "flag": "bool", "never": "null"}
    assert [row["mixed"] for row in made.documents()] == ["1", "x"]


def test_an_endless_line_is_rejected_without_reading_it(tmp_path: Path, run: Callable[..., Run]):
    long = json.dumps({"text": "x" * 30_000_000})
    with gzip.open(tmp_path / "a.jsonl.gz", "wt") as file:
        file.write('{"text": "first"}\n' + long + '\n{"text": "last"}\n')
    with gzip.open(tmp_path / "b.csv.gz", "wt") as file:
        file.write("text\nfirst\n" + "y" * 30_000_000 + "\nlast\n")
    for name in ("a.jsonl.gz", "b.csv.gz"):
        made = run(tmp_path / name, text="text")
        assert made.texts() == ["first", "last"]
        assert made.reasons() == [(1, "too_long")]


def test_where_compares_csv_columns_as_text_or_as_numbers(tmp_path: Path, run: Callable[..., Run]):
    rows = [{"text": f"t{i}", "year": str(2000 + i), "lang": "en" if i % 2 else "de"} for i in range(10)]
    made = run(write(tmp_path / "a.csv", rows), text="text", where="year >= 2005 AND lang = 'en'")
    assert made.texts() == ["t5", "t7", "t9"]
    assert (made.receipts[0].filtered, made.receipts[0].rejected, made.receipts[0].rows_in) == (7, 0, 10)


def test_an_invalid_condition_is_refused_listing_the_columns(tmp_path: Path, run: Callable[..., Run]):
    path = write(tmp_path / "a.parquet", ROWS)
    with pytest.raises(ConfigError, match="names 'langg'") as error:
        run(path, text="text", where="langg = 'en'")
    assert "Did you mean 'lang'?" in str(error.value)
    with pytest.raises(ConfigError, match="cannot be read"):
        run(path, text="text", where="lang = = 'en'")
    with pytest.raises(ConfigError, match="cannot be evaluated"):
        run(path, text="text", where="id = 'en' AND lang > score")
    with pytest.raises(ConfigError, match="cannot be evaluated"):
        run(path, text="text", where="id + 1")


def test_limit_takes_the_first_documents_across_files(tmp_path: Path, run: Callable[..., Run]):
    for name in ("a.csv", "b.jsonl", "c.csv"):
        write(tmp_path / name, [{"n": i, "text": f"{name} {i}" if i else None} for i in range(4)])
    made = run([tmp_path / n for n in ("a.csv", "b.jsonl", "c.csv")], text="text", limit=5)
    assert made.texts() == ["a.csv 1", "a.csv 2", "a.csv 3", "b.jsonl 1", "b.jsonl 2"]
    assert len(made.units) == 1
    assert sum(r.rows_in for r in made.receipts) == 7


def test_a_sample_does_not_depend_on_the_shards(tmp_path: Path, run: Callable[..., Run]):
    rows = [{"id": i, "text": f"text {i}"} for i in range(2_000)]
    path = write(tmp_path / "a.jsonl", rows)
    half = run(path, text="text", id="id", sample=0.5)
    other = run(write(tmp_path / "b.csv", rows[::-1]), text="text", id="id", sample=0.5, shard_rows=100)
    quarter = run(path, text="text", id="id", sample=0.25)
    assert 900 < len(half.texts()) < 1_100
    assert set(half.texts()) == set(other.texts())
    assert set(quarter.texts()) < set(half.texts())


def test_shards_end_at_rows_or_bytes_and_the_last_is_marked(tmp_path: Path, run: Callable[..., Run]):
    path = write(tmp_path / "a.jsonl", [{"text": f"{i} " + "x" * 1_000} for i in range(250)])
    by_rows = run(path, text="text", shard_rows=100)
    assert [(r.index, r.rows, r.last) for r in by_rows.receipts] == [(0, 100, False), (1, 100, False), (2, 50, True)]
    assert [r.key.partition("-")[2] for r in by_rows.receipts] == ["00000", "00001", "00002e"]
    by_bytes = run(path, text="text", shard_bytes=1 << 16)
    assert [r.rows for r in by_bytes.receipts] == [64, 64, 64, 58]
    exact = run(path, text="text", shard_rows=125)
    assert [(r.rows, r.last) for r in exact.receipts] == [(125, False), (125, True)]


def test_a_large_parquet_file_is_split_at_row_groups(
    tmp_path: Path, run: Callable[..., Run], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(ingest_plan, "TINY_BYTES", 0)
    monkeypatch.setattr(ingest_plan, "WHOLE_PARQUET_BYTES", 0)
    table = pa.table({"text": [f"text {i}" for i in range(1_000)]})
    pq.write_table(table, tmp_path / "a.parquet", row_group_size=100)
    made = run(tmp_path / "a.parquet", text="text", shard_rows=250)
    assert [unit.row_groups for unit in made.units] == [(0, 2), (2, 4), (4, 6), (6, 8), (8, 10)]
    assert made.texts() == table["text"].to_pylist()
    assert [row["source_row"] for row in made.documents()] == list(range(1_000))
    small = run(tmp_path / "a.parquet", text="text", shard_rows=30)
    assert [r.rows for r in small.receipts[:4]] == [30, 30, 30, 10]


def test_an_added_small_file_changes_one_group(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(ingest_plan, "GROUP_BYTES", 1 << 18)
    folder = tmp_path / "many"
    folder.mkdir()
    for i in range(2_000):
        (folder / f"{i * 7919 % 100_003:06d}.txt").write_bytes(b"x")
    corpus, settings = CorpusConfig(sources=(str(folder),), format="files"), IngestConfig()
    before = ingest.plan_ingest(list_inputs(corpus), corpus, settings)
    (folder / "050000-new.txt").write_bytes(b"new")
    after = ingest.plan_ingest(list_inputs(corpus), corpus, settings)
    assert 15 < len(before) < 60
    assert len({u.key for u in after} - {u.key for u in before}) <= 2
    assert len({u.key for u in before} & {u.key for u in after}) >= len(before) - 1


def test_shard_bytes_depend_only_on_input_and_settings(tmp_path: Path):
    path = write(tmp_path / "a.jsonl", [{"text": f"text {i}", "n": i} for i in range(500)])
    objects = []
    for name in ("one", "two"):
        made = Run(Store(str(tmp_path / name)), path, text="text", shard_rows=200)
        objects.append({r.name: made.store.read_bytes(r.name) for r in made.receipts})
    assert objects[0] == objects[1]


def test_a_rerun_reads_nothing_and_writes_nothing(tmp_path: Path, run: Callable[..., Run]):
    path = write(tmp_path / "a.jsonl", [{"text": f"text {i}" if i % 9 else ""} for i in range(500)])
    first = run(path, text="text", shard_rows=100)
    before = first.store.list()
    second = run(path, text="text", shard_rows=100)
    assert len(second.pending) == 0
    assert [(r.key, r.rows, r.reasons, r.bytes) for r in second.receipts] == [
        (r.key, r.rows, r.reasons, r.bytes) for r in first.receipts
    ]
    assert second.store.list() == before


def test_a_half_done_file_resumes_without_rewriting_finished_shards(tmp_path: Path, run: Callable[..., Run]):
    path = write(tmp_path / "a.jsonl", [{"text": f"text {i}"} for i in range(500)])
    first = run(path, text="text", shard_rows=100)
    whole = {r.name: first.store.read_bytes(r.name) for r in first.receipts}
    # What a worker that was killed between rejects and documents of the fourth shard leaves.
    first.store.delete([r.name for r in first.receipts[3:]])
    first.store.put_bytes(ingest.reject_name(first.receipts[3].key), b"half")
    kept = {name: info.version for name, info in first.store.list("documents").items()}
    again = run(path, text="text", shard_rows=100)
    assert len(again.pending) == 1
    assert {r.name: again.store.read_bytes(r.name) for r in again.receipts} == whole
    assert {name: info.version for name, info in again.store.list("documents").items() if name in kept} == kept
    assert again.rejects() == []


def test_a_worker_killed_between_rejects_and_documents_leaves_no_finished_shard(
    tmp_path: Path, run: Callable[..., Run]
):
    path = write(tmp_path / "a.jsonl", [{"text": f"text {i}" if i % 9 else ""} for i in range(500)])
    script = f"""
import os, signal
from latentscale.config import CorpusConfig, IngestConfig
from latentscale.stages import ingest
from latentscale.readers.inputs import list_inputs
from latentscale.storage.objects import Store
put = Store.put_bytes
def killing(self, name, data):
    if name.startswith("documents/") and name.endswith("-00002.parquet"):
        os.kill(os.getpid(), signal.SIGKILL)
    return put(self, name, data)
Store.put_bytes = killing
corpus, settings = CorpusConfig(sources=({str(path)!r},), text="text"), IngestConfig(shard_rows=100)
worker = ingest.IngestWorker(Store({str(tmp_path / "ws")!r}), corpus, settings)
for unit in ingest.plan_ingest(list_inputs(corpus), corpus, settings):
    worker(unit)
"""
    done = subprocess.run([sys.executable, "-c", script], check=False)
    assert done.returncode == -signal.SIGKILL
    store = Store(str(tmp_path / "ws"))
    assert len(store.list("documents")) == 2
    assert len(store.list("rejects")) == 3
    after = run(path, text="text", shard_rows=100)
    assert len(after.pending) == 1
    clean = Run(Store(str(tmp_path / "clean")), path, text="text", shard_rows=100)
    assert {n: store.read_bytes(n) for n in store.list()} == {n: clean.store.read_bytes(n) for n in clean.store.list()}


def test_a_lone_last_shard_does_not_make_a_unit_complete(tmp_path: Path, run: Callable[..., Run]):
    path = write(tmp_path / "a.jsonl", [{"text": f"text {i}"} for i in range(300)])
    first = run(path, text="text", shard_rows=100)
    first.store.delete([first.receipts[1].name])
    assert len(run(path, text="text", shard_rows=100).pending) == 1


def test_units_and_receipts_are_serialised_as_json(tmp_path: Path, run: Callable[..., Run]):
    from pydantic import TypeAdapter

    made = run(write(tmp_path / "a.csv", ROWS), text="text")
    units = TypeAdapter(list[ingest.IngestUnit])
    assert units.validate_json(units.dump_json(list(made.units))) == list(made.units)
    receipts = TypeAdapter(list[ingest.ShardReceipt])
    assert receipts.validate_json(receipts.dump_json(made.receipts)) == made.receipts


def test_a_key_missing_in_some_json_files_is_null(tmp_path: Path, run: Callable[..., Run]):
    folder = tmp_path / "docs"
    folder.mkdir()
    write(folder / "a.jsonl", [{"text": "one"}])
    write(folder / "b.jsonl", [{"text": "two", "id": 7}])
    made = run(folder, text="text", id="id")
    assert [(row["text"], row["id"]) for row in made.documents()] == [("one", None), ("two", 7)]


@pytest.mark.parametrize("kind", ["parquet", "csv", "jsonl"])
def test_a_corpus_and_a_workspace_may_be_at_a_url(tmp_path: Path, kind: str):
    import fsspec

    name = f"a.{kind}.zst"
    fsspec.filesystem("memory").pipe_file(f"/raw-{kind}/{name}", write(tmp_path / name, ROWS).read_bytes())
    plain = write(tmp_path / f"b.{kind}", ROWS).read_bytes()
    fsspec.filesystem("memory").pipe_file(f"/raw-{kind}/b.{kind}", plain)
    store = Store(f"memory://ws-{kind}")
    made = Run(store, f"memory://raw-{kind}", text="text", shard_rows=2)
    assert made.texts() == [row["text"] for row in ROWS] * 2
    assert len(Run(store, f"memory://raw-{kind}", text="text", shard_rows=2).pending) == 0


def test_the_demo_corpus_is_read_by_its_name(run: Callable[..., Run]):
    made = run("demo")
    made.limits()
    assert len(made.texts()) > 5_000
    assert made.check.notes


# ----------------------------------------------------------------------------------------------------- what is refused


def error_of(action: Callable[[], Any], kind: type[Exception] = CorpusError) -> str:
    with pytest.raises(kind) as error:
        action()
    message = str(error.value)
    assert len(message.splitlines()) <= 6
    return message


@pytest.mark.parametrize("kind", ["parquet", "csv", "jsonl"])
def test_a_missing_column_is_reported_with_the_nearest_name(tmp_path: Path, run: Callable[..., Run], kind: str):
    path = write(tmp_path / f"a.{kind}", ROWS)
    message = error_of(lambda: run(path, text="txt"))
    assert "has no column 'txt'" in message
    assert "text, id, score, lang" in message
    assert "Did you mean 'text'?" in message
    assert "has no column 'idd'" in error_of(lambda: run(path, text="text", id="idd"))


def test_a_corpus_without_a_text_setting_lists_its_columns(tmp_path: Path, run: Callable[..., Run]):
    message = error_of(lambda: run(write(tmp_path / "a.csv", [{"body": "x", "title": "y"}])))
    assert "which column" in message
    assert "body, title" in message


def test_a_text_column_of_another_type_is_refused(tmp_path: Path, run: Callable[..., Run]):
    assert "is of type int64" in error_of(lambda: run(write(tmp_path / "a.parquet", ROWS), text="id"))
    assert "holds int, not text" in error_of(lambda: run(write(tmp_path / "a.jsonl", ROWS), text="id"))


def test_text_may_be_dictionary_encoded_or_large(tmp_path: Path, run: Callable[..., Run]):
    text = pa.array(["a", "b", "a"])
    for number, column in enumerate([text.dictionary_encode(), text.cast(pa.large_string())]):
        pq.write_table(pa.table({"text": column}), tmp_path / f"{number}.parquet")
        assert run(tmp_path / f"{number}.parquet", text="text").texts() == ["a", "b", "a"]


def test_a_truncated_parquet_is_refused(tmp_path: Path, run: Callable[..., Run]):
    path = write(tmp_path / "a.parquet", ROWS)
    path.write_bytes(path.read_bytes()[:-20])
    message = error_of(lambda: run(path, text="text"))
    assert "a.parquet is not a complete parquet file" in message


@pytest.mark.parametrize("kind", ["gz", "zst"])
def test_a_truncated_compressed_file_is_refused(tmp_path: Path, run: Callable[..., Run], kind: str):
    path = write(tmp_path / f"a.jsonl.{kind}", [{"text": f"{i * 7919 % 10_007}"} for i in range(5_000)])
    path.write_bytes(path.read_bytes()[:-500])
    assert "damaged or cut short" in error_of(lambda: run(path, text="text"))


def test_a_file_whose_format_contradicts_its_name_is_refused(tmp_path: Path, run: Callable[..., Run]):
    (tmp_path / "a.csv").write_bytes(gzip.compress(b"text\nx\n"))
    assert "what it holds is gzip" in error_of(lambda: run(tmp_path / "a.csv", text="text"))
    (tmp_path / "b.csv.gz").write_bytes(b"text\nx\n")
    assert "damaged" in error_of(lambda: run(tmp_path / "b.csv.gz", text="text"))


def test_a_header_that_is_not_utf8_is_refused_with_a_hint(tmp_path: Path, run: Callable[..., Run]):
    (tmp_path / "a.csv").write_bytes(b"caf\xe9,text\n1,x\n")
    assert "corpus.encoding" in error_of(lambda: run(tmp_path / "a.csv", text="text"))


def test_a_wrong_delimiter_in_the_settings_is_refused_with_the_right_one(tmp_path: Path, run: Callable[..., Run]):
    (tmp_path / "a.csv").write_text("id;text\n1;hello\n")
    assert "';'" in error_of(lambda: run(tmp_path / "a.csv", text="text", delimiter="|"))
    assert run(tmp_path / "a.csv", text="text").texts() == ["hello"]


def test_a_corpus_without_rows_is_refused(tmp_path: Path, run: Callable[..., Run]):
    (tmp_path / "a.csv").write_text("id,text\n")
    (tmp_path / "b.jsonl").write_text("\n\n")
    (tmp_path / "c.txt").write_text("")
    pq.write_table(pa.table({"text": pa.array([], pa.string())}), tmp_path / "d.parquet")
    for name in ("a.csv", "b.jsonl", "c.txt", "d.parquet"):
        assert "no rows" in error_of(lambda name=name: run(tmp_path / name, text="text"))


def test_a_json_array_is_refused_by_name(tmp_path: Path, run: Callable[..., Run]):
    (tmp_path / "a.jsonl").write_text(json.dumps([{"text": "a"}, {"text": "b"}], indent=1))
    message = error_of(run(tmp_path / "a.jsonl", text="text").limits)
    assert "rows are rejected" in message
    assert "Each line must be one JSON object" in message


def test_an_empty_file_among_others_is_accepted(tmp_path: Path, run: Callable[..., Run]):
    for name in ("a.csv", "b.csv.gz", "c.jsonl", "d.txt"):
        (tmp_path / name).write_bytes(b"")
    write(tmp_path / "z.csv", [{"text": "one"}, {"text": "two"}])
    names = ("a.csv", "b.csv.gz", "c.jsonl", "d.txt", "z.csv")
    assert run([tmp_path / name for name in names], text="text").texts() == ["one", "two"]


def test_thousands_of_different_keys_are_refused(tmp_path: Path, run: Callable[..., Run]):
    rows = [{"text": "a", f"key {i}": 1} for i in range(3_000)]
    message = error_of(lambda: run(write(tmp_path / "a.jsonl", rows), text="text"))
    assert "3,001 columns, more than ingest.max_columns = 2,000" in message
    assert "a.jsonl" in message


def test_too_many_rejects_end_the_run_with_their_positions(tmp_path: Path, run: Callable[..., Run]):
    (tmp_path / "a.csv").write_text("id,text\n" + "".join(f"{i},fine\n" if i % 5 else f"{i}\n" for i in range(50)))
    made = run(tmp_path / "a.csv", text="text")
    message = error_of(made.limits, RejectLimitError)
    assert "10 of 50 rows (20.0%)" in message
    assert "a.csv:2 ragged" in message
    run(tmp_path / "a.csv", text="text", max_reject_fraction=0.3).limits()


def test_a_file_in_another_encoding_is_refused_with_a_hint(tmp_path: Path, run: Callable[..., Run]):
    (tmp_path / "a.csv").write_bytes(b"text\n" + b"caf\xe9\n" * 10 + b"plain\n" * 10)
    message = error_of(run(tmp_path / "a.csv", text="text").limits, RejectLimitError)
    assert "a.csv:2 undecodable" in message
    assert "corpus.encoding" in message


def test_a_corpus_of_blank_texts_is_refused_with_the_reason(tmp_path: Path, run: Callable[..., Run]):
    made = run(write(tmp_path / "a.parquet", [{"text": " "}] * 3), text="text")
    assert "all 3 rows are rejected: 3 blank_text" in error_of(made.limits)


def test_a_condition_that_matches_nothing_is_refused(tmp_path: Path, run: Callable[..., Run]):
    made = run(write(tmp_path / "a.parquet", ROWS), text="text", where="lang = 'xx'")
    assert "leaves out 3" in error_of(made.limits)


def test_bad_vectors_are_refused_with_their_row(tmp_path: Path, run: Callable[..., Run]):
    good = {"text": "a", "v": [0.1, 0.2]}
    for bad in ([0.1, float("nan")], [0.1]):
        path = write(tmp_path / "a.parquet", [good, {"text": "b", "v": bad}])
        assert "row 1" in error_of(lambda path=path: run(path, text="text", vectors="v"))
    assert "vectors are lists" in error_of(lambda: run(write(tmp_path / "b.csv", ROWS), text="text", vectors="score"))
    made = run(write(tmp_path / "c.jsonl", [good, good]), text="text", vectors="v")
    assert [row["v"] for row in made.documents()] == [[0.1, 0.2]] * 2
    assert made.receipts[0].vector_width == 2


def test_vectors_of_all_files_must_have_the_same_width(tmp_path: Path, run: Callable[..., Run]):
    write(tmp_path / "a.parquet", [{"text": "a", "v": [0.1, 0.2]}])
    write(tmp_path / "b.jsonl", [{"text": "b", "v": [0.1, 0.2, 0.3]}])
    made = run([tmp_path / "a.parquet", tmp_path / "b.jsonl"], text="text", vectors="v")
    assert "different widths: 2, 3" in error_of(made.limits)


# -------------------------------------------------------------------------------------------------------- from Python


def test_frames_from_python_are_documents(tmp_path: Path, run: Callable[..., Run]):
    import pandas as pd

    store = Store(str(tmp_path / "ws"))
    frame = pl.DataFrame(ROWS)
    many: list[Any] = [
        frame,
        frame.lazy(),
        frame.to_arrow(),
        frame.to_arrow().to_reader(),
        pd.DataFrame(ROWS),
        iter(frame.to_arrow().to_batches(max_chunksize=1)),
        iter(ROWS),
    ]
    for data in many:
        made = Run(store, spool_frame(data, store), text="text")
        assert made.texts() == [row["text"] for row in ROWS]
        assert [row["lang"] for row in made.documents()] == ["en", "de", "fr"]
    made = Run(store, spool_frame(["one", "two"], store))
    assert made.texts() == ["one", "two"]
    assert spool_frame(frame, store) == spool_frame(frame.clone(), store)
