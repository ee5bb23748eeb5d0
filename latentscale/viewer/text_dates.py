"""Detection of date columns stored as text, as in JSON: every value of the column must be a date."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

_LONGEST = 40
# A date, or a date and time; not a year and month, since 2009-10 may also be a season.
_ISO_8601 = (
    r"^(?P<day>\d{4}-\d\d-\d\d)"
    r"(?:[Tt ](?P<hour>[01]\d|2[0-3]):(?P<minute>[0-5]\d)(?::(?P<second>[0-5]\d|60)(?:[.,](?P<fraction>\d+))?)?"
    r" ?(?P<zone>[Zz]|[+-]\d\d(?::?[0-5]\d)?)?)?$"
)


def iso_days(texts: pa.Array) -> NDArray[np.float64] | None:
    """Parse ISO 8601 dates and times to days since 1970 (UTC); None if any value is something else.

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
    fields = pc.call_function("extract_regex", [trimmed], pc.ExtractRegexOptions(_ISO_8601))
    if fields.null_count != trimmed.null_count:
        return None
    part = dict(zip([field.name for field in fields.type], fields.flatten(), strict=True))
    try:
        days = pc.cast(pc.cast(pc.cast(part["day"], pa.string()), pa.date32()), pa.int32())
    except pa.ArrowInvalid:  # such as 31 February
        return None
    hours = _number(part["hour"]) + _zone_hours(part["zone"])
    seconds = _number(part["second"]) + _number(part["fraction"], prefix="0.")
    time_of_day = hours / 24 + _number(part["minute"]) / 1_440 + seconds / 86_400
    return pc.cast(days, pa.float64()).to_numpy(zero_copy_only=False) + time_of_day


def _number(digits: pa.Array, prefix: str = "") -> NDArray[np.float64]:
    """Parse digits; 0 for an empty string, NaN for null."""
    digits = pc.cast(digits, pa.string())
    is_empty = pc.call_function("equal", [digits, pa.scalar("")])
    filled = pc.call_function("if_else", [is_empty, pa.scalar("0"), digits])
    if prefix:
        filled = pc.call_function("binary_join_element_wise", [pa.scalar(prefix), filled, pa.scalar("")])
    return pc.cast(filled, pa.float64()).to_numpy(zero_copy_only=False)


def _zone_hours(zones: pa.Array) -> NDArray[np.float64]:
    """Hours to add to local times of these zones to get UTC."""
    encoded: Any = pc.cast(zones, pa.string()).dictionary_encode()
    offsets = np.array([_zone_offset(zone) for zone in encoded.dictionary.to_pylist()] or [0.0])
    return offsets[encoded.indices.fill_null(0).to_numpy(zero_copy_only=False)]


def _zone_offset(zone: str) -> float:
    if zone in ("", "Z", "z"):
        return 0.0
    hours, minutes = int(zone[1:3]), int(zone[3:].lstrip(":") or 0)
    return (-1 if zone[0] == "+" else 1) * (hours + minutes / 60)
