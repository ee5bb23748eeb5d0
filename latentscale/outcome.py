"""What a run gave: its records, what it set aside, and what it cost."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from latentscale.errors import QuarantineError
from latentscale.storage.artifacts import Record
from latentscale.storage.snapshots import Snapshot


@dataclass(slots=True, kw_only=True)
class Outcome:
    """What a run gave.

    Attributes
    ----------
    workspace : str
        Its path or URL.
    run : str
    snapshot : Snapshot or None
    rejects : dict of str to int
        Rows set aside, by reason.
    filtered : int
        Rows that ``where``, ``sample`` or ``limit`` left out.
    records : dict of str to Record
        By stage; ``project`` is the map's layout, ``layout`` the one that clusters were found on.
    made : list of str
        Stages that did something; the others found their artifact.
    quarantined : list of dict
        Shards that were given up, since each try of them ended with its worker's death: ``stage``, ``key``, ``tries``,
        ``reason`` and, at ingest, the ``files``. Their documents are not in the map.
    seconds : float
    """

    workspace: str
    run: str
    snapshot: Snapshot | None = None
    rejects: dict[str, int] = field(default_factory=dict[str, int])
    filtered: int = 0
    records: dict[str, Record] = field(default_factory=dict[str, Record])
    made: list[str] = field(default_factory=list[str])
    quarantined: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    seconds: float = 0.0

    @property
    def map(self) -> Record | None:
        """The published map, where the run came that far."""
        return self.records.get("publish")

    def check_complete(self) -> None:
        """Raise if shards had to be set aside, after all that could be done was done.

        Raises
        ------
        QuarantineError
            Naming them.
        """
        if not self.quarantined:
            return
        first = self.quarantined[0]
        number = len(self.quarantined)
        left = "The map is there without them." if self.map else "The other shards are done."
        raise QuarantineError(
            f"{number:,} shard{'s were' if number > 1 else ' was'} set aside: each of {first['tries']} tries of "
            f"{first['stage']} {first['key']} ended with its worker's death ({first['reason']})",
            where=", ".join(first.get("files", [])[:3]) or None,
            hint=f"{left} runs/{self.run}/run.json lists them; the same command tries again.",
        )
