"""Read a sheet of an Excel file, with the package python-calamine (the extra ``excel``)."""

from __future__ import annotations

import datetime
import io
import itertools
import re
import zipfile
import zlib
from collections.abc import Iterator
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa

from latentscale.config import CorpusConfig, IngestConfig
from latentscale.errors import CorpusError, require
from latentscale.file_names import shown
from latentscale.readers.archives import LARGE, expansion_error
from latentscale.readers.input_table import InputFile
from latentscale.readers.parquet import distinct_names, row_costs
from latentscale.readers.records import Block, RejectedRows
from latentscale.readers.values import table_of

BATCH_ROWS = 4_096
MOST_EMPTY_CELLS = 20_000_000
"""Maximum cells of the bounding rectangle of a sheet, which is kept in memory."""
_CELL = re.compile(rb"""\br\s*=\s*["']([A-Z]{1,3})([0-9]{1,7})["']""")
_SCANNED = 1 << 20
_TYPES: dict[type, pa.DataType] = {
    bool: pa.bool_(),
    str: pa.string(),
    datetime.datetime: pa.timestamp("us"),
    datetime.date: pa.date32(),
    datetime.time: pa.time64("us"),
    datetime.timedelta: pa.duration("us"),
}


def read_excel(file: InputFile, raw: BinaryIO, corpus: CorpusConfig, ingest: IngestConfig) -> Iterator[Block]:
    """Read the rows of a sheet below the header in its first row; empty rows are skipped.

    Columns of numbers, booleans, dates or times keep their type, with integers as int64; mixed columns become text.
    ``line`` is the 1-based row number, as in Excel.

    Raises
    ------
    MissingPackageError
        If python-calamine is not installed.
    CorpusError
        If the file is damaged or encrypted, or lacks the sheet.
    """
    sheet = _sheet(file, raw, corpus)
    # Rows from the first row of the sheet, even if it is empty.
    rows = enumerate(_rows(sheet), 1)
    header = next(((number, row) for number, row in rows if any(cell != "" for cell in row)), None)
    if header is None:
        return
    names = distinct_names([_text(cell).strip() if cell != "" else "" for cell in header[1]])
    read = 0
    while batch := list(itertools.islice(rows, BATCH_ROWS)):
        kept = [(number, row) for number, row in batch if any(cell != "" for cell in row)]
        if not kept:
            continue
        columns = {name: _column([row[place] for _, row in kept]) for place, name in enumerate(names)}
        table = table_of(columns, len(kept))
        position = np.arange(len(kept), dtype=np.int64)
        yield Block(
            source=file.path,
            size=len(kept),
            table=table,
            position=position,
            source_row=position + read,
            line=np.array([number for number, _ in kept], dtype=np.int64),
            cost=row_costs(table),
            rejects=RejectedRows(),
        )
        read += len(kept)


def sheet_names(file: InputFile, raw: BinaryIO, corpus: CorpusConfig) -> list[str]:
    """Return the names of the sheets of a file, in order."""
    return list(_workbook(file, raw, corpus).sheet_names)


def _workbook(file: InputFile, raw: BinaryIO, corpus: CorpusConfig) -> Any:
    calamine = require("python_calamine", extra="excel", used_for=f"reading {shown(file.path)}")
    _check_size(file, raw, corpus)
    raw.seek(0)
    try:
        return calamine.CalamineWorkbook.from_filelike(raw)
    except calamine.PasswordError as error:
        raise CorpusError(
            f"{shown(file.path)} is encrypted", where=file.url, hint="Save it without a password."
        ) from error
    except calamine.CalamineError as error:
        raise _damaged(file, error) from error


