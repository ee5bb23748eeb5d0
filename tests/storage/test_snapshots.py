from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pytest

from latentscale.errors import WorkspaceError
from latentscale.storage.objects import Store
from latentscale.storage.parquet import read_footer, read_parquet, write_parquet
from latentscale.storage.snapshot import Snapshot
from latentscale.storage.snapshots import (
    list_snapshot_ids,
    make_snapshot,
    read_snapshot,
    superseded_name,
    without_shards,
)


def shard(store: Store, key: str, ids: list[str | None], texts: list[str] | None = None) -> tuple[str, int, int]:
    name = f"documents/{key[:2]}/{key}.parquet"
    n = len(ids)
    table = pa.table(
        {
            "row": pa.array(range(n), pa.int32()),
            "source": pa.array([f"{key}.csv"] * n),
            "source_row": pa.array(range(n), pa.int64()),
            "id": pa.array(ids, pa.string()),
            "text": pa.array(texts or [f"text {key} {i}" for i in range(n)]),
        }
    )
    return key, n, write_parquet(store, name, table, facts={}).size


def snapshot_of(
    store: Store, shards: list[tuple[str, int, int]], *, id_column: str | None, parent: Snapshot | None = None
) -> Snapshot:
    frame = pl.DataFrame(shards, schema={"key": pl.String, "rows": pl.Int64, "bytes": pl.Int64}, orient="row")
    return make_snapshot(store, frame, id_column=id_column, text_column="text", parent=parent)


def identities(snapshot: Snapshot) -> dict[str, list[int]]:
    """Row ids of the documents of each shard."""
    return {s.key: snapshot.row_ids(s.base + np.flatnonzero(snapshot.kept(s))).tolist() for s in snapshot.shards}


