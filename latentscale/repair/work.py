"""State of a repair: the workspace, the losses so far, and the runs that rebuild objects."""

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
    """The state of a repair.

    Parameters
    ----------
    store : Store
    observer : Observer

    Attributes
    ----------
    recorded : Recorded
        How the objects were made.
    begun : list of Fault
        Faults repaired before the workspace could be verified.
    lost : dict of str to str
        Objects that cannot be rebuilt, with an explanation.
    """

    def __init__(self, store: Store, observer: Observer) -> None:
        self.store = store
        self.observer = observer
        self.recorded = Recorded(store)
        self.begun: list[Fault] = []
        self.lost: dict[str, str] = {}

    def at_work(self, values: Mapping[str, Any], work: Callable[[RunContext], None]) -> str:
        """Do ``work`` as a separate run; returns the reason if it failed, else an empty string."""
        try:
            context = self._context(values)
            # Marked as a repair, so that later commands do not take their settings from this run.
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
