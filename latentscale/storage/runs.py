"""Runs: what was asked, by which command, with what outcome, kept beside what they made."""

from __future__ import annotations

import json
import secrets
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa

from latentscale.provenance import environment, now
from latentscale.redaction import without_signatures
from latentscale.storage.objects import Store
from latentscale.storage.parquet import write_parquet

FOLDER = "runs"


@dataclass(slots=True, kw_only=True)
class Run:
    """One execution.

    Attributes
    ----------
    id : str
        The time of its start, then six random hex characters.
    command : list of str
        As typed.
    job : dict
        The settings, defaults included.
    status : str
        ``running``, ``done``, ``quarantined`` (done without some shards), ``interrupted`` or ``failed``.
    facts : dict
        Counts, artifacts, choices, costs by stage.
    """

    id: str
    command: list[str]
    job: dict[str, Any]
    status: str = "running"
    started: str = ""
    ended: str | None = None
    facts: dict[str, Any] = field(default_factory=dict)

    def write(self, store: Store) -> None:
        """Write ``run.json``."""
        document = {
            "schema": 1,
            "id": self.id,
            "status": self.status,
            "started": self.started,
            "ended": self.ended,
            "command": self.command,
            "environment": environment(),
            "facts": self.facts,
            "job": self.job,
        }
        text = json.dumps(document, indent=1, ensure_ascii=False, default=str)
        store.put_bytes(f"{FOLDER}/{self.id}/run.json", without_signatures(text).encode())

    def end(self, store: Store, status: str, events: bytes, metrics: Sequence[dict[str, Any]]) -> None:
        """Write the outcome, the events and the cost of each shard."""
        self.status, self.ended = status, now()
        store.put_bytes(f"{FOLDER}/{self.id}/events.jsonl", without_signatures(events.decode()).encode())
        if metrics:
            table = pa.Table.from_pylist(list(metrics))
            write_parquet(store, f"{FOLDER}/{self.id}/metrics.parquet", table, facts={"run": self.id})
        self.write(store)


def start_run(job: dict[str, Any], command: Sequence[str] | None = None) -> Run:
    """Begin a run."""
    # To the microsecond, so that ids sort by time even where two runs begin in one second.
    identity = f"{datetime.now(UTC):%Y%m%dT%H%M%S.%fZ}-{secrets.token_hex(3)}"
    return Run(id=identity, command=list(sys.argv if command is None else command), job=job, started=now())


def read_run(store: Store, identity: str) -> dict[str, Any] | None:
    """Read the record of a run, or None where there is none."""
    name = f"{FOLDER}/{identity}/run.json"
    return json.loads(store.read_bytes(name)) if store.exists(name) else None


def latest_runs(store: Store) -> Iterator[dict[str, Any]]:
    """Read the records of runs one by one, the newest first."""
    names = sorted((name for name in store.list(FOLDER) if name.endswith("/run.json")), reverse=True)
    for name in names:
        yield json.loads(store.read_bytes(name))


def list_runs(store: Store) -> list[dict[str, Any]]:
    """Read the records of all runs, the oldest first."""
    names = sorted(name for name in store.list(FOLDER) if name.endswith("/run.json"))
    return [json.loads(store.read_bytes(name)) for name in names]
