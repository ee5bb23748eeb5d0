"""Detection of date columns stored as text, as in JSON: every value of the column must be a date."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

_LONGEST = 40
# A day, or a moment of one. Not a year and a month: 2009-10 may as well be a season.
_ISO_8601 = (
    r"^(?P<day>\d{4}-\d\d-\d\d)"
    r"(?:[Tt ](?P<hour>[01]\d|2[0-3]):(?P<minute>[0-5]\d)(?::(?P<second>[0-5]\d|60)(?:[.,](?P<fraction>\d+))?)?"
    r" ?(?P<zone>[Zz]|[+-]\d\d(?::?[0-5]\d)?)?)?$"
)


def iso_days(texts: pa.Array) -> NDArray[np.float64] | None:
    """Days since 1970 (UTC) of dates and times in the form of ISO 8601, or None if a value is anything else.

    Parameters
    ----------
    texts : pyarrow.Array of string or large_string
        Nulls and blank texts have no value (NaN). Times without a zone are taken as UTC.
    """
    trimmed = pc.call_function("utf8_trim_whitespace", [texts])
    lengths = pc.call_function("utf8_length", [trimmed])
    if (pc.call_function("max", [lengths]).as_py() or 0) > _LONGEST:
        return None
    blank = pc.call_function("equal", [lengths, pa.scalar(0)])
    trimmed = pc.call_function("if_else", [blank, pa.scalar(None, trimmed.type), trimmed])
    found = pc.call_function("extract_regex", [trimmed], pc.ExtractRegexOptions(_ISO_8601))
    if found.null_count != trimmed.null_count:
        return None
    part = dict(zip([field.name for field in found.type], found.flatten(), strict=True))
    try:
        days = pc.cast(pc.cast(pc.cast(part["day"], pa.string()), pa.date32()), pa.int32())
    except pa.ArrowInvalid:  # such as 31 February
        return None
    hours = _number(part["hour"]) + _zone_hours(part["zone"])
    seconds = _number(part["second"]) + _number(part["fraction"], before="0.")
    since = hours / 24 + _number(part["minute"]) / 1_440 + seconds / 86_400
    return pc.cast(days, pa.float64()).to_numpy(zero_copy_only=False) + since


def _number(digits: pa.Array, before: str = "") -> NDArray[np.float64]:
    """Digits as numbers; 0 where there are none, NaN for null."""
    digits = pc.cast(digits, pa.string())
    none = pc.call_function("equal", [digits, pa.scalar("")])
    filled = pc.call_function("if_else", [none, pa.scalar("0"), digits])
    if before:
        filled = pc.call_function("binary_join_element_wise", [pa.scalar(before), filled, pa.scalar("")])
    return pc.cast(filled, pa.float64()).to_numpy(zero_copy_only=False)


def _zone_hours(zones: pa.Array) -> NDArray[np.float64]:
    """What leads from the times of zones to UTC."""
    encoded: Any = pc.cast(zones, pa.string()).dictionary_encode()
    table = np.array([_shift(zone) for zone in encoded.dictionary.to_pylist()] or [0.0])
    return table[encoded.indices.fill_null(0).to_numpy(zero_copy_only=False)]


def _shift(zone: str) -> float:
    if zone in ("", "Z", "z"):
        return 0.0
    hours, minutes = int(zone[1:3]), int(zone[3:].lstrip(":") or 0)
    return (-1 if zone[0] == "+" else 1) * (hours + minutes / 60)
