"""Texts inside nested values: ``meta.title``, ``messages[].content``, ``messages[role=user].content``, ``parts[0]``."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import orjson
import pyarrow as pa

_STEP = re.compile(r"\.?([^.\[\]{}]+)|\[\]|\[([^\]=\[]+)=([^\]\[]*)\]|\[(-?\d+)\]")
SEPARATOR = "\n\n"
"""Separator between the texts of one document."""


@dataclass(frozen=True, slots=True)
class Step:
    """One step of a path: a key, all elements of a list, those with given values of a key, or one by index."""

    key: str | None = None
    values: tuple[str, ...] | None = None
    number: int | None = None


def parse_path(path: str) -> tuple[str, tuple[Step, ...]]:
    """Split a path into its column and steps; there are none if it is a plain column name."""
    steps: list[Step] = []
    at = 0
    while at < len(path):
        found = _STEP.match(path, at)
        if found is None or (at == 0 and found[1] is None) or (at and found[1] is not None and path[at] != "."):
            return path, ()
        if found[1] is not None:
            steps.append(Step(key=found[1]))
        elif found[2] is not None:
            steps.append(Step(key=found[2], values=tuple(found[3].split("|"))))
        else:
            steps.append(Step(number=int(found[4])) if found[4] is not None else Step())
        at = found.end()
    if not steps:
        return path, ()
    return str(steps[0].key), tuple(steps[1:])


def column_root(path: str) -> str:
    """Return the column of a path."""
    return parse_path(path)[0]


def text_at(value: Any, steps: Sequence[Step], *, numbers: bool) -> tuple[str | None, Any]:
    """Return the texts at a path in one value, joined by blank lines; None if there are none.

    Parameters
    ----------
    value : object
        Nested value, or its JSON text.
    numbers : bool
        Whether numbers and booleans count as text.

    Returns
    -------
    text : str or None
    wrong : object or None
        A value found instead of a text.
    """
    if isinstance(value, bytes):
        value = value.decode("utf-8", "replace")
    if steps and isinstance(value, str):
        try:
            value = orjson.loads(value)
        except orjson.JSONDecodeError:
            return None, value
    texts: list[str] = []
    wrong: Any = None
    for leaf in _leaves(value, steps):
        for item in leaf if isinstance(leaf, list) else [leaf]:
            if isinstance(item, dict) and isinstance(item.get("text"), str):
                # A part of a chat message, {"type": "text", "text": …}; others, such as images, have no text.
                item = item["text"]
            if isinstance(item, str):
                texts.append(item)
            elif numbers and isinstance(item, int | float):
                texts.append(orjson.dumps(item).decode())
            elif item is not None:
                wrong = item
    texts = [text for text in texts if text.strip()] or texts[:1]
    return (SEPARATOR.join(texts), None) if texts else (None, wrong)


def shape_of(kind: pa.DataType) -> Any:
    """Return an example value of a nested type with all its keys; None for other types."""
    if pa.types.is_struct(kind):
        return {kind.field(at).name: shape_of(kind.field(at).type) for at in range(kind.num_fields)}
    if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        return [shape_of(kind.value_type)]
    return None


def unmatched(values: Sequence[Any], steps: Sequence[Step], *, shapes: bool = False) -> tuple[str, list[str]] | None:
    """Return the first key or value of a path that no row has, and the existing ones; None if all are found.

    Parameters
    ----------
    values : sequence of object
        Values of the path's column, nested or as JSON text.
    shapes : bool
        Whether they are results of ``shape_of``, in which any value of a key exists.
    """
    level: list[Any] = []
    for value in values:
        with contextlib.suppress(orjson.JSONDecodeError):
            level.append(orjson.loads(value) if isinstance(value, str | bytes) else value)
    for step in steps:
        items = [one for item in level for one in (item if isinstance(item, list) else [item])]
        if step.number is not None:
            level = [one for item in level for one in _leaves(item, [step])]
            continue
        if step.key is None:
            level = items
            continue
        objects = [one for one in items if isinstance(one, dict)]
        if objects and not any(step.key in one for one in objects):
            return step.key, sorted({str(key) for one in objects for key in one})
        if step.values is None:
            level = [one[step.key] for one in objects if one.get(step.key) is not None]
            continue
        wanted = step.values
        level = objects if shapes else [one for one in objects if str(one.get(step.key)) in wanted]
        if objects and not level:
            return "|".join(wanted), sorted({str(one[step.key]) for one in objects if step.key in one})
    return None


def _leaves(value: Any, steps: Sequence[Step]) -> Iterator[Any]:
    if value is None:
        return
    if not steps:
        yield value
        return
    step, rest = steps[0], steps[1:]
    if step.key is not None and step.values is None:
        for item in value if isinstance(value, list) else [value]:
            if isinstance(item, dict):
                yield from _leaves(item.get(step.key), rest)
        return
    items = value if isinstance(value, list) else [value]
    if step.number is not None:
        items = items[step.number :][:1] if -len(items) <= step.number else []
    for item in items:
        if step.values is None or (isinstance(item, dict) and str(item.get(step.key)) in step.values):
            yield from _leaves(item, rest)
