"""Detect the columns by which points can be coloured, and collect their values, in one pass over the documents."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from latentscale.viewer.text_dates import iso_days

CATEGORIES = 64
NULL_CODE = 255
OTHER_CODE = 64
_MAX_DISTINCT = 20_000
_MAX_MEAN_LENGTH = 200
_SAMPLE = 1_000_000
_SHARED_CODE = 65_534
_FLOAT32_MAX = float(np.finfo(np.float32).max)
_MAX_INTEGER_CATEGORIES = 12  # maximum number of distinct integers that are treated as categories
_MAX_NAME = 120  # maximum length of a category name in characters


class ColumnValues:
    """The values of a source column as one number per row, on disk.

    ``kind`` is ``categories`` (codes of text, booleans and integers with few values), ``numbers`` or ``dates`` (days
    since 1970), or None if a colour would carry no information: long text, unique names. A text column is a date column
    if every value is a date (:func:`iso_days`).

    ``like`` is the column's entry in the ``index.json`` of an earlier generation: its kind and category codes are kept
    regardless of the new rows; new categories are appended up to the limit.
    """

    def __init__(
        self, name: str, *, column_id: str, rows: int, scratch: Path, like: Mapping[str, Any] | None = None
    ) -> None:
        self.name = name
        self.column_id = column_id
        self.kind: str | None = None
        self._rows = rows
        self._path = scratch / f"{column_id}.values"
        self._days_path = scratch / f"{column_id}.days"
        self._values: NDArray[Any] | None = None
        self._codes: dict[str, int] = {}
        # Text values as dates, as long as all of them are dates.
        self._days: NDArray[np.float64] | None = None
        self._too_many_categories = False
        self._from_text = False
        self._dropped = False
        self._integers = False
        # Different integers may be equal as float64: distinct values are counted as integers.
        self._distinct: set[int] | None = set()
        self._lut: NDArray[np.uint8] | None = None
        self._like = like
        if like is not None:
            self.kind = str(like["kind"])
            self._allocate(np.uint16 if self.kind == "categories" else np.float64)
            self._codes = {name: i for i, (name, _) in enumerate(like.get("categories", []))}

    def add(self, start: int, column: pa.Array) -> None:
        """Add the values of the rows from ``start`` on."""
        if self._dropped:
            return
        if pa.types.is_dictionary(column.type):
            column = column.dictionary_decode()
        if self.kind is None:
            self._open(column)
        elif self._like is not None and not self._fits(column.type):
            self._drop()
        if self._values is None:
            return
        stop = start + len(column)
        if self.kind == "categories":
            self._collect_days(start, column)
            self._encode_categories(start, column)
        elif self.kind == "dates" and _is_text(column.type):
            days = iso_days(column)
            if days is None:
                self._drop()
            else:
                self._values[start:stop], self._from_text = days, True
        elif self.kind == "numbers":
            self._collect_distinct(column)
            self._values[start:stop] = pc.cast(column, pa.float64(), safe=False).to_numpy(zero_copy_only=False)
        else:
            days = pc.cast(pc.cast(column, pa.timestamp("ms"), safe=False), pa.int64())
            self._values[start:stop] = (
                pc.cast(days, pa.float64(), safe=False).to_numpy(zero_copy_only=False) / 86_400_000
            )

    def finish(self) -> dict[str, Any] | None:
        """The column's entry in ``index.json``; None if points cannot be coloured by it."""
        if self._days is not None and not self._dropped and np.isfinite(self._days).any():
            self.kind, self._values, self._from_text = "dates", self._days, True
        elif self._too_many_categories:
            self._drop()
        if self._dropped or self._values is None:
            return None
        if self.kind == "categories":
            return self._finish_categories()
        values = self._values
        finite = values[np.isfinite(values)]
        if not len(finite):
            # The kind is known from an earlier generation; these documents have no value.
            return None if self._like is None else {**self._like, **self._head(), "nulls": self._rows}
        if self._like is None and self._integers and self._distinct:
            codes = {float(value): code for code, value in enumerate(sorted(self._distinct))}
            if len(codes) == len(self._distinct):
                return self._as_categories(codes, sorted(self._distinct))
        sample = np.sort(finite[:: max(1, len(finite) // _SAMPLE)])
        with np.errstate(over="ignore", invalid="ignore"):
            knots = np.quantile(sample, np.linspace(0, 1, 65))
        if not np.isfinite(knots).all():  # between numbers farther apart than the largest one
            knots = np.quantile(sample, np.linspace(0, 1, 65), method="nearest")
        return {
            **self._head(),
            "min": _number(finite.min()),
            "max": _number(finite.max()),
            "quantiles": [_number(v) for v in knots],
            "nulls": int(self._rows - len(finite)),
        }

    def take(self, rows: NDArray[np.int64]) -> pa.Array:
        """The values of ``rows`` in a tile file: uint8 codes (64 other, 255 null), or float32 (NaN null)."""
        assert self._values is not None
        values = self._values[rows]
        if self._lut is not None:
            return pa.array(self._lut[values], pa.uint8())
        # Values beyond the float32 range are clipped.
        return pa.array(np.clip(values, -_FLOAT32_MAX, _FLOAT32_MAX).astype(np.float32), pa.float32())

    def close(self) -> None:
        """Delete the scratch files."""
        self._values = self._days = None
        self._path.unlink(missing_ok=True)
        self._days_path.unlink(missing_ok=True)

    def _head(self) -> dict[str, Any]:
        origin = {"from": "text"} if self._from_text else {}
        return {"id": self.column_id, "name": self.name, "kind": self.kind, **origin}

    def _open(self, column: pa.Array) -> None:
        kind = column.type
        if pa.types.is_null(kind):
            return  # A later batch may have a type.
        if pa.types.is_boolean(kind) or _is_text(kind):
            if _is_text(kind):
                if _mean_length(column) > _MAX_MEAN_LENGTH:
                    self._drop()
                    return
                if self._like is None and iso_days(column) is not None:
                    self._days = np.memmap(self._days_path, np.float64, "w+", shape=(self._rows,))
                    self._days[:] = np.nan
            self.kind, dtype = "categories", np.uint16
        elif pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind):
            self.kind, dtype, self._integers = "numbers", np.float64, pa.types.is_integer(kind)
        elif pa.types.is_date(kind) or pa.types.is_timestamp(kind):
            self.kind, dtype = "dates", np.float64
        else:
            self._drop()
            return
        self._allocate(dtype)

    def _allocate(self, dtype: type[Any]) -> None:
        # On disk: eight bytes per row and column would be gigabytes of memory for 100 million rows.
        self._values = np.memmap(self._path, dtype, "w+", shape=(self._rows,))
        self._values[:] = 65_535 if self.kind == "categories" else np.nan

    def _fits(self, kind: pa.DataType) -> bool:
        """Whether a type is compatible with the column's kind in an earlier generation."""
        if pa.types.is_null(kind):
            return True
        discrete = pa.types.is_boolean(kind) or pa.types.is_integer(kind)
        if self.kind == "categories":
            return discrete or _is_text(kind)
        if self.kind == "dates":
            return pa.types.is_date(kind) or pa.types.is_timestamp(kind) or _is_text(kind)
        return pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind)

    def _collect_days(self, start: int, column: pa.Array) -> None:
        """Parse the values as dates too, as long as all of them are."""
        if self._days is None or pa.types.is_null(column.type):
            return
        days = iso_days(column) if _is_text(column.type) else None
        if days is not None:
            self._days[start : start + len(column)] = days
            return
        self._days = None
        self._days_path.unlink(missing_ok=True)
        if self._too_many_categories:
            self._drop()

    def _encode_categories(self, start: int, column: pa.Array) -> None:
        if self._too_many_categories or self._values is None:
            return
        self._values[start : start + len(column)] = self._encode(column)
        if len(self._codes) <= _MAX_DISTINCT or self._like is not None:
            return
        # The number of categories is limited, that of dates is not.
        if self._days is None:
            self._drop()
        else:
            self._too_many_categories, self._codes = True, {}

    def _encode(self, column: pa.Array) -> NDArray[np.uint16]:
        encoded = pc.cast(column, pa.string()).dictionary_encode()
        codes = self._codes
        names = encoded.dictionary.to_pylist()
        if self._like is None:
            lut = np.fromiter((codes.setdefault(v, len(codes)) for v in names), np.uint16, len(names))
        else:
            lut = np.fromiter((self._code_like(v[:_MAX_NAME]) for v in names), np.uint16, len(names))
        if not len(lut):
            return np.full(len(column), 65_535, np.uint16)
        index = encoded.indices.fill_null(0).to_numpy(zero_copy_only=False)
        return np.where(column.is_null().to_numpy(zero_copy_only=False), np.uint16(65_535), lut[index])

    def _code_like(self, name: str) -> int:
        # The column keeps its kind for any number of new categories: those beyond a limit share a code.
        if name not in self._codes and len(self._codes) >= CATEGORIES + _MAX_DISTINCT:
            return _SHARED_CODE
        return self._codes.setdefault(name, len(self._codes))

    def _drop(self) -> None:
        self._dropped = True
        self._codes = {}
        self.close()

    def _finish_categories(self) -> dict[str, Any] | None:
        assert self._values is not None
        counts = np.zeros(65_536, np.int64)
        for start in range(0, self._rows, 1 << 22):
            counts += np.bincount(self._values[start : start + (1 << 22)], minlength=65_536)
        nulls, uncounted, counts = int(counts[65_535]), int(counts[_SHARED_CODE]), counts[: len(self._codes)]
        if not len(counts) and self._like is None:
            return None
        # Sorted by count, then by name, so that the codes do not depend on the order of the rows.
        names = list(self._codes)
        known = len(self._like["categories"]) if self._like is not None else 0
        ranked = [*range(known), *sorted(range(known, len(names)), key=lambda i: (-int(counts[i]), names[i]))]
        shown = ranked if len(ranked) <= CATEGORIES else ranked[: max(known, CATEGORIES - 1)]
        if self._like is not None and self._like["other"][0]:
            # A new name may be one that shared the code for others in an earlier generation.
            shown = ranked[:known]
        rest = ranked[len(shown) :]
        if self._like is None and rest and counts[shown].sum() < 0.1 * counts.sum():
            self._drop()
            return None
        lut = np.full(65_536, OTHER_CODE, np.uint8)
        lut[65_535] = NULL_CODE
        lut[shown] = np.arange(len(shown))
        self._lut = lut
        return {
            **self._head(),
            "categories": [[names[i][:_MAX_NAME], int(counts[i])] for i in shown],
            "other": [len(rest) + (uncounted > 0), int(counts[rest].sum()) + uncounted],
            "nulls": nulls,
        }

    def _collect_distinct(self, column: pa.Array) -> None:
        if self._integers and self._distinct is not None and pa.types.is_integer(column.type):
            unique = pc.call_function("unique", [column])
            self._distinct |= set(unique.slice(0, _MAX_INTEGER_CATEGORIES + 2).drop_null().to_pylist())
            if len(self._distinct) > _MAX_INTEGER_CATEGORIES or len(unique) > _MAX_INTEGER_CATEGORIES + 1:
                self._distinct = None

    def _as_categories(self, codes_of: dict[float, int], distinct: list[int]) -> dict[str, Any]:
        assert self._values is not None
        values = self._values
        codes = np.full(self._rows, 65_535, np.uint16)
        for value, code in codes_of.items():
            codes[values == value] = code
        self.close()
        self.kind = "categories"
        self._codes = {str(value): code for code, value in enumerate(distinct)}
        self._values = codes
        entry = self._finish_categories()
        assert entry is not None
        return entry


def _is_text(kind: pa.DataType) -> bool:
    return pa.types.is_string(kind) or pa.types.is_large_string(kind)


def _mean_length(column: pa.Array) -> float:
    characters = pc.call_function("utf8_length", [column])
    return pc.call_function("mean", [characters]).as_py() or 0.0


def _number(value: float) -> float:
    """Round to seven significant digits, the precision of float32 tiles."""
    return float(f"{float(value):.7g}")
