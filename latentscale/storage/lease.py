"""Leases: active runs of a workspace. Advisory, for users and ``gc``; results never depend on them."""

from __future__ import annotations

import contextlib
import json
import os
import platform
import threading
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from latentscale.config import SCHEMA_VERSION
from latentscale.errors import LatentScaleError
from latentscale.storage.objects import Store
from latentscale.storage.provenance import now

FOLDER = "leases"
RENEWED_EVERY = 60.0
# Four renewals may be missed, so that a throttling store does not make a run look dead.
EXPIRES_AFTER = 300.0
# Timeout for deleting a lease at the end of a run; a remaining one expires.
END_TIMEOUT_SECONDS = 5.0
GC = "gc"


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """The lease of an active run.

    Attributes
    ----------
    run : str
        Its id; for ``gc`` an id of its own.
    purpose : str
        ``run``, ``update``, ``gc`` …
    host : str
    since : str
        Start time, by the clock of that host.
    expires : float
        Expiry time unless renewed, in seconds since 1970 by the store's clock, which is used for all comparisons.
    process : dict
        Process id, and facts to detect on the same machine whether it still exists.
    """

    run: str
    purpose: str
    host: str
    since: str
    expires: float
    process: dict[str, Any]

    def __str__(self) -> str:
        return f"{self.purpose} {self.run} on {self.host} (process {self.process.get('pid')}), since {self.since}"


def warning_of(others: Iterable[Lease]) -> str:
    """Build the warning of a starting run about other active runs."""
    held = list(others)
    text = f"also at work on this workspace: {'; '.join(map(str, held))}"
    if any(one.purpose != GC for one in held):
        text += ". No row is lost or duplicated, but work may be done twice, and the last to end sets the map"
    if any(one.purpose == GC for one in held):
        text += ". A collection stops when it sees this run"
    return text


def lease_name(run: str) -> str:
    """Name of the lease object: one per run, so that writers never conflict."""
    return f"{FOLDER}/{run}.json"


class HeldLease:
    """The lease of this process, renewed by a thread; the work never waits for it, and its end a few seconds at most.

    Parameters
    ----------
    store : Store
        The workspace.
    run, purpose : str
    notice : callable
        Called once, from that thread, with the other active runs, if there are any.
    renewed_every : float
        Seconds.
    """

    def __init__(
        self, store: Store, run: str, purpose: str, notice: Callable[[tuple[Lease, ...]], None], renewed_every: float
    ) -> None:
        self._store = store
        self._run = run
        self._notice = notice
        self._renewed_every = renewed_every
        self._stop = threading.Event()
        self._begun: Future[tuple[Lease, ...]] = Future()
        self._document = json.dumps(
            {
                "schema": SCHEMA_VERSION,
                "run": run,
                "purpose": purpose,
                "host": platform.node(),
                "since": now(),
                "process": _process(),
            }
        ).encode()
        self._thread = threading.Thread(target=self._keep, name="lease", daemon=True)
        self._thread.start()

    def others(self) -> tuple[Lease, ...]:
        """Wait until the lease is written, and return the other leases.

        Raises
        ------
        StorageError
            If the store could not be written or listed.
        """
        return self._begun.result()

    def end(self) -> None:
        """Delete the lease."""
        self._stop.set()
        # An unresponsive store must not delay the end of the run: the lease expires by itself.
        self._thread.join(timeout=END_TIMEOUT_SECONDS)

    def _keep(self) -> None:
        """Write, read the others, renew, and delete: in one thread, so that no renewal follows the deletion."""
        try:
            self._put()
            others = read_leases(self._store, but=self._run)
        except Exception as error:  # noqa: BLE001 - the work itself will report the problem
            self._begun.set_exception(error)
        else:
            self._begun.set_result(others)
            if others:
                self._notice(others)
        while not self._stop.wait(self._renewed_every):
            with contextlib.suppress(LatentScaleError):
                self._put()
        with contextlib.suppress(LatentScaleError):
            self._store.delete([lease_name(self._run)])

    def _put(self) -> None:
        self._store.put_bytes(lease_name(self._run), self._document)


@contextmanager
def hold_lease(
    store: Store,
    run: str,
    purpose: str,
    *,
    notice: Callable[[tuple[Lease, ...]], None] = lambda others: None,
    renewed_every: float = RENEWED_EVERY,
) -> Generator[HeldLease]:
    """Hold a lease for ``run`` on the workspace while the block runs.

    The lease of a killed process expires five minutes after its last renewal by the store's clock, or immediately if
    the process is known on this machine to have ended. It is renewed once a minute.
    """
    held = HeldLease(store, run, purpose, notice, renewed_every)
    try:
        yield held
    finally:
        held.end()


def read_leases(store: Store, *, but: str | None = None) -> tuple[Lease, ...]:
    """Read valid leases, earliest run first, except that of the run ``but``."""
    listing = dict(store.list(FOLDER))
    own = listing.pop(lease_name(but), None) if but is not None else None
    if not listing:
        return ()
    if own is not None and own.modified is not None:
        clock = own.modified  # up to one renewal old: others appear slightly younger than they are
    else:
        try:
            clock = store.clock()
        except LatentScaleError:  # a read-only workspace: the newest lease gives the latest known time
            clock = max(info.modified or 0.0 for info in listing.values())
    held: list[Lease] = []
    for name, info in sorted(listing.items()):
        renewed = info.modified or 0.0
        # A lease from the future: the store's clock was set back.
        if abs(clock - renewed) >= EXPIRES_AFTER:
            continue
        try:
            values = json.loads(store.read_bytes(name))
            values.pop("schema")
            lease = Lease(expires=renewed + EXPIRES_AFTER, **values)
        except (LatentScaleError, ValueError, KeyError, TypeError):
            continue  # ended meanwhile, or written by another version
        if not _has_ended(lease.process):
            held.append(lease)
    return tuple(held)


# ---------------------------------------------------------------------------------------------------------- processes


def _process() -> dict[str, Any]:
    """Identity of this process, if the system provides one."""
    return {"machine": _machine(), "pid": os.getpid(), "started": psutil.Process().create_time()}


def _machine() -> str | None:
    """Boot id and PID namespace of this machine; None if unavailable."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot} {Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return None


def _has_ended(process: dict[str, Any]) -> bool:
    """Whether the process is known to have ended; False for other machines."""
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
