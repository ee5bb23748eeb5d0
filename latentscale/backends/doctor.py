"""Report the resources of this machine and the backend of each stage, with the reason; imports nothing heavy."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from latentscale import machine
from latentscale.backends.select import AUTO, choose_backend
from latentscale.machine import Gpu, Place, package_version
from latentscale.registry import BACKENDS, EMBEDDERS, LABELERS, stages

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
    "cuvs-cu13",
    "cupy-cuda13x",
    "vllm",
)
_GIB = 1024**3


@dataclass(frozen=True, slots=True, kw_only=True)
class StageChoice:
    """The backend of a stage on this machine.

    Attributes
    ----------
    stage : str
    backend : str
        Of a stage that none computes, the embedder or the labeler.
    library : str
        What it uses, with versions.
    reason : str
    """

    stage: str
    backend: str
    library: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Capabilities:
    """The resources of this machine.

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
        """Return plain values, for JSON."""
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
            *(f"  {one.stage:<10} {one.backend:<11} {one.library:<24} {one.reason}" for one in self.stages),
            "",
            "packages",
            *(f"  {name:<14} {found}" for name, found in self.packages.items() if found),
        ]
        if self.missing:
            lines += ["", "not installed", *(f"  {one}" for one in self.missing)]
        return "\n".join(lines)


def describe() -> Capabilities:
    """Inspect this machine; takes some hundredths of a second and imports none of the packages."""
    from latentscale.backends.cpu.compiled import wanted_cache_folder

    packages = {name: package_version(name) for name in _PACKAGES}
    gpus = machine.gpus()
    folder = wanted_cache_folder()
    kept = sum(1 for _ in folder.rglob("*.nbc")) if folder.is_dir() else 0
    parent = next((path for path in (folder, *folder.parents) if path.exists()), folder)
    state = f"{kept} entries" if kept else "empty: the first run compiles for some seconds"
    if not os.access(parent, os.W_OK):
        state += "; cannot be written: set NUMBA_CACHE_DIR"
    return Capabilities(
        system=f"{platform.system()} {platform.machine()}, Python {platform.python_version()}",
        cores=os.cpu_count() or 1,
        usable_cores=machine.usable_cores(),
        memory_gib=round(machine.usable_memory() / _GIB, 2),
        gpus=gpus,
        packages=packages,
        stages=_choices(packages, gpus),
        compiled_code=f"{folder} ({state})",
        missing=_missing(),
    )


def _choices(packages: dict[str, str | None], gpus: tuple[Gpu, ...]) -> tuple[StageChoice, ...]:
    """The backend that ``auto`` chooses here for each stage, with the reason."""
    here = Place(
        cpus=machine.usable_cores(),
        memory_bytes=float(machine.usable_memory()),
        gpus=gpus,
        packages={name: version for name, version in packages.items() if version},
        python=platform.python_version(),
    )

    def library(names: Sequence[str]) -> str:
        return ", ".join(f"{name} {packages[name]}" if packages.get(name) else name for name in names)

    found: list[StageChoice] = []
    for entry in stages():
        if entry.name == "embed":
            names = ", ".join(EMBEDDERS.names())
            found.append(
                StageChoice(
                    stage="embed",
                    backend="static",
                    library=library(["tokenizers"]),
                    reason=f"the default of embed.model, which needs no GPU; there are {names}",
                )
            )
        elif entry.name == "label":
            names = ", ".join(LABELERS.names())
            found.append(
                StageChoice(
                    stage="label",
                    backend="keyphrases",
                    library=library(["scikit-learn"]),
                    reason=f"the default of label.method, which needs no model; there are {names}",
                )
            )
        elif any(entry.name in BACKENDS.load(name).stages for name in BACKENDS.names()):
            choice = choose_backend(AUTO, entry.name, lambda: here)
            found.append(
                StageChoice(
                    stage=entry.name,
                    backend=choice.backend,
                    library=library(BACKENDS.load(choice.backend).libraries.get(entry.name, ())),
                    reason=choice.reason,
                )
            )
    return tuple(found)


def _missing() -> tuple[str, ...]:
    offers = [
        ("ray", "ray", "running on a Ray cluster (--engine ray)"),
        ("s3fs", "s3", "corpora and workspaces in S3 buckets"),
        ("xlsxwriter", "excel", "writing .xlsx (export)"),
        ("pylance", "lance", "reading tables of LanceDB"),
        ("fast-plscan", "plscan", "cluster.method=plscan"),
        (
            "torch",
            "torch",
            "encoders and labels in torch, the backend torch, and making a model of one's own (models distill)",
        ),
        ("onnxruntime", "onnx", "encoders in ONNX"),
        ("onnxscript", "onnx-export", "writing an encoder as ONNX (models export)"),
        ("huggingface_hub", "hub", "fetching models of the Hugging Face hub"),
        ("httpx", "endpoint", "embedding and labels by a service (embed.model, label.method: endpoint)"),
        ("vllm", "vllm", "labels and encoders in vLLM on a GPU, in an environment of its own"),
    ]
    return tuple(
        f"{package}: for {purpose}: pip install 'latentscale[{extra}]'"
        for package, extra, purpose in offers
        if package_version(package) is None
    )
