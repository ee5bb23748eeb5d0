"""Repair a workspace: what follows from the corpus, the settings and other objects is made again under its name."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Any

from latentscale.errors import DamagedObjectError, MissingObjectError, WorkspaceError
from latentscale.pipeline.observe import Observer
from latentscale.repair.artifacts import mend_artifacts, mend_records
from latentscale.repair.records import drop_reports, mend_head, mend_page, mend_workspace_record
from latentscale.repair.shards import mend_documents, mend_vectors
from latentscale.repair.snapshots import mend_snapshots
from latentscale.repair.work import Repair
from latentscale.stages import publish
from latentscale.storage.head import read_head
from latentscale.storage.objects import Store
from latentscale.storage.runs import read_run, run_ids
from latentscale.upkeep.checks.artifacts import read_records
from latentscale.upkeep.checks.report import Fault, Report
from latentscale.upkeep.verify import verify_workspace

# What is made again may show what was hidden behind it: a snapshot, then its documents, then the maps of those.
ROUNDS = 4


@dataclass(slots=True, kw_only=True)
class Repairs:
    """The result of a repair.

    Attributes
    ----------
    mended : list of Fault
        What was wrong and is not any more.
    lost : list of str
        What cannot be computed again, a sentence each: what is lost, and why.
    report : Report
        The verification afterwards: its faults are those that stay.
    seconds : float
    """

    mended: list[Fault] = field(default_factory=list[Fault])
    lost: list[str] = field(default_factory=list[str])
    report: Report
    seconds: float = 0.0

    def as_json(self) -> dict[str, Any]:
        """Return plain values."""
        return asdict(self)


def repair_workspace(store: Store, observer: Observer) -> Repairs:
    """Verify a workspace, make again what is damaged or missing, and verify it once more.

    What is made again has the inputs, the settings and so the identity that it had. Nothing intact is altered, and an
    object that cannot be made again is left as it is; damaged records of runs are deleted, and said to be lost.

    Raises
    ------
    DamagedObjectError
        If the workspace's own record is damaged and no run tells what it was.
    WorkspaceError
        If an object was written by a version with another schema.
    LatentScaleError
        If the store fails.
    """
    started = time.monotonic()
    repair = Repair(store, observer)
    mend_workspace_record(repair)
    _refuse_other_versions(store)
    first = report = verify_workspace(store)
    for _ in range(ROUNDS):
        before = [str(fault) for fault in report.faults]
        if not before:
            break
        _mend(repair, report.faults)
        report = verify_workspace(store)
        if [str(fault) for fault in report.faults] == before:
            break
    left = {fault.object for fault in report.faults}
    return Repairs(
        mended=[*repair.begun, *(fault for fault in first.faults if fault.object not in left)],
        lost=list(repair.lost.values()),
        report=report,
        seconds=round(time.monotonic() - started, 3),
    )


def _refuse_other_versions(store: Store) -> None:
    """What a later version wrote is no damage: nothing is deleted or made again beside it."""
    _, damaged = read_records(store)
    for error in damaged.values():
        if isinstance(error, WorkspaceError) and not isinstance(error, MissingObjectError):
            raise error
    reads: list[Callable[[], object]] = [partial(read_head, store)]
    reads += [partial(read_run, store, identity) for identity in run_ids(store)]
    for read in reads:
        # Deleted meanwhile, or damaged: that is what a repair is for.
        with contextlib.suppress(DamagedObjectError, MissingObjectError):
            read()


def _mend(repair: Repair, faults: Iterable[Fault]) -> None:
    """Make again what these faults name, in the order in which one rests on the other."""
    names = [fault.object for fault in faults]
    drop_reports(repair, names)
    mend_snapshots(repair, faults)
    mend_documents(repair, faults)
    mend_records(repair)
    mend_vectors(repair, names)
    mend_artifacts(repair, faults)
    mend_head(repair, names)
    if any(name.startswith(f"{publish.PAGE_FOLDER}/") for name in names):
        mend_page(repair)
