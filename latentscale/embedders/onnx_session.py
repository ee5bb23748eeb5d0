"""Run an ONNX graph in onnxruntime: provider, threads, and explain_error errors."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from latentscale.embedders.onnx_header import OnnxHeader, read_header
from latentscale.errors import ConfigError, ResourceError, require
from latentscale.machine import available_processors

Provider = Literal["auto", "cpu", "cuda"]
_PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}
# Engines, and Ray, set this variable to a worker's share of the CPUs if several workers run on a machine.
_SHARE = "OMP_NUM_THREADS"


class OnnxSession:
    """A loaded graph.

    Parameters
    ----------
    graph : Path
        The ONNX file.
    device : str
        ``cpu``, or ``cuda:N`` if the worker has a GPU.
    provider : {"auto", "cpu", "cuda"}
        ``auto``: the GPU if the worker has one and the installed onnxruntime supports it, else the CPU.

    Attributes
    ----------
    header : OnnxHeader
    provider : str
        Execution provider in use, as named by onnxruntime.
    on_gpu : bool
    threads : int

    Raises
    ------
    MissingPackageError
        If onnxruntime is not installed.
    ConfigError
        If the file cannot be loaded, or the requested provider is unavailable.
    ResourceError
        If it does not fit in memory.
    """

    def __init__(self, graph: Path, *, device: str = "cpu", provider: Provider = "auto") -> None:
        runtime: Any = require("onnxruntime", extra="onnx", used_for="an ONNX model")
        self.header: OnnxHeader = read_header(graph)
        self._graph = graph
        check_data_files(graph, self.header)
        chosen = choose_provider(provider, device, runtime.get_available_providers(), version=runtime.__version__)
        self.threads = thread_count()
        options = runtime.SessionOptions()
        options.intra_op_num_threads = self.threads
        options.inter_op_num_threads = 1
        # Its errors are also raised, and reported by us.
        options.log_severity_level = 4
        # Spinning threads would take CPU time from other workers on this machine.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        # Shapes differ from batch to batch: memory patterns would accumulate without being reused.
        options.enable_mem_pattern = False
        try:
            self._session = runtime.InferenceSession(
                str(graph), options, providers=[_with_options(_PROVIDERS[chosen], device)]
            )
        except Exception as error:
            raise explain_error(error, graph, self.header, version=runtime.__version__) from error
        active = self._session.get_providers()
        if _PROVIDERS[chosen] not in active:
            # If a provider's libraries cannot be loaded, onnxruntime only logs that and uses another provider.
            raise ConfigError(
                f"onnxruntime {runtime.__version__} has {_PROVIDERS[chosen]}, but cannot start it: it would use "
                f"{', '.join(active)}",
                where="embed.options.provider",
                hint="Install the CUDA and cuDNN libraries that onnxruntime-gpu needs (pip install "
                "'onnxruntime-gpu[cuda,cudnn]'), or compute on the CPU: --set embed.options.provider=cpu.",
            )
        self.provider = _PROVIDERS[chosen]
        self.on_gpu = chosen == "cuda"
        self._types = {value.name: np.dtype(value.type) for value in self.header.inputs}

    def run(self, inputs: Mapping[str, NDArray[Any]], output: str) -> NDArray[Any]:
        """Compute one output for one batch.

        Parameters
        ----------
        inputs : mapping of str to ndarray
            By name; those that the graph lacks are ignored, integers are cast to the graph's types.

        Raises
        ------
        ResourceError
            If the activations do not fit in memory.
        ConfigError
            If the graph fails, for instance for a token id beyond its embedding table.
        """
        feeds = {
            name: np.ascontiguousarray(inputs[name], dtype) for name, dtype in self._types.items() if name in inputs
        }
        try:
            return self._session.run([output], feeds)[0]
        except Exception as error:
            raise explain_error(error, self._graph, self.header) from error


def choose_provider(requested: Provider, device: str, available: list[str], *, version: str) -> Literal["cpu", "cuda"]:
    """Choose the provider.

    Raises
    ------
    ConfigError
        If ``cuda`` is requested, and the worker has no GPU or onnxruntime lacks CUDA.
    """
    has_gpu, supports_cuda = device.startswith("cuda"), _PROVIDERS["cuda"] in available
    if requested == "cuda" and not supports_cuda:
        raise ConfigError(
            f"embed.options.provider is cuda, and the installed onnxruntime {version} has only {', '.join(available)}",
            where="embed.options.provider",
            hint="pip uninstall onnxruntime, then pip install onnxruntime-gpu; or leave the provider out.",
        )
    if requested == "cuda" and not has_gpu:
        raise ConfigError(
            "embed.options.provider is cuda, and this worker has no GPU",
            where="embed.options.provider",
            hint="Give it one, --set engine.resources.embed.gpus=1, on a machine that has one; or leave the provider "
            "out.",
        )
    return "cuda" if requested != "cpu" and has_gpu and supports_cuda else "cpu"


def thread_count() -> int:
    """Return the number of threads for this process: as its engine set it, else all CPUs."""
    value = os.environ.get(_SHARE, "")
    return min(int(value), available_processors()) if value.isdigit() and int(value) else available_processors()


def check_data_files(graph: Path, header: OnnxHeader) -> None:
    """Reject a graph whose external weights are missing or outside its folder.

    Raises
    ------
    ConfigError
        The message names the file.
    """
    folder = graph.parent.resolve()
    for name in header.data_files:
        # In the hub cache both files are symbolic links: the name is checked, not the link's target.
        if Path(name).is_absolute() or ".." in Path(name).parts:
            raise ConfigError(
                f"{graph} names a file of weights outside of its folder: {name!r}",
                where="embed.model",
                hint="Save the model again, with its weights in the same folder.",
            )
        if not (folder / name).is_file() and not (graph.parent / name).is_file():
            raise ConfigError(
                f"{graph} has its weights in {name}, which does not exist",
                where="embed.model",
                hint=f"Copy or fetch {name} too, or export the model again: latentscale models export MODEL "
                "--out FOLDER.",
            )


def explain_error(error: Exception, graph: Path, header: OnnxHeader, *, version: str = "") -> Exception:
    """Convert an error of onnxruntime to one with a hint."""
    message = " ".join(str(error).split())[:400]
    lowered = message.lower()
    if isinstance(error, MemoryError) or "failed to allocate memory" in lowered or "bad_alloc" in lowered:
        return ResourceError(
            f"the computation of {graph.name} does not fit in memory: {message}",
            hint="Give smaller batches, --set embed.options.batch_tokens=1024, or fewer workers: engine.workers=1.",
        )
    if "opset" in lowered or "ir version" in lowered or "ir_version" in lowered:
        opsets = ", ".join(f"{domain or 'ai.onnx'} {number}" for domain, number in sorted(header.opsets.items()))
        return ConfigError(
            f"{graph} is written for {opsets}, which onnxruntime {version} does not know: {message}",
            where="embed.model",
            hint="pip install --upgrade onnxruntime, or export the model again: latentscale models export MODEL "
            "--out FOLDER.",
        )
    if "out of data bounds" in lowered or "indices element" in lowered:
        return ConfigError(
            f"the tokenizer gives a token for which {graph} has no vector: {message}",
            where="embed.model",
            hint="tokenizer.json and the ONNX file are not of the same model: download or export both again.",
        )
    return ConfigError(f"{graph} cannot be computed: {message}", where="embed.model", hint="Export or fetch it again.")


def _with_options(provider: str, device: str) -> Any:
    if provider != _PROVIDERS["cuda"]:
        return provider
    return provider, {"device_id": device.partition(":")[2] or "0"}
