"""A table of edits means what the YAML file means, as it was written and as a spreadsheet saves it."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from latentscale.errors import ConfigError
from latentscale.labelers.edit_file import edits_of
from latentscale.labelers.edit_table import render_table
from latentscale.labelers.edits import parse_edits, render_edits

EVERY_KIND: list[dict[str, Any]] = [
    {"label": 'Cards, "lost"', "rename": "=SUM(A1); or „Karten“", "describe": "Lost, stolen; swallowed"},
    {"label": "-5 °C", "hide": True},
    {"label": "Rates", "pin": True, "rename": "'Twas"},
    {"label": "One", "merge": "+Both", "add": [7]},
    {"label": "Two", "merge": "+Both", "remove": [12, 13]},
    {"label": "Three", "split": 3},
    {"label": "Auto", "split": "auto"},
    {"label": "Moved", "parent": "Above"},
    {"label": "Elsewhere", "parent": "Gone", "parent_members": [1, 2]},
    {"label": "Untouched"},
    {"label": "@Above", "layer": 1, "rename": "Above"},
]


def entries() -> list[dict[str, Any]]:
    return [
        {"layer": 0, "cluster": at, "size": 20 + at, "members": [100 * at, 100 * at + 1, 2**40 + at]} | one
        for at, one in enumerate(EVERY_KIND)
    ]


def as_spreadsheet(text: str, **dialect: Any) -> str:
    """The same table as another program writes it, its columns the other way round."""
    rows = list(csv.reader(io.StringIO(text.removeprefix("\ufeff"), newline="")))
    file = io.StringIO(newline="")
    csv.writer(file, **dialect).writerows([*([cell.replace("yes", "TRUE") for cell in row[::-1]] for row in rows)])
    return file.getvalue()


def test_all_kinds_of_edits_mean_the_same_in_a_table(tmp_path: Path) -> None:
    wanted = parse_edits(yaml.safe_load(render_edits(entries(), about={})), where="edits.yaml")
    assert {action for edit in wanted for action in edit.actions} == {
        *("rename", "describe", "hide", "pin", "merge", "split", "add", "remove", "parent")
    }
    text = render_table(entries(), ".csv")
    blank = text.splitlines()[0].count(",") * ";" + "\r\n"
    saved = {
        "own.csv": text.encode(),
        "own.tsv": render_table(entries(), ".tsv").encode(),
        "german.csv": ("\ufeff" + as_spreadsheet(text, delimiter=";") + blank).encode(),
        "quoted.csv": as_spreadsheet(text, quoting=csv.QUOTE_ALL, lineterminator="\n").encode(),
        "unicode.csv": as_spreadsheet(text, delimiter="\t").encode("utf-16"),
        "declared.CSV": ("sep=;\r\n" + as_spreadsheet(text, delimiter=";")).encode(),
    }
    for name, content in saved.items():
        (tmp_path / name).write_bytes(content)
        assert edits_of(str(tmp_path / name)) == tuple(edit.as_json() for edit in wanted), name
    # To a spreadsheet no cell is a formula.
    cells = [cell for row in csv.reader(io.StringIO(text, newline="")) for cell in row]
    assert [cell for cell in cells if cell.startswith(("=", "+", "-", "@"))] == []


def cell(row: int, column: str, value: str) -> Callable[[list[list[str]]], None]:
    def change(rows: list[list[str]]) -> None:
        rows[row - 1][rows[0].index(column)] = value

    return change


@pytest.mark.parametrize(
    ("change", "said", "where"),
    [
        (cell(4, "split", "three"), "split is not a number of parts from 2 to 50, or auto .given: 'three'", "row 4"),
        (cell(3, "hide", "maybe"), "hide is not true or false .given: 'maybe'", "row 3"),
        (cell(5, "members", "12 1.2E+05"), "members is not a list of row ids", "row 5"),
        (cell(5, "members", ""), "members is not a list of row ids", "row 5"),
        (cell(6, "size", "many"), "size is not a whole number .given: 'many'", "row 6"),
        (cell(3, "rename", "two\nlines"), "rename is not one line of text", "row 3"),
        (cell(3, "rename", "x" * 5_000), "at most 200 characters .given: 'xxx", "row 3"),
        (cell(3, "add", "1|" * 16_384), "add has 32,767 characters", "row 3, column add"),
        (cell(1, "members", "documents"), "there is no column 'members'", "row 1"),
        (cell(1, "hide", "notes"), "the column 'notes' is not an edit", "row 1"),
        (cell(1, "hide", "rename"), "two columns 'rename'", "row 1"),
        (cell(1, "hide", ""), "'yes' is in a column without a name", "row 3"),
        (lambda rows: rows[3].append("besides"), "there are 16 cells, and 15 columns", "row 4"),
    ],
)
def test_a_table_that_is_wrong_is_refused_with_row_and_column(
    tmp_path: Path, change: Callable[[list[list[str]]], None], said: str, where: str
) -> None:
    rows = list(csv.reader(io.StringIO(render_table(entries(), ".csv").removeprefix("\ufeff"), newline="")))
    change(rows)
    path = tmp_path / "edits.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows(rows)
    with pytest.raises(ConfigError, match=said) as error:
        edits_of(str(path))
    assert error.value.where == f"{path}, {where}"
    assert len(error.value.message) < 300


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "there is no column 'layer'"),
        (b"label,layer,size,members,rename\nCaf\xe9,0,3,1|2,x\n", "line 2 is not UTF-8"),
        (b'label,layer,size,members,rename\nA,0,3,1,"x\n', "this is not CSV: unexpected end of data"),
    ],
)
def test_a_file_that_is_no_table_is_refused(tmp_path: Path, content: bytes, said: str) -> None:
    (tmp_path / "edits.csv").write_bytes(content)
    with pytest.raises(ConfigError, match=said):
        edits_of(str(tmp_path / "edits.csv"))


def test_a_list_that_no_cell_holds_is_for_yaml() -> None:
    with pytest.raises(ConfigError, match="add of 'Big' is longer than a cell of a spreadsheet"):
        render_table([{"label": "Big", "layer": 0, "size": 9, "members": [1], "add": list(range(9_999))}], ".csv")


@pytest.mark.slow
def test_a_file_of_thousands_of_clusters_is_read(tmp_path: Path) -> None:
    # As of a map of a million documents: more values than any settings have.
    many = [{"label": f"C{at}", "layer": 0, "size": 90, "members": list(range(24))} for at in range(3_600)]
    many[5]["rename"] = "Fifth"
    (tmp_path / "edits.yaml").write_text(render_edits(many, about={}), encoding="utf-8")
    assert [edit["rename"] for edit in edits_of(str(tmp_path / "edits.yaml"))] == ["Fifth"]
