"""Identity by hash buckets and stored runs, compared with an in-memory join."""

from __future__ import annotations

import hashlib
import tempfile
import tracemalloc
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import BinaryIO

import numpy as np
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from latentscale.storage.hashing import LONG, hash_strings
from latentscale.storage.id_runs import FOLDER, choose_runs, list_runs, part_name
from latentscale.storage.identity import REJECT_SCHEMA, Identities, identify, supersede_rejects
from latentscale.storage.objects import Store
from latentscale.storage.parquet import read_parquet, write_parquet
from latentscale.storage.shard_hashes import strings_of
from latentscale.storage.snapshot import NO_IDS, Ids, Shard, ShardTable, Snapshot, document_name, in_shards
from latentscale.storage.snapshots import make_snapshot, superseded_name, without_shards
from latentscale.storage.spool import RECORD, Spool, bits_for, records_of

# ---------------------------------------------------------------------------------------------------------- reference


def reference(
    store: Store,
    shards: Sequence[Shard],
    *,
    id_column: str | None,
    text_column: str,
    parent: Snapshot | None,
    present: ShardTable,
) -> Identities:
    """The join in memory: all ids of all shards in one frame; what came back gets offsets that nobody has."""
    if id_column is not None:
        found = reference_by_id(store, shards, id_column, parent)
    elif parent is None:
        return Identities(superseded=NO_IDS, offsets=NO_IDS, row_ids=NO_IDS)
    else:
        found = reference_by_text(store, shards, text_column, parent, present)
    known = {*found.offsets.tolist(), *found.superseded.tolist()}
    back = {place for place in places_of(present) if place not in known}
    pairs: list[tuple[int, int]] = []
    for offset, row_id in zip(found.offsets.tolist(), found.row_ids.tolist(), strict=True):
        # The first row id of a document is its own; others go with what they belonged to.
        if offset not in {one for one, _ in pairs} or row_id not in back:
            pairs.append((offset, row_id))
    own = dict(reversed(pairs))
    takers = {row_id: offset for offset, row_id in own.items()}
    for place in sorted(back & takers.keys()):
        free = takers[place]
        while free in takers:
            free = takers[free]
        pairs.append((place, free))
    pairs.sort(key=lambda pair: pair[0])
    offsets, row_ids = (np.array([pair[part] for pair in pairs], np.int64) for part in (0, 1))
    return Identities(superseded=found.superseded, offsets=offsets, row_ids=row_ids)


def places_of(shards: ShardTable) -> list[int]:
    return [place for shard in shards for place in range(shard.base, shard.base + shard.rows)]


def reference_by_text(
    store: Store, shards: Sequence[Shard], text_column: str, parent: Snapshot, present: ShardTable
) -> Identities:
    now, before = set(present.keys.to_pylist()), set(parent.shards.keys.to_pylist())
    held = in_shards(parent.carried_offsets, present)
    offsets, row_ids = parent.carried_offsets[held], parent.carried_row_ids[held]
    gone = [shard for shard in parent.shards if shard.key not in now]
    new = [shard for shard in shards if shard.key not in before]
    if gone and new:
        old = reference_hashes(store, gone, text_column)
        old = old.filter(~pl.Series(np.isin(old["place"].to_numpy(), parent.superseded)))
        copy = pl.int_range(pl.len()).over("first", "second").alias("copy")
        found = (
            reference_hashes(store, new, text_column)
            .with_columns(copy)
            .join(
                old.rename({"place": "earlier"}).with_columns(copy),
                on=["first", "second", "copy"],
                how="inner",
                maintain_order="left_right",
            )
        )
        offsets = np.concatenate([offsets, found["place"].to_numpy()])
        row_ids = np.concatenate([row_ids, parent.row_ids(found["earlier"].to_numpy())])
    order = np.argsort(offsets, kind="stable")
    return Identities(superseded=NO_IDS, offsets=offsets[order], row_ids=row_ids[order])


