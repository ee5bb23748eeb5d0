"""Check the artifacts: every part is there and is what its record says, and what the tables hold adds up."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from latentscale.checks.report import MADE_ANEW, Check
from latentscale.checks.snapshots import Expected
from latentscale.digest import artifact_id
from latentscale.errors import LatentScaleError
from latentscale.storage.artifacts import FOLDERS, Part, Record, find_record, record_name
from latentscale.storage.objects import Store

# Parts up to here are read once, in one piece; longer ones twice, piece by piece.
WHOLE_BYTES = 64 << 20

_LABELS = {
    "layer": "int32",
    "cluster": "int32",
    "label": "string",
    "source": "string",
    "keyphrases": "list",
    "exemplars": "list",
    "parent": "int32",
    "size": "int64",
    "nearest_size": "int64",
}
# Columns of each table as they are written: a type's name, or the beginning of it.
COLUMNS: Mapping[tuple[str, str], Mapping[str, str]] = {
    ("neighbors", "graph"): {"row_id": "int64", "indices": "fixed_size_list", "distances": "fixed_size_list"},
    ("projection", "coordinates"): {"row_id": "int64", "coordinates": "fixed_size_list"},
    ("clusters", "members"): {
        "row_id": "int64",
        "cluster": "int32",
        "nearest_cluster": "int32",
        "probability": "float",
    },
    ("clusters", "tree"): {"cluster": "int32", "size": "int64", "nearest_size": "int64", "centroid": "fixed_size_list"},
    ("labels", "labels"): _LABELS,
    ("map", "labels"): _LABELS | {"x": "float", "y": "float", "hull": "list", "centroid": "fixed_size_list"},
    ("map", "points"): {
        "row_id": "int64",
        "x": "float",
        "y": "float",
        "cluster": "int32",
        "nearest_cluster": "int32",
        "probability": "float",
        "density": "float",
    },
    ("map", "removed"): {"row_id": "int64"},
    ("placement", "placed"): {
        "row_id": "int64",
        "x": "float",
        "y": "float",
        "cluster": "int32",
        "nearest_cluster": "int32",
        "probability": "float",
        "density": "float",
    },
    ("placement", "taken"): {"row_id": "int64"},
    ("placement", "gone"): {"row_id": "int64"},
}
# Tables with a row for each document, in the order of their places.
BY_DOCUMENT = {("neighbors", "graph"), ("projection", "coordinates"), ("clusters", "members")}


@dataclass(slots=True)
class Tables:
    """What is kept of an artifact's tables while they go by.

    Attributes
    ----------
    rows : dict of str to int
        By table.
    digest : hash object
        Of the row ids of a table with a row for each document, in the order of the table.
    cluster, nearest : dict of int to int
        Documents by cluster.
    listed : list of dict
        The rows of a table of clusters: ``layer``, ``cluster``, ``parent``, ``size``, ``nearest_size``.
    """

    rows: dict[str, int] = field(default_factory=dict[str, int])
    digest: Any = field(default_factory=hashlib.sha256)
    cluster: dict[int, int] = field(default_factory=dict[int, int])
    nearest: dict[int, int] = field(default_factory=dict[int, int])
    listed: list[dict[str, int | None]] = field(default_factory=list["dict[str, int | None]"])


def read_records(store: Store) -> tuple[dict[str, Record], dict[str, LatentScaleError]]:
    """Read the records of all artifacts; those that cannot be read are in the second dict with the reason."""
    found: dict[str, Record] = {}
    damaged: dict[str, LatentScaleError] = {}
    for kind, folder in FOLDERS.items():
        for name in store.list(folder):
            parts = name.split("/")
            if len(parts) == 3 and name == record_name(kind, parts[1]):
                try:
                    record = find_record(store, kind, parts[1])
                    if record is not None:
                        found[parts[1]] = record
                except LatentScaleError as error:
                    damaged[name] = error
    return found, damaged


def table_of(name: str) -> str:
    """The table that a part belongs to: ``graph`` of ``graph-00000.1a2b3c4d.parquet``; empty where it is none."""
    if not name.endswith(".parquet") or name.startswith("viewer/"):
        return ""
    if "/" in name:
        return name.partition("/")[0]
    return name.removesuffix(".parquet").partition("-")[0]


def check_record(check: Check, record: Record, records: Mapping[str, Record]) -> bool:
    """Check the record itself and that of its parents."""
    name = record_name(record.kind, record.id)
    check.count(name)
    if record.id != name.split("/")[1] or record.id != artifact_id(record.kind, record.request):
        check.fault(name, f"is the record of {record.id} with a request that makes another id")
        return False
    for parent, content in record.parents.items():
        if parent not in records:
            # `gc --keep-maps` drops earlier maps; whose points are still shown is checked with the segments.
            if not parent.startswith("map-"):
                check.fault(name, f"is made from {parent}, which is not there")
        elif records[parent].content != content:
            check.fault(name, f"is made from {parent} as it was before that was made anew")
    return True


def check_parts(check: Check, record: Record) -> Tables | None:
    """Check every part of an artifact; returns what its tables hold, or None where a part is missing or damaged."""
    tables = Tables()
    whole = True
    names = [part.name for part in record.parts]
    twice = {name for name in names if names.count(name) > 1} if len(set(names)) < len(names) else set[str]()
    for name in sorted(twice):
        check.fault(record_name(record.kind, record.id), f"lists {name} twice", made_again(record))
        whole = False
    for part, read in zip(record.parts, check.each(lambda part: _part(check, record, part), record.parts), strict=True):
        if read is None:
            whole = False
            continue
        table = table_of(part.name)
        if table and part.rows is not None:
            tables.rows[table] = tables.rows.get(table, 0) + part.rows
        if read.num_columns:
            _take(tables, record.kind, part.name, read)
    return tables if whole else None


def made_again(record: Record) -> str:
    """What to do for a part of an artifact that is not as it should be."""
    update = record.request.get("update") or {}
    if "parent" in update:
        return f"Delete it, then latentscale promote WORKSPACE {update['parent']} and latentscale update WORKSPACE."
    return MADE_ANEW


def _part(check: Check, record: Record, part: Part) -> pa.Table | None:
    """Check one part, and return those columns that the next checks need; None where it is not as it should be."""
    name = f"{record.folder}/{part.name}"
    info = check.listing.get(name)
    if info is None:
        check.fault(name, f"is not there, and {record.id} lists it", made_again(record))
        return None
    check.count(name)
    if info.size != part.bytes:
        check.fault(name, f"is {info.size:,} bytes long, {record.id} lists it with {part.bytes:,}", made_again(record))
        return None
    table = table_of(part.name)
    wanted = COLUMNS.get((record.kind, table))
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
                check.fault(name, f"is not what {record.id} recorded: its checksum differs", made_again(record))
                return None
            if not part.name.endswith(".parquet"):
                return pa.table({})
        with (
            pa.BufferReader(data) if data is not None else check.store.open(name) as source,
            pq.ParquetFile(source, page_checksum_verification=True) as file,
        ):
            if part.rows is not None and file.metadata.num_rows != part.rows:
                check.fault(
                    name, f"holds {file.metadata.num_rows:,} rows, {record.id} lists {part.rows:,}", made_again(record)
                )
                return None
            if wanted is None:
                return pa.table({})
            wrong = _wrong_columns(file.schema_arrow, wanted)
            # One document has no neighbours.
            if wrong and not (table == "graph" and file.schema_arrow.names == ["row_id"]):
                check.fault(name, wrong, made_again(record))
                return None
            if check.quick:
                return pa.table({})
            there = [column for column in wanted if column in file.schema_arrow.names]
            held = file.read(columns=there, use_threads=False)
        wrong = _wrong_values(record, held)
        if wrong:
            check.fault(name, wrong, made_again(record))
            return None
        return held
    except LatentScaleError as error:
        check.error(name, error)
    except (pa.ArrowException, OSError) as error:
        check.fault(name, f"is damaged: {error}", made_again(record))
    return None


def _wrong_columns(schema: pa.Schema, wanted: Mapping[str, str]) -> str:
    for name, kind in wanted.items():
        if name not in schema.names:
            return f"has no column {name!r}"
        if not str(schema.field(name).type).startswith(kind):
            return f"has {name!r} as {schema.field(name).type}, not {kind}"
    return ""


def _wrong_values(record: Record, held: pa.Table) -> str:
    for name in ("coordinates", "distances", "x", "y", "probability", "density", "centroid"):
        if name in held.column_names:
            for chunk in held[name].chunks:
                values = chunk.flatten() if pa.types.is_fixed_size_list(chunk.type) else chunk
                if not np.isfinite(values.to_numpy(zero_copy_only=False)).all():
                    return f"has values in {name!r} that are not finite"
    if "indices" in held.column_names:
        documents = int(record.counts["documents"])
        for chunk in held["indices"].chunks:
            values = chunk.flatten().to_numpy()
            if len(values) and (values.min() < 0 or values.max() >= documents):
                return f"has neighbours that are none of the {documents:,} documents"
    return ""


def _take(tables: Tables, kind: str, name: str, held: pa.Table) -> None:
    table = table_of(name)
    if (kind, table) in BY_DOCUMENT:
        tables.digest.update(held["row_id"].to_numpy().astype("<i8").tobytes())
    if table in ("members", "points"):
        for column, counts in (("cluster", tables.cluster), ("nearest_cluster", tables.nearest)):
            values, numbers = np.unique(held[column].to_numpy(), return_counts=True)
            for value, number in zip(values.tolist(), numbers.tolist(), strict=True):
                counts[value] = counts.get(value, 0) + number
    if table in ("tree", "labels"):
        wanted = [c for c in ("layer", "cluster", "parent", "size", "nearest_size") if c in held.column_names]
        tables.listed.extend(held.select(wanted).to_pylist())


def check_documents_of(check: Check, record: Record, tables: Tables, expected: Expected | None) -> None:
    """Check that a global artifact has exactly the documents of its snapshot, in their order."""
    name = record_name(record.kind, record.id)
    for table in (table for kind, table in BY_DOCUMENT if kind == record.kind):
        documents = int(record.counts["documents"])
        if tables.rows.get(table, 0) != documents:
            check.fault(
                name, f"says {documents:,} documents, its {table} has {tables.rows.get(table, 0):,}", made_again(record)
            )
        elif expected is not None and not check.quick and tables.digest.hexdigest() != expected.digest:
            check.fault(name, f"does not hold the documents of {record.request['snapshot']}", made_again(record))


def check_sizes(check: Check, record: Record, tables: Tables, sizes: dict[str, dict[int | None, int | None]]) -> None:
    """Check that the sizes of clusters are those of their members, and that each layer adds up to the one below.

    ``sizes``, by the id of an artifact of clusters, is filled from these and compared with their labels.
    """
    if check.quick:
        return
    name = record_name(record.kind, record.id)
    finest = [row for row in tables.listed if not row.get("layer")]
    ids = [row["cluster"] for row in finest]
    if len(set(ids)) != len(ids):
        check.fault(name, "has a cluster twice", made_again(record))
        return
    said: dict[int | None, int | None] = {row["cluster"]: row["size"] for row in finest if row["size"]}
    if record.kind == "labels" and sizes.get(str(record.request["clusters"]), said) != said:
        check.fault(name, f"says sizes of clusters that {record.request['clusters']} does not have", made_again(record))
        return
    if record.kind == "clusters":
        sizes[record.id] = said
        for column, counts in (("size", tables.cluster), ("nearest_size", tables.nearest)):
            held = {cluster: number for cluster, number in counts.items() if cluster >= 0}
            said = {row["cluster"]: row[column] for row in finest if row[column]}
            if held != said:
                check.fault(name, f"says sizes of clusters ({column}) that its members do not have", made_again(record))
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
                    name, f"has a layer {layer + 1} whose {column} is not the sum of layer {layer}", made_again(record)
                )
                return
