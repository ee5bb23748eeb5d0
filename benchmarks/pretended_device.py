"""An encoder whose device is pretended: everything but its computing runs, in the package that comes first on the path.

    python -P benchmarks/pretended_device.py '{"texts": …, "device_s": …, "launch_s": …}'

``cases/device_feed.py`` runs it with two versions of the package. The device takes the time that it is told for what it
is given, one batch after the other; giving it a batch takes processor time of the thread that computes, in operations
of torch on small tensors, each of which gives Python's lock away and takes it again, as launches on a GPU do.
"""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import torch

import latentscale
from latentscale.embedders.encoder.embedder import EncoderEmbedder
from latentscale.embedders.encoder.feed import Feed, Tally
from latentscale.embedders.encoder.results import Rows
from latentscale.embedders.tokens import TextTokenizer, open_tokenizer
from latentscale.engines import pipelined
from latentscale.models import static_model_path
from latentscale.stages.embed import EmbeddingRequest, EmbedWorker
from latentscale.storage.objects import Store
from latentscale.storage.parquet import write_parquet
from latentscale.storage.snapshot import Shard, document_name

try:
    import gilknocker  # pyright: ignore[reportMissingImports]
except ImportError:
    gilknocker: Any = None

LIMIT, BUDGET = 256, 65_536
# A tokenizer process that remembers what it tokenised: it takes next to no processor time, as on a machine with many.
REMEMBERING = """
from latentscale.embedders.tokens import TextTokenizer
encode, known = TextTokenizer.encode, {}
def remembered(self, texts):
    key = len(texts), texts[0], texts[-1], sum(map(len, texts[:100]))
    if key not in known:
        known[key] = encode(self, texts)
    return known[key]
TextTokenizer.encode = remembered
"""


class Device:
    """Computes one batch after the other, by the clock."""

    def __init__(self, seconds_per_token: float) -> None:
        self._rate = seconds_per_token
        self._free = 0.0
        self.busy: list[tuple[float, float]] = []

    def give(self, tokens: int) -> Written:
        """Take a batch; it is done when those before it are, and its own time has passed."""
        begin = max(time.perf_counter(), self._free)
        self._free = begin + tokens * self._rate
        self.busy.append((begin, self._free))
        return Written(self._free)

    def idle(self, first: int, last: int) -> float:
        """Share of the time in which it had nothing to do, from the begin of one batch to that of another."""
        whole = self.busy[last][0] - self.busy[first][0]
        return 1 - sum(end - begin for begin, end in self.busy[first:last]) / whole


class Written:
    """What a GPU records behind a batch."""

    def __init__(self, at: float) -> None:
        self._at = at

    def query(self) -> bool:
        return time.perf_counter() >= self._at

    def synchronize(self) -> None:
        time.sleep(max(0.0, self._at - time.perf_counter()))


