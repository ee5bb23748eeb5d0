"""Check the maps: each document exactly once over all segments, and a public page that shows existing maps."""

from __future__ import annotations

import io
import json
import posixpath
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Set
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from latentscale.errors import LatentScaleError
from latentscale.stages.publish.page import public_manifest
from latentscale.storage.artifacts import Record, record_name
from latentscale.storage.frames import folder_columns
from latentscale.storage.objects import Store
from latentscale.storage.parquet import read_footer, read_parquet
from latentscale.storage.segments import Segment, contains, point_names, segments_of
from latentscale.upkeep.checks.artifacts import Tables, listed_parts
from latentscale.upkeep.checks.report import REBUILD, Check
from latentscale.upkeep.checks.runs import published, readable_runs
from latentscale.upkeep.checks.snapshots import Expected
from latentscale.viewer.page import PICTURE, page_files

INDEX = "viewer/index.html"
MANIFEST = "viewer/manifest.json"
PAGE_HINT = "latentscale repair WORKSPACE writes the page again."
NEW_WORKSPACE = "Run the corpus into a new workspace, where its column gets another name."


def check_points(
    check: Check,
    record: Record,
    records: Mapping[str, Record],
    tables: Tables,
    expected: Expected | None,
    damaged: Set[str],
) -> None:
    """Check that a map has each document with a vector exactly once, and that the sizes in the labels are right.

    Memory use: a byte per document.

    Parameters
    ----------
    damaged : set of str
        Ids of maps with missing or damaged parts, which have been reported already.
    """
    name = record_name("map", record.id)
    try:
        segments = segments_of(record)
    except (KeyError, TypeError) as error:
        check.fault(name, f"has segments that this version of LatentScale does not write: {error}")
        return
    total = repeated = unexpected = 0
    clusters: Counter[int] = Counter()
    seen = np.zeros(0 if expected is None else len(expected.bits) * 8, dtype=bool)
    for number, segment in enumerate(segments):
        if segment.map not in records:
            check.fault(name, f"shows points of {segment.map}, which does not exist")
            return
        owner = records[segment.map]
        try:
            listed = {part.name: part for part in owner.parts}
            points = point_names(segment)
        except LatentScaleError:  # reported already
            return
        unlisted = [point for point in points if point not in listed]
        if unlisted:
            check.fault(name, f"shows {unlisted[0]} of {owner.id}, which that does not list")
            return
        removed = _removed(check, record, segment)
        if removed is None:
            return
        rows = sum(listed[point].rows or 0 for point in points) - len(removed)
        if rows != segment.documents:
            check.fault(name, f"has {segment.documents:,} documents in segment {number}, whose points are {rows:,}")
            return
        total += rows
        if check.quick or expected is None:
            continue
        if owner.id in damaged:
            return
        shown_rows = 0
        for part in check.each(partial(_points, check), [f"{owner.folder}/{point}" for point in points]):
            if part is None:
                return
            ids, cluster = part
            shown = ~contains(removed, ids)
            shown_rows += int(shown.sum())
            clusters.update(dict(zip(*_counted(cluster[shown]), strict=True)))
            ids = ids[shown]
            known = ids[(ids >= 0) & (ids < len(seen))]
            unexpected += len(ids) - len(known)
            distinct = np.unique(known)
            repeated += len(known) - len(distinct) + int(seen[distinct].sum())
            seen[distinct] = True
        if shown_rows != rows:
            check.fault(name, f"removes documents from segment {number} that it does not have")
            return
    documents = int(record.counts["documents"])
    if total != documents:
        check.fault(name, f"has {documents:,} documents, its points are {total:,}")
    if check.quick or expected is None:
        return
    wanted = np.unpackbits(expected.bits).astype(bool)
    missing, unexpected = int((wanted & ~seen).sum()), unexpected + int((seen & ~wanted).sum())
    if missing or repeated or unexpected:
        check.fault(
            name,
            f"holds {total:,} points for the {expected.documents:,} documents of {record.request['snapshot']}: "
            f"{missing:,} are missing, {repeated:,} are repeated, {unexpected:,} are of no document",
        )
    del clusters[-1]
    listed_sizes = {row["cluster"]: row["size"] for row in tables.listed if not row.get("layer") and row["size"]}
    if listed_sizes != dict(clusters):
        check.fault(f"{record.folder}/labels.parquet", "has sizes of clusters that the points do not have")


