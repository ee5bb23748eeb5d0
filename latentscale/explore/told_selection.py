"""What the page of a notebook says is selected: checked, and kept for the process that serves it."""

from __future__ import annotations

import hmac
import json
import secrets
import threading
from dataclasses import dataclass
from typing import Any, cast

from latentscale.errors import RequestError

# Where the page says it, and the header by which it shows that it was told to.
ADDRESS = "/selection"
HEADER = "X-LatentScale-Token"
# Row ids are up to 19 digits and a comma; the page sends at most a million, and of more their number.
MOST_BYTES = 32 << 20


@dataclass(frozen=True, slots=True)
class _Told:
    row_ids: list[int]
    count: int


class ToldSelection:
    """The documents that are selected on a page, as it said last; threads may say and ask at once.

    Attributes
    ----------
    token : str
        By which a page shows that it is the one that was served: no other site, and no other user, knows it.
    """

    def __init__(self) -> None:
        self.token = secrets.token_urlsafe(24)
        self._lock = threading.Lock()
        self._told = _Told([], 0)
        self._last: tuple[str, int] | None = None

    def knows(self, token: str) -> bool:
        """Whether a token is the page's."""
        return hmac.compare_digest(token.encode(), self.token.encode())

    def tell(self, content: bytes) -> bool:
        """Take what a page says; False where it is nothing that a page says.

        What one page said before something that it said already, and which arrives later, is passed over.
        """
        try:
            said: Any = json.loads(content)
            page, number, count, row_ids = (said[key] for key in ("page", "number", "count", "row_ids"))
        except (ValueError, TypeError, KeyError, RecursionError):
            return False
        whole = isinstance(page, str) and all(type(one) is int and one >= 0 for one in (number, count))
        if not whole or not isinstance(row_ids, list):
            return False
        ids = cast("list[Any]", row_ids)
        if not all(type(one) is int and 0 <= one < 2**63 for one in ids) or len(ids) not in (0, count):
            return False
        with self._lock:
            if self._last is None or self._last[0] != page or self._last[1] < number:
                self._last = (page, number)
                self._told = _Told(sorted(ids), count)
        return True

    def row_ids(self) -> list[int]:
        """Row ids of the documents that are selected, ascending; none where nothing is.

        Raises
        ------
        RequestError
            If there are more than a page sends.
        """
        with self._lock:
            told = self._told
        if told.count != len(told.row_ids):
            raise RequestError(
                f"{told.count:,} documents are selected, more than a page sends to a notebook",
                hint="Take them by a condition: m.points().filter(…).",
            )
        return [*told.row_ids]
