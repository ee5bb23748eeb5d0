"""What can go wrong with one request, for the code that decides what to do about it."""

from __future__ import annotations


class RefusedError(Exception):
    """The service does not take these texts (400, 413, 422): fewer of them, or others, it may take."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(f"{status}: {reason}")
        self.status = status
        self.reason = reason


class BadAnswerError(Exception):
    """An answer that is not what the protocol says: it may be another one the next time."""


class StoppedError(Exception):
    """Another request of the same shard failed: this one is not sent any more."""
