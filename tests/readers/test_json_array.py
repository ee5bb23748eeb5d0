"""JSON files other than JSON lines: arrays, concatenated objects, and invalid ones."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from latentscale.errors import CorpusError
from latentscale.readers import json_array
from latentscale.readers.input_table import InputFile
from latentscale.readers.json_array import Elements
from latentscale.readers.streams import Content

OBJECTS: list[Any] = [
    {"text": 'brackets ]}[{ and "quotes", commas', "n": 1},
    {"text": "two\nlines and a backslash \\", "n": 2, "nested": {"a": [1, {"b": "]"}]}},
    {"text": "naïve café — 東京", "n": 3},
]


def refusal(action: Callable[[], Any]) -> str:
    with pytest.raises(CorpusError) as error:
        action()
    assert len(str(error.value).splitlines()) <= 6
    return str(error.value)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252"])
@pytest.mark.parametrize("indent", [None, 2])
@pytest.mark.parametrize("form", ["array", "objects", "lines"])
def test_objects_are_rows_for_any_formatting(
    tmp_path: Path, ingested: Callable[..., Any], form: str, indent: int | None, encoding: str
):
    rows = OBJECTS if encoding != "cp1252" else OBJECTS[:2]
    if form == "array":
        text = json.dumps(rows, indent=indent, ensure_ascii=False)
    else:
        indent = indent if form == "objects" else None
        text = "\n".join(json.dumps(row, indent=indent, ensure_ascii=False) for row in rows)
    (tmp_path / "a.json").write_bytes(text.encode(encoding))
    made = ingested(tmp_path / "a.json", encoding=encoding)
    assert [(row["text"], row["n"]) for row in made.rows] == [(row["text"], row["n"]) for row in rows]
    assert made.table["source_row"].to_pylist() == list(range(len(rows)))
    assert made.rows[1]["nested"] == '{"a":[1,{"b":"]"}]}'
    assert made.rejects == []


def test_an_element_that_is_no_object_is_rejected_at_its_line(tmp_path: Path, ingested: Callable[..., Any]):
    text = """
[ {"text": "one"},
  5, "six",

  {"text": "two",
   "more": "x"}, {"text": null}, {"text": 7}, ["text"], {"text": "raw
line"}, {"text": tru},
  {"text": "half \\ud83d of a pair"},
  {"text": "last"} ]
"""
    (tmp_path / "a.json").write_text(text)
    made = ingested(tmp_path / "a.json")
    assert made.texts[:2] == ["one", "two"]
    assert made.texts[-1] == "last"
    assert made.rejects[:7] == [
        (1, 3, "not_an_object"),
        (2, 3, "not_an_object"),
        (4, 6, "null_text"),
        (5, 6, "not_text"),
        (6, 6, "not_an_object"),
        (7, 6, "not_json"),
        (8, 7, "not_json"),
    ]
    assert len(made.texts) + len(made.rejects) == 11


def test_a_byte_that_is_not_utf8_costs_its_own_row_only(tmp_path: Path, ingested: Callable[..., Any]):
    (tmp_path / "a.json").write_bytes(b'[{"text": "good"}, {"text": "caf\xe9"}, {"text": "fine"}]')
    made = ingested(tmp_path / "a.json")
    assert (made.texts, made.rejects) == (["good", "fine"], [(1, 1, "undecodable")])


@pytest.mark.parametrize("cut", range(1, 60, 4))
def test_an_array_that_is_cut_short_is_refused(tmp_path: Path, ingested: Callable[..., Any], cut: int):
    whole = json.dumps([{"text": f"text {i}"} for i in range(10)])
    (tmp_path / "a.json").write_text(whole[:-cut])
    assert "damaged or cut short" in refusal(lambda: ingested(tmp_path / "a.json"))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ('{"data": [{"text": "a"}, {"text": "b"}], "count": 2}', "in its key 'data'"),
        ('{\n "count": 2,\n "rows": [\n{"text": "a"}]}', "in its key 'rows'"),
        ('{"text": ["a", "b"], "n": [1, 2]}', "the values of each column"),
        ('{\n"text": {"0": "a", "1": "b"},\n"n": {"0": 1, "1": 2}\n}', "the values of each column"),
        ("text,n\nx,1\n", "begins with 'text,n"),
        ('"text"', "no JSON array of objects"),
        ('[{"text": "a"}] [{"text": "b"}]', "something follows the end of the array"),
        ('[{"text": "a"}]}', "something follows the end of the array"),
        ("[]", "no rows"),
        ("  \n ", "no rows"),
        ("", "no rows"),
    ],
)
def test_other_json_than_an_array_of_objects_is_refused_by_kind(
    tmp_path: Path, ingested: Callable[..., Any], content: str, said: str
):
    (tmp_path / "a.json").write_text(content)
    assert said in refusal(lambda: ingested(tmp_path / "a.json"))


def test_files_of_one_object_each_are_documents(tmp_path: Path, ingested: Callable[..., Any]):
    (tmp_path / "p").mkdir()
    (tmp_path / "p" / "a.json").write_text(json.dumps({"text": ["one", "two"], "tags": ["a", "b"], "id": 7}))
    assert ingested(tmp_path / "p").texts == ["one\n\ntwo"]
    for i in range(3):
        (tmp_path / f"{i}.json").write_text(json.dumps({"text": f"text {i}", "tags": [{"a": 1}]}, indent=1))
    made = ingested(tmp_path / "*.json")
    assert made.texts == ["text 0", "text 1", "text 2"]


def test_an_element_longer_than_any_record_is_rejected_unread(tmp_path: Path, ingested: Callable[..., Any]):
    (tmp_path / "a.json").write_text(json.dumps([{"text": "a"}, {"text": "x" * 20_000_000}, {"text": "b"}]))
    made = ingested(tmp_path / "a.json")
    assert (made.texts, made.rejects) == (["a", "b"], [(1, 1, "too_long")])


class _InPieces(Content):
    def __init__(self, data: bytes) -> None:
        self._data = data

    def read(self, size: int) -> bytes:
        piece, self._data = self._data[:size], self._data[size:]
        return piece


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(st.sampled_from('a"\\[]{},: \né'), max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=2), inner, max_size=3),
    max_leaves=5,
)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(rows=st.lists(VALUES, min_size=1, max_size=4), indent=st.sampled_from([None, 1]), size=st.integers(1, 40))
def test_elements_are_split_correctly_for_any_block_size(
    monkeypatch: pytest.MonkeyPatch, rows: list[Any], indent: int | None, size: int
):
    monkeypatch.setattr(json_array, "PIECE", size)
    file = InputFile(url="a.json", path="a.json", size=1, version="", format="json", compression="none")
    elements = Elements(file, _InPieces(json.dumps(rows, indent=indent, ensure_ascii=False).encode()), "utf-8")
    data = b"".join(iter(lambda: elements.read(7), b""))
    lines = data.split(b"\n")
    assert not lines.pop().strip()
    assert [json.loads(line) for line in lines] == rows
