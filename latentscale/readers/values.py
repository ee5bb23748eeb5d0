"""Arrow columns from JSON values, by rules that do not depend on a library's guess."""

from __future__ import annotations

import itertools
import math
import operator
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.compute

from latentscale.errors import CorpusError

# pyarrow makes these functions when it is imported, out of sight of a type checker.
pc: Any = pyarrow.compute

MAX_COLUMNS = 2_000
_INT64 = (-(2**63), 2**63 - 1)


def columns_of(
    rows: Sequence[dict[str, Any]], *, lists: frozenset[str] = frozenset(), where: str
) -> dict[str, pa.Array]:
    """Make columns of JSON objects; a key that an object does not have is null.

    Strings, booleans, whole numbers of 64 bits and other numbers keep their type; whole and other numbers together
    are float64. Objects, lists and mixtures become text: strings as they are, the rest as JSON.

    Parameters
    ----------
    rows : sequence of dict
    lists : frozenset of str
        Columns whose lists of numbers are kept as lists of float64 (vectors).
    where : str
        The file, for the error message.

    Raises
    ------
    CorpusError
        If the objects have more than ``MAX_COLUMNS`` different keys.
    """
    names = list(dict.fromkeys(itertools.chain.from_iterable(rows)))
    if len(names) > MAX_COLUMNS:
        raise CorpusError(
            f"the objects have more than {MAX_COLUMNS:,} different keys (such as {names[-1][:40]!r})",
            where=where,
            hint="Put what varies into one nested object: it is kept as text.",
        )
    full = set(map(len, rows)) <= {len(names)}
    columns: dict[str, pa.Array] = {}
    for name in names:
        values: list[Any] = list(map(operator.itemgetter(name), rows)) if full else [row.get(name) for row in rows]
        columns[name] = _vectors(values) if name in lists else column_of(values)
    return columns


def column_of(values: list[Any]) -> pa.Array:
    """Make one column of JSON values, by the rules of ``columns_of``."""
    kinds = set(map(type, values))
    kinds.discard(type(None))
    if not kinds:
        return pa.nulls(len(values))
    if kinds == {str}:
        try:
            return pa.array(values, pa.string())
        except UnicodeEncodeError:
            return pa.array([_clean(value) for value in values], pa.string())
    if kinds == {bool}:
        return pa.array(values, pa.bool_())
    if kinds == {int} and _fits(values):
        return pa.array(values, pa.int64())
    if kinds == {float} or kinds == {int, float}:
        return pa.array([None if value is None else float(value) for value in values], pa.float64())
    return pa.array([json_text(value) for value in values], pa.string())


def json_text(value: Any) -> str | None:
    """Return a string as it is, null as null, and anything else as JSON."""
    if value is None:
        return None
    if isinstance(value, str):
        return _clean(value)
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    try:
        return orjson.dumps(value, option=orjson.OPT_NON_STR_KEYS).decode()
    except TypeError:
        import json

        # Whole numbers beyond 64 bits, and lone surrogates.
        return _clean(json.dumps(value, ensure_ascii=False, separators=(",", ":")))


def table_of(columns: Mapping[str, pa.Array], rows: int) -> pa.Table:
    """Make a table, also where there are rows but no column."""
    if not columns:
        return pa.table({"": pa.nulls(rows)}).select([])
    return pa.table(dict(columns))


def _clean(text: str) -> str:
    return text.encode("utf-8", "replace").decode("utf-8")


def _fits(values: Iterable[int | None]) -> bool:
    present = [value for value in values if value is not None]
    return min(present) >= _INT64[0] and max(present) <= _INT64[1]


def _vectors(values: list[Any]) -> pa.Array:
    try:
        return pa.array(values, pa.list_(pa.float64()))
    except (pa.ArrowInvalid, pa.ArrowTypeError):
        return pa.array([_vector(value) for value in values], pa.list_(pa.float64()))


def _vector(value: Any) -> list[float | None] | None:
    """Keep what is no list of numbers as an empty list, which no check of widths lets through."""
    if value is None:
        return None
    if not isinstance(value, list):
        return []
    return [float(v) if isinstance(v, int | float) else None for v in value]
