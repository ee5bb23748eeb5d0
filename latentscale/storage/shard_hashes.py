"""The hashes of one column of one shard, written by workers and merged into a sorted run of hashes later.

Both the hashes and the object's name are determined by the shard and the column, so an existing object is reused.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from latentscale.storage.common_types import named_zones
from latentscale.storage.hashing import HASH, Words, hash_strings
from latentscale.storage.id_runs import FOLDER
from latentscale.storage.objects import Store
from latentscale.storage.parquet import read_parquet, write_parquet

_COLUMNS = ("first", "second")
_PREFIX = f"{FOLDER}/shards-"


@dataclass(frozen=True, slots=True, eq=False)
class Hashes:
    """The hashes of the values of a column.

    Attributes
    ----------
    first, second : uint64 ndarray, shape (n,)
        The halves of the 128-bit hashes; undefined where ``there`` is False.
    there : bool ndarray, shape (n,)
        Whether a row has a value, which is neither null nor blank.
    """

    first: Words
    second: Words
    there: NDArray[np.bool_]


def hash_values(column: pa.ChunkedArray) -> Hashes:
    """Hash a column of a shard of documents.

    Blank values count as missing, since CSV has no other way to express a missing id.
    """
    values = strings_of(column)
    empty = pc.call_function("equal", [pc.call_function("binary_length", [values]), pa.scalar(0)])
    blank = pc.call_function("or", [empty, pc.call_function("utf8_is_space", [values])])
    first, second = hash_strings(values)
    return Hashes(first, second, ~np.asarray(blank.fill_null(True)))


def strings_of(column: pa.ChunkedArray) -> pa.Array:
    """Convert a column to one array of strings; numbers and dates as polars formats them, bytes as hex digits."""
    column = column.cast(named_zones(column.type))
    if pa.types.is_binary(column.type):
        return pl.Series(pl.from_arrow(column)).bin.encode("hex").to_arrow().cast(pa.large_string())
    if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
        return column.combine_chunks()
    return pl.Series(pl.from_arrow(column)).cast(pl.String).to_arrow().cast(pa.large_string())


def hashes_folder(column: str) -> str:
    """Return the folder of the hashes of a column."""
    state = hashlib.blake2b(f"{HASH}\n{column}".encode(), digest_size=8)
    return f"{_PREFIX}{state.hexdigest()}"


def is_of_shard(name: str) -> bool:
    """Whether an object contains the hashes of a shard's column."""
    return name.startswith(_PREFIX)


def hashes_name(column: str, key: str) -> str:
    """Return the name of the object with the hashes of one shard's column."""
    return f"{hashes_folder(column)}/{key[:2]}/{key}.parquet"


def write_hashes(store: Store, column: str, key: str, hashes: Hashes) -> None:
    """Write the hashes of a shard: 16 bytes per row, in row order, null where there is no value."""
    mask = None if hashes.there.all() else ~hashes.there
    table = pa.table(
        {name: pa.array(getattr(hashes, name), mask=mask) for name in _COLUMNS},
        schema=pa.schema([(name, pa.uint64()) for name in _COLUMNS]),
    )
    facts = {"hash": HASH, "column": column, "shard": key}
    # Hashes do not compress; with BYTE_STREAM_SPLIT no time is lost on a search for repeats.
    write_parquet(store, hashes_name(column, key), table, facts=facts, byte_stream_split=_COLUMNS)


def read_hashes(store: Store, column: str, key: str) -> Hashes:
    """Read the hashes of a shard.

    Raises
    ------
    MissingObjectError
        If they do not exist.
    DamagedObjectError
        If they cannot be read.
    """
    table = read_parquet(store, hashes_name(column, key), _COLUMNS)
    there = np.asarray(table["first"].is_valid())
    first, second = (table[name].fill_null(0).to_numpy() for name in _COLUMNS)
    return Hashes(first, second, there)


def hashed_keys(store: Store, column: str) -> set[str]:
    """Return the keys of the shards that have stored hashes."""
    names = store.list(hashes_folder(column), brief=True).names.to_pylist()
    return {str(name).rsplit("/", 1)[-1].removesuffix(".parquet") for name in names}


def delete_hashes(store: Store, column: str, keys: pa.StringArray) -> None:
    """Delete the hashes of shards after they were merged."""
    held = hashed_keys(store, column)
    if held:
        store.delete([hashes_name(column, key) for key in keys.to_pylist() if key in held])
