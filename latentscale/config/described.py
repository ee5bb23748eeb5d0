"""The settings in a docstring, a line each: what `help` and a notebook show."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from pydantic import BaseModel

from latentscale.config.descriptions import descriptions
from latentscale.config.job import JobConfig


def list_settings(function: Callable[..., Any]) -> None:
    """Add the settings of all stages, with default and description, to a function's docstring."""
    lines = "\n".join(f"    {line}" for line in setting_lines())
    function.__doc__ = f"{(function.__doc__ or '').rstrip()}\n\n    Settings\n    --------\n{lines}\n"


def setting_lines() -> Iterator[str]:
    """``stage.setting = default: description`` of every setting; those of plug-ins are not listed."""
    for group, field in JobConfig.model_fields.items():
        model = field.annotation
        if isinstance(model, type) and issubclass(model, BaseModel):
            described = descriptions(model)
            for name, setting in model.model_fields.items():
                value = setting.get_default(call_default_factory=True)
                default = "" if setting.is_required() else f" = {_shown(value)}"
                yield f"{group}.{name}{default}: {_sentence(described.get(name, ''))}"


def _shown(value: Any) -> str:
    return "{…}" if isinstance(value, BaseModel) else repr(value)


def _sentence(text: str) -> str:
    text = " ".join(text.split())
    # A sentence ends before a capital or a backtick; `e.g.` and numbers do not end one.
    end = next((i for i in range(len(text) - 2) if text[i] == "." and text[i + 1] == " " and text[i + 2].isupper()), -1)
    return text if end < 0 else text[: end + 1]
