"""The stage ingest, as the pipeline and the planner know it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from latentscale.config import JobConfig
from latentscale.registry import StageEntry, stage_entry
from latentscale.stages.stage import Cost, JobSize, Table


class IngestStage:
    """The documents of a corpus; see :class:`latentscale.stages.stage.Stage`."""

    name = "ingest"
    # It leaves shards and a snapshot, which ``verify`` checks by themselves.
    tables: ClassVar[Mapping[str, Table]] = {}

    @property
    def entry(self) -> StageEntry:
        """Return the entry of the registry."""
        return stage_entry(self.name)

    def cost(self, size: JobSize, config: JobConfig) -> Cost:
        """Estimate by the measured rate of parquet, and the start of a process with what it imports."""
        return Cost(
            cpu_seconds=1.2 + 5.0e-6 * size.documents * size.length, parallel=True, disk_bytes=0.6 * size.text_bytes
        )


STAGE = IngestStage()
