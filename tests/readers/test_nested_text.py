"""Texts inside nested values, in lists and in bytes, from every kind of file."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from latentscale.config import CorpusConfig, IngestConfig
from latentscale.errors import ConfigError, CorpusError
from latentscale.readers import read_input
from latentscale.readers.check import check_corpus
from latentscale.readers.documents import DocumentMaker, Documents
from latentscale.readers.inputs import list_inputs
from latentscale.readers.paths import column_root, parse_path

ROWS = [
    {
        "messages": [{"role": "user", "content": "hello"}, {"role": "assistant", "content": "hi there"}],
        "meta": {"title": "One"},
        "tags": ["sea", "ship"],
    },
    {"messages": [{"role": "system", "content": "be brief"}], "meta": {"title": None}, "tags": []},
    {"messages": None, "meta": None, "tags": None},
]


def documents(path: Path, text: str, **more: Any) -> Documents:
    corpus = CorpusConfig(sources=(str(path),), text=text, **more)
    file = list_inputs(corpus)[0]
    check_corpus(list_inputs(corpus), corpus)
    (block,) = read_input(file, corpus, IngestConfig())
    return DocumentMaker(corpus, IngestConfig()).make(block, file)


def write(folder: Path, kind: str) -> Path:
    path = folder / f"a.{kind}"
    if kind == "parquet":
        pq.write_table(pa.Table.from_pylist(ROWS), path)
    elif kind == "jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    else:
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, list(ROWS[0]))
            writer.writeheader()
            writer.writerows({name: json.dumps(value) for name, value in row.items()} for row in ROWS)
    return path


@pytest.mark.parametrize("kind", ["parquet", "jsonl", "csv"])
@pytest.mark.parametrize(
    ("text", "texts"),
    [
        ("messages[].content", ["hello\n\nhi there", "be brief"]),
        ("messages[role=user].content", ["hello"]),
        ("messages[role=user|system].content", ["hello", "be brief"]),
        ("messages[-1].content", ["hi there", "be brief"]),
        ("meta.title", ["One"]),
        ("{meta.title}: {messages[0].content}", ["One: hello", ": be brief"]),
    ],
)
def test_texts_at_a_path(tmp_path: Path, kind: str, text: str, texts: list[str]):
    made = documents(write(tmp_path, kind), text)
    assert made.table.column(0).to_pylist() == texts
    assert set(made.rejects.reason) <= {"null_text", "blank_text"}
    assert len(made.rejects) == len(ROWS) - len(texts)


@pytest.mark.parametrize("kind", ["parquet", "jsonl"])
def test_lists_of_strings_are_joined(tmp_path: Path, kind: str):
    made = documents(write(tmp_path, kind), "tags")
    assert made.table.column(0).to_pylist() == ["sea\n\nship"]


def test_parts_of_a_message_and_values_that_are_no_text(tmp_path: Path):
    rows: list[Any] = [
        [{"content": [{"type": "text", "text": "look"}, {"type": "image", "url": "x"}]}],
        [{"content": {"url": "x"}}],
        "plain text",
    ]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps({"messages": row}) + "\n" for row in rows))
    made = documents(tmp_path / "a.jsonl", "messages[].content")
    assert made.table.column_names == ["text", "messages"]
    assert made.table["text"].to_pylist() == ["look"]
    assert list(zip(made.rejects.source_row, made.rejects.reason, strict=True)) == [(1, "not_text"), (2, "not_text")]


def test_a_column_of_that_name_goes_before_the_path(tmp_path: Path):
    (tmp_path / "a.jsonl").write_text('{"meta.title": "flat", "meta": {"title": "nested"}}\n')
    assert documents(tmp_path / "a.jsonl", "meta.title").table["meta.title"].to_pylist() == ["flat"]
    assert column_root("text[en]") == "text[en]"
    assert parse_path("a..b") == ("a..b", ())


@pytest.mark.parametrize("kind", [pa.binary(), pa.large_binary()])
def test_bytes_are_text_where_they_are_utf8(tmp_path: Path, kind: pa.DataType):
    table = pa.table({"text": pa.array(["é".encode(), b"\xff", None], kind), "raw": pa.array([b"\xff"] * 3)})
    pq.write_table(table, tmp_path / "a.parquet")
    made = documents(tmp_path / "a.parquet", "text")
    assert made.table.to_pylist() == [{"text": "é", "raw": b"\xff"}]
    assert list(zip(made.rejects.source_row, made.rejects.reason, strict=True)) == [
        (1, "undecodable"),
        (2, "null_text"),
    ]
    assert documents(tmp_path / "a.parquet", "<{text}>").table["text"].to_pylist() == ["<é>"]


def test_a_nested_column_is_refused_listing_its_paths(tmp_path: Path):
    with pytest.raises(CorpusError, match="of type list") as raised:
        documents(write(tmp_path, "parquet"), "messages")
    assert "messages[].content" in str(raised.value.hint)
    with pytest.raises(CorpusError, match="no column 'mesages"):
        documents(write(tmp_path, "parquet"), "mesages[].content")


@pytest.mark.parametrize("kind", ["parquet", "jsonl", "csv"])
@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("messages[].contnt", "has 'contnt' .* there are: content, role"),
        ("messages[rol=user].content", "has 'rol' .* there are: content, role"),
        ("messages[role=usr].content", "has 'usr' .* there are: assistant, system, user"),
        ("{meta.titel} {messages[0].content}", "has 'titel' .* there are: title"),
        ("messages[role=user].content", None),
        ("messages[1].content", None),
        ("{meta.title} {tags}", None),
    ],
)
def test_a_path_that_matches_nothing_is_reported_with_the_existing_keys(
    tmp_path: Path, kind: str, text: str, said: str | None
) -> None:
    corpus = CorpusConfig(sources=(str(write(tmp_path, kind)),), text=text)
    notes = check_corpus(list_inputs(corpus), corpus).notes
    about = [note for note in notes if "where the text is looked for" in note]
    if said is None or (kind == "parquet" and "usr" in text):
        # The footer of a parquet file tells keys, and no values.
        assert about == []
    else:
        assert re.search(said, about[0])


def test_a_word_without_quotes_in_a_condition_may_be_meant_as_text(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("text,section\nchess,games\n")
    corpus = CorpusConfig(sources=(str(path),), text="text", where="section = python")
    with pytest.raises(ConfigError) as refused:
        check_corpus(list_inputs(corpus), corpus)
    assert "single quotes: 'python'" in str(refused.value.hint)
