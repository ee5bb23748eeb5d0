"""Name clusters by a chat model that vLLM runs: in the process of the stage, or in workers of a Ray cluster."""

from __future__ import annotations

from latentscale.labelers.vllm.labeler import VllmLabeler

__all__ = ["VllmLabeler"]
