"""Write frames to an Excel workbook with one sheet, row by row in constant memory."""

from __future__ import annotations

import math
from datetime import date, datetime
from pathlib import Path
from typing import Any

import polars as pl

from latentscale.errors import RequestError, require

# Limits of the file format.
MAX_ROWS, MAX_COLUMNS, MAX_CHARACTERS = 1_048_576, 16_384, 32_767
# Larger integers lose digits in a spreadsheet.
_EXACT = 2**53
# The first date of Excel.
_FIRST_DAY = datetime(1900, 1, 1)


def check_rows(rows: int, to: Path) -> None:
    """Check the number of rows and the installed packages, before anything is read.

    Raises
    ------
    RequestError
        If there are more rows than a sheet holds.
    MissingPackageError
        If the extra ``excel`` is not installed.
    """
    require("xlsxwriter", extra="excel", used_for="writing .xlsx")
    if rows >= MAX_ROWS:
        raise RequestError(
            f"{to.name}: a sheet holds {MAX_ROWS - 1:,} rows, and these are {rows:,}",
            hint="Write .parquet or .csv.",
        )


class ExcelWriter:
    """Writes frames with the same schema; the first may be empty.

    Text is never written as a formula or link. Integers beyond 2**53, infinities and times with a zone become text.
    """

    def __init__(self, path: Path) -> None:
        xlsxwriter = require("xlsxwriter", extra="excel", used_for="writing .xlsx")
        self._book: Any = xlsxwriter.Workbook(
            str(path), {"constant_memory": True, "strings_to_formulas": False, "strings_to_urls": False}
        )
        self._sheet: Any = self._book.add_worksheet("LatentScale")
        self._day: Any = self._book.add_format({"num_format": "yyyy-mm-dd"})
        self._moment: Any = self._book.add_format({"num_format": "yyyy-mm-dd hh:mm:ss"})
        self._row = 0

    def write(self, frame: pl.DataFrame) -> None:
        """Append the rows of a frame, at first preceded by a header row.

        Raises
        ------
        RequestError
            If there are too many columns, or a text is longer than a cell holds.
        """
        if not self._row:
            if frame.width > MAX_COLUMNS:
                raise RequestError(
                    f"a sheet holds {MAX_COLUMNS:,} columns, and these are {frame.width:,}", hint="Write .parquet."
                )
            for column, name in enumerate(frame.columns):
                self._sheet.write_string(0, column, name)
            self._row = 1
        for values in frame.iter_rows():
            for column, value in enumerate(values):
                if value is not None:
                    self._cell(column, value, frame)
            self._row += 1

    def _cell(self, column: int, value: Any, frame: pl.DataFrame) -> None:
        if isinstance(value, bool):
            self._sheet.write_boolean(self._row, column, value)
        elif isinstance(value, int | float) and math.isfinite(value) and abs(value) <= _EXACT:
            self._sheet.write_number(self._row, column, value)
        elif isinstance(value, datetime) and value.tzinfo is None and value >= _FIRST_DAY:
            self._sheet.write_datetime(self._row, column, value, self._moment)
        elif isinstance(value, date) and not isinstance(value, datetime) and value >= _FIRST_DAY.date():
            self._sheet.write_datetime(self._row, column, value, self._day)
        else:
            text = value.isoformat() if isinstance(value, datetime | date) else str(value)
            if len(text) > MAX_CHARACTERS:
                raise RequestError(
                    f"a cell of a sheet holds {MAX_CHARACTERS:,} characters, and row {self._row} has {len(text):,} in "
                    f"{frame.columns[column]!r}",
                    hint="Write .parquet, .csv or .jsonl.",
                )
            self._sheet.write_string(self._row, column, text)

    def __enter__(self) -> ExcelWriter:
        return self

    def __exit__(self, *error: object) -> None:
        self._book.close()