def _sheet(file: InputFile, raw: BinaryIO, corpus: CorpusConfig) -> Any:
    calamine = require("python_calamine", extra="excel", used_for=f"reading {shown(file.path)}")
    workbook = _workbook(file, raw, corpus)
    names: list[str] = list(workbook.sheet_names)
    wanted = corpus.sheet if corpus.sheet is not None else (names[0] if names else "")
    if wanted not in names:
        raise CorpusError(
            f"{shown(file.path)} has no sheet {shown(wanted)!r}; its sheets are: {', '.join(map(shown, names[:10]))}",
            where=file.url,
            hint="--set corpus.sheet=NAME",
        )
    try:
        return workbook.get_sheet_by_name(wanted)
    except calamine.CalamineError as error:
        raise _damaged(file, error) from error
    except BaseException as error:
        # A Rust panic is not an Exception.
        if type(error).__name__ != "PanicException":
            raise
        raise _damaged(file, error) from error


def _rows(sheet: Any) -> Iterator[list[Any]]:
    start = sheet.start
    if start is None:
        return
    for _ in range(start[0]):
        yield []
    yield from sheet.to_python(skip_empty_area=True)


def _check_size(file: InputFile, raw: BinaryIO, corpus: CorpusConfig) -> None:
    """Reject a file that would need too much memory: through compressed parts, or a cell far from the others."""
    raw.seek(0)
    try:
        with zipfile.ZipFile(raw) as archive:
            total = sum(info.file_size for info in archive.infolist())
            size = raw.seek(0, io.SEEK_END)
            if total > LARGE and total > corpus.max_expansion * size:
                raise expansion_error(file.path, file.url, total / max(size, 1), corpus.max_expansion)
            for info in archive.infolist():
                if info.filename.startswith("xl/worksheets/") and info.filename.endswith(".xml"):
                    _check_area(file, archive, info)
    except zipfile.BadZipFile:
        return  # an older or unknown format, which the package reports
    except (EOFError, zlib.error, NotImplementedError, RuntimeError) as error:
        raise _damaged(file, error) from error


def _check_area(file: InputFile, archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> None:
    cells = right = bottom = 0
    with archive.open(info) as part:
        tail = b""
        while piece := part.read(_SCANNED):
            data = tail + piece
            for letters, digits in set(_CELL.findall(data)):
                column = 0
                for letter in letters:
                    column = 26 * column + letter - 64
                cells, right, bottom = cells + 1, max(right, column), max(bottom, int(digits))
            tail = data[-64:]
    if right * bottom > MOST_EMPTY_CELLS + 20 * cells:
        raise CorpusError(
            f"a sheet of {shown(file.path)} has a cell in row {bottom:,}, column {right:,}, and only {cells:,} cells",
            where=file.url,
            hint="Delete the stray cell, or save the sheet as CSV.",
        )


def _column(cells: list[Any]) -> pa.Array:
    values = [None if cell == "" else cell for cell in cells]
    kinds = {type(value) for value in values if value is not None}
    if not kinds:
        return pa.nulls(len(values))
    if kinds <= {int, float}:
        if all(value is None or (float(value).is_integer() and abs(value) < 2**53) for value in values):
            return pa.array([None if value is None else int(value) for value in values], pa.int64())
        return pa.array([None if value is None else float(value) for value in values], pa.float64())
    if kinds == {datetime.date, datetime.datetime}:
        moments = [
            value if value is None or isinstance(value, datetime.datetime) else datetime.datetime.combine(value, _NIGHT)
            for value in values
        ]
        return pa.array(moments, pa.timestamp("us"))
    if len(kinds) == 1:
        return pa.array(values, _TYPES[kinds.pop()])
    return pa.array([None if value is None else _text(value) for value in values], pa.string())


_NIGHT = datetime.time()


def _text(value: Any) -> str:
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        return str(int(value))
    if isinstance(value, datetime.datetime | datetime.date | datetime.time):
        return value.isoformat()
    return str(value)


def _damaged(file: InputFile, error: BaseException) -> CorpusError:
    return CorpusError(
        f"{shown(file.path)} is not a complete Excel file: {' '.join(str(error).split())[:200]}",
        where=file.url,
        hint="Save it again as .xlsx, or as CSV.",
    )
