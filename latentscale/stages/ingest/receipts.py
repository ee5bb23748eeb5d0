"""Receipts of shards of documents, and which units of a plan are done."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from latentscale.stages.ingest.units import KeyIndex, UnitTable
from latentscale.storage.arrow_types import type_name, type_of
from latentscale.storage.columns import BATCH, indices
from latentscale.storage.listing import Listing
from latentscale.storage.objects import Store
from latentscale.storage.parquet import Footer, read_footer
from latentscale.storage.receipts import Receipts, list_tables, read_receipts
from latentscale.storage.snapshot import Snapshot, document_name
from latentscale.storage.snapshots import read_footers

FOLDER = "documents"
REJECTS = "rejects"
LAST = "e"
"""Ends the key of a unit's last shard, so that a listing alone says whether the unit is complete."""
# Fields that a run reads of finished shards; their columns are read separately, once.
_COUNTED = (
    *("key", "rows", "rows_in", "rejected", "filtered", "unwanted", "reasons", "examples", "bytes", "vector_width"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardReceipt:
    """Summary of one shard of documents; all but ``seconds`` is in its footer.

    Attributes
    ----------
    key, name : str
        ``<unit key>-<5 digits>``, with an ``e`` at the end of the unit's last; ``documents/<kk>/<key>.parquet``.
    unit : str
    index : int
    last : bool
    rows : int
        Number of documents.
    rows_in : int
        Number of rows read: documents, rejects and filtered rows.
    rejected, filtered : int
        Rows rejected, and rows excluded by ``where`` or ``sample``.
    unwanted : int
        Filtered rows excluded by ``where``.
    reasons : dict of str to int
        Number of rejects by reason.
    examples : list of str
        The first few rejects: ``file:row reason``.
    bytes : int
        Size of the object.
    columns : list of [str, str]
        Stored source columns, each with its Arrow type (:func:`latentscale.storage.arrow_types.type_name`).
    types : dict of str to list of str
        Types that text columns could be parsed as (``readers.columns.candidate_types``), and facts that determine which
        other types can represent numbers and times (``storage.common_types.value_facts``).
    renamed : dict of str to str
        Source columns stored under another name.
    vector_width : int or None
    seconds : float
        0 if the shard existed already.
    """

    key: str
    name: str = field(metadata={"kept": False})
    unit: str = field(metadata={"kept": False})
    index: int = field(metadata={"kept": False})
    last: bool = field(metadata={"kept": False})
    rows: int
    rows_in: int
    rejected: int
    filtered: int
    unwanted: int
    reasons: dict[str, int]
    examples: list[str]
    bytes: int
    columns: list[list[str]]
    types: dict[str, list[str]]
    renamed: dict[str, str]
    vector_width: int | None = None
    seconds: float = field(default=0.0, metadata={"kept": False})


def shard_key(unit: str, index: int, *, last: bool) -> str:
    """Build the key of a unit's shard."""
    return f"{unit}-{index:05d}{LAST if last else ''}"


def reject_name(key: str) -> str:
    """Name of the object with the rejects of a shard; it is ignored if the shard does not exist."""
    return f"{REJECTS}/{key[:2]}/{key}.parquet"


def pending_units(units: UnitTable, listing: Listing) -> tuple[UnitTable, NDArray[np.int32]]:
    """Compare the plan with a listing of ``documents``, without reading objects.

    Returns
    -------
    pending : UnitTable
        Units with a missing shard.
    done : int32 ndarray
        Positions in ``listing.names`` of all shards of the other units, in input order.
    """
    listed, unit, index, last = _listed_shards(listing, units)
    order = np.lexsort((last, index, unit)).astype(np.int32)
    listed = listed[order]
    unit = unit[order]
    index = index[order]
    last = last[order]
    # If both names exist, the one that ends its unit counts.
    twice = np.flatnonzero((unit[1:] == unit[:-1]) & (index[1:] == index[:-1]))
    if len(twice):
        listed, unit, index = (np.delete(column, twice) for column in (listed, unit, index))
        last = np.delete(last, twice)
    ends = np.full(len(units), -1, dtype=np.int32)
    np.maximum.at(ends, unit[last], index[last])
    inside = index <= ends[unit]
    there = np.bincount(unit[inside], minlength=len(units))
    whole = (ends >= 0) & (there == ends + 1)
    return units.take(np.flatnonzero(~whole)), listed[inside & whole[unit]]


def _listed_shards(
    listing: Listing, units: UnitTable
) -> tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.int32], NDArray[np.bool_]]:
    """Parse the listed shards of ``units``: positions in the listing and of the unit, index, whether it is last."""
    pattern = pc.MatchSubstringOptions(rf"^{FOLDER}/[0-9a-f]{{2}}/[0-9a-f]{{32}}-[0-9]+{LAST}?\.parquet$")
    index = units.by_key
    pieces = [(np.empty(0, np.int32), *_NOTHING)]
    for begin in range(0, len(listing), BATCH):
        names = listing.names.slice(begin, BATCH)
        listed = np.flatnonzero(_called("match_substring_regex", names, pattern))
        keys = _sliced(names.take(indices(listed)), len(f"{FOLDER}/kk/"), -len(".parquet"))
        unit, number, last = _read_keys(pa.chunked_array([keys]), index)
        known = unit >= 0
        pieces.append(((listed[known] + begin).astype(np.int32), unit[known], number[known], last[known]))
    listed, unit, number, last = (np.concatenate(column) for column in zip(*pieces, strict=True))
    return listed, unit, number, last


