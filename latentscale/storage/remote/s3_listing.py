"""List the keys of an S3 store: sequential pages for small folders, concurrent key ranges for large ones."""

from __future__ import annotations

import asyncio
import re
from bisect import bisect_left, bisect_right
from collections.abc import AsyncGenerator, Mapping, Sequence
from typing import Any, cast

from latentscale.storage.remote.protocol import ObjectInfo, seconds_of
from latentscale.storage.remote.s3_connection import S3Connection, gather, split

PAGE = 1_000
"""Maximum number of keys in a page, as in S3."""
_WILDCARD = re.compile(r"[*?\[]")

Listed = dict[str, ObjectInfo]


async def find(remote: S3Connection, path: str, *, relative_to: str) -> Listed:
    """List all objects below the folder ``path``, in key order, named relative to the folder ``relative_to``.

    A folder of at most one page (a thousand keys) costs one request. A larger one is split at its first-level folders
    into key ranges that are listed concurrently: as many as the pages estimated from the first page, and more if a
    range turns out to be long. If there are only few folders, each is split in the same way. The ranges cover the whole
    key space, so that keys that are written concurrently into new folders are not missed.
    """
    bucket, key = split(path)
    base = split(relative_to)[1]
    found: Listed = {}
    await _Listing(remote, bucket, found, cut=len(base) + 1 if base else 0).folder(f"{key}/" if key else "")
    return {name: found[name] for name in sorted(found)}


