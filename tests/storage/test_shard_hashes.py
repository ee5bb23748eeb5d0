"""Hashes of one shard: which rows have one, and the lifetime of their objects."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from latentscale.stages.hash_column import HashWorker
from latentscale.storage.hashed_rows import HashHere, hash_buckets, hashed_rows, kept_rows
from latentscale.storage.hashing import hash_strings
from latentscale.storage.objects import Store
from latentscale.storage.parquet import write_parquet
from latentscale.storage.shard_hashes import (
    delete_hashes,
    hash_values,
    hashed_keys,
    hashes_folder,
    hashes_name,
    read_hashes,
)
from latentscale.storage.snapshot import Ids, ShardTable, document_name
from latentscale.storage.spool import Records

SHARDS = [["a", None, "b" * 400], [" ", "a", "\u00a0"], ["c", "d", "e"]]


@pytest.fixture
def shards(tmp_path: Path) -> tuple[Store, ShardTable]:
    store = Store(str(tmp_path))
    keys = [f"{number:02d}{'x' * 14}" for number in range(len(SHARDS))]
    for key, values in zip(keys, SHARDS, strict=True):
        write_parquet(store, document_name(key), pa.table({"id": pa.array(values, pa.string())}), facts={})
    rows = np.array([len(values) for values in SHARDS], dtype=np.int64)
    return store, ShardTable(keys=pa.array(keys, pa.string()), rows=rows, bases=np.cumsum(rows) - rows, bytes=rows)


@given(st.lists(st.one_of(st.none(), st.text(max_size=4), st.text(" \t\n\u00a0\u2003\u200b\u0085", max_size=3))))
def test_null_and_white_space_are_no_values(values: list[str | None]) -> None:
    hashes = hash_values(pa.chunked_array([pa.array(values, pa.string())]))
    assert hashes.there.tolist() == [value is not None and value.strip() != "" for value in values]


def test_kept_hashes_are_those_of_the_texts_and_the_same_bytes_each_time(shards: tuple[Store, ShardTable]) -> None:
    store, table = shards
    worker = HashWorker(store, "id")
    receipts = [worker(shard) for shard in table]
    assert [(one.key, one.rows) for one in receipts] == [(shard.key, shard.rows) for shard in table]
    held = {name: store.read_bytes(name) for name in store.list(hashes_folder("id"))}
    assert sorted(held) == sorted(hashes_name("id", shard.key) for shard in table)
    assert [one.seconds for one in map(worker, table)] == [0.0] * 3, "they are there"
    store.delete(list(held))
    for shard in reversed(table):
        worker(shard)
    assert {name: store.read_bytes(name) for name in store.list(hashes_folder("id"))} == held
    read = read_hashes(store, "id", table[0].key)
    assert read.there.tolist() == [True, False, True]
    wanted = hash_strings(pa.array(SHARDS[0]))
    assert [(read.first[row], read.second[row]) for row in (0, 2)] == [
        (wanted[0][row], wanted[1][row]) for row in (0, 2)
    ]


def test_rows_from_kept_hashes_are_those_of_the_shards(shards: tuple[Store, ShardTable]) -> None:
    store, table = shards
    numbers = np.array([2, 0, 1])
    wanted = np.concatenate(list(hashed_rows(store, table, numbers, "id")))
    for shard in table:
        HashWorker(store, "id")(shard)
    # One that another run has deleted, and one that was damaged.
    store.delete([hashes_name("id", table[0].key)])
    path = Path(store.path(hashes_name("id", table[1].key)))
    content = bytearray(path.read_bytes())
    content[len(content) // 3] ^= 1
    path.write_bytes(content)
    assert np.array_equal(np.concatenate(list(kept_rows(store, table, numbers, "id"))), wanted)
    # No shard is read where its hashes are there.
    store.delete([document_name(table[2].key)])
    assert np.array_equal(np.concatenate(list(kept_rows(store, table, numbers, "id"))), wanted)


class Kept(HashHere):
    """The hashes are there."""

    def hashes(self, shards: ShardTable, numbers: Ids, column: str) -> Iterator[Records]:
        return kept_rows(self._store, shards, numbers, column)

    def forget(self, shards: ShardTable, numbers: Ids, column: str) -> None:
        delete_hashes(self._store, column, shards.take(numbers).keys)


def test_a_run_of_hashes_absorbs_only_those_of_its_shards(shards: tuple[Store, ShardTable]) -> None:
    store, table = shards
    for shard in table:
        HashWorker(store, "id")(shard)
    some = table.take(np.array([0, 1]))
    assert sum(map(len, hash_buckets(store, some, "id", hasher=Kept(store)))) == 3
    assert hashed_keys(store, "id") == {table[2].key}
    delete_hashes(store, "another", table.keys)
    assert hashed_keys(store, "id") == {table[2].key}
