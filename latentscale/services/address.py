"""The address of a service and its authentication headers; settings have environment variable names, never keys."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated
from urllib.parse import parse_qsl, urlsplit, urlunsplit

from pydantic import Field

from latentscale.config.secrets import SECRET, read_variable, without_credentials
from latentscale.errors import ConfigError

Variable = Annotated[str, Field(pattern=r"^[A-Z_][A-Z0-9_]{0,254}$")]


def checked_url(value: str | None) -> str | None:
    """Validate a base URL, and return it without a trailing slash.

    Raises
    ------
    ValueError
        If it is not an HTTP URL, or contains a password or a key.
    """
    if value is None:
        return None
    parts = urlsplit(value)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("a url begins with http:// or https:// and a host")
    without_credentials(value)
    if any(SECRET.match(name.lower()) or name.lower() == "sig" for name, _ in parse_qsl(parts.query)):
        raise ValueError("a url must not hold a key: name its variable in api_key_env or headers_env")
    return value.rstrip("/")


def checked_header_names(value: Mapping[str, str]) -> Mapping[str, str]:
    """Validate HTTP header names.

    Raises
    ------
    ValueError
        Naming the first invalid one.
    """
    for name in value:
        if not re.fullmatch(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,100}", name):
            raise ValueError(f"{name!r} is no name of a header")
    return value


def whole_url(base: str, path: str) -> str:
    """Append ``path`` to a base URL, before its query."""
    parts = urlsplit(base)
    return urlunsplit(parts._replace(path=parts.path.rstrip("/") + path))


def secret_headers(
    headers_env: Mapping[str, str], key_env: str | None, *, where: str, header: str = "Authorization"
) -> dict[str, str]:
    """The authentication headers, with keys read from the environment now.

    Parameters
    ----------
    headers_env : mapping of str to str
        Environment variable by header name.
    key_env : str or None
        The environment variable with the key.
    where : str
        The settings group, for messages.
    header : str
        The header of the key; in ``Authorization`` it is sent as a bearer token.

    Raises
    ------
    ConfigError
        If a variable is not set, or its value is not valid in a header.
    """
    headers = {name: read_variable(variable, where=f"{where}.headers_env") for name, variable in headers_env.items()}
    if key_env is not None:
        key = read_variable(key_env, where=f"{where}.api_key_env")
        headers[header] = f"Bearer {key}" if header == "Authorization" else key
    for name, value in headers.items():
        if not value.isascii() or not value.isprintable():
            raise ConfigError(
                f"the value for the header {name} holds characters that no header can hold",
                where=where,
                hint="Set the variable again: a line break or a quotation mark may have come with it.",
            )
    return headers
