"""Types that text can be parsed as without losing its spelling, including the format of numbers and booleans.

A column of CSV becomes numeric only if some number format round-trips: it writes each value exactly as in the file. So
``3.1`` and ``3.10``, two versions but one number, stay text, and so do ``007``, ``1e5``, ``+49``, ``NaN`` and numbers
with more digits than the type holds; prices with two decimals, and floats as programs write them, become numbers.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Collection, Sequence
from functools import lru_cache
from typing import Any

import pyarrow as pa

from latentscale.storage.common_types import pc, within_calendar

_Values = Any
"""An array of strings; a list if it is short."""

CANDIDATES = ("int64", "float64", "bool", "date", "timestamp", "timestamp_utc")
"""Candidate types of text columns, narrowest first."""

TYPES: dict[str, pa.DataType] = {
    "int64": pa.int64(),
    "float64": pa.float64(),
    "bool": pa.bool_(),
    "date": pa.date32(),
    "timestamp": pa.timestamp("us"),
    "timestamp_utc": pa.timestamp("us", tz="UTC"),
}
_PATTERNS = {
    "int64": r"^(0|-?[1-9][0-9]{0,18})$",
    "date": r"^[0-9]{4}-[0-9]{2}-[0-9]{2}$",
    "timestamp": r"^[0-9]{4}-[0-9]{2}-[0-9]{2}[ T][0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,6})?$",
    "timestamp_utc": (
        r"^[0-9]{4}-[0-9]{2}-[0-9]{2}[ T][0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,6})?(Z|[+-][0-9]{2}:[0-9]{2})$"
    ),
}
_BOOLEANS = {"lower": r"^(true|false)$", "title": r"^(True|False)$", "upper": r"^(TRUE|FALSE)$"}

_FLOAT = r"^-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]{1,3})?$"
# Not decided by patterns: numbers with an exponent, or more than the 15 digits that float64 always preserves.
_LONG = r"[eE]|^-?(0\.0*)?([0-9]\.?){16}"
# Shortest decimal numbers without an exponent, integers without a point or with ".0".
_PLAIN = {
    "short": r"^(-?[1-9][0-9]*|0|-?(0|[1-9][0-9]*)\.[0-9]*[1-9])$",
    "point": r"^-?(0|[1-9][0-9]*)\.(0|[0-9]*[1-9])$",
}


def candidate_types(column: pa.ChunkedArray | pa.Array) -> list[str]:
    """Return the types that all values of a text column can be parsed as, narrowest first; empty values allow any.

    Returns
    -------
    list of str
        From ``CANDIDATES``; for floats and booleans one entry per format that round-trips all values, such as
        ``float64:.2f`` or ``bool:title``.
    """
    present = pc.filter(column, pc.and_kleene(pc.is_valid(column), pc.not_equal(column, "")))
    if not len(present):
        return list(CANDIDATES)
    # Most text columns fail on their first values; a call of Arrow costs as much as checking dozens of them.
    start: list[str] = present.slice(0, 64).to_pylist()
    values: _Values = present if len(present) > 256 else present.to_pylist()
    if not _any_mismatch(start, _FLOAT):
        whole = ["int64"] if not _any_mismatch(values, _PATTERNS["int64"]) and _casts(present, "int64") else []
        return whole + [f"float64:{spec}" for spec in _float_specs(values)]
    candidates = [f"bool:{spec}" for spec, pattern in _BOOLEANS.items() if not _any_mismatch(start, pattern)]
    candidates = [name for name in candidates if not _any_mismatch(values, _BOOLEANS[name.partition(":")[2]])]
    return candidates + [
        name
        for name in ("date", "timestamp", "timestamp_utc")
        if not _any_mismatch(start, _PATTERNS[name])
        and not _any_mismatch(values, _PATTERNS[name])
        and _casts(present, name)
    ]


def common_types(first: Collection[str], second: Collection[str]) -> set[str]:
    """Intersect the candidate types of two columns; a bare ``float64`` or ``bool`` allows any format."""
    return {name for name in first if name in second or _type(name) in second} | {
        name for name in second if _type(name) in first
    }


def allows(name: str, allowed: Collection[str]) -> bool:
    """Whether the candidate types include ``name``, in any format."""
    return any(_type(one) == name for one in allowed)


def _type(name: str) -> str:
    return name.partition(":")[0]


def _fitting(values: _Values, pattern: str, *, fit: bool = True) -> _Values:
    """Select the values that match a pattern, or those that do not."""
    if isinstance(values, list):
        search = _compiled(pattern)
        return [value for value in values if (search(value) is not None) == fit]
    candidates = pc.match_substring_regex(values, pattern)
    return pc.filter(values, candidates if fit else pc.invert(candidates))


def _any_mismatch(values: _Values, pattern: str) -> bool:
    """Whether a value does not match a pattern."""
    if isinstance(values, list):
        search = _compiled(pattern)
        return any(search(value) is None for value in values)
    return not pc.all(pc.match_substring_regex(values, pattern)).as_py()


@lru_cache(maxsize=256)
def _compiled(pattern: str) -> Callable[[str], Any]:
    # In Arrow's RE2, $ matches at the end only.
    return re.compile(pattern.replace("$", r"\Z")).search


def _texts(values: _Values) -> list[str]:
    return list(dict.fromkeys(values)) if isinstance(values, list) else pc.unique(values).to_pylist()


def _casts(values: Any, name: str) -> bool:
    try:
        column = values.cast(TYPES[name])
    except pa.ArrowInvalid:
        return False
    return column.type == within_calendar(column).type


def _float_specs(values: _Values) -> list[str]:
    """Find the float formats that round-trip all values."""
    if _any_mismatch(values, _FLOAT):
        return []
    long = _texts(_fitting(values, _LONG))
    short_numbers = _fitting(values, _LONG, fit=False) if long else values
    specs = _plain_float_specs(short_numbers) if len(short_numbers) else None
    if long:
        numbers = [float(value) for value in long]
        if not all(map(math.isfinite, numbers)):
            return []
        specs = _round_tripping(_specs_to_try(long[0]) if specs is None else specs, numbers, long)
        if not specs:
            texts = _texts(values)
            specs = _round_tripping([".17g", ".6g"], [float(text) for text in texts], texts)
    return specs or []


def _plain_float_specs(values: _Values) -> list[str]:
    """Find the formats that round-trip numbers of up to 15 digits without an exponent."""
    specs: list[str] = []
    # Small or large numbers, which some formats write with an exponent.
    edge = _texts(_fitting(values, r"^-?(0\.00|[0-9]{8}|[1-9][0-9]*0{4}$)"))
    if not _any_mismatch(values, _PLAIN["short"]):
        specs.append("short")
        if not _fitting(edge, r"^-?0\.000000"):
            specs.append("js")
        if not _fitting(edge, r"^-?0\.0000"):
            specs.append("c")
        # R writes the shorter of fixed and scientific notation.
        specs += _round_tripping(["r"], [float(text) for text in edge], edge)
    if not _any_mismatch(values, _PLAIN["point"]):
        specs.append("point")
        if not _fitting(edge, r"^-?0\.00000"):
            specs.append("polars")
        if not _fitting(edge, r"^-?0\.0000"):
            specs.append("python")
        if not _fitting(edge, r"^-?(0\.000|[0-9]{8})"):
            specs.append("java")
    digits = len(str(values[0]).partition(".")[2])
    if not _any_mismatch(values, rf"^-?(0|[1-9][0-9]*)\.[0-9]{{{digits}}}$" if digits else r"^(0|-?[1-9][0-9]*)$"):
        specs.append(f".{digits}f")
    return specs


def _specs_to_try(value: str) -> list[str]:
    """Formats to try if all values have an exponent or many digits."""
    mantissa, e, _ = value.partition("e")
    digits = len(mantissa.partition(".")[2])
    return [*_WRITERS, f".{digits}{'e' if e else 'f'}"]


def _round_tripping(specs: Sequence[str], numbers: Sequence[float], texts: Sequence[str]) -> list[str]:
    """Select the formats that write each number as its text."""
    pairs = list(zip(numbers, texts, strict=True))
    # In this range all shortest-digits writers write a fraction as Python does.
    is_uniform = [1e-3 <= abs(number) < 1e7 and not number.is_integer() for number in numbers]
    shortest = all(repr(number) == text for (number, text), uniform in zip(pairs, is_uniform, strict=True) if uniform)
    rest = [pair for pair, uniform in zip(pairs, is_uniform, strict=True) if not uniform]
    return [
        spec
        for spec in specs
        if (
            shortest and all(_WRITERS[spec](number) == text for number, text in rest)
            if spec in _WRITERS
            else all(f"{number:{spec}}" == text for number, text in pairs)
        )
    ]


def _digits(number: float) -> tuple[str, str, int]:
    """Return sign, shortest round-trip digits, and the power of ten of the first digit."""
    mantissa, _, exponent = f"{abs(number)!r}".partition("e")
    whole, _, fraction = mantissa.partition(".")
    digits = (whole + fraction).lstrip("0")
    power = len(whole) - 1 if whole.strip("0") else -1 - (len(fraction) - len(fraction.lstrip("0")))
    sign = "-" if math.copysign(1, number) < 0 else ""
    return sign, digits.rstrip("0") or "0", (power if digits else 0) + int(exponent or 0)


def _fixed_point(digits: str, power: int, whole: str) -> str:
    if power < 0:
        return "0." + "0" * (-power - 1) + digits
    if len(digits) <= power + 1:
        return digits.ljust(power + 1, "0") + whole
    return f"{digits[: power + 1]}.{digits[power + 1 :]}"


def _scientific(digits: str, power: int, *, point: str = "", e: str = "e", plus: str = "+", width: int = 1) -> str:
    fraction = f".{digits[1:]}" if digits[1:] else point
    return f"{digits[0]}{fraction}{e}{'-' if power < 0 else plus}{abs(power):0{width}d}"


def _fixed_between(low: int, high: int, whole: str, **exponent: Any) -> Callable[[float], str]:
    """Return a writer in fixed-point notation from ``10**low`` to below ``10**high``, else scientific."""

    def write(number: float) -> str:
        sign, digits, power = _digits(number)
        plain = low <= power < high or digits == "0"
        return sign + (_fixed_point(digits, power, whole) if plain else _scientific(digits, power, **exponent))

    return write


def _as_r(number: float) -> str:
    sign, digits, power = _digits(number)
    plain, scientific = _fixed_point(digits, power, ""), _scientific(digits, power, width=2)
    return sign + (plain if len(plain) <= len(scientific) else scientific)


# Formats in which programs write floats with the shortest round-trip digits.
_WRITERS: dict[str, Callable[[float], str]] = {
    "short": lambda number: (parts := _digits(number))[0] + _fixed_point(*parts[1:], ""),
    "point": lambda number: (parts := _digits(number))[0] + _fixed_point(*parts[1:], ".0"),
    "python": _fixed_between(-4, 16, ".0", width=2),
    "polars": _fixed_between(-5, 16, ".0"),
    "java": _fixed_between(-3, 7, ".0", point=".0", e="E", plus=""),
    "js": _fixed_between(-6, 21, ""),
    "c": _fixed_between(-4, 15, "", width=2),
    "r": _as_r,
}
