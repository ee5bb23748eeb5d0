"""No setting holds a key or a secret: settings are recorded, printed and sent."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from latentscale.errors import ConfigError

VARIABLE = re.compile(r"^[A-Za-z_][A-Za-z0-9_]{0,254}$")
# An AWS key id, or forty letters of mixed case and digits: a key that was given where its variable should be named.
KEY = re.compile(r"^(A[KS]IA[A-Z0-9]{12,}|(?=.*[a-z])(?=.*[A-Z])(?=.*[0-9])[A-Za-z0-9]{24,})$")
SECRET = re.compile(
    r"^(key|secret|token|password|passwd|pass|credential|credentials|sas_token|username|"
    r"authorization|connection_string|x-api-key|cookie)$"
    r"|.*(secret|password|passphrase|access_key|account_key|private_key|api_?key|auth_?token|session_token|sas_token)"
)
# Options that end like this hold names of variables. Lower-case letters are refused: keys have them, such names hardly.
_NAMES = "_env"
_UPPER_VARIABLE = re.compile(r"^[A-Z_][A-Z0-9_]{0,254}$")
# Names that look like a secret and may be given: none of them opens anything.
_HARMLESS = {"token": ("anon", "cloud", "google_default", "cache", "browser")}


def refuse_secrets(options: Mapping[str, Any], path: str = "options") -> None:
    """Refuse options that look like a key or a secret.

    Raises
    ------
    ValueError
        Naming the option, never its value.
    """
    for name, value in options.items():
        key = f"{path}.{name}"
        if str(name).endswith(_NAMES) and value is not None:
            _check_names(value, key)
        elif isinstance(value, Mapping):
            refuse_secrets(cast("Mapping[str, Any]", value), key)
        elif SECRET.match(str(name).lower()) and value is not None and value not in _HARMLESS.get(str(name), ()):
            raise ValueError(
                f"{key} looks like a key or secret, which has no place in settings: put it into an environment "
                "variable (S3: name it with key_variable and secret_variable; other stores: their own variables)"
            )
        elif isinstance(value, str):
            without_credentials(value)


def _check_names(value: Any, key: str) -> None:
    """Refuse what is not the name of an environment variable, or a mapping to such names."""
    if isinstance(value, Mapping):
        for name, one in cast("Mapping[str, Any]", value).items():
            _check_names(one, f"{key}.{name}")
    elif not isinstance(value, str) or not _UPPER_VARIABLE.match(value) or KEY.match(value):
        raise ValueError(
            f"{key} is the name of an environment variable, in capital letters, such as MY_API_KEY; never what it holds"
        )


def read_variable(name: str, *, where: str) -> str:
    """The value of an environment variable that a setting names, or of the file that ``<name>_FILE`` names.

    Raises
    ------
    ConfigError
        If neither is set, the value is empty, or the file cannot be read.
    """
    value = os.environ.get(name)
    path = os.environ.get(f"{name}_FILE")
    if value is None and path is not None:
        try:
            value = Path(path).read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(
                f"the file that {name}_FILE names cannot be read: {getattr(error, 'strerror', None) or 'not text'}",
                where=where,
            ) from None
    if not value:
        raise ConfigError(
            f"the environment variable {name} is {'not set' if value is None else 'empty'}",
            where=where,
            hint=f"Set {name}, or {name}_FILE to the path of a file that holds it, on every worker machine.",
        )
    return value


def without_credentials(url: str) -> None:
    """Refuse an address with a password in it: addresses are recorded and printed."""
    if re.match(r"^\w+://[^/@\s]+@", url) and re.match(r"^\w+://[^/@\s]*:", url):
        raise ValueError("an address must not hold a user and a password: put them into the environment")


# Names of variables that hold something which must be in no record and no log.
SECRET_VARIABLE = re.compile(r"KEY|SECRET|TOKEN|PASS|CREDENTIAL|AUTH|COOKIE|SAS", re.IGNORECASE)


def check_runtime_env(values: Mapping[str, Any]) -> None:
    """Refuse a runtime environment that holds secrets: Ray shows it in its dashboard and its logs.

    Raises
    ------
    ValueError
        Naming the variable, never its value.
    """
    variables = values.get("env_vars", {})
    if not isinstance(variables, Mapping):
        raise ValueError("env_vars maps names of environment variables to their values")
    for name in cast("Mapping[str, Any]", variables):
        if SECRET_VARIABLE.search(str(name)):
            raise ValueError(
                f"env_vars.{name} looks like a secret, which Ray would show in its dashboard and its logs: name the "
                "variable in engine.pass_environment instead"
            )
