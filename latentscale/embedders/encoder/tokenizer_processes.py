"""Tokenise in separate processes, to leave the GIL to the thread that launches the work of a GPU.

A small encoder in half precision computes 20,000 texts in the time in which one thread tokenises them, holding the GIL
for most of it. Here portions of texts are sent to a few processes through pipes and return as arrays, in order. Tokens,
and so batches, are equal to those of tokenising in this process.
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

# Below this many bytes of text, tokenising here is faster than the round trip to a process.
_LEAST_BYTES = 100_000
# One process is a little slower than the fastest model on the fastest GPU that was measured. Two keep up with it over
# consecutive shards; three start the large portions of a call early enough.
_PROCESSES = 3
_TRIES = 2
_PIPE_BYTES = 1 << 20
_COMMAND = (
    "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN); import json, sys; "
    "sys.path[:] = json.loads(sys.argv[1]); from latentscale.embedders.encoder.tokenizer_process import main; "
    "main(int(sys.argv[2]))"
)


def processes_for(device: str, asked: int | None) -> int:
    """Return the number of tokenizer processes: as the settings say, else up to three if ``device`` is a GPU.

    They need CPUs in addition to the one that launches the GPU's work.
    """
    if asked is not None:
        return asked
    if not device.startswith("cuda") or not sys.executable:
        return 0
    return min(_PROCESSES, available_processors() - 1)


def processes_for_tokenizer(tokenizer: Any, options: Mapping[str, Any], count: int) -> TokenizerProcesses | None:
    """Create ``count`` processes that tokenise like ``TextTokenizer(tokenizer, **options)``.

    Returns None if ``count`` is 0, or if the tokenizer has components in Python, which cannot be serialised.
    """
    if not count:
        return None
    try:
        described = tokenizer.to_str()
    except Exception:  # noqa: BLE001 - the library has no exception class for this
        return None
    return TokenizerProcesses({"tokenizer": described, **options}, processes=count)


class TokenizerProcesses:
    """Tokenises portions of texts in other processes, which are started on demand.

    The processes end with this object and with this process, however it ends. Thread-safe; calls are served in order.

    Parameters
    ----------
    described : mapping
        ``tokenizer``: the result of ``Tokenizer.to_str``; the others are arguments of
        :class:`latentscale.embedders.tokens.TextTokenizer`.
    processes : int
    """

    def __init__(self, described: Mapping[str, Any], *, processes: int) -> None:
        self._pool = _ProcessPool(json.dumps(dict(described)).encode() + b"\n", processes)
        self._calls = itertools.count()
        # Also at interpreter exit: the processes have no state to lose.
        self._finalizer = weakref.finalize(self, self._pool.end)

    def column(self, texts: Sequence[str]) -> pa.LargeStringArray | None:
        """Convert texts to the column that ``encode`` takes.

        Returns None if they must be tokenised in this process: because they are few, contain lone surrogates, or this
        is a fork of the process that started the others.
        """
        if not self._pool.is_own:
            return None
        try:
            column: Any = pa.array(texts, pa.large_string())
        except UnicodeEncodeError:
            return None
        return column if column.nbytes >= _LEAST_BYTES else None

    def encode(self, column: pa.LargeStringArray, portions: Sequence[NDArray[np.int64]]) -> Iterator[Tokens]:
        """Tokenise portions, a few of them ahead of the consumer.

        Parameters
        ----------
        column : pyarrow.LargeStringArray
        portions : sequence of int64 ndarray
            Indices into ``column``.

        Yields
        ------
        Tokens
            Tokens of each portion, in order.

        Raises
        ------
        ConfigError
            If the tokenizer fails for a text.
        ResourceError
            If two processes died with the same texts.
        """
        call = next(self._calls)
        waiting: deque[Future[Tokens]] = deque()
        try:
            for number, rows in enumerate(portions):
                waiting.append(self._pool.submit(call, number, column, rows))
                # One being consumed, one in each process, and one queued.
                if len(waiting) > self._pool.size + 1:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for one in waiting:
                one.cancel()

    def close(self) -> None:
        """Stop the processes."""
        self._finalizer()


@dataclass(order=True, slots=True)
class _Portion:
    """Queued texts; those of an earlier call come first, whenever they were submitted."""

    call: int
    number: int
    column: pa.LargeStringArray | None = field(compare=False, default=None)
    rows: NDArray[np.int64] | None = field(compare=False, default=None)
    tokens: Future[Tokens] = field(compare=False, default_factory=Future[Tokens])


class _ProcessPool:
    """The tokenizer processes, each with a thread that communicates with it."""

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
        """Whether this process started them, and is not a fork, which lacks the threads."""
        return os.getpid() == self._owner

    def submit(self, call: int, number: int, column: pa.LargeStringArray, rows: NDArray[np.int64]) -> Future[Tokens]:
        """Queue the texts at ``rows`` for the next free process."""
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
        """Kill the processes and stop their threads."""
        # A fork of this process has a copy of this object, and must not kill the parent's processes.
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
                self._discard(process)
                return
            if not portion.tokens.set_running_or_notify_cancel():
                continue
            try:
                texts = cast(pa.LargeStringArray, portion.column.take(pa.array(portion.rows)))
                process = self._tokenize(process, texts, portion.tokens)
                del texts
            except BaseException as error:  # noqa: BLE001 - raised again where the tokens are waited for
                self._discard(process)
                process = None
                portion.tokens.set_exception(error)
            # Otherwise it would be referenced until the next one arrives.
            del portion

    def _discard(self, process: _Process | None) -> None:
        if process is None:
            return
        process.kill()
        process.close()
        with self._lock, contextlib.suppress(ValueError):
            self._processes.remove(process)

    def _tokenize(self, process: _Process | None, texts: pa.LargeStringArray, tokens: Future[Tokens]) -> _Process:
        """Set the tokens or the tokenizer's error as the result; returns the process, a new one if it died."""
        endings: list[str] = []
        while True:
            process = process or self._start()
            try:
                found = process.tokens(texts)
            except _DiedError:
                self._discard(process)
                endings.append(process.ending)
                process = None
                if self._ended or len(endings) == _TRIES:
                    raise _died_twice(texts, endings) from None
                continue
            except _RefusedError as error:
                tokens.set_exception(error.reason)
                return process
            except BaseException:
                # The state of the pipe is unknown: more of the answer may follow.
                self._discard(process)
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
    """The process died before it answered."""


