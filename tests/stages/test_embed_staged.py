"""A staged embedder in a worker: the next shard is prepared and queued before the last one is finished."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import latentscale
from latentscale.embedders.protocol import Embedded, is_staged
from latentscale.embedders.static import StaticSpec
from latentscale.engines.pipelined import IN_FLIGHT, Pipelined, run_here
from latentscale.errors import CorpusError
from latentscale.stages.embed import EmbeddingRequest, EmbedWorker
from latentscale.storage.objects import Store

WIDTH = 256
SHARDS, ROWS = 6, 20
PATIENCE = 60


class Plain:
    """Embeds a text by its letters."""

    def embed(self, texts: Sequence[str]) -> Embedded:
        vectors = np.ones((len(texts), WIDTH), np.float32)
        for row, text in enumerate(texts):
            for letter in text:
                vectors[row, ord(letter) % WIDTH] += 1
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        embeddable = np.array(["red" not in text for text in texts])
        vectors[~embeddable] = 0
        return Embedded(vectors=vectors, embeddable=embeddable, tokens=len(texts), unknown=0, truncated=0)


class Staged(Plain):
    """The same, by a device that does not end a shard before it has the next one.

    A worker that waited for a shard before it gave the next one would wait for ever.
    """

    def __init__(self, shards: int = SHARDS) -> None:
        self.events: list[str] = []
        self._given = [threading.Event() for _ in range(shards + 1)]
        self._given[shards].set()
        self._prepared = self._computed = 0

    def prepare(self, texts: Sequence[str]) -> Any:
        self.events.append(f"prepared {self._prepared}")
        self._prepared += 1
        return texts

    def compute(self, prepared: Any) -> Any:
        number = self._computed
        self._computed += 1
        self.events.append(f"given {number}")
        self._given[number].set()
        return number, prepared

    def finish(self, computed: Any) -> Embedded:
        number, texts = computed
        assert self._given[number + 1].wait(PATIENCE), "the device has nothing to do"
        self.events.append(f"finished {number}")
        return self.embed(texts)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("corpus")
    colours = ["blue", "red", "green", "white"]
    texts = [f"{colours[n % 4]} card {n % 90} of the library" for n in range(SHARDS * ROWS)]
    pq.write_table(pa.table({"text": texts}), folder / "a.parquet")
    return folder / "a.parquet"


def worker_of(
    corpus: Path, folder: Path, embedder: Plain, monkeypatch: pytest.MonkeyPatch
) -> tuple[EmbedWorker, list[Any], Store]:
    values = {
        "corpus": {"sources": [str(corpus)], "text": "text"},
        "out": str(folder),
        "ingest": {"shard_rows": ROWS},
        "engine": {"name": "local", "workers": 1},
    }
    workspace = latentscale.open(values["out"], must_exist=False)
    snapshot = workspace.run(values, until="ingest", progress="quiet").snapshot
    assert snapshot is not None
    assert len(snapshot.shards) == SHARDS
    monkeypatch.setattr("latentscale.stages.embed.opened_embedder", lambda spec, device: embedder)
    spec = StaticSpec()
    request = EmbeddingRequest(model=spec.identity(), dtype="float32", text="text")
    return EmbedWorker(workspace.store, spec, request), list(snapshot.shards), workspace.store


def run_pipelined(worker: EmbedWorker, shards: list[Any]) -> list[Any]:
    """Run shards as a worker process does: the next one starts as one ends."""
    pipelined = Pipelined(worker)
    with ThreadPoolExecutor(IN_FLIGHT) as pool:
        return list(pool.map(pipelined.run, shards))


def objects(store: Store) -> dict[str, bytes]:
    return {
        name: Path(store.path(name)).read_bytes()
        for folder in ("embeddings", "rejects")
        for name in store.list(folder)
        if name.endswith(".parquet")
    }


def test_the_next_shard_is_queued_before_the_device_finishes_the_last(corpus, tmp_path, monkeypatch):
    staged = Staged()
    assert is_staged(staged)
    assert not is_staged(Plain())
    worker, shards, store = worker_of(corpus, tmp_path / "staged", staged, monkeypatch)
    receipts = run_pipelined(worker, shards)
    assert [one.key for one in receipts] == [one.key for one in shards]
    events = staged.events
    for number in range(SHARDS - 1):
        assert events.index(f"prepared {number + 1}") < events.index(f"finished {number}")
        assert events.index(f"given {number + 1}") < events.index(f"finished {number}")
    # Two wait at most with what was read for them, and two are computed or written.
    for number in range(SHARDS - IN_FLIGHT):
        assert events.index(f"finished {number}") < events.index(f"prepared {number + IN_FLIGHT}")
    plain, again, other = worker_of(corpus, tmp_path / "plain", Plain(), monkeypatch)
    expected = run_pipelined(plain, again)
    assert objects(store) == objects(other)
    assert len(objects(store)) == 2 * SHARDS
    assert [one.kept() for one in receipts] == [one.kept() for one in expected]
    assert all(one.work is not None and one.work.computing >= 0 and one.work.waiting >= 0 for one in receipts)


def test_a_shard_does_not_depend_on_other_shards(corpus, tmp_path, monkeypatch):
    worker, shards, _ = worker_of(corpus, tmp_path / "ws", Staged(1), monkeypatch)
    receipt = worker(shards[0])
    assert (receipt.rows, receipt.embedded) == (ROWS, ROWS - ROWS // 4)
    # A second time nothing is prepared: the vectors are there.
    assert worker(shards[0]).seconds == 0


class Failing(Staged):
    def finish(self, computed: Any) -> Embedded:
        found = self.embed(computed[1])
        if "blue card 20 of the library" in computed[1]:
            found.vectors[3] = np.nan
        return found


def test_an_error_in_finish_affects_only_its_shard(corpus, tmp_path, monkeypatch):
    worker, shards, store = worker_of(corpus, tmp_path / "ws", Failing(), monkeypatch)
    done: list[Any] = []
    with pytest.raises(CorpusError, match="not finite") as caught:
        done.extend(run_here(worker, shards, in_flight=IN_FLIGHT))
    assert caught.value.where == shards[1].name
    written = [name for name in objects(store) if name.startswith("embeddings")]
    assert any(shards[0].key in name for name in written)
    assert not any(shards[1].key in name for name in written)


def test_prepared_shards_that_are_not_computed_are_dropped(corpus, tmp_path, monkeypatch):
    """The thread that tokenises a shard ends with it."""
    dropped = threading.Event()

    class Held(list[str]):
        def __del__(self) -> None:
            dropped.set()

    class Dropping(Staged):
        def prepare(self, texts: Sequence[str]) -> Any:
            return Held(super().prepare(texts))

    worker, shards, _ = worker_of(corpus, tmp_path / "ws", Dropping(), monkeypatch)
    pipelined = Pipelined(worker)
    loaded = worker.read(shards[0])
    assert len(loaded.prepared) == len(pq.read_table(Path(tmp_path / "ws", shards[0].name)))
    pipelined.stop()
    del loaded
    assert dropped.wait(PATIENCE)
