"""A process that has imported everything and started nothing; it forks a child for each command that it is given.

The children are processes of their own, which only do without the second that Python takes to import: the tests of a
package from outside give two dozen commands. A request is a line of JSON, its answer the exit code.
"""

from __future__ import annotations

import importlib
import json
import os
import pkgutil
import sys
from collections.abc import Iterator
from typing import Any

from latentscale.cli.main import main

USED = (
    *("hdbscan", "numba", "polars", "pyarrow.compute", "pyarrow.dataset", "pyarrow.parquet", "scipy.sparse.csgraph"),
    *("sklearn.cluster", "sklearn.metrics", "sklearn.feature_extraction.text", "tokenizers"),
    *("latentscale.pipeline.update", "latentscale.cli.report"),
)
OURS = ("backends.cpu", "embedders", "labelers", "readers", "stages", "storage", "upkeep", "viewer")


def ours() -> Iterator[str]:
    for name in OURS:
        package = importlib.import_module(f"latentscale.{name}")
        yield from (f"{package.__name__}.{module.name}" for module in pkgutil.iter_modules(package.__path__))


def child(request: dict[str, Any]) -> int:
    """Be the command line; returns its exit code."""
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    for number, name in enumerate(("out", "err"), 1):
        os.dup2(os.open(request[name], os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
    sys.argv = ["latentscale", *request["arguments"]]
    try:
        main(request["arguments"])
    except SystemExit as ended:
        return int(ended.code or 0)
    return 0


def serve() -> None:
    for name in (*USED, *ours()):
        importlib.import_module(name)
    for line in sys.stdin:
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                code = child(json.loads(line))
                sys.stdout.flush()
                sys.stderr.flush()
            finally:
                os._exit(code)
        print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)


if __name__ == "__main__":
    serve()
