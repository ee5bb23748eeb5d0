"""A tokenizer process, which reads portions of texts from standard input and writes arrays of tokens.

It does not use ``multiprocessing``, which runs the user's script again if that has no main guard. It ends with its
input, and at most a second after the death of its parent.
"""

from __future__ import annotations

import json
import os
import signal
import threading
import time
import traceback
from typing import Any, BinaryIO, cast

import numpy as np
import pyarrow as pa

from latentscale.embedders.tokens import TextTokenizer, Tokens
from latentscale.errors import LatentScaleError

ARRAYS = (
    ("ids", np.dtype(np.int32)),
    ("bounds", np.dtype(np.int64)),
    ("text", np.dtype(np.int64)),
    ("content", np.dtype(np.int32)),
    ("truncated", np.dtype(np.bool_)),
    ("empty", np.dtype(np.bool_)),
)
"""The arrays of an answer, in order."""

# If another child of the parent inherited the pipe, the parent's death does not close the input.
PARENT_SECONDS = 0.5


def main(parent: int) -> None:
    """Serve requests until the input ends.

    Parameters
    ----------
    parent : int
        Process id of the parent.
    """
    # The parent handles interrupts, and closes the input.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    threading.Thread(target=_watch, args=(parent,), name="parent", daemon=True).start()
    requests, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    # Output of libraries must not be mixed with the answers.
    os.dup2(2, 1)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    try:
        serve(cast(BinaryIO, requests), cast(BinaryIO, answers))
    except BrokenPipeError:
        pass
    finally:
        os._exit(0)


def serve(requests: BinaryIO, answers: BinaryIO) -> None:
    """Create the tokenizer described by the first line, report that it is ready, then serve requests.

    A request is a line of JSON with the number of ``texts`` and ``bytes``, then their int64 offsets and UTF-8 bytes. An
    answer is a line with the sizes of ``ARRAYS`` and the counts, followed by the arrays; or a line with a ``failure``.
    """
    line = requests.readline()
    if not line:
        return
    try:
        tokenizer = _tokenizer(json.loads(line))
    except BaseException as error:  # noqa: BLE001 - any error must reach the parent as data
        _write_line(answers, failure=_describe_error(error))
        return
    _write_line(answers, ready=True)
    while line := requests.readline():
        asked = json.loads(line)
        offsets = requests.read(8 * (asked["texts"] + 1))
        data = requests.read(asked["bytes"])
        if len(data) < asked["bytes"]:
            return
        buffers = [None, pa.py_buffer(offsets), pa.py_buffer(data)]
        texts: list[Any] = pa.Array.from_buffers(pa.large_string(), asked["texts"], buffers).to_pylist()
        try:
            tokens = tokenizer.encode(texts)
        except BaseException as error:  # noqa: BLE001 - a Rust panic is not an Exception
            _write_line(answers, failure=_describe_error(error))
            continue
        _answer(answers, tokens)


def _tokenizer(described: dict[str, Any]) -> TextTokenizer:
    from tokenizers import Tokenizer

    return TextTokenizer(Tokenizer.from_str(described.pop("tokenizer")), **described)


def _answer(answers: BinaryIO, tokens: Tokens) -> None:
    arrays = [np.ascontiguousarray(getattr(tokens, name), dtype) for name, dtype in ARRAYS]
    sizes = [len(one) for one in arrays]
    answers.write(json.dumps({"sizes": sizes, "read": tokens.read, "unknown": tokens.unknown}).encode() + b"\n")
    for one in arrays:
        answers.write(one.data)
    answers.flush()


def _write_line(answers: BinaryIO, **facts: Any) -> None:
    answers.write(json.dumps(facts).encode() + b"\n")
    answers.flush()


def _describe_error(error: BaseException) -> dict[str, Any]:
    if isinstance(error, LatentScaleError):
        return {"ours": type(error).__name__, "message": error.message, "where": error.where, "hint": error.hint}
    return {"message": f"{type(error).__name__}: {error}", "traceback": traceback.format_exc()}


def _watch(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(PARENT_SECONDS)
    os._exit(0)
