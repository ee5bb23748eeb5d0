"""Leases: who works on a workspace at the moment. Advice for people and for `gc`; no result ever rests on one."""

from __future__ import annotations

import contextlib
import json
import os
import platform
import threading
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from latentscale.errors import LatentScaleError
from latentscale.provenance import now
from latentscale.storage.objects import Store

FOLDER = "leases"
RENEWED_EVERY = 30.0
# Four renewals may be missed: a store that throttles for a minute does not make a run look dead.
EXPIRES_AFTER = 120.0
LONGEST_WAIT = 3_600.0
GC = "gc"


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """That a run works on the workspace.

    Attributes
    ----------
    run : str
        Its id; for ``gc`` an id of its own.
    purpose : str
        ``run``, ``update``, ``gc`` …
    host : str
    since : str
        When it began, by the clock of that host.
    expires : float
        When the lease ends unless it is renewed: seconds since 1970 by the store's clock, as are all comparisons.
    process : dict
        Tells on the same machine whether the process is still there.
    """

    run: str
    purpose: str
    host: str
    since: str
    expires: float
    process: dict[str, Any]

    def __str__(self) -> str:
        return f"{self.purpose} {self.run} on {self.host}, since {self.since}"


def lease_name(run: str) -> str:
    """Object of a run's lease: one a run, so that no two ever write the same."""
    return f"{FOLDER}/{run}.json"


@contextmanager
def hold_lease(
    store: Store, run: str, purpose: str, *, renewed_every: float = RENEWED_EVERY
) -> Generator[tuple[Lease, ...]]:
    """Say that ``run`` works on the workspace as long as the block runs, and yield who else does.

    A thread renews the lease by writing it again. A process that is killed leaves it behind; it ends two minutes after
    its last renewal by the store's clock, and at once where the same machine sees that the process is gone. A store
    that cannot be written is no error here: the work itself will say so.
    """
    stop = threading.Event()
    document = json.dumps(
        {"schema": 1, "run": run, "purpose": purpose, "host": platform.node(), "since": now(), "process": _process()}
    ).encode()

    def renew() -> None:
        while not stop.wait(renewed_every):
            with contextlib.suppress(LatentScaleError):
                store.put_bytes(lease_name(run), document)

    thread = threading.Thread(target=renew, name="lease", daemon=True)
    try:
        with contextlib.suppress(LatentScaleError):
            store.put_bytes(lease_name(run), document)
        thread.start()
        yield tuple(lease for lease in _leases_or_none(store) if lease.run != run)
    finally:
        stop.set()
        if thread.ident is not None:
            # A renewal that hangs on a store without an answer must not hold up the end.
            thread.join(timeout=5)
        with contextlib.suppress(LatentScaleError):
            store.delete([lease_name(run)])


def _leases_or_none(store: Store) -> tuple[Lease, ...]:
    try:
        return read_leases(store)
    except LatentScaleError:
        return ()


def read_leases(store: Store) -> tuple[Lease, ...]:
    """Read the leases that hold, the earliest run first."""
    listing = store.list(FOLDER)
    if not listing:
        return ()
    try:
        clock = store.clock()
    except LatentScaleError:  # a workspace that may only be read: its newest lease is the latest time that is known
        clock = max(info.modified or 0.0 for info in listing.values())
    held: list[Lease] = []
    for name, info in sorted(listing.items()):
        renewed = info.modified or 0.0
        # One from the future was written before the store's clock was set back.
        if abs(clock - renewed) >= EXPIRES_AFTER:
            continue
        try:
            values = json.loads(store.read_bytes(name))
            values.pop("schema")
            lease = Lease(expires=renewed + EXPIRES_AFTER, **values)
        except (LatentScaleError, ValueError, KeyError, TypeError):
            continue  # ended meanwhile, or written by another version
        if not _gone(lease.process):
            held.append(lease)
    return tuple(held)


def await_others(
    store: Store,
    run: str,
    others: Sequence[Lease],
    *,
    purposes: Sequence[str],
    say: Callable[[str], None],
    at_most: float = LONGEST_WAIT,
    every: float = 5.0,
) -> bool:
    """Wait until no earlier run of these ``purposes`` holds a lease; say for whom.

    Only runs with a smaller id are waited for, so that two that begin at once do not wait for each other; but a ``gc``
    always is, since it stops when it sees a run.

    Returns
    -------
    bool
        Whether all had ended; if not, ``at_most`` seconds have passed, and going on is safe all the same.
    """

    def ahead(leases: Sequence[Lease]) -> list[Lease]:
        return [held for held in leases if held.purpose in purposes and (held.run < run or held.purpose == GC)]

    end = time.monotonic() + at_most
    before = ahead(others)
    if before:
        say(f"waiting for {'; '.join(map(str, before))}")
    while before:
        if time.monotonic() >= end:
            say(f"going on after {at_most:,.0f} s beside {'; '.join(map(str, before))}")
            return False
        time.sleep(every)
        before = ahead(_leases_or_none(store))
    return True


# ---------------------------------------------------------------------------------------------------------- processes


def _process() -> dict[str, Any]:
    """What tells this process from all others, where the system says it."""
    return {"machine": _machine(), "pid": os.getpid(), "started": psutil.Process().create_time()}


def _machine() -> str | None:
    """The boot of this machine and the space that process numbers live in; None where there is no such thing."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot} {Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return None


def _gone(process: dict[str, Any]) -> bool:
    """Whether the process is known to have ended; of another machine nothing is known."""
    machine = _machine()
    if machine is None or process.get("machine") != machine:
        return False
    try:
        there = psutil.Process(int(process["pid"]))
        return there.status() == psutil.STATUS_ZOMBIE or abs(there.create_time() - float(process["started"])) > 1.0
    except (psutil.NoSuchProcess, KeyError, ValueError, TypeError):
        return True
    except psutil.Error:
        return False
