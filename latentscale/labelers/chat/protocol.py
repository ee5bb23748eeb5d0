"""The protocol of chat models, which answer questions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from latentscale.labelers.protocol import NoLabel
from latentscale.services.terms import Spending


class Prompt(Protocol):
    """Renders a question with at most ``tokens`` estimated tokens of evidence."""

    def __call__(self, *, tokens: int) -> str: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """A question for a chat model.

    Attributes
    ----------
    prompt : callable
        Renders the prompt; with less evidence if it is too long for the model.
    schema : mapping
        JSON schema of the answer.
    answers : int
        Number of labels in the answer.
    """

    prompt: Prompt
    schema: Mapping[str, Any]
    answers: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """The reply of a chat model.

    Attributes
    ----------
    values : dict or None
        The JSON object in the reply; None if there is none.
    text : str
        The text of the reply, for messages.
    cut : bool
        Whether it was truncated at the token limit.
    """

    values: dict[str, Any] | None
    text: str
    cut: bool


class Chat(Protocol):
    """A chat model that generates labels.

    Attributes
    ----------
    notes : list of str
        Notes for the user on how the model was queried, kept in the record.
    batch : int
        Questions per call.
    concurrency : int
        Concurrent calls.
    """

    notes: list[str]

    @property
    def batch(self) -> int: ...

    @property
    def concurrency(self) -> int: ...

    def ask(self, system: str, questions: Sequence[Question]) -> Iterator[tuple[int, Reply | NoLabel]]:
        """Ask questions; yields (position, reply) as replies arrive.

        Raises
        ------
        LatentScaleError
            If it cannot continue; replies already yielded are kept.
        """
        ...

    def count_with(self, spending: Spending) -> None:
        """Record the tokens of all further questions in ``spending``."""
        ...

    def stop(self) -> None:
        """Ask no further questions; called from another thread."""
        ...

    def close(self) -> None:
        """Release resources, such as connections or a model."""
        ...
