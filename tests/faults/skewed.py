"""A machine whose clock is ``SKEW`` seconds ahead of that of the store."""

from __future__ import annotations

import os
from datetime import datetime, timedelta, tzinfo

import latentscale.storage.head
import latentscale.storage.provenance
import latentscale.storage.runs


def install() -> None:
    """Let this process see the clock that its environment names, wherever it writes down a moment."""
    skew = timedelta(seconds=float(os.environ["SKEW"]))

    class Skewed(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> datetime:
            return datetime.now(tz) + skew

    for module in (latentscale.storage.head, latentscale.storage.provenance, latentscale.storage.runs):
        module.datetime = Skewed  # type: ignore[attr-defined]
