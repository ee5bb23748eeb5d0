"""``label.options`` of the labeler ``vllm``, and the resulting arguments of the engine."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from latentscale.labelers.local import TRANSPORT, LocalOptions

VLLM_TRANSPORT = TRANSPORT | {"gpu_memory_share", "tensor_parallel_size", "replicas", "compile"}
_DTYPES = {"auto": "auto", "bf16": "bfloat16", "fp16": "float16", "fp32": "float32"}


class VllmLabelOptions(LocalOptions):
    """Which chat model labels clusters, and how vLLM runs it."""

    gpu_memory_share: Annotated[float, Field(gt=0, le=1)] = 0.9
    """Share of each GPU's memory that vLLM reserves at the start."""
    tensor_parallel_size: Annotated[int, Field(ge=1, le=64)] | None = None
    """GPUs that share the model; by default engine.resources.label.gpus on Ray, and one on this machine."""
    replicas: Annotated[int, Field(ge=1, le=10_000)] = 1
    """Copies of the model on a Ray cluster, each with the GPUs of engine.resources.label."""
    compile: bool = True
    """Compile the model and capture CUDA graphs: takes a minute at the start, and is faster afterwards."""


def engine_settings(options: VllmLabelOptions, context: int) -> dict[str, Any]:
    """Return the arguments of the vLLM engine.

    Whitespace between the parts of an answer is disabled in the engine: the setting of a request has no effect, and a
    model might then generate whitespace up to the token limit.
    """
    return {
        "max_model_len": context,
        "dtype": _DTYPES[options.precision],
        "gpu_memory_utilization": options.gpu_memory_share,
        "enforce_eager": not options.compile,
        # The system prompt is the same for all clusters.
        "enable_prefix_caching": True,
        "load_format": "safetensors",
        "trust_remote_code": False,
        "seed": 0,
        "structured_outputs_config": {"backend": "xgrammar", "disable_any_whitespace": True},
    }
