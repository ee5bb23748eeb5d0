"""Take signatures out of addresses before they are shown or written down."""

from __future__ import annotations

import re

MARK = "…"
_SIGNED = re.compile(
    r"([?&](?:X-Amz-Signature|X-Amz-Security-Token|X-Amz-Credential|X-Goog-Signature|X-Goog-Credential|Signature|"
    r"AWSAccessKeyId|GoogleAccessId|sig|token|access_token|api_key)=)[^&\s\"'<>]+",
    re.IGNORECASE,
)


def without_signatures(text: str) -> str:
    """Replace in all addresses of a text what makes a presigned one a key by ``…``."""
    return _SIGNED.sub(rf"\1{MARK}", text)


def lacks_signature(address: str) -> bool:
    """Whether an address was recorded by ``without_signatures``, without the signature needed to open it."""
    return any(match[0].endswith(f"={MARK}") for match in _SIGNED.finditer(address))