def _read_keys(
    keys: pa.ChunkedArray, index: KeyIndex
) -> tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.bool_]]:
    """Parse keys of shards: position of the unit or -1, index in it, and whether it is the last."""
    pieces = [_NOTHING]
    for begin in range(0, len(keys), BATCH):
        some = pa.concat_arrays(keys.slice(begin, BATCH).cast(pa.large_string()).chunks)
        tails = _sliced(some, 33, None)
        last = _called("ends_with", tails, pc.MatchSubstringOptions(LAST))
        digits = pc.call_function("utf8_rtrim", [tails], pc.TrimOptions(LAST))
        pieces.append((index.places(_sliced(some, 0, 32)), digits.cast(pa.int32()).to_numpy(), last))
    unit, number, last = (np.concatenate(column) for column in zip(*pieces, strict=True))
    return unit, number, last


_NOTHING = (np.empty(0, np.int32), np.empty(0, np.int32), np.empty(0, np.bool_))


def _called(function: str, values: pa.Array, options: pc.FunctionOptions) -> NDArray[Any]:
    return pc.call_function(function, [values], options).to_numpy(zero_copy_only=False)


def _sliced(values: pa.Array, start: int, stop: int | None) -> pa.Array:
    return pc.call_function("utf8_slice_codeunits", [values], pc.SliceOptions(start, stop))


def finished_receipts(
    store: Store, listing: Listing, done: NDArray[np.int32]
) -> tuple[Receipts, Receipts, dict[str, int]]:
    """Return receipts of listed shards: those from tables of receipts, those read from shards, and the tables.

    Receipts from tables are in the order of ``done``, without the fields that only ``source_schemas`` needs.

    Parameters
    ----------
    done : int32 ndarray
        Positions in ``listing.names``.
    """
    read = Receipts(ShardReceipt)
    if not len(done):
        return Receipts(ShardReceipt), read, list_tables(store, FOLDER)
    known, tables = read_receipts(store, FOLDER, ShardReceipt, columns=_COUNTED)
    found = np.concatenate(
        [known.find(_shard_keys(listing, done[begin : begin + BATCH])) for begin in range(0, len(done), BATCH)]
    )
    missing = np.flatnonzero(found < 0)
    for begin in range(0, len(missing), BATCH):
        some = done[missing[begin : begin + BATCH]]
        objects: list[str] = listing.names.take(indices(some)).to_pylist()
        footers = read_footers(store, objects)
        sizes = listing.sizes[some].tolist()
        read.add(receipt_of(name, footer, size) for name, footer, size in zip(objects, footers, sizes, strict=True))
    return known.take(found[found >= 0]), read, tables


def _shard_keys(listing: Listing, places: NDArray[np.int32]) -> pa.Array:
    """Return the keys of listed shards."""
    return _sliced(listing.names.take(indices(places)), len(f"{FOLDER}/kk/"), -len(".parquet"))


def source_schemas(store: Store, keys: pa.Array | pa.ChunkedArray) -> list[tuple[pa.Schema, dict[str, Any]]]:
    """Return columns and candidate types of shards, for ``readers.columns.unify_columns``.

    Each combination of column, type and candidate types is returned once, in order of appearance: a million shards have
    a few schemas. They are read from tables of receipts, or from shards that are in none.
    """
    known, _ = read_receipts(store, FOLDER, ShardReceipt, columns=("key", "columns", "types"))
    found = known.find(keys)
    schemas: list[tuple[pa.Schema, dict[str, Any]]] = []
    seen: set[tuple[str, str, tuple[str, ...] | None]] = set()
    for columns, types in known.distinct_pairs("columns", "types", found[found >= 0]):
        new: list[tuple[str, str]] = []
        for name, kind in columns:
            allowed = types.get(name)
            combination = (name, kind, None if allowed is None else tuple(allowed))
            if combination not in seen:
                seen.add(combination)
                new.append((name, kind))
        if new:
            held = {name: types[name] for name, _ in new if name in types}
            schemas.append((pa.schema([(name, type_of(kind)) for name, kind in new]), {"types": held}))
    missing = np.flatnonzero(found < 0)
    if len(missing):
        footers = read_footers(store, [document_name(key) for key in keys.take(indices(missing)).to_pylist()])
        schemas.extend((footer.schema, footer.facts) for footer in footers)
    return schemas


