"""Errors of a request to a service, for internal error handling."""

from __future__ import annotations

from collections.abc import Sequence


class RefusedError(Exception):
    """The service rejected the request (400, 413, 422); it may accept a smaller or different one."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(f"{status}: {reason}")
        self.status = status
        self.reason = reason


class BadAnswerError(Exception):
    """The response violates the protocol; a retry may succeed."""


class StoppedError(Exception):
    """The request was cancelled because another request of the same task failed."""


class UnansweredError(Exception):
    """All attempts of a request failed.

    Attributes
    ----------
    reason : str
        The last failure.
    attempts : int
    positions : sequence of int
        Positions of the texts in the request, if it has several.
    answered : bool
        Whether any request succeeded since the last such error; if not, the service is down.
    """

    def __init__(self, reason: str, *, attempts: int, positions: Sequence[int] = (), answered: bool = True) -> None:
        super().__init__(reason)
        self.reason = reason
        self.attempts = attempts
        self.positions = positions
        self.answered = answered
