"""Parquet objects of the workspace: deterministic bytes, page checksums, facts in the footer."""

from __future__ import annotations

import json
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar, cast

import pyarrow as pa
import pyarrow.parquet as pq

from latentscale.digest import canonical_json
from latentscale.errors import DamagedObjectError, MissingObjectError
from latentscale.file_names import argument
from latentscale.storage.objects import ObjectInfo, Store, explain_os_error

Rows = TypeVar("Rows", pa.Table, pa.RecordBatch)

FACTS_KEY = b"latentscale"


@dataclass(frozen=True, slots=True, kw_only=True)
class Footer:
    """The footer of a parquet object.

    Attributes
    ----------
    rows : int
    facts : dict
        Facts written by the stage; determined by input and settings.
    schema : pyarrow.Schema
    """

    rows: int
    facts: dict[str, Any]
    schema: pa.Schema


def encode_table(
    table: pa.Table,
    *,
    facts: Mapping[str, Any],
    row_group_rows: int = 65_536,
    byte_stream_split: Sequence[str] = (),
    unordered: Sequence[str] = (),
) -> pa.Buffer:
    """Return ``table`` as the bytes of a parquet file; the same table and facts give the same bytes.

    Parameters
    ----------
    byte_stream_split : sequence of str
        Paths of columns of numbers whose bytes are sorted by their place in the number before they are compressed.
    unordered : sequence of str
        Columns, none of them nested in another, of which no reader wants the least and largest value: finding them
        takes a third of the time to write halves of vectors.
    """
    metadata = {k: v for k, v in (table.schema.metadata or {}).items() if k != b"pandas"}
    metadata[FACTS_KEY] = canonical_json(dict(facts))
    sink = pa.BufferOutputStream()
    dictionary = [name for name in table.column_names if name not in byte_stream_split]
    with pq.ParquetWriter(
        sink,
        table.schema.with_metadata(metadata),
        compression="zstd",
        # Without checksums, a flipped byte is read as wrong data in one of five files.
        write_page_checksum=True,
        use_dictionary=cast(Any, dictionary),
        use_byte_stream_split=cast(Any, list(byte_stream_split) or False),
        write_statistics=cast(
            Any, [name for name in table.column_names if name not in unordered] if unordered else True
        ),
        store_schema=True,
    ) as writer:
        writer.write_table(table.replace_schema_metadata(metadata), row_group_size=row_group_rows)
    return sink.getvalue()


def write_parquet(
    store: Store,
    name: str,
    table: pa.Table,
    *,
    facts: Mapping[str, Any],
    row_group_rows: int = 65_536,
    byte_stream_split: Sequence[str] = (),
    unordered: Sequence[str] = (),
) -> ObjectInfo:
    """Write ``table`` as object ``name`` in one piece; see :func:`encode_table`."""
    data = encode_table(
        table,
        facts=facts,
        row_group_rows=row_group_rows,
        byte_stream_split=byte_stream_split,
        unordered=unordered,
    )
    return store.put_bytes(name, memoryview(data))


@contextmanager
def open_parquet(store: Store, name: str) -> Generator[pq.ParquetFile]:
    """Open a parquet object; every page read through it is checked against its checksum.

    Raises
    ------
    DamagedObjectError
        If the object is no complete parquet file, or a page has a wrong checksum.
    MissingObjectError
        If it is missing, or deleted while it is read.
    StorageError
        If the store does not answer.
    """
    try:
        with (
            store.open(name) as raw,
            pq.ParquetFile(raw, page_checksum_verification=True, pre_buffer=not store.is_local) as file,
        ):
            yield file
    except pa.ArrowException as error:
        raise _damaged(store, name, error) from error
    except FileNotFoundError as error:
        raise MissingObjectError(f"cannot read {store.path(name)}: there is no such object any more") from error
    except OSError as error:
        # Arrow reports a failed checksum as an OSError without errno; operating system errors always have one.
        if error.errno is None:
            raise _damaged(store, name, error) from error
        raise explain_os_error(error, "read", store.path(name)) from error


def read_parquet(store: Store, name: str, columns: Sequence[str] | None = None) -> pa.Table:
    """Read a parquet object, or some of its columns."""
    with open_parquet(store, name) as file:
        if columns is None:
            return file.read(use_threads=False)
        return named_columns(file.read(columns=list(columns), use_threads=False), columns)


def read_existing(store: Store, name: str, columns: Sequence[str]) -> pa.Table:
    """Read the existing ones of some columns."""
    with open_parquet(store, name) as file:
        held = set(file.schema_arrow.names)
        names = [column for column in columns if column in held]
        return named_columns(file.read(columns=names, use_threads=False), names)


def read_batches(
    store: Store, name: str, columns: Sequence[str] | None = None, *, batch_rows: int = 8_192
) -> Iterator[pa.RecordBatch]:
    """Read a parquet object batch by batch, at most ``batch_rows`` rows each."""
    with open_parquet(store, name) as file:
        yield from batches_of(file, columns, batch_rows=batch_rows)


def batches_of(
    file: pq.ParquetFile, columns: Sequence[str] | None = None, *, batch_rows: int = 8_192
) -> Iterator[pa.RecordBatch]:
    """Read an open object batch by batch, at most ``batch_rows`` rows each."""
    wanted = list(columns) if columns is not None else None
    for batch in file.iter_batches(batch_size=batch_rows, columns=wanted, use_threads=False):
        yield batch if columns is None else named_columns(batch, columns)


def named_columns(read: Rows, columns: Sequence[str]) -> Rows:
    """Select columns by exact name from Arrow's result.

    For a column ``meta.title`` Arrow also reads the field ``title`` of a structure ``meta``.
    """
    there = set(read.schema.names)
    wanted = [name for name in columns if name in there]
    return read if wanted == read.schema.names else read.select(wanted)


def other_version(store: Store, name: str, error: Exception) -> DamagedObjectError:
    """Build the error for an object with an unexpected footer."""
    return DamagedObjectError(
        f"{name} does not hold what this version of LatentScale writes: {type(error).__name__} {error}",
        where=store.path(name),
        hint="Use the version that made the workspace, or start a new one with --out.",
    )


def read_footer(store: Store, name: str) -> Footer:
    """Read the footer of a parquet object that LatentScale wrote."""
    with open_parquet(store, name) as file:
        return Footer(rows=file.metadata.num_rows, facts=read_facts(store, name, file), schema=file.schema_arrow)


def read_facts(store: Store, name: str, file: pq.ParquetFile) -> dict[str, Any]:
    """Read the facts in the footer of an open object."""
    try:
        return json.loads((file.metadata.metadata or {})[FACTS_KEY])
    except (KeyError, ValueError) as error:
        raise _damaged(store, name, error) from error


def _damaged(store: Store, name: str, error: BaseException) -> DamagedObjectError:
    return DamagedObjectError(
        f"{name} is damaged: {error}",
        where=store.path(name),
        hint=f"latentscale repair {argument(store.url)} makes it again.",
    )
