"""Resolve the credentials of a store: from environment variables of the settings, or the client's default chain."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import Any

from latentscale.config import StorageConfig
from latentscale.config.secrets import read_variable

# Variables that the default chain of S3 clients reads; if they change, a new connection is opened.
_CHAIN = ("AWS_", "BOTO_")


@dataclass(frozen=True, slots=True, kw_only=True)
class Credentials:
    """The current credentials of a store; excluded from ``repr`` and not picklable."""

    key: str | None = field(default=None, repr=False)
    secret: str | None = field(default=None, repr=False)
    token: str | None = field(default=None, repr=False)

    def __reduce__(self) -> tuple[Any, ...]:
        raise TypeError("credentials do not travel between processes: each reads them where it runs")


def resolve(storage: StorageConfig) -> Credentials:
    """Read the variables that the settings name; all None if the client's default chain is to be used.

    Raises
    ------
    ConfigError
        If a variable is named and neither it nor its ``_FILE`` variant is set.
    """
    return Credentials(
        key=_variable(storage.key_variable, "key_variable"),
        secret=_variable(storage.secret_variable, "secret_variable"),
        token=_variable(storage.token_variable, "token_variable"),
    )


def _variable(name: str | None, setting: str) -> str | None:
    return None if name is None else read_variable(name, where=f"storage.{setting}")


def fingerprint(storage: StorageConfig) -> int:
    """Return a hash of the credentials and the variables of the default chain; valid only within this process."""
    found = resolve(storage)
    chain = tuple(sorted((name, value) for name, value in os.environ.items() if name.startswith(_CHAIN)))
    return hash((found.key, found.secret, found.token, chain))
