"""Sorted runs of hashed ids, stored in the workspace, so that the ids of a shard are read and hashed once.

A run covers some shards and is immutable. An update writes one run for its new shards, merged with earlier ones that
are not much larger (O'Neil et al. 1996, the log-structured merge-tree), so that their number is logarithmic. Runs are
derived from shards: missing ones are rebuilt.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from latentscale.storage.hashing import HASH
from latentscale.storage.objects import Store
from latentscale.storage.parquet import other_version, read_footer, read_parquet, write_parquet
from latentscale.storage.snapshot import Ids
from latentscale.storage.spool import NO_RECORDS, Records, bits_for, bounds, records_of

FOLDER = "ids"
LIST = "shards.parquet"

_COLUMNS = ("first", "second", "shard", "row")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class IdRun:
    """A run: the hashed ids of some shards.

    Attributes
    ----------
    id : str
        16 hex characters of the digest of column, hash and list of shards.
    column : str
        The id column.
    keys : pyarrow.StringArray, shape (n,)
        Ascending.
    rows : int64 ndarray, shape (n,)
        Rows of the shards, including those without an id.
    parts : int
        Number of parts, a power of two; each has one range of hashes, in order.
    """

    id: str
    column: str
    keys: pa.StringArray
    rows: Ids
    parts: int

    @property
    def bits(self) -> int:
        """Number of leading bits of a hash that select its part."""
        return self.parts.bit_length() - 1


def list_name(run_id: str) -> str:
    """Name of the object with the shards of a run, written last."""
    return f"{FOLDER}/{run_id}/{LIST}"


def part_name(run_id: str, number: int) -> str:
    """Name of the object with the hashes of one range."""
    return f"{FOLDER}/{run_id}/hashes-{number:05d}.parquet"


def list_runs(store: Store, names: Iterable[str] | None = None) -> list[IdRun]:
    """Read the lists of all complete runs with the hash of this version.

    Parameters
    ----------
    store : Store
    names : iterable of str, optional
        Objects of the workspace, if listed already.
    """
    there = {name for name in (store.list(FOLDER) if names is None else names) if name.startswith(f"{FOLDER}/")}
    runs: list[IdRun] = []
    for name in sorted(name for name in there if name.endswith(f"/{LIST}")):
        run = read_run(store, name)
        if run is not None and all(part_name(run.id, number) in there for number in range(run.parts)):
            runs.append(run)
    return runs


def read_run(store: Store, name: str) -> IdRun | None:
    """Read the list of a run; None if it uses another hash.

    Raises
    ------
    DamagedObjectError
        If it is malformed.
    """
    facts = read_footer(store, name).facts
    try:
        if facts["hash"] != HASH:
            return None
        column, parts = str(facts["column"]), int(facts["parts"])
    except (KeyError, TypeError, ValueError) as error:
        raise other_version(store, name, error) from error
    table = read_parquet(store, name, ["key", "rows"])
    return IdRun(
        id=name.split("/")[1],
        column=column,
        keys=pc.cast(table["key"].combine_chunks(), pa.string()),
        rows=table["rows"].to_numpy(),
        parts=parts,
    )


# ------------------------------------------------------------------------------------------------------------- choose


@dataclass(frozen=True, slots=True, eq=False)
class Chosen:
    """A run, and the shards that are read from it.

    Attributes
    ----------
    run : IdRun
    shards : int64 ndarray, shape (len(run.keys),)
        Position of each shard of the run in the requested list; -1 if not read from this run.
    """

    run: IdRun
    shards: Ids

    @property
    def wanted_rows(self) -> int:
        """Number of rows of the shards that are read from the run."""
        return int(self.run.rows[self.shards >= 0].sum())


def choose_runs(runs: Sequence[IdRun], keys: pa.StringArray) -> tuple[list[Chosen], Ids]:
    """Choose few runs that cover as many of the shards ``keys`` as possible, each shard once.

    Returns
    -------
    chosen : list of Chosen
    missing : int64 ndarray
        Positions of the keys that are in no run.
    """
    found: list[tuple[IdRun, Ids]] = []
    for run in runs:
        indices: pa.Array = pc.call_function("index_in", [run.keys], pc.SetLookupOptions(keys))
        found.append((run, indices.fill_null(-1).to_numpy().astype(np.int64)))

    def most_first(pair: tuple[IdRun, Ids]) -> tuple[int, int, str]:
        # Ties: the run with fewer other rows.
        return -int(pair[0].rows[pair[1] >= 0].sum()), int(pair[0].rows.sum()), pair[0].id

    covered = np.zeros(len(keys), dtype=bool)
    chosen: list[Chosen] = []
    for run, shards in sorted(found, key=most_first):
        new = shards >= 0
        new[new] = ~covered[shards[new]]
        if new.any():
            covered[shards[new]] = True
            chosen.append(Chosen(run, np.where(new, shards, -1)))
    return chosen, np.flatnonzero(~covered)


def runs_to_merge(chosen: Sequence[Chosen], new_rows: int) -> list[Chosen]:
    """Choose runs to merge into a new one: those up to twice as large, and those with half of their rows unused."""
    merged: list[Chosen] = []
    for item in sorted(chosen, key=lambda item: item.wanted_rows):
        rows = item.wanted_rows
        if (new_rows and rows <= 2 * new_rows) or 2 * rows < int(item.run.rows.sum()):
            merged.append(item)
            new_rows += rows
    return merged


# ---------------------------------------------------------------------------------------------------------- read, write


@dataclass(slots=True)
class RunReader:
    """Reads the buckets of a run in order, with one part in memory."""

    store: Store
    chosen: Chosen
    bits: int
    _part: int = -1
    _records: Records = field(default_factory=lambda: NO_RECORDS)
    _starts: Ids = field(default_factory=lambda: np.zeros(1, dtype=np.int64))

    def bucket(self, number: int) -> Records:
        """Read one of ``2**bits`` buckets: records of the requested shards, with their positions."""
        run = self.chosen.run
        finer = self.bits - run.bits
        if number >> finer != self._part:
            self._part = number >> finer
            self._records = _read_part(self.store, self.chosen, self._part)
            self._starts = bounds(self._records, self.bits)
        return self._records[int(self._starts[number]) : int(self._starts[number + 1])]


def _read_part(store: Store, chosen: Chosen, number: int) -> Records:
    name = part_name(chosen.run.id, number)
    table = read_parquet(store, name, list(_COLUMNS))
    first, second, shard, row = (table[column].to_numpy() for column in _COLUMNS)
    try:
        shard = chosen.shards[shard]
    except IndexError as error:
        raise other_version(store, name, error) from error
    records = records_of(first, second, shard.astype(np.uint32), row)
    return records if (chosen.shards >= 0).all() else records[shard >= 0]


class RunWriter:
    """Writes the buckets of a run in order, and its list when closed.

    Parameters
    ----------
    store : Store
    column : str
        The id column.
    keys, rows : pyarrow.StringArray and int64 ndarray, shape (n,)
        Keys and row counts of all shards in the records.
    shards : int64 ndarray
        Positions of the shards of the run.
    bits : int
        Number of bits of the buckets.
    bucket_rows : int
        Approximate largest number of rows of a part.
    """

    def __init__(
        self,
        store: Store,
        column: str,
        keys: pa.StringArray,
        rows: Ids,
        shards: Ids,
        *,
        bits: int,
        bucket_rows: int,
    ) -> None:
        self._store, self._column = store, column
        table = pl.DataFrame({"key": pl.Series(keys.take(pa.array(shards))), "rows": rows[shards], "shard": shards})
        # Sorted by key, so that the bytes do not depend on the order of the corpus.
        table = table.sort("key")
        self._table = table.select("key", "rows")
        self._numbers = np.full(len(keys), -1, dtype=np.int64)
        self._numbers[table["shard"].to_numpy()] = np.arange(len(table))
        self.id = _run_id(column, self._table)
        self._part_bits = min(bits_for(int(rows[shards].sum()), bucket_rows), bits)
        self._waiting: list[Records] = []
        self._buckets = 0
        self._per_part = 1 << (bits - self._part_bits)
        self._parts = 0

    def add(self, records: Records) -> None:
        """Add the records of the next bucket, in any order; other shards are ignored."""
        numbers = self._numbers[records["shard"]]
        mine = records_of(records["first"], records["second"], numbers.astype(np.uint32), records["row"])
        self._waiting.append(mine[numbers >= 0])
        self._buckets += 1
        if self._buckets % self._per_part == 0:
            self._write_part()

    def close(self) -> None:
        """Write the list, which completes the run."""
        facts = {"hash": HASH, "column": self._column, "parts": self._parts}
        write_parquet(self._store, list_name(self.id), self._table.to_arrow(), facts=facts)

    def _write_part(self) -> None:
        records = np.concatenate(self._waiting)
        self._waiting = []
        records = records[order_by_hash(records, records["shard"], records["row"])]
        table = pa.table({column: pa.array(np.ascontiguousarray(records[column])) for column in _COLUMNS})
        name = part_name(self.id, self._parts)
        # Only the high bytes of sorted hashes and of small numbers are compressible.
        write_parquet(
            self._store,
            name,
            table,
            facts={"run": self.id, "part": self._parts},
            byte_stream_split=_COLUMNS,
        )
        self._parts += 1


def _run_id(column: str, table: pl.DataFrame) -> str:
    state = hashlib.blake2b(digest_size=8)
    state.update(f"{HASH}\n{column}\n{len(table)}\n".encode())
    state.update((table["key"].str.join("\n").item() or "").encode())
    state.update(table["rows"].to_numpy().astype("<i8").tobytes())
    return state.hexdigest()


def order_by_hash(records: Records, *ties: NDArray[np.generic]) -> Ids:
    """Argsort ``records`` by both halves of the hash, then by ``ties``."""
    first = np.ascontiguousarray(records["first"])
    order = np.argsort(first)
    sorted_first = first[order]
    same = sorted_first[1:] == sorted_first[:-1]
    if same.any():
        # Nearly all first halves are unique; only the rest needs a slower lexicographic sort.
        some = np.flatnonzero(np.append(same, False) | np.append(False, same))
        members = order[some]
        keys = (*(tie[members] for tie in reversed(ties)), records["second"][members], first[members])
        order[some] = members[np.lexsort(keys)]
    return order


# --------------------------------------------------------------------------------------------------------------- needs


def runs_to_keep(runs: Sequence[IdRun], lists: Iterable[pa.StringArray]) -> set[str]:
    """Return the ids of runs that an update of one of these lists of shards would read."""
    by_column: dict[str, list[IdRun]] = {}
    for run in runs:
        by_column.setdefault(run.column, []).append(run)
    kept: set[str] = set()
    for keys in lists:
        for alike in by_column.values():
            kept.update(item.run.id for item in choose_runs(alike, keys)[0])
    return kept
