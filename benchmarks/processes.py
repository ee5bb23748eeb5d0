"""Run commands and functions in fresh processes, and measure their cost."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).parents[1]
_POLL_INTERVAL_S = 0.02


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """Cost of a process.

    Attributes
    ----------
    wall_s : float
    cpu_s : float
        User and system time of the process and of children that it waited for.
    peak_mb : float
        Peak resident memory of a single process of the tree, in 10^6 bytes.
    """

    wall_s: float
    cpu_s: float
    peak_mb: float

    def columns(self) -> dict[str, float]:
        """The figures as columns of a table of results."""
        return {"cpu_s": self.cpu_s, "wall_s": self.wall_s, "peak_mb": self.peak_mb}


class PartFailedError(Exception):
    """A measured process failed; the message contains the end of its output."""


def run_command(
    command: Sequence[str], *, compiled: Path | None = None, variables: Mapping[str, str] | None = None
) -> tuple[Usage, str]:
    """Run a command and return its cost and its standard output.

    Parameters
    ----------
    command : sequence of str
    compiled : Path, optional
        Folder of LatentScale's compiled code; by default numba's own.
    variables : mapping, optional
        Further environment variables.
    """
    # These variables change how much a process compiles, so they are not inherited.
    environment = {k: v for k, v in os.environ.items() if k not in ("PYTHONDONTWRITEBYTECODE", "NUMBA_CACHE_DIR")}
    environment |= {"NUMBA_CACHE_DIR": str(compiled)} if compiled else {}
    environment |= variables or {}
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as errors:
        started = time.perf_counter()
        process = subprocess.Popen(command, stdout=out, stderr=errors, env=environment, cwd=REPOSITORY)
        ended = threading.Event()
        peaks: list[int] = []
        poller = threading.Thread(target=_watch_peak, args=(process.pid, ended, peaks), daemon=True)
        poller.start()
        _, status, used = os.wait4(process.pid, 0)
        wall = time.perf_counter() - started
        process.returncode = os.waitstatus_to_exitcode(status)
        ended.set()
        poller.join()
        out.seek(0)
        text = out.read().decode(errors="replace")
        if process.returncode:
            errors.seek(0)
            output = (text + errors.read().decode(errors="replace"))[-4000:]
            raise PartFailedError(f"{' '.join(map(str, command[:6]))} … ended with {process.returncode}:\n{output}")
    unit = 1 if sys.platform == "darwin" else 1024
    # A child inherits the high-water mark of its parent: only a higher value is the child's own.
    parent_peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    peak = max([*peaks, used.ru_maxrss * unit if used.ru_maxrss > parent_peak or not any(peaks) else 0])
    return Usage(wall_s=wall, cpu_s=used.ru_utime + used.ru_stime, peak_mb=peak / 1e6), text


def _watch_peak(pid: int, ended: threading.Event, peaks: list[int]) -> None:
    """Poll the memory high-water mark, which LatentScale resets at the start of each stage."""
    status = Path(f"/proc/{pid}/status")
    peak = 0
    while not ended.wait(_POLL_INTERVAL_S):
        try:
            lines = status.read_text(encoding="ascii", errors="replace").splitlines()
        except OSError:
            break
        peak = max([peak, *(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:"))])
    peaks.append(peak)


def latentscale(*arguments: str | Path) -> list[str]:
    """The command line of LatentScale, with the interpreter of the benchmarks."""
    return [sys.executable, "-m", "latentscale", *map(str, arguments)]


def fresh(
    function: Callable[..., dict[str, Any]],
    /,
    *,
    compiled: Path | None = None,
    variables: Mapping[str, str] | None = None,
    **arguments: Any,
) -> tuple[Usage, dict[str, Any]]:
    """Call a function of a case in a fresh process; arguments and result are passed as JSON."""
    with tempfile.TemporaryDirectory() as folder:
        answer = Path(folder, "answer.json")
        request = json.dumps({name: str(v) if isinstance(v, Path) else v for name, v in arguments.items()})
        command = [sys.executable, "-m", "benchmarks.processes"]
        command += [function.__module__, function.__name__, request, str(answer)]
        usage, _ = run_command(command, compiled=compiled, variables=variables)
        return usage, json.loads(answer.read_text(encoding="utf-8"))


def own_cpu_seconds() -> float:
    """CPU time of this process so far, including its threads but not its children."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def _main() -> None:
    import importlib

    module, name, request, answer = sys.argv[1:]
    result = getattr(importlib.import_module(module), name)(**json.loads(request))
    Path(answer).write_text(json.dumps(result), encoding="utf-8")


if __name__ == "__main__":
    _main()
