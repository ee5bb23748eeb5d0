"""With n workers the shards divide, and go where the resources are that a stage asks for."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

import latentscale

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(300)]

SHARDS = 24


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_n_workers_have_n_shards_in_hand_at_once_and_each_shard_is_done_once(
    cluster: Any, tmp_path: Path, workers: int
) -> None:
    arguments = [cluster.head.address, str(tmp_path / "w"), str(workers), str(SHARDS)]
    done = subprocess.run(
        [sys.executable, "-c", "import meeting; meeting.main()", *arguments],
        env=cluster.environment | {"PYTHONPATH": cluster.path},
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert done.returncode == 0, done.stderr
    made, hosts = json.loads(done.stdout.splitlines()[-1])
    assert sorted(int(key) for key, _ in made) == list(range(SHARDS))
    shares = Counter(name for _, name in made)
    assert len(shares) == workers
    # A node has one processor: each worker has a node of its own.
    assert hosts == {name.split()[0]: count for name, count in shares.items()}
    assert min(shares.values()) >= SHARDS // workers // 2, shares


def test_shards_go_only_where_the_resources_are(cluster: Any, corpus: Path, tmp_path: Path) -> None:
    out = tmp_path / "map"
    (green,) = (node.host for node in cluster.nodes if "green" in node.resources)
    words = ["--text", "body", "--id", "package", "--set", "ingest.shard_rows=64"]
    resources = "engine.resources={ingest: {custom: {green: 0.5}}}"
    process = cluster.latentscale("ingest", corpus, "--out", out, *words, "--set", resources)
    _, wrong = process.communicate(timeout=200)
    assert process.returncode == 0, wrong
    assert latentscale.open(out).runs[-1]["facts"]["engine"]["hosts"] == {"ingest": {green: 12}}
