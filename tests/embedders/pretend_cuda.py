"""A device that says it is a GPU and computes on the processor, for code that runs unchanged with ``cuda:0``.

Tensors on it refuse what those of a GPU refuse: mixing devices, being read as NumPy arrays. Memory is counted, and
``torch.OutOfMemoryError`` is raised above a limit. What it cannot show: speed, streams, the order of sums, kernels that
CUDA lacks. It needs a build of torch without CUDA.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest import mock

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

DEVICE = torch.device("cuda", 0)
_MAY_MIX = {"_to_copy", "copy_"}


class Gpu:
    """What the pretended device did.

    Attributes
    ----------
    limit, alive, peak : int
        Bytes of its memory, those in use, and the most that were.
    to_device, to_host : int
        Copies.
    pinned : int
        Tensors that were put into memory from which a GPU copies by itself.
    waits : int
        How often the host waited for the device, but for what it had recorded before.
    events : int
        What was recorded.
    """

    def __init__(self, limit: int) -> None:
        self.limit, self.alive, self.peak = limit, 0, 0
        self.to_device = self.to_host = self.pinned = self.waits = self.events = 0
        self._held: dict[int, int] = {}

    def take(self, tensor: torch.Tensor, holder: Any) -> None:
        """Count the memory of a tensor as long as its holder lives."""
        storage = tensor.untyped_storage()
        key, size = storage._cdata, storage.nbytes()
        if key not in self._held:
            if self.alive + size > self.limit:
                raise torch.OutOfMemoryError(f"CUDA out of memory. Tried to allocate {size:,} bytes (pretended).")
            self._held[key] = 0
            self.alive += size
            self.peak = max(self.peak, self.alive)
        self._held[key] += 1
        weakref.finalize(holder, self._leave, key, size)

    def _leave(self, key: int, size: int) -> None:
        self._held[key] -= 1
        if not self._held[key]:
            del self._held[key]
            self.alive -= size


class OnGpu(torch.Tensor):
    """A tensor of the pretended device."""

    held: torch.Tensor
    gpu: Gpu
    __torch_function__ = torch._C._disabled_torch_function_impl
    device = property(lambda self: DEVICE)
    is_cuda = property(lambda self: True)
    is_meta = property(lambda self: False)

    @staticmethod
    def __new__(cls, held: torch.Tensor, gpu: Gpu) -> OnGpu:
        shown = {"strides": held.stride(), "storage_offset": held.storage_offset(), "dtype": held.dtype}
        out = torch.Tensor._make_wrapper_subclass(cls, held.shape, **shown, layout=held.layout, device="meta")
        out.held, out.gpu = held, gpu
        gpu.take(held, out)
        return out

    def numpy(self, *_: Any, **__: Any) -> Any:
        raise TypeError("can't convert cuda:0 device type tensor to numpy")

    __array__ = numpy

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        one = next(leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, OnGpu))
        return _run(one.gpu, func, args, kwargs or {})


def _run(gpu: Gpu, func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    name = func.overloadpacket.__name__
    tensors = [one for one in tree_leaves((args, kwargs)) if isinstance(one, torch.Tensor)]
    there = [one for one in tensors if isinstance(one, OnGpu)]
    wanted = kwargs.get("device")
    onto = wanted is not None and torch.device(wanted).type in ("cuda", "meta")
    away = wanted is not None and torch.device(wanted).type == "cpu"
    if there and name not in _MAY_MIX and any(one.dim() for one in tensors if not isinstance(one, OnGpu)):
        raise RuntimeError(f"Expected all tensors to be on the same device, but found cuda:0 and cpu ({func})")
    if name in ("_local_scalar_dense", "is_nonzero", "equal") and there:
        gpu.waits += 1
    plain = {**kwargs, "device": torch.device("cpu")} if onto else dict(kwargs)
    if plain.pop("pin_memory", None):
        gpu.pinned += 1
    bare_args, bare_kwargs = tree_map(lambda one: one.held if isinstance(one, OnGpu) else one, (args, plain))
    out = func(*bare_args, **bare_kwargs)
    if name == "copy_":
        target, source = isinstance(args[0], OnGpu), isinstance(args[1], OnGpu)
        gpu.to_host += source and not target
        gpu.to_device += target and not source
        return args[0]
    if name == "_to_copy" and wanted is not None:
        gpu.to_device += onto and not there
        gpu.to_host += away and bool(there)
    if not (onto or (there and not away)):
        return out
    # An operation in place returns the very tensor that it got.
    known = {id(one.held): one for one in there}
    return tree_map(
        lambda one: _on_gpu(one, known, gpu),
        out,
    )


def _on_gpu(one: Any, known: dict[int, OnGpu], gpu: Gpu) -> Any:
    if not isinstance(one, torch.Tensor) or isinstance(one, OnGpu):
        return one
    return known[id(one)] if id(one) in known else OnGpu(one, gpu)


class _Dispatch(TorchDispatchMode):
    def __init__(self, gpu: Gpu) -> None:
        super().__init__()
        self._gpu = gpu

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _run(self._gpu, func, args, kwargs or {})


class _Numbered(TorchFunctionMode):
    """Name the device with its number: a build without CUDA would ask the driver for the current one."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        def numbered(one: Any) -> Any:
            return DEVICE if isinstance(one, str | torch.device) and str(one).partition(":")[0] == "cuda" else one

        if func is not torch.device:
            args, kwargs = tree_map(numbered, (args, kwargs or {}))
        return func(*args, **(kwargs or {}))


@contextmanager
def pretended_gpu(limit: int = 1 << 40) -> Iterator[Gpu]:
    """Let ``cuda:0`` be the pretended device, in this thread."""
    gpu = Gpu(limit)

    def waited(*_: Any) -> None:
        gpu.waits += 1

    class Event:
        """Happened as soon as it was recorded: the device computes at once."""

        def __init__(self, *, blocking: bool) -> None:
            self.recorded = False

        def record(self, stream: Any) -> None:
            self.recorded = True
            gpu.events += 1

        def query(self) -> bool:
            return self.recorded

        def synchronize(self) -> None:
            assert self.recorded

    def pinned(tensor: torch.Tensor, *_: Any) -> torch.Tensor:
        gpu.pinned += 1
        return tensor

    torch._C._ensureCUDADeviceGuardSet()
    answers: dict[str, Any] = {
        "_lazy_init": lambda: None,
        "is_available": lambda: True,
        "device_count": lambda: 1,
        "current_device": lambda: 0,
        "synchronize": waited,
        "current_stream": lambda device: f"the stream of {device}",
        "Event": Event,
        "empty_cache": lambda: None,
        "get_device_name": lambda *_: "Pretended",
        "get_device_capability": lambda *_: (9, 0),
    }
    with ExitStack() as stack:
        for name, answer in answers.items():
            stack.enter_context(mock.patch.object(torch.cuda, name, answer))
        stack.enter_context(mock.patch.object(torch.Tensor, "pin_memory", pinned))
        # A tensor that wraps another cannot be made in inference mode.
        stack.enter_context(mock.patch.object(torch, "inference_mode", torch.no_grad))
        stack.enter_context(_Numbered())
        stack.enter_context(_Dispatch(gpu))
        yield gpu
