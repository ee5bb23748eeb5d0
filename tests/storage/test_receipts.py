"""Tables of receipts: written and read once, with the listing as the authority."""

from __future__ import annotations

import json
import threading
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from latentscale.stages.embed_receipt import EmbedReceipt
from latentscale.storage import key_index
from latentscale.storage import receipts as module
from latentscale.storage.objects import Store
from latentscale.storage.receipts import (
    Receipts,
    ReceiptWriter,
    list_tables,
    read_receipts,
    receipt_schema,
    write_receipts,
)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(str(tmp_path))


def receipt(number: int, **values) -> EmbedReceipt:
    known = {"rows": 10, "embedded": 9, "unique": 8, "tokens": 50, "unknown": 1, "truncated": 0, "dim": 4}
    return EmbedReceipt(key=f"{number:032x}", **{**known, "languages": {"English": 5}, **values})


def keys(*numbers: int) -> list[str]:
    return [f"{number:032x}" for number in numbers]


def receipts(*numbers: int) -> Receipts:
    made = Receipts(EmbedReceipt)
    made.add(receipt(number) for number in numbers)
    return made


def test_facts_of_a_single_run_are_not_stored() -> None:
    assert "seconds" not in receipt_schema(EmbedReceipt).names
    assert receipt_schema(EmbedReceipt).field("key").type == pa.string()


def test_tables_are_read_back_and_shards_found_by_key(store: Store) -> None:
    write_receipts(store, "embedding-x", receipts(1, 2, 3), {})
    known, tables = read_receipts(store, "embedding-x", EmbedReceipt)
    assert len(tables) == 1
    assert tables == {name: info.size for name, info in store.list("receipts").items()}
    assert known.find(pa.array(keys(3, 9, 1))).tolist() == [2, -1, 0]
    assert known.find(pa.array([], pa.string())).tolist() == []
    assert Receipts(EmbedReceipt).find(pa.array(keys(1))).tolist() == [-1]
    assert (known.total("rows"), known.total("embedded")) == (30, 27)
    assert known.sum_by_key("languages") == {"English": 15}
    assert known.take(np.array([2])).keys.to_pylist() == keys(3)


