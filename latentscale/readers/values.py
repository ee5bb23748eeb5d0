"""Convert JSON values to Arrow columns, by fixed rules instead of a library's type inference."""

from __future__ import annotations

import itertools
import operator
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pyarrow as pa

from latentscale.config import IngestConfig
from latentscale.errors import CorpusError
from latentscale.readers.input_table import InputFile
from latentscale.readers.vectors import parse_vector
from latentscale.storage.common_types import EXACT_IN_FLOAT, json_text, pc

__all__ = ["check_column_count", "column_of", "columns_of", "json_text", "pc", "table_of"]


_INT64 = (-(2**63), 2**63 - 1)


def check_column_count(count: int, file: InputFile, ingest: IngestConfig) -> None:
    """Reject a table of more than ``ingest.max_columns`` columns besides the text.

    Raises
    ------
    CorpusError
        With advice, as each column costs time and memory in every block and shard.
    """
    if count > ingest.max_columns + 1:
        raise CorpusError(
            f"{file.path} has {count:,} columns, more than ingest.max_columns = {ingest.max_columns:,} beside the text",
            where=file.url,
            hint="Leave out what the map does not need, or allow more: --set ingest.max_columns="
            f"{count}. In JSON, put what varies into one nested object: it is kept as text.",
        )


def columns_of(
    rows: Sequence[dict[str, Any]], *, lists: frozenset[str] = frozenset(), file: InputFile, ingest: IngestConfig
) -> dict[str, pa.Array]:
    """Convert JSON objects to columns; missing keys become null.

    Strings, booleans, 64-bit integers and floats keep their type; integers mixed with floats become float64 if it
    represents them exactly. Objects, lists and mixed types become text: strings unchanged, the rest as JSON. NaN among
    values other than numbers is null.

    Parameters
    ----------
    rows : sequence of dict
    lists : frozenset of str
        Columns whose lists of numbers are kept as lists of float64 (vectors).
    file : InputFile
        For the error message.
    ingest : IngestConfig

    Raises
    ------
    CorpusError
        If the objects have more distinct keys than ``ingest.max_columns``.
    """
    names = list(dict.fromkeys(itertools.chain.from_iterable(rows)))
    check_column_count(len(names), file, ingest)
    full = set(map(len, rows)) <= {len(names)}
    columns: dict[str, pa.Array] = {}
    for name in names:
        values: list[Any] = list(map(operator.itemgetter(name), rows)) if full else [row.get(name) for row in rows]
        columns[name] = _vectors(values) if name in lists else column_of(values)
    return columns


def column_of(values: list[Any]) -> pa.Array:
    """Convert JSON values to a column, by the rules of ``columns_of``."""
    kinds = set(map(type, values))
    kinds.discard(type(None))
    if not kinds:
        return pa.nulls(len(values))
    if float in kinds and not kinds <= {int, float}:
        # Among texts, NaN is a missing value of pandas.
        present = [None if isinstance(value, float) and value != value else value for value in values]
        if present.count(None) > values.count(None):
            return column_of(present)
    if kinds == {str}:
        try:
            return pa.array(values, pa.string())
        except UnicodeEncodeError:
            return pa.array([json_text(value) for value in values], pa.string())
    if kinds == {bool}:
        return pa.array(values, pa.bool_())
    if kinds == {int} and _fits(values):
        return pa.array(values, pa.int64())
    if kinds == {float} or (kinds == {int, float} and _exact(values)):
        return pa.array([None if value is None else float(value) for value in values], pa.float64())
    return pa.array([json_text(value) for value in values], pa.string())


def table_of(columns: Mapping[str, pa.Array], rows: int) -> pa.Table:
    """Build a table of ``rows`` rows, even without columns."""
    if not columns:
        return pa.table({"": pa.nulls(rows)}).select([])
    return pa.table(dict(columns))


def _fits(values: Iterable[int | None]) -> bool:
    present = [value for value in values if value is not None]
    return min(present) >= _INT64[0] and max(present) <= _INT64[1]


def _exact(values: Iterable[Any]) -> bool:
    return all(not isinstance(value, int) or abs(value) <= EXACT_IN_FLOAT for value in values)


def _vectors(values: list[Any]) -> pa.Array:
    try:
        return pa.array(values, pa.list_(pa.float64()))
    except (pa.ArrowInvalid, pa.ArrowTypeError):
        return pa.array([_vector(value) for value in values], pa.list_(pa.float64()))


def _vector(value: Any) -> Sequence[float | None] | None:
    """Return a list of numbers, or an empty list for anything else, which the dimension check rejects."""
    if value is None:
        return None
    if isinstance(value, str):
        try:
            return parse_vector(value)
        except ValueError:
            return []
    if not isinstance(value, list):
        return []
    return [float(v) if isinstance(v, int | float) else None for v in value]
