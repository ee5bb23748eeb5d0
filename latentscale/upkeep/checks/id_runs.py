"""Check the sorted runs of hashed ids: complete, matching their shards, all hashes in range and in order."""

from __future__ import annotations

from functools import partial

import numpy as np
import pyarrow as pa

from latentscale.errors import LatentScaleError
from latentscale.storage.id_runs import FOLDER, LIST, IdRun, part_name, read_run
from latentscale.storage.parquet import read_footer, read_parquet
from latentscale.storage.shard_hashes import is_of_shard
from latentscale.upkeep.checks.report import Check
from latentscale.upkeep.checks.shards import DocumentShard

_COLUMNS = {"first": pa.uint64(), "second": pa.uint64(), "shard": pa.uint32(), "row": pa.uint32()}


def check_id_runs(check: Check, documents: dict[str, DocumentShard]) -> None:
    """Check every run against its list, and the list against the existing shards."""
    for name in [name for name in check.listing if name.startswith(f"{FOLDER}/") and name.endswith(f"/{LIST}")]:
        run = _listed(check, name, documents)
        if run is None:
            continue
        parts = list(range(run.parts))
        if missing := [part for part in parts if part_name(run.id, part) not in check.listing]:
            # Not a fault: incomplete runs are ignored, and the ids are read from the shards again.
            check.report.notes.append(
                f"{name} lists {part_name(run.id, missing[0])}, which does not exist; it is not used."
            )
            continue

        def part_of(number: int, run: IdRun = run) -> None:
            _check_part(check, run, number)

        for _ in check.each(part_of, parts):
            pass
    for _ in check.each(partial(_check_of_shard, check), [name for name in check.listing if is_of_shard(name)]):
        pass


def _check_of_shard(check: Check, name: str) -> None:
    check.count(name)
    try:
        if check.quick:
            read_footer(check.store, name)
        else:
            read_parquet(check.store, name)
    except LatentScaleError:
        # Not a fault: missing hashes are computed again when needed.
        check.report.notes.append(f"{name} cannot be read; it is not used, and gc deletes it.")


def _listed(check: Check, name: str, documents: dict[str, DocumentShard]) -> IdRun | None:
    check.count(name)
    try:
        run = read_run(check.store, name)
    except LatentScaleError as error:
        check.error(name, error)
        return None
    if run is None:
        check.report.notes.append(f"{name} was made by another version; gc deletes it.")
        return None
    for key, rows in zip(run.keys.to_pylist(), run.rows.tolist(), strict=True):
        # A deleted shard is not a fault: a run may outlive the snapshots for which it was made.
        if key in documents and documents[key].rows != rows:
            check.fault(name, f"lists the shard {key} with {rows:,} rows, it holds {documents[key].rows:,}")
            return None
    return run


def _check_part(check: Check, run: IdRun, number: int) -> None:
    name = part_name(run.id, number)
    check.count(name)
    try:
        footer = read_footer(check.store, name)
        if {field.name: field.type for field in footer.schema} != _COLUMNS:
            check.fault(
                name, f"has the columns {', '.join(footer.schema.names)}, or other types than those that are written"
            )
            return
        if check.quick:
            return
        table = read_parquet(check.store, name)
    except LatentScaleError as error:
        check.error(name, error)
        return
    first, shard, row = (table[column].to_numpy() for column in ("first", "shard", "row"))
    if not len(first):
        return
    if (shard >= len(run.keys)).any() or (row >= run.rows[shard]).any():
        check.fault(name, "has hashes of rows that no shard of its run has")
    elif (first[1:] < first[:-1]).any():
        check.fault(name, "is not in order")
    elif run.bits and (first[[0, -1]] >> np.uint64(64 - run.bits) != number).any():
        check.fault(name, "has hashes that belong into another object")
