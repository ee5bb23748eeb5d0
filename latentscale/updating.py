"""Update: the documents that came since join the current map, those that left go, and no old point moves."""

from __future__ import annotations

import time
from functools import partial
from typing import Any

from latentscale.engines import check_engine
from latentscale.errors import ConfigError, CorpusError, DamagedObjectError, StorageError, WorkspaceError
from latentscale.outcome import Outcome
from latentscale.pipeline import Pipeline
from latentscale.stages import embed, grow, ingest, place, publish
from latentscale.stages.place import Fit
from latentscale.storage.artifacts import Kind, Record, find_record
from latentscale.storage.head import current_map, read_head, switch_head
from latentscale.storage.input_table import InputTable
from latentscale.storage.inputs import list_inputs
from latentscale.storage.runs import Run
from latentscale.storage.snapshots import Snapshot, read_groups, read_snapshot
from latentscale.storage.workspace_record import WorkspaceRecord, read_workspace

# An update that another one overtook starts again from what that one left.
MAX_ROUNDS = 5


class Update(Pipeline):
    """Grows the current map of a workspace by what its corpus has now."""

    def update(self) -> Outcome:
        """Ingest and embed what is new or changed, place it, and show the map that has it.

        Returns
        -------
        Outcome
            Its ``map`` is the current one, where nothing changed too.

        Raises
        ------
        WorkspaceError
            If there is no map yet.
        ConfigError
            If the settings would embed otherwise than the map was.
        CorpusError
            If more of the map's documents are gone than ``update.max_removed_fraction`` allows.
        LatentScaleError
            With what is wrong; what was done until then stays, and the same request goes on from there.
        """
        started = time.monotonic()
        self.store.check(write=True)
        workspace = read_workspace(self.store)
        parent = current_map(self.store)
        if parent is None:
            raise WorkspaceError(
                f"{self.store.url} has no map yet that could grow",
                hint="latentscale run CORPUS --text COLUMN --out WORKSPACE makes the first one.",
            )
        self._check_model(parent, workspace)
        check_engine(self.config.engine)
        inputs, units = self._planned(parent)
        run = self._start_run(inputs)
        outcome = Outcome(workspace=self.store.url, run=run.id)
        with self._recorded(run, outcome), self._leased(run, "update"):
            for _ in range(MAX_ROUNDS):
                if self._round(units, parent, workspace, run, outcome):
                    break
                # Another update came first: what it added is not done again, nor taken away since it was not there yet
                # when this one looked.
                self.observer.note("another update came first; this one goes on from what it left")
                parent = current_map(self.store)
                assert parent is not None, "a workspace that had a current map has one"
                _, units = self._planned(parent)
            else:
                raise StorageError(
                    f"other updates of {self.store.url} came first {MAX_ROUNDS} times",
                    hint="Let one update run at a time (concurrencyPolicy: Forbid), then run the same command again.",
                )
        outcome.seconds = time.monotonic() - started
        return outcome

    def _planned(self, parent: Record) -> tuple[InputTable, ingest.UnitTable]:
        """List the corpus as it is now, and cut it into units, those of ``parent`` as they were."""
        notes: list[str] = []
        inputs = list_inputs(self.config.corpus, notes)
        before = read_snapshot(self.store, str(parent.request["snapshot"]))
        groups = read_groups(self.store, before)
        units = ingest.plan_ingest(inputs, self.config.corpus, self.config.ingest, groups=groups)
        self._check_new(ingest.units_without(units, before), notes)
        for text in notes:
            self.observer.note(text)
        return inputs, units

    def _check_new(self, units: ingest.UnitTable, notes: list[str]) -> None:
        """Look into new files only: the others were looked at when they came."""
        if len(units):
            notes.extend(ingest.check_corpus(units.files(), self.config.corpus, self.config.ingest).notes)

    def _check_model(self, parent: Record, workspace: WorkspaceRecord) -> None:
        asked = embed.embedding_request(
            self.config.embed, text_column=workspace.text_column, vectors_column=self._vectors_column
        )
        held = find_record(self.store, "embedding", str(parent.request["embedding"]))
        if held is None or held.request == asked:
            return
        raise ConfigError(
            f"{parent.id} was embedded with {held.request['model']}, this update would use {asked['model']}",
            hint="An update uses the model of the map that it grows: install that version, or make a new map with run.",
        )

    def _round(
        self,
        units: ingest.UnitTable,
        parent: Record,
        workspace: WorkspaceRecord,
        run: Run,
        outcome: Outcome,
    ) -> bool:
        """Grow ``parent``; say whether the result is the current map now."""
        before = read_snapshot(self.store, str(parent.request["snapshot"]))
        after = outcome.snapshot = self._ingest(units, outcome, before, growing=True)
        if after.id == before.id:
            outcome.records["publish"] = parent
            # A run that was killed between the two may have left the page behind the map.
            self.show_page(parent)
            return True
        fit = self._fit(parent)
        outcome.records["embed"] = self._embed(after, workspace, run, outcome, done=before)
        after = outcome.snapshot or after
        placement = outcome.records["place"] = self._placed(fit, parent, after, run, outcome)
        self._check_removed(parent, placement)
        settings = self._publishing(fit, after, workspace)
        request = grow.grown_request(settings, self.config.update.drift, parent, placement, fit, after)
        grown = self._stage(
            "publish",
            "map",
            request,
            [placement, parent],
            outcome,
            partial(grow.make_grown_map, self.store, request, parent, placement, fit, run.id),
        )
        outcome.records["publish"] = grown
        if not switch_head(self.store, expected=parent.id, to=grown.id):
            return False
        self.show_page(grown)
        # Another update may have written the page between this one's two objects.
        return read_head(self.store) == grown.id

    def _placed(self, fit: Fit, parent: Record, after: Snapshot, run: Run, outcome: Outcome) -> Record:
        request = place.placement_request(fit, parent, after, recall=self.config.update.recall)
        return self._stage(
            "place",
            "placement",
            request,
            [*fit.records(), parent],
            outcome,
            partial(place.make_placement, self.store, request, fit, parent, self.threads, run.id),
        )

    def _publishing(self, fit: Fit, after: Snapshot, workspace: WorkspaceRecord) -> Any:
        """The settings of the map's page and points, as the fit resolved them."""
        held = {key: value for key, value in fit.map.request["publish"].items() if key != "title"}
        return self.config.publish.model_validate(held)

    def _check_removed(self, parent: Record, placement: Record) -> None:
        gone, documents = int(placement.counts["gone"]), int(parent.counts["documents"])
        most = self.config.update.max_removed_fraction
        if gone > most * documents:
            raise CorpusError(
                f"{gone:,} of the {documents:,} documents of {parent.id} are gone from the corpus, more than "
                f"update.max_removed_fraction = {most:.0%}: nothing was changed",
                where=", ".join(self.config.corpus.sources),
                hint="If they were removed on purpose, run with --set update.max_removed_fraction=1.",
            )

    def _fit(self, parent: Record) -> Fit:
        identity = parent.request["update"]["fit"] if "update" in parent.request else parent.id
        fitted = parent if identity == parent.id else self._needed("map", str(identity))
        return Fit(
            map=fitted,
            neighbors=self._needed("neighbors", str(fitted.request["neighbors"])),
            projection=self._needed("projection", str(fitted.request["projection"])),
            clusters=self._needed("clusters", str(fitted.request["clusters"])),
        )

    def _needed(self, kind: Kind, identity: str) -> Record:
        record = find_record(self.store, kind, identity)
        if record is None:
            raise DamagedObjectError(
                f"{identity}, from which the current map was made, is not there any more",
                where=self.store.url,
                hint="latentscale update WORKSPACE --refit makes a map anew.",
            )
        return record

    def show_page(self, record: Record) -> None:
        """Bring the public page to a map, unless it shows it."""
        publish.write_public_page(self.store, record)
