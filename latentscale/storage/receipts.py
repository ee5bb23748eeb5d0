"""Tables of receipts: metadata of finished shards, cached so that later runs need not open the shards.

The listing of the store remains authoritative for which shards exist; a table only saves reading their footers. Shards
missing from all tables are opened and added to the table that the run writes. Tables are content-addressed. A new table
is merged with those that are not much larger, as in a log-structured merge tree (O'Neil et al. 1996): the sizes of the
remaining ones more than double from one to the next, so there are few, and large ones are rarely rewritten.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import Field, fields
from functools import cached_property, lru_cache
from types import TracebackType
from typing import Any, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from latentscale.errors import MissingObjectError
from latentscale.machine import release_memory
from latentscale.storage.columns import BATCH, indices
from latentscale.storage.key_index import KeyIndex
from latentscale.storage.objects import Store
from latentscale.storage.parquet import encode_table, open_parquet

FOLDER = "receipts"
VERSION = 1
# A table is merged if it is at most this many times the size of the new receipts and those merged so far.
GROWTH = 2.0
# Seconds between writes; a killed run loses the receipts since the last one.
WRITTEN_EVERY = 60.0
_CHUNK = 10_000
_GROUP_ROWS = 65_536


def receipt_schema(kind: type) -> pa.Schema:
    """Return the schema of a table of receipts of the dataclass ``kind``, which has a field ``key``.

    Integers and strings are plain columns; lists and mappings are JSON. Fields with the metadata ``{"kept": False}``
    are omitted: they concern only the run, or can be derived from the key.
    """
    return pa.schema([pa.field(one.name, _column_type(one)) for one in fields(kind) if one.metadata.get("kept", True)])


def _column_type(one: Field[Any]) -> pa.DataType:
    name = str(one.type)
    if name in ("int", "int | None"):
        return pa.int64()
    # Dictionary-encoded, as most shards of a corpus have equal values.
    return pa.string() if one.name == "key" else pa.dictionary(pa.int32(), pa.string())


class Receipts:
    """Receipts in columnar form; a million of them take about a hundred megabytes.

    Parameters
    ----------
    kind : type
        Dataclass of a receipt.
    table : pyarrow.Table, optional
        With the columns of ``receipt_schema(kind)``, or some of them, ``key`` among them; each column of texts has one
        dictionary.
    """

    def __init__(self, kind: type, table: pa.Table | None = None) -> None:
        self.kind = kind
        self._schema = receipt_schema(kind)
        self._pieces: list[pa.Table] = [] if table is None else [table]
        self._waiting: list[Any] = []
        self._rows = 0 if table is None else table.num_rows

    def __len__(self) -> int:
        return self._rows

    def add(self, receipts: Iterable[Any]) -> None:
        """Add receipts; they are converted to columns in batches."""
        before = len(self._waiting)
        self._waiting.extend(receipts)
        self._rows += len(self._waiting) - before
        self.__dict__.pop("_index", None)
        if len(self._waiting) >= _CHUNK:
            self._settle()

    def _settle(self) -> None:
        if self._waiting:
            columns = {
                field.name: pa.array(
                    [_plain(getattr(one, field.name), field.type) for one in self._waiting], field.type
                )
                for field in self._schema
            }
            self._pieces.append(pa.table(columns, schema=self._schema))
            self._waiting = []

    @property
    def table(self) -> pa.Table:
        """Return all receipts as a table."""
        self._settle()
        if len(self._pieces) != 1:
            whole = pa.concat_tables(self._pieces) if self._pieces else self._schema.empty_table()
            self._pieces = [whole.unify_dictionaries()]
        return self._pieces[0]

    @property
    def keys(self) -> pa.ChunkedArray:
        """Return the keys of the shards."""
        return self.table["key"]

    def numbers(self, name: str) -> NDArray[np.int64]:
        """Return an integer column (int64, shape (n,)); null is 0."""
        return self.table[name].fill_null(0).to_numpy()

    def total(self, name: str) -> int:
        """Return the sum of an integer column."""
        return int(pc.call_function("sum", [self.table[name]]).as_py() or 0)

    def distinct(self, name: str) -> Iterator[tuple[Any, int]]:
        """Return distinct values of a JSON column in order of appearance, with the number of shards of each."""
        codes, texts = self._codes(name)
        counts = np.bincount(codes, minlength=len(texts))
        first = np.empty(len(texts), dtype=np.int64)
        # Duplicate indices: the last assignment wins, which is the first appearance.
        first[codes[::-1]] = np.arange(len(codes) - 1, -1, -1)
        values = np.flatnonzero(counts)
        values = values[np.argsort(first[values])]
        for begin in range(0, len(values), BATCH):
            some = values[begin : begin + BATCH]
            for text, count in zip(texts.take(indices(some)).to_pylist(), counts[some].tolist(), strict=True):
                yield json.loads(text), count

    def distinct_pairs(
        self, one: str, other: str, places: NDArray[np.int64] | None = None
    ) -> Iterator[tuple[Any, Any]]:
        """Return distinct pairs of values of two JSON columns, in order of appearance.

        Equal values may be the same object, which must not be modified.

        Parameters
        ----------
        places : int64 ndarray, optional
            Positions of the receipts to consider; by default all.
        """
        (first, texts), (second, others) = (self._codes(name) for name in (one, other))
        if places is not None:
            first, second = first[places], second[places]
        both = first.astype(np.int64) * max(len(others), 1) + second
        _, shown = np.unique(both, return_index=True)
        shown.sort()
        parsed = lru_cache(maxsize=1_000)(json.loads)
        for begin in range(0, len(shown), BATCH):
            some = shown[begin : begin + BATCH]
            left, right = texts.take(indices(first[some])), others.take(indices(second[some]))
            for text, text_of_other in zip(left.to_pylist(), right.to_pylist(), strict=True):
                yield parsed(text), parsed(text_of_other)

    def _codes(self, name: str) -> tuple[NDArray[np.int32], pa.Array]:
        """Return a text column as codes (int32, shape (n,)) and categories."""
        chunks: Sequence[Any] = self.table[name].chunks
        if not chunks:
            return np.empty(0, np.int32), pa.array([], pa.string())
        return np.concatenate([chunk.indices.to_numpy() for chunk in chunks]), chunks[0].dictionary

    def sum_by_key(self, name: str) -> Counter[str]:
        """Sum a column of mappings to integers, by key."""
        found: Counter[str] = Counter()
        for mapping, shards in self.distinct(name):
            for key, count in mapping.items():
                found[key] += count * shards
        return found

    def take(self, places: NDArray[Any]) -> Receipts:
        """Select receipts by position; returns ``self`` if the selection is all of them in order."""
        if len(places) == len(self) and np.array_equal(places, np.arange(len(places))):
            return self
        return Receipts(self.kind, self.table.take(indices(places)))

    def find(self, keys: pa.Array | pa.ChunkedArray) -> NDArray[np.int64]:
        """Find the positions of keys (int64, shape (n,)); -1 if missing."""
        return self._index.find(keys)

    @cached_property
    def _index(self) -> KeyIndex:
        return KeyIndex(self.keys)

    def unique(self) -> Receipts:
        """Drop repeated keys, keeping the first receipt."""
        again = self._index.repeated()
        return self.take(np.delete(np.arange(len(self)), again)) if len(again) else self

    def sorted_by_key(self) -> Receipts:
        """Sort by key, stably."""
        return self.take(pc.call_function("array_sort_indices", [self.keys]).to_numpy())

    def concat(self, other: Receipts) -> Receipts:
        """Concatenate with ``other``, with the columns of ``self``."""
        tables = [self.table, other.table.select(self.table.column_names)]
        return Receipts(self.kind, pa.concat_tables(tables).unify_dictionaries())


def _plain(value: Any, kind: pa.DataType) -> Any:
    if value is None or pa.types.is_integer(kind) or pa.types.is_string(kind):
        return value
    return json.dumps(value, sort_keys=True, ensure_ascii=False)


def list_tables(store: Store, group: str) -> dict[str, int]:
    """List the tables of a group of shards: names and sizes in bytes.

    Parameters
    ----------
    group : str
        ``documents``, or the id of an embedding.
    """
    listing = store.list(f"{FOLDER}/{group}", brief=True)
    return {info.name: info.size for info in listing.values() if info.name.endswith(".parquet")}


def read_receipts(
    store: Store, group: str, kind: type, *, columns: Sequence[str] | None = None
) -> tuple[Receipts, dict[str, int]]:
    """Read the tables of a group of shards.

    Parameters
    ----------
    columns : sequence of str, optional
        Columns to read, including ``key``; by default all.

    Returns
    -------
    receipts : Receipts
        One per key.
    tables : dict of str to int
        As returned by ``list_tables``.
    """
    tables = list_tables(store, group)
    return _read_tables(store, tables, kind, columns)[0], tables


def _read_tables(
    store: Store, names: Iterable[str], kind: type, columns: Sequence[str] | None = None
) -> tuple[Receipts, list[str]]:
    """Read and concatenate tables; also returns the names of the existing ones."""
    schema = receipt_schema(kind)
    wanted = pa.schema([schema.field(name) for name in columns]) if columns is not None else schema
    chunks: dict[str, list[pa.Array]] = {name: [] for name in wanted.names}
    there: list[str] = []
    rows = 0
    for name in names:
        try:
            with open_parquet(store, name) as file:
                there.append(name)
                # Skip tables of earlier versions: the shards have all the information.
                if file.schema_arrow.names != schema.names:
                    continue
                table = file.read(columns=wanted.names, use_threads=False).select(wanted.names).cast(wanted)
        except MissingObjectError:
            # Another run has merged this table since it was listed: its receipts are in another table, or the shards
            # are opened.
            continue
        rows += table.num_rows
        for column in wanted.names:
            chunks[column].extend(table[column].chunks)
        del table
    whole: dict[str, pa.ChunkedArray] = {}
    for field in wanted:
        # Column by column, as dictionaries are temporarily duplicated.
        whole[field.name] = pa.chunked_array(chunks.pop(field.name), field.type).unify_dictionaries()
    release_memory()
    receipts = Receipts(kind, pa.table(whole, schema=wanted))
    # Two concurrent runs may both have written a shard's receipt.
    return receipts.unique() if len(there) > 1 else receipts, there


def write_receipts(store: Store, group: str, new: Receipts, tables: Mapping[str, int]) -> dict[str, int]:
    """Write new receipts as a table, merged with those of ``tables`` that are not much larger.

    Returns
    -------
    dict of str to int
        The tables that exist now, as returned by ``list_tables``.
    """
    held = dict(tables)
    if not len(new):
        return held
    # Sorted, so that the bytes do not depend on the order in which shards finished.
    new = new.sorted_by_key()
    name, data = _encoded(group, new)
    if name in held:
        return held
    merged: list[str] = []
    size = data.nbytes
    for old, held_size in sorted(held.items(), key=lambda item: item[1]):
        if held_size > GROWTH * size:
            break
        merged.append(old)
        size += held_size
    if merged:
        known, merged = _read_tables(store, merged, new.kind)
        name, data = _encoded(group, known.concat(new).unique() if len(known) else new)
    store.put_bytes(name, data)
    # A run that listed these tables before falls back to opening the shards.
    store.delete([old for old in merged if old != name])
    return {old: held_size for old, held_size in held.items() if old not in merged} | {name: data.nbytes}


def _encoded(group: str, receipts: Receipts) -> tuple[str, memoryview]:
    """Encode a table: its content-based name, and its bytes."""
    facts = {"kind": "receipts", "version": VERSION, "group": group}
    data = memoryview(encode_table(_compact(receipts.table), facts=facts, row_group_rows=_GROUP_ROWS))
    return f"{FOLDER}/{group}/{hashlib.sha256(data).hexdigest()[:16]}.parquet", data


def _compact(table: pa.Table) -> pa.Table:
    """Give each row group its own dictionary, as parquet writes the whole dictionary with each group."""
    pieces = [table.slice(begin, _GROUP_ROWS).combine_chunks() for begin in range(0, table.num_rows, _GROUP_ROWS)]
    return pa.concat_tables(
        [
            pa.table(
                [
                    column.cast(pa.string()).dictionary_encode() if pa.types.is_dictionary(column.type) else column
                    for column in piece.columns
                ],
                schema=table.schema,
            )
            for piece in pieces
        ]
    )


class ReceiptWriter:
    """Writes the receipts of finished shards every minute, and at the end of the block, even after an error.

    Parameters
    ----------
    store : Store
    group : str
    new : Receipts
        Collects the receipts; those that it already contains are written too.
    tables : mapping of str to int
        As returned by ``list_tables``.
    """

    def __init__(self, store: Store, group: str, new: Receipts, tables: Mapping[str, int]) -> None:
        self._store, self._group = store, group
        self._new = new
        self._tables: dict[str, int] = dict(tables)
        self._written = 0
        self._last = time.monotonic()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._write()

    def add(self, receipt: Any) -> None:
        """Add a receipt."""
        self._new.add([receipt])
        if time.monotonic() - self._last >= WRITTEN_EVERY:
            self._write()

    def _write(self) -> None:
        unwritten = self._new.take(np.arange(self._written, len(self._new)))
        self._tables = write_receipts(self._store, self._group, unwritten, self._tables)
        self._written = len(self._new)
        self._last = time.monotonic()
