"""Manual edits of labels as a CSV table, written for spreadsheets and read as they save it."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from latentscale.errors import ConfigError
from latentscale.labelers.edits import ACTIONS, FIELDS, PARENT_MEMBERS

SUFFIXES = (".csv", ".tsv")
"""Suffixes of tables; other files are YAML."""

_NUMBERS = ("layer", "cluster", "size")
_BOOLEANS = {"yes": True, "true": True, "1": True, "x": True, "no": False, "false": False, "0": False}
_LISTS = ("members", "add", "remove", PARENT_MEMBERS)
_REQUIRED = ("layer", "size", "members")
# Editable columns come before the long lists.
_COLUMNS = ("label", "layer", "cluster", "size", *ACTIONS, "members", PARENT_MEMBERS)
# Spreadsheets interpret cells with these first characters as formulas; a leading apostrophe marks them as text.
_FORMULA = re.compile(r"'*[=+\-@\t\r]")
_DELIMITERS = ",;\t"
_SEPARATORS = re.compile(r"[\s,;|]+")
# Maximum length of a cell in spreadsheets.
_MAX_CHARACTERS = 32_767
_HINT = "latentscale labels export WORKSPACE edits.csv writes such a table; keep its layer, size and members."


def render_table(clusters: Iterable[Mapping[str, Any]], suffix: str) -> str:
    """Write clusters and their edits as CSV, a row for each cluster, to be edited by hand.

    The file begins with a byte order mark, by which spreadsheets detect UTF-8. Row ids in lists are separated by ``|``,
    which no spreadsheet interprets as a number or a date.

    Parameters
    ----------
    clusters : iterable of mapping
        As in :func:`latentscale.labelers.edits.render_edits`.
    suffix : str
        ``.csv`` for comma-separated or ``.tsv`` for tab-separated values.

    Raises
    ------
    ConfigError
        If a list exceeds the cell length of spreadsheets.
    """
    file = io.StringIO(newline="")
    writer = csv.writer(file, delimiter="\t" if suffix == ".tsv" else ",")
    writer.writerow(_COLUMNS)
    for cluster in clusters:
        cells = [_cell(cluster.get(name)) for name in _COLUMNS]
        for name, cell in zip(_COLUMNS, cells, strict=True):
            if len(cell) > _MAX_CHARACTERS:
                raise ConfigError(
                    f"label.edits: {name} of {cluster['label']!r} is longer than a cell of a spreadsheet "
                    f"({_MAX_CHARACTERS:,} characters)",
                    hint="Write a YAML file: latentscale labels export WORKSPACE edits.yaml.",
                )
        writer.writerow(cells)
    return "\ufeff" + file.getvalue()


def read_table(content: bytes, *, where: str) -> tuple[list[dict[str, Any]], list[int]]:
    """Read a table of edits, as written by ``render_table`` or saved by a spreadsheet.

    Accepts commas, semicolons or tabs, UTF-8 with or without a byte order mark, UTF-16 with one, a ``sep=;`` line,
    columns in any order, ``TRUE`` for ``yes``, and empty rows.

    Returns
    -------
    list of dict
        The entries, with the types of a YAML file. Invalid numbers, row ids and booleans remain text, which
        ``parse_edits`` rejects.
    list of int
        1-based row of each entry, counting the header, as in a spreadsheet.

    Raises
    ------
    ConfigError
        With the invalid row or column.
    """
    # Split at CSV line ends only, not at all characters that str.splitlines splits at.
    lines = list(io.StringIO(_decode(content, where), newline=""))
    declared = re.fullmatch(r'"?sep=(.)"?\s*', lines[0], re.IGNORECASE) if lines else None
    delimiter = declared[1] if declared else max(_DELIMITERS, key="".join(lines[:1]).count)
    records = _records(lines[1:] if declared else lines, delimiter, where)
    _, header = next(records, (1, []))
    names = [name.strip().casefold() for name in header]
    _check_header(names, f"{where}, row 1")
    entries: list[dict[str, Any]] = []
    rows: list[int] = []
    for row, cells in records:
        if not any(cell.strip() for cell in cells):
            continue
        location = f"{where}, row {row}"
        if any(cell.strip() for cell in cells[len(names) :]):
            raise ConfigError(
                f"label.edits: there are {len(cells)} cells, and {len(names)} columns",
                where=location,
                hint="Put text with a delimiter in it in double quotes, as spreadsheets do.",
            )
        fields = {name: cell.strip() for name, cell in zip(names, cells, strict=False) if cell.strip()}
        for name in fields:
            if not name:
                raise ConfigError(
                    f"label.edits: {fields[name]!r} is in a column without a name", where=location, hint=_HINT
                )
            if len(fields[name]) >= _MAX_CHARACTERS:
                raise ConfigError(
                    f"label.edits: {name} has {_MAX_CHARACTERS:,} characters, where spreadsheets cut a cell off",
                    where=f"{location}, column {name}",
                    hint="Give this edit in a YAML file.",
                )
        entries.append({name: _value(name, text) for name, text in fields.items()})
        rows.append(row)
    return entries, rows


def _cell(value: Any) -> str:
    if value is None or value is False:
        return ""
    if value is True:
        return "yes"
    if isinstance(value, (list, tuple)):
        return "|".join(map(str, value))  # pyright: ignore[reportUnknownArgumentType, reportUnknownVariableType]
    text = str(value)
    return f"'{text}" if _FORMULA.match(text) else text


def _value(name: str, text: str) -> Any:
    if name in _LISTS:
        parts = [part for part in _SEPARATORS.split(text.strip("[]")) if part]
        return [int(part) for part in parts] if parts and all(map(_is_number, parts)) else text
    if name in ("hide", "pin"):
        return _BOOLEANS.get(text.casefold(), text)
    if name in _NUMBERS or name == "split":
        return int(text) if _is_number(text) else text.casefold()
    return text[1:] if _FORMULA.match(text) and text[0] == "'" else text


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) < 20


def _decode(content: bytes, where: str) -> str:
    encoding = "utf-16" if content[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    try:
        return content.decode(encoding)
    except UnicodeDecodeError as error:
        row = content.count(b"\n", 0, error.start) + 1
        raise ConfigError(
            f"label.edits: line {row} is not {encoding.removesuffix('-sig').upper()}",
            where=where,
            hint="Save it from the spreadsheet as 'CSV UTF-8'.",
        ) from None


def _records(lines: Sequence[str], delimiter: str, where: str) -> Iterator[tuple[int, list[str]]]:
    """Yield each record with its row number; a quoted cell may span several lines."""
    reader = csv.reader(lines, delimiter=delimiter, strict=True)
    row = 1
    while True:
        try:
            record = next(reader, None)
        except csv.Error as error:
            raise ConfigError(
                f"label.edits: this is not CSV: {error}", where=f"{where}, row {row}", hint="Check the double quotes."
            ) from None
        if record is None:
            return
        yield row, record
        row += 1


def _check_header(names: Sequence[str], where: str) -> None:
    missing = [name for name in _REQUIRED if name not in names]
    if missing:
        raise ConfigError(
            f"label.edits: this is not a table of edits: there is no column {missing[0]!r}", where=where, hint=_HINT
        )
    for name in names:
        if name and name not in FIELDS:
            raise ConfigError(
                f"label.edits: the column {name!r} is not an edit",
                where=where,
                hint=f"Columns of edits are {', '.join(ACTIONS)}.",
            )
        if name and names.count(name) > 1:
            raise ConfigError(f"label.edits: there are two columns {name!r}", where=where, hint="Delete one of them.")
