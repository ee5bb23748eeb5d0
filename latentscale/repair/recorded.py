"""The readable records of a workspace: how its objects were made."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from latentscale.digest import canonical_json
from latentscale.errors import LatentScaleError
from latentscale.pipeline.history import settings_of_map, with_full_sources
from latentscale.storage.artifacts import Record, find_record
from latentscale.storage.head import read_head
from latentscale.storage.objects import Store
from latentscale.storage.runs import read_run, run_ids
from latentscale.upkeep.checks.artifacts import read_records


class Recorded:
    """The readable records of a workspace.

    Parameters
    ----------
    store : Store
    """

    def __init__(self, store: Store) -> None:
        self._store = store

    def runs(self) -> Iterator[dict[str, Any]]:
        """The readable run records, oldest first."""
        for identity in run_ids(self._store):
            try:
                run = read_run(self._store, identity)
            except LatentScaleError:
                continue
            if run is not None:
                yield run

    def maps(self) -> list[Record]:
        """The readable map records, oldest first."""
        records, _ = read_records(self._store)
        return sorted((one for one in records.values() if one.kind == "map"), key=lambda one: (one.created, one.id))

    def jobs(self) -> list[tuple[dict[str, Any], str]]:
        """The distinct job settings with which documents were read, each with a snapshot id; latest first."""
        found: dict[bytes, tuple[dict[str, Any], str]] = {}
        for record in reversed(self.maps()):
            try:
                values = settings_of_map(self._store, record)
            except LatentScaleError:
                continue
            found.setdefault(canonical_json([values["corpus"], values["ingest"]]), (values, record.request["snapshot"]))
        for run in reversed(list(self.runs())):
            if run["facts"].get("snapshot"):
                values = self.values_of(run)
                key = canonical_json([values["corpus"], values["ingest"]])
                found.setdefault(key, (values, str(run["facts"]["snapshot"])))
        return list(found.values())

    def values_of(self, run: Mapping[str, Any]) -> dict[str, Any]:
        job = {key: value for key, value in run["job"].items() if key not in ("out", "name")}
        return job | {"corpus": with_full_sources(self._store, run["job"]["corpus"])}

    def find(self, identity: str) -> Record | None:
        try:
            return find_record(self._store, identity.rpartition("-")[0], identity)
        except LatentScaleError:
            return None

    def head(self) -> str | None:
        try:
            return read_head(self._store)
        except LatentScaleError:
            return None
