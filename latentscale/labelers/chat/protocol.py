"""The protocol of chat models: from questions to replies."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from latentscale.labelers.protocol import NoLabel
from latentscale.services.terms import Spending


class Prompt(Protocol):
    """The text of a question, with evidence of so many tokens at most, as they are estimated."""

    def __call__(self, *, tokens: int) -> str: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What a chat model is asked.

    Attributes
    ----------
    prompt : callable
        A question that is too long for the model is asked with less evidence.
    schema : mapping
        JSON schema of the answer.
    answers : int
        Labels that the answer holds.
    """

    prompt: Prompt
    schema: Mapping[str, Any]
    answers: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """What a model said.

    Attributes
    ----------
    values : dict or None
        The JSON object of its answer; None where it has none.
    text : str
        Its answer, for a reason.
    cut : bool
        Whether it ran into the limit of tokens.
    """

    values: dict[str, Any] | None
    text: str
    cut: bool


class Chat(Protocol):
    """A chat model that is asked for labels.

    Attributes
    ----------
    notes : list of str
        What a person should know of how it was asked; for the record.
    batch : int
        Questions in a call.
    concurrency : int
        Calls at a time.
    """

    notes: list[str]

    @property
    def batch(self) -> int: ...

    @property
    def concurrency(self) -> int: ...

    def ask(self, system: str, questions: Sequence[Question]) -> Iterator[tuple[int, Reply | NoLabel]]:
        """Ask some questions, and yield each reply with the position of its question, as they come.

        Raises
        ------
        LatentScaleError
            If the model can be asked nothing more; the replies that were yielded stay.
        """
        ...

    def count_with(self, spending: Spending) -> None:
        """Have the tokens of all questions from now on counted."""
        ...

    def stop(self) -> None:
        """Ask nothing more; called from another thread."""
        ...

    def close(self) -> None:
        """Release what the model holds."""
        ...
