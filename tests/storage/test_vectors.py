"""The vectors of a snapshot, gathered once on a machine: in memory where they are few, in a mapped file else."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pytest

from latentscale.errors import CorpusError, DamagedObjectError, MissingObjectError, ResourceError
from latentscale.storage import vectors as module
from latentscale.storage.objects import Store
from latentscale.storage.parquet import write_parquet
from latentscale.storage.snapshot import Snapshot, document_name
from latentscale.storage.snapshots import make_snapshot
from latentscale.storage.vectors import (
    column_values,
    load_vectors,
    release_vectors,
    spooled_vectors,
    stream_documents,
    vector_name,
)

EMBEDDING = "embedding-0123456789abcdef"
WIDTH = 16


@pytest.fixture(autouse=True)
def fresh() -> Iterator[None]:
    module._release_cached()  # pyright: ignore[reportPrivateUsage]
    yield
    module._release_cached()  # pyright: ignore[reportPrivateUsage]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(str(tmp_path / "ws"))


@pytest.fixture
def scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder for spooled sets, to which any set goes."""
    monkeypatch.setattr(module, "IN_MEMORY_BYTES", 0)
    return tmp_path / "scratch"


def column(values: np.ndarray[Any, Any], there: np.ndarray[Any, Any]) -> pa.Array:
    flat = pa.array(values.astype(np.float16).reshape(-1))
    return pa.FixedSizeListArray.from_arrays(flat, values.shape[1], mask=pa.array(~there))


def write_vectors(store: Store, key: str, vectors: pa.Array, *, dim: int) -> None:
    table = pa.table({"row": pa.array(np.arange(len(vectors), dtype=np.int32)), "vector": vectors})
    facts = {"embedding": EMBEDDING, "dim": dim, "embedded": len(vectors) - vectors.null_count}
    write_parquet(store, vector_name(EMBEDDING, key), table, facts=facts)


def write_documents(store: Store, key: str, values: dict[str, pa.Array]) -> tuple[str, int, int]:
    n = len(next(iter(values.values())))
    table = pa.table(
        {"row": pa.array(range(n), pa.int32()), "source": pa.array(["a"] * n), "source_row": pa.array(range(n))}
        | values
    )
    return key, n, write_parquet(store, document_name(key), table, facts={}).size


def snapshot_of(store: Store, shards: list[tuple[str, int, int]], id_column: str | None = None) -> Snapshot:
    frame = pl.DataFrame(shards, schema={"key": pl.String, "rows": pl.Int64, "bytes": pl.Int64}, orient="row")
    return make_snapshot(store, frame, id_column=id_column, text_column="text")


@pytest.fixture
def snapshot(store: Store) -> Snapshot:
    """Nine shards; some documents have no vector, some ids come again, and one shard has no vector at all."""
    random = np.random.default_rng(0)
    shards: list[tuple[str, int, int]] = []
    for number in range(9):
        key, n = f"{number:02d}aa", 20 + number
        ids = pa.array([f"{i if i < 3 else (number, i)}" for i in range(n)])
        shards.append(write_documents(store, key, {"id": ids, "text": ids}))
        if number == 0:
            write_vectors(store, key, pa.nulls(n, pa.list_(pa.float16(), 1)), dim=0)
        else:
            write_vectors(store, key, column(random.normal(size=(n, WIDTH)), random.random(n) > 0.2), dim=WIDTH)
    return snapshot_of(store, shards, id_column="id")


def test_a_spooled_set_is_the_one_in_memory(store: Store, snapshot: Snapshot, scratch: Path) -> None:
    spooled = load_vectors(store, snapshot, EMBEDDING, scratch=scratch, threads=3)
    module._release_cached()  # pyright: ignore[reportPrivateUsage]
    module.IN_MEMORY_BYTES = 1 << 30
    held = load_vectors(store, snapshot, EMBEDDING, scratch=scratch)
    assert len(list(scratch.glob("vectors-*.lock"))) == 1
    for name in ("matrix", "offsets", "row_ids"):
        assert np.array_equal(getattr(spooled, name), getattr(held, name))
    assert (np.diff(held.offsets) > 0).all()
    assert 100 < len(held) < snapshot.documents
    assert not np.isin(held.offsets, snapshot.superseded).any()
    lengths = np.linalg.norm(held.matrix.astype(np.float64), axis=1)
    assert np.abs(lengths - 1).max() < 2.5e-7


