"""Records of runs: request, command, outcome and artifacts of each execution."""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa

from latentscale import errors
from latentscale.errors import DamagedObjectError
from latentscale.file_names import argument, escaped
from latentscale.redaction import without_signatures
from latentscale.storage.objects import Store
from latentscale.storage.parquet import write_parquet
from latentscale.storage.provenance import environment, now
from latentscale.storage.sealed import seal, unseal

FOLDER = "runs"


@dataclass(slots=True, kw_only=True)
class Run:
    """One execution.

    Attributes
    ----------
    id : str
        Start time and six random hex characters.
    command : list of str or None
        As typed; None for runs started by a program.
    job : dict
        Settings, including defaults.
    status : str
        ``running``, ``done``, ``quarantined`` (done without some shards), ``interrupted`` or ``failed``.
    facts : dict
        Counts, artifacts, choices, costs by stage.
    """

    id: str
    command: list[str] | None
    job: dict[str, Any]
    status: str = "running"
    started: str = ""
    ended: str | None = None
    facts: dict[str, Any] = field(default_factory=dict)

    def write(self, store: Store) -> None:
        """Write ``run.json``."""
        document = {
            "id": self.id,
            "status": self.status,
            "started": self.started,
            "ended": self.ended,
            "command": self.command,
            "environment": environment(),
            "facts": self.facts,
            "job": self.job,
        }
        text = json.dumps(document, ensure_ascii=False, default=str)
        store.put_bytes(f"{FOLDER}/{self.id}/run.json", seal(json.loads(without_signatures(text))))

    def end(self, store: Store, status: str, events: bytes, metrics: pa.Table | None) -> None:
        """Write the outcome, the events and the cost of each shard."""
        self.status, self.ended = status, now()
        store.put_bytes(f"{FOLDER}/{self.id}/events.jsonl", without_signatures(events.decode()).encode())
        if metrics is not None:
            write_parquet(store, f"{FOLDER}/{self.id}/metrics.parquet", metrics, facts={"run": self.id})
        self.write(store)


def start_run(job: dict[str, Any], command: Sequence[str] | None = None) -> Run:
    """Begin a run.

    Parameters
    ----------
    job : dict
    command : sequence of str, optional
        As typed on the command line. The arguments of programs that use the SDK are never read, as they may contain
        secrets.
    """
    # In microseconds, so that ids sort by time even within a second.
    identity = f"{datetime.now(UTC):%Y%m%dT%H%M%S.%fZ}-{secrets.token_hex(3)}"
    return Run(id=identity, command=None if command is None else list(map(escaped, command)), job=job, started=now())


def read_run(store: Store, identity: str) -> dict[str, Any] | None:
    """Read the record of a run; None if there is none.

    Raises
    ------
    DamagedObjectError
        If it is malformed.
    WorkspaceError
        If it was written by a version with another schema.
    """
    name = f"{FOLDER}/{identity}/run.json"
    data = store.find_bytes(name)
    return None if data is None else _parse(store, name, data)


def latest_runs(store: Store) -> Iterator[dict[str, Any]]:
    """Read the records of runs one by one, the newest first; raises as ``read_run`` does."""
    for name in reversed(_names(store)):
        yield _read(store, name)


def list_runs(store: Store) -> list[dict[str, Any]]:
    """Read the records of all runs, the oldest first; raises as ``read_run`` does."""
    return [_read(store, name) for name in _names(store)]


def run_ids(store: Store) -> list[str]:
    """Ids of all runs, the oldest first."""
    return [name.split("/")[1] for name in _names(store)]


def failed_by_request(run: Mapping[str, Any]) -> bool:
    """Whether a run failed because of its request and would fail again, not because of disk, store or cluster."""
    kind = getattr(errors, str((run["facts"].get("error") or {}).get("kind")), None)
    by_environment = isinstance(kind, type) and issubclass(kind, errors.EnvironmentFailure)
    return run["status"] == "failed" and not by_environment


def _names(store: Store) -> list[str]:
    return sorted(name for name in store.list(FOLDER) if name.endswith("/run.json"))


def _read(store: Store, name: str) -> dict[str, Any]:
    return _parse(store, name, store.read_bytes(name))


def _parse(store: Store, name: str, data: bytes) -> dict[str, Any]:
    try:
        values = unseal(store, name, data)
        if not isinstance(values["facts"], dict) or not isinstance(values["job"], dict):
            raise TypeError("it has neither facts nor settings")
        return values
    except (ValueError, KeyError, TypeError) as error:
        raise DamagedObjectError(
            f"{name} is not the record of a run: {error}",
            where=store.path(name),
            hint=f"latentscale repair {argument(store.url)} deletes it: it reports on the past, and no map needs it.",
        ) from error
