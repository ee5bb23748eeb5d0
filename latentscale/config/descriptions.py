"""What is said of each setting: the string that stands below it in the source of its class.

Pydantic can read these strings itself, but it does so for every class at import and searches all loaded modules each
time, which costs a command a quarter of a second. Here the source is parsed once, when somebody asks.
"""

from __future__ import annotations

import ast
import inspect
import sys
from collections.abc import Iterator, Mapping
from functools import cache
from itertools import pairwise

from pydantic import BaseModel


@cache
def descriptions(model: type[BaseModel]) -> Mapping[str, str]:
    """The description of each setting of a group by its name; settings without one are absent."""
    found: dict[str, str] = {}
    for base in reversed(model.__mro__):
        if base is not BaseModel and issubclass(base, BaseModel):
            found |= _module_descriptions(base.__module__).get(base.__qualname__, {})
    found |= {name: field.description for name, field in model.model_fields.items() if field.description}
    return found


@cache
def _module_descriptions(module: str) -> Mapping[str, dict[str, str]]:
    """Descriptions by qualified name of the class and name of the setting."""
    try:
        tree = ast.parse(inspect.getsource(sys.modules[module]))
    except (KeyError, OSError, TypeError, SyntaxError):
        # A class that was made by a call, or in an interpreter, has no source to read.
        return {}
    return dict(_classes(tree, ""))


def _classes(tree: ast.Module | ast.ClassDef, prefix: str) -> Iterator[tuple[str, dict[str, str]]]:
    for node in tree.body:
        if isinstance(node, ast.ClassDef):
            yield prefix + node.name, dict(_settings(node))
            yield from _classes(node, f"{prefix}{node.name}.")


def _settings(node: ast.ClassDef) -> Iterator[tuple[str, str]]:
    for setting, below in pairwise(node.body):
        if (
            isinstance(setting, ast.AnnAssign)
            and isinstance(setting.target, ast.Name)
            and isinstance(below, ast.Expr)
            and isinstance(below.value, ast.Constant)
            and isinstance(below.value.value, str)
        ):
            yield setting.target.id, inspect.cleandoc(below.value.value)