class _RefusedError(Exception):
    """The tokenizer failed for this request, with the error ``reason``; the process remains usable."""

    def __init__(self, reason: Exception) -> None:
        super().__init__(str(reason))
        self.reason = reason


class _Process:
    """A tokenizer process, which serves requests sequentially; used by one thread."""

    def __init__(self, setup: bytes, *, processors: int) -> None:
        path = json.dumps([entry or str(Path.cwd()) for entry in sys.path])
        # It uses no GPU, and must not allocate memory of one.
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
        """Describe how the process ended."""
        code = self._process.wait()
        if code == -9:
            return "killed by signal 9, as the system does where memory runs out"
        return f"killed by signal {-code}" if code < 0 else f"exit code {code}"

    def tokens(self, texts: pa.LargeStringArray) -> Tokens:
        """Tokenise texts in the process.

        Raises
        ------
        _DiedError
            If the process died.
        _RefusedError
            If the tokenizer fails for a text.
        """
        try:
            if self._setup is not None:
                self._send(self._setup)
                self._read_answer()
                self._setup = None
            buffers = texts.buffers()
            offsets = np.frombuffer(cast(Any, buffers[1]), np.int64)[texts.offset : texts.offset + len(texts) + 1]
            data = memoryview(cast(Any, buffers[2]) or b"")[int(offsets[0]) : int(offsets[-1])]
            asked = json.dumps({"texts": len(texts), "bytes": len(data)}).encode() + b"\n"
            self._send(asked, (offsets - offsets[0]).data, data)
            facts = self._read_answer()
            arrays = {
                name: self._array(size, dtype) for (name, dtype), size in zip(ARRAYS, facts["sizes"], strict=True)
            }
        except (OSError, ValueError) as error:
            # A broken or closed pipe.
            raise _DiedError from error
        return Tokens(**arrays, read=facts["read"], unknown=facts["unknown"])

    def kill(self) -> None:
        """Kill the process; callable from any thread."""
        self._process.kill()
        self._process.wait()

    def close(self) -> None:
        """Close the pipes; to be called in the thread that uses them."""
        for pipe in (self._requests, self._answers):
            with contextlib.suppress(OSError, ValueError):
                pipe.close()

    def _send(self, *parts: Any) -> None:
        for part in parts:
            self._requests.write(part)
        self._requests.flush()

    def _read_answer(self) -> dict[str, Any]:
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
    """Enlarge the pipe buffers, to reduce switches between threads and processes."""
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
