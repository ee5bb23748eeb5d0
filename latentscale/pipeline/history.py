"""Earlier runs of a workspace: the one that the next command continues, and the settings of a map."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

from latentscale.config import setting_groups
from latentscale.errors import DamagedObjectError, WorkspaceError
from latentscale.file_names import argument
from latentscale.storage.artifacts import Record, list_records
from latentscale.storage.head import NAME, current_map, read_head, read_head_time
from latentscale.storage.objects import Store
from latentscale.storage.runs import failed_by_request, read_run, run_ids
from latentscale.storage.workspace_record import read_workspace

# Groups omitted from a map's record: where a run computes and how it reaches a store are not part of a map.
_OF_THE_RUN = ("engine", "storage")
# Settings that determine the documents of a corpus.
SELECTION = ("sources", "text", "id", "format", "where", "limit", "sample", "vectors")


def needed_map(store: Store) -> Record:
    """Read the current map.

    Raises
    ------
    WorkspaceError
        If there is none; lists maps that could be chosen.
    """
    found = current_map(store)
    if found is not None:
        return found
    read_workspace(store)
    maps = list_records(store, ["map"])
    if not maps:
        raise WorkspaceError(
            f"{store.url} has no map yet", hint="latentscale run CORPUS --text COLUMN --out WORKSPACE makes one."
        )
    listed = ", ".join(f"{one.id} ({one.created}, {int(one.counts['documents']):,} documents)" for one in maps[-4:])
    number = f"{len(maps):,} maps" if len(maps) > 1 else "one map"
    raise WorkspaceError(
        f"{store.url} holds {number} and none is the current one (there is no {NAME}): {listed}",
        where=store.url,
        hint=f"latentscale promote {argument(store.url)} {maps[-1].id} makes that one the current one.",
    )


def leading_run(store: Store) -> dict[str, Any] | None:
    """Find the run that the next command continues: that of the current map, or a later one that did not publish.

    For example, stages after an ``ingest`` of other documents use those. Runs are skipped if their map is not the
    current one or was never to be, or if they failed by their own settings; but if there is no other, the documents of
    such a run are used with other settings.
    """
    head, since = read_head(store), read_head_time(store)
    failed: dict[str, Any] | None = None
    for run in _readable_runs(store):
        made = run["facts"].get("artifacts") or {}
        if not run["facts"].get("snapshot"):
            continue
        if failed_by_request(run):
            failed = failed or run
            continue
        if made.get("publish") == head if head is not None else run["facts"].get("published") is not False:
            return run
        if "publish" not in made and since is not None and _time_of(run["id"]) > datetime.fromisoformat(since):
            return run
    return failed if head is None else None


def recorded_fingerprint(store: Store) -> Literal["stat", "content"] | None:
    """Return how the last run that listed its inputs recognised files, or None if there was none."""
    for run in _readable_runs(store):
        rule = run["job"].get("ingest", {}).get("fingerprint")
        if run["facts"].get("snapshot") and rule in ("stat", "content"):
            return rule
    record = current_map(store)
    rule = None if record is None or record.job is None else record.job.get("ingest", {}).get("fingerprint")
    return rule if rule in ("stat", "content") else None


def settings_of_map(store: Store, record: Record) -> dict[str, Any]:
    """Return the settings of the map ``record``, by group.

    Corpus and store settings are those of the last run that made or reused the map; stage settings those of its fit.

    Raises
    ------
    WorkspaceError
        If they are lost with the records of its runs.
    """
    fit = str((record.request.get("update") or {}).get("fit") or record.id)
    shown = next(
        (run for run in _readable_runs(store) if (run["facts"].get("artifacts") or {}).get("publish") == record.id),
        None,
    )
    job = (shown or {}).get("job") or record.job or _job_of_run(store, record)
    fitted = record if fit == record.id else next((r for r in list_records(store, ["map"]) if r.id == fit), record)
    stages = _job_of_run(store, fitted) or fitted.job or job
    if job is None or stages is None:
        raise WorkspaceError(
            f"the settings with which {record.id} was made are lost: the records of its runs were deleted",
            where=store.path("runs"),
            hint="`latentscale run CORPUS … --refit --out WORKSPACE` with the same settings makes a map aligned to it.",
        )
    values = {group: stages[group] for group in setting_groups() if group in stages}
    values |= {group: job[group] for group in ("storage",) if group in job}
    return values | {"corpus": with_full_sources(store, job["corpus"])}


def map_job(job: Mapping[str, Any]) -> dict[str, Any]:
    """Select the settings of a run that are stored in the record of its map."""
    kept = {group: job[group] for group in setting_groups() if group in job and group not in _OF_THE_RUN}
    # A preview does not affect a map.
    kept["project"] = {key: value for key, value in kept["project"].items() if key != "preview"}
    return kept | {"corpus": {key: value for key, value in job["corpus"].items() if key != "storage"}}


def with_full_sources(store: Store, corpus: Mapping[str, Any]) -> dict[str, Any]:
    """Return corpus settings with absolute sources.

    Records of runs have absolute paths; those of earlier versions have paths as typed, relative to the folder in the
    workspace's record.
    """
    sources = [str(source) for source in corpus["sources"]]
    full = [str(source) for source in read_workspace(store).corpus["sources"]]
    if len(full) == len(sources) and all(map(_is_end_of, sources, full)):
        sources = full
    return {**corpus, "sources": sources}


def _is_end_of(source: str, full: str) -> bool:
    relative = "://" not in source and not Path(source).is_absolute()
    parts = Path(source).parts
    return source == full or (relative and Path(full).parts[-len(parts) :] == parts)


def changed_selection(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Describe differences in the settings that select documents, as parts of a sentence."""
    return [
        f"{name}: {_shown(before.get(name))} → {_shown(now.get(name))}"
        for name in SELECTION
        if _plain(before.get(name)) != _plain(now.get(name))
    ]


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple | list) else value


def _shown(value: Any) -> str:
    text = ", ".join(map(str, value)) if isinstance(value, tuple | list) else str(value)
    return "none" if value is None else text if len(text) <= 60 else f"{text[:59]}…"


def _readable_runs(store: Store) -> Iterator[dict[str, Any]]:
    """Yield the records of runs, newest first, skipping damaged ones.

    The records of maps have the same information on maps.
    """
    for identity in reversed(run_ids(store)):
        try:
            run = read_run(store, identity)
        except DamagedObjectError:
            continue
        if run is not None:
            yield run


def _job_of_run(store: Store, record: Record) -> dict[str, Any] | None:
    if record.run is None:
        return None
    try:
        run = read_run(store, record.run)
    except DamagedObjectError:
        return None
    return None if run is None else run["job"]


def _time_of(run: str) -> datetime:
    return datetime.strptime(run.rpartition("-")[0] + "+0000", "%Y%m%dT%H%M%S.%fZ%z")
