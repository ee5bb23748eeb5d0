from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from latentscale.errors import WorkspaceError
from latentscale.storage.objects import Store
from latentscale.storage.parquet import read_parquet, write_parquet
from latentscale.storage.snapshots import list_snapshots, make_snapshot, read_snapshot, superseded_name


def shard(store: Store, key: str, ids: list[str | None]) -> tuple[str, str, int, int]:
    name = f"documents/{key[:2]}/{key}.parquet"
    n = len(ids)
    table = pa.table(
        {
            "row": pa.array(range(n), pa.int32()),
            "source": pa.array([f"{key}.csv"] * n),
            "source_row": pa.array(range(n), pa.int64()),
            "id": pa.array(ids, pa.string()),
        }
    )
    return key, name, n, write_parquet(store, name, table, facts={}).size


def test_row_ids_follow_the_order_of_the_shards(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    shards = [shard(store, "aa", ["1", "2"]), shard(store, "bb", []), shard(store, "cc", ["3"])]
    snapshot = make_snapshot(store, shards, id_column=None)
    assert [(s.key, s.base) for s in snapshot.shards] == [("aa", 0), ("cc", 2)]
    assert read_snapshot(store, snapshot.id).shards == snapshot.shards
    assert snapshot.documents == 3
    assert make_snapshot(store, shards, id_column=None).id == snapshot.id
    assert len(list_snapshots(store)) == 1


def test_a_shard_keeps_its_row_ids_when_others_come_and_go(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    a, b, c = (shard(store, key, ["x"] * 3) for key in ("aa", "bb", "cc"))
    make_snapshot(store, [a, b], id_column=None)
    later = make_snapshot(store, [c, b], id_column=None)
    assert {s.key: s.base for s in later.shards} == {"bb": 3, "cc": 6}


def test_the_last_document_of_an_id_wins_and_the_others_are_rejects(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    shards = [shard(store, "aa", ["a", "b", "a", None]), shard(store, "bb", ["b", None, "c"])]
    snapshot = make_snapshot(store, shards, id_column="id")
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
    snapshot = make_snapshot(store, [shard(store, "aa", ["1", "2"]), shard(store, "bb", ["3", "4"])], id_column=None)
    found = {s.key: (rows.tolist(), places.tolist()) for s, rows, places in snapshot.locate(np.array([3, 0, 2]))}
    assert found == {"aa": ([0], [1]), "bb": ([1, 0], [0, 2])}
    with pytest.raises(WorkspaceError, match="no row_id 9"):
        list(snapshot.locate(np.array([9])))
