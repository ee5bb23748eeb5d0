"""Options of an embedder or a labeler, checked by the settings that it declares."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import ValidationError

from latentscale.config.base import Settings
from latentscale.errors import ConfigError

Options = TypeVar("Options", bound=Settings)


def checked_options(
    options: Mapping[str, Any], model: type[Options], *, where: str, missing: str = "", example: str = ""
) -> Options:
    """Options as the settings that ``model`` declares.

    Parameters
    ----------
    options : mapping
        As a job has them.
    model : type of Settings
    where : str
        The setting that holds them, such as ``embed.options``.
    missing, example : str
        For options without which there is nothing to do: what is missing then, and what to write.

    Raises
    ------
    ConfigError
        Naming the first that does not exist or cannot be.
    """
    try:
        return model.model_validate(dict(options))
    except ValidationError as error:
        errors = error.errors(include_url=False)
    # A name that is missing may be there, misspelt.
    first = next((one for one in errors if one["type"] == "extra_forbidden"), errors[0])
    key = ".".join([where, *map(str, first["loc"])])
    if missing and first["type"] == "missing":
        raise ConfigError(missing, where=key, hint=example)
    known = list(model.model_fields)
    hint = f"Known here: {', '.join(known) or 'none'}."
    if first["type"] == "extra_forbidden":
        near = difflib.get_close_matches(str(first["loc"][-1]), known, n=1, cutoff=0.5)
        raise ConfigError(f"there is no option {key}", hint=f"Did you mean {near[0]!r}? {hint}" if near else hint)
    if first["type"] == "string_type":
        hint = f"Write it in quotes, so that YAML takes it for text: --set '{key}=\"…\"'."
    elif first["loc"] and not first["type"].startswith("value_error"):
        field = model.model_fields.get(str(first["loc"][0]))
        if field is not None and not field.is_required():
            hint = "Left out, it is chosen." if field.default is None else f"Left out, it is {field.default!r}."
    message = str(first["msg"]).removeprefix("Value error, ")
    raise ConfigError(f"{key}: {message}", hint=hint)
