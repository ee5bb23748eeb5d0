"""One ONNX graph in onnxruntime: where it computes, with how many threads, and what its errors mean."""

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
# An engine that runs several workers on a machine tells each by this variable what its share is; so does Ray.
_SHARE = "OMP_NUM_THREADS"


class OnnxSession:
    """A graph that is ready to compute.

    Parameters
    ----------
    graph : Path
        The ONNX file.
    device : str
        ``cpu``, or ``cuda:N`` where the worker was given a GPU.
    provider : {"auto", "cpu", "cuda"}
        ``auto``: the GPU where the worker has one and this onnxruntime can use it, else processors.

    Attributes
    ----------
    header : OnnxHeader
    provider : str
        Of onnxruntime, that computes.
    on_gpu : bool
    threads : int

    Raises
    ------
    MissingPackageError
        If onnxruntime is not installed.
    ConfigError
        If the file cannot be loaded, or the provider that was asked for is not there.
    ResourceError
        If memory does not hold it.
    """

    def __init__(self, graph: Path, *, device: str = "cpu", provider: Provider = "auto") -> None:
        runtime: Any = require("onnxruntime", extra="onnx", used_for="an ONNX model")
        self.header: OnnxHeader = read_header(graph)
        self._graph = graph
        check_data_files(graph, self.header)
        chosen = choose_provider(provider, device, runtime.get_available_providers(), version=runtime.__version__)
        self.threads = share_of_processors()
        options = runtime.SessionOptions()
        options.intra_op_num_threads = self.threads
        options.inter_op_num_threads = 1
        # Its errors are raised, and said by us.
        options.log_severity_level = 4
        # Waiting threads that spin take processor time from the workers beside this one.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        # Every batch has another shape: patterns of memory would be kept for each and never used again.
        options.enable_mem_pattern = False
        try:
            self._session = runtime.InferenceSession(
                str(graph), options, providers=[_with_options(_PROVIDERS[chosen], device)]
            )
        except Exception as error:
            raise explained(error, graph, self.header, version=runtime.__version__) from error
        used = self._session.get_providers()
        if _PROVIDERS[chosen] not in used:
            # onnxruntime goes on without a provider whose libraries it cannot load, with a line in a log.
            raise ConfigError(
                f"onnxruntime {runtime.__version__} has {_PROVIDERS[chosen]}, but cannot start it: it would use "
                f"{', '.join(used)}",
                where="embed.options.provider",
                hint="Install the CUDA and cuDNN libraries that onnxruntime-gpu needs (pip install "
                "'onnxruntime-gpu[cuda,cudnn]'), or compute on processors: --set embed.options.provider=cpu.",
            )
        self.provider = _PROVIDERS[chosen]
        self.on_gpu = chosen == "cuda"
        self._types = {one.name: np.dtype(one.type) for one in self.header.inputs}

    def run(self, inputs: Mapping[str, NDArray[Any]], output: str) -> NDArray[Any]:
        """Compute one output for one batch.

        Parameters
        ----------
        inputs : mapping of str to ndarray
            By name; those that the graph does not have are left out, whole numbers get the type that it wants.

        Raises
        ------
        ResourceError
            If memory does not hold what is between.
        ConfigError
            If the graph cannot compute it, such as a token for which it has no vector.
        """
        fed = {name: np.ascontiguousarray(inputs[name], kind) for name, kind in self._types.items() if name in inputs}
        try:
            return self._session.run([output], fed)[0]
        except Exception as error:
            raise explained(error, self._graph, self.header) from error


def choose_provider(asked: Provider, device: str, available: list[str], *, version: str) -> Literal["cpu", "cuda"]:
    """Where to compute.

    Raises
    ------
    ConfigError
        If ``cuda`` was asked for, and the worker has no GPU or onnxruntime no CUDA.
    """
    gpu, able = device.startswith("cuda"), _PROVIDERS["cuda"] in available
    if asked == "cuda" and not able:
        raise ConfigError(
            f"embed.options.provider is cuda, and the installed onnxruntime {version} has only {', '.join(available)}",
            where="embed.options.provider",
            hint="pip uninstall onnxruntime, then pip install onnxruntime-gpu; or leave the provider out.",
        )
    if asked == "cuda" and not gpu:
        raise ConfigError(
            "embed.options.provider is cuda, and this worker has no GPU",
            where="embed.options.provider",
            hint="Give it one, --set engine.resources.embed.gpus=1, on a machine that has one; or leave the provider "
            "out.",
        )
    return "cuda" if asked != "cpu" and gpu and able else "cpu"


def share_of_processors() -> int:
    """Threads that this process may use: what its engine gave it, else all processors."""
    given = os.environ.get(_SHARE, "")
    return min(int(given), available_processors()) if given.isdigit() and int(given) else available_processors()


def check_data_files(graph: Path, header: OnnxHeader) -> None:
    """Refuse a graph whose weights are in files that are not there, or that lead out of its folder.

    Raises
    ------
    ConfigError
        Naming the file.
    """
    folder = graph.parent.resolve()
    for name in header.data_files:
        # In the cache of the hub both are links: what counts is where the name leads, not where the link does.
        if Path(name).is_absolute() or ".." in Path(name).parts:
            raise ConfigError(
                f"{graph} names a file of weights outside of its folder: {name!r}",
                where="embed.model",
                hint="Save the model again with its weights beside it.",
            )
        if not (folder / name).is_file() and not (graph.parent / name).is_file():
            raise ConfigError(
                f"{graph} has its weights in {name}, which is not beside it",
                where="embed.model",
                hint=f"Copy or fetch {name} too, or export the model again: latentscale models export MODEL "
                "--out FOLDER.",
            )


def explained(error: Exception, graph: Path, header: OnnxHeader, *, version: str = "") -> Exception:
    """The error of onnxruntime as one that says what to do."""
    said = " ".join(str(error).split())[:400]
    lower = said.lower()
    if isinstance(error, MemoryError) or "failed to allocate memory" in lower or "bad_alloc" in lower:
        return ResourceError(
            f"memory does not hold the computation of {graph.name}: {said}",
            hint="Give smaller batches, --set embed.options.batch_tokens=1024, or fewer workers: engine.workers=1.",
        )
    if "opset" in lower or "ir version" in lower or "ir_version" in lower:
        opsets = ", ".join(f"{domain or 'ai.onnx'} {number}" for domain, number in sorted(header.opsets.items()))
        return ConfigError(
            f"{graph} is written for {opsets}, which onnxruntime {version} does not know: {said}",
            where="embed.model",
            hint="pip install --upgrade onnxruntime, or export the model again: latentscale models export MODEL "
            "--out FOLDER.",
        )
    if "out of data bounds" in lower or "indices element" in lower:
        return ConfigError(
            f"the tokenizer gives a token for which {graph} has no vector: {said}",
            where="embed.model",
            hint="tokenizer.json and the ONNX file are not of the same model: fetch or export both again.",
        )
    return ConfigError(f"{graph} cannot be computed: {said}", where="embed.model", hint="Export or fetch it again.")


def _with_options(provider: str, device: str) -> Any:
    if provider != _PROVIDERS["cuda"]:
        return provider
    return provider, {"device_id": device.partition(":")[2] or "0"}
