"""Spending of a run's workers on a paid service, and a limit that they enforce together.

Each worker writes one object of its own. Before it exceeds the amount that it has announced, it writes a higher amount
and then reads those of the others: of two concurrent announcements, the later one sees the earlier one, so that the
announced amounts never sum to more than the limit. This needs neither locks nor conditional writes. If two
announcements fit only one at a time, both workers may see each other and withdraw; each retries after a random delay
(as in CSMA), so that one of them succeeds.
"""

from __future__ import annotations

import json
import math
import random
import threading
import uuid
from dataclasses import asdict, dataclass

from latentscale.errors import DamagedObjectError, MissingObjectError, ResourceError
from latentscale.file_names import argument
from latentscale.services.terms import ServiceTerms, Usage
from latentscale.storage.objects import Store

FOLDER = "spending"
# An announcement costs a write and a listing, so a worker announces at least this share of the limit at a time.
_SHARE = 0.02
# Number of retries while another worker may withdraw its announcement, and the longest wait of each in seconds.
_ATTEMPTS = 5
_LONGEST_WAIT_S = 0.25
_MILLION = 1e6
# Absent in objects of versions before answers had a price.
_LATER = ("output_tokens",)


@dataclass(frozen=True, slots=True, kw_only=True)
class Spent:
    """An amount that was spent.

    Attributes
    ----------
    requests, tokens : int
        Requests answered, or possibly answered; input tokens billed.
    announced : int
        Upper bound of the tokens spent, if there is a limit; at least ``tokens``. Output tokens are converted to input
        tokens by their price.
    output_tokens : int
        Output tokens billed, if they have a separate price.
    """

    requests: int = 0
    tokens: int = 0
    announced: int = 0
    output_tokens: int = 0

    def __add__(self, other: Spent) -> Spent:
        return Spent(
            requests=self.requests + other.requests,
            tokens=self.tokens + other.tokens,
            announced=self.announced + other.announced,
            output_tokens=self.output_tokens + other.output_tokens,
        )

    def cost(self, terms: ServiceTerms) -> float | None:
        """Return the cost in the currency of ``terms``; None if no price is known."""
        return terms.cost(Usage(self.tokens, self.output_tokens))

    def describe(self, terms: ServiceTerms) -> str:
        """Describe the amount in a sentence."""
        said = f"{self.requests:,} requests to the {terms.service}, {self.tokens:,} tokens"
        price = terms.price_per_million_tokens
        if self.output_tokens:
            said += f" and {self.output_tokens:,} of answers"
            cost = self.cost(terms)
            return said if cost is None else f"{said}: {cost:.6g}"
        return said if price is None else f"{said}, {self.tokens * price / _MILLION:.6g} at {price:g} a million"


