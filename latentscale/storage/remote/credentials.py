"""Where the keys of a store come from: variables that the settings name, or the usual chain; never from a record."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import Any

from latentscale.config import StorageConfig
from latentscale.config.secrets import read_variable

# What the usual chain of S3 clients reads: with other values a connection is another one.
_CHAIN = ("AWS_", "BOTO_")


@dataclass(frozen=True, slots=True, kw_only=True)
class Credentials:
    """Keys of one store, as they are now. They are in no ``repr`` and cannot be pickled."""

    key: str | None = field(default=None, repr=False)
    secret: str | None = field(default=None, repr=False)
    token: str | None = field(default=None, repr=False)

    def __reduce__(self) -> tuple[Any, ...]:
        raise TypeError("credentials do not travel between processes: each reads them where it runs")


def resolve(storage: StorageConfig) -> Credentials:
    """Read the variables that the settings name; all None where the usual chain is to find the keys.

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
    """A number that changes when the keys or the chain's variables do; it means nothing outside this process."""
    found = resolve(storage)
    chain = tuple(sorted((name, value) for name, value in os.environ.items() if name.startswith(_CHAIN)))
    return hash((found.key, found.secret, found.token, chain))
