"""The pool of worker processes that run the shards of a stage, with handling of worker deaths."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import queue
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from multiprocessing.reduction import ForkingPickler
from pathlib import Path
from typing import IO, Any, cast

from pydantic import TypeAdapter

from latentscale.engines.failures import raise_failure
from latentscale.engines.protocol import Quarantined
from latentscale.errors import EnvironmentFailure
from latentscale.storage.attempts import AttemptLog, judge
from latentscale.storage.provenance import now

# Arrow, polars, tokenizers, numba and BLAS libraries each start one thread per CPU, in each of as many workers: limit
# each worker to its share.
_THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "NUMBA_NUM_THREADS",
    "POLARS_MAX_THREADS",
    "RAYON_NUM_THREADS",
)
# The run fails after this many consecutive workers died during start-up.
START_DEATHS = 3
END_SECONDS = 5.0
# A terminal sends an interrupt to all processes of the group; only the driver handles it.
_COMMAND = (
    "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN); import json, sys; "
    "sys.path[:] = json.loads(sys.argv[1]); from latentscale.engines.worker import main; main()"
)


@dataclass(slots=True, kw_only=True)
class _Sent:
    """A task assigned to a worker; ``alone`` if the worker had no other task meanwhile."""

    started: str
    alone: bool


@dataclass(slots=True, eq=False)
class _Process:
    """A worker process.

    Attributes
    ----------
    variables : mapping
        Environment variables that differ from those of the driver.
    setup : int
        Number of the stage for which it was set up.
    sent : dict of int to _Sent
        Its assigned tasks, by index.
    runs_alone : bool
        Whether its task must be its only one, since the task is suspected of killing workers.
    """

    process: subprocess.Popen[bytes]
    variables: Mapping[str, str]
    setup: int = 0
    sent: dict[int, _Sent] = field(default_factory=dict[int, _Sent])
    runs_alone: bool = False

    def send(self, facts: dict[str, Any]) -> None:
        """Send a message; a dead process is detected elsewhere."""
        try:
            cast(IO[bytes], self.process.stdin).write(json.dumps(facts).encode() + b"\n")
            cast(IO[bytes], self.process.stdin).flush()
        except (BrokenPipeError, ValueError):
            return

    def close_input(self) -> None:
        """Close its standard input, upon which it exits."""
        with contextlib.suppress(BrokenPipeError):
            cast(IO[bytes], self.process.stdin).close()


class WorkerPool:
    """Worker processes, started on demand and reused by later stages.

    Parameters
    ----------
    on_notice : callable
        Called with messages for the user, such as that a worker died.
    """

    def __init__(self, on_notice: Callable[[str], None]) -> None:
        self._on_notice = on_notice
        self._processes: list[_Process] = []
        self._events: queue.SimpleQueue[tuple[_Process, bytes | None]] = queue.SimpleQueue()
        self._number = 0

    def map(
        self,
        make_worker: Callable[[], Any],
        tasks: Sequence[Any],
        *,
        variables: Sequence[Mapping[str, str]],
        in_flight: int,
        task_type: Any,
        receipt_type: Any,
        attempts: AttemptLog,
    ) -> Iterator[Any]:
        """Run tasks in worker processes, with at most ``in_flight`` tasks each, and yield their receipts in any order.

        Parameters
        ----------
        variables : sequence of mapping
            Additional environment variables of each worker; there are as many workers as mappings.

        Raises
        ------
        EnvironmentFailure
            If workers repeatedly die during start-up.
        """
        job = _Job(make_worker, tasks, in_flight, task_type, receipt_type, attempts)
        whole = False
        try:
            yield from self._map(job, variables[: len(tasks)])
            whole = True
        finally:
            # After an error or an interrupt, or if the consumer stopped early, no worker may keep writing.
            if not whole:
                self.close()

    def close(self) -> None:
        """End all workers; those with tasks are killed."""
        processes, self._processes = self._processes, []
        self._events = queue.SimpleQueue()
        for one in processes:
            one.close_input()
        for one in processes:
            try:
                one.process.wait(END_SECONDS)
            except subprocess.TimeoutExpired:
                one.process.kill()
                one.process.wait()

    def _map(self, job: _Job, variables: Sequence[Mapping[str, str]]) -> Iterator[Any]:
        self._number += 1
        if [one.variables for one in self._processes] != list(variables[: len(self._processes)]):
            self.close()
        for wanted in variables[len(self._processes) :]:
            self._processes.append(self._start(wanted))
        for one in self._processes:
            one.send(job.setup(self._number))
        deaths = 0
        while job.left:
            process, line = self._events.get()
            if line is None:
                deaths = 0 if process.setup == self._number else deaths + 1
                ending = _ending(process.process.wait())
                if deaths >= START_DEATHS:
                    raise EnvironmentFailure(
                        f"{deaths} workers died before they were ready: {ending}",
                        hint="Look at what they said above. With engine.workers=1 everything runs in one process.",
                    )
                self._on_notice(f"a worker died ({ending}); another one replaces it")
                process.close_input()
                yield from job.handle_death(process)
                other = self._start(process.variables)
                self._processes[self._processes.index(process)] = other
                other.send(job.setup(self._number))
                continue
            answer = json.loads(line)
            if "failure" in answer:
                raise_failure(answer["failure"])
            if "setup" in answer:
                process.setup, deaths = answer["setup"], 0
            else:
                yield job.done(process, answer)
            job.deal([one for one in self._processes if one.setup == self._number])

    def _start(self, variables: Mapping[str, str]) -> _Process:
        path = json.dumps([entry or str(Path.cwd()) for entry in sys.path])
        process = subprocess.Popen(
            [sys.executable, "-c", _COMMAND, path],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=os.environ | dict(variables),
        )
        started = _Process(process, variables)
        threading.Thread(target=_listen, args=(started, self._events), name="answers", daemon=True).start()
        return started


def thread_variables(threads: int) -> dict[str, str]:
    """Return environment variables that limit the libraries of a worker to ``threads`` threads each."""
    return dict.fromkeys(_THREAD_VARIABLES, str(threads)) | {"TOKENIZERS_PARALLELISM": str(threads > 1).lower()}


class _Job:
    """The tasks of one stage and their state: waiting, to be run alone, or done."""

    def __init__(
        self,
        make_worker: Callable[[], Any],
        tasks: Sequence[Any],
        in_flight: int,
        task_type: Any,
        receipt_type: Any,
        attempts: AttemptLog,
    ) -> None:
        self.tasks = tasks
        self.left = len(tasks)
        self._in_flight = in_flight
        self._adapter: TypeAdapter[Any] = TypeAdapter(task_type)
        self._receipts: TypeAdapter[Any] = TypeAdapter(receipt_type)
        self._attempts = attempts
        self._next = iter(range(len(tasks)))
        self._suspects: deque[int] = deque()
        self._died: set[int] = set()
        # Pickled as in multiprocessing: classes by name, with their settings.
        data = bytes(ForkingPickler.dumps((make_worker, task_type, receipt_type)))
        self._made = base64.b64encode(data).decode()

    def setup(self, number: int) -> dict[str, Any]:
        """Return the message that sets a process up as a worker of this stage."""
        return {"setup": self._made, "number": number, "in_flight": self._in_flight}

    def deal(self, processes: Sequence[_Process]) -> None:
        """Assign tasks up to ``in_flight`` per worker, breadth first: a second task only when all workers have one."""
        for have in range(self._in_flight):
            for process in processes:
                if process.runs_alone or len(process.sent) != have:
                    continue
                if have == 0 and self._suspects:
                    process.runs_alone = True
                    self._send(process, self._suspects.popleft())
                elif (index := next(self._next, None)) is not None:
                    self._send(process, index)

    def done(self, process: _Process, answer: dict[str, Any]) -> Any:
        """Handle the answer of a worker; returns the receipt."""
        index = answer["task"]
        del process.sent[index]
        process.runs_alone = False
        self.left -= 1
        if index in self._died:
            self._attempts.forget(self.tasks[index].key)
        return self._receipts.validate_json(answer["receipt"])

    def handle_death(self, process: _Process) -> Iterator[Quarantined]:
        """Record failed attempts of a dead worker's tasks; yields those that are quarantined after too many."""
        for index, sent in process.sent.items():
            key = self.tasks[index].key
            self._died.add(index)
            self._attempts.record_death(key, pid=process.process.pid, started=sent.started, alone=sent.alone)
            verdict = judge(self._attempts.deaths(key, lambda: ()))
            if verdict.quarantined is None:
                self._suspects.append(index)
                continue
            self.left -= 1
            yield Quarantined(key=key, tries=verdict.tries, reason=verdict.quarantined)

    def _send(self, process: _Process, index: int) -> None:
        for other in process.sent.values():
            other.alone = False
        process.sent[index] = _Sent(started=now(), alone=not process.sent)
        process.send({"task": index, "content": self._adapter.dump_json(self.tasks[index]).decode()})


def _listen(process: _Process, events: queue.SimpleQueue[tuple[_Process, bytes | None]]) -> None:
    with cast(IO[bytes], process.process.stdout) as answers:
        for line in answers:
            # A partial line is from a process that was killed while writing: its task is not done.
            if line.endswith(b"\n"):
                events.put((process, line))
    events.put((process, None))


def _ending(code: int) -> str:
    if code == -9:
        return "killed by signal 9, as the system does where memory runs out"
    return f"killed by signal {-code}" if code < 0 else f"exit code {code}"