def test_shards_are_found_where_hashes_collide(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    hashes = key_index.hash_keys
    monkeypatch.setattr(key_index, "hash_keys", lambda keys: hashes(keys) & np.uint64(1))
    held = receipts(*range(50), 7, 8, 9)
    assert held.find(pa.array(keys(49, 3, 99))).tolist() == [49, 3, -1]
    assert held.unique().keys.to_pylist() == keys(*range(50))


def test_the_order_of_receipts_does_not_alter_their_table(store: Store) -> None:
    other = write_receipts(store, "documents", receipts(3, 1, 2), {})
    assert write_receipts(store, "documents", receipts(1, 2, 3), {}) == other
    assert read_receipts(store, "documents", EmbedReceipt)[0].keys.to_pylist() == keys(1, 2, 3)


def test_some_columns_can_be_read_without_the_others(store: Store) -> None:
    write_receipts(store, "documents", receipts(1, 2), {})
    known, _ = read_receipts(store, "documents", EmbedReceipt, columns=("key", "dim"))
    assert known.table.column_names == ["key", "dim"]
    assert known.concat(receipts(3)).numbers("dim").tolist() == [4, 4, 4]


def test_tables_stay_few_and_no_receipt_is_lost(store: Store) -> None:
    chance = np.random.default_rng(0)
    tables: dict[str, int] = {}
    end = 0
    for _ in range(50):
        begin, end = end, end + int(chance.integers(1, 60))
        tables = write_receipts(store, "documents", receipts(*range(begin, end)), tables)
        sizes = sorted(tables.values())
        assert all(2 * small < large for small, large in pairwise(sizes))
    assert tables == list_tables(store, "documents")
    assert sorted(read_receipts(store, "documents", EmbedReceipt)[0].keys.to_pylist()) == keys(*range(end))


def test_a_large_table_is_not_written_again_for_a_small_one(store: Store) -> None:
    tables = write_receipts(store, "documents", receipts(*range(5_000)), {})
    large = set(tables)
    for night in range(8):
        tables = write_receipts(store, "documents", receipts(10_000 + night), tables)
        assert large < set(tables)
        assert len(tables) <= 4


def test_a_receipt_that_two_runs_wrote_counts_once(store: Store) -> None:
    write_receipts(store, "documents", receipts(1, 2), {})
    write_receipts(store, "documents", receipts(2, 3), {})
    known, tables = read_receipts(store, "documents", EmbedReceipt)
    assert (len(tables), len(known), known.total("rows")) == (2, 3, 30)


def test_a_table_of_another_version_is_passed_over(store: Store) -> None:
    from latentscale.storage.parquet import write_parquet

    write_parquet(store, "receipts/documents/old.parquet", pa.table({"key": ["a"], "rows": [1]}), facts={})
    known, tables = read_receipts(store, "documents", EmbedReceipt)
    assert (len(known), len(tables)) == (0, 1)
    write_receipts(store, "documents", receipts(1), tables)
    assert read_receipts(store, "documents", EmbedReceipt)[0].keys.to_pylist() == keys(1)


def test_a_table_that_vanishes_between_listing_and_reading_is_absent(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_receipts(store, "documents", receipts(1, 2), {})
    write_receipts(store, "documents", receipts(3), {})
    gone = max(list_tables(store, "documents").items(), key=lambda item: item[1])[0]
    opened = Store.open

    def merged_meanwhile(self: Store, name: str):
        if name == gone:
            self.delete([name])
        return opened(self, name)

    monkeypatch.setattr(Store, "open", merged_meanwhile)
    known, tables = read_receipts(store, "documents", EmbedReceipt)
    assert gone in tables
    assert known.keys.to_pylist() == keys(3)
    # What was listed and is gone is not missed when it is to be merged.
    write_receipts(store, "documents", receipts(4), tables)
    assert sorted(read_receipts(store, "documents", EmbedReceipt)[0].keys.to_pylist()) == keys(3, 4)


def test_a_damaged_table_is_named(store: Store) -> None:
    from latentscale.errors import DamagedObjectError

    (name,) = write_receipts(store, "documents", receipts(1, 2), {})
    store.put_bytes(name, b"PAR1 and no more")
    with pytest.raises(DamagedObjectError, match=name):
        read_receipts(store, "documents", EmbedReceipt)


def test_runs_that_merge_at_once_lose_no_receipt(store: Store) -> None:
    failures: list[BaseException] = []
    begin = threading.Barrier(3)

    def work(worker: int) -> None:
        try:
            begin.wait()
            for number in range(8):
                _, tables = read_receipts(store, "documents", EmbedReceipt)
                write_receipts(store, "documents", receipts(100 * worker + number), tables)
        except BaseException as error:  # noqa: BLE001 - a thread's failure must fail the test
            failures.append(error)

    threads = [threading.Thread(target=work, args=(worker,)) for worker in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    known, tables = read_receipts(store, "documents", EmbedReceipt)
    assert sorted(known.keys.to_pylist()) == sorted(keys(*(100 * w + n for w in range(3) for n in range(8))))
    assert len(tables) < 20


def test_a_run_stores_receipts_periodically(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "WRITTEN_EVERY", 0.0)
    new = receipts(1, 2)

    def work() -> None:
        with ReceiptWriter(store, "documents", new, {}) as writer:
            writer.add(receipt(3))
            assert read_receipts(store, "documents", EmbedReceipt)[0].keys.to_pylist() == keys(1, 2, 3)
            monkeypatch.setattr(module, "WRITTEN_EVERY", 60.0)
            writer.add(receipt(4))
            assert len(read_receipts(store, "documents", EmbedReceipt)[0]) == 3
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        work()
    assert sorted(read_receipts(store, "documents", EmbedReceipt)[0].keys.to_pylist()) == keys(1, 2, 3, 4)
    assert new.keys.to_pylist() == keys(1, 2, 3, 4)


def test_different_values_come_in_order_of_appearance() -> None:
    made = Receipts(EmbedReceipt)
    made.add([receipt(1), receipt(2, dim=5), receipt(3)])
    assert list(made.distinct("languages")) == [({"English": 5}, 3)]
    assert made.numbers("dim").tolist() == [4, 5, 4]
    assert made.concat(receipts(4)).total("rows") == 40


def test_values_that_no_two_shards_share_are_counted_and_kept(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_GROUP_ROWS", 64)
    monkeypatch.setattr(module, "_CHUNK", 50)
    made = Receipts(EmbedReceipt)
    for number in range(300):
        made.add([receipt(number, languages={"English": number, f"other-{number % 7}": 2})])
    tables = write_receipts(store, "documents", made, {})
    write_receipts(store, "documents", receipts(*range(300, 600)), tables)
    known, _ = read_receipts(store, "documents", EmbedReceipt)
    known = known.take(np.argsort(np.array(known.keys.to_pylist())))
    assert [value for value, _ in known.distinct("languages")][:2] == [
        {"English": 0, "other-0": 2},
        {"English": 1, "other-1": 2},
    ]
    assert sum(count for _, count in known.distinct("languages")) == 600
    tally = known.sum_by_key("languages")
    assert tally["English"] == sum(range(300)) + 300 * 5
    assert tally["other-6"] == 2 * 42
    few = list(known.distinct_pairs("languages", "languages", np.array([599, 598, 2])))
    assert few == [({"English": 5}, {"English": 5}), ({"English": 2, "other-2": 2}, {"English": 2, "other-2": 2})]


def test_each_row_group_has_the_texts_of_its_own_rows_only(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_GROUP_ROWS", 100)
    made = Receipts(EmbedReceipt)
    made.add([receipt(number, languages={f"language-{number:06d}": 1}) for number in range(1_000)])
    texts = len(json.dumps({"language-000000": 1})) * 1_000
    ((_, size),) = write_receipts(store, "documents", made, {}).items()
    chunks = read_receipts(store, "documents", EmbedReceipt)[0].table["languages"].chunks
    assert len(chunks[0].dictionary) == 1_000
    assert size < 3 * texts
    # A tenth of them does not bring the texts of the others along.
    part = made.take(np.arange(100))
    ((_, small),) = write_receipts(store, "part", part, {}).items()
    assert small < size / 5