class Launches:
    """What giving batches to the device cost its thread.

    Attributes
    ----------
    cpu, processor, lock : float
        Seconds that it computed, that it waited for a processor, and that it waited otherwise: for Python's lock.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._small = torch.zeros(64)
        self.cpu = self.processor = self.lock = 0.0

    def one(self) -> None:
        """Give a batch."""
        began, (cpu, delay) = time.perf_counter(), _scheduled()
        until = time.thread_time() + self._seconds
        while time.thread_time() < until:
            self._small.add_(1)
        wall, (after, later) = time.perf_counter() - began, _scheduled()
        self.cpu += after - cpu
        self.processor += later - delay
        self.lock += max(0.0, wall - (after - cpu) - (later - delay))


def _scheduled() -> tuple[float, float]:
    """Seconds that this thread ran, and that it was ready to."""
    ran, waited, _ = Path(f"/proc/self/task/{threading.get_native_id()}/schedstat").read_text().split()
    return int(ran) / 1e9, int(waited) / 1e9


class Measurement:
    """One embedder on one device.

    Parameters
    ----------
    options : dict
        ``texts``: a parquet file; ``column``; ``rows``; ``width`` of vectors; ``device_s`` and ``launch_s`` for all
        of them; ``processes`` that tokenise; ``shards``; ``repeats``; ``late_s``: what an object takes longer to be
        written in a store that answers late; ``scratch``: a folder.
    """

    def __init__(self, options: dict[str, Any]) -> None:
        self.options = options
        column = pq.read_table(options["texts"], columns=[options["column"]]).column(0)
        self.texts: list[str] = column.slice(0, options["rows"]).to_pylist()
        folder = static_model_path()

        def feed(**more: Any) -> Feed:
            return Feed(TextTokenizer(open_tokenizer(folder), limit=LIMIT), limit=LIMIT, multiple=8, **more)

        more: dict[str, Any] = {}
        try:
            from latentscale.embedders.encoder import tokenizer_processes
            from latentscale.embedders.encoder.tokenizer_processes import processes_for, processes_for_tokenizer
        except ImportError:
            count = 0
        else:
            if options["remembered"]:
                before, after = tokenizer_processes._COMMAND.rsplit("main(", 1)
                tokenizer_processes._COMMAND = f"{before}exec({REMEMBERING!r}); main({after}"
            count = processes_for("cuda:0", options["processes"])
            more["processes"] = processes_for_tokenizer(open_tokenizer(folder), {"limit": LIMIT}, count)
        self.processes = count
        self._shards: list[Shard] = []
        batches = list(feed().batches(self.texts, Tally(len(self.texts)), budget=lambda: BUDGET))
        padded = sum(one.padded_tokens for one in batches)
        self.rate = options["device_s"] / padded
        self.launch_s = options["launch_s"] / len(batches)
        rows = np.random.default_rng(0).standard_normal((BUDGET, options["width"]), np.float32)
        self.rows = torch.from_numpy(rows / np.linalg.norm(rows, axis=1, keepdims=True))
        self._at = 0
        model: Any = SimpleNamespace(device="cuda:0", attention="pretended")
        documents = feed(**more)
        self.embedder: Any = EncoderEmbedder(
            model, documents=documents, queries=documents, dimensions=options["width"], batch_tokens=BUDGET
        )
        # There is no memory that a driver could pin.
        self.embedder._on_cuda = False
        self.embedder._on_device = self._on_device
        self._begin()

    def _begin(self, *, computes: bool = True) -> None:
        self.device = Device(self.rate if computes else 0.0)
        self.launches = Launches(self.launch_s if computes else 0.0)

    def _on_device(self, batch: Any, skipped: int) -> Rows:
        self.launches.one()
        written = self.device.give(batch.padded_tokens)
        self._at = 0 if self._at + len(batch) > len(self.rows) else self._at
        vectors = self.rows[self._at : self._at + len(batch)]
        self._at += len(batch)
        return Rows(text=batch.text, weight=batch.weight, vectors=vectors, written=written)

    def one_call(self) -> list[dict[str, float]]:
        """Texts to vectors, again and again."""
        found: list[dict[str, float]] = []
        self.embedder.embed(self.texts)
        for _ in range(self.options["repeats"]):
            self._begin()
            began, cpu = time.perf_counter(), _cpu()
            self.embedder.embed(self.texts)
            wall = time.perf_counter() - began
            found.append({"wall_s": wall, "busy_share": self.options["device_s"] / wall} | self._costs(cpu, calls=1))
        return found

    def shards(self, folder: Path, *, store_s: float) -> dict[str, float]:
        """Parquet to parquet, shard after shard, by the worker of the stage and its threads."""
        shards = self.options["shards"]
        firsts: list[int] = []
        compute, put = self.embedder.compute, Store.put_bytes

        def counted(prepared: Any) -> Any:
            firsts.append(len(self.device.busy))
            return compute(prepared)

        def late(own: Store, name: str, data: Any) -> Any:
            time.sleep(store_s)
            return put(own, name, data)

        self._begin()
        with mock.patch.object(self.embedder, "compute", counted), mock.patch.object(Store, "put_bytes", late):
            began, cpu, others = time.perf_counter(), _cpu(), _children_cpu()
            self._all_shards(folder)
            wall = time.perf_counter() - began
        size = sum(path.stat().st_size for path in (folder / "embeddings").rglob("*.parquet"))
        # The first shard is tokenised, and the last one written, while the device has nothing to do.
        idle = self.device.idle(firsts[1], firsts[-1])
        return {
            "wall_s": wall / shards,
            "busy_share": 1 - idle,
            "written_mb": size / 1e6 / shards,
            "processes_mb": sum(one.memory_info().rss for one in psutil.Process().children()) / 1e6,
            "processes_cpu_s": (_children_cpu() - others) / shards,
        } | self._costs(cpu, calls=shards)

    def lock(self, folder: Path) -> dict[str, float]:
        """Seconds a call, and a shard, for which others hold Python's lock than launches and the device's results."""
        if gilknocker is None:
            return {}
        found: dict[str, float] = {}
        parts = {"call": lambda: self.embedder.embed(self.texts), "shard": lambda: self._all_shards(folder)}
        for name, part in parts.items():
            self._begin(computes=False)
            # A native thread that asks for the lock, and notes how often it had to wait.
            asks = gilknocker.KnockKnock(polling_interval_micros=300)
            began = time.perf_counter()
            asks.start()
            for _ in range(self.options["repeats"] if name == "call" else 1):
                part()
            wall, share = time.perf_counter() - began, asks.contention_metric
            asks.stop()
            calls = self.options["repeats"] if name == "call" else self.options["shards"]
            found[f"{name}_lock_s"] = wall * share / calls
        return found

    def _all_shards(self, folder: Path) -> None:
        spec: Any = SimpleNamespace(reads="texts", terms=None, dimensions=self.options["width"], name="pretended")
        request = EmbeddingRequest(model={"model": "pretended"}, dtype="float16", text="text")
        shutil.rmtree(folder / "embeddings", ignore_errors=True)
        with mock.patch("latentscale.stages.embed.opened_embedder", return_value=self.embedder):
            worker = EmbedWorker(Store(str(folder)), spec, request, on_processors=True)
        done = list(pipelined.run_here(worker, self.written(folder), in_flight=pipelined.IN_FLIGHT))
        assert all(one.embedded == len(self.texts) for one in done)

    def written(self, folder: Path) -> list[Shard]:
        """The shards of documents: all texts each, in another order."""
        if self._shards:
            return self._shards
        store, rows, shards = Store(str(folder)), len(self.texts), self._shards
        for number in range(self.options["shards"]):
            order = np.arange(rows) if self.options["remembered"] else np.random.default_rng(number).permutation(rows)
            table = pa.table(
                {"text": [self.texts[row] for row in order.tolist()], "source": ["a"] * rows, "source_row": order}
            )
            key = f"{number:x}" * 64
            write_parquet(store, document_name(key), table, facts={})
            shards.append(Shard(key=key, name=document_name(key), rows=rows, base=number * rows, bytes=1))
        return shards

    def _costs(self, cpu: float, *, calls: int) -> dict[str, float]:
        launches = self.launches
        return {
            "launch_cpu_s": launches.cpu / calls,
            "launch_lock_s": launches.lock / calls,
            "launch_processor_s": launches.processor / calls,
            "other_cpu_s": (_cpu() - cpu - launches.cpu) / calls,
        }


def _cpu() -> float:
    """Processor time of this process alone."""
    return time.process_time()


def _children_cpu() -> float:
    times = [one.cpu_times() for one in psutil.Process().children()]
    return sum(one.user + one.system for one in times)


def main() -> None:
    """Print what was found, as JSON."""
    options = json.loads(sys.argv[1])
    measurement = Measurement(options)
    calls = measurement.one_call()
    folder = Path(tempfile.mkdtemp(dir=options["scratch"]))
    try:
        measurement.written(folder)
        # The first pass allocates the memory of all threads, and starts the processes.
        measurement.shards(folder, store_s=0.0)
        found: dict[str, Any] = {
            "calls": calls,
            "shards": measurement.shards(folder, store_s=0.0),
            "shards_late": measurement.shards(folder, store_s=options["late_s"]),
            "lock": measurement.lock(folder),
            "processes": measurement.processes,
        }
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    print(json.dumps(found | {"package": str(Path(latentscale.__file__).parent)}))


if __name__ == "__main__":
    main()
