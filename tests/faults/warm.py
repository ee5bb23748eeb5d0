"""A process that has imported everything and started nothing; it forks a child for each command that it is given.

The children are processes of their own, which only do without the second that Python takes to import: so the moments
at which they are killed are moments of work. Requests and answers are JSON, a line each, on standard input and output.
The tests of a package from outside, two dozen commands, use it too.
"""

from __future__ import annotations

import ctypes
import gc
import importlib
import json
import os
import pkgutil
import signal
import sys
from collections.abc import Iterator
from typing import Any

import crash
import skewed

from latentscale.cli.main import main
from latentscale.pipeline import hashing

USED = (
    *("PIL.Image", "PIL.ImageDraw", "PIL.ImageFont", "hdbscan", "joblib", "numba", "polars", "pynndescent"),
    *("safetensors", "tokenizers", "yaml"),
    # What is imported at the first picture that is written.
    *("PIL.BmpImagePlugin", "PIL.GifImagePlugin", "PIL.JpegImagePlugin", "PIL.PngImagePlugin", "PIL.PpmImagePlugin"),
    *(
        "pyarrow.compute",
        "pyarrow.dataset",
        "pyarrow.parquet",
        "scipy.sparse.csgraph",
        "scipy.spatial",
        "threadpoolctl",
    ),
    *("sklearn.cluster", "sklearn.metrics", "sklearn.decomposition", "sklearn.feature_extraction.text"),
    *(
        "aiobotocore.session",
        "s3fs",
        "latentscale.pipeline.run",
        "latentscale.pipeline.update",
        "latentscale.cli.report",
    ),
    *("latentscale.api", "latentscale.engines.local", "latentscale.quality.drift"),
)
OURS = (
    *("backends.cpu", "backends.cuml", "backends.torch", "embedders", "labelers", "labelers.keyphrases", "readers"),
    *("stages", "stages.ingest", "storage", "viewer", "viewer.search"),
)


def ours() -> Iterator[str]:
    for name in OURS:
        package = importlib.import_module(f"latentscale.{name}")
        yield from (f"{package.__name__}.{module.name}" for module in pkgutil.iter_modules(package.__path__))


def enter_mounts(of: str) -> None:
    """See the file systems that process ``of`` sees, as ``nsenter --user --mount`` does."""
    libc = ctypes.CDLL(None, use_errno=True)
    # The user's name space first: it gives the right to enter the other.
    for kind in ("user", "mnt"):
        space = os.open(f"/proc/{of}/ns/{kind}", os.O_RDONLY)
        if libc.setns(space, 0):
            raise OSError(ctypes.get_errno(), f"setns {kind}")
        os.close(space)


def child(request: dict[str, Any]) -> int:
    """Be the command line; returns its exit code."""
    said, errors = (
        os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        for path in (request["output"], request.get("errors", request["output"]))
    )
    nothing = os.open(os.devnull, os.O_RDONLY)
    for number, target in enumerate((nothing, said, errors)):
        os.dup2(target, number)
    os.environ.clear()
    os.environ.update(request["environment"])
    sys.argv = ["latentscale", *request["arguments"]]
    if "MOUNTS_OF" in os.environ:
        enter_mounts(os.environ["MOUNTS_OF"])
    if "CRASH" in os.environ:
        crash.install()
    if "HASHED_BY_SHARD" in os.environ:
        # As if there were too many texts for the driver.
        hashing.HERE_SECONDS = 0.0
    if "SKEW" in os.environ:
        skewed.install()
    try:
        main(request["arguments"])
    except SystemExit as ended:
        return int(ended.code or 0)
    return 0


def serve() -> None:
    for name in (*USED, *ours()):
        importlib.import_module(name)
    gc.freeze()
    print("ready", flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        if "wait" in request:
            _, status = os.waitpid(request["wait"], 0)
            print(os.waitstatus_to_exitcode(status), flush=True)
            continue
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                code = child(request)
                sys.stdout.flush()
                sys.stderr.flush()
            finally:
                os._exit(code)
        print(pid, flush=True)


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    serve()
