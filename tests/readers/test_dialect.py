"""Dialects of CSV: detected and reported, or configured."""

from __future__ import annotations

import csv
import io
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from latentscale.config import CorpusConfig, IngestConfig
from latentscale.errors import CorpusError
from latentscale.readers import read_input
from latentscale.readers.check import check_corpus
from latentscale.readers.inputs import list_inputs


def read(path: Path, content: str | bytes, **more: Any) -> tuple[list[dict[str, Any]], str]:
    """Rows of a file, and what is said of its dialect."""
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    corpus = CorpusConfig(sources=(str(path),), **({"text": "text"} | more))
    files = list_inputs(corpus)
    notes = check_corpus(files, corpus).notes
    rows = [row for block in read_input(files[0], corpus, IngestConfig()) for row in block.table.to_pylist()]
    return rows, " ".join(notes)


@pytest.mark.parametrize(
    ("text", "row", "said"),
    [
        ("sep=;\r\nid;text\r\n1;a, b\r\n", {"id": "1", "text": "a, b"}, "corpus.delimiter"),
        ("id;text\n1;a\n2;b, c\n", {"id": "1", "text": "a"}, "';' (corpus.delimiter)"),
        ("id\ttext\n1\ta, b\n", {"id": "1", "text": "a, b"}, "a tab"),
        ("id;a,b;text\n1;2;x\n", {"id": "1", "a,b": "2", "text": "x"}, "';'"),
        ("text,kind\n1,hello,k\n2,there,k\n", {"row_name": "1", "text": "hello", "kind": "k"}, "row_name"),
        ("text,kind\nhello,k,\nthere,k,\n", {"text": "hello", "kind": "k"}, "last delimiter"),
        ('text,kind\n"a, \\"so\\" C:\\new\\\\",k\n', {"text": 'a, "so" C:\\new\\', "kind": "k"}, "corpus.escape"),
        ('text,kind\n"C:\\",k\n"say ""hi""",k\n', {"text": "C:\\", "kind": "k"}, ""),
        # One stray quote is no reason to take the backslashes at the ends of paths for something else.
        ('text,kind\n"C:\\",k\n"so "it" is",k\n"D:\\",k\n"E:\\",k\n', {"text": "C:\\", "kind": "k"}, ""),
        ("# by x\n# on y\ntext,kind\na,k\n", {"text": "a", "kind": "k"}, "2 lines before the header"),
        ("#chrom,text\n1,a\n", {"#chrom": "1", "text": "a"}, ""),
        ("'text','kind'\n'it''s, so','k'\n", {"text": "it's, so", "kind": "k"}, "corpus.quote"),
        ("text\na; b\nc; d\n", {"text": "a; b"}, ""),
        ("id,text\r1,a\r2,b\r", {"id": "1", "text": "a"}, ""),
    ],
)
def test_a_dialect_is_detected_and_reported(tmp_path: Path, text: str, row: dict[str, Any], said: str):
    rows, notes = read(tmp_path / "a.csv", text)
    assert rows[0] == row
    assert said in notes
    assert said or not notes


@pytest.mark.parametrize(
    ("text", "more", "row"),
    [
        ("1,hello\n2,there\n", {"header": False, "text": "column_2"}, {"column_1": "1", "column_2": "hello"}),
        ("Report\nof today\n\ntext,n\na,1\n", {"skip_lines": 3}, {"text": "a", "n": "1"}),
        ('text,n\n"x,1\n', {"quote": ""}, {"text": '"x', "n": "1"}),
        ("text,n\n'a, b',1\n", {"quote": "'"}, {"text": "a, b", "n": "1"}),
        ('text,n\n"a^"b^c",1\n', {"escape": "^"}, {"text": 'a"b^c', "n": "1"}),
        ("% x\ntext,n\na,1\n", {"comment": "%"}, {"text": "a", "n": "1"}),
        ("#text,n\na,1\n", {"comment": "", "text": "#text"}, {"#text": "a", "n": "1"}),
    ],
)
def test_a_dialect_can_be_set(tmp_path: Path, text: str, more: dict[str, Any], row: dict[str, Any]):
    assert read(tmp_path / "a.csv", text, **more)[0][0] == row


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        ("text,kind\nab,hello,k\ncd,there,k\n", "no row", "one field more than the header"),
        ("text,kind\na,b,c,d\ne\n", "no row", "corpus.delimiter"),
        ("1,hello\n2,there\n", "no column 'text'", "corpus.header=false"),
        ("Report\n\nid,text\n1,a\n", "line 3 names one", "corpus.skip_lines=2"),
        ("id,text\n1,a\n".encode("utf-16"), "is UTF-16", "corpus.encoding=utf-16"),
        ("id,text\n1,a\n".encode("utf-16-le"), "as in UTF-16", "corpus.encoding=utf-16-le"),
        ("id,text\n1,a\n".encode("utf-16-be"), "as in UTF-16", "corpus.encoding=utf-16-be"),
        ("id,t\u00e9xt\n1,a\n".encode("latin-1"), "is not utf-8", "gb18030"),
    ],
)
def test_advice_fits_the_file(tmp_path: Path, text: str | bytes, message: str, hint: str):
    with pytest.raises(CorpusError, match=message) as raised:
        read(tmp_path / "a.csv", text)
    assert hint in (raised.value.hint or "")


def test_tables_that_are_too_wide_are_refused_before_they_are_read(tmp_path: Path):
    names = [f"c{n}" for n in range(3_000)]
    with pytest.raises(CorpusError, match=r"3,001 columns, more than ingest\.max_columns = 2,000"):
        read(tmp_path / "a.csv", ",".join(["text", *names]) + "\n" + "x" + ",1" * 3_000 + "\n")
    with pytest.raises(CorpusError, match="3,000,001 columns"):
        read(tmp_path / "b.csv", "text" + "," * 3_000_000 + "\n")


VALUE = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), max_size=12)


@settings(max_examples=150)
@given(
    values=st.lists(st.tuples(VALUE, VALUE), min_size=1, max_size=8),
    delimiter=st.sampled_from(",;\t|"),
    quoting=st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]),
    escaped=st.booleans(),
    encoding=st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "gb18030"]),
    end=st.sampled_from(["\r\n", "\n"]),
)
def test_values_come_back_as_they_were_written(
    values: list[tuple[str, str]], delimiter: str, quoting: Any, escaped: bool, encoding: str, end: str
):
    sink = io.StringIO(newline="")
    escape: dict[str, Any] = {"doublequote": False, "escapechar": "\\"} if escaped else {}
    # Before Python 3.13 a carriage return is written without quotes, and is then a part of the line's end.
    bare = end == "\n" and any("\r" in value for pair in values for value in pair)
    quoting = csv.QUOTE_ALL if escaped or bare else quoting
    writer = csv.writer(sink, delimiter=delimiter, quoting=quoting, lineterminator=end, **escape)
    writer.writerow(["text", "other"])
    writer.writerows(values)
    with tempfile.TemporaryDirectory() as folder:
        rows, _ = read(
            Path(folder, "a.csv"),
            sink.getvalue().encode(encoding),
            encoding=encoding,
            delimiter=delimiter,
            escape="\\" if escaped else "",
        )
    assert [(row["text"], row["other"]) for row in rows] == values
