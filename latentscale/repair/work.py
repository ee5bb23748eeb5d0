"""One repair: the workspace, what was found to be lost so far, and runs that make something again."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from latentscale.config import parse_job
from latentscale.errors import LatentScaleError
from latentscale.pipeline.context import RunContext
from latentscale.pipeline.observe import Observer
from latentscale.repair.recorded import Recorded
from latentscale.storage.objects import Store
from latentscale.storage.vectors import spooled_vectors
from latentscale.upkeep.checks.report import Fault


class Repair:
    """One repair.

    Parameters
    ----------
    store : Store
    observer : Observer

    Attributes
    ----------
    recorded : Recorded
        How the objects were made.
    begun : list of Fault
        What was mended before the workspace could be verified.
    lost : dict of str to str
        What cannot be made again: a sentence by object.
    """

    def __init__(self, store: Store, observer: Observer) -> None:
        self.store = store
        self.observer = observer
        self.recorded = Recorded(store)
        self.begun: list[Fault] = []
        self.lost: dict[str, str] = {}

    def at_work(self, values: Mapping[str, Any], work: Callable[[RunContext], None]) -> str:
        """Do some work as a run of its own; returns why it failed, or nothing."""
        try:
            context = self._context(values)
            # Its record is that of a repair, which no later command goes by.
            context.run.facts["published"] = False
            with context.recorded(), context.leased("repair"), spooled_vectors(self.store):
                try:
                    work(context)
                finally:
                    context.outcome.snapshot = None
                    context.outcome.records.clear()
        except LatentScaleError as error:
            return error.message
        return ""

    def _context(self, values: Mapping[str, Any]) -> RunContext:
        storage = {} if self.store.is_local else {"storage": self.store.storage.model_dump(mode="json")}
        config = parse_job({**values, "out": self.store.url, **storage}, where="the recorded settings")
        return RunContext(config, self.observer)
