"""Check the shards: documents, rejects and vectors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from latentscale.errors import LatentScaleError
from latentscale.stages import ingest
from latentscale.stages.embed import vector_name
from latentscale.storage.parquet import open_parquet, read_footer
from latentscale.storage.shared_texts import is_shared
from latentscale.storage.snapshot import document_name
from latentscale.upkeep.checks.report import Check

BATCH_ROWS = 8_192


@dataclass(frozen=True, slots=True)
class DocumentShard:
    """Summary of a shard of documents."""

    rows: int
    rejected: int


@dataclass(frozen=True, slots=True)
class VectorShard:
    """Summary of a shard of vectors.

    Attributes
    ----------
    rows, dim : int
    valid : uint8 ndarray or None
        Packed bits, one per row, set if it has a vector; None if all rows have one, or if data are not read.
    embedded : int
    """

    rows: int
    dim: int
    embedded: int
    valid: NDArray[np.uint8] | None

    def mask(self) -> NDArray[np.bool_]:
        """Whether each row has a vector (bool, shape (rows,))."""
        if self.valid is None:
            return np.ones(self.rows, dtype=bool)
        return np.unpackbits(self.valid, count=self.rows).astype(bool)


def shard_key(name: str) -> str:
    """The key of a shard, from the name of its object."""
    return name.rsplit("/", 1)[-1].removesuffix(".parquet")


def check_documents(check: Check) -> dict[str, DocumentShard]:
    """Check all document shards, and return the intact ones by key."""
    names = [name for name in check.listing if name.startswith("documents/") and name.endswith(".parquet")]
    shards: dict[str, DocumentShard] = {}
    for name, shard in zip(names, check.each(lambda name: _document(check, name), names), strict=True):
        if shard is not None:
            shards[shard_key(name)] = shard
            check.report.rows += shard.rows
            if shard.rejected and ingest.reject_name(shard_key(name)) not in check.listing:
                check.fault(
                    name,
                    f"rejected {shard.rejected:,} rows, but {ingest.reject_name(shard_key(name))} does not exist",
                )
    return shards


def _document(check: Check, name: str) -> DocumentShard | None:
    check.count(name)
    try:
        footer = read_footer(check.store, name)
        facts = footer.facts
        key = ingest.shard_key(str(facts["unit"]), int(facts["index"]), last=bool(facts["last"]))
        if document_name(key) != name:
            check.fault(name, f"holds the shard {key}")
            return None
        if footer.rows != int(facts["rows"]):
            check.fault(name, f"holds {footer.rows:,} rows, its footer says {int(facts['rows']):,}")
            return None
        wrong = _wrong_types(footer.schema, {"row": pa.int32(), "source_row": pa.int64(), str(facts["text"]): None})
        if wrong:
            check.fault(name, wrong)
            return None
        if not check.quick:
            rows = 0
            with open_parquet(check.store, name) as file:
                for batch in file.iter_batches(batch_size=BATCH_ROWS, use_threads=False):
                    numbers = batch.column("row").to_numpy()
                    if not np.array_equal(numbers, np.arange(rows, rows + len(numbers))):
                        check.fault(name, "does not number its rows from 0 on")
                        return None
                    rows += batch.num_rows
            if rows != footer.rows:
                check.fault(name, f"holds {rows:,} rows, its footer says {footer.rows:,}")
                return None
        return DocumentShard(rows=footer.rows, rejected=int(facts["rejected"]))
    except LatentScaleError as error:
        check.error(name, error)
    except (KeyError, TypeError, ValueError) as error:
        check.fault(name, f"does not hold what this version of LatentScale writes: {type(error).__name__} {error}")
    return None


def _wrong_types(schema: pa.Schema, wanted: dict[str, pa.DataType | None]) -> str:
    for name, kind in wanted.items():
        if name not in schema.names:
            return f"has no column {name!r}"
        if kind is not None and schema.field(name).type != kind:
            return f"has {name!r} as {schema.field(name).type}, not {kind}"
    return ""


def check_rejects(check: Check, documents: dict[str, DocumentShard]) -> None:
    """Check all reject files, uploads, and the tables of snapshots."""
    folders = ("rejects/", "uploads/", "selections/", "snapshots/carried-", "snapshots/groups-")
    names = [name for name in check.listing if name.startswith(folders) and name.endswith(".parquet")]
    for name, rows in zip(names, check.each(lambda name: _rows(check, name), names), strict=True):
        shard = documents.get(shard_key(name))
        if shard is None or rows is None or name != ingest.reject_name(shard_key(name)):
            continue
        if rows != shard.rejected:
            check.fault(name, f"holds {rows:,} rejects, the footer of its documents says {shard.rejected:,}")


def _rows(check: Check, name: str) -> int | None:
    """The number of rows of a parquet object after reading all its pages; None if it is damaged."""
    check.count(name)
    try:
        with open_parquet(check.store, name) as file:
            if check.quick:
                return file.metadata.num_rows
            return sum(batch.num_rows for batch in file.iter_batches(batch_size=BATCH_ROWS, use_threads=False))
    except LatentScaleError as error:
        check.error(name, error)
        return None


def check_vectors(
    check: Check, embedding: str, dim: int | None, documents: dict[str, DocumentShard]
) -> dict[str, VectorShard]:
    """Check all vector shards of an embedding, and return the intact ones by key."""
    names = [
        name
        for name in check.listing
        if name.startswith(f"embeddings/{embedding}/") and name.endswith(".parquet") and not is_shared(name)
    ]
    shards: dict[str, VectorShard] = {}
    for name, shard in zip(names, check.each(lambda name: _vectors(check, name, embedding), names), strict=True):
        key = shard_key(name)
        if shard is None:
            continue
        if name != vector_name(embedding, key):
            check.fault(name, "has a name that no shard has")
            continue
        if dim is None and shard.embedded:
            dim = shard.dim
        if shard.embedded and shard.dim != dim:
            check.fault(name, f"holds vectors of width {shard.dim}, the others have {dim}")
            continue
        if key in documents and documents[key].rows != shard.rows:
            check.fault(name, f"holds {shard.rows:,} vectors for {documents[key].rows:,} documents")
            continue
        shards[key] = shard
    return shards


def _vectors(check: Check, name: str, embedding: str) -> VectorShard | None:
    check.count(name)
    try:
        footer = read_footer(check.store, name)
        facts: dict[str, Any] = footer.facts
        rows, embedded, dim = int(facts["rows"]), int(facts["embedded"]), int(facts["dim"])
        if facts["embedding"] != embedding:
            check.fault(name, f"holds vectors of {facts['embedding']}")
            return None
        kind = footer.schema.field("vector").type
        if not pa.types.is_fixed_size_list(kind) or kind.value_type not in (pa.float16(), pa.float32()):
            check.fault(name, f"holds vectors as {kind}")
            return None
        # If no document has a vector, the list size of the nulls is 1.
        if kind.list_size != max(dim, 1) or footer.rows != rows:
            check.fault(
                name,
                f"holds {footer.rows:,} vectors of width {kind.list_size}, its footer says {rows:,} of width {dim}",
            )
            return None
        if check.quick:
            return VectorShard(rows=rows, dim=dim, embedded=embedded, valid=None)
        valid = np.zeros(rows, dtype=bool)
        start = 0
        with open_parquet(check.store, name) as file:
            for batch in file.iter_batches(batch_size=BATCH_ROWS, use_threads=False):
                column = batch.column("vector")
                present = np.asarray(column.is_valid())
                valid[start : start + len(present)] = present
                width = kind.list_size
                values = column.values.slice(column.offset * width, len(column) * width).to_numpy(zero_copy_only=False)
                if not np.isfinite(values.reshape(-1, width)[present]).all():
                    check.fault(name, "holds vectors that are not finite")
                    return None
                start += len(present)
        if start != rows or int(valid.sum()) != embedded:
            check.fault(
                name, f"holds {int(valid.sum()):,} vectors in {start:,} rows, its footer says {embedded:,} in {rows:,}"
            )
            return None
        return VectorShard(
            rows=rows, dim=dim, embedded=embedded, valid=None if embedded == rows else np.packbits(valid)
        )
    except LatentScaleError as error:
        check.error(name, error)
    except (KeyError, TypeError, ValueError) as error:
        check.fault(name, f"does not hold what this version of LatentScale writes: {type(error).__name__} {error}")
    return None
