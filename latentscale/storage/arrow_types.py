"""Serialization of Arrow types as text, for receipts and footers."""

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
    """Serialize a type: by Arrow's name, or as an Arrow IPC message in base64."""
    name = str(kind)
    if _named(name) == kind:
        return name
    return f"ipc:{base64.b64encode(pa.schema([('x', kind)]).serialize().to_pybytes()).decode()}"


@lru_cache(maxsize=512)
def type_of(name: str) -> pa.DataType:
    """Parse the result of :func:`type_name`.

    Raises
    ------
    ValueError
        If it is invalid.
    """
    if name.startswith("ipc:"):
        return pa.ipc.read_schema(pa.py_buffer(base64.b64decode(name[4:]))).field(0).type
    found = _named(name)
    if found is None:
        raise ValueError(f"{name!r} names no Arrow type")
    return found


def _named(name: str) -> pa.DataType | None:
    """Look up a type by name; None if the name is ambiguous, as for structures."""
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