def _points(check: Check, name: str) -> tuple[NDArray[np.int64], NDArray[np.int32]] | None:
    try:
        footer = read_footer(check.store, name)
        twice = set(folder_columns(name, footer.facts)) & set(footer.schema.names)
        if twice:
            check.fault(name, f"has the column {min(twice)!r} in its rows and in its folder", NEW_WORKSPACE)
        table = read_parquet(check.store, name, ["row_id", "cluster"])
        return table["row_id"].to_numpy(), table["cluster"].to_numpy()
    except LatentScaleError as error:
        check.error(name, error)
        return None


def _counted(values: NDArray[np.int32]) -> tuple[list[int], list[int]]:
    clusters, numbers = np.unique(values, return_counts=True)
    return clusters.tolist(), numbers.tolist()


def _removed(check: Check, record: Record, segment: Segment) -> NDArray[np.int64] | None:
    """Row ids of a segment that a map does not show; None if they cannot be read."""
    if not segment.removed:
        return np.empty(0, dtype=np.int64)
    name = f"{record.folder}/{segment.removed}"
    parts = {part.name for part in listed_parts(check, record) or ()}
    pages = [segment.removed_positions["url"]] if segment.removed_positions else list[str]()
    for part in [segment.removed, *pages]:
        if part not in parts:
            check.fault(record_name("map", record.id), f"removes the points in {part}, which it does not list")
            return None
    try:
        ids = read_parquet(check.store, name, ["row_id"])["row_id"].to_numpy()
    except LatentScaleError as error:
        check.error(name, error)
        return None
    if len(ids) > 1 and not (np.diff(ids) > 0).all():
        check.fault(name, "does not hold row ids in ascending order, each once", REBUILD)
        return None
    if segment.removed_positions and int(segment.removed_positions["count"]) != len(ids):
        number = int(segment.removed_positions["count"])
        check.fault(
            record_name("map", record.id), f"removes {number:,} documents from the page, {len(ids):,} from the map"
        )
    return ids


def check_public_page(check: Check, records: Mapping[str, Record], head: str | None) -> None:
    """Check that the public page and its files exist, and that it shows existing maps."""
    shown_map = records.get(head or "")
    if MANIFEST not in check.listing:
        if shown_map is None or "page" not in shown_map.counts:
            return
        if not _was_written(check, shown_map):
            # A run that was killed before its page was whole is no damage: the same command writes it.
            check.report.notes.append(f"There is no page yet that shows {shown_map.id}. {PAGE_HINT}")
        else:
            check.fault(MANIFEST, f"does not exist, and {shown_map.id} has a page", PAGE_HINT)
        return
    for name in (MANIFEST, INDEX):
        check.count(name)
    if INDEX not in check.listing:
        check.fault(INDEX, f"does not exist, and {MANIFEST} does", PAGE_HINT)
    try:
        generations = json.loads(check.store.read_bytes(MANIFEST))["generations"]
        urls = [str(generation["url"]) for generation in generations]
        removed = [str(g["removed"]["url"]) for g in generations if g.get("removed")]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        check.fault(MANIFEST, f"is not the manifest of a page: {error}", PAGE_HINT)
        return
    except LatentScaleError as error:
        check.error(MANIFEST, error)
        return
    shown: list[str] = []
    for url in urls:
        folder = posixpath.normpath(posixpath.join("viewer", url))
        parts = folder.split("/")
        record = records.get(parts[1]) if len(parts) == 3 and parts[0] == "maps" else None
        if record is None or not _has_page(record):
            check.fault(MANIFEST, f"shows {folder}, and no map has it", PAGE_HINT)
        else:
            shown.append(record.id)
    for url in removed:
        name = posixpath.normpath(posixpath.join("viewer", url))
        if name not in check.listing:
            check.fault(MANIFEST, f"removes the points in {name}, which does not exist", PAGE_HINT)
    if len(shown) == len(urls) and shown_map is not None and "page" in shown_map.counts:
        page = map_of_page(check.store, records.values(), first=shown_map)
        if page is None:
            check.fault(MANIFEST, "is not as any map has it", PAGE_HINT)
        elif page != shown_map.id:
            check.report.notes.append(
                f"The page does not show the current map {shown_map.id}, but {page}: latentscale promote WORKSPACE "
                f"{shown_map.id}."
            )
    _check_assets(check)


