"""Requests: everything that alters an artifact, field by field; the artifact's id is the digest of it."""

from __future__ import annotations

from collections.abc import Mapping
from copy import copy
from dataclasses import MISSING, field, fields
from typing import Any, ClassVar, Self

from latentscale.errors import DamagedObjectError

__all__ = ["Request", "beside", "later"]


def later(default: Any) -> Any:
    """A field that came after the first version of its request: at its default it is no part of the identity.

    A new setting so leaves the ids of all artifacts as they are that were made without it.
    """
    metadata = {"later": True, "default": default}
    if isinstance(default, dict | list):
        return field(default_factory=lambda: copy(default), metadata=metadata)
    return field(default=default, metadata=metadata)


def beside(default: Any) -> Any:
    """A field that says how the work is done and not what comes of it: no part of the identity, at any value."""
    if isinstance(default, dict | list):
        return field(default_factory=lambda: copy(default), metadata={"beside": True})
    return field(default=default, metadata={"beside": True})


class Request:
    """Base of all requests, frozen dataclasses: their fields are the identity, but for those that stand ``beside`` it.

    Attributes
    ----------
    VERSION : int
        Raised when the same request gives another result.
    """

    __slots__ = ()

    VERSION: ClassVar[int] = 1

    def identity(self) -> dict[str, Any]:
        """The fields as plain values, with the version; what ``later`` added is left out at its default."""
        values: dict[str, Any] = {"version": self.VERSION}
        for one in fields(self):  # pyright: ignore[reportArgumentType] - every request is a dataclass
            value = getattr(self, one.name)
            if not (one.metadata.get("beside") or (one.metadata.get("later") and value == one.metadata["default"])):
                values[one.name] = _plain(value)
        return values

    @classmethod
    def read(cls, values: Mapping[str, Any]) -> Self:
        """Make a request of what a record holds.

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