def reference_by_id(store: Store, shards: Sequence[Shard], id_column: str, parent: Snapshot | None) -> Identities:
    everything = reference_hashes(store, shards, id_column)
    winners = everything.unique(["first", "second"], keep="last", maintain_order=True)
    lost = everything.join(winners, on="place", how="anti", maintain_order="left")["place"].to_numpy()
    offsets = row_ids = NO_IDS
    if parent is not None:
        now = {shard.key for shard in shards}
        gone = reference_hashes(store, [shard for shard in parent.shards if shard.key not in now], id_column)
        there = everything.filter(pl.Series(in_shards(everything["place"].to_numpy(), parent.shards)))
        old = pl.concat([gone, there]).rename({"place": "earlier"})
        old = old.filter(~pl.Series(np.isin(old["earlier"].to_numpy(), parent.superseded)))
        found = winners.join(old, on=["first", "second"], how="inner", maintain_order="left_right")
        offsets = found["place"].to_numpy()
        row_ids = parent.row_ids(found["earlier"].to_numpy())
        moved = np.flatnonzero(offsets != row_ids)
        moved = moved[np.argsort(offsets[moved], kind="stable")]
        offsets, row_ids = offsets[moved], row_ids[moved]
    return Identities(superseded=np.sort(lost), offsets=offsets, row_ids=row_ids)


def reference_hashes(store: Store, shards: Iterable[Shard], column: str) -> pl.DataFrame:
    frames = [pl.DataFrame(schema={"first": pl.UInt64, "second": pl.UInt64, "place": pl.Int64})]
    for shard in shards:
        values = pl.Series(pl.from_arrow(read_parquet(store, shard.name, [column])[column])).cast(pl.String)
        frames.append(
            pl.DataFrame(
                {
                    "first": values.hash(seed=1),
                    "second": values.hash(seed=2),
                    "place": np.arange(shard.base, shard.base + shard.rows, dtype=np.int64),
                }
            ).filter(values.is_not_null())
        )
    return pl.concat(frames)


def reference_rejects(store: Store, shards: ShardTable, superseded: Ids, id_column: str) -> pa.Table:
    pieces: list[pa.Table] = []
    for shard in shards:
        start, stop = np.searchsorted(superseded, [shard.base, shard.base + shard.rows])
        rows = superseded[start:stop]
        sources = read_parquet(store, shard.name, ["source", "source_row"]).take(pa.array(rows - shard.base))
        pieces.append(
            pa.table(
                {
                    "source": sources["source"].cast(pa.string()),
                    "source_row": sources["source_row"],
                    "column": pa.array([id_column] * len(rows), pa.string()),
                    "reason": pa.array(["superseded"] * len(rows), pa.string()),
                    "detail": pa.array(["a later document has the same id"] * len(rows), pa.string()),
                    "place": pa.array(rows, pa.int64()),
                }
            ).cast(REJECT_SCHEMA)
        )
    return pa.concat_tables([REJECT_SCHEMA.empty_table(), *pieces])


# ------------------------------------------------------------------------------------------------------------ corpora

VALUES = st.lists(
    st.tuples(st.none() | st.integers(0, 12).map(str), st.none() | st.sampled_from("uvwxyz")), min_size=1, max_size=8
)
# For each step: which shards, in which order; whether documents are told apart by id; and which are lost afterwards.
STEP = st.tuples(st.permutations(range(5)), st.integers(1, 5), st.booleans(), st.integers(0, 1))