def read_receipt(store: Store, name: str) -> ShardReceipt:
    """Read the receipt of a shard of documents.

    Raises
    ------
    DamagedObjectError
        If the object is damaged.
    """
    info = store.info(name)
    return receipt_of(name, read_footer(store, name), info.size if info else 0)


def in_input_order(units: UnitTable, receipts: Receipts) -> Receipts:
    """Sort receipts by their unit's position in the plan, then by index: the order of documents in a snapshot."""
    unit, number, _ = _read_keys(receipts.keys, units.by_key)
    return receipts.take(np.lexsort((number, unit)))


def shard_frame(receipts: Receipts) -> pl.DataFrame:
    """Build the table of ``key``, ``rows`` and ``bytes`` for ``make_snapshot``."""
    return pl.DataFrame(
        {
            "key": pl.Series(receipts.keys, dtype=pl.String),
            "rows": receipts.numbers("rows"),
            "bytes": receipts.numbers("bytes"),
        },
        schema={"key": pl.String, "rows": pl.Int64, "bytes": pl.Int64},
    )


def units_without(units: UnitTable, snapshot: Snapshot) -> UnitTable:
    """Return the units that a snapshot does not contain; it lists whole units, including those without documents."""
    place, number, last = _read_keys(_all_keys(snapshot), units.by_key)
    known = place >= 0
    counted = np.bincount(place[known], minlength=len(units))
    ends = np.full(len(units), -1, dtype=np.int64)
    ends[place[known & last]] = number[known & last]
    # A quarantined shard is missing: its unit is planned again.
    return units.take(np.flatnonzero((ends < 0) | (counted != ends + 1)))


def with_known_shards(new: pl.DataFrame, units: UnitTable, snapshot: Snapshot) -> pl.DataFrame:
    """Combine new shards with those of a snapshot whose units are still planned, in input order."""
    known = _all_keys(snapshot)
    added = pa.array(new["key"], pa.string())
    again = pc.call_function("is_in", [known], pc.SetLookupOptions(added)).to_numpy()
    keys = pa.chunked_array([*known.chunks, added], pa.string())
    nothing = np.zeros(len(snapshot.empty), dtype=np.int64)
    place, number, _ = _read_keys(keys, units.by_key)
    order = np.lexsort((number, place))
    order = order[(place >= 0)[order] & ~np.append(again, np.zeros(len(new), dtype=bool))[order]]
    return pl.DataFrame(
        {
            "key": pl.Series(keys.take(indices(order))),
            "rows": np.concatenate([snapshot.shards.rows, nothing, new["rows"].to_numpy()])[order],
            "bytes": np.concatenate([snapshot.shards.bytes, nothing, new["bytes"].to_numpy()])[order],
        },
        schema=new.schema,
    )


def _all_keys(snapshot: Snapshot) -> pa.ChunkedArray:
    """Keys of the shards of a snapshot, with and without documents."""
    return pa.chunked_array([snapshot.shards.keys, pa.array(snapshot.empty, pa.string())], pa.string())


def receipt_of(name: str, footer: Footer, size: int, *, seconds: float = 0.0) -> ShardReceipt:
    facts = footer.facts
    return ShardReceipt(
        key=name.rsplit("/", 1)[-1].removesuffix(".parquet"),
        name=name,
        unit=facts["unit"],
        index=facts["index"],
        last=facts["last"],
        rows=footer.rows,
        rows_in=facts["rows_in"],
        rejected=facts["rejected"],
        filtered=sum(facts["filtered"].values()),
        unwanted=facts["filtered"]["where"],
        reasons=facts["reasons"],
        examples=facts["examples"],
        bytes=size,
        columns=[[one.name, type_name(one.type)] for one in list(footer.schema)[3:]],
        types=facts.get("types", {}),
        renamed=facts["renamed"],
        vector_width=facts["vector_width"],
        seconds=seconds,
    )
