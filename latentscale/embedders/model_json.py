"""Read and validate the JSON files of a model folder; errors name the file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeGuard

from latentscale.errors import ConfigError

MAX_JSON_BYTES = 16 << 20


def read_object(path: Path, *, needed: bool = False) -> Mapping[str, Any]:
    """Read a JSON object; empty if the file is missing and not ``needed``.

    Raises
    ------
    ConfigError
        If the file is missing and needed, too large, or not a JSON object.
    """
    if not path.is_file():
        if needed:
            raise refusal(path, "is missing")
        return {}
    value = read_json(path)
    if not is_mapping(value):
        raise refusal(path, "is not a JSON object")
    return value


def read_json(path: Path) -> Any:
    """Read a JSON file of at most 16 MB.

    Raises
    ------
    ConfigError
        If it is larger or unreadable.
    """
    try:
        if path.stat().st_size > MAX_JSON_BYTES:
            raise refusal(path, f"has more than {MAX_JSON_BYTES >> 20} MB")
        return json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise refusal(path, f"cannot be read: {error}") from error


def is_positive_int(value: Any) -> TypeGuard[int]:
    """Whether a value is a positive integer, and not a bool."""
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def is_mapping(value: Any) -> TypeGuard[Mapping[str, Any]]:
    """Whether a value is a JSON object."""
    return isinstance(value, Mapping)


def refusal(path: Path, problem: str, hint: str | None = None) -> ConfigError:
    """Return the error for an invalid model file."""
    return ConfigError(
        f"{path} {problem}", where="embed.model", hint=hint or "Save the model again, or download it again."
    )