def test_reads_by_many_threads_equal_sequential_reads(store: Store, snapshot: Snapshot, scratch: Path) -> None:
    one = np.array(load_vectors(store, snapshot, EMBEDDING, scratch=scratch / "one", threads=1).matrix)
    module._release_cached()  # pyright: ignore[reportPrivateUsage]
    module.READ_AHEAD_BYTES, before = 1, module.READ_AHEAD_BYTES
    try:
        many = load_vectors(store, snapshot, EMBEDDING, scratch=scratch / "many", threads=8)
    finally:
        module.READ_AHEAD_BYTES = before
    assert np.array_equal(one, many.matrix)


def test_another_process_maps_the_existing_file(store: Store, snapshot: Snapshot, scratch: Path) -> None:
    matrix = load_vectors(store, snapshot, EMBEDDING, scratch=scratch).matrix
    for name in store.list("embeddings"):
        # All but the first with vectors, whose footer tells the width.
        if "/01/" not in name and "/00/" not in name:
            store.delete([name])
    code = (
        "import sys; from latentscale.storage import vectors; from latentscale.storage.objects import Store; "
        "from latentscale.storage.snapshots import read_snapshot; vectors.IN_MEMORY_BYTES = 0; "
        "store = Store(sys.argv[1]); v = vectors.load_vectors(store, read_snapshot(store, sys.argv[2]), sys.argv[3]); "
        "print(len(v), repr(float(v.matrix.sum(dtype='f8'))))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, store.url, snapshot.id, EMBEDDING],
        env=os.environ | {"LATENTSCALE_SCRATCH": str(scratch)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == [str(len(matrix)), repr(float(matrix.sum(dtype="f8")))]


def test_the_end_of_a_run_removes_its_file(store: Store, snapshot: Snapshot, scratch: Path) -> None:
    with spooled_vectors(store, scratch=scratch):
        vectors = load_vectors(store, snapshot, EMBEDDING, scratch=scratch)
        assert load_vectors(store, snapshot, EMBEDDING, scratch=scratch) is vectors
        assert len(list(scratch.iterdir())) == 2
    assert list(scratch.iterdir()) == []
    # Who still holds the arrays can read them.
    assert np.abs(np.linalg.norm(vectors.matrix, axis=1) - 1).max() < 1e-6


def test_the_file_of_another_workspace_stays(store: Store, snapshot: Snapshot, scratch: Path, tmp_path: Path) -> None:
    load_vectors(store, snapshot, EMBEDDING, scratch=scratch)
    module._release_cached()  # pyright: ignore[reportPrivateUsage]
    release_vectors(Store(str(tmp_path / "other")), scratch=scratch)
    assert len(list(scratch.iterdir())) == 2
    release_vectors(store, scratch=scratch)
    assert list(scratch.iterdir()) == []


def test_a_disk_that_is_too_small_is_reported_before_it_is_filled(
    store: Store, snapshot: Snapshot, scratch: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "free_bytes", lambda folder: 1000)
    with pytest.raises(
        ResourceError, match=rf"vectors of {snapshot.documents} documents take .* GB are free"
    ) as raised:
        load_vectors(store, snapshot, EMBEDDING, scratch=scratch)
    assert "LATENTSCALE_SCRATCH" in str(raised.value)
    assert [path.suffix for path in scratch.iterdir()] == [".lock"]


def test_a_shard_of_vectors_of_another_width_is_named(store: Store, snapshot: Snapshot) -> None:
    n = snapshot.shards[4].rows
    write_vectors(store, "04aa", column(np.ones((n, 8)), np.ones(n, dtype=bool)), dim=8)
    with pytest.raises(DamagedObjectError, match=r"04aa\.parquet holds vectors of the type .*8\], the width is 16"):
        load_vectors(store, snapshot, EMBEDDING)


@pytest.mark.parametrize("kind", [pa.null(), pa.list_(pa.float16(), 1), pa.list_(pa.float32(), WIDTH)])
def test_a_shard_without_a_vector_may_have_any_type(store: Store, snapshot: Snapshot, kind: pa.DataType) -> None:
    n = snapshot.shards[5].rows
    write_vectors(store, "05aa", pa.nulls(n, kind), dim=0)
    base = snapshot.shards[5].base
    offsets = load_vectors(store, snapshot, EMBEDDING).offsets
    assert not ((offsets >= base) & (offsets < base + n)).any()
    assert (offsets >= base + n).any()
    # An update reads the shards that it needs.
    asked = np.setdiff1d(np.arange(base - 5, base + n + 5), snapshot.superseded)
    found = module.vectors_at(store, snapshot, EMBEDDING, asked)
    assert np.array_equal(found.offsets, offsets[(offsets >= base - 5) & (offsets < base + n + 5)])


def test_a_corpus_without_a_vector_is_refused(store: Store) -> None:
    snapshot = snapshot_of(store, [write_documents(store, "aaaa", {"text": pa.array(["a", "b"])})])
    write_vectors(store, "aaaa", pa.nulls(2, pa.list_(pa.float16(), 1)), dim=0)
    with pytest.raises(CorpusError, match="no document of the corpus could be embedded"):
        load_vectors(store, snapshot, EMBEDDING)


def test_the_values_of_a_column_are_held_once_each(store: Store) -> None:
    shards = [
        write_documents(store, "aaaa", {"text": pa.array(["x"] * 4), "c": pa.array([2, None, 1, 2])}),
        write_documents(store, "bbbb", {"text": pa.array(["x"] * 2)}),
        write_documents(store, "cccc", {"text": pa.array(["x"] * 3), "c": pa.array(["1", "b", None])}),
        write_documents(store, "dddd", {"text": pa.array(["x"] * 2), "c": pa.array(["b", "b"]).dictionary_encode()}),
        write_documents(store, "eeee", {"text": pa.array(["x"] * 2), "c": pa.array([[1, 2], None])}),
    ]
    snapshot = snapshot_of(store, shards)
    values = column_values(store, snapshot, snapshot.row_ids(np.arange(snapshot.rows)), "c")
    assert list(values) == ["2", None, "1", "2", None, None, "1", "b", None, "b", "b", "[1, 2]", None]
    assert values.categories == ["2", "1", "b", "[1, 2]"]
    assert values.codes.dtype == np.int32
    assert list(values[2:4]) == ["1", "2"]


@pytest.mark.parametrize("room", [0, 1 << 30])
def test_shards_that_are_read_ahead_come_in_their_order_and_batch_by_batch(
    store: Store, snapshot: Snapshot, room: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_AHEAD_BYTES", room)
    bucket = Store(f"memory://vectors-{room}")
    for name in store.list("documents"):
        bucket.put_bytes(name, store.read_bytes(name))
    some = snapshot.row_ids(np.setdiff1d(np.arange(snapshot.rows), snapshot.superseded))[5::3]
    one, other = (list(stream_documents(where, snapshot, some, ["text", "id"])) for where in (store, bucket))
    assert np.array_equal(np.concatenate([positions for positions, _ in one]), np.arange(len(some)))
    for (here, first), (there, second) in zip(one, other, strict=True):
        assert np.array_equal(here, there)
        assert first.equals(second)
    # Who stops in the middle, or meets an object that is gone, leaves no thread behind.
    bucket.delete([document_name("05aa")])
    with pytest.raises(MissingObjectError, match="05aa"):
        list(stream_documents(bucket, snapshot, some, ["text"]))
    next(stream_documents(bucket, snapshot, some, ["text"]))
