"""Opening torch devices, and context managers for precision, determinism and memory errors."""

from __future__ import annotations

import os
from collections.abc import Generator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from latentscale.errors import EnvironmentFailure, require
from latentscale.machine import available_memory, own_device

if TYPE_CHECKING:
    import torch

# cuBLAS is deterministic only with workspaces of a fixed size; the variable is read on first use.
_WORKSPACE = ("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
_PRODUCTS = "highest"


def open_device(name: str | None = None) -> torch.device:
    """Open a device.

    Parameters
    ----------
    name : str, optional
        torch's name (``cuda:0``, ``mps``, ``cpu``); by default the GPU of this process, else Apple's GPU where there is
        one, else the CPU.

    Raises
    ------
    MissingPackageError
        If torch is not installed.
    EnvironmentFailure
        If torch cannot use the device: a CPU-only build, or a driver that is too old.
    """
    torch: Any = require("torch", extra="torch", used_for="the backend torch")
    os.environ.setdefault(*_WORKSPACE)
    if name is None:
        name = own_device()
        if name == "cpu" and torch.backends.mps.is_available():
            name = "mps"
    try:
        device = torch.device(name)
        # An incompatible driver fails on first use.
        torch.zeros(1, device=device).cpu()
    except (RuntimeError, AssertionError) as error:
        reason = " ".join(str(error).split())[:300]
        raise EnvironmentFailure(
            f"torch {torch.__version__} cannot use the device {name}: {reason}",
            hint="Install a build of torch that fits the driver (nvidia-smi shows it), or use the backend cpu.",
        ) from error
    return device


def further_gpus(device: torch.device) -> list[str]:
    """List the other GPUs of this process (``cuda:1`` …); empty if ``device`` is no GPU."""
    import torch

    if device.type != "cuda":
        return []
    return [f"cuda:{number}" for number in range(torch.cuda.device_count()) if number != (device.index or 0)]


def free_bytes(device: torch.device) -> float:
    """Free memory of a device in bytes; that of the machine for devices with shared memory."""
    import torch

    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        # Memory cached by torch's allocator is free as well.
        return float(free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device))
    return available_memory()


def widest_float(device: torch.device) -> torch.dtype:
    """Return the dtype in which distances are computed: float64, or float32 on Metal, which has no float64."""
    import torch

    return torch.float32 if device.type == "mps" else torch.float64


@contextmanager
def exact_products() -> Generator[None]:
    """Disable TF32, whose ten bits of mantissa are too few for distances near 0."""
    import torch

    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(_PRODUCTS)
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


@contextmanager
def repeatable(wanted: bool) -> Generator[None]:
    """Use only deterministic operations, if ``wanted``."""
    import torch

    before = torch.are_deterministic_algorithms_enabled()
    warned = torch.is_deterministic_algorithms_warn_only_enabled()
    filled = torch.utils.deterministic.fill_uninitialized_memory
    torch.use_deterministic_algorithms(wanted or before)
    # No code here reads uninitialized memory: filling new arrays would only take time.
    torch.utils.deterministic.fill_uninitialized_memory = False
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before, warn_only=warned)
        torch.utils.deterministic.fill_uninitialized_memory = filled


@contextmanager
def device_memory(what: str, device: torch.device) -> Generator[None]:
    """Translate torch's out-of-memory and device errors; ``what`` names the computation.

    Raises
    ------
    EnvironmentFailure
        In place of torch's own error.
    """
    import torch

    try:
        yield
    except torch.OutOfMemoryError as error:
        raise EnvironmentFailure(
            f"{what} does not fit in the memory of {device} ({free_bytes(device) / 2**30:.1f} GiB are free)",
            hint="Use a GPU with more memory, keep other programs off it, or use the backend cpu.",
        ) from error
    except RuntimeError as error:
        # The GPU fell off the bus, a memory error, or a driver restart.
        if "CUDA error" not in str(error):
            raise
        reason = " ".join(str(error).split())[:300]
        raise EnvironmentFailure(
            f"the device {device} failed during {what}: {reason}",
            hint="Run the same command again: finished stages are kept. nvidia-smi shows whether the GPU is there.",
        ) from error