def map_of_page(store: Store, records: Iterable[Record], *, first: Record | None = None) -> str | None:
    """The id of the map that the public page shows, found by its manifest; None if no map has such a page.

    Parameters
    ----------
    first : Record, optional
        The map to compare first: two maps may have identical pages.
    """
    try:
        manifest = json.loads(store.read_bytes(MANIFEST))
    except (ValueError, LatentScaleError):
        return None
    if not isinstance(manifest, dict):
        return None
    for record in [*([first] if first else []), *records]:
        if record.kind != "map":
            continue
        try:
            wanted = json.loads(public_manifest(record) or b"null")
        except (LatentScaleError, KeyError, TypeError):
            continue
        # What another version may have added is not compared; nor must labels of another map be there.
        if wanted is not None and {key: manifest.get(key) for key in {*wanted, "labels"}} == {"labels": None, **wanted}:
            return record.id
    return None


def _was_written(check: Check, record: Record) -> bool:
    """Whether a completed run published this map, so that its page was complete then."""
    ended = (run for run in readable_runs(check) if run["status"] in ("done", "quarantined"))
    return any(published(run) == record.id for run in ended)


def _has_page(record: Record) -> bool:
    try:
        return any(part.name.startswith("viewer/") for part in record.parts)
    except LatentScaleError:  # reported already
        return True


def _embedded_manifest(store: Store) -> dict[str, Any] | None:
    """The manifest embedded in the HTML of the page, for comparison with those of maps; None if it is damaged."""
    try:
        manifest = json.loads(store.read_bytes(MANIFEST))
        origins = [str(origin) for origin in (manifest.get("images") or {}).get("origins", ())]
        picture = manifest.get("picture")
        said = {"title": str(manifest["title"]), "images": {"origins": origins}}
        return said if picture is None else said | {"picture": str(picture)}
    except (ValueError, KeyError, TypeError, AttributeError, LatentScaleError):
        return None


def _check_picture(check: Check) -> None:
    """Check that the preview image of the page exists and can be decoded; its bytes depend on the image library."""
    from PIL import Image

    name = f"viewer/{PICTURE}"
    if f"{PICTURE}?" not in str((_embedded_manifest(check.store) or {}).get("picture", "")):
        return
    if name not in check.listing:
        check.fault(name, f"does not exist, and {INDEX} names it", PAGE_HINT)
        return
    check.count(name)
    try:
        content = check.store.read_bytes(name)
    except LatentScaleError as error:
        check.error(name, error)
        return
    try:
        # Checks the CRCs of all PNG chunks.
        Image.open(io.BytesIO(content)).verify()
    except (OSError, SyntaxError, ValueError):
        check.fault(name, "is no whole picture", PAGE_HINT)


def _check_assets(check: Check) -> None:
    """Check that the site files equal those of this version; for another version, only that they are complete."""
    if INDEX not in check.listing:
        return
    try:
        page = check.store.read_bytes(INDEX)
        own = {f"viewer/{name}": content for name, content in page_files(_embedded_manifest(check.store))}
    except LatentScaleError as error:
        check.error(INDEX, error)
        return
    _check_picture(check)
    loaded = sorted(set(re.findall(r"assets/[\w.-]+\.(?:js|css)", page.decode("utf-8", "replace"))))
    of_this_version = page == own[INDEX]
    if not of_this_version and any(f"viewer/{file}" not in own for file in loaded):
        check.report.notes.append(
            "The page is the one of another version of LatentScale, whose scripts are not compared: "
            "latentscale promote WORKSPACE MAP writes this version's."
        )
    elif not of_this_version:
        check.fault(INDEX, "is not what was written", PAGE_HINT)
    names = sorted(name for name in own if name != INDEX) if of_this_version else [f"viewer/{file}" for file in loaded]
    for name in names:
        if name not in check.listing:
            check.fault(name, f"does not exist, and {INDEX} loads it", PAGE_HINT)
            continue
        check.count(name)
        content = own.get(name)
        if content is None:
            continue
        try:
            same = check.listing[name].size == len(content) and (check.quick or check.store.read_bytes(name) == content)
        except LatentScaleError as error:
            check.error(name, error)
            continue
        if not same:
            check.fault(name, "is not what was written", PAGE_HINT)
