"""A worker process of the local engine, which reads tasks from standard input as JSON lines.

It does not use ``multiprocessing``, which runs the user's script again if that has no main guard, and cannot start
processes from a notebook or from standard input.
"""

from __future__ import annotations

import base64
import json
import os
import queue
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.reduction import ForkingPickler
from typing import Any, BinaryIO, cast

from pydantic import TypeAdapter

from latentscale.engines.failures import describe_failure
from latentscale.engines.pipelined import IN_FLIGHT, Pipelined

# If another child of the driver inherited the pipe, the driver's death does not close the input.
PARENT_SECONDS = 1.0


class Worker:
    """Runs tasks as they arrive.

    Parameters
    ----------
    answers : binary file
        Output for answers, one line each.
    """

    def __init__(self, answers: BinaryIO) -> None:
        self._answers = answers
        self._lock = threading.Lock()
        self._pool = ThreadPoolExecutor(IN_FLIGHT, thread_name_prefix="shards")
        self._worker: Pipelined | None = None
        self._tasks: TypeAdapter[Any] | None = None
        self._receipts: TypeAdapter[Any] | None = None
        self._threaded = False

    def obey(self, line: bytes) -> None:
        """Handle a message: set up the worker of a stage, or run a task."""
        message = json.loads(line)
        if "setup" in message:
            self._set_up(message)
        elif self._threaded:
            self._pool.submit(self._run, message["task"], message["content"])
        else:
            self._run(message["task"], message["content"])

    def _set_up(self, message: dict[str, Any]) -> None:
        try:
            make, task_type, receipt_type = cast(Any, ForkingPickler).loads(base64.b64decode(message["setup"]))
            self._tasks, self._receipts = TypeAdapter(task_type), TypeAdapter(receipt_type)
            self._worker = Pipelined(make())
        except Exception as error:  # noqa: BLE001 - any error must reach the driver as data
            self._answer(setup=message["number"], failure=describe_failure(error))
            return
        self._threaded = message["in_flight"] > 1
        self._answer(setup=message["number"])

    def _run(self, index: int, content: str) -> None:
        try:
            assert self._worker is not None
            assert self._tasks is not None
            assert self._receipts is not None
            receipt = self._worker.run(self._tasks.validate_json(content))
            self._answer(task=index, receipt=self._receipts.dump_json(receipt).decode())
        except Exception as error:  # noqa: BLE001 - any error must reach the driver as data
            self._answer(task=index, failure=describe_failure(error))

    def _answer(self, **facts: Any) -> None:
        with self._lock:
            self._answers.write(json.dumps(facts).encode() + b"\n")
            self._answers.flush()


def main() -> None:
    """Work until the driver closes the input or dies; then exit at once."""
    # The driver handles interrupts, and closes the input.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    commands, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    # Output of libraries must not be mixed with the answers.
    os.dup2(2, 1)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    lines: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(commands, lines), name="commands", daemon=True).start()
    threading.Thread(target=_watch_parent, args=(os.getppid(),), name="parent", daemon=True).start()
    worker = Worker(cast(BinaryIO, answers))
    try:
        while True:
            worker.obey(lines.get())
    except BrokenPipeError:
        os._exit(0)


def _listen(commands: BinaryIO, lines: queue.SimpleQueue[bytes]) -> None:
    for line in commands:
        lines.put(line)
    os._exit(0)


def _watch_parent(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(PARENT_SECONDS)
    os._exit(0)
