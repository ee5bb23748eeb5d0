"""What can go wrong with one request, for the code that decides what to do about it."""

from __future__ import annotations

from collections.abc import Sequence


class RefusedError(Exception):
    """The service does not take this request (400, 413, 422): a smaller one, or another, it may take."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(f"{status}: {reason}")
        self.status = status
        self.reason = reason


class BadAnswerError(Exception):
    """An answer that is not what the protocol says: it may be another one the next time."""


class StoppedError(Exception):
    """Another request of the same work failed: this one is not sent any more."""


class UnansweredError(Exception):
    """A service gave no good answer in several attempts.

    Attributes
    ----------
    reason : str
        What it said, or did, last.
    attempts : int
    positions : sequence of int
        Of the texts of the request, where it was about several.
    answered : bool
        Whether it answered anything since the last such error: if not, the service is down.
    """

    def __init__(self, reason: str, *, attempts: int, positions: Sequence[int] = (), answered: bool = True) -> None:
        super().__init__(reason)
        self.reason = reason
        self.attempts = attempts
        self.positions = positions
        self.answered = answered
