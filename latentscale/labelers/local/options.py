"""``label.options`` of labelers whose model runs in the job."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from latentscale.labelers.chat import ChatOptions

# Options that affect where the model is found and how fast it answers; the model itself is part of the identity.
TRANSPORT = frozenset({"model", "revision", "batch"})


class LocalOptions(ChatOptions):
    """Which chat model labels clusters."""

    model: Annotated[str, Field(min_length=1)]
    """A folder with a chat model in safetensors, or a hub id, such as Qwen/Qwen3-4B-Instruct-2507."""
    revision: str | None = None
    """Commit, branch or tag of a hub id; by default the cached main. The commit is recorded."""
    precision: Literal["auto", "bf16", "fp16", "fp32"] = "auto"
    """Precision of the computation."""
    max_model_len: Annotated[int, Field(ge=512, le=10_000_000)] | None = None
    """Maximum tokens of a question and its answer together; by default the model's context, up to 16,384. Evidence is
    truncated to fit."""
    batch: Annotated[int, Field(ge=1, le=100_000)] = 256
    """Clusters per call; after a killed run those of unfinished calls are asked about again."""
