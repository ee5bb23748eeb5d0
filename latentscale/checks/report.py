"""What a check is given and what it finds."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from typing import Any, TypeVar

from latentscale.errors import LatentScaleError
from latentscale.storage.objects import ObjectInfo, Store

Item = TypeVar("Item")
Found = TypeVar("Found")

MADE_ANEW = "Delete it and run the same command again: it is made anew."


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One thing that is not as it should be.

    Attributes
    ----------
    object : str
        Its name in the workspace.
    problem : str
        What is wrong with it.
    next : str
        What to do.
    """

    object: str
    problem: str
    next: str = ""

    def __str__(self) -> str:
        return f"{self.object} {self.problem}" + (f". {self.next}" if self.next else "")


@dataclass(slots=True)
class Report:
    """What a check of a workspace found.

    Attributes
    ----------
    objects, bytes : int
        How much was looked at; bytes as the listing says.
    rows : int
        Documents of all shards.
    faults : list of Fault
    notes : list of str
        What is no fault, but worth knowing.
    seconds : float
    quick : bool
        Whether only listings and footers were read.
    """

    objects: int = 0
    rows: int = 0
    bytes: int = 0
    faults: list[Fault] = field(default_factory=list[Fault])
    notes: list[str] = field(default_factory=list[str])
    seconds: float = 0.0
    quick: bool = False

    def as_json(self) -> dict[str, Any]:
        """Return plain values."""
        return asdict(self)


class Check:
    """A workspace under examination: its objects as they were listed, and what is found about them.

    Parameters
    ----------
    store : Store
    listing : mapping of str to ObjectInfo
        All objects, listed after the records were read: what a record names was there before it.
    quick : bool
        Read footers only.
    threads : int
        How many objects are read at a time.
    """

    def __init__(self, store: Store, listing: Mapping[str, ObjectInfo], *, quick: bool, threads: int) -> None:
        self.store = store
        self.listing = listing
        self.quick = quick
        self.threads = threads
        self.report = Report(quick=quick)
        self._lock = threading.Lock()

    def fault(self, name: str, problem: str, hint: str = MADE_ANEW) -> None:
        """Note a fault, once."""
        fault = Fault(object=name, problem=problem, next=hint)
        with self._lock:
            if fault not in self.report.faults[-64:]:
                self.report.faults.append(fault)

    def error(self, name: str, error: LatentScaleError) -> None:
        """Note that an object could not be read."""
        problem = error.message.removeprefix(name).strip()
        self.fault(name, f"cannot be used: {problem}" if problem == error.message else problem, error.hint or MADE_ANEW)

    def count(self, name: str) -> None:
        """Count an object that was looked at."""
        info = self.listing.get(name)
        with self._lock:
            self.report.objects += 1
            self.report.bytes += info.size if info else 0

    def each(self, function: Callable[[Item], Found], items: Iterable[Item]) -> Iterator[Found]:
        """Call ``function`` on each item, some at a time, and yield what it gives in their order.

        Only a few items are under way or wait to be taken, so that memory does not grow with their number.
        """
        with ThreadPoolExecutor(self.threads) as pool:
            waiting: deque[Future[Found]] = deque()
            try:
                for item in items:
                    waiting.append(pool.submit(function, item))
                    if len(waiting) >= 2 * self.threads:
                        yield waiting.popleft().result()
                while waiting:
                    yield waiting.popleft().result()
            finally:
                for future in waiting:
                    future.cancel()
