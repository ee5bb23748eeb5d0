"""Check the maps: each document exactly once over all segments, and a public page that leads to what is there."""

from __future__ import annotations

import json
import posixpath
import re
from collections import Counter
from collections.abc import Mapping, Set
from functools import partial

import numpy as np
from numpy.typing import NDArray

from latentscale.checks.artifacts import Tables, made_again
from latentscale.checks.report import Check
from latentscale.checks.snapshots import Expected
from latentscale.errors import LatentScaleError
from latentscale.storage.artifacts import Record, record_name
from latentscale.storage.parquet import read_parquet
from latentscale.storage.segments import Segment, contains, segments_of

INDEX = "viewer/index.html"
MANIFEST = "viewer/manifest.json"
PUBLISH = "latentscale publish makes it anew."


def check_points(
    check: Check,
    record: Record,
    records: Mapping[str, Record],
    tables: Tables,
    expected: Expected | None,
    damaged: Set[str],
) -> None:
    """Check that each document of the snapshot that has a vector is among the points of a map exactly once, and that
    the labels count them.

    Takes a byte of memory for each document.

    Parameters
    ----------
    damaged : set of str
        Ids of maps of which parts are missing or damaged, which is said already.
    """
    name = record_name("map", record.id)
    try:
        segments = segments_of(record)
    except (KeyError, TypeError) as error:
        check.fault(name, f"has segments that this version of LatentScale does not write: {error}")
        return
    total = again = strangers = 0
    clusters: Counter[int] = Counter()
    seen = np.zeros(0 if expected is None else len(expected.bits) * 8, dtype=bool)
    for number, segment in enumerate(segments):
        if segment.map not in records:
            check.fault(name, f"shows points of {segment.map}, which is not there")
            return
        owner = records[segment.map]
        listed = {part.name: part for part in owner.parts}
        missing = [point for point in segment.points if point not in listed]
        if missing:
            check.fault(name, f"shows {missing[0]} of {owner.id}, which that does not list")
            return
        removed = _removed(check, record, segment)
        if removed is None:
            return
        rows = sum(listed[point].rows or 0 for point in segment.points) - len(removed)
        if rows != segment.documents:
            check.fault(name, f"says {segment.documents:,} documents in segment {number}, it has {rows:,}")
            return
        total += rows
        if check.quick or expected is None:
            continue
        if owner.id in damaged:
            return
        left_over = 0
        for held in check.each(partial(_points, check), [f"{owner.folder}/{point}" for point in segment.points]):
            if held is None:
                return
            ids, cluster = held
            left = ~contains(removed, ids)
            left_over += int(left.sum())
            clusters.update(dict(zip(*_counted(cluster[left]), strict=True)))
            ids = ids[left]
            known = ids[(ids >= 0) & (ids < len(seen))]
            strangers += len(ids) - len(known)
            fresh = np.unique(known)
            again += len(known) - len(fresh) + int(seen[fresh].sum())
            seen[fresh] = True
        if left_over != rows:
            check.fault(name, f"takes documents off segment {number} that it does not have")
            return
    documents = int(record.counts["documents"])
    if total != documents:
        check.fault(name, f"says {documents:,} documents, its points are {total:,}")
    if check.quick or expected is None:
        return
    wanted = np.unpackbits(expected.bits).astype(bool)
    lost, strangers = int((wanted & ~seen).sum()), strangers + int((seen & ~wanted).sum())
    if again or lost or strangers:
        check.fault(
            name,
            f"holds {total:,} points for the {expected.documents:,} documents of {record.request['snapshot']}: "
            f"{lost:,} are missing, {again:,} are there again, {strangers:,} are of no document",
        )
    del clusters[-1]
    said = {row["cluster"]: row["size"] for row in tables.listed if not row.get("layer") and row["size"]}
    if said != dict(clusters):
        hint = made_again(record)
        check.fault(f"{record.folder}/labels.parquet", "says sizes of clusters that the points do not have", hint)


