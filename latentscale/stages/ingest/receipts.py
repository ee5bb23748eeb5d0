"""What shards of documents say of themselves, and which of a plan are there already."""

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
# What a run reads of the shards that are done; their columns are looked at apart, and only once.
_COUNTED = (
    *("key", "rows", "rows_in", "rejected", "filtered", "unwanted", "reasons", "examples", "bytes", "vector_width"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardReceipt:
    """What one shard of documents holds; all but ``seconds`` can be read from its footer.

    Attributes
    ----------
    key, name : str
        ``<unit key>-<5 digits>``, with an ``e`` at the end of the unit's last; ``documents/<kk>/<key>.parquet``.
    unit : str
    index : int
    last : bool
    rows : int
        Documents.
    rows_in : int
        Rows that were read for it: documents, rejects and filtered rows.
    rejected, filtered : int
        Rows rejected, and rows that ``where`` or ``sample`` left out.
    unwanted : int
        Those of the filtered that ``where`` left out.
    reasons : dict of str to int
        Rejects by reason.
    examples : list of str
        The first few rejects: ``file:row reason``.
    bytes : int
        Of the object.
    columns : list of [str, str]
        Stored source columns, each with its Arrow type (:func:`latentscale.storage.arrow_types.type_name`).
    types : dict of str to list of str
        What columns of text could be read as (``readers.columns.candidate_types``), and what decides which other type
        can hold the values of columns of numbers and times (``storage.common_types.value_facts``).
    renamed : dict of str to str
        Source columns that are stored under another name.
    vector_width : int or None
    seconds : float
        0 where the shard was there already.
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
    """Key of a unit's shard."""
    return f"{unit}-{index:05d}{LAST if last else ''}"


def reject_name(key: str) -> str:
    """Object of the rows rejected with a shard of documents; it counts only where the shard is there."""
    return f"{REJECTS}/{key[:2]}/{key}.parquet"


def pending_units(units: UnitTable, listing: Listing) -> tuple[UnitTable, NDArray[np.int32]]:
    """Compare the plan with a listing of ``documents``; no object is read.

    Returns
    -------
    pending : UnitTable
        Units of which a shard is missing.
    done : int32 ndarray
        Places in ``listing.names`` of all shards of the other units, in input order.
    """
    listed, unit, index, last = _listed_shards(listing, units)
    order = np.lexsort((last, index, unit)).astype(np.int32)
    listed = listed[order]
    unit = unit[order]
    index = index[order]
    last = last[order]
    # The one that ends its unit counts where both names are there.
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
    """Of each listed shard of ``units``: its place in the listing, its unit's place, its number, whether it is last."""
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
    """Of each key of a shard: the place of its unit or -1, its number there, and whether it is the last."""
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
    """The receipts of listed shards: those that a table holds, those that had to be read, and the tables.

    The receipts from a table are in the order of ``done``, and without what only ``source_schemas`` needs.

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
    """Keys of listed shards."""
    return _sliced(listing.names.take(indices(places)), len(f"{FOLDER}/kk/"), -len(".parquet"))


def source_schemas(store: Store, keys: pa.Array | pa.ChunkedArray) -> list[tuple[pa.Schema, dict[str, Any]]]:
    """Columns and candidate types of shards, as ``readers.columns.unify_columns`` takes them.

    Each combination of a column, its type and what it could be read as comes once, where it first appears: a million
    shards give a few schemas. From the tables of receipts; shards that are in none are opened.
    """
    known, _ = read_receipts(store, FOLDER, ShardReceipt, columns=("key", "columns", "types"))
    found = known.find(keys)
    schemas: list[tuple[pa.Schema, dict[str, Any]]] = []
    seen: set[tuple[str, str, tuple[str, ...] | None]] = set()
    for columns, types in known.pairs("columns", "types", found[found >= 0]):
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
    """``key``, ``rows`` and ``bytes`` of shards, as ``make_snapshot`` takes them."""
    return pl.DataFrame(
        {
            "key": pl.Series(receipts.keys, dtype=pl.String),
            "rows": receipts.numbers("rows"),
            "bytes": receipts.numbers("bytes"),
        },
        schema={"key": pl.String, "rows": pl.Int64, "bytes": pl.Int64},
    )


def units_without(units: UnitTable, snapshot: Snapshot) -> UnitTable:
    """The units of which a snapshot has no shard; it lists whole units only, those without documents too."""
    place, number, last = _read_keys(_all_keys(snapshot), units.by_key)
    known = place >= 0
    counted = np.bincount(place[known], minlength=len(units))
    ends = np.full(len(units), -1, dtype=np.int64)
    ends[place[known & last]] = number[known & last]
    # A shard that was quarantined is missing: its unit is looked at again.
    return units.take(np.flatnonzero((ends < 0) | (counted != ends + 1)))


def with_known_shards(new: pl.DataFrame, units: UnitTable, snapshot: Snapshot) -> pl.DataFrame:
    """Add to new shards those of a snapshot whose unit is still planned, in the order of the input."""
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
