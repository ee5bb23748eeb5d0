"""The settings in ``label.options`` of labelers whose model runs in the job."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from latentscale.labelers.chat import ChatOptions

# They alter where the model is found and how fast it answers; what it is stands in the labeler's identity.
TRANSPORT = frozenset({"model", "revision", "batch"})


class LocalOptions(ChatOptions):
    """Which chat model names the clusters."""

    model: Annotated[str, Field(min_length=1)]
    """A folder with a chat model in safetensors, or its id on the hub, such as Qwen/Qwen3-4B-Instruct-2507."""
    revision: str | None = None
    """Commit, branch or tag of a hub id; by default what the cache calls main. The commit is recorded."""
    precision: Literal["auto", "bf16", "fp16", "fp32"] = "auto"
    """What the model computes with."""
    max_model_len: Annotated[int, Field(ge=512, le=10_000_000)] | None = None
    """Tokens of a question and its answer together; by default what the model takes, and at most 16,384. Evidence is
    cut to it."""
    batch: Annotated[int, Field(ge=1, le=100_000)] = 256
    """Clusters that are asked about together; a run that is killed asks again about those that it had in hand."""
