"""Verify a workspace: every object that a record names is there, whole, and adds up."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field

import numpy as np

from latentscale.errors import LatentScaleError
from latentscale.stages.embed import vector_name
from latentscale.storage.artifacts import Record, list_records, record_name
from latentscale.storage.head import read_head
from latentscale.storage.objects import Store
from latentscale.storage.parquet import read_batches, read_footer
from latentscale.storage.snapshots import Snapshot, list_snapshots


@dataclass(slots=True)
class Report:
    """What a check found.

    Attributes
    ----------
    objects, rows : int
        How much was read.
    faults : list of str
        One sentence each.
    """

    objects: int = 0
    rows: int = 0
    faults: list[str] = field(default_factory=list[str])


def verify_workspace(store: Store) -> Report:
    """Read every shard, every part of every artifact and the page, and compare them with their records."""
    report = Report()
    snapshots: dict[str, Snapshot] = {}
    try:
        snapshots = {snapshot.id: snapshot for snapshot in list_snapshots(store)}
    except LatentScaleError as error:
        report.faults.append(error.message)
    names = store.list()
    for name in names:
        if name.startswith(("documents/", "rejects/", "embeddings/", "uploads/")) and name.endswith(".parquet"):
            _check_pages(store, name, report)
    for snapshot in snapshots.values():
        _check_snapshot(store, snapshot, report)
    for record in _records(store, report):
        _check_record(store, record, report)
        if record.kind == "map" and str(record.request["snapshot"]) in snapshots:
            _check_points(store, record, snapshots[str(record.request["snapshot"])], report)
    head = read_head(store)
    if head is not None and record_name("map", head) not in names:
        report.faults.append(f"HEAD.json names {head}, which is not there")
    _check_page(store, report)
    return report


def _records(store: Store, report: Report) -> list[Record]:
    try:
        return list_records(store)
    except LatentScaleError as error:
        report.faults.append(error.message)
        return []


def _check_pages(store: Store, name: str, report: Report) -> None:
    """Read every page of a parquet object: each carries a checksum."""
    report.objects += 1
    try:
        rows = sum(batch.num_rows for batch in read_batches(store, name, batch_rows=65_536))
        footer = read_footer(store, name) if not name.startswith("uploads/") else None
        if footer is not None and footer.rows != rows:
            report.faults.append(f"{name} holds {rows:,} rows, its footer says {footer.rows:,}")
    except LatentScaleError as error:
        report.faults.append(error.message)


def _check_snapshot(store: Store, snapshot: Snapshot, report: Report) -> None:
    end = 0
    for shard in snapshot.shards:
        if shard.base < end:
            report.faults.append(f"{snapshot.id}: row ids of {shard.name} overlap with those before")
        end = shard.base + shard.rows
        if not store.exists(shard.name):
            report.faults.append(f"{snapshot.id} lists {shard.name}, which is not there")
        elif read_footer(store, shard.name).rows != shard.rows:
            report.faults.append(f"{snapshot.id} lists {shard.name} with {shard.rows:,} rows, which it does not have")


def _check_record(store: Store, record: Record, report: Report) -> None:
    for part in record.parts:
        name = f"{record.folder}/{part.name}"
        report.objects += 1
        try:
            if hashlib.sha256(store.read_bytes(name)).hexdigest() != part.sha256:
                report.faults.append(f"{name} is not what {record.id} recorded: its checksum differs")
        except LatentScaleError as error:
            report.faults.append(error.message)


def _check_points(store: Store, record: Record, snapshot: Snapshot, report: Report) -> None:
    """Every document of the snapshot that has a vector is in the points exactly once."""
    wanted: list[np.ndarray] = []
    points: list[np.ndarray] = []
    try:
        for shard in snapshot.shards:
            keep = snapshot.kept(shard)
            name = vector_name(str(record.request["embedding"]), shard.key)
            start = 0
            for batch in read_batches(store, name, ["vector"], batch_rows=65_536):
                keep[start : start + batch.num_rows] &= np.asarray(batch.column(0).is_valid())
                start += batch.num_rows
            wanted.append(shard.base + np.flatnonzero(keep))
        for part in record.parts:
            if part.name.startswith("points/"):
                points.extend(
                    batch.column(0).to_numpy()
                    for batch in read_batches(store, f"{record.folder}/{part.name}", ["row_id"])
                )
    except LatentScaleError as error:
        if error.message not in report.faults:
            report.faults.append(error.message)
        return
    held = np.sort(np.concatenate(points)) if points else np.empty(0, dtype=np.int64)
    expected = np.concatenate(wanted) if wanted else held
    report.rows += len(expected)
    if len(held) != len(expected) or not np.array_equal(held, expected):
        report.faults.append(f"{record.id} holds {len(held):,} points for {len(expected):,} documents")


def _check_page(store: Store, report: Report) -> None:
    if not store.exists("viewer/manifest.json"):
        return
    report.objects += 1
    try:
        json.loads(store.read_bytes("viewer/manifest.json"))
    except ValueError as error:
        report.faults.append(f"viewer/manifest.json is not JSON: {error}")
