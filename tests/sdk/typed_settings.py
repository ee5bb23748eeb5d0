"""Writes ``latentscale/config/typed.py`` from the models of the settings; a test compares the two.

``python tests/sdk/typed_settings.py`` rewrites the file.
"""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

import latentscale
from latentscale.config import JobConfig
from latentscale.config.descriptions import descriptions

PATH = Path(latentscale.__file__).parent / "config" / "typed.py"
HEAD = '''"""The settings as typed keyword arguments: written by tests/sdk/typed_settings.py, not by hand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypedDict

from latentscale.config.corpus import CorpusConfig
from latentscale.config.engine import EngineConfig
from latentscale.config.stages import (
    ClusterConfig,
    DriftConfig,
    EmbedConfig,
    IngestConfig,
    LabelConfig,
    NeighborsConfig,
    ProjectConfig,
    PublishConfig,
    QualityConfig,
)
from latentscale.config.store import StorageConfig
'''
# Given by parameters of their own.
APART = ("out", "name", "storage")
# Type checkers take this key of a dictionary for its method; it is a parameter, too.
HIDDEN = ("update",)


def source() -> str:
    """The text of the module."""
    classes: dict[str, str] = {}
    lines = {
        "StageSettings": ["class StageSettings(TypedDict, total=False):", *docstring("Settings by stage.")],
        "JobSettings": ["class JobSettings(StageSettings, total=False):", *docstring("Settings of a whole job.")],
    }
    for name, field in JobConfig.model_fields.items():
        if name in APART:
            continue
        model = field.annotation
        assert isinstance(model, type)
        assert issubclass(model, BaseModel)
        add_class(model, classes)
        if name in HIDDEN:
            continue
        line = f"    {name}: {model.__name__} | {typed_name(model)}"
        of_job = name in ("corpus", "publish")
        lines["JobSettings" if of_job else "StageSettings"] += ["", line, *docstring(model.__doc__ or "")]
    return "\n\n\n".join([HEAD.strip(), *classes.values(), *map("\n".join, lines.values())]) + "\n"


def typed_name(model: type[BaseModel]) -> str:
    return model.__name__.removesuffix("Config") + "Settings"


def add_class(model: type[BaseModel], classes: dict[str, str]) -> None:
    if model.__name__ in classes:
        return
    lines = [f"class {typed_name(model)}(TypedDict, total=False):", *docstring(model.__doc__ or "")]
    for name, field in model.model_fields.items():
        lines += ["", f"    {name}: {annotation(field, classes)}", *docstring(descriptions(model).get(name, ""))]
    classes[model.__name__] = "\n".join(lines)


def annotation(field: FieldInfo, classes: dict[str, str]) -> str:
    return spelled(field.annotation, classes)


def spelled(kind: Any, classes: dict[str, str]) -> str:
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is Annotated:
        return spelled(arguments[0], classes)
    if origin in (Union, UnionType):
        return " | ".join(spelled(one, classes) for one in arguments)
    if origin is Literal:
        return f"Literal[{', '.join(repr(one).replace(chr(39), chr(34)) for one in arguments)}]"
    if origin is tuple:
        return f"Sequence[{spelled(arguments[0], classes)}]"
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return f"Mapping[str, {spelled(arguments[1], classes)}]"
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        if kind.__name__ == "ResourcesConfig":  # made at run time, a field for each stage that is installed
            return "Mapping[str, Mapping[str, Any]]"
        if kind.__name__ == "StorageConfig":
            return "StorageConfig | Mapping[str, Any]"
        add_class(kind, classes)
        return f"{kind.__name__} | {typed_name(kind)}"
    if kind is NoneType:
        return "None"
    return "Any" if kind is Any else kind.__name__


def docstring(text: str) -> list[str]:
    escaped = " ".join(text.split()).replace("\\", "\\\\")
    wrapped = textwrap.wrap(f'"""{escaped}"""', 116, break_long_words=False)
    return [f"    {line}" for line in wrapped]


if __name__ == "__main__":
    PATH.write_text(source(), encoding="utf-8")
