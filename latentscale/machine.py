"""The resources of this machine: processors, memory, GPUs, packages; imports nothing heavy."""

from __future__ import annotations

import contextlib
import ctypes
import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any, cast

import psutil

# The limit of a control group and what it uses, in version 2 and in version 1.
_MEMORY_FILES = (
    ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"),
    ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "/sys/fs/cgroup/memory/memory.usage_in_bytes"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Gpu:
    """One GPU, as its driver names it.

    Attributes
    ----------
    name : str
    memory_gib : float
    driver : str
    """

    name: str
    memory_gib: float
    driver: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """The resources of one worker of a stage.

    Attributes
    ----------
    cpus : float
    memory_bytes : float
        That the worker may use.
    disk_free_bytes : float
        Free in its scratch folder.
    gpus : tuple of Gpu
        Those that the worker was given.
    packages : dict of str to str
        Installed packages that decide on a backend, with their versions.
    python : str
        Its version.
    name : str
        For messages.
    """

    cpus: float = 1.0
    memory_bytes: float = 0.0
    disk_free_bytes: float = 0.0
    gpus: tuple[Gpu, ...] = ()
    packages: Mapping[str, str] = field(default_factory=dict[str, str])
    python: str = ""
    name: str = "this machine"


@dataclass(frozen=True, slots=True, kw_only=True)
class Replicas:
    """What each worker gets that a stage starts on a cluster by itself.

    Attributes
    ----------
    cpus : float or None
        None where the settings do not say.
    gpus : float
        Less than one is a share of one.
    custom : dict of str to float
        Amounts of the cluster's own resources.
    workers : int
        How many, where the stage does not say itself.
    stall_seconds : float
        How long nothing may be finished before they are given up.
    """

    cpus: float | None = None
    gpus: float = 0.0
    custom: Mapping[str, float] = field(default_factory=dict[str, float])
    stall_seconds: float = 3_600.0
    workers: int = 1


def usable_cores() -> float:
    """Processors that this process may use: its affinity and its control group's quota counted."""
    count = float(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)
    quota = _read("/sys/fs/cgroup/cpu.max").split()
    if len(quota) == 2 and quota[0].isdigit() and int(quota[1]):
        return min(count, int(quota[0]) / int(quota[1]))
    old = _read("/sys/fs/cgroup/cpu/cpu.cfs_quota_us"), _read("/sys/fs/cgroup/cpu/cpu.cfs_period_us")
    if old[0].isdigit() and old[1].isdigit() and int(old[1]):
        return min(count, int(old[0]) / int(old[1]))
    return count


def usable_memory() -> int:
    """Bytes of memory that this process may use: the machine's, or its control group's limit."""
    total = int(psutil.virtual_memory().total)
    for path, _ in _MEMORY_FILES:
        limit = _read(path)
        if limit.isdigit():
            return min(total, int(limit))
    return total


def available_processors() -> int:
    """Processors that this process may use, its affinity and the quota of its control group counted."""
    return max(1, int(usable_cores()))


def available_memory() -> float:
    """Bytes of memory that are free, the limit of this process's control group counted."""
    available = float(psutil.virtual_memory().available)
    for limit, used in _MEMORY_FILES:
        most, now = _read(limit), _read(used)
        if most.isdigit() and now.isdigit():
            return max(0.0, min(available, float(most) - float(now)))
    return available


def gpus() -> tuple[Gpu, ...]:
    """The GPUs of this machine, as their driver lists them."""
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return ()
    query = [tool, "--query-gpu=name,memory.total,driver_version", "--format=csv,noheader,nounits"]
    try:
        answer = subprocess.run(query, capture_output=True, text=True, timeout=10, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return ()
    found: list[Gpu] = []
    for line in answer.splitlines():
        fields = [field.strip() for field in line.split(",")]
        if len(fields) == 3 and fields[1].replace(".", "", 1).isdigit():
            found.append(Gpu(name=fields[0], memory_gib=round(float(fields[1]) / 1024, 1), driver=fields[2]))
    return tuple(found)


def visible_gpus() -> list[str]:
    """Numbers or identities of the GPUs that this process may use, as ``CUDA_VISIBLE_DEVICES`` has them."""
    found = gpus()
    given = os.environ.get("CUDA_VISIBLE_DEVICES")
    if given is None or not found:
        return [str(number) for number in range(len(found))]
    return [one.strip() for one in given.split(",") if one.strip() and not one.strip().startswith("-")]


def own_device() -> str:
    """``cuda:0`` where this process was given a GPU, else ``cpu``."""
    given = os.environ.get("CUDA_VISIBLE_DEVICES")
    return "cuda:0" if given not in ("", "-1") and gpus() else "cpu"


@cache
def package_version(package: str) -> str | None:
    """The version of an installed package, or None; each is looked up once, since that reads a file."""
    try:
        found = distribution(package)
    except PackageNotFoundError:
        return None
    # The library parses the whole file, long description and licences included, for this one line.
    line = re.search(r"^Version:\s*(\S+)", found.read_text("METADATA") or "", re.MULTILINE)
    return line[1] if line else found.version


def processor_name() -> str:
    """Return the model name of the processor."""
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def forget_peak() -> None:
    """Restart the measurement of ``peak_bytes``, where the system can."""
    # Linux forgets a process's memory high-water mark when asked so; elsewhere it is that of the whole process.
    try:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    except OSError:
        return


def peak_bytes() -> int:
    """Peak resident memory of this process since the measurement started, in bytes."""
    status = Path("/proc/self/status")
    if status.exists():
        for line in status.read_text(encoding="ascii", errors="replace").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    if sys.platform == "win32":
        return int(cast(Any, psutil.Process().memory_info()).peak_wset)
    import resource

    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def _read(path: str) -> str:
    try:
        return Path(path).read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError):
        return ""


def release_memory() -> None:
    """Give freed memory back to the system.

    After large tables Arrow keeps hundreds of megabytes, and after the work of many threads glibc does.
    """
    import pyarrow as pa

    pa.default_memory_pool().release_unused()
    # Only glibc keeps the freed memory of each thread, and only it has this function.
    with contextlib.suppress(AttributeError, OSError, TypeError):
        ctypes.CDLL(None).malloc_trim(0)
