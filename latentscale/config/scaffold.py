"""Write a commented ``job.yaml``, from the settings themselves, and the JSON Schema that editors check it with."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import yaml
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from latentscale.config import job_model
from latentscale.config.descriptions import descriptions
from latentscale.errors import RequestError, refuse_stream

SCHEMA_NAME = "job.schema.json"
_EXAMPLE: dict[str, Any] = {"corpus.sources": ["demo"], "corpus.text": "text", "out": "maps/demo"}


def write_job(to: Path, *, force: bool) -> list[Path]:
    """Write a job file, and ``job.schema.json`` next to it.

    Parameters
    ----------
    to : Path
        The file, if the name ends in ``.yaml`` or ``.yml``; else a folder for ``job.yaml``.

    Raises
    ------
    RequestError
        If one exists already and ``force`` is not set, or ``to`` is ``-``.
    """
    refuse_stream(to)
    job = to if to.suffix.lower() in (".yaml", ".yml") and not to.is_dir() else to / "job.yaml"
    targets = {job: job_yaml(), job.with_name(SCHEMA_NAME): json.dumps(job_schema(), indent=1) + "\n"}
    for path, text in targets.items():
        # Another job in the same folder brought the same schema.
        if path.exists() and not force and not (path != job and path.read_text(encoding="utf-8") == text):
            raise RequestError(f"{path} exists already", hint="Use --force to replace it.")
    job.parent.mkdir(parents=True, exist_ok=True)
    for path, text in targets.items():
        path.write_text(text, encoding="utf-8")
    return list(targets)


def job_schema() -> dict[str, Any]:
    """The JSON Schema of ``job.yaml``."""
    schema = job_model().model_json_schema()
    _describe(schema, job_model())
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}


def _describe(schema: dict[str, Any], group: type[BaseModel]) -> None:
    """Add the descriptions of a group's settings, and of the groups within it."""
    groups = [group]
    for model in groups:
        held = schema if model is group else schema["$defs"][model.__name__]
        for name, field in model.model_fields.items():
            if name in descriptions(model):
                held["properties"][name]["description"] = descriptions(model)[name]
            inner = field.annotation
            if isinstance(inner, type) and issubclass(inner, BaseModel) and inner not in groups:
                groups.append(inner)


def job_yaml() -> str:
    """A ``job.yaml`` with every setting: those with a default are comments."""
    lines = [
        f"# yaml-language-server: $schema={SCHEMA_NAME}",
        "# A LatentScale job:  latentscale run job.yaml",
        "# A setting that is a comment shows its default. Paths are relative to this file.",
        "",
    ]
    for name, field in job_model().model_fields.items():
        model = field.annotation
        if isinstance(model, type) and issubclass(model, BaseModel):
            lines.append(f"# {' '.join((model.__doc__ or '').split())}")
            given = any(key.startswith(f"{name}.") for key in _EXAMPLE)
            lines.append(f"{name}:" if given else f"# {name}:")
            for inner, setting in model.model_fields.items():
                lines += _setting(f"{name}.{inner}", inner, setting, descriptions(model), indent="  ")
        else:
            lines += _setting(name, name, field, descriptions(job_model()), indent="")
        lines.append("")
    return "\n".join(lines)


def _setting(path: str, name: str, field: FieldInfo, described: Mapping[str, str], *, indent: str) -> list[str]:
    comment = textwrap.wrap(" ".join(described.get(name, "").split()), 100)
    lines = [f"{indent}# {line}" for line in comment]
    if path in _EXAMPLE:
        return [*lines, f"{indent}{name}: {_value(_EXAMPLE[path])}"]
    default = field.get_default(call_default_factory=True)
    if isinstance(default, BaseModel):
        return [*lines, f"{indent}# {name}:", *_group(default, indent=f"{indent}  ")]
    return [*lines, f"{indent}# {name}: {_value(default)}"]


def _group(group: BaseModel, *, indent: str) -> list[str]:
    """The settings of a group within a group; one of groups, such as the resources of stages, has a line for each."""
    lines: list[str] = []
    for name, field in type(group).model_fields.items():
        default = getattr(group, name)
        if isinstance(default, BaseModel):
            lines.append(f"{indent}# {name}: {_value(default.model_dump(mode='json'))}")
        else:
            lines += _setting("", name, field, descriptions(type(group)), indent=indent)
    return lines


def _value(value: Any) -> str:
    if isinstance(value, tuple):
        value = list(cast("tuple[Any, ...]", value))
    if isinstance(value, Mapping):
        value = dict(cast("Mapping[str, Any]", value))
    text = yaml.safe_dump(value, default_flow_style=True, allow_unicode=True, width=1_000, sort_keys=False)
    return text.replace("\n...\n", "").strip()