class _Listing:
    def __init__(self, remote: S3Connection, bucket: str, found: Listed, *, cut: int) -> None:
        self._remote = remote
        self._bucket = bucket
        self._found = found
        self._cut = cut
        self._stretches = 0

    async def pages(self, prefix: str, **arguments: Any) -> AsyncGenerator[dict[str, Any]]:
        """Yield the pages of a listing; each request is retried separately."""
        path = f"{self._bucket}/{prefix}"
        following: dict[str, str] = {}
        while True:
            answer = await self._remote.request(
                "list_objects_v2", path, "list", {"Prefix": prefix, "MaxKeys": PAGE} | arguments | following
            )
            yield answer
            if not answer.get("IsTruncated"):
                return
            token = answer.get("NextContinuationToken")
            # Without a continuation token, continue after the last key.
            following = (
                {"ContinuationToken": str(token)} if token else {"StartAfter": str(answer["Contents"][-1]["Key"])}
            )

    def keep(self, answer: Mapping[str, Any], before: str | None = None) -> bool:
        """Collect the objects of a page; returns False at the end of the range."""
        for entry in cast(list[dict[str, Any]], answer.get("Contents") or []):
            key = str(entry["Key"])
            if before is not None and key >= before:
                return False
            if key.endswith("/"):
                continue  # a marker of an empty folder
            name = key[self._cut :]
            self._found[name] = ObjectInfo(
                name=name,
                size=int(entry["Size"]),
                version=str(entry.get("ETag") or "").strip('"'),
                modified=seconds_of(entry.get("LastModified")),
            )
        return True

    async def folder(self, prefix: str) -> None:
        pages = self.pages(prefix)
        first = await anext(pages)
        self.keep(first)
        if not first.get("IsTruncated"):
            return
        await pages.aclose()
        last = str(first["Contents"][-1]["Key"])
        at_once = self._remote.storage.max_requests
        if at_once == 1:
            await self.stretch(prefix, last, None)
            return
        folders = await self.folders(prefix)
        ahead = [name for name in folders if name > last]
        inside = [name for name in folders if last.startswith(name)]
        if len(ahead) + len(inside) <= at_once:
            # Objects outside of folders have been collected on the way.
            await gather(self.folder(name) for name in (*inside, *ahead))
            return
        # A range ends within a page, so each costs about half a page too much: use as many ranges as there are pages
        # left, if the folders in the first page are representative.
        pages_to_come = len(ahead) / max(1, len(folders) - len(ahead))
        count = max(1, min(at_once, int(pages_to_come / 2)))
        starts = [last, *(ahead[len(ahead) * index // count] for index in range(1, count))]
        bounds = zip(starts, [*starts[1:], None], strict=True)
        await gather(self.stretch(prefix, start, end, ahead) for start, end in bounds)

    async def stretch(self, prefix: str, after: str, before: str | None, folders: Sequence[str] = ()) -> None:
        """List the keys between two keys; a long range is split in two at one of ``folders``."""
        self._stretches += 1
        halves: list[asyncio.Task[None]] = []
        try:
            number = 0
            async for page in self.pages(prefix, StartAfter=after):
                if not self.keep(page, before):
                    break
                number += 1
                if number < 2 or not page.get("IsTruncated") or self._stretches >= self._remote.storage.max_requests:
                    continue
                first = bisect_right(folders, str(page["Contents"][-1]["Key"]))
                ahead = folders[first : len(folders) if before is None else bisect_left(folders, before)]
                if ahead:
                    half = ahead[len(ahead) // 2]
                    halves.append(asyncio.ensure_future(self.stretch(prefix, half, before, folders)))
                    before, number = half, 0
            self._stretches -= 1
            await gather(halves)
        except BaseException:
            for task in halves:
                task.cancel()
            await asyncio.gather(*halves, return_exceptions=True)
            raise

    async def folders(self, prefix: str) -> list[str]:
        """Return the prefixes of the folders directly below ``prefix``, collecting the objects on the way."""
        names: list[str] = []
        async for page in self.pages(prefix, Delimiter="/"):
            self.keep(page)
            names += [str(entry["Prefix"]) for entry in page.get("CommonPrefixes") or []]
        return sorted(names)


async def list_dir(remote: S3Connection, path: str) -> list[str]:
    """List the names directly in a folder, at most one page."""
    key = split(path)[1]
    prefix = f"{key}/" if key else ""
    answer = await remote.request("list_objects_v2", path, "list", {"Prefix": prefix, "Delimiter": "/"})
    names = [str(entry["Key"]) for entry in answer.get("Contents") or []]
    names += [str(entry["Prefix"]).rstrip("/") for entry in answer.get("CommonPrefixes") or []]
    return sorted(name.rpartition("/")[2] for name in names if name != prefix)


async def glob(remote: S3Connection, pattern: str, *, relative_to: str) -> Listed:
    """List all objects whose path matches ``pattern``; ``*`` does not match ``/``, ``**`` does."""
    from fsspec.utils import glob_translate

    bucket, key = split(pattern)
    base = split(relative_to)[1]
    found: Listed = {}
    listing = _Listing(remote, bucket, found, cut=len(base) + 1 if base else 0)
    match = re.compile(cast(str, glob_translate(key)))
    parts = key.split("/")
    whole = next((index for index, part in enumerate(parts) if "**" in part), None)
    level = [""]
    for index, part in enumerate(parts):
        if index == whole:
            await gather(listing.folder(prefix) for prefix in level)
            break
        wildcard = _WILDCARD.search(part)
        last = index == len(parts) - 1
        if wildcard is None:
            level = [prefix + part + ("" if last else "/") for prefix in level]
            if last:
                await gather(_exactly(listing, prefix) for prefix in level)
            continue
        # The prefix before the wildcard narrows the listing.
        stems = [prefix + part[: wildcard.start()] for prefix in level]
        names = [name for there in await gather(listing.folders(stem) for stem in stems) for name in there]
        fits = re.compile(cast(str, glob_translate(part)))
        level = [name for name in names if fits.match(name.rstrip("/").rpartition("/")[2])]
        if not last and not level:
            break
    prefix = f"{base}/" if base else ""
    return {name: found[name] for name in sorted(found) if match.match(prefix + name)}


async def _exactly(listing: _Listing, key: str) -> None:
    async for page in listing.pages(key):
        listing.keep(page)
        return
