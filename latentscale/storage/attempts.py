"""Attempts: one small object for each unfinished attempt at a shard, so that one that kills its worker is noticed."""

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
        The run, the node as its cluster names it, and its address.
    pid : int
        Of the worker.
    started : str
        UTC.
    alone : bool
        Whether the worker did nothing else meanwhile: only then does its death say something of the shard.
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
    """The attempts at each shard of one run that did not end, with success or an error: their worker died.

    Parameters
    ----------
    store : Store
        The workspace.
    run : str
        Only attempts of this run count: those of an earlier one may have ended with its driver.
    """

    def __init__(self, store: Store, run: str) -> None:
        self._store = store
        self._run = run

    def deaths(self, key: str, lost_nodes: Callable[[], Collection[str]]) -> list[Attempt]:
        """Return the attempts at shard ``key`` that ended with the death of their worker alone.

        Parameters
        ----------
        key : str
        lost_nodes : callable
            The dead nodes: an attempt that ended with its node tells nothing about the shard. Called only where
            there are unfinished attempts.
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
        """Record an attempt at shard ``key`` before it starts, and delete the record when it has ended."""
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
        """Delete all attempts at shard ``key``, since one has succeeded."""
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
        It must run alone in its worker: a worker that did several shards died, and which of them caused it is unknown.
    quarantined : str or None
        Why it is given up.
    tries : int
        Deaths in which it was alone.
    """

    alone: bool
    quarantined: str | None
    tries: int


def judge(deaths: Sequence[Attempt]) -> Verdict:
    """Judge a shard: ``MAX_ATTEMPTS`` deaths of workers that did nothing else count against the shard."""
    own = [one for one in deaths if one.alone]
    if len(own) < MAX_ATTEMPTS:
        return Verdict(alone=bool(deaths), quarantined=None, tries=len(own))
    attempts = "; ".join(one.describe() for one in own)
    return Verdict(alone=True, quarantined=f"its worker died {len(own)} times: {attempts}", tries=len(own))
