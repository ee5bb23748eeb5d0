"""Sheets of Excel files."""

from __future__ import annotations

import datetime
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from latentscale.errors import CorpusError, MissingPackageError

_HEAD = '<?xml version="1.0" encoding="UTF-8" standalone="yes"?>\n'
_MAIN = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
_RELATIONS = "http://schemas.openxmlformats.org/package/2006/relationships"
_OFFICE = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
_TYPES = "http://schemas.openxmlformats.org/package/2006/content-types"


def _cell(place: str, value: Any) -> str:
    if isinstance(value, str):
        text = value.replace("&", "&amp;").replace("<", "&lt;")
        return f'<c r="{place}" t="inlineStr"><is><t xml:space="preserve">{text}</t></is></c>'
    if isinstance(value, bool):
        return f'<c r="{place}" t="b"><v>{int(value)}</v></c>'
    if isinstance(value, datetime.datetime):
        days = (value - datetime.datetime(1899, 12, 30)) / datetime.timedelta(days=1)
        return f'<c r="{place}" s="1"><v>{days}</v></c>'
    return f'<c r="{place}"><v>{value}</v></c>' if value is not None else ""


def write(path: Path, sheets: dict[str, list[list[Any]]], *, extra: str = "") -> Path:
    """Write a workbook as Excel does, as far as these tests need it."""
    parts = {
        "[Content_Types].xml": f'<Types xmlns="{_TYPES}"><Default Extension="xml" ContentType="application/xml"/>'
        '<Default Extension="rels" ContentType="application/vnd.openxmlformats-package.relationships+xml"/></Types>',
        "_rels/.rels": f'<Relationships xmlns="{_RELATIONS}"><Relationship Id="r0" '
        f'Type="{_OFFICE}/officeDocument" Target="xl/workbook.xml"/></Relationships>',
        "xl/styles.xml": f'<styleSheet xmlns="{_MAIN}"><cellXfs count="2"><xf numFmtId="0"/>'
        '<xf numFmtId="22"/></cellXfs></styleSheet>',
    }
    names = "".join(f'<sheet name="{name}" sheetId="{i}" r:id="r{i}"/>' for i, name in enumerate(sheets, 1))
    parts["xl/workbook.xml"] = f'<workbook xmlns="{_MAIN}" xmlns:r="{_OFFICE}"><sheets>{names}</sheets></workbook>'
    relations = "".join(
        f'<Relationship Id="r{i}" Type="{_OFFICE}/worksheet" Target="worksheets/sheet{i}.xml"/>'
        for i in range(1, len(sheets) + 1)
    )
    relations += f'<Relationship Id="s" Type="{_OFFICE}/styles" Target="styles.xml"/>'
    parts["xl/_rels/workbook.xml.rels"] = f'<Relationships xmlns="{_RELATIONS}">{relations}</Relationships>'
    for i, rows in enumerate(sheets.values(), 1):
        lines = "".join(
            f'<row r="{number}">' + "".join(_cell(f"{chr(65 + c)}{number}", v) for c, v in enumerate(row)) + "</row>"
            for number, row in enumerate(rows, 1)
        )
        parts[f"xl/worksheets/sheet{i}.xml"] = (
            f'<worksheet xmlns="{_MAIN}"><sheetData>{lines}{extra}</sheetData></worksheet>'
        )
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, part in parts.items():
            archive.writestr(name, _HEAD + part)
    return path


def refusal(action: Callable[[], Any], kind: type[Exception] = CorpusError) -> str:
    with pytest.raises(kind) as error:
        action()
    assert len(str(error.value).splitlines()) <= 6
    return str(error.value)


def test_rows_have_their_types_and_positions(tmp_path: Path, ingested: Callable[..., Any]):
    moment = datetime.datetime(2026, 11, 26, 12)
    rows: list[list[Any]] = [
        [],
        ["text", "n", "share", "mixed", "flag", "when", "text"],
        ["one & <two>", 1, 0.5, "x", True, moment, "again"],
        [],
        [None, 2, 1, 7, False, None, None],
        ["last", None, 2.25, 1.5, None, moment, None],
    ]
    made = ingested(write(tmp_path / "a.xlsx", {"first": rows, "second": [["other"], ["x"]]}))
    assert made.rows == [
        {"text": "one & <two>", "n": 1, "share": 0.5, "mixed": "x", "flag": True, "when": moment, "text_2": "again"},
        {"text": "last", "n": None, "share": 2.25, "mixed": "1.5", "flag": None, "when": moment, "text_2": None},
    ]
    assert made.table.schema.field("n").type == "int64"
    assert made.rejects == [(1, 5, "null_text")]
    assert any("of the 2 sheets of a.xlsx the first, 'first', is read" in note for note in made.check.notes)


def test_another_sheet_is_read_by_its_name(tmp_path: Path, ingested: Callable[..., Any]):
    path = write(tmp_path / "a.xlsx", {"first": [["text"], ["a"]], "zweites Blatt": [["text"], ["b"], ["c"]]})
    assert ingested(path, sheet="zweites Blatt").texts == ["b", "c"]
    assert "its sheets are: first, zweites Blatt" in refusal(lambda: ingested(path, sheet="x"))
    cover = write(tmp_path / "b.xlsx", {"Cover": [], "Data": [["text"], ["b"]]})
    assert "the first was read: Cover, Data. Another one: --set corpus.sheet=NAME" in refusal(lambda: ingested(cover))


def test_a_numeric_cell_among_texts_is_a_text(tmp_path: Path, ingested: Callable[..., Any]):
    assert ingested(write(tmp_path / "a.xlsx", {"s": [["text"], ["Brazil"], [1984]]})).texts == ["Brazil", "1984"]


def test_a_cell_far_away_does_not_make_a_table_of_millions(tmp_path: Path, ingested: Callable[..., Any]):
    far = '<row r="1048576"><c r="XFD1048576"><v>1</v></c></row>'
    message = refusal(lambda: ingested(write(tmp_path / "a.xlsx", {"s": [["text"], ["a"]]}, extra=far)))
    assert "row 1,048,576, column 16,384" in message


@pytest.mark.parametrize(
    "content", [b"", b"PK\x03\x04rest", b"no workbook", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + b"\0" * 600]
)
def test_other_files_than_workbooks_are_refused(tmp_path: Path, ingested: Callable[..., Any], content: bytes):
    (tmp_path / "a.xlsx").write_bytes(content)
    assert "a.xlsx" in refusal(lambda: ingested(tmp_path / "a.xlsx"))


def test_a_workbook_that_is_cut_short_is_refused(tmp_path: Path, ingested: Callable[..., Any]):
    path = write(tmp_path / "a.xlsx", {"s": [["text"], *([f"text {i}"] for i in range(500))]})
    path.write_bytes(path.read_bytes()[:-300])
    assert "not a complete Excel file" in refusal(lambda: ingested(path))


def test_without_the_package_the_extra_is_named(
    tmp_path: Path, ingested: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
):
    path = write(tmp_path / "a.xlsx", {"s": [["text"], ["a"]]})
    monkeypatch.setitem(sys.modules, "python_calamine", None)
    assert "pip install 'latentscale[excel]'" in refusal(lambda: ingested(path), MissingPackageError)
