"""Headers of an object: its content type and how long a browser may cache it."""

from __future__ import annotations

import posixpath

_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".json": "application/json",
    ".jsonl": "application/x-ndjson",
    ".parquet": "application/vnd.apache.parquet",
    ".png": "image/png",
    ".svg": "image/svg+xml",
    ".woff2": "font/woff2",
    ".wasm": "application/wasm",
    ".md": "text/markdown; charset=utf-8",
    ".txt": "text/plain; charset=utf-8",
}
_FOREVER = "public, max-age=31536000, immutable"


def content_type(name: str) -> str:
    """Return the media type of an object, by its name."""
    return _TYPES.get(posixpath.splitext(name)[1].lower(), "application/octet-stream")


def cache_control(name: str) -> str | None:
    """Return the ``Cache-Control`` header of an object; None for objects that browsers do not request.

    Objects of a map and the page's hashed assets are immutable. The page itself and its manifest are overwritten, so
    browsers must revalidate them.
    """
    if name.startswith("maps/") or (name.startswith("viewer/") and "/assets/" in name):
        return _FOREVER
    if name.startswith("viewer/") or name in ("HEAD.json", "workspace.json", "preview.html"):
        return "no-cache"
    return None


def headers_of(name: str) -> dict[str, str]:
    """Return content type and cache control, by the parameter names of S3 clients."""
    cache = cache_control(name)
    return {"ContentType": content_type(name)} | ({"CacheControl": cache} if cache else {})
