"""Write a commented ``job.yaml``, from the settings themselves, and the JSON Schema that editors check it with."""

from __future__ import annotations

import json
import textwrap
from pathlib import Path
from typing import Any, cast

import yaml
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from latentscale.config import JobConfig
from latentscale.errors import RequestError

SCHEMA_NAME = "job.schema.json"
_EXAMPLE: dict[str, Any] = {"corpus.sources": ["demo"], "corpus.text": "text", "out": "maps/demo"}


def write_job(folder: Path, *, force: bool) -> list[Path]:
    """Write ``job.yaml`` and ``job.schema.json`` into ``folder``.

    Raises
    ------
    RequestError
        If one is there already and ``force`` is not set.
    """
    targets = {folder / "job.yaml": job_yaml(), folder / SCHEMA_NAME: json.dumps(job_schema(), indent=1) + "\n"}
    for path in targets:
        if path.exists() and not force:
            raise RequestError(f"{path} is there already", hint="Use --force to replace it.")
    folder.mkdir(parents=True, exist_ok=True)
    for path, text in targets.items():
        path.write_text(text, encoding="utf-8")
    return list(targets)


def job_schema() -> dict[str, Any]:
    """The JSON Schema of ``job.yaml``."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **JobConfig.model_json_schema()}


def job_yaml() -> str:
    """A ``job.yaml`` with every setting: those with a default are comments."""
    lines = [
        f"# yaml-language-server: $schema={SCHEMA_NAME}",
        "# A LatentScale job:  latentscale run job.yaml",
        "# A setting that is a comment shows its default.",
        "",
    ]
    for name, field in JobConfig.model_fields.items():
        model = field.annotation
        if isinstance(model, type) and issubclass(model, BaseModel):
            lines.append(f"# {' '.join((model.__doc__ or '').split())}")
            given = any(key.startswith(f"{name}.") for key in _EXAMPLE)
            lines.append(f"{name}:" if given else f"# {name}:")
            for inner, setting in model.model_fields.items():
                lines += _setting(f"{name}.{inner}", inner, setting, indent="  ")
        else:
            lines += _setting(name, name, field, indent="")
        lines.append("")
    return "\n".join(lines)


def _setting(path: str, name: str, field: FieldInfo, *, indent: str) -> list[str]:
    comment = textwrap.wrap(" ".join((field.description or "").split()), 100)
    lines = [f"{indent}# {line}" for line in comment]
    if path in _EXAMPLE:
        return [*lines, f"{indent}{name}: {_value(_EXAMPLE[path])}"]
    default = field.get_default(call_default_factory=True)
    return [*lines, f"{indent}# {name}: {_value(default)}"]


def _value(value: Any) -> str:
    if isinstance(value, BaseModel):
        value = value.model_dump(mode="json", exclude_defaults=True)
    if isinstance(value, tuple):
        value = list(cast("tuple[Any, ...]", value))
    text = yaml.safe_dump(value, default_flow_style=True, allow_unicode=True, width=1_000)
    return text.replace("\n...\n", "").strip()