def test_row_ids_follow_the_order_of_the_shards(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    shards = [shard(store, "aa", ["1", "2"]), shard(store, "bb", []), shard(store, "cc", ["3"])]
    snapshot = snapshot_of(store, shards, id_column=None)
    assert [(s.key, s.base) for s in snapshot.shards] == [("aa", 0), ("cc", 2)]
    assert list(read_snapshot(store, snapshot.id).shards) == list(snapshot.shards)
    assert snapshot.documents == 3
    assert snapshot_of(store, shards, id_column=None).id == snapshot.id
    assert list_snapshot_ids(store) == [snapshot.id]


def test_a_shard_keeps_its_row_ids_when_others_come_and_go(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    a, b, c = (shard(store, key, ["x"] * 3) for key in ("aa", "bb", "cc"))
    snapshot_of(store, [a, b], id_column=None)
    later = snapshot_of(store, [c, b], id_column=None)
    assert {s.key: s.base for s in later.shards} == {"bb": 3, "cc": 6}


def test_the_last_document_of_an_id_wins_and_the_others_are_rejects(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    shards = [shard(store, "aa", ["a", "b", "a", None]), shard(store, "bb", ["b", None, "c"])]
    snapshot = snapshot_of(store, shards, id_column="id")
    assert snapshot.superseded.tolist() == [0, 1]
    assert snapshot.documents == 5
    assert [snapshot.kept(s).tolist() for s in snapshot.shards] == [[False, False, True, True], [True, True, True]]
    rejects = read_parquet(store, superseded_name(snapshot.id)).to_pylist()
    assert [(r["source"], r["source_row"], r["reason"]) for r in rejects] == [
        ("aa.csv", 0, "superseded"),
        ("aa.csv", 1, "superseded"),
    ]
    assert np.array_equal(read_snapshot(store, snapshot.id).superseded, snapshot.superseded)


def test_rows_are_found_again_by_their_ids(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    snapshot = snapshot_of(store, [shard(store, "aa", ["1", "2"]), shard(store, "bb", ["3", "4"])], id_column=None)
    found = {s.key: (rows.tolist(), offsets.tolist()) for s, rows, offsets in snapshot.locate(np.array([3, 0, 2]))}
    assert found == {"aa": ([0], [1]), "bb": ([1, 0], [0, 2])}
    with pytest.raises(WorkspaceError, match="no row_id 9"):
        list(snapshot.locate(np.array([9])))


def test_a_renamed_file_keeps_the_row_ids_of_its_documents_by_their_text(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    a, b = shard(store, "aa", [None] * 3, ["x", "y", "x"]), shard(store, "bb", [None] * 2)
    first = snapshot_of(store, [a, b], id_column=None)
    # Rewritten under another name: one text is gone, one is new, and one of the two copies is left.
    moved = shard(store, "cc", [None] * 3, ["y", "new", "x"])
    second = snapshot_of(store, [moved, b], id_column=None, parent=first)
    assert identities(second) == {"bb": [3, 4], "cc": [1, 6, 0]}
    assert identities(read_snapshot(store, second.id)) == identities(second)
    # And again, from what was carried already.
    again = shard(store, "dd", [None] * 2, ["new", "y"])
    third = snapshot_of(store, [again, b], id_column=None, parent=second)
    assert identities(third) == {"bb": [3, 4], "dd": [6, 1]}
    found = {s.key: (rows.tolist(), at.tolist()) for s, rows, at in third.locate(np.array([1, 6, 4]))}
    assert found == {"bb": ([1], [2]), "dd": ([1, 0], [0, 1])}


def test_a_rewritten_file_keeps_the_row_ids_of_its_documents_by_their_ids(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    a, b = shard(store, "aa", ["1", "2", None]), shard(store, "bb", ["3", "4"])
    first = snapshot_of(store, [a, b], id_column="id")
    changed = shard(store, "cc", ["2", "5", "4", "2"])
    second = snapshot_of(store, [b, changed], id_column="id", parent=first)
    # The last "2" of the new file is the document 1; its "4" takes over from the shard that is still there.
    assert identities(second) == {"bb": [3], "cc": [6, 4, 1]}
    assert second.superseded.tolist() == [4, 5]
    # With the file gone, the older row of "4" is the document again, and keeps its row id.
    third = snapshot_of(store, [b], id_column="id", parent=second)
    assert identities(third) == {"bb": [3, 4]}


def test_without_new_shards_the_existing_snapshot_is_returned(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    a, b = shard(store, "aa", ["1", "2"]), shard(store, "bb", ["2", "3"])
    first = snapshot_of(store, [a, b], id_column="id")
    assert snapshot_of(store, [a, b], id_column="id", parent=first).id == first.id
    # Another order lets another document of an id win.
    turned = snapshot_of(store, [b, a], id_column="id", parent=first)
    assert turned.id != first.id
    assert identities(turned) == {"aa": [0, 2], "bb": [3]}


def test_a_shard_that_left_and_comes_back_has_its_row_ids_again(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    a, b, c = (shard(store, key, [None] * 2) for key in ("aa", "bb", "cc"))
    first = snapshot_of(store, [a, b], id_column=None)
    second = snapshot_of(store, [a], id_column=None, parent=first)
    third = snapshot_of(store, [a, c], id_column=None, parent=second)
    fourth = snapshot_of(store, [a, b, c], id_column=None, parent=third)
    assert identities(fourth) == {"aa": [0, 1], "bb": [2, 3], "cc": [4, 5]}


def test_two_updates_at_once_never_give_one_row_id_to_two_documents(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    a, b, c = (shard(store, key, [None] * 2) for key in ("aa", "bb", "cc"))
    first = snapshot_of(store, [a], id_column=None)
    # Each listed another new file before the other's snapshot was there.
    elsewhere = Store(str(tmp_path / "other"))
    for name in store.list():
        elsewhere.put_bytes(name, store.read_bytes(name))
    one = snapshot_of(store, [a, b], id_column=None, parent=first)
    two = snapshot_of(elsewhere, [a, c], id_column=None, parent=first)
    for name in elsewhere.list("snapshots"):
        store.put_bytes(name, elsewhere.read_bytes(name))
    assert identities(one)["bb"] == identities(two)["cc"] == [2, 3]
    for winner in (one, two):
        after = snapshot_of(store, [a, b, c], id_column=None, parent=winner)
        ids = [row for rows in identities(after).values() for row in rows]
        assert len(set(ids)) == len(ids) == 6
        for key, rows in identities(winner).items():
            assert identities(after)[key] == rows


def test_removing_shards_keeps_the_offsets_of_the_others(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    shards = [shard(store, key, [None] * 2) for key in ("aa", "bb", "cc")]
    whole = snapshot_of(store, shards, id_column=None)
    part = without_shards(store, whole, ["bb"])
    assert identities(part) == {"aa": [0, 1], "cc": [4, 5]}
    assert identities(snapshot_of(store, shards, id_column=None, parent=part)) == identities(whole)


def test_another_list_under_the_same_id_is_an_error(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    shards = [shard(store, "aa", ["1"]), shard(store, "bb", ["2"])]
    snapshot = snapshot_of(store, shards, id_column="id")
    assert re.fullmatch("snapshot-[0-9a-f]{16}", snapshot.id)
    name = f"snapshots/{snapshot.id}.parquet"
    facts = read_footer(store, name).facts
    table = read_parquet(store, name)
    for column, values in (("rows", [1, 2]), ("order", [1, 0])):
        index = table.column_names.index(column)
        changed = table.set_column(index, table.schema.field(column), pa.array(values, table.schema.field(column).type))
        write_parquet(store, name, changed, facts=facts)
        with pytest.raises(WorkspaceError, match=r"2 documents that are not|3 documents that are not"):
            snapshot_of(store, shards, id_column="id")
    write_parquet(store, name, table, facts=facts)
    assert snapshot_of(store, shards, id_column="id").id == snapshot.id
    part = without_shards(store, snapshot, ["bb"])
    write_parquet(store, f"snapshots/{part.id}.parquet", table, facts=facts)
    with pytest.raises(WorkspaceError, match="2 shards"):
        without_shards(store, snapshot, ["bb"])


def test_a_snapshot_is_read_by_opening_its_list_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(str(tmp_path))
    snapshot = snapshot_of(store, [shard(store, "aa", ["1", "2"]), shard(store, "bb", [])], id_column="id")
    opened: list[str] = []
    whole = Store.open

    def counted(self: Store, name: str) -> Any:
        opened.append(name)
        return whole(self, name)

    monkeypatch.setattr(Store, "open", counted)
    assert list(read_snapshot(store, snapshot.id).shards) == list(snapshot.shards)
    assert opened == [f"snapshots/{snapshot.id}.parquet"]
