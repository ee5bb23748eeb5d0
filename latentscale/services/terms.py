"""What a service costs, and who counts it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, Protocol


class Usage(NamedTuple):
    """Tokens of a request and of its answer."""

    tokens: int
    output: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceTerms:
    """What a service costs.

    Attributes
    ----------
    price_per_million_tokens : float or None
        Of what it is sent, in any currency.
    price_per_million_output_tokens : float or None
        Of what it answers, in the same currency; None where that costs nothing.
    max_cost : float or None
        Of one run, in the same currency.
    service, settings : str
        What messages call it, and the group of settings that it is in.
    """

    price_per_million_tokens: float | None = None
    price_per_million_output_tokens: float | None = None
    max_cost: float | None = None
    service: str = "embedding service"
    settings: str = "embed.options"

    def cost(self, usage: Usage) -> float | None:
        """Cost of so many tokens; None where no price is known."""
        if self.price_per_million_tokens is None and self.price_per_million_output_tokens is None:
            return None
        paid = usage.tokens * (self.price_per_million_tokens or 0.0)
        return (paid + usage.output * (self.price_per_million_output_tokens or 0.0)) / 1e6


class Spending(Protocol):
    """Counts what the requests of a run cost, and refuses one that would cost too much; used from several threads."""

    def reserve(self, tokens: int, output: int = 0) -> int:
        """Reserve what a request may cost at most, before it is sent; waits for others that end.

        Returns
        -------
        int
            The amount, for ``settle``.

        Raises
        ------
        ResourceError
            If it would exceed the limit of the run.
        """
        ...

    def settle(self, reserved: int, used: int, output: int = 0) -> None:
        """Replace what was reserved by the tokens that were billed."""
        ...
