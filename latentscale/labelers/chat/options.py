"""The settings in ``label.options`` that all labelers by a chat model have."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, field_validator

from latentscale.config import Settings


class ChatOptions(Settings):
    """What a chat model is asked for, and with how much evidence."""

    context: Annotated[str, Field(max_length=2_000)] = ""
    """A sentence on the corpus, such as "Questions that customers asked a bank's assistant."."""
    language: Annotated[str, Field(max_length=60)] = ""
    """Of the labels, by its English name, such as "German"; by default that of the documents."""
    words: Annotated[tuple[Annotated[int, Field(ge=1, le=12)], ...], Field(min_length=1, max_length=6)] = (6, 5, 4)
    """Words of a label at most, layer by layer from the finest; the last holds for all coarser layers."""
    evidence_tokens: Annotated[int, Field(ge=200, le=200_000)] = 2_500
    """Tokens of the evidence in a request at most, as they are estimated: texts are cut to it."""
    max_output_tokens: Annotated[int, Field(ge=64, le=100_000)] = 512
    """Tokens of an answer at most; a model that thinks first needs thousands."""
    held_out: bool | None = None
    """Whether labels are tried on documents that the model was not shown; by default where no `language` is named."""
    again: Annotated[int, Field(ge=0, le=1_000)] = 0
    """Raised by one, clusters that got no label are asked about again, and no others."""

    @field_validator("context", "language")
    @classmethod
    def _one_line(cls, value: str) -> str:
        return " ".join(value.split())

    def words_of(self, layer: int) -> int:
        """Words of a label of that layer at most."""
        return self.words[min(layer, len(self.words) - 1)]
