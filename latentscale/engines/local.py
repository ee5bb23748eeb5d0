"""Run everything in this process: the libraries of each stage use the processors by themselves."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

from latentscale.engines import Quarantined
from latentscale.storage.attempts import AttemptLog

Task = TypeVar("Task")
Receipt = TypeVar("Receipt")
Result = TypeVar("Result")


class LocalEngine:
    """The default engine: a loop, no daemon, no import of Ray."""

    name = "local"

    def describe(self) -> dict[str, Any]:
        """What runs the work, for the run's record."""
        return {"engine": self.name}

    def map_shards(
        self,
        make_worker: Callable[[], Callable[[Task], Receipt]],
        tasks: Sequence[Task],
        *,
        stage: str,
        task_type: type[Task],
        receipt_type: Any,
        attempts: AttemptLog,
    ) -> Iterator[Receipt | Quarantined]:
        """Run a worker over tasks, one after the other; one that dies takes this process with it."""
        if not tasks:
            return
        worker = make_worker()
        for task in tasks:
            yield worker(task)

    def call(
        self, function: Callable[..., Result], *, stage: str, progress: Callable[[int, int], None] | None = None
    ) -> Result:
        """Call the function."""
        return function() if progress is None else function(progress=progress)

    def close(self) -> None:
        """Nothing is held."""
