"""The command line of LatentScale on a machine whose clock is ``SKEW`` seconds ahead of that of the store."""

from __future__ import annotations

import os
import sys
from datetime import datetime, timedelta, tzinfo

import latentscale.storage.provenance
import latentscale.storage.runs
from latentscale.cli.main import main

SKEW = timedelta(seconds=float(os.environ["SKEW"]))


class Skewed(datetime):
    @classmethod
    def now(cls, tz: tzinfo | None = None) -> datetime:
        return datetime.now(tz) + SKEW


if __name__ == "__main__":
    for module in (latentscale.storage.provenance, latentscale.storage.runs):
        module.datetime = Skewed  # type: ignore[attr-defined]
    main(sys.argv[1:])
