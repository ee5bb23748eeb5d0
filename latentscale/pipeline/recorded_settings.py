"""Recorded settings of a workspace: those of its maps, and of the run on which the next command builds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from latentscale.config import JobConfig, StorageConfig, parse_job, setting_groups
from latentscale.errors import ConfigError
from latentscale.file_names import argument
from latentscale.pipeline.history import changed_selection, leading_run, settings_of_map, with_full_sources
from latentscale.readers.inputs import absolute_source
from latentscale.storage.artifacts import Record
from latentscale.storage.objects import Store
from latentscale.storage.runs import failed_by_request, latest_runs
from latentscale.storage.workspace_record import read_workspace


class RecordedSettings:
    """Recorded settings of a workspace, with its present path and storage settings.

    Parameters
    ----------
    store : Store
        The workspace.
    given : StorageConfig, optional
        Storage settings by which the workspace was opened; they override recorded ones.
    """

    def __init__(self, store: Store, *, given: StorageConfig | None = None) -> None:
        self.store = store
        self.given_storage = given

    def of_map(self, record: Record) -> dict[str, Any]:
        """Settings of a map: the corpus settings of the run that made it, and the stage settings of its fit.

        Raises
        ------
        WorkspaceError
            If they are missing.
        """
        values = settings_of_map(self.store, record)
        return {**values, "corpus": self._corpus_here(values["corpus"]), "out": self.store.url}

    def of_snapshot(self, *, with_stages: bool) -> dict[str, Any]:
        """Settings with the corpus of the leading run; stage settings are defaults, or with ``with_stages`` its own."""
        run = leading_run(self.store)
        recorded = read_workspace(self.store).corpus
        corpus = recorded if run is None else with_full_sources(self.store, run["job"]["corpus"])
        values: dict[str, Any] = {"corpus": self._corpus_here(corpus), "out": self.store.url}
        return values | self.of_stages() if with_stages else values

    def of_stages(self) -> dict[str, Any]:
        """Stage settings of the leading run; without one, of the last run that did not fail because of its settings."""
        run = leading_run(self.store) or next((r for r in latest_runs(self.store) if not failed_by_request(r)), None)
        job = {} if run is None else run["job"]
        return {group: job[group] for group in setting_groups() if group in job}

    def job(self, values: Mapping[str, Any]) -> JobConfig:
        """Validate the nested settings of a job in this workspace.

        Raises
        ------
        ConfigError
            Naming the first unknown or invalid setting.
        """
        given = self.given_storage
        storage = {} if given is None else {"storage": given.model_dump(mode="json")}
        return parse_job({**values, "out": self.store.url, **storage}, where="the settings")

    def check_selection(self, corpus: Mapping[str, Any], record: Record, *, where: str) -> None:
        """Check that settings of a corpus select the same documents as a map.

        Parameters
        ----------
        corpus : mapping
            Only the settings in it are compared.
        record : Record
            Of the map.
        where : str
            The file that ``corpus`` is from.

        Raises
        ------
        ConfigError
            If a setting differs; the message names it.
        """
        held = self.of_map(record)["corpus"]
        given = dict(corpus)
        if "sources" in given:
            listed = [given["sources"]] if isinstance(given["sources"], str) else given["sources"]
            given["sources"] = [absolute_source(str(source)) for source in listed]
        changed = changed_selection(held, {**held, **given})
        if changed:
            raise ConfigError(
                f"an update keeps the selection of {record.id}, and this one is another ({'; '.join(changed)})",
                where=where,
                hint=f"`latentscale run {argument(where)} --refit` makes a new map of it, aligned to that one; "
                f"`latentscale update {argument(self.store.url)}` goes by the map's.",
            )

    def _corpus_here(self, recorded: Mapping[str, Any]) -> dict[str, Any]:
        corpus = {**recorded, "sources": [self._source_here(str(source)) for source in recorded["sources"]]}
        if self.given_storage is None or not self.store.is_local:
            return corpus
        return {**corpus, "storage": self.given_storage.model_dump(mode="json")}

    def _source_here(self, source: str) -> str:
        """A recorded source; the path of uploaded in-memory data is adjusted if the workspace was moved."""
        store = self.store
        folder, _, name = source.replace("\\", "/").rpartition("/")
        if not folder.endswith("/uploads") or source.startswith(store.url) or not store.exists(f"uploads/{name}"):
            return source
        return store.path(f"uploads/{name}") if store.is_local else f"{store.url.rstrip('/')}/uploads/{name}"


def laid_over(held: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """Merge settings of one group into recorded ones, which are dropped if ``method`` or ``model`` changes."""
    other = any(key in given and held.get(key) not in (None, given[key]) for key in ("method", "model"))
    return dict(given) if other else {**held, **given}
