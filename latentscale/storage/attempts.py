"""Attempts: one tiny object for each started try of a shard, so that one that kills its worker is noticed."""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Callable, Collection, Generator
from contextlib import contextmanager
from dataclasses import asdict, dataclass

from latentscale.errors import WorkspaceError
from latentscale.provenance import now
from latentscale.storage.objects import Store

FOLDER = "attempts"
MAX_ATTEMPTS = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Try:
    """Where and when a try of a shard began.

    Attributes
    ----------
    run, node, host : str
        The run, the node as its cluster names it, and its address.
    pid : int
        Of the worker.
    started : str
        UTC.
    """

    run: str
    node: str
    host: str
    pid: int
    started: str

    def describe(self) -> str:
        """Say it in some words."""
        return f"process {self.pid} on {self.host or 'this machine'} at {self.started}"


class AttemptLog:
    """The tries of each shard in one run that did not end, well or with an error: their worker died.

    Parameters
    ----------
    store : Store
        The workspace.
    run : str
        Only tries of this run count: those of an earlier one may have ended with its driver.
    """

    def __init__(self, store: Store, run: str) -> None:
        self._store = store
        self._run = run

    def deaths(self, key: str, lost_nodes: Callable[[], Collection[str]]) -> list[Try]:
        """Return the tries of shard ``key`` that ended with the death of their worker alone.

        Parameters
        ----------
        key : str
        lost_nodes : callable
            The nodes that are dead: a try that went down with its node tells nothing of the shard. Called only where
            there are tries that did not end.
        """
        found: list[Try] = []
        for name in self._store.list(f"{FOLDER}/{self._run}/{key}"):
            try:
                found.append(Try(**json.loads(self._store.read_bytes(name))))
            except WorkspaceError:  # a paused worker woke and ended its try
                continue
        if not found:
            return []
        lost = lost_nodes()
        return sorted((one for one in found if one.node not in lost), key=lambda one: one.started)

    @contextmanager
    def attempt(self, key: str, *, node: str = "", host: str = "") -> Generator[None]:
        """Record a try of shard ``key`` before it starts, and take the record away when it has ended."""
        name = f"{FOLDER}/{self._run}/{key}/{uuid.uuid4().hex}"
        begun = Try(run=self._run, node=node, host=host, pid=os.getpid(), started=now())
        self._store.put_bytes(name, json.dumps(asdict(begun)).encode())
        try:
            yield
        finally:
            self._store.delete([name])
