"""Where a result comes from: versions, hardware, and what a piece of work cost."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import resource
import sys
import time
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

import psutil

from latentscale import __version__
from latentscale.backends.capability import usable_cores

_PACKAGES = (
    "numpy",
    "pyarrow",
    "polars",
    "scikit-learn",
    "scipy",
    "numba",
    "pynndescent",
    "hdbscan",
    "model2vec",
    "tokenizers",
    "fsspec",
    "s3fs",
    "ray",
)


def now() -> str:
    """The time in UTC, as ISO 8601 to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


@cache
def environment() -> dict[str, Any]:
    """Versions of the packages that shape results, and the hardware."""
    versions: dict[str, str] = {"latentscale": __version__, "python": platform.python_version()}
    for package in _PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return {
        "versions": versions,
        "hardware": {
            "processor": _processor(),
            "processors": available_processors(),
            "memory_bytes": psutil.virtual_memory().total,
            "system": f"{platform.system()} {platform.machine()}",
        },
    }


def available_processors() -> int:
    """Processors that this process may use, its affinity and the quota of its control group counted."""
    return max(1, int(usable_cores()))


def available_memory() -> float:
    """Bytes of memory that are free, the limit of this process's control group counted."""
    available = float(psutil.virtual_memory().available)
    limit = Path("/sys/fs/cgroup/memory.max")
    used = Path("/sys/fs/cgroup/memory.current")
    if limit.exists() and used.exists():
        text = limit.read_text(encoding="ascii").strip()
        if text != "max":
            available = min(available, float(text) - float(used.read_text(encoding="ascii")))
    return available


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


@dataclass(slots=True, kw_only=True)
class Cost:
    """What a piece of work cost.

    Attributes
    ----------
    seconds : float
        Wall time.
    cpu_seconds : float
        Processor time of this process and of the children that it waited for.
    peak_bytes : int
        Most resident memory of this process meanwhile.
    """

    seconds: float = 0.0
    cpu_seconds: float = 0.0
    peak_bytes: int = 0

    def as_dict(self) -> dict[str, Any]:
        """The record's form."""
        return {
            "seconds": round(self.seconds, 3),
            "cpu_seconds": round(self.cpu_seconds, 3),
            "peak_bytes": self.peak_bytes,
        }


@contextmanager
def measured() -> Generator[Cost]:
    """Measure what the block costs; the figures are there when it has ended."""
    cost = Cost()
    _forget_peak()
    started, cpu = time.perf_counter(), _cpu_seconds()
    try:
        yield cost
    finally:
        cost.seconds = time.perf_counter() - started
        cost.cpu_seconds = _cpu_seconds() - cpu
        cost.peak_bytes = peak_bytes()


def _cpu_seconds() -> float:
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def _forget_peak() -> None:
    # Linux forgets a process's memory high-water mark when asked so; elsewhere it is that of the whole process.
    try:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    except OSError:
        return


def peak_bytes() -> int:
    """Most resident memory of this process since the last measurement began, in bytes."""
    status = Path("/proc/self/status")
    if status.exists():
        for line in status.read_text(encoding="ascii", errors="replace").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
