"""``label.options`` common to all labelers with a chat model."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, field_validator

from latentscale.config import Settings


class ChatOptions(Settings):
    """What a chat model is asked, and with how much evidence."""

    context: Annotated[str, Field(max_length=2_000)] = ""
    """A sentence on the corpus, such as "Questions that customers asked a bank's assistant."."""
    language: Annotated[str, Field(max_length=60)] = ""
    """Language of the labels, by its English name, such as "German"; by default that of the documents."""
    words: Annotated[tuple[Annotated[int, Field(ge=1, le=12)], ...], Field(min_length=1, max_length=6)] = (6, 5, 4)
    """Maximum words of a label, by layer from the finest; the last value applies to all coarser layers."""
    evidence_tokens: Annotated[int, Field(ge=200, le=200_000)] = 2_500
    """Maximum estimated tokens of the evidence in a request; texts are truncated to fit."""
    max_output_tokens: Annotated[int, Field(ge=64, le=100_000)] = 512
    """Maximum tokens of an answer; a reasoning model needs thousands."""
    held_out: bool | None = None
    """Whether labels are tested on documents that the model was not shown; by default if no `language` is set."""
    again: Annotated[int, Field(ge=0, le=1_000)] = 0
    """Increase by one to ask again about clusters without a label, and no others."""

    @field_validator("context", "language")
    @classmethod
    def _one_line(cls, value: str) -> str:
        return " ".join(value.split())

    def words_of(self, layer: int) -> int:
        """Return the maximum number of words of labels in a layer."""
        return self.words[min(layer, len(self.words) - 1)]
