"""The stage ``ingest`` for the registry and the planner."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from latentscale.config import JobConfig
from latentscale.registry import StageEntry, stage_entry
from latentscale.stages.stage import Cost, JobSize, Table


class IngestStage:
    """The documents of a corpus; see :class:`latentscale.stages.stage.Stage`."""

    name = "ingest"
    # Its results are shards and a snapshot, which ``verify`` checks separately.
    tables: ClassVar[Mapping[str, Table]] = {}

    @property
    def entry(self) -> StageEntry:
        """Return the entry of the registry."""
        return stage_entry(self.name)

    def cost(self, size: JobSize, config: JobConfig) -> Cost:
        """Estimate by the measured rate of parquet, and the start of a process with its imports."""
        return Cost(
            cpu_seconds=1.2 + 5.0e-6 * size.documents * size.length, parallel=True, disk_bytes=0.6 * size.text_bytes
        )


STAGE = IngestStage()
