"""Access to the readable run records during a verification."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from latentscale.errors import LatentScaleError
from latentscale.storage.runs import read_run
from latentscale.upkeep.checks.report import Check


def readable_runs(check: Check) -> Iterator[dict[str, Any]]:
    """Read the records of runs one by one; one that cannot be read is reported where runs are checked."""
    for name in check.listing:
        if name.startswith("runs/") and name.endswith("/run.json"):
            try:
                run = read_run(check.store, name.split("/")[1])
            except LatentScaleError:
                continue
            if run is not None:
                yield run


def published(run: dict[str, Any]) -> str | None:
    """The id of the map that a run made or found."""
    return (run["facts"].get("artifacts") or {}).get("publish")
