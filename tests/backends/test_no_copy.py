"""What the global stages hold of a mapped matrix in memory of their own: blocks of it, never a copy."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from latentscale.backends.cpu.vectors import unit_rows
from latentscale.errors import CorpusError

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells memory of files and of the process")

# The whole matrix is 197 MB; a stage that copied it would need more than this in any case.
LIMIT = 150e6

MEASURE = """
import json, sys, threading
from pathlib import Path
import numpy as np
from latentscale.backends.cpu.clustering import kmeans, nearest_centroid
from latentscale.backends.cpu.layout import pca_init
from latentscale.backends.cpu.neighbors import nearest_neighbors
from latentscale.backends.cpu.faithfulness import faithfulness
from latentscale.storage.scratch import share_files

stage, scratch, rows, width = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])

def write(folder):
    random = np.random.default_rng(0)
    centers = random.normal(size=(20, width)).astype(np.float32)
    with (folder / "matrix").open("wb") as file:
        for _ in range(0, rows, 1000):
            some = centers[random.integers(0, 20, 1000)]
            some = some + random.standard_normal(some.shape, dtype=np.float32)
            some /= np.linalg.norm(some.astype(np.float64), axis=1, keepdims=True).astype(np.float32)
            file.write(some.data)
    return {}

def run(matrix):
    n = len(matrix)
    if stage == "neighbors":
        nearest_neighbors(matrix, k=10, method="pynndescent", recall_target=0.0, seed=0, threads=2)
    elif stage == "kmeans":
        kmeans(matrix, n_clusters=8, seed=0, threads=2)
    elif stage == "nearest_centroid":
        # Nearly all documents are noise.
        nearest_centroid(matrix, np.where(np.arange(n) % 100, -1, np.arange(n) // 100 % 7).astype(np.int32))
    elif stage == "start":
        pca_init(matrix, n_components=2, seed=0)
    else:
        layout = np.ascontiguousarray(matrix[:, :2])
        faithfulness(matrix, layout, k=15, sample=64, seed=0, threads=1)

def anonymous():
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("RssAnon"))

matrix = share_files(scratch, f"vectors-{rows}-{width}", write).map("matrix", np.float32, (rows, width))
run(np.array(matrix[:2000]))  # compiled code and thread pools are no copy of anything
before, seen, ended = anonymous(), [], threading.Event()

def watch():
    while not ended.wait(0.002):
        seen.append(anonymous())

watcher = threading.Thread(target=watch)
watcher.start()
run(matrix)
# Again where the watcher was hardly on a processor.
while len(seen) <= 5 and watcher.is_alive():
    run(matrix)
ended.set()
watcher.join()
print(json.dumps({"grown": max(seen) - before, "samples": len(seen)}))
"""


@pytest.fixture(scope="module")
def matrices(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the processes share what the first of them wrote."""
    return tmp_path_factory.mktemp("matrices")


@pytest.mark.parametrize(
    ("stage", "rows", "width"),
    [
        # NN-descent on few long vectors: the same bytes, in a tenth of the time.
        ("neighbors", 24_000, 2_048),
        ("kmeans", 192_000, 256),
        ("nearest_centroid", 192_000, 256),
        ("start", 192_000, 256),
        ("faithfulness", 192_000, 256),
    ],
)
def test_no_stage_copies_a_mapped_matrix(stage: str, rows: int, width: int, matrices: Path) -> None:
    command = [sys.executable, "-c", MEASURE, stage, str(matrices), str(rows), str(width)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    found = json.loads(done.stdout)
    assert found["samples"] > 5
    assert found["grown"] < LIMIT, f"{stage} held {found['grown'] / 1e6:.0f} MB of its own"


def test_unit_rows_are_used_where_they_are() -> None:
    rows = np.random.default_rng(0).normal(size=(9000, 32)).astype(np.float32)
    rows[17] = 0
    once = unit_rows(rows)
    assert once is not rows
    assert np.shares_memory(unit_rows(once), once)
    read_only = once.view()
    read_only.flags.writeable = False
    assert np.shares_memory(unit_rows(read_only), once)
    for other in (once[:, ::2], once.astype(np.float64), np.asfortranarray(once), once * np.float32(1.00001)):
        assert not np.shares_memory(unit_rows(other), other)
        lengths = np.linalg.norm(unit_rows(other).astype(np.float64), axis=1)
        assert np.abs(lengths[lengths > 0] - 1).max() < 2.5e-7


def test_a_value_that_is_not_a_number_is_found_among_unit_rows() -> None:
    rows = np.eye(20_000, 8, dtype=np.float32)
    rows[:, 0] = 1
    rows = unit_rows(rows)
    rows[12_345, 3] = np.nan
    with pytest.raises(CorpusError, match="not a number") as raised:
        unit_rows(rows)
    assert raised.value.where == "document at position 12,345"
