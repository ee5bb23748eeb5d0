"""Arrow types as text, and back: what a table of receipts says of a shard's columns, and a footer of its partition."""

from __future__ import annotations

import base64
import re
from functools import lru_cache
from typing import Any, cast

import pyarrow as pa

_TIMESTAMP = re.compile(r"timestamp\[(\w+), tz=(.+)\]")
_DECIMAL = re.compile(r"decimal128\((\d+), (-?\d+)\)")
_DICTIONARY = re.compile(r"dictionary<values=(.+), indices=(\w+), ordered=([01])>")


@lru_cache(maxsize=512)
def type_name(kind: pa.DataType) -> str:
    """A type as text that :func:`type_of` reads: Arrow's name of it, else Arrow's own message in base64."""
    name = str(kind)
    if _named(name) == kind:
        return name
    return f"ipc:{base64.b64encode(pa.schema([('x', kind)]).serialize().to_pybytes()).decode()}"


@lru_cache(maxsize=512)
def type_of(name: str) -> pa.DataType:
    """The type of which :func:`type_name` gave this text.

    Raises
    ------
    ValueError
        If it is no such text.
    """
    if name.startswith("ipc:"):
        return pa.ipc.read_schema(pa.py_buffer(base64.b64decode(name[4:]))).field(0).type
    found = _named(name)
    if found is None:
        raise ValueError(f"{name!r} names no Arrow type")
    return found


def _named(name: str) -> pa.DataType | None:
    """The type that is called ``name``; None where Arrow's names do not say everything, as of structures."""
    try:
        if found := _TIMESTAMP.fullmatch(name):
            return pa.timestamp(cast(Any, found[1]), found[2])
        if found := _DECIMAL.fullmatch(name):
            return pa.decimal128(int(found[1]), int(found[2]))
        if found := _DICTIONARY.fullmatch(name):
            values, indices = _named(found[1]), _named(found[2])
            if values is None or indices is None:
                return None
            return pa.dictionary(cast(Any, indices), values, ordered=found[3] == "1")
        return pa.type_for_alias(name)
    except ValueError:
        return None
