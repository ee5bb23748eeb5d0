"""The selection on a notebook's page: received, validated and stored by the process that serves the page."""

from __future__ import annotations

import hmac
import json
import secrets
import threading
from dataclasses import dataclass
from typing import Any, cast

from latentscale.errors import RequestError

# Endpoint for the selection, and the header with the page's token.
ADDRESS = "/selection"
HEADER = "X-LatentScale-Token"
# Row ids have up to 19 digits and a comma; the page sends at most a million, and only the count of more.
MOST_BYTES = 32 << 20


@dataclass(frozen=True, slots=True)
class _Selection:
    row_ids: list[int]
    count: int


class PageSelection:
    """The documents selected on a page, as last reported; thread-safe.

    Attributes
    ----------
    token : str
        Secret of the served page, unknown to other sites and users.
    """

    def __init__(self) -> None:
        self.token = secrets.token_urlsafe(24)
        self._lock = threading.Lock()
        self._selection = _Selection([], 0)
        self._last: tuple[str, int] | None = None

    def knows(self, token: str) -> bool:
        """Whether ``token`` is that of the page."""
        return hmac.compare_digest(token.encode(), self.token.encode())

    def receive(self, content: bytes) -> bool:
        """Store a selection sent by a page; returns False if it is malformed.

        Messages of a page that arrive out of order are ignored.
        """
        try:
            message: Any = json.loads(content)
            page, number, count, row_ids = (message[key] for key in ("page", "number", "count", "row_ids"))
        except (ValueError, TypeError, KeyError, RecursionError):
            return False
        is_valid = isinstance(page, str) and all(type(one) is int and one >= 0 for one in (number, count))
        if not is_valid or not isinstance(row_ids, list):
            return False
        ids = cast("list[Any]", row_ids)
        if not all(type(one) is int and 0 <= one < 2**63 for one in ids) or len(ids) not in (0, count):
            return False
        with self._lock:
            if self._last is None or self._last[0] != page or self._last[1] < number:
                self._last = (page, number)
                self._selection = _Selection(sorted(ids), count)
        return True

    def row_ids(self) -> list[int]:
        """Return the row ids of the selected documents, ascending; empty if none is selected.

        Raises
        ------
        RequestError
            If the page sent only their count.
        """
        with self._lock:
            selection = self._selection
        if selection.count != len(selection.row_ids):
            raise RequestError(
                f"{selection.count:,} documents are selected, more than a page sends to a notebook",
                hint="Take them by a condition: m.points().filter(…).",
            )
        return [*selection.row_ids]