def _points(check: Check, name: str) -> tuple[NDArray[np.int64], NDArray[np.int32]] | None:
    try:
        table = read_parquet(check.store, name, ["row_id", "cluster"])
        return table["row_id"].to_numpy(), table["cluster"].to_numpy()
    except LatentScaleError as error:
        check.error(name, error)
        return None


def _counted(values: NDArray[np.int32]) -> tuple[list[int], list[int]]:
    found, numbers = np.unique(values, return_counts=True)
    return found.tolist(), numbers.tolist()


def _removed(check: Check, record: Record, segment: Segment) -> NDArray[np.int64] | None:
    """Row ids that a map does not show of a segment; None where that cannot be read."""
    if not segment.removed:
        return np.empty(0, dtype=np.int64)
    name = f"{record.folder}/{segment.removed}"
    parts = {part.name for part in record.parts}
    pages = [segment.removed_positions["url"]] if segment.removed_positions else list[str]()
    for part in [segment.removed, *pages]:
        if part not in parts:
            check.fault(record_name("map", record.id), f"takes off what {part} says, which it does not list")
            return None
    try:
        ids = read_parquet(check.store, name, ["row_id"])["row_id"].to_numpy()
    except LatentScaleError as error:
        check.error(name, error)
        return None
    if len(ids) > 1 and not (np.diff(ids) > 0).all():
        check.fault(name, "does not hold row ids in ascending order, each once", made_again(record))
        return None
    if segment.removed_positions and int(segment.removed_positions["count"]) != len(ids):
        number = int(segment.removed_positions["count"])
        check.fault(record_name("map", record.id), f"takes {number:,} documents off the page, {len(ids):,} off the map")
    return ids


def check_public_page(check: Check, records: Mapping[str, Record], head: str | None) -> None:
    """Check the public page: that it is there, that its files are, and that it shows maps that are."""
    if MANIFEST not in check.listing:
        record = records.get(head or "")
        if record is not None and "page" in record.counts:
            check.report.notes.append(f"There is no {MANIFEST}: {PUBLISH}")
        return
    for name in (MANIFEST, INDEX):
        check.count(name)
    if INDEX not in check.listing:
        check.fault(INDEX, f"is not there, and {MANIFEST} is", PUBLISH)
    try:
        generations = json.loads(check.store.read_bytes(MANIFEST))["generations"]
        urls = [str(generation["url"]) for generation in generations]
        removed = [str(g["removed"]["url"]) for g in generations if g.get("removed")]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        check.fault(MANIFEST, f"is not the manifest of a page: {error}", PUBLISH)
        return
    except LatentScaleError as error:
        check.error(MANIFEST, error)
        return
    shown: list[str] = []
    for url in urls:
        folder = posixpath.normpath(posixpath.join("viewer", url))
        parts = folder.split("/")
        record = records.get(parts[1]) if len(parts) == 3 and parts[0] == "maps" else None
        if record is None or not any(part.name.startswith("viewer/") for part in record.parts):
            check.fault(MANIFEST, f"shows {folder}, and no map has it", PUBLISH)
        else:
            shown.append(record.id)
    for url in removed:
        name = posixpath.normpath(posixpath.join("viewer", url))
        if name not in check.listing:
            check.fault(MANIFEST, f"takes {name} off, which is not there", PUBLISH)
    record = records.get(head or "")
    if shown and record is not None and "page" in record.counts:
        wanted = [segment.map for segment in segments_of(record) if segment.page]
        if shown != wanted:
            check.report.notes.append(
                f"The page does not show the current map {record.id}, but {shown[-1]}: the same command again, or "
                f"latentscale promote WORKSPACE {record.id}, makes them agree."
            )
    _check_assets(check)


def _check_assets(check: Check) -> None:
    if INDEX not in check.listing:
        return
    try:
        page = check.store.read_bytes(INDEX).decode("utf-8", "replace")
    except LatentScaleError as error:
        check.error(INDEX, error)
        return
    for file in sorted(set(re.findall(r"assets/[\w.-]+\.(?:js|css)", page))):
        if f"viewer/{file}" not in check.listing:
            check.fault(f"viewer/{file}", f"is not there, and {INDEX} loads it", PUBLISH)
        else:
            check.count(f"viewer/{file}")