class SpendingLog:
    """One worker's share of the spending of a run; thread-safe.

    Parameters
    ----------
    store : Store
    run : str
    terms : ServiceTerms
    """

    def __init__(self, store: Store, run: str, terms: ServiceTerms) -> None:
        self._store = store
        self._folder = f"{FOLDER}/{run}"
        self._name = f"{self._folder}/{uuid.uuid4().hex}.json"
        price = terms.price_per_million_tokens
        self._terms = terms
        self._limit = None if terms.max_cost is None or not price else int(terms.max_cost / price * _MILLION)
        # Price of an output token, in input tokens.
        self._weight = (terms.price_per_million_output_tokens or 0.0) / price if price else 0.0
        self._changed = threading.Condition()
        self._requests = self._tokens = self._output = self._reserved = self._announced = 0
        self._written: Spent | None = None

    def reserve(self, tokens: int, output: int = 0) -> int:
        """Reserve the largest possible cost of a request; waits while requests in flight may still free enough of it.

        Parameters
        ----------
        tokens, output : int
            Upper bounds of the input and output tokens of the request.

        Returns
        -------
        int
            The reserved amount, to be passed to ``settle``.

        Raises
        ------
        ResourceError
            If the request could exceed the limit of the run.
        """
        amount = self._amount(tokens, output)
        if self._limit is None:
            return amount
        refused = 0
        with self._changed:
            while True:
                needed = self._used() + self._reserved + amount
                if needed <= self._announced or self._announce(needed):
                    self._reserved += amount
                    return amount
                if self._reserved:
                    self._changed.wait()
                    continue
                refused += 1
                if refused == _ATTEMPTS or amount > self._limit:
                    raise self._spent(amount)
                self._changed.wait(random.uniform(0, _LONGEST_WAIT_S))  # noqa: S311 - no secret

    def settle(self, reserved: int, used: int, output: int = 0) -> None:
        """Replace the reservation of a request by the tokens that were billed."""
        with self._changed:
            if self._limit is not None:
                self._reserved -= reserved
            self._tokens += used
            self._output += output
            self._requests += 1
            self._changed.notify_all()

    def write(self) -> None:
        """Write the amount spent so far to the workspace."""
        with self._changed:
            self._put(max(self._announced, self._used()))

    def _amount(self, tokens: int, output: int) -> int:
        return tokens + math.ceil(output * self._weight)

    def _used(self) -> int:
        return self._amount(self._tokens, self._output)

    def _announce(self, needed: int) -> bool:
        """Announce a total of at least ``needed`` tokens; False if that exceeds the limit."""
        assert self._limit is not None
        before = self._announced
        others = sum((one.announced for one in self._others()), 0)
        for wanted in (needed + int(self._limit * _SHARE), needed):
            if others + wanted > self._limit:
                continue
            self._put(wanted)
            if sum((one.announced for one in self._others()), 0) + wanted <= self._limit:
                self._announced = wanted
                return True
            # Another worker announced concurrently, and may have seen this amount.
            self._put(before)
        return False

    def _others(self) -> list[Spent]:
        return [spent for name, spent in _read(self._store, self._folder) if name != self._name]

    def _put(self, announced: int) -> None:
        spent = Spent(requests=self._requests, tokens=self._tokens, announced=announced, output_tokens=self._output)
        if spent != self._written:
            self._store.put_bytes(self._name, json.dumps(asdict(spent)).encode())
            self._written = spent

    def _spent(self, tokens: int) -> ResourceError:
        price, setting = self._terms.price_per_million_tokens or 0.0, f"{self._terms.settings}.max_cost"
        done = self._used() + sum((one.announced for one in self._others()), 0)
        return ResourceError(
            f"the next request may cost {tokens * price / _MILLION:.2g}, and {done * price / _MILLION:.6g} of "
            f"{setting} = {self._terms.max_cost:g} are spent or about to be",
            where=setting,
            hint="Run the same command with a higher max_cost: all answers so far are kept, and none is paid twice.",
        )


def read_spending(store: Store, run: str) -> Spent:
    """Sum the spending of all workers of a run."""
    return sum((spent for _, spent in _read(store, f"{FOLDER}/{run}")), Spent())


def delete_spending(store: Store, run: str) -> None:
    """Delete the objects of a finished run, whose record contains the sum."""
    store.delete(list(store.list(f"{FOLDER}/{run}")))


def read_spent(store: Store, name: str) -> Spent:
    """Read the object of one worker.

    Raises
    ------
    DamagedObjectError
        If it is malformed.
    """
    try:
        values = json.loads(store.read_bytes(name))
        known = {key: int(values[key]) for key in ("requests", "tokens", "announced")}
        return Spent(**known, **{key: int(values[key]) for key in _LATER if key in values})
    except (ValueError, KeyError, TypeError) as error:
        raise DamagedObjectError(
            f"{name} is not what a worker writes of its spending: {error}",
            where=store.path(name),
            hint=f"latentscale repair {argument(store.url)} deletes it.",
        ) from error


def _read(store: Store, folder: str) -> list[tuple[str, Spent]]:
    found: list[tuple[str, Spent]] = []
    for name in store.list(folder):
        try:
            found.append((name, read_spent(store, name)))
        except MissingObjectError:
            continue
    return found
