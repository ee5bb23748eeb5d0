"""Receipts: `verify` finds modified ones, `gc` deletes unused ones."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pytest

import latentscale
from latentscale.errors import DamagedObjectError
from latentscale.labelers import Label
from latentscale.labelers.receipts import read_receipt, receipt_name, write_receipt
from latentscale.storage.artifacts import ArtifactWriter, Record, list_records, read_table
from latentscale.storage.listing import Listing
from latentscale.storage.objects import Store
from latentscale.storage.parquet import encode_table, read_footer, read_parquet
from latentscale.storage.provenance import measured
from latentscale.upkeep.garbage import Kind
from latentscale.upkeep.gc import delete_garbage, find_garbage
from latentscale.upkeep.verify import verify_workspace

SETTINGS: dict[str, Any] = {
    "ingest": {"shard_rows": 50},
    "project": {"n_epochs": 30},
    "cluster": {"min_cluster_size": 10},
    "publish": {"viewer": False},
}
KEY, OTHER_KEY = "ab" * 16, "cd" * 16
LABEL = Label(label="Flüsse & boats", source="model", details={"tokens": 12, "tried": [0.5, None]})


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, demo: pl.DataFrame) -> Path:
    """200 documents embedded in two ways; the newer map grew by 60."""
    folder = tmp_path_factory.mktemp("receipts")
    (folder / "corpus").mkdir()
    out = folder / "made"
    demo.head(200).write_ndjson(folder / "corpus" / "a.jsonl")
    latentscale.run(folder / "corpus", out=out, progress="quiet", embed={"max_tokens": 16}, **SETTINGS)
    latentscale.run(folder / "corpus", out=out, progress="quiet", **SETTINGS)
    demo.slice(200, 60).write_ndjson(folder / "corpus" / "b.jsonl")
    latentscale.open(out).update()
    return out


@pytest.fixture
def workspace(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "copy"))


@pytest.fixture
def store(workspace: Path) -> Store:
    return Store(str(workspace))


def grow_old(workspace: Path, below: str = "") -> None:
    for path in (workspace / below).rglob("*"):
        if path.is_file():
            moment = path.stat().st_mtime - 30 * 86_400
            os.utime(path, (moment, moment))


def garbage(store: Store, **options: Any) -> Mapping[str, Kind]:
    return {item.info.name: item.kind for item in find_garbage(store, **options).garbage}


def tables(store: Store, group: str = "") -> list[str]:
    return list(store.list(f"receipts/{group}" if group else "receipts"))


def labels_from(store: Store, key: str) -> Record:
    """Labels as a labeler that keeps receipts leaves them: the keys of the receipts are in their table."""
    existing = next(record for record in list_records(store) if record.kind == "labels")
    table = read_table(store, existing, "labels")
    table = table.set_column(table.column_names.index("receipt"), "receipt", pa.array([key] * table.num_rows))
    clusters = next(record for record in list_records(store) if record.id in existing.parents)
    writer = ArtifactWriter(store, "labels", existing.request | {"labeler": {"key": key}}, [clusters], run=None)
    writer.put_table("labels", table)
    with measured() as cost:
        pass
    return writer.commit(counts={"labels": table.num_rows}, cost=cost)


# ------------------------------------------------------------------------------------------------------------ verify


def test_every_flipped_byte_of_a_table_is_found_and_the_advice_mends_it(workspace: Path, store: Store) -> None:
    groups = {name.split("/")[1] for name in tables(store)}
    assert len(groups) == 3
    for group in groups:
        name = tables(store, group)[0]
        whole = store.read_bytes(name)
        for position in range(0, len(whole), max(1, len(whole) // 12)):
            store.put_bytes(name, whole[:position] + bytes([whole[position] ^ 4]) + whole[position + 1 :])
            (fault,) = verify_workspace(store).faults
            assert fault.object == name
            assert fault.next.startswith("latentscale repair")
        store.delete([name])
    assert verify_workspace(store).faults == []
    latentscale.open(workspace).update()
    assert verify_workspace(store).faults == []


def test_a_damaged_table_is_found_without_reading_data(store: Store) -> None:
    name = tables(store)[0]
    store.put_bytes(name, store.read_bytes(name)[:-9])
    assert [fault.object for fault in verify_workspace(store, quick=True).faults] == [name]


@pytest.mark.parametrize("group", ["documents", "embedding"])
def test_a_table_that_contradicts_a_shard_is_found_and_one_of_deleted_shards_is_no_fault(
    store: Store, group: str
) -> None:
    name = next(name for name in tables(store) if name.split("/")[1].startswith(group))
    table, facts = read_parquet(store, name), read_footer(store, name).facts

    def rewrite(column: str, values: Any) -> str:
        changed = table.set_column(table.column_names.index(column), column, values)
        data = encode_table(changed, facts=facts)
        other = f"{name.rpartition('/')[0]}/{hashlib.sha256(data).hexdigest()[:16]}.parquet"
        store.put_bytes(other, data)
        return other

    gone = rewrite(
        "key", pc.call_function("binary_replace_slice", [table["key"]], pc.ReplaceSliceOptions(0, 4, "0000"))
    )
    assert verify_workspace(store).faults == []
    store.delete([gone])
    wrong = rewrite("rows", pc.call_function("add", [table["rows"], pa.scalar(1)]))
    (fault,) = verify_workspace(store).faults
    assert fault.object == wrong
    assert "which holds" in fault.problem


def test_every_flipped_byte_of_the_receipt_of_a_label_is_found(store: Store) -> None:
    write_receipt(store, KEY, LABEL)
    assert read_receipt(store, KEY) == LABEL
    assert verify_workspace(store).faults == []
    whole = store.read_bytes(receipt_name(KEY))
    for position in range(len(whole)):
        store.put_bytes(receipt_name(KEY), whole[:position] + bytes([whole[position] ^ 1]) + whole[position + 1 :])
        with pytest.raises(DamagedObjectError, match="is not the receipt of a label"):
            read_receipt(store, KEY)
    (fault,) = verify_workspace(store).faults
    assert fault.object == receipt_name(KEY)
    assert "the cluster is named again" in fault.next


def test_a_receipt_under_another_key_is_found(store: Store) -> None:
    write_receipt(store, KEY, LABEL)
    store.put_bytes(f"label-receipts/xy/{KEY}.json", store.read_bytes(receipt_name(KEY)))
    (fault,) = verify_workspace(store, quick=True).faults
    assert fault.object == f"label-receipts/xy/{KEY}.json"


# ---------------------------------------------------------------------------------------------------------------- gc


def test_tables_go_with_their_embedding(workspace: Path, store: Store) -> None:
    grow_old(workspace)
    before = tables(store)
    assert garbage(store) == {}
    opened = latentscale.open(workspace)
    first, current = opened.maps[0].record.request["embedding"], opened.the_map().record.request["embedding"]
    deleted = delete_garbage(store, keep_maps=1)
    assert first in deleted.dropped
    assert {i.info.name for i in deleted.garbage if i.kind == Kind.RECEIPTS} == {n for n in before if first in n}
    assert tables(store, "documents")
    assert tables(store, current)
    assert verify_workspace(store).faults == []


def test_tables_of_an_embedding_that_is_not_recorded_yet_are_as_young_as_its_vectors(
    workspace: Path, store: Store
) -> None:
    # A killed run: shards, and tables of another run that was killed before.
    unrecorded = workspace / "embeddings" / "embedding-0123456789abcdef" / "ab" / "x.parquet"
    unrecorded.parent.mkdir(parents=True)
    unrecorded.write_bytes(b"x")
    table = "receipts/embedding-0123456789abcdef/0123456789abcdef.parquet"
    store.put_bytes(table, store.read_bytes(tables(store)[0]))
    grow_old(workspace, "receipts")
    assert table not in garbage(store)
    grow_old(workspace, "embeddings/embedding-0123456789abcdef")
    assert garbage(store)[table] == Kind.RECEIPTS


def test_receipts_of_labels_are_kept_while_labels_use_them_and_else_for_the_grace_period(
    workspace: Path, store: Store
) -> None:
    used = labels_from(store, KEY)
    for key in (KEY, OTHER_KEY):
        write_receipt(store, key, LABEL)
    assert find_garbage(store).young == 1
    assert garbage(store) == {}
    grow_old(workspace)
    assert garbage(store) == {receipt_name(OTHER_KEY): Kind.LABEL_RECEIPT}
    delete_garbage(store)
    assert list(store.list("label-receipts")) == [receipt_name(KEY)]
    shutil.rmtree(workspace / used.folder)
    assert garbage(store) == {receipt_name(KEY): Kind.LABEL_RECEIPT}


def test_nothing_is_deleted_if_labels_that_refer_to_receipts_are_unreadable(workspace: Path, store: Store) -> None:
    used = labels_from(store, KEY)
    write_receipt(store, KEY, LABEL)
    grow_old(workspace)
    part = workspace / used.folder / used.parts[0].name
    part.write_bytes(part.read_bytes()[:-12])
    with pytest.raises(DamagedObjectError):
        delete_garbage(store)
    assert store.exists(receipt_name(KEY))


def test_objects_written_during_a_collection_are_kept(workspace: Path) -> None:
    written: set[str] = set()

    class Busy(Store):
        """A run and a labeler write right after the listing of the whole workspace."""

        def list(self, prefix: str = "", *more: str, brief: bool = False) -> Listing:
            listing = super().list(prefix, *more, brief=brief)
            if not prefix and not written:
                written.add("")
                latentscale.open(workspace).map(embed={"max_tokens": 33})
                write_receipt(self, KEY, LABEL)
                written.update(set(super().list()) - set(listing))
            return listing

    grow_old(workspace)
    delete_garbage(Busy(str(workspace)), grace=0)
    store = Store(str(workspace))
    assert {name.split("/")[0] for name in written} >= {"receipts", "label-receipts", "embeddings", "maps"}
    assert written - {""} <= set(store.list())
    assert verify_workspace(store).faults == []
