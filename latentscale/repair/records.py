"""Rebuild the workspace record, `HEAD.json` and the page, and delete damaged reports and caches."""

from __future__ import annotations

from collections.abc import Iterable

from latentscale.config import CorpusConfig
from latentscale.errors import DamagedObjectError, WorkspaceError
from latentscale.repair.work import Repair
from latentscale.stages import ingest, publish
from latentscale.storage.head import NAME as HEAD
from latentscale.storage.head import write_head
from latentscale.storage.runs import run_ids
from latentscale.storage.workspace_record import OBJECT as WORKSPACE
from latentscale.storage.workspace_record import default_name, read_workspace, restore_workspace
from latentscale.upkeep.checks.maps import map_of_page
from latentscale.upkeep.checks.report import Fault

# Caches: without them the next run takes longer but gives the same result.
_CACHES = ("receipts/", "label-receipts/", "ids/", "answers/", "spending/")


def mend_workspace_record(repair: Repair) -> None:
    """Rebuild ``workspace.json`` from the settings of the first readable run."""
    try:
        read_workspace(repair.store)
        return
    except DamagedObjectError as error:
        problem = error
    except WorkspaceError as error:
        # A workspace of another version, or not a workspace at all.
        if repair.store.exists(WORKSPACE) or not run_ids(repair.store):
            raise
        problem = error
    for run in repair.recorded.runs():
        corpus = CorpusConfig.model_validate(run["job"]["corpus"])
        restore_workspace(
            repair.store,
            name=run["job"].get("name") or default_name(repair.store),
            text_column=ingest.stored_text_column(corpus),
            id_column=ingest.stored_id_column(corpus),
            corpus=run["job"]["corpus"],
            created=str(run["started"]),
        )
        repair.begun.append(Fault(object=WORKSPACE, problem=problem.message))
        return
    raise problem


def drop_reports(repair: Repair, names: Iterable[str]) -> None:
    """Delete damaged caches and reports, and report the loss."""
    for name in names:
        if name.startswith(_CACHES):
            repair.store.delete([name])
        elif name.startswith("runs/"):
            repair.store.delete([name])
            repair.lost[name] = f"{name}: what was reported of that run; no map needs it"
        elif name.startswith("uploads/"):
            repair.lost[name] = (
                f"{name}: the data that were passed from Python. The documents read from them are kept; give the "
                "data again before the next update"
            )


def mend_head(repair: Repair, names: Iterable[str]) -> None:
    """Rebuild ``HEAD.json``: the current map is the one that the page shows, or that the last run made."""
    if HEAD not in names:
        return
    maps = {record.id: record for record in repair.recorded.maps()}
    chosen = map_of_page(repair.store, maps.values())
    if chosen is None:
        for run in repair.recorded.runs():
            shown = (run["facts"].get("artifacts") or {}).get("publish")
            if shown in maps and run["facts"].get("published") is not False:
                chosen = shown
    if chosen is None:
        repair.lost[HEAD] = f"{HEAD}: which map is the current one; latentscale promote chooses one"
        return
    write_head(repair.store, chosen)
    repair.observer.note(f"{HEAD} names {chosen} again, the map that the page shows or the last run made")


def mend_page(repair: Repair) -> None:
    """Rebuild the page of the current map."""
    head = repair.recorded.head()
    record = None if head is None else repair.recorded.find(head)
    if record is not None:
        publish.write_public_page(repair.store, record, again=True)
