"""The result of a run: its records, rejected rows, quarantined shards and duration."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from latentscale.errors import QuarantineError
from latentscale.readers.unread import Unread
from latentscale.storage.artifacts import Record
from latentscale.storage.objects import Store
from latentscale.storage.snapshot import Snapshot


@dataclass(slots=True, kw_only=True)
class Outcome:
    """The result of a run.

    Attributes
    ----------
    workspace : str
        Its path or URL.
    run : str
    snapshot : Snapshot or None
    rejects : dict of str to int
        Rejected rows, by reason.
    filtered : int
        Rows that ``where``, ``sample`` or ``limit`` left out.
    unread : Unread
        Files and tables of the sources that were not read.
    before : str or None
        Id of the map that was the current one when the run began.
    published : bool
        Whether the map of the run was to become the current one.
    records : dict of str to Record
        By stage; ``project`` is the map's layout, ``layout`` the one that was clustered.
    made : list of str
        Names of the stages that built something, without repetition; the other stages reused their artifacts.
    quarantined : list of dict
        Shards whose worker died at every attempt, or for which a service failed (``tries`` 0): ``stage``, ``key``,
        ``tries``, ``reason`` and, at ingest, the ``files``. Their documents are not in the map.
    warnings : list of str
        Warnings of the run, as sentences; those about the map are in its ``quality["red_flags"]``.
    seconds : float
    """

    workspace: str
    run: str
    snapshot: Snapshot | None = None
    before: str | None = None
    published: bool = True
    rejects: dict[str, int] = field(default_factory=dict[str, int])
    filtered: int = 0
    unread: Unread = field(default_factory=Unread)
    records: dict[str, Record] = field(default_factory=dict[str, Record])
    made: list[str] = field(default_factory=list[str])
    quarantined: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    warnings: list[str] = field(default_factory=list[str])
    seconds: float = 0.0

    @property
    def map(self) -> Record | None:
        """The published map, if the run got that far."""
        return self.records.get("publish")

    @property
    def changed(self) -> bool:
        """Whether anything was built, or the current map changed."""
        return bool(self.made) or self.moved

    @property
    def moved(self) -> bool:
        """Whether the run changed which map is the current one."""
        return self.published and self.map is not None and self.map.id != self.before

    def summary(self, store: Store) -> dict[str, Any]:
        """The summary in the event ``run done``; the counts are None if there is no map.

        ``added`` and ``removed`` are the numbers of documents that this update added and removed, None for a new fit;
        ``refit_due`` is None for a map without updates.
        """
        record = self.map
        counts: Mapping[str, Any] = record.counts if record else {}
        drift: Mapping[str, Any] | None = None
        added = removed = None
        if record is not None and "update" in record.request:
            drift = json.loads(store.read_bytes(f"{record.folder}/quality.json"))["drift"]
            added, removed = (int(counts["added"]), int(counts["gone"])) if self.moved else (0, 0)
        return {
            "map": record.id if record else None,
            "changed": self.changed,
            "made": list(self.made),
            **{name: counts.get(name) for name in ("documents", "clusters", "noise")},
            "added": added,
            "removed": removed,
            "rejects": sum(self.rejects.values()),
            "refit_due": None if drift is None else bool(drift["refit_due"]),
        }

    def check_complete(self) -> None:
        """Raise if shards were quarantined.

        Raises
        ------
        QuarantineError
            Naming them.
        """
        if not self.quarantined:
            return
        first = self.quarantined[0]
        number = len(self.quarantined)
        died = f"each of {first['tries']} attempts at {first['stage']} {first['key']} ended with its worker's death"
        what = f"{died} ({first['reason']})" if first["tries"] else f"{first['stage']}: {first['reason']}"
        left = "The map was made without them." if self.map else "The other shards are done."
        raise QuarantineError(
            f"{number:,} shard{'s were' if number > 1 else ' was'} quarantined: {what}",
            where=", ".join(first.get("files", [])[:3]) or None,
            hint=f"{left} runs/{self.run}/run.json lists them; the same command tries them again.",
        )