class CountingStore(Store):
    """Remembers what was opened."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.opened: list[str] = []

    def open(self, name: str) -> BinaryIO:
        self.opened.append(name)
        return super().open(name)


def write_shard(store: Store, key: str, values: Sequence[tuple[object, object]], kind: pa.DataType | None) -> None:
    n = len(values)
    ids = pa.array([v[0] for v in values], pa.string())
    table = pa.table(
        {
            "source": pa.array([f"{key}.csv"] * n).dictionary_encode(),
            "source_row": pa.array(range(n), pa.int64()),
            "id": ids if kind is None else ids.cast(kind),
            "text": pa.array([v[1] for v in values], pa.string()),
        }
    )
    write_parquet(store, document_name(key), table, facts={})


def frame_of(keys: Sequence[str], rows: Sequence[int]) -> pl.DataFrame:
    return pl.DataFrame({"key": keys, "rows": rows, "bytes": [1] * len(keys)})


def same(one: Identities, other: Identities) -> None:
    for field in ("superseded", "offsets", "row_ids"):
        ours, theirs = getattr(one, field), getattr(other, field)
        assert ours.dtype == theirs.dtype == np.int64
        assert ours.tolist() == theirs.tolist(), field


def kept_by_the_snapshot(snapshot: Snapshot, expected: Identities, parent: Snapshot | None) -> None:
    """A snapshot also knows documents of snapshots after its parent, which were made of it and then left."""
    assert snapshot.superseded.tolist() == expected.superseded.tolist()
    pairs = list(zip(snapshot.carried_offsets.tolist(), snapshot.carried_row_ids.tolist(), strict=True))
    of_parent = list(zip(expected.offsets.tolist(), expected.row_ids.tolist(), strict=True))
    assert set(of_parent) <= set(pairs)
    more = np.array([offset for offset, row_id in pairs if (offset, row_id) not in of_parent], np.int64)
    assert not len(more) or (parent is not None and not in_shards(more, parent.shards).any())
    assert len(np.unique(snapshot.carried_row_ids)) == len(pairs)
    documents = np.setdiff1d(np.array(places_of(snapshot.shards), np.int64), snapshot.superseded)
    assert len(np.unique(snapshot.row_ids(documents))) == len(documents)


def written_ids(store: Store, shards: int, rows: int) -> ShardTable:
    """``shards`` shards of ids that are all different, with their table."""
    keys = [f"{number * 2654435761 % 2**32:08x}" for number in range(shards)]
    for number, key in enumerate(keys):
        write_shard(store, key, [(f"doc-{number * rows + row}", "t") for row in range(rows)], None)
    sizes = np.full(shards, rows)
    return ShardTable(keys=pa.array(keys), rows=sizes, bases=np.cumsum(sizes) - sizes, bytes=sizes)


def test_a_returning_shard_takes_no_identity_now_used_by_another(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    for key in ("k0", "k1"):
        write_shard(store, key, [("1", "u"), ("2", "v")], None)
    parent: Snapshot | None = None
    for keys in (["k0"], ["k1"], ["k0", "k1"], ["k0"]):
        parent = make_snapshot(
            store, frame_of(keys, [2] * len(keys)), id_column=None, text_column="text", parent=parent
        )
        if keys == ["k1"]:
            assert parent.row_ids(np.arange(2, 4)).tolist() == [0, 1]
        elif len(keys) == 2:
            # Those that are on the map keep their row ids.
            assert parent.row_ids(np.arange(4)).tolist() == [2, 3, 0, 1]
    assert parent.row_ids(np.arange(2)).tolist() == [2, 3]


@settings(max_examples=60)
@given(
    shards=st.lists(VALUES, min_size=5, max_size=5),
    steps=st.lists(STEP, min_size=1, max_size=4),
    bucket_rows=st.sampled_from([1, 3, 1 << 18]),
    kind=st.sampled_from([None, pa.int32(), pa.large_string(), pa.dictionary(pa.int32(), pa.string())]),
    forget=st.booleans(),
)
@example(
    # Two documents of one id in the parent, which did not go by ids: that of the shard that is gone comes first.
    shards=[[("1", "u")], [(None, "u"), (None, "v"), ("1", "w")], [("1", "x")], [("2", "y")], [("3", "z")]],
    steps=[([0, 1, 2, 3, 4], 2, False, 0), ([0, 2, 1, 3, 4], 2, True, 0)],
    bucket_rows=3,
    kind=None,
    forget=False,
)
@example(
    # The parent is a snapshot without a shard that was lost; the whole one knows the document of that shard.
    shards=[[(None, None)], [(None, None)], [("0", None)], [("0", None)], [(None, None)]],
    steps=[
        ([0, 1, 2, 3, 4], 1, False, 0),
        ([0, 4, 2, 3, 1], 2, False, 1),
        ([2, 4, 0, 3, 1], 2, False, 1),
        ([0, 1, 2, 3, 4], 4, True, 0),
    ],
    bucket_rows=1,
    kind=None,
    forget=False,
)
def test_identities_are_those_of_the_join_in_memory(
    shards: list[list[tuple[str | None, str | None]]],
    steps: list[tuple[list[int], int, bool, int]],
    bucket_rows: int,
    kind: pa.DataType | None,
    forget: bool,
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        store = Store(folder)
        for number, values in enumerate(shards):
            write_shard(store, f"k{number}", values, kind)
        parent: Snapshot | None = None
        for order, count, by_id, lost in steps:
            keys = [f"k{number}" for number in order[:count]]
            rows = [len(shards[number]) for number in order[:count]]
            id_column = "id" if by_id else None
            snapshot = make_snapshot(
                store, frame_of(keys, rows), id_column=id_column, text_column="text", parent=parent
            )
            table = snapshot.shards
            by_key = {shard.key: number for number, shard in enumerate(table)}
            numbers = np.array([by_key[key] for key in keys])
            if forget:
                store.delete(list(store.list(FOLDER))[:2])
            expected = reference(
                store,
                [table[int(number)] for number in numbers],
                id_column=id_column,
                text_column="text",
                parent=parent,
                present=table,
            )
            for _ in range(2):  # from the shards, then from what the first call has kept
                found = identify(
                    store,
                    table,
                    numbers,
                    id_column=id_column,
                    text_column="text",
                    parent=parent,
                    bucket_rows=bucket_rows,
                )
                same(found, expected)
            if parent is None or snapshot.id != parent.id:
                kept_by_the_snapshot(snapshot, expected, parent)
            if by_id and len(expected.superseded):
                rejects = reference_rejects(store, table, expected.superseded, "id")
                assert supersede_rejects(store, table, expected.superseded, "id").equals(rejects)
                if parent is None or snapshot.id != parent.id:
                    assert read_parquet(store, superseded_name(snapshot.id)).equals(rejects)
            parent = without_shards(store, snapshot, keys[:lost]) if lost and count > 1 else snapshot


@pytest.mark.parametrize("kind", [pa.string(), pa.binary()])
def test_rows_with_a_blank_id_are_separate_documents(tmp_path: Path, kind: pa.DataType) -> None:
    store = Store(str(tmp_path))
    ids = ["", "a", "  ", "", None, "a", "b"]
    write_shard(store, "k", [(one, "t") for one in ids], kind)
    snapshot = make_snapshot(store, frame_of(["k"], [len(ids)]), id_column="id", text_column="text", parent=None)
    assert snapshot.superseded.tolist() == [1]


def test_an_update_opens_the_new_shard_and_each_object_of_hashes_once(tmp_path: Path) -> None:
    store = CountingStore(str(tmp_path))
    table = written_ids(store, 12, 100)
    identify(store, table[:11], np.arange(11), id_column="id", text_column="text", parent=None, bucket_rows=200)
    parts = [name for name in store.list(FOLDER) if "hashes" in name]
    assert len(parts) == 8
    parent = Snapshot(id="snapshot-0", shards=table[:11], superseded=NO_IDS)
    store.opened.clear()
    identify(store, table, np.arange(12), id_column="id", text_column="text", parent=parent, bucket_rows=200)
    assert [name for name in store.opened if name.startswith("documents/")] == [table[11].name]
    assert sorted(name for name in store.opened if "hashes" in name) == parts
    # And what is known altogether is not read from shards again.
    store.opened.clear()
    identify(store, table, np.arange(12), id_column="id", text_column="text", parent=parent, bucket_rows=200)
    assert not [name for name in store.opened if name.startswith("documents/")]


def test_rejects_of_earlier_snapshots_are_not_looked_up_again(tmp_path: Path) -> None:
    store = CountingStore(str(tmp_path))
    for key in ("aa", "bb", "cc"):
        write_shard(store, key, [("1", "t"), (key, "t")], None)
    make = {"id_column": "id", "text_column": "text"}
    first = make_snapshot(store, frame_of(["aa", "bb"], [2, 2]), **make)
    store.opened.clear()
    second = make_snapshot(store, frame_of(["aa", "bb", "cc"], [2, 2, 2]), parent=first, **make)
    assert second.superseded.tolist() == [0, 2]
    assert document_name("aa") not in store.opened
    # Without a shard, those of the others stay what they were, and none is looked up.
    store.opened.clear()
    part = without_shards(store, second, ["bb"])
    assert read_parquet(store, superseded_name(part.id)).to_pylist() == [
        {
            "source": "aa.csv",
            "source_row": 0,
            "column": "id",
            "reason": "superseded",
            "detail": "a later document has the same id",
            "place": 0,
        }
    ]
    assert not [name for name in store.opened if name.startswith("documents/")]


def test_runs_stay_few_over_many_updates(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    table = written_ids(store, 40, 10)
    for count in range(8, 41):
        identify(store, table[:count], np.arange(count), id_column="id", text_column="text", parent=None)
        chosen, missing = choose_runs(list_runs(store), table[:count].keys)
        assert not len(missing)
        # Each is more than twice as large as all smaller ones.
        assert len(chosen) <= 4
    assert {len(run.keys) for run in list_runs(store)} > {8, 1}


def test_a_mostly_obsolete_run_of_hashes_is_rewritten(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    table = written_ids(store, 10, 10)
    asked = {"id_column": "id", "text_column": "text", "parent": None}
    identify(store, table, np.arange(10), **asked)
    identify(store, table[:6], np.arange(6), **asked)
    assert [len(run.keys) for run in list_runs(store)] == [10]
    identify(store, table[:4], np.arange(4), **asked)
    assert sorted(len(run.keys) for run in list_runs(store)) == [4, 10]
    [kept], _ = choose_runs(list_runs(store), table[:4].keys)
    assert len(kept.run.keys) == 4


def test_the_bytes_of_a_run_follow_from_its_shards(tmp_path: Path) -> None:
    held: list[dict[str, bytes]] = []
    for name, order in (("one", np.arange(8)), ("two", np.arange(8)[::-1])):
        store = Store(str(tmp_path / name))
        table = written_ids(store, 8, 40)
        identify(store, table, order, id_column="id", text_column="text", parent=None, bucket_rows=64, block_rows=50)
        held.append({name: store.read_bytes(name) for name in store.list(FOLDER)})
    assert len(held[0]) == 9
    assert held[0] == held[1]


def test_a_run_of_hashes_that_lost_an_object_is_rebuilt(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    table = written_ids(store, 3, 50)
    asked = {"id_column": "id", "text_column": "text", "parent": None}
    identify(store, table, np.arange(3), **asked)
    [run] = list_runs(store)
    before = {name: store.read_bytes(name) for name in store.list(FOLDER)}
    store.delete([part_name(run.id, 0)])
    assert list_runs(store) == []
    identify(store, table, np.arange(3), **asked)
    assert {name: store.read_bytes(name) for name in store.list(FOLDER)} == before


def test_memory_does_not_grow_with_the_documents(tmp_path: Path) -> None:
    peaks: dict[int, list[int]] = {20: [], 160: []}
    for shards in (20, 20, 160, 20, 160, 20, 160):  # once more for the first call, which imports
        store = Store(str(tmp_path / str(sum(map(len, peaks.values())))))
        table = written_ids(store, shards, 2_000)
        asked = {"id_column": "id", "text_column": "text", "parent": None, "bucket_rows": 10_000}
        tracemalloc.start()
        identify(store, table, np.arange(shards), **asked, block_rows=20_000)
        peaks[shards].append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    # Documents eight times as many. What else grows is threads that are more or less ahead, and those of other tests
    # in this process: the least of several is the need.
    assert min(peaks[160]) < 3 * min(peaks[20]), peaks


# ------------------------------------------------------------------------------------------------------------- hashes


@pytest.mark.parametrize(
    ("text", "digest"),
    [
        ("", "00000000000000000000000000000000"),
        ("hello", "cbd8a7b341bd9b025b1e906a48ae1d19"),
        ("hello, world", "342fac623a5ebc8e4cdcbc079642414d"),
        ("19 Jan 2038 at 3:14:07 AM", "b89e5988b737affc664fc2950231b2cb"),
        ("The quick brown fox jumps over the lazy dog", "e34bbc7bbc071b6c7a433ca9c49a9347"),
    ],
)
def test_hashes_are_those_that_are_published(text: str, digest: str) -> None:
    first, second = hash_strings(pa.array(["before", text, "after"]))
    assert f"{int(first[1]):016x}{int(second[1]):016x}" == digest


def murmur3(data: bytes) -> tuple[int, int]:
    """MurmurHash3_x64_128 with seed 0, byte by byte as its author has it."""
    mask, c1, c2 = (1 << 64) - 1, 0x87C37B91114253D5, 0x4CF5AD432745937F

    def rotated(value: int, bits: int) -> int:
        return (value << bits | value >> 64 - bits) & mask

    def finished(value: int) -> int:
        value = (value ^ value >> 33) * 0xFF51AFD7ED558CCD & mask
        value = (value ^ value >> 33) * 0xC4CEB9FE1A85EC53 & mask
        return value ^ value >> 33

    h1 = h2 = 0
    whole = len(data) // 16 * 16
    for at in range(0, whole, 16):
        k1, k2 = int.from_bytes(data[at : at + 8], "little"), int.from_bytes(data[at + 8 : at + 16], "little")
        h1 ^= rotated(k1 * c1 & mask, 31) * c2 & mask
        h1 = (((rotated(h1, 27) + h2) & mask) * 5 + 0x52DCE729) & mask
        h2 ^= rotated(k2 * c2 & mask, 33) * c1 & mask
        h2 = (((rotated(h2, 31) + h1) & mask) * 5 + 0x38495AB5) & mask
    tail = data[whole:]
    if len(tail) > 8:
        h2 ^= rotated(int.from_bytes(tail[8:], "little") * c2 & mask, 33) * c1 & mask
    if tail:
        h1 ^= rotated(int.from_bytes(tail[:8], "little") * c1 & mask, 31) * c2 & mask
    h1, h2 = h1 ^ len(data), h2 ^ len(data)
    h1 = (h1 + h2) & mask
    h2 = (h2 + h1) & mask
    h1, h2 = finished(h1), finished(h2)
    h1 = (h1 + h2) & mask
    return h1, (h2 + h1) & mask


@given(st.lists(st.none() | st.text(max_size=40) | st.integers(0, 400).map(lambda n: "é" * n)), st.booleans())
def test_each_string_is_hashed_by_its_bytes(values: list[str | None], wide: bool) -> None:
    array = pa.array([*values, "x"], pa.large_string() if wide else pa.string())
    for column in (array, array.slice(1)):
        first, second = hash_strings(column)
        for value, *halves in zip(column.to_pylist(), first.tolist(), second.tolist(), strict=True):
            if value is None:
                continue
            data = value.encode()
            if len(data) > LONG:
                digest = hashlib.blake2b(data, digest_size=16).digest()
                assert halves == [int.from_bytes(digest[:8], "little"), int.from_bytes(digest[8:], "little")]
            else:
                assert tuple(halves) == murmur3(data)


@pytest.mark.parametrize(
    ("column", "strings"),
    [
        (pa.array([1, None, 30], pa.int64()), ["1", None, "30"]),
        (pa.array(["a", None, "a"]).dictionary_encode(), ["a", None, "a"]),
        (pa.nulls(2), [None, None]),
        (pa.array([], pa.string()), []),
    ],
)
def test_ids_of_any_type_are_compared_as_strings(column: pa.Array, strings: list[str | None]) -> None:
    found = strings_of(pa.chunked_array([column]))
    assert found.to_pylist() == strings
    assert len(hash_strings(found)[0]) == len(strings)


# -------------------------------------------------------------------------------------------------------------- spool


@given(
    st.lists(st.lists(st.integers(0, 2**64 - 1), max_size=20), max_size=10),
    st.integers(0, 6),
    st.sampled_from([1, 16, 1 << 19]),
)
def test_a_spool_returns_its_rows_by_bucket(pieces: list[list[int]], bits: int, block_rows: int) -> None:
    with Spool(bits, block_rows=block_rows) as spool:
        given_records = [(first, number) for number, piece in enumerate(pieces) for first in piece]
        for number, piece in enumerate(pieces):
            first = np.array(piece, dtype=np.uint64)
            spool.add(records_of(first, first, number, np.arange(len(piece))))
        found: list[tuple[int, int]] = []
        for bucket in range(1 << bits):
            records = np.concatenate(spool.bucket(bucket))
            assert records.dtype == RECORD
            assert all(int(first) >> (64 - bits) == bucket for first in records["first"].tolist())
            found += list(zip(records["first"].tolist(), records["shard"].tolist(), strict=True))
    assert sorted(found) == sorted(given_records)


@pytest.mark.parametrize(
    ("rows", "bucket_rows", "bits"), [(0, 10, 0), (10, 10, 0), (11, 10, 1), (20, 10, 1), (21, 10, 2), (81, 10, 4)]
)
def test_buckets_are_as_many_as_the_rows_need(rows: int, bucket_rows: int, bits: int) -> None:
    assert bits_for(rows, bucket_rows) == bits
