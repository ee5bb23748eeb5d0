"""The device on which the torch backend computes, and how it must compute to be exact or repeatable."""

from __future__ import annotations

import os
from collections.abc import Generator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from latentscale.errors import EnvironmentFailure, require
from latentscale.machine import available_memory, own_device

if TYPE_CHECKING:
    import torch

# cuBLAS gives the same bits again only with workspaces of a fixed size, which it reads when it is first used.
_WORKSPACE = ("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
_PRODUCTS = "highest"


def open_device(name: str | None = None) -> torch.device:
    """Open a device.

    Parameters
    ----------
    name : str, optional
        As torch names it (``cuda:0``, ``mps``, ``cpu``); by default the GPU that this process was given, else Apple's
        GPU where there is one, else the processors.

    Raises
    ------
    MissingPackageError
        If torch is not installed.
    EnvironmentFailure
        If torch cannot use the device: a build for processors, or a driver that is too old.
    """
    torch: Any = require("torch", extra="torch", used_for="the backend torch")
    os.environ.setdefault(*_WORKSPACE)
    if name is None:
        name = own_device()
        if name == "cpu" and torch.backends.mps.is_available():
            name = "mps"
    try:
        device = torch.device(name)
        # The first use of a device is where a driver that does not fit shows itself.
        torch.zeros(1, device=device).cpu()
    except (RuntimeError, AssertionError) as error:
        reason = " ".join(str(error).split())[:300]
        raise EnvironmentFailure(
            f"torch {torch.__version__} cannot use the device {name}: {reason}",
            hint="Install a build of torch that fits the driver (nvidia-smi shows it), or use the backend cpu.",
        ) from error
    return device


def further_gpus(device: torch.device) -> list[str]:
    """The other GPUs of this process, where ``device`` is its first (``cuda:1`` …)."""
    import torch

    if device.type != "cuda":
        return []
    return [f"cuda:{number}" for number in range(torch.cuda.device_count()) if number != (device.index or 0)]


def free_bytes(device: torch.device) -> float:
    """Bytes of memory that are free on a device; of one that shares the memory of the machine, those of the machine."""
    import torch

    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        # What torch holds and does not use is free too.
        return float(free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device))
    return available_memory()


def widest_float(device: torch.device) -> torch.dtype:
    """The floating-point type in which distances are measured: Metal has no float64."""
    import torch

    return torch.float32 if device.type == "mps" else torch.float64


@contextmanager
def exact_products() -> Generator[None]:
    """Multiply float32 matrices in float32: TF32 keeps ten bits, too few for distances near 0."""
    import torch

    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(_PRODUCTS)
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


@contextmanager
def repeatable(wanted: bool) -> Generator[None]:
    """Use only operations that give the same bits again on this device, where ``wanted``."""
    import torch

    before = torch.are_deterministic_algorithms_enabled()
    warned = torch.is_deterministic_algorithms_warn_only_enabled()
    filled = torch.utils.deterministic.fill_uninitialized_memory
    torch.use_deterministic_algorithms(wanted or before)
    # Nothing here reads what it has not written: to fill each new array first would only take time.
    torch.utils.deterministic.fill_uninitialized_memory = False
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before, warn_only=warned)
        torch.utils.deterministic.fill_uninitialized_memory = filled


@contextmanager
def device_memory(what: str, device: torch.device) -> Generator[None]:
    """Name what did not fit in the memory of the device, or was lost with it.

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
        # A card that falls off the bus, an error of its memory, a driver that restarts.
        if "CUDA error" not in str(error):
            raise
        reason = " ".join(str(error).split())[:300]
        raise EnvironmentFailure(
            f"the device {device} failed during {what}: {reason}",
            hint="Run the same command again: finished stages are kept. nvidia-smi shows whether the GPU is there.",
        ) from error
