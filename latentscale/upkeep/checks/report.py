"""The input and the report of a check."""

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
Result = TypeVar("Result")

REBUILD = "latentscale repair WORKSPACE makes it again."


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One object that is missing, damaged or inconsistent.

    Attributes
    ----------
    object : str
        Its name in the workspace.
    problem : str
        What is wrong with it.
    next : str
        The remedy.
    """

    object: str
    problem: str
    next: str = ""

    def __str__(self) -> str:
        return f"{self.object} {self.problem}" + (f". {self.next}" if self.next else "")


@dataclass(slots=True)
class Report:
    """The result of the verification of a workspace.

    Attributes
    ----------
    objects, bytes : int
        Objects that were checked, and their bytes by the listing.
    rows : int
        Documents of all shards.
    faults : list of Fault
    notes : list of str
        Observations that are not faults.
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
    """A verification in progress: the listing of the workspace, and the report so far.

    Parameters
    ----------
    store : Store
    listing : mapping of str to ObjectInfo
        All objects, listed after the records were read: a record is written after the objects that it names.
    quick : bool
        Read footers only.
    threads : int
        Number of objects read concurrently.
    """

    def __init__(self, store: Store, listing: Mapping[str, ObjectInfo], *, quick: bool, threads: int) -> None:
        self.store = store
        self.listing = listing
        self.quick = quick
        self.threads = threads
        self.report = Report(quick=quick)
        self._lock = threading.Lock()

    def fault(self, name: str, problem: str, hint: str = REBUILD) -> None:
        """Note a fault, once."""
        fault = Fault(object=name, problem=problem, next=hint)
        with self._lock:
            if fault not in self.report.faults[-64:]:
                self.report.faults.append(fault)

    def error(self, name: str, error: LatentScaleError) -> None:
        """Note that an object could not be read."""
        problem = error.message.removeprefix(name).strip()
        self.fault(name, f"cannot be used: {problem}" if problem == error.message else problem, error.hint or REBUILD)

    def count(self, name: str) -> None:
        """Count a checked object."""
        info = self.listing.get(name)
        with self._lock:
            self.report.objects += 1
            self.report.bytes += info.size if info else 0

    def each(self, function: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
        """Call ``function`` on each item in a few threads, and yield the results in the order of the items.

        Only a few items are submitted at a time, so that memory does not grow with their number.
        """
        with ThreadPoolExecutor(self.threads) as pool:
            waiting: deque[Future[Result]] = deque()
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
