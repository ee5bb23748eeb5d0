"""Tokenise in processes of their own, so that Python's lock is left to the thread that gives a GPU its work.

A small encoder in half precision computes 20,000 texts in the time in which one thread tokenises them, with Python's
lock for most of it. Here portions of texts go to a few processes through pipes and come back as arrays, in the order in
which they are needed: the tokens are the same as in this process, and so are the batches that are made of them.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import queue
import subprocess
import sys
import threading
import weakref
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, cast

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from latentscale import errors
from latentscale.embedders.encoder.tokenizer_process import ARRAYS
from latentscale.embedders.tokens import Tokens
from latentscale.errors import EnvironmentFailure, LatentScaleError, ResourceError, shortened
from latentscale.machine import available_processors

# Fewer bytes of text are tokenised sooner than a process is asked.
_LEAST_BYTES = 100_000
# One process takes a little longer for a text than the fastest model on the fastest GPU that was measured. Two keep up
# with it shard after shard; three begin the large portions of a call early enough.
_PROCESSES = 3
_TRIES = 2
_PIPE_BYTES = 1 << 20
_COMMAND = (
    "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN); import json, sys; "
    "sys.path[:] = json.loads(sys.argv[1]); from latentscale.embedders.encoder.tokenizer_process import main; "
    "main(int(sys.argv[2]))"
)


def processes_for(device: str, asked: int | None) -> int:
    """How many processes tokenise for a model on ``device``: as the settings say, or where it is a GPU, up to three.

    They need processors beside the one that gives the GPU its work.
    """
    if asked is not None:
        return asked
    if not device.startswith("cuda") or not sys.executable:
        return 0
    return min(_PROCESSES, available_processors() - 1)


def processes_like(tokenizer: Any, options: Mapping[str, Any], count: int) -> TokenizerProcesses | None:
    """So many processes that tokenise as ``TextTokenizer(tokenizer, **options)`` does.

    None where there are to be none, or the tokenizer has parts in Python, which cannot be sent.
    """
    if not count:
        return None
    try:
        described = tokenizer.to_str()
    except Exception:  # noqa: BLE001 - its library has no type of its own for that
        return None
    return TokenizerProcesses({"tokenizer": described, **options}, processes=count)


class TokenizerProcesses:
    """Tokenises portions of texts in other processes, which start when they are first needed.

    They end with this object and with this process, however it ends. Several threads may use it at once: who asked
    first is served first.

    Parameters
    ----------
    described : mapping
        ``tokenizer``: what ``Tokenizer.to_str`` gives; the others are arguments of
        :class:`latentscale.embedders.tokens.TextTokenizer`.
    processes : int
    """

    def __init__(self, described: Mapping[str, Any], *, processes: int) -> None:
        self._crew = _Crew(json.dumps(dict(described)).encode() + b"\n", processes)
        self._calls = itertools.count()
        # At the end of the interpreter too: the processes hold nothing that would be lost.
        self._forgotten = weakref.finalize(self, self._crew.end)

    def column(self, texts: Sequence[str]) -> pa.LargeStringArray | None:
        """The texts as the processes take them.

        None where they must be tokenised here: there are few, they hold lone surrogates, which are no characters, or
        this is a fork of the process that has the others.
        """
        if not self._crew.is_own:
            return None
        try:
            column: Any = pa.array(texts, pa.large_string())
        except UnicodeEncodeError:
            return None
        return column if column.nbytes >= _LEAST_BYTES else None

    def encode(self, column: pa.LargeStringArray, portions: Sequence[NDArray[np.int64]]) -> Iterator[Tokens]:
        """Tokenise portions, a few of them ahead of the one that is asked for.

        Parameters
        ----------
        column : pyarrow.LargeStringArray
        portions : sequence of int64 ndarray
            Positions in ``column``.

        Yields
        ------
        Tokens
            Of each portion.

        Raises
        ------
        ConfigError
            If the tokenizer gives up on a text.
        ResourceError
            If a process died twice with the same texts.
        """
        call = next(self._calls)
        waiting: deque[Future[Tokens]] = deque()
        try:
            for number, rows in enumerate(portions):
                waiting.append(self._crew.submit(call, number, column, rows))
                # One that is used, one in each process, and one that a process goes on with.
                if len(waiting) > self._crew.size + 1:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for one in waiting:
                one.cancel()

    def close(self) -> None:
        """End the processes."""
        self._forgotten()


@dataclass(order=True, slots=True)
class _Portion:
    """Texts that wait for a process: those of an earlier call come first, whenever they were given."""

    call: int
    number: int
    column: pa.LargeStringArray | None = field(compare=False, default=None)
    rows: NDArray[np.int64] | None = field(compare=False, default=None)
    tokens: Future[Tokens] = field(compare=False, default_factory=Future[Tokens])


class _Crew:
    """The processes, each with a thread that talks to it."""

    def __init__(self, setup: bytes, size: int) -> None:
        self.size = size
        self._setup = setup
        self._portions: queue.PriorityQueue[_Portion] = queue.PriorityQueue()
        self._lock = threading.Lock()
        self._processes: list[_Process] = []
        self._started = self._ended = False
        self._owner = os.getpid()

    @property
    def is_own(self) -> bool:
        """Whether this is the process that started them, and no fork of it, which has none of its threads."""
        return os.getpid() == self._owner

    def submit(self, call: int, number: int, column: pa.LargeStringArray, rows: NDArray[np.int64]) -> Future[Tokens]:
        """Let the next free process tokenise the texts at ``rows``."""
        portion = _Portion(call, number, column, rows)
        with self._lock:
            if self._ended:
                portion.tokens.cancel()
                return portion.tokens
            self._portions.put(portion)
            begin, self._started = not self._started, True
        if begin:
            for _ in range(self.size):
                threading.Thread(target=self._work, name="tokenizer-process", daemon=True).start()
        return portion.tokens

    def end(self) -> None:
        """End the processes at once, and their threads."""
        # A fork of this process has a copy of this, and must not end what is not its own.
        if not self.is_own:
            return
        with self._lock:
            self._ended = True
            processes = list(self._processes)
        with contextlib.suppress(queue.Empty):
            while True:
                self._portions.get_nowait().tokens.cancel()
        self._portions.put(_Portion(-1, 0))
        for one in processes:
            one.kill()

    def _work(self) -> None:
        process: _Process | None = None
        while True:
            portion = self._portions.get()
            if portion.column is None or portion.rows is None:
                # For the others.
                self._portions.put(portion)
                self._dismiss(process)
                return
            if not portion.tokens.set_running_or_notify_cancel():
                continue
            try:
                texts = cast(pa.LargeStringArray, portion.column.take(pa.array(portion.rows)))
                process = self._asked(process, texts, portion.tokens)
                del texts
            except BaseException as error:  # noqa: BLE001 - raised again where the tokens are waited for
                self._dismiss(process)
                process = None
                portion.tokens.set_exception(error)
            # It would be held until the next one comes.
            del portion

    def _dismiss(self, process: _Process | None) -> None:
        if process is None:
            return
        process.kill()
        process.close()
        with self._lock, contextlib.suppress(ValueError):
            self._processes.remove(process)

    def _asked(self, process: _Process | None, texts: pa.LargeStringArray, tokens: Future[Tokens]) -> _Process:
        """Set the tokens, or the error of the tokenizer, and return the process, another one where it died."""
        endings: list[str] = []
        while True:
            process = process or self._start()
            try:
                found = process.tokens(texts)
            except _DiedError:
                self._dismiss(process)
                endings.append(process.ending)
                process = None
                if self._ended or len(endings) == _TRIES:
                    raise _died_twice(texts, endings) from None
                continue
            except _RefusedError as error:
                tokens.set_exception(error.reason)
                return process
            except BaseException:
                # Whether it has more to say to this request is not known.
                self._dismiss(process)
                raise
            tokens.set_result(found)
            return process

    def _start(self) -> _Process:
        process = _Process(self._setup, processors=max(1, available_processors() // self.size))
        with self._lock:
            self._processes.append(process)
            ended = self._ended
        if ended:
            process.kill()
        return process


class _DiedError(Exception):
    """The process ended before it had answered."""


class _RefusedError(Exception):
    """The process answered that it cannot do it, for a ``reason``; it can do others."""

    def __init__(self, reason: Exception) -> None:
        super().__init__(str(reason))
        self.reason = reason


class _Process:
    """One process, which answers one request after the other; used by one thread."""

    def __init__(self, setup: bytes, *, processors: int) -> None:
        path = json.dumps([entry or str(Path.cwd()) for entry in sys.path])
        # It computes nothing on a GPU, and must not take memory of one.
        variables = {"RAYON_NUM_THREADS": str(processors)} | dict(os.environ) | {"CUDA_VISIBLE_DEVICES": ""}
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-c", _COMMAND, path, str(os.getpid())],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                env=variables,
            )
        except OSError as error:
            raise ResourceError(
                f"no process that tokenises could be started: {error}",
                where="embed",
                hint="Set embed.options.tokenizer_processes to 0: the worker itself tokenises then.",
            ) from error
        self._requests = cast(IO[bytes], self._process.stdin)
        self._answers = cast(IO[bytes], self._process.stdout)
        _widen(self._requests, self._answers)
        self._setup: bytes | None = setup

    @property
    def ending(self) -> str:
        """How it ended."""
        code = self._process.wait()
        if code == -9:
            return "killed by signal 9, as the system does where memory runs out"
        return f"killed by signal {-code}" if code < 0 else f"exit code {code}"

    def tokens(self, texts: pa.LargeStringArray) -> Tokens:
        """Have texts tokenised.

        Raises
        ------
        _DiedError
            If the process died.
        _RefusedError
            If the tokenizer gives up on a text.
        """
        try:
            if self._setup is not None:
                self._send(self._setup)
                self._said()
                self._setup = None
            buffers = texts.buffers()
            offsets = np.frombuffer(cast(Any, buffers[1]), np.int64)[texts.offset : texts.offset + len(texts) + 1]
            data = memoryview(cast(Any, buffers[2]) or b"")[int(offsets[0]) : int(offsets[-1])]
            asked = json.dumps({"texts": len(texts), "bytes": len(data)}).encode() + b"\n"
            self._send(asked, (offsets - offsets[0]).data, data)
            facts = self._said()
            arrays = {
                name: self._array(size, dtype) for (name, dtype), size in zip(ARRAYS, facts["sizes"], strict=True)
            }
        except (OSError, ValueError) as error:
            # A pipe that is broken, or was closed.
            raise _DiedError from error
        return Tokens(**arrays, read=facts["read"], unknown=facts["unknown"])

    def kill(self) -> None:
        """End it; in any thread."""
        self._process.kill()
        self._process.wait()

    def close(self) -> None:
        """Close the pipes; in the thread that uses them."""
        for pipe in (self._requests, self._answers):
            with contextlib.suppress(OSError, ValueError):
                pipe.close()

    def _send(self, *parts: Any) -> None:
        for part in parts:
            self._requests.write(part)
        self._requests.flush()

    def _said(self) -> dict[str, Any]:
        line = self._answers.readline()
        if not line.endswith(b"\n"):
            raise _DiedError
        facts = json.loads(line)
        failure = facts.get("failure")
        if failure is None:
            return facts
        if "ours" in failure:
            kind = getattr(errors, failure["ours"], EnvironmentFailure)
            ours = cast(type[LatentScaleError], kind)
            raise _RefusedError(ours(failure["message"], where=failure["where"], hint=failure["hint"]))
        raise _RefusedError(RuntimeError(f"a process that tokenises: {failure['message']}\n{failure['traceback']}"))

    def _array(self, size: int, dtype: np.dtype[Any]) -> NDArray[Any]:
        array = np.empty(size, dtype)
        at, view = 0, memoryview(array.view(np.uint8).data)
        while at < len(view):
            count = cast(Any, self._answers).readinto(view[at:])
            if not count:
                raise _DiedError
            at += count
        return array


def _widen(*pipes: IO[bytes]) -> None:
    """Let more pass at once: each piece costs a switch between threads and processes."""
    with contextlib.suppress(ImportError, AttributeError, OSError):
        import fcntl

        for pipe in pipes:
            fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)


def _died_twice(texts: pa.LargeStringArray, endings: Sequence[str]) -> ResourceError:
    return ResourceError(
        f"a process that tokenises died with the same {len(texts):,} texts each time: {'; '.join(endings)}",
        where=f"texts such as {shortened(str(texts[0].as_py()))!r}",
        hint="Free some memory, or set embed.options.tokenizer_processes to 0: the worker itself tokenises then.",
    )
