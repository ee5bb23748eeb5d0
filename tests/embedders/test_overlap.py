"""An encoder in a worker, shard after shard, on a device that ends no batch before it has the next one."""

from __future__ import annotations

import queue
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

pytestmark = pytest.mark.slow
for package in ("torch", "transformers", "sentence_transformers"):
    pytest.importorskip(package, reason=f"the model is made with {package}")

from latentscale.config import EmbedConfig  # noqa: E402 - torch may be missing
from latentscale.embedders import embedder_spec  # noqa: E402
from latentscale.embedders.encoder.embedder import EncoderEmbedder  # noqa: E402
from latentscale.engines.pipelined import IN_FLIGHT, Pipelined  # noqa: E402
from latentscale.stages.embed import EmbeddingRequest, EmbedWorker  # noqa: E402
from latentscale.storage.objects import Store  # noqa: E402
from latentscale.storage.parquet import write_parquet  # noqa: E402
from latentscale.storage.snapshot import Shard, document_name  # noqa: E402
from tests.embedders.encoder_files import WORDS  # noqa: E402
from tests.embedders.tiny_models import sentence_encoder  # noqa: E402

SHARDS, ROWS, PATIENCE = 5, 60, 60


class SlowDevice:
    """Ends a batch when it has the next one, and the last when it has all rows.

    It is never without work, then; a host that waited for a batch before it gave the next one would wait for ever.

    Parameters
    ----------
    rows : int
        How many there will be.
    """

    def __init__(self, rows: int) -> None:
        self.batches = 0
        self._rows = rows
        self._given: queue.Queue[tuple[int, Written]] = queue.Queue()
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._thread.start()

    def give(self, rows: int) -> Written:
        self.batches += 1
        written = Written()
        self._given.put((rows, written))
        return written

    def _work(self) -> None:
        before: Written | None = None
        while self._rows > 0:
            rows, written = self._given.get(timeout=PATIENCE)
            self._rows -= rows
            if before is not None:
                before.happened.set()
            before = written
        assert before is not None
        before.happened.set()


class Written:
    """What a GPU records behind a batch."""

    def __init__(self) -> None:
        self.happened = threading.Event()

    def query(self) -> bool:
        return self.happened.is_set()

    def synchronize(self) -> None:
        assert self.happened.wait(PATIENCE), "the device waits for a batch, and the host for the device"


@pytest.fixture(scope="module", params=[0, 1], ids=["tokenised here", "tokenised in a process"])
def opened(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, EncoderEmbedder]:
    folder = sentence_encoder(tmp_path_factory.mktemp("model") / "tiny")
    options = {"batch_tokens": 200, "tokenizer_processes": request.param}
    spec = embedder_spec(EmbedConfig(model=str(folder), options=options))
    embedder: Any = spec.open("cpu")
    return spec, embedder


def written_shards(store: Store) -> list[Shard]:
    generator = np.random.default_rng(7)
    shards: list[Shard] = []
    for number in range(SHARDS):
        # A number of its own keeps each text apart from the others: it has a row on the device.
        texts = [f"{' '.join(generator.choice(WORDS, generator.integers(1, 40)))} {row}" for row in range(ROWS)]
        key = f"{number}" * 64
        table = pa.table({"text": texts, "source": ["a"] * ROWS, "source_row": np.arange(ROWS)})
        write_parquet(store, document_name(key), table, facts={})
        shards.append(Shard(key=key, name=document_name(key), rows=ROWS, base=number * ROWS, bytes=1))
    return shards


def vectors(store: Store) -> dict[str, bytes]:
    return {name: Path(store.path(name)).read_bytes() for name in store.list("embeddings") if name.endswith("parquet")}


def test_a_slow_device_has_work_from_the_first_batch_to_the_last_one_of_all_shards(opened, tmp_path, monkeypatch):
    monkeypatch.setattr("latentscale.embedders.encoder.feed._LEAST_CHARACTERS", 400)
    monkeypatch.setattr("latentscale.embedders.encoder.tokenizer_processes._LEAST_BYTES", 1)
    spec, embedder = opened
    monkeypatch.setattr("latentscale.stages.embed.opened_embedder", lambda spec, device: embedder)
    request = EmbeddingRequest(model=spec.identity(), dtype="float32", text="text")

    alone = Store(str(tmp_path / "alone"))
    shards = written_shards(alone)
    worker = EmbedWorker(alone, spec, request, on_processors=True)
    expected = [worker(shard) for shard in shards]

    together = Store(str(tmp_path / "together"))
    written_shards(together)
    device, on_device = SlowDevice(SHARDS * ROWS), embedder._on_device

    def given(batch: Any, skipped: int) -> Any:
        rows = on_device(batch, skipped)
        return replace(rows, written=device.give(len(batch)))

    monkeypatch.setattr(embedder, "_on_device", given)
    pipelined = Pipelined(EmbedWorker(together, spec, request, on_processors=True))
    with ThreadPoolExecutor(IN_FLIGHT) as pool:
        found = list(pool.map(pipelined.run, shards))
    assert device.batches > 5 * SHARDS
    assert [one.kept() for one in found] == [one.kept() for one in expected]
    assert len(vectors(together)) == SHARDS
    assert vectors(together) == vectors(alone)
