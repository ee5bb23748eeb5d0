"""Attempts: one tiny object for each started try of a shard, so that one that kills its worker is noticed."""

from __future__ import annotations

import uuid
from collections.abc import Generator
from contextlib import contextmanager

from latentscale.errors import ResourceError
from latentscale.storage.objects import Store

FOLDER = "attempts"
MAX_ATTEMPTS = 3


class AttemptLog:
    """Counts the tries of each shard in one run that did not end, well or with an error: their worker died.

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

    @contextmanager
    def attempt(self, key: str) -> Generator[None]:
        """Record a try of shard ``key`` before it starts, and take the record away when it has ended.

        Raises
        ------
        ResourceError
            If ``MAX_ATTEMPTS`` tries of this run did not end.
        """
        folder = f"{FOLDER}/{self._run}/{key}"
        died = len(self._store.list(folder))
        if died >= MAX_ATTEMPTS:
            raise ResourceError(
                f"the worker of shard {key} died {died} times",
                where=self._store.path(folder),
                hint="Look at Ray's logs; smaller shards need less memory (--set ingest.shard_rows=4096).",
            )
        name = f"{folder}/{uuid.uuid4().hex}"
        self._store.put_bytes(name, b"started\n")
        try:
            yield
        finally:
            self._store.delete([name])
