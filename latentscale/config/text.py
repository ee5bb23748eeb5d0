"""YAML of settings, within bounds; and single values as a person types them behind ``--set``."""

from __future__ import annotations

import types
from collections.abc import Mapping
from typing import Any, Literal, Union, cast, get_args, get_origin

from pydantic import BaseModel

from latentscale.errors import ConfigError

MAX_CHARACTERS = 4_000_000
MAX_VALUES = 100_000
"""Values of a document, with those that an alias repeats counted each time: nine lists of ten aliases are 10^9."""
MAX_DEPTH = 50
_SHOWN = 60


def load_yaml(
    text: str,
    *,
    where: str | None = None,
    most_characters: int = MAX_CHARACTERS,
    most_values: int = MAX_VALUES,
) -> Any:
    """Read YAML, or JSON, of plain values.

    Parameters
    ----------
    text : str
    where : str, optional
        The file, for what is said of it.
    most_characters, most_values : int
        Bounds; those of settings unless others are given.

    Raises
    ------
    ConfigError
        If it is neither, is longer or deeper than any settings, its aliases repeat more than that, or a key stands
        twice in one mapping: YAML forbids that, and a reader that takes the last drops what stands under the first.
    """
    import yaml

    if len(text) > most_characters:
        raise ConfigError(f"there are {len(text):,} characters of YAML, {most_characters:,} are allowed", where=where)
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        _check_size(node, where, most_values)
        _check_keys(node, where)
        return yaml.safe_load(text)
    except RecursionError:
        raise ConfigError(f"the YAML is nested more than {MAX_DEPTH} deep", where=where) from None
    except (yaml.YAMLError, ValueError) as error:
        raise ConfigError(f"this is no YAML: {' '.join(str(error).split())[:300]}", where=where) from None


def _check_size(root: Any, where: str | None, most: int) -> None:
    """Count the values below a node with all its aliases written out, each node once."""
    sizes: dict[int, int] = {}
    waiting: list[tuple[Any, bool]] = [(root, False)]
    above: set[int] = set()
    while waiting:
        node, done = waiting.pop()
        if node is None or id(node) in sizes:
            continue
        children = _children(node)
        if done:
            above.discard(id(node))
            sizes[id(node)] = 1 + sum(sizes[id(child)] for child in children)
            if sizes[id(node)] > most:
                raise ConfigError(
                    f"the YAML has more than {most:,} values, its aliases written out",
                    where=where,
                    hint="Write settings without aliases (*name).",
                )
            continue
        if id(node) in above:
            raise ConfigError("an alias of the YAML names a value that holds it", where=where)
        above.add(id(node))
        if len(above) > MAX_DEPTH:
            raise ConfigError(f"the YAML is nested more than {MAX_DEPTH} deep", where=where)
        waiting.append((node, True))
        waiting += [(child, False) for child in children]


def _check_keys(root: Any, where: str | None) -> None:
    """Refuse a key that stands twice in a mapping. An override of what ``<<`` brings in is none."""
    import yaml

    waiting, seen = [root], set[int]()
    while waiting:
        node = waiting.pop()
        if node is None or id(node) in seen:
            continue
        seen.add(id(node))
        waiting += _children(node)
        first: dict[tuple[str, str], Any] = {}
        for key, _ in node.value if isinstance(node, yaml.MappingNode) else ():
            if not isinstance(key, yaml.ScalarNode) or key.tag == "tag:yaml.org,2002:merge":
                continue
            earlier = first.setdefault((key.tag, key.value), key)
            if earlier is not key:
                lines = sorted({earlier.start_mark.line + 1, key.start_mark.line + 1})
                raise ConfigError(
                    f"{shown(key.value)} stands twice in one mapping: line {' and '.join(map(str, lines))}",
                    where=where,
                    hint="Keep one of them, with all that stands under both.",
                )


def _children(node: Any) -> list[Any]:
    import yaml

    if isinstance(node, yaml.MappingNode):
        return [part for pair in node.value for part in pair]
    return list(node.value) if isinstance(node, yaml.SequenceNode) else []


def read_value(raw: str, annotation: Any) -> Any:
    """Read a value as it was typed for a setting of a type.

    What is text stays as it is: ``|``, ``no``, ``007``. Numbers and yes or no are left to the setting itself, which
    knows no octal. ``null`` is no value. Lists, mappings, quoted texts and whatever has no known type are YAML.

    Parameters
    ----------
    raw : str
    annotation : Any
        Of the setting; None where it is not known.

    Raises
    ------
    ConfigError
        If it is YAML that cannot be read.
    """
    text = raw.strip()
    if annotation is None or (_groups(annotation) and text[:1] in ("{", "[")):
        return load_yaml(raw)
    if text in ("null", "~", "") and type(None) in _kinds(annotation):
        return None
    if len(text) > 1 and text[0] == text[-1] and text[0] in "'\"":
        return load_yaml(text)
    return raw if str in _kinds(annotation) else text


def annotation_at(model: type[BaseModel], path: list[str]) -> Any:
    """The type of a setting by its path; None where no model says it."""
    annotation: Any = model
    for part in path:
        inner = next((one for one in _kinds(annotation) if isinstance(one, type) and issubclass(one, BaseModel)), None)
        field = inner.model_fields.get(part) if inner is not None else None
        if field is None:
            return None
        annotation = field.annotation
    return annotation


def _kinds(annotation: Any) -> list[Any]:
    """The classes of an annotation, those of a union, of literals and of annotated types one by one."""
    origin = get_origin(annotation)
    if origin in (Union, types.UnionType):
        return [kind for one in get_args(annotation) for kind in _kinds(one)]
    if origin is Literal:
        return [type(value) for value in get_args(annotation)]
    if origin is not None and hasattr(annotation, "__metadata__"):
        return _kinds(get_args(annotation)[0])
    return [origin or annotation]


def _groups(annotation: Any) -> bool:
    """Whether a list or a mapping can be the value."""
    kinds = [kind for kind in _kinds(annotation) if isinstance(kind, type)]
    return any(issubclass(kind, (tuple, list, Mapping, BaseModel)) for kind in kinds)


def shown(value: object) -> str:
    """A value as a message repeats it: its beginning."""
    text = repr(cast(Any, value))
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"
