"""Label clusters with a chat model in vLLM: in the stage's process, or in workers of a Ray cluster."""

from __future__ import annotations

from latentscale.labelers.vllm.labeler import VllmLabeler

__all__ = ["VllmLabeler"]
