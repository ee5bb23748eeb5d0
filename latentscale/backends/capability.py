"""Say what this machine has for each stage, and why each backend would be chosen; imports nothing heavy."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

_PACKAGES = (
    "numpy",
    "scipy",
    "scikit-learn",
    "numba",
    "pynndescent",
    "hdbscan",
    "model2vec",
    "tokenizers",
    "pyarrow",
    "polars",
    "ray",
    "s3fs",
    "onnxruntime",
    "torch",
    "transformers",
    "cuml-cu13",
    "cupy-cuda13x",
    "vllm",
)
_GIB = 1024**3


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
class StageChoice:
    """What a stage would run on.

    Attributes
    ----------
    stage : str
    backend : {"cpu", "cuda"}
    library : str
        With its version.
    reason : str
    """

    stage: str
    backend: str
    library: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Capabilities:
    """What was found on this machine.

    Attributes
    ----------
    system : str
        Operating system, processor architecture and Python.
    cores : int
        Processors of the machine.
    usable_cores : float
        Those this process may use: its affinity and its control group's quota counted.
    memory_gib : float
        What this process may use: the machine's memory or its control group's limit.
    gpus : tuple of Gpu
    packages : dict of str to str or None
        Versions; None where a package is not installed.
    stages : tuple of StageChoice
    compiled_code : str
        Folder that compiled code is kept in, and whether there is any.
    missing : tuple of str
        What could be installed, for what, with the command.
    """

    system: str
    cores: int
    usable_cores: float
    memory_gib: float
    gpus: tuple[Gpu, ...]
    packages: dict[str, str | None]
    stages: tuple[StageChoice, ...]
    compiled_code: str
    missing: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """As plain values, for JSON."""
        return asdict(self)

    def __str__(self) -> str:
        gpus = ", ".join(f"{gpu.name} ({gpu.memory_gib:.0f} GiB, driver {gpu.driver})" for gpu in self.gpus) or "none"
        lines = [
            f"system         {self.system}",
            f"processors     {self.cores}, of which {self.usable_cores:g} can be used",
            f"memory         {self.memory_gib:.1f} GiB can be used",
            f"GPUs           {gpus}",
            f"compiled code  {self.compiled_code}",
            "",
            "stages",
            *(f"  {one.stage:<10} {one.backend:<5} {one.library:<22} {one.reason}" for one in self.stages),
            "",
            "packages",
            *(f"  {name:<14} {found}" for name, found in self.packages.items() if found),
        ]
        if self.missing:
            lines += ["", "not installed", *(f"  {one}" for one in self.missing)]
        return "\n".join(lines)


def describe() -> Capabilities:
    """Look at this machine. Takes some hundredths of a second, and imports none of the packages it names."""
    from latentscale.backends.cpu.compiled import wanted_cache_folder

    packages = {name: _version(name) for name in _PACKAGES}
    gpus = _gpus()
    folder = wanted_cache_folder()
    kept = sum(1 for _ in folder.rglob("*.nbc")) if folder.is_dir() else 0
    parent = next((path for path in (folder, *folder.parents) if path.exists()), folder)
    state = f"{kept} entries" if kept else "empty: the first run compiles for some seconds"
    if not os.access(parent, os.W_OK):
        state += "; cannot be written: set NUMBA_CACHE_DIR"
    return Capabilities(
        system=f"{platform.system()} {platform.machine()}, Python {platform.python_version()}",
        cores=os.cpu_count() or 1,
        usable_cores=usable_cores(),
        memory_gib=round(usable_memory() / _GIB, 2),
        gpus=gpus,
        packages=packages,
        stages=_choices(packages, gpus),
        compiled_code=f"{folder} ({state})",
        missing=_missing(packages, gpus),
    )


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
    import psutil

    total = int(psutil.virtual_memory().total)
    for path in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        limit = _read(path)
        if limit.isdigit():
            return min(total, int(limit))
    return total


def _read(path: str) -> str:
    try:
        return Path(path).read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError):
        return ""


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _gpus() -> tuple[Gpu, ...]:
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


def _choices(packages: dict[str, str | None], gpus: tuple[Gpu, ...]) -> tuple[StageChoice, ...]:
    why = "no GPU here"
    if gpus:
        why = "a GPU is here, but this version has no GPU backend for the stage yet"

    def on_cpu(stage: str, library: str, note: str) -> StageChoice:
        name = f"{library} {packages[library]}" if packages.get(library) else library
        return StageChoice(stage=stage, backend="cpu", library=name, reason=f"{why}; {note}")

    return (
        on_cpu("embed", "model2vec", "the static model needs none"),
        on_cpu("neighbors", "pynndescent", "exact matrix product for small sets, NN-descent above"),
        on_cpu("project", "numba", "UMAP over the stored graph, compiled once a machine"),
        on_cpu("cluster", "hdbscan", "or spherical K-means"),
        on_cpu("label", "scikit-learn", "c-TF-IDF keyphrases"),
    )


def _missing(packages: dict[str, str | None], gpus: tuple[Gpu, ...]) -> tuple[str, ...]:
    offers = [
        ("ray", "ray", "running on a Ray cluster"),
        ("s3fs", "s3", "workspaces in S3 buckets"),
        ("onnxruntime", "onnx", "sentence encoders on processors"),
    ]
    return tuple(
        f"{package}: for {purpose}: pip install 'latentscale[{extra}]'"
        for package, extra, purpose in offers
        if packages[package] is None
    )
