"""Prices of a service, and the accounting of a run's spending."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, Protocol


class Usage(NamedTuple):
    """Number of tokens of a request and of its answer."""

    tokens: int
    output: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceTerms:
    """Prices and budget of a service.

    Attributes
    ----------
    price_per_million_tokens : float or None
        Price of input tokens, in any currency.
    price_per_million_output_tokens : float or None
        Price of output tokens, in the same currency; None if they are free.
    max_cost : float or None
        Budget of a run, in the same currency.
    service, settings : str
        Its name in messages, and its settings group.
    """

    price_per_million_tokens: float | None = None
    price_per_million_output_tokens: float | None = None
    max_cost: float | None = None
    service: str = "embedding service"
    settings: str = "embed.options"

    def cost(self, usage: Usage) -> float | None:
        """Cost of a usage; None without a price."""
        if self.price_per_million_tokens is None and self.price_per_million_output_tokens is None:
            return None
        paid = usage.tokens * (self.price_per_million_tokens or 0.0)
        return (paid + usage.output * (self.price_per_million_output_tokens or 0.0)) / 1e6


class Spending(Protocol):
    """Accounts for the cost of a run's requests, and rejects requests beyond the budget; thread-safe."""

    def reserve(self, tokens: int, output: int = 0) -> int:
        """Reserve the maximum cost of a request before it is sent; if the budget is reserved, wait for other requests.

        Returns
        -------
        int
            The reserved amount, to pass to ``settle``.

        Raises
        ------
        ResourceError
            If it would exceed the budget of the run.
        """
        ...

    def settle(self, reserved: int, used: int, output: int = 0) -> None:
        """Replace a reserved amount by the billed tokens."""
        ...
