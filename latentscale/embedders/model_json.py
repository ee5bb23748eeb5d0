"""The JSON files of a model's folder, read with bounds; what does not fit is refused by its file's name."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeGuard

from latentscale.errors import ConfigError

MAX_JSON_BYTES = 16 << 20


def read_object(path: Path, *, needed: bool = False) -> Mapping[str, Any]:
    """Read the object in a file; empty where there is no such file and it is not ``needed``.

    Raises
    ------
    ConfigError
        If it is missing and needed, is too large, or is no JSON object.
    """
    if not path.is_file():
        if needed:
            raise refusal(path, "is missing")
        return {}
    found = read_json(path)
    if not is_mapping(found):
        raise refusal(path, "is no JSON object")
    return found


def read_json(path: Path) -> Any:
    """Read a file of at most 16 MB.

    Raises
    ------
    ConfigError
        If it is larger or cannot be read.
    """
    try:
        if path.stat().st_size > MAX_JSON_BYTES:
            raise refusal(path, f"has more than {MAX_JSON_BYTES >> 20} MB")
        return json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise refusal(path, f"cannot be read: {error}") from error


def is_whole(value: Any) -> TypeGuard[int]:
    """Whether a value is a positive whole number, and no truth value."""
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def is_mapping(value: Any) -> TypeGuard[Mapping[str, Any]]:
    """Whether a value is a JSON object."""
    return isinstance(value, Mapping)


def refusal(path: Path, problem: str, hint: str | None = None) -> ConfigError:
    """The error of a file of a model that does not hold what it should."""
    return ConfigError(f"{path} {problem}", where="embed.model", hint=hint or "Save the model again, or fetch it anew.")
