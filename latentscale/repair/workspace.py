"""Repair of a workspace: rebuild objects from the corpus, the settings and other objects, under the same names."""

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

# A rebuilt object may reveal further faults: a snapshot those of its documents, these those of their maps.
ROUNDS = 4


@dataclass(slots=True, kw_only=True)
class Repairs:
    """The result of a repair.

    Attributes
    ----------
    mended : list of Fault
        The repaired faults.
    lost : list of str
        Objects that cannot be recomputed, a sentence each: the loss and its reason.
    report : Report
        The verification afterwards, with the remaining faults.
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
    """Verify a workspace, rebuild damaged and missing objects, and verify it again.

    Rebuilt objects have the same inputs and settings, and so the same identity. Intact objects are not changed, and
    damaged objects that cannot be rebuilt are kept; damaged run records are deleted and reported as lost.

    Raises
    ------
    DamagedObjectError
        If the workspace record is damaged and cannot be rebuilt from a run.
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
    """Raise if an object was written by another version: it is not damaged, and must not be deleted or rebuilt."""
    _, damaged = read_records(store)
    for error in damaged.values():
        if isinstance(error, WorkspaceError) and not isinstance(error, MissingObjectError):
            raise error
    reads: list[Callable[[], object]] = [partial(read_head, store)]
    reads += [partial(read_run, store, identity) for identity in run_ids(store)]
    for read in reads:
        # Missing and damaged objects are repaired later.
        with contextlib.suppress(DamagedObjectError, MissingObjectError):
            read()


def _mend(repair: Repair, faults: Iterable[Fault]) -> None:
    """Rebuild the objects of these faults, in the order of their dependencies."""
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
