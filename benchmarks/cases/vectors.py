"""Gather the vectors of a corpus once per machine, and measure the private memory of each global stage."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

from benchmarks.corpora import Context
from benchmarks.processes import fresh
from benchmarks.report import Result, Target

DOCUMENTS = (100_000, 200_000, 400_000)
SHARD_ROWS = 10_000
WIDTH = 256
STAGES = ("start of the layout", "K-means", "nearest centroid", "faithfulness")
EMBEDDING = "embedding-0000000000000000"


def run(context: Context) -> Result:
    """For three sizes, write the file in a first process, then run each stage that reuses it in a fresh process."""
    sizes = [size // 10 for size in DOCUMENTS] if context.quick else list(DOCUMENTS)
    rows: list[dict[str, Any]] = []
    open_seconds: list[float] = []
    private_mb: dict[int, float] = {}
    for documents in sizes:
        folder = context.emptied("vectors")
        fresh(write_shards, folder=folder, documents=documents)
        matrix_mb = documents * WIDTH * 4 / 1e6
        size = {"documents": documents, "shards": documents // SHARD_ROWS, "matrix_mb": matrix_mb}
        for threads in (1, 2):
            scratch = folder / f"scratch-{threads}"
            usage, measured = fresh(gathered, folder=folder, scratch=scratch, documents=documents, threads=threads)
            what = f"first stage, {threads} thread{'s' * (threads > 1)}: reads the shards, writes the file"
            rows.append(
                {"what": what, **size, "wall_s": measured["wall_s"], "cpu_s": usage.cpu_s, "own_mb": measured["own_mb"]}
            )
        for stage in STAGES:
            usage, measured = fresh(worked, folder=folder, scratch=scratch, documents=documents, stage=stage)
            open_seconds.append(measured["found_s"])
            private_mb[documents] = max(private_mb.get(documents, 0.0), measured["own_mb"])
            rows.append(
                {
                    "what": f"· {stage}",
                    **size,
                    "found_s": measured["found_s"],
                    "wall_s": measured["wall_s"],
                    "cpu_s": usage.cpu_s,
                    "own_mb": measured["own_mb"],
                }
            )
    largest, smallest = max(private_mb), min(private_mb)
    matrix_mb = largest * WIDTH * 4 / 1e6
    return Result(
        title="The vectors of a corpus as one file on a machine, which each global stage maps in a process of its own.",
        parameters={"width": WIDTH, "shard_rows": SHARD_ROWS, "stored": "float16", "threads of a stage": 2},
        rows=rows,
        targets=[
            Target(
                what="a further stage: until it has the vectors, whatever their number",
                value=max(open_seconds),
                limit=0.1,
                unit="s",
            ),
            Target(
                what=f"own memory of the hungriest stage at {largest:,} documents, of the matrix",
                value=100 * private_mb[largest] / matrix_mb,
                limit=50,
                unit="%",
            ),
            Target(
                what=f"own memory added by {largest - smallest:,} documents, of their vectors",
                value=100 * (private_mb[largest] - private_mb[smallest]) / (matrix_mb * (1 - smallest / largest)),
                limit=25,
                unit="%",
            ),
        ],
        notes=[
            "`own_mb` is memory of the process alone (RssAnon) beyond what it had before; pages of the mapped file are "
            "shared by all processes, and the system takes them back when it needs them. "
            "A copy of the matrix, which stages made before, would be 100 % of it.",
            "Vectors are drawn around 20 directions; files are in the page cache, as they are after embedding.",
        ],
    )


def write_shards(folder: str, documents: int) -> dict[str, Any]:
    """Write the shards of vectors of ``documents`` documents."""
    import numpy as np

    from latentscale.stages.embed import vector_table
    from latentscale.storage.objects import Store
    from latentscale.storage.parquet import write_parquet
    from latentscale.storage.vectors import vector_name

    store = Store(folder)
    random = np.random.default_rng(0)
    centers = random.normal(size=(20, WIDTH)).astype(np.float32)
    for shard in _snapshot(documents).shards:
        vectors = centers[random.integers(0, 20, shard.rows)] + random.standard_normal(
            (shard.rows, WIDTH), dtype=np.float32
        )
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        table = vector_table(vectors, np.ones(shard.rows, dtype=bool), "float16")
        facts = {"embedding": EMBEDDING, "dim": WIDTH, "embedded": shard.rows}
        write_parquet(
            store, vector_name(EMBEDDING, shard.key), table, facts=facts, byte_stream_split=["vector.list.element"]
        )
    return {}


def gathered(folder: str, scratch: str, documents: int, threads: int) -> dict[str, Any]:
    """Gather the vectors in the first process that needs them."""
    from latentscale.storage import vectors
    from latentscale.storage.objects import Store

    # Small sets are kept in memory; here all are written to the file.
    vectors.IN_MEMORY_BYTES = 0
    store, snapshot = Store(folder), _snapshot(documents)
    with _PrivateMemory() as memory:
        started = time.perf_counter()
        loaded = vectors.load_vectors(store, snapshot, EMBEDDING, scratch=scratch, threads=threads)
        wall = time.perf_counter() - started
    assert len(loaded) == documents
    return {"wall_s": wall, "own_mb": memory.grown / 1e6}


def worked(folder: str, scratch: str, documents: int, stage: str) -> dict[str, Any]:
    """Reuse the vectors in a later process, and do the work of a stage with them."""
    import numpy as np

    from latentscale.backends.cpu.clustering import kmeans, nearest_centroid
    from latentscale.backends.cpu.faithfulness import faithfulness
    from latentscale.backends.cpu.layout import pca_init
    from latentscale.storage import vectors
    from latentscale.storage.objects import Store

    def work(matrix: Any) -> None:
        n = len(matrix)
        if stage == "start of the layout":
            pca_init(matrix, n_components=2, seed=0)
        elif stage == "K-means":
            kmeans(matrix, n_clusters=20, seed=0, threads=2)
        elif stage == "nearest centroid":
            labels = np.where(np.arange(n) % 3, -1, np.arange(n) // 3 % 50).astype(np.int32)
            nearest_centroid(matrix, labels)
        else:
            faithfulness(matrix, np.ascontiguousarray(matrix[:, :2]), k=15, sample=128, seed=0, threads=2)

    vectors.IN_MEMORY_BYTES = 0
    store, snapshot = Store(folder), _snapshot(documents)
    started = time.perf_counter()
    matrix = vectors.load_vectors(store, snapshot, EMBEDDING, scratch=scratch).matrix
    found_s = time.perf_counter() - started
    # Exclude compiled code and thread pools from the measured growth.
    work(np.array(matrix[:2_000]))
    with _PrivateMemory() as memory:
        started = time.perf_counter()
        work(matrix)
        wall = time.perf_counter() - started
    return {"found_s": found_s, "wall_s": wall, "own_mb": memory.grown / 1e6}


def _snapshot(documents: int) -> Any:
    import numpy as np
    import pyarrow as pa

    from latentscale.storage.snapshot import ShardTable, Snapshot

    count = documents // SHARD_ROWS
    rows = np.full(count, SHARD_ROWS)
    keys = pa.array([f"{number:032x}-00000e" for number in range(count)])
    shards = ShardTable(keys=keys, rows=rows, bases=np.cumsum(rows) - rows, bytes=rows * 400)
    return Snapshot(id=f"snapshot-{documents:016x}", shards=shards, superseded=np.empty(0, dtype=np.int64))


class _PrivateMemory:
    """Measures the peak growth of the private memory of this process."""

    grown = 0.0

    def __enter__(self) -> _PrivateMemory:
        self._before = self._peak = _anonymous()
        self._ended = threading.Event()
        self._poller = threading.Thread(target=self._poll, daemon=True)
        self._poller.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._poller.join()
        self.grown = float(max(self._peak, _anonymous()) - self._before)

    def _poll(self) -> None:
        while not self._ended.wait(0.002):
            self._peak = max(self._peak, _anonymous())


def _anonymous() -> int:
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("RssAnon"))
