"""How to reach an object store."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from latentscale.config.base import Settings
from latentscale.config.secrets import KEY, VARIABLE, refuse_secrets, without_credentials


class StorageConfig(Settings):
    """How to reach an object store. No setting holds a key: credentials are named, or found by the usual chain."""

    endpoint_url: str | None = None
    """Address of an S3-compatible store; by default AWS_ENDPOINT_URL, the profile's, or AWS."""
    region: str | None = None
    """Region; by default AWS_DEFAULT_REGION or the profile's."""
    addressing_style: Literal["auto", "path", "virtual"] = "auto"
    """Where the bucket's name goes; `auto` is the path for a store with an endpoint_url, else the host name."""
    profile: str | None = None
    """Profile of the AWS configuration files; by default AWS_PROFILE."""
    anonymous: bool = False
    """Send no credentials, for public buckets."""
    requester_pays: bool = False
    """Agree to pay for the requests, for buckets that ask for it."""
    key_variable: str | None = None
    """Name of the environment variable with the access key's id; NAME_FILE may hold the path of a file instead."""
    secret_variable: str | None = None
    """Name of the environment variable with the secret key; NAME_FILE as above."""
    token_variable: str | None = None
    """Name of the environment variable with the session token, where there is one; NAME_FILE as above."""
    multipart_threshold: Annotated[int, Field(ge=5 << 20, le=5 << 30)] = 64 << 20
    """Bytes from which an object is uploaded in parts."""
    part_size: Annotated[int, Field(ge=5 << 20, le=5 << 30)] = 32 << 20
    """Bytes of a part, in both directions."""
    max_requests: Annotated[int, Field(ge=1, le=256)] = 16
    """Concurrent requests of one process."""
    budget: Annotated[float, Field(gt=0, le=86_400)] = 120.0
    """Seconds for which a failing request is tried again once the store has answered."""
    first_budget: Annotated[float, Field(gt=0, le=86_400)] = 15.0
    """Seconds for the first contact; with the start of the program it stays below half a minute."""
    options: Mapping[str, Any] = {}
    """Further options of the fsspec file system, for other protocols; keys and secrets are refused here."""

    @field_validator("endpoint_url")
    @classmethod
    def _plain_address(cls, value: str | None) -> str | None:
        if value is None:
            return None
        if not re.match(r"^https?://[^/\s]+", value):
            raise ValueError("an endpoint begins with http:// or https://")
        without_credentials(value)
        return value.rstrip("/")

    @field_validator("key_variable", "secret_variable", "token_variable")
    @classmethod
    def _names_a_variable(cls, value: str | None) -> str | None:
        # What is no name of a variable is perhaps the key itself: it is not repeated.
        if value is not None and (not VARIABLE.match(value) or KEY.match(value)):
            raise ValueError("this is the name of an environment variable, not a key itself")
        return value

    @field_validator("options")
    @classmethod
    def _no_secret(cls, value: Mapping[str, Any]) -> Mapping[str, Any]:
        refuse_secrets(value)
        return value

    @model_validator(mode="after")
    def _credentials_agree(self) -> StorageConfig:
        if (self.key_variable is None) != (self.secret_variable is None):
            raise ValueError("key_variable and secret_variable go together")
        if self.token_variable and not self.key_variable:
            raise ValueError("token_variable goes together with key_variable and secret_variable")
        if self.anonymous and (self.key_variable or self.profile):
            raise ValueError("anonymous goes neither with variables nor with a profile")
        if self.profile and self.key_variable:
            raise ValueError("profile and key_variable name two sources of credentials: leave one out")
        return self


def protocol_of(url: str) -> str:
    """The protocol of a URL, such as ``s3``; empty for a path."""
    protocol = url.partition("://")[0] if "://" in url else ""
    return {"s3a": "s3", "file": "", "local": ""}.get(protocol, protocol)
