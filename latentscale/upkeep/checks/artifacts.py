"""Check the artifacts: every part exists and matches its record, and the tables are consistent."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from latentscale.digest import artifact_id
from latentscale.errors import LatentScaleError
from latentscale.registry import load_stage, stages
from latentscale.stages.stage import Table
from latentscale.storage.artifacts import FOLDERS, Part, Record, find_record, record_name
from latentscale.storage.objects import Store
from latentscale.storage.records import content_of
from latentscale.upkeep.checks.report import REBUILD, Check
from latentscale.upkeep.checks.snapshots import Expected

# Parts up to this size are read once, as a whole; larger ones twice, in pieces.
WHOLE_BYTES = 64 << 20

_OWN_KINDS = frozenset({"neighbors", "projection", "clusters", "labels", "map", "placement"})
_FINITE = ("coordinates", "distances", "x", "y", "z", "probability", "density", "centroid")
_PART = re.compile(r"(?P<table>[^/]+?)(?:-\d+)?(?:\.[0-9a-f]{8})?\.parquet")


@cache
def tables_of_kind(kind: str) -> Mapping[str, Table]:
    """The tables of the artifacts of a kind, as the stage that makes them declares them."""
    for entry in stages():
        if entry.kind == kind:
            return load_stage(entry.name).tables
    return {}


def table_of_kind(kind: str, name: str) -> Table | None:
    """One of these tables by name; None if there is none."""
    return tables_of_kind(kind).get(name)


@dataclass(slots=True)
class Tables:
    """Summary of an artifact's tables, accumulated while their parts are read.

    Attributes
    ----------
    rows : dict of str to int
        Number of rows, by table.
    digests : dict of str to hash object
        Digest of the row ids in table order, by table, for tables with one row per document.
    cluster, nearest : dict of int to int
        Number of documents by cluster, and by nearest cluster.
    listed : list of dict
        The rows of a table of clusters: ``layer``, ``cluster``, ``parent``, ``size``, ``nearest_size``.
    """

    rows: dict[str, int] = field(default_factory=dict[str, int])
    digests: dict[str, Any] = field(default_factory=dict[str, Any])
    cluster: dict[int, int] = field(default_factory=dict[int, int])
    nearest: dict[int, int] = field(default_factory=dict[int, int])
    listed: list[dict[str, int | None]] = field(default_factory=list["dict[str, int | None]"])


def read_records(store: Store) -> tuple[dict[str, Record], dict[str, LatentScaleError]]:
    """Read the records of all artifacts: records by id, and the errors of those that cannot be read."""
    records: dict[str, Record] = {}
    damaged: dict[str, LatentScaleError] = {}
    for kind, folder in FOLDERS.items():
        for name in store.list(folder):
            parts = name.split("/")
            if len(parts) == 3 and name == record_name(kind, parts[1]):
                try:
                    record = find_record(store, kind, parts[1])
                    if record is not None:
                        records[parts[1]] = record
                except LatentScaleError as error:
                    damaged[name] = error
    return records, damaged


def table_of(name: str) -> str:
    """The table of a part file: ``graph`` for ``graph-00000.1a2b3c4d.parquet``; empty if it is not a part."""
    if not name.endswith(".parquet") or name.startswith("viewer/"):
        return ""
    if "/" in name:
        return name.partition("/")[0]
    match = _PART.fullmatch(name)
    return match["table"] if match else ""


def check_record(check: Check, record: Record, records: Mapping[str, Record]) -> bool:
    """Check a record, and that its parents have records."""
    name = record_name(record.kind, record.id)
    check.count(name)
    if record.id != name.split("/")[1] or record.id != artifact_id(record.kind, record.request):
        check.fault(name, f"is the record of {record.id} with a request that makes another id")
        return False
    for parent, content in record.parents.items():
        if parent not in records:
            # `gc --keep-maps` drops earlier maps; those whose points are still shown are checked with the segments.
            if not parent.startswith("map-"):
                check.fault(name, f"is made from {parent}, which does not exist")
        elif records[parent].content != content:
            check.fault(name, f"is made from {parent} as it was before that was rebuilt")
    return True


def check_parts(check: Check, record: Record) -> Tables | None:
    """Check all parts of an artifact; returns the summary of its tables, or None if a part is missing or damaged."""
    tables = Tables()
    parts = listed_parts(check, record)
    if parts is None:
        return None
    sound = True
    names = [part.name for part in parts]
    for name in sorted(name for name, times in Counter(names).items() if times > 1):
        check.fault(record_name(record.kind, record.id), f"lists {name} more than once", REBUILD)
        sound = False
    for part, read in zip(parts, check.each(lambda part: _part(check, record, part), parts), strict=True):
        if read is None:
            sound = False
            continue
        table = table_of(part.name)
        if table and part.rows is not None:
            tables.rows[table] = tables.rows.get(table, 0) + part.rows
        if read.num_columns:
            _add(tables, record.kind, part.name, read)
    return tables if sound else None


def listed_parts(check: Check, record: Record) -> Sequence[Part] | None:
    """The parts of an artifact, from its record or its separate parts list; None if that is damaged."""
    if record.parts_table is not None:
        name = f"{record.folder}/{record.parts_table.name}"
        if name not in check.listing:
            check.fault(name, f"does not exist, and {record.id} lists its parts in it", REBUILD)
            return None
        check.count(name)
    try:
        parts = record.parts
    except LatentScaleError as error:
        check.error(record_name(record.kind, record.id), error)
        return None
    except (pa.ArrowException, KeyError) as error:
        check.fault(record_name(record.kind, record.id), f"has no list of its parts: {error}", REBUILD)
        return None
    if content_of(parts) != record.content:
        check.fault(record_name(record.kind, record.id), "lists parts that are not its content", REBUILD)
    return parts


def _part(check: Check, record: Record, part: Part) -> pa.Table | None:
    """Check a part, and return the columns needed by later checks; None if the part has a fault."""
    name = f"{record.folder}/{part.name}"
    info = check.listing.get(name)
    if info is None:
        check.fault(name, f"does not exist, and {record.id} lists it", REBUILD)
        return None
    check.count(name)
    if info.size != part.bytes:
        check.fault(name, f"is {info.size:,} bytes long, {record.id} lists it with {part.bytes:,}", REBUILD)
        return None
    table = table_of(part.name)
    wanted = table_of_kind(record.kind, table)
    if check.quick and not table:
        return pa.table({})
    try:
        data: bytes | None = None
        if not check.quick:
            if part.bytes <= WHOLE_BYTES:
                data = check.store.read_bytes(name)
                state = hashlib.sha256(data)
            else:
                state = hashlib.sha256()
                with check.store.open(name) as stream:
                    while chunk := stream.read(1 << 22):
                        state.update(chunk)
            if state.hexdigest() != part.sha256:
                check.fault(name, f"is not what {record.id} recorded: its checksum differs", REBUILD)
                return None
            if not part.name.endswith(".parquet"):
                return pa.table({})
        with (
            pa.BufferReader(data) if data is not None else check.store.open(name) as source,
            pq.ParquetFile(source, page_checksum_verification=True) as file,
        ):
            if part.rows is not None and file.metadata.num_rows != part.rows:
                check.fault(
                    name,
                    f"holds {file.metadata.num_rows:,} rows, {record.id} lists {part.rows:,}",
                    REBUILD,
                )
                return None
            if wanted is None:
                return pa.table({})
            wrong = _wrong_columns(file.schema_arrow, wanted.columns)
            # A single document has no neighbours, so that the graph has only this column.
            if wrong and not (record.kind == "neighbors" and file.schema_arrow.names == ["row_id"]):
                check.fault(name, wrong, REBUILD)
                return None
            if check.quick:
                return pa.table({})
            existing = [column for column in wanted.columns if column in file.schema_arrow.names]
            content = file.read(columns=existing, use_threads=False)
        wrong = _wrong_values(record, content)
        if wrong:
            check.fault(name, wrong, REBUILD)
            return None
        return content
    except LatentScaleError as error:
        check.error(name, error)
    except (pa.ArrowException, OSError) as error:
        check.fault(name, f"is damaged: {error}", REBUILD)
    return None


def _wrong_columns(schema: pa.Schema, wanted: Mapping[str, str]) -> str:
    twice = next((name for name, number in Counter(schema.names).items() if number > 1), None)
    if twice is not None:
        return f"has the column {twice!r} twice: no reader can tell the two apart"
    for name, kind in wanted.items():
        if name not in schema.names:
            return f"has no column {name!r}"
        if not str(schema.field(name).type).startswith(kind):
            return f"has {name!r} as {schema.field(name).type}, not {kind}"
    return ""


def _wrong_values(record: Record, content: pa.Table) -> str:
    # Non-finite values may be valid in artifacts of plug-in stages.
    for name in _FINITE if record.kind in _OWN_KINDS else ():
        if name in content.column_names:
            for chunk in content[name].chunks:
                values = chunk.flatten() if pa.types.is_fixed_size_list(chunk.type) else chunk
                if not np.isfinite(values.to_numpy(zero_copy_only=False)).all():
                    return f"has values in {name!r} that are not finite"
    if record.kind == "neighbors" and "indices" in content.column_names:
        documents = int(record.counts["documents"])
        for chunk in content["indices"].chunks:
            values = chunk.flatten().to_numpy()
            if len(values) and (values.min() < 0 or values.max() >= documents):
                return f"has neighbours that are none of the {documents:,} documents"
    return ""


def _add(tables: Tables, kind: str, name: str, content: pa.Table) -> None:
    table = table_of(name)
    declared = table_of_kind(kind, table)
    if declared is not None and declared.by_document:
        state = tables.digests.setdefault(table, hashlib.sha256())
        state.update(content["row_id"].to_numpy().astype("<i8").tobytes())
    if (kind, table) in (("clusters", "members"), ("map", "points")):
        for column, counts in (("cluster", tables.cluster), ("nearest_cluster", tables.nearest)):
            values, numbers = np.unique(content[column].to_numpy(), return_counts=True)
            for value, number in zip(values.tolist(), numbers.tolist(), strict=True):
                counts[value] = counts.get(value, 0) + number
    if (kind, table) in (("clusters", "tree"), ("labels", "labels"), ("map", "labels")):
        wanted = [c for c in ("layer", "cluster", "parent", "size", "nearest_size") if c in content.column_names]
        tables.listed.extend(content.select(wanted).to_pylist())


def has_rows_by_document(record: Record) -> bool:
    """Whether an artifact has a table with a row for each document."""
    return any(table.by_document for table in tables_of_kind(record.kind).values())


def check_documents_of(check: Check, record: Record, tables: Tables, snapshot: str, expected: Expected | None) -> None:
    """Check that the tables with a row for each document have exactly those of the snapshot, in their order."""
    name = record_name(record.kind, record.id)
    for table in (name for name, declared in tables_of_kind(record.kind).items() if declared.by_document):
        documents = int(record.counts.get("documents", tables.rows.get(table, 0)))
        digest = tables.digests.get(table)
        if tables.rows.get(table, 0) != documents:
            check.fault(
                name,
                f"has {documents:,} documents, its {table} has {tables.rows.get(table, 0):,}",
                REBUILD,
            )
        elif expected is not None and not check.quick and (digest is None or digest.hexdigest() != expected.digest):
            check.fault(name, f"does not hold the documents of {snapshot}", REBUILD)


def check_sizes(check: Check, record: Record, tables: Tables, sizes: dict[str, dict[int | None, int | None]]) -> None:
    """Check cluster sizes against their members, and that the sizes of each layer add up to those of the finer one.

    ``sizes``, by the id of an artifact of clusters, is filled from these and compared with their labels.
    """
    if check.quick:
        return
    name = record_name(record.kind, record.id)
    finest = [row for row in tables.listed if not row.get("layer")]
    ids = [row["cluster"] for row in finest]
    if len(set(ids)) != len(ids):
        check.fault(name, "has a cluster more than once", REBUILD)
        return
    listed: dict[int | None, int | None] = {row["cluster"]: row["size"] for row in finest if row["size"]}
    if record.kind == "labels" and sizes.get(str(record.request["clusters"]), listed) != listed:
        check.fault(name, f"has sizes of clusters that {record.request['clusters']} does not have", REBUILD)
        return
    if record.kind == "clusters":
        sizes[record.id] = listed
        for column, counts in (("size", tables.cluster), ("nearest_size", tables.nearest)):
            counted = {cluster: number for cluster, number in counts.items() if cluster >= 0}
            listed = {row["cluster"]: row[column] for row in finest if row[column]}
            if counted != listed:
                check.fault(name, f"has sizes of clusters ({column}) that its members do not have", REBUILD)
                return
    layers: dict[int, list[dict[str, int | None]]] = {}
    for row in tables.listed:
        layers.setdefault(int(row.get("layer") or 0), []).append(row)
    for layer, rows in sorted(layers.items()):
        if layer + 1 not in layers:
            continue
        for column in ("size", "nearest_size"):
            below: dict[int | None, int] = {}
            for row in rows:
                below[row.get("parent")] = below.get(row.get("parent"), 0) + int(row[column] or 0)
            above = {row["cluster"]: int(row[column] or 0) for row in layers[layer + 1]}
            if below != above:
                check.fault(
                    name,
                    f"has a layer {layer + 1} whose {column} is not the sum of layer {layer}",
                    REBUILD,
                )
                return
