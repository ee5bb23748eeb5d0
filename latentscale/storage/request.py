"""Requests: everything that affects an artifact, whose digest is the artifact's id."""

from __future__ import annotations

from collections.abc import Mapping
from copy import copy
from dataclasses import MISSING, field, fields
from typing import Any, ClassVar, Self

from latentscale.errors import DamagedObjectError

__all__ = ["Request", "not_in_identity", "omitted_at_default"]


def omitted_at_default(default: Any) -> Any:
    """Declare a field that is part of the identity only if it differs from its default.

    For fields added later: the ids of artifacts made without them do not change.
    """
    metadata = {"later": True, "default": default}
    if isinstance(default, dict | list):
        return field(default_factory=lambda: copy(default), metadata=metadata)
    return field(default=default, metadata=metadata)


def not_in_identity(default: Any) -> Any:
    """Declare a field that affects how the work is done but not its result, and is not part of the identity."""
    if isinstance(default, dict | list):
        return field(default_factory=lambda: copy(default), metadata={"beside": True})
    return field(default=default, metadata={"beside": True})


class Request:
    """Base class of requests, frozen dataclasses whose fields are the identity, except those ``not_in_identity``.

    Attributes
    ----------
    VERSION : int
        Incremented when the same request gives another result.
    """

    __slots__ = ()

    VERSION: ClassVar[int] = 1

    def identity(self) -> dict[str, Any]:
        """Return the identity as plain values, with the version."""
        values: dict[str, Any] = {"version": self.VERSION}
        for one in fields(self):  # pyright: ignore[reportArgumentType] - every request is a dataclass
            value = getattr(self, one.name)
            if not (one.metadata.get("beside") or (one.metadata.get("later") and value == one.metadata["default"])):
                values[one.name] = _plain(value)
        return values

    @classmethod
    def read(cls, values: Mapping[str, Any]) -> Self:
        """Build a request from the values of a record.

        Raises
        ------
        DamagedObjectError
            If a field is missing: the record is of another version.
        """
        known = {one.name: one for one in fields(cls)}  # pyright: ignore[reportArgumentType]
        missing = [
            n
            for n, one in known.items()
            if n not in values and one.default is MISSING and one.default_factory is MISSING
        ]
        if missing:
            raise DamagedObjectError(
                f"a record of another version of LatentScale: its request has no {', '.join(missing)}",
                hint="Use the version that made the workspace, or start a new one with --out.",
            )
        return cls(**{name: values[name] for name in known if name in values})


def _plain(value: Any) -> Any:
    if isinstance(value, Request):
        return value.identity()
    if isinstance(value, Mapping):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, tuple | list):
        return [_plain(inner) for inner in value]
    return value
