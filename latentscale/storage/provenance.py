"""Provenance of a result: versions, hardware and cost."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from typing import Any

import psutil

from latentscale.machine import (
    available_processors,
    forget_peak,
    package_version,
    peak_bytes,
    processor_name,
)
from latentscale.version import __version__

_PACKAGES = (
    "numpy",
    "pyarrow",
    "polars",
    "scikit-learn",
    "scipy",
    "numba",
    "pynndescent",
    "hdbscan",
    "fast-plscan",
    "model2vec",
    "tokenizers",
    "fsspec",
    "s3fs",
    "ray",
)


def now() -> str:
    """Return the time in UTC, as ISO 8601 with seconds."""
    return datetime.now(UTC).isoformat(timespec="seconds")


@cache
def environment() -> dict[str, Any]:
    """Return versions of packages that affect results, and the hardware."""
    versions: dict[str, str] = {"latentscale": __version__, "python": platform.python_version()}
    versions |= {package: found for package in _PACKAGES if (found := package_version(package)) is not None}
    return {
        "versions": versions,
        "hardware": {
            "processor": processor_name(),
            "processors": available_processors(),
            "memory_bytes": psutil.virtual_memory().total,
            "system": f"{platform.system()} {platform.machine()}",
        },
    }


@dataclass(slots=True, kw_only=True)
class Cost:
    """The cost of a piece of work.

    Attributes
    ----------
    seconds : float
        Wall time.
    cpu_seconds : float
        CPU time of this process and of finished child processes.
    peak_bytes : int
        Peak resident memory of this process.
    """

    seconds: float = 0.0
    cpu_seconds: float = 0.0
    peak_bytes: int = 0

    def as_dict(self) -> dict[str, Any]:
        """Return plain values for the record."""
        return {
            "seconds": round(self.seconds, 3),
            "cpu_seconds": round(self.cpu_seconds, 3),
            "peak_bytes": self.peak_bytes,
        }


@contextmanager
def measured() -> Generator[Cost]:
    """Measure the cost of a block; the figures are set at its end."""
    cost = Cost()
    forget_peak()
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
