"""Attempts: one small object per unfinished attempt at a shard, to detect shards that kill their worker."""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Callable, Collection, Generator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass

from latentscale.errors import MissingObjectError
from latentscale.storage.objects import Store
from latentscale.storage.provenance import now

FOLDER = "attempts"
MAX_ATTEMPTS = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """Where and when an attempt at a shard started.

    Attributes
    ----------
    run, node, host : str
        Id of the run, id of the node in its cluster, and its address.
    pid : int
        Process id of the worker.
    started : str
        UTC.
    alone : bool
        Whether the worker processed no other shard at that time: only then its death is attributed to the shard.
    """

    run: str
    node: str
    host: str
    pid: int
    started: str
    alone: bool = True

    def describe(self) -> str:
        """Describe the attempt in a few words."""
        return f"process {self.pid} on {self.host or 'this machine'} at {self.started}"


class AttemptLog:
    """Unfinished attempts at each shard of a run, whose workers died.

    Parameters
    ----------
    store : Store
        The workspace.
    run : str
        Only attempts of this run count: earlier ones may have been killed with their driver.
    """

    def __init__(self, store: Store, run: str) -> None:
        self._store = store
        self._run = run

    def deaths(self, key: str, lost_nodes: Callable[[], Collection[str]]) -> list[Attempt]:
        """Return the attempts at shard ``key`` whose worker died, but not its node.

        Parameters
        ----------
        key : str
        lost_nodes : callable
            Returns dead nodes, whose attempts are ignored; called only if there are unfinished attempts.
        """
        found: list[Attempt] = []
        for name in self._store.list(f"{FOLDER}/{self._run}/{key}"):
            try:
                found.append(Attempt(**json.loads(self._store.read_bytes(name))))
            except MissingObjectError:  # a paused worker resumed and ended its attempt
                continue
        if not found:
            return []
        lost = lost_nodes()
        return sorted((one for one in found if one.node not in lost), key=lambda one: one.started)

    @contextmanager
    def attempt(self, key: str, *, node: str = "", host: str = "", alone: bool = True) -> Generator[None]:
        """Record an attempt at shard ``key`` during the block."""
        begun = Attempt(run=self._run, node=node, host=host, pid=os.getpid(), started=now(), alone=alone)
        name = self._write(key, begun)
        try:
            yield
        finally:
            self._store.delete([name])

    def record_death(self, key: str, *, pid: int, started: str, alone: bool) -> None:
        """Record an attempt that ended with the death of process ``pid``."""
        self._write(key, Attempt(run=self._run, node="", host="", pid=pid, started=started, alone=alone))

    def forget(self, key: str) -> None:
        """Delete all attempts at shard ``key`` after a success."""
        self._store.delete(list(self._store.list(f"{FOLDER}/{self._run}/{key}")))

    def _write(self, key: str, begun: Attempt) -> str:
        name = f"{FOLDER}/{self._run}/{key}/{uuid.uuid4().hex}"
        self._store.put_bytes(name, json.dumps(asdict(begun)).encode())
        return name


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """The verdict on a shard, from the deaths of its workers.

    Attributes
    ----------
    alone : bool
        Whether it must run alone in its worker: a worker with several shards died, and the cause is unknown.
    quarantined : str or None
        Reason for quarantine.
    tries : int
        Number of deaths attributed to it.
    """

    alone: bool
    quarantined: str | None
    tries: int


def judge(deaths: Sequence[Attempt]) -> Verdict:
    """Judge a shard: it is quarantined after ``MAX_ATTEMPTS`` deaths attributed to it."""
    own = [one for one in deaths if one.alone]
    if len(own) < MAX_ATTEMPTS:
        return Verdict(alone=bool(deaths), quarantined=None, tries=len(own))
    attempts = "; ".join(one.describe() for one in own)
    return Verdict(alone=True, quarantined=f"its worker died {len(own)} times: {attempts}", tries=len(own))
