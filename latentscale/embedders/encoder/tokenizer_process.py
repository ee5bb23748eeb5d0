"""A process that tokenises: portions of texts come in on its standard input, and arrays of tokens go out.

It is no process of ``multiprocessing``, which runs the user's script again where the script has no main guard. It ends
when its input does, and within a second of the death of the process that started it.
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
"""The arrays of an answer, in their order."""

# Where another child of the parent has inherited the pipe, the parent's death does not show as the end of the input.
PARENT_SECONDS = 0.5


def main(parent: int) -> None:
    """Answer until the input ends.

    Parameters
    ----------
    parent : int
        The process that waits for the answers.
    """
    # The parent hears of an interrupt, decides, and closes the input.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    threading.Thread(target=_watch, args=(parent,), name="parent", daemon=True).start()
    requests, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    # What a library prints must not come between the answers.
    os.dup2(2, 1)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    try:
        serve(cast(BinaryIO, requests), cast(BinaryIO, answers))
    except BrokenPipeError:
        pass
    finally:
        os._exit(0)


def serve(requests: BinaryIO, answers: BinaryIO) -> None:
    """Make the tokenizer that the first line describes, say that it is there, then answer each request.

    A request is a line of JSON with the number of ``texts`` and of their ``bytes``, then their int64 offsets and UTF-8
    bytes. An answer is a line with the sizes of ``ARRAYS`` and the counts, then the arrays; or a line with a
    ``failure``.
    """
    line = requests.readline()
    if not line:
        return
    try:
        tokenizer = _tokenizer(json.loads(line))
    except BaseException as error:  # noqa: BLE001 - any error must reach the parent as data
        _say(answers, failure=_described(error))
        return
    _say(answers, ready=True)
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
        except BaseException as error:  # noqa: BLE001 - a panic of compiled code is no Exception
            _say(answers, failure=_described(error))
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


def _say(answers: BinaryIO, **facts: Any) -> None:
    answers.write(json.dumps(facts).encode() + b"\n")
    answers.flush()


def _described(error: BaseException) -> dict[str, Any]:
    if isinstance(error, LatentScaleError):
        return {"ours": type(error).__name__, "message": error.message, "where": error.where, "hint": error.hint}
    return {"message": f"{type(error).__name__}: {error}", "traceback": traceback.format_exc()}


def _watch(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(PARENT_SECONDS)
    os._exit(0)
