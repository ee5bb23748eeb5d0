"""What text can be read as without losing how it is spelled: types, and for numbers and booleans the way of writing.

A column of CSV becomes numbers only where one way of writing numbers gives back each of its values as it is in the
file. So ``3.1`` and ``3.10``, which are two versions and one number, stay text, and so do ``007``, ``1e5``, ``+49``,
``NaN`` and numbers of more digits than the type holds; prices with two decimals, and what a program writes of its
floats, become numbers.
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
"""An array of strings, or where it is short a list of them."""

CANDIDATES = ("int64", "float64", "bool", "date", "timestamp", "timestamp_utc")
"""What the values of a column of text can also be read as, the narrowest first."""

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
# What no pattern decides: numbers with an exponent, or of more than the 15 digits that float64 always gives back.
_HARD = r"[eE]|^-?(0\.0*)?([0-9]\.?){16}"
# Without an exponent: as many digits as are needed, whole numbers without a point or with ".0".
_PLAIN = {
    "short": r"^(-?[1-9][0-9]*|0|-?(0|[1-9][0-9]*)\.[0-9]*[1-9])$",
    "point": r"^-?(0|[1-9][0-9]*)\.(0|[0-9]*[1-9])$",
}


def candidate_types(column: pa.ChunkedArray | pa.Array) -> list[str]:
    """Return what all values of a column of text can be read as, narrowest first; empty values allow any.

    Returns
    -------
    list of str
        Of ``CANDIDATES``; of floats and booleans each way of writing that gives back all values, as in
        ``float64:.2f`` or ``bool:title``.
    """
    present = pc.filter(column, pc.and_kleene(pc.is_valid(column), pc.not_equal(column, "")))
    if not len(present):
        return list(CANDIDATES)
    # Nearly every column of text is refused by its first values; a call of Arrow costs as much as dozens of them.
    start: list[str] = present.slice(0, 64).to_pylist()
    values: _Values = present if len(present) > 256 else present.to_pylist()
    if not _others(start, _FLOAT):
        whole = ["int64"] if not _others(values, _PATTERNS["int64"]) and _casts(present, "int64") else []
        return whole + [f"float64:{way}" for way in _float_ways(values)]
    found = [f"bool:{way}" for way, pattern in _BOOLEANS.items() if not _others(start, pattern)]
    found = [name for name in found if not _others(values, _BOOLEANS[name.partition(":")[2]])]
    return found + [
        name
        for name in ("date", "timestamp", "timestamp_utc")
        if not _others(start, _PATTERNS[name]) and not _others(values, _PATTERNS[name]) and _casts(present, name)
    ]


def both(first: Collection[str], second: Collection[str]) -> set[str]:
    """What the values of two columns allow; a bare ``float64`` or ``bool`` allows each way of writing."""
    return {name for name in first if name in second or _type(name) in second} | {
        name for name in second if _type(name) in first
    }


def readable(name: str, allowed: Collection[str]) -> bool:
    """Whether values can be read as the type ``name``, in whatever way of writing."""
    return any(_type(one) == name for one in allowed)


def _type(name: str) -> str:
    return name.partition(":")[0]


def _fitting(values: _Values, pattern: str, *, fit: bool = True) -> _Values:
    """The values in which a pattern is found, or those in which it is not."""
    if isinstance(values, list):
        search = _compiled(pattern)
        return [value for value in values if (search(value) is not None) == fit]
    found = pc.match_substring_regex(values, pattern)
    return pc.filter(values, found if fit else pc.invert(found))


def _others(values: _Values, pattern: str) -> bool:
    """Whether there is a value in which a pattern is not found."""
    if isinstance(values, list):
        search = _compiled(pattern)
        return any(search(value) is None for value in values)
    return not pc.all(pc.match_substring_regex(values, pattern)).as_py()


@lru_cache(maxsize=256)
def _compiled(pattern: str) -> Callable[[str], Any]:
    # To Arrow's RE2, a dollar is the end alone.
    return re.compile(pattern.replace("$", r"\Z")).search


def _texts(values: _Values) -> list[str]:
    return list(dict.fromkeys(values)) if isinstance(values, list) else pc.unique(values).to_pylist()


def _casts(values: Any, name: str) -> bool:
    try:
        column = values.cast(TYPES[name])
    except pa.ArrowInvalid:
        return False
    return column.type == within_calendar(column).type


def _float_ways(values: _Values) -> list[str]:
    """The ways of writing floats that give back all values."""
    if _others(values, _FLOAT):
        return []
    hard = _texts(_fitting(values, _HARD))
    easy = _fitting(values, _HARD, fit=False) if hard else values
    ways = _easy_ways(easy) if len(easy) else None
    if hard:
        numbers = [float(value) for value in hard]
        if not all(map(math.isfinite, numbers)):
            return []
        ways = _giving_back(_ways_of(hard[0]) if ways is None else ways, numbers, hard)
        if not ways:
            texts = _texts(values)
            ways = _giving_back([".17g", ".6g"], [float(text) for text in texts], texts)
    return ways or []


def _easy_ways(values: _Values) -> list[str]:
    """Of numbers of up to 15 digits without an exponent."""
    ways: list[str] = []
    # Small or large ones, which some ways write with an exponent.
    edge = _texts(_fitting(values, r"^-?(0\.00|[0-9]{8}|[1-9][0-9]*0{4}$)"))
    if not _others(values, _PLAIN["short"]):
        ways.append("short")
        if not _fitting(edge, r"^-?0\.000000"):
            ways.append("js")
        if not _fitting(edge, r"^-?0\.0000"):
            ways.append("c")
        # R writes the shorter of both forms.
        ways += _giving_back(["r"], [float(text) for text in edge], edge)
    if not _others(values, _PLAIN["point"]):
        ways.append("point")
        if not _fitting(edge, r"^-?0\.00000"):
            ways.append("polars")
        if not _fitting(edge, r"^-?0\.0000"):
            ways.append("python")
        if not _fitting(edge, r"^-?(0\.000|[0-9]{8})"):
            ways.append("java")
    digits = len(str(values[0]).partition(".")[2])
    if not _others(values, rf"^-?(0|[1-9][0-9]*)\.[0-9]{{{digits}}}$" if digits else r"^(0|-?[1-9][0-9]*)$"):
        ways.append(f".{digits}f")
    return ways


def _ways_of(value: str) -> list[str]:
    """Ways to try where no value is easy, as this one is not."""
    mantissa, e, _ = value.partition("e")
    digits = len(mantissa.partition(".")[2])
    return [*_WRITERS, f".{digits}{'e' if e else 'f'}"]


def _giving_back(ways: Sequence[str], numbers: Sequence[float], texts: Sequence[str]) -> list[str]:
    """Those ways of writing that make of each number its text again."""
    pairs = list(zip(numbers, texts, strict=True))
    # Where nothing needs an exponent, all writers of shortest digits write a fraction as Python does.
    alike = [1e-3 <= abs(number) < 1e7 and not number.is_integer() for number in numbers]
    shortest = all(repr(number) == text for (number, text), is_alike in zip(pairs, alike, strict=True) if is_alike)
    rest = [pair for pair, is_alike in zip(pairs, alike, strict=True) if not is_alike]
    return [
        way
        for way in ways
        if (
            shortest and all(_WRITERS[way](number) == text for number, text in rest)
            if way in _WRITERS
            else all(f"{number:{way}}" == text for number, text in pairs)
        )
    ]


def _digits(number: float) -> tuple[str, str, int]:
    """Sign, shortest digits that give the number back, and the power of ten of the first of them."""
    mantissa, _, exponent = f"{abs(number)!r}".partition("e")
    whole, _, fraction = mantissa.partition(".")
    digits = (whole + fraction).lstrip("0")
    power = len(whole) - 1 if whole.strip("0") else -1 - (len(fraction) - len(fraction.lstrip("0")))
    sign = "-" if math.copysign(1, number) < 0 else ""
    return sign, digits.rstrip("0") or "0", (power if digits else 0) + int(exponent or 0)


def _plainly(digits: str, power: int, whole: str) -> str:
    if power < 0:
        return "0." + "0" * (-power - 1) + digits
    if len(digits) <= power + 1:
        return digits.ljust(power + 1, "0") + whole
    return f"{digits[: power + 1]}.{digits[power + 1 :]}"


def _scientific(digits: str, power: int, *, point: str = "", e: str = "e", plus: str = "+", width: int = 1) -> str:
    fraction = f".{digits[1:]}" if digits[1:] else point
    return f"{digits[0]}{fraction}{e}{'-' if power < 0 else plus}{abs(power):0{width}d}"


def _between(low: int, high: int, whole: str, **exponent: Any) -> Callable[[float], str]:
    """Writes without an exponent from ``10**low`` to below ``10**high``."""

    def write(number: float) -> str:
        sign, digits, power = _digits(number)
        plain = low <= power < high or digits == "0"
        return sign + (_plainly(digits, power, whole) if plain else _scientific(digits, power, **exponent))

    return write


def _as_r(number: float) -> str:
    sign, digits, power = _digits(number)
    plain, scientific = _plainly(digits, power, ""), _scientific(digits, power, width=2)
    return sign + (plain if len(plain) <= len(scientific) else scientific)


# How programs write a float in as many digits as are needed.
_WRITERS: dict[str, Callable[[float], str]] = {
    "short": lambda number: (parts := _digits(number))[0] + _plainly(*parts[1:], ""),
    "point": lambda number: (parts := _digits(number))[0] + _plainly(*parts[1:], ".0"),
    "python": _between(-4, 16, ".0", width=2),
    "polars": _between(-5, 16, ".0"),
    "java": _between(-3, 7, ".0", point=".0", e="E", plus=""),
    "js": _between(-6, 21, ""),
    "c": _between(-4, 15, "", width=2),
    "r": _as_r,
}
