"""Workers that begin only when as many as were asked for are at work: on the path of the nodes and of a driver."""

from __future__ import annotations

import json
import os
import sys
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from latentscale.config import EngineConfig
from latentscale.storage.attempts import AttemptLog
from latentscale.storage.objects import Store


@dataclass(frozen=True)
class Numbered:
    """A task as the stages have them: with a key."""

    key: str


class Meeting:
    """A worker whose first shard waits for the first shards of the others."""

    def __init__(self, folder: Path, workers: int) -> None:
        import ray

        self.folder, self.workers = folder, workers
        self.name = f"{ray.util.get_node_ip_address()} {os.getpid()}"

    def __call__(self, task: Numbered) -> list[str]:
        (self.folder / self.name).touch()
        deadline = time.monotonic() + 120
        while len(list(self.folder.iterdir())) < self.workers:
            assert time.monotonic() < deadline, "the others do not come"
            time.sleep(0.02)
        time.sleep(0.05)
        return [task.key, self.name]


def main() -> None:
    """Print which worker did each shard, and how many each node did."""
    from latentscale.engines.ray.engine import RayEngine

    address, folder, workers, shards = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
    engine = RayEngine(EngineConfig(name="ray", address=address, workers=workers))
    meeting = folder / "meeting"
    meeting.mkdir(parents=True)
    made = engine.map_shards(
        partial(Meeting, meeting, workers),
        [Numbered(str(i)) for i in range(shards)],
        stage="embed",
        task_type=Numbered,
        receipt_type=list[str],
        attempts=AttemptLog(Store(str(folder)), "run"),
    )
    print(json.dumps([list(made), engine.describe()["hosts"]["embed"]]))
    engine.close()
