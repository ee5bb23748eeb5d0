"""The SDK: a workspace, the maps in it, and queries on them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack, cast

import polars as pl

from latentscale.config import (
    JobSettings,
    PublishConfig,
    PublishSettings,
    StageSettings,
    StorageConfig,
    UpdateConfig,
    UpdateSettings,
    apply_overrides,
)
from latentscale.config.given import plain_groups, with_corpus, with_group
from latentscale.errors import LatentScaleError, RequestError, WorkspaceError
from latentscale.explore.export import check_file, what_of, write_frames
from latentscale.explore.rejects import read_rejects
from latentscale.explore.targets import check_no_document
from latentscale.file_names import argument, at_home
from latentscale.map import Map
from latentscale.pipeline.history import leading_run, needed_map
from latentscale.pipeline.notebook import in_notebook
from latentscale.pipeline.observe import Mode, Observer, check_mode
from latentscale.pipeline.python_corpus import InputDocuments, add_documents, settings_of_run
from latentscale.pipeline.recorded_settings import RecordedSettings, laid_over
from latentscale.pipeline.result import Outcome
from latentscale.readers.python_data import resolve_corpus
from latentscale.readers.sources import files_of
from latentscale.storage.artifacts import Record, list_records, read_record
from latentscale.storage.head import read_head, write_head
from latentscale.storage.map_names import check_name, find_named, looks_like_id, read_names, remove_name, write_name
from latentscale.storage.objects import Store
from latentscale.storage.runs import list_runs
from latentscale.storage.snapshot import Snapshot
from latentscale.storage.snapshots import read_snapshot
from latentscale.storage.workspace_record import OBJECT as WORKSPACE
from latentscale.storage.workspace_record import WorkspaceRecord, read_workspace

if TYPE_CHECKING:
    from latentscale.explore.diff_figures import Diff
    from latentscale.explore.export import What
    from latentscale.explore.page import ServedPage
    from latentscale.explore.sample import By
    from latentscale.pipeline.label_quote import LabelQuote
    from latentscale.pipeline.plan import JobPlan
    from latentscale.repair import Repairs
    from latentscale.upkeep.garbage import Findings
    from latentscale.upkeep.verify import Report

__all__ = [
    "Map",
    "Mode",
    "Observer",
    "Outcome",
    "Record",
    "Workspace",
    "WorkspaceRecord",
    "check_file",
    "check_no_document",
    "what_of",
    "write_frames",
]


class Workspace:
    """All that belongs to one corpus, in a folder or at an fsspec URL.

    Parameters
    ----------
    url : str or Path
    storage : mapping or StorageConfig, optional
        How to reach the store, as in the group ``storage`` of a job: ``{"endpoint_url": …}``. It holds no key.
    """

    def __init__(self, url: str | Path, *, storage: Mapping[str, Any] | StorageConfig | None = None) -> None:
        self.store = Store(str(url), storage=storage)
        self.url = self.store.url
        self._held = RecordedSettings(self.store, given=None if storage is None else self.store.storage)

    # ----------------------------------------------------------------------------------------------------- contents

    @property
    def record(self) -> WorkspaceRecord:
        """The content of ``workspace.json``.

        Raises
        ------
        WorkspaceError
            If nothing has been ingested yet.
        """
        return read_workspace(self.store)

    @property
    def name(self) -> str:
        """Name of the workspace."""
        return self.record.name

    @property
    def current(self) -> Map | None:
        """The map that the page shows, or None: the way to read what a workspace holds now."""
        head = read_head(self.store)
        return None if head is None else self.get(head)

    @property
    def maps(self) -> Maps:
        """All maps, the oldest first: a list that shows itself as a table, which ``maps.table()`` returns."""
        return Maps(self)

    @property
    def names(self) -> dict[str, str]:
        """The names that maps were given, with the map's id."""
        return read_names(self.store)

    def __getitem__(self, name: str) -> Map:
        return self.get(name)

    def set_name(self, name: str, map: str | Map | None = None) -> Map:
        """Give a map a name, by which it is found: ``workspace["best"]``. Another map that had it loses it.

        Parameters
        ----------
        name : str
            Lower-case letters, digits, ``.``, ``_`` and ``-``.
        map : str or Map, optional
            By default the current one.

        Raises
        ------
        ConfigError
            If a map cannot have such a name.
        WorkspaceError
            If there is no such map.
        """
        check_name(name)
        chosen = map if isinstance(map, Map) else self.the_map(map)
        write_name(self.store, name, chosen.id)
        return chosen

    def remove_name(self, name: str) -> None:
        """Take a name away; the map stays.

        Raises
        ------
        WorkspaceError
            If no map has it.
        """
        if find_named(self.store, name) is None:
            raise _no_such_name(self.store, name)
        remove_name(self.store, name)

    @property
    def artifacts(self) -> list[Record]:
        """Records of all artifacts, the oldest first."""
        return list_records(self.store)

    @property
    def runs(self) -> list[dict[str, Any]]:
        """Records of all runs, the oldest first."""
        return list_runs(self.store)

    def artifact(self, identity: str) -> Record:
        """Read the record of an artifact by its id, or of a map by its name.

        Raises
        ------
        WorkspaceError
            If there is none, naming those that there are.
        """
        return read_record(self.store, self._identity(identity))

    def _identity(self, name: str) -> str:
        """The id of the map of that name, or the text itself, which is then an id."""
        return find_named(self.store, name) or name

    def get(self, identity: str) -> Map:
        """Return a map by its name or its id, as ``workspace[name]`` does.

        Raises
        ------
        RequestError
            If it is no text.
        WorkspaceError
            If there is none.
        """
        if not isinstance(cast(object, identity), str):
            raise RequestError(
                f"{type(identity).__name__} is no name and no id of a map", hint='workspace["best"]; workspace.maps[0]'
            )
        known = self._identity(identity)
        if known == identity and not looks_like_id(identity):
            raise _no_such_name(self.store, identity)
        record = read_record(self.store, known)
        if record.kind != "map":
            raise WorkspaceError(f"{identity} is a {record.kind}, not a map", hint="latentscale list shows the maps.")
        return self._map(record)

    def _map(self, record: Record) -> Map:
        return Map(self.store, record, workspace_name=self.name)

    def export(self, to: str | Path, *, map: str | None = None, what: What | None = None, text: bool = False) -> Path:
        """Write a map, by default the current one, to a file or a folder, as ``Map.export`` does."""
        return self.the_map(map).export(to, what=what, text=text)

    def export_labels(self, to: str | Path, *, map: str | None = None) -> Path:
        """Write the labels of a map, by default the current one, as a file to edit: a table for spreadsheets, or YAML.

        Parameters
        ----------
        to : str or Path
            A new file, a table if its name ends in ``.csv`` or ``.tsv``, else YAML: each cluster with its name, size,
            the edits that it has, and documents by which it is found.

        Raises
        ------
        RequestError
            If the file is there already, or the next update would read it as documents.
        """
        from latentscale.explore.label_file import write_label_file

        return write_label_file(self.store, self.the_map(map).record, to)

    def import_labels(self, path: str | Path, *, refit: bool = False, progress: Mode | Observer = "quiet") -> Outcome:
        """Label the current map anew with the edits of a file, which from then on every labelling applies.

        A file that the page of a map saved adds to the edits that the current map has; any other has all of them.

        Parameters
        ----------
        refit : bool
            Make a new map of all documents, with these edits, as ``update(refit=True)`` does.

        Raises
        ------
        ConfigError
            If the file is no such file, with the entry, or the row and column, that is wrong.
        WorkspaceError
            If there is no map, or it has grown by updates since its fit: then only a refit applies edits.
        """
        from latentscale.explore.label_additions import add_edits
        from latentscale.labelers.edit_file import read_additions

        current = self.the_map()
        if "update" in current.record.request and not refit:
            raise WorkspaceError(
                f"{current.id} has grown by updates since its fit, and its labels are those of the fit",
                hint="Refit it with the edits: latentscale labels import "
                f"{argument(self.url)} {argument(path)} --refit",
            )
        with self._observed(progress) as observer:
            additions = read_additions(str(path))
            edits = str(path) if additions is None else add_edits(self.store, current.record, additions)
            values = self.map_settings() if refit else self.settings(of_last_run=True)
            values["label"] = {**values.get("label", {}), "edits": edits}
            if refit:
                return self.run_update(values, refit=True, progress=observer)
            return self.run(values, until="publish", snapshot=self.snapshot, progress=observer)

    def diff_labels(self, first: str, second: str, *, layer: int | None = None) -> dict[str, Any]:
        """Compare two labellings side by side: what each cluster was called, is called, and what became of it.

        Parameters
        ----------
        first, second : str
            Ids or names of maps, or ids of labels.
        layer : int, optional
            Only this one; by default all that both have.

        Returns
        -------
        dict
            ``documents`` (in both), ``only_first``, ``only_second``, ``changes`` (how many of each), and ``clusters``,
            a list of dicts: ``layer``, ``change``, labels, sizes, sources and numbers before and after, ``shared``
            documents, ``overlap``; see :func:`latentscale.explore.label_diff.compare_labels`.

        Raises
        ------
        WorkspaceError
            If one does not exist or has no labels, or they have no document in common.
        RequestError
            If they do not both have that layer.
        """
        from latentscale.explore.label_diff import compare_labels

        return compare_labels(self.store, self.artifact(first), self.artifact(second), layer=layer)

    def the_map(self, identity: str | None = None) -> Map:
        """Return ``current``, or the map of an id as ``get`` does; raises where there is none.

        Raises
        ------
        WorkspaceError
            If there is none, with the maps that could be made the current one.
        """
        return self._map(needed_map(self.store)) if identity is None else self.get(identity)

    @property
    def snapshot(self) -> Snapshot:
        """The documents of the current map, or of a later run that has read others and made no map of them yet.

        Raises
        ------
        WorkspaceError
            If nothing has been ingested to the end yet.
        """
        return read_snapshot(self.store, self._leading_run()["facts"]["snapshot"])

    def _leading_run(self) -> dict[str, Any]:
        read_workspace(self.store)
        run = leading_run(self.store)
        if run is not None:
            return run
        raise WorkspaceError(
            f"{self.url} holds no complete set of documents yet", hint="Run `latentscale ingest` or `run` to its end."
        )

    def rejects(self) -> pl.DataFrame:
        """The rows of ``snapshot``'s corpus that were rejected; those of a map are ``map.rejects()``.

        Returns
        -------
        polars.DataFrame
            ``source``, ``source_row``, ``column``, ``reason``, ``detail``; one row a row of the corpus.
        """
        run = self._leading_run()
        snapshot = read_snapshot(self.store, run["facts"]["snapshot"])
        return read_rejects(self.store, snapshot, run["facts"]["artifacts"].get("embed"))

    def status(self) -> dict[str, Any]:
        """Count the objects of the workspace, and tell how its last run ended.

        Returns
        -------
        dict
            ``workspace``, ``name``, ``corpus``, ``created``, ``documents``, ``document_shards``, ``embedded_shards``,
            ``maps``, ``overlays``, ``bytes``, ``current_map``, ``map_created``, ``fit``, ``clusters``, ``noise_share``,
            ``drift``, ``refit_due``, ``last_run`` (``id``, ``status``, ``command``, ``started``, ``ended``,
            ``seconds``, ``made``, ``error``), ``to_resume``, ``embedding`` (what the workers of the last run that
            embedded did: documents and tokens a second, share of time waiting, by worker); null where there is none.
            Times are ISO 8601 in UTC.
        """
        from latentscale.upkeep.inspect import workspace_status

        return workspace_status(self.store)

    def diff(self, first: str, second: str, *, vectors: bool = True) -> Diff:
        """Compare two artifacts of one kind, by their ids, or two maps by their names.

        Parameters
        ----------
        vectors : bool
            Whether the vectors of two embeddings, or of two maps with different ones, are read and compared.

        Returns
        -------
        Diff
            A mapping with ``settings`` and ``counts``: what differs, as (first, second) by name; ``clusters``: how far
            they agree, which stayed, split, merged, went or came, and noise; ``layout``: how far documents moved once
            the maps are aligned, and which neighbours they kept; ``vectors``: cosines and neighbours. What does not
            apply is None. ``docs/clusters.md`` defines every figure.

        Raises
        ------
        WorkspaceError
            If one does not exist, their kinds differ, or no document has a vector in both.
        """
        from latentscale.upkeep.inspect import compare

        return compare(self.store, self._identity(first), self._identity(second), vectors=vectors)

    def compare(self, first: str, second: str, to: str | Path) -> dict[str, Any]:
        """Write a page that shows two maps side by side, linked by their documents, to a new folder.

        Parameters
        ----------
        first, second : str
            Ids or names of maps; the second is aligned to the first.
        to : str or Path
            A folder, which any web server shows.

        Returns
        -------
        dict
            What the page says: ``documents``, ``only``, ``residual``, ``kept``, ``changes``, ``labels``, ``moved``; see
            :func:`latentscale.explore.compare_pages.write_comparison`.

        Raises
        ------
        RequestError
            If the two are one map, or have more than a million documents.
        WorkspaceError
            If one does not exist or has no page, they have no document in common, or the folder is not empty.
        """
        from latentscale.explore.compare_pages import write_comparison

        records = (self.get(first).record, self.get(second).record)
        return write_comparison(self.store, *records, at_home(to), names=(first, second))

    def gallery(self, to: str | Path, maps: Sequence[str] = ()) -> list[str]:
        """Write a page of several maps to a new folder, with the page of each.

        Parameters
        ----------
        to : str or Path
            A folder, which any web server shows.
        maps : sequence of str
            Ids or names, in the order in which they are shown; by default all, the current one first, then the newest.

        Returns
        -------
        list of str
            Ids of the maps that are shown: those without a page are left out.

        Raises
        ------
        RequestError
            If none has a page.
        WorkspaceError
            If one does not exist, or the folder is not empty.
        """
        from latentscale.explore.gallery import write_gallery

        head = read_head(self.store)
        if maps:
            records = [self.get(name).record for name in dict.fromkeys(maps)]
        else:
            records = sorted((m.record for m in self.maps), key=lambda record: record.created, reverse=True)
            records.sort(key=lambda record: record.id != head)
        names: dict[str, list[str]] = {}
        for name, identity in self.names.items():
            names.setdefault(identity, []).append(name)
        return write_gallery(self.store, records, at_home(to), current=head, names=names)

    def sample(
        self,
        n: int = 10,
        *,
        map: str | None = None,
        seed: int = 0,
        cluster: int | None = None,
        where: pl.Expr | str | None = None,
        by: By | None = None,
        layer: int = 0,
        power: float = 1.0,
    ) -> pl.DataFrame:
        """Choose documents of a map, by default the current one, as ``Map.sample`` does."""
        chosen = self.the_map(map)
        return chosen.sample(n, seed=seed, cluster=cluster, where=where, by=by, layer=layer, power=power)

    def check_outside_corpus(self, to: str | Path) -> None:
        """Refuse a file that the next update would read as documents, before anything is computed for it.

        Raises
        ------
        RequestError
            If it is in a folder of the corpus, matches a pattern of it, or is one of its files.
        """
        from latentscale.explore.targets import check_outside_corpus

        check_outside_corpus(self.store, at_home(to))

    # ------------------------------------------------------------------------------------------------------- upkeep

    def verify(self, *, quick: bool = False) -> Report:
        """Compare all objects with each other: counts, ids, checksums and schemas. Nothing is changed.

        Parameters
        ----------
        quick : bool
            Read listings, records and footers, but no data.

        Returns
        -------
        Report
            ``faults``, each with the object, the problem and what to do; ``notes``; how much was looked at.

        Raises
        ------
        WorkspaceError
            If there is no workspace, or it is one of another version.
        """
        from latentscale.upkeep.verify import verify_workspace

        read_workspace(self.store)
        return verify_workspace(self.store, quick=quick)

    def repair(self, *, progress: Mode = "quiet") -> Repairs:
        """Make again what ``verify`` finds damaged or missing and what can be computed, under the same names.

        Returns
        -------
        Repairs
            ``mended``; ``lost``, with what is lost; and ``report``, the verification afterwards.

        Raises
        ------
        LatentScaleError
            If there is no workspace, it is one of another version, or its store fails.
        """
        from latentscale.repair import repair_workspace

        return repair_workspace(self.store, Observer(progress))

    def migrate(self, out: str | Path, *, progress: Mode = "quiet") -> Map:
        """Make a workspace of this version from one of an earlier schema, with the corpus and the settings of its run.

        The old workspace stays as it is. Documents are read and embedded again: row ids, positions, cluster ids and
        colours are new ones.

        Parameters
        ----------
        out : str or Path
            The new workspace, in a store that is reached in the same way.

        Raises
        ------
        WorkspaceError
            If this one is of this version, which needs no migration, or of a later one.
        """
        from latentscale.upkeep.migrate import earlier_settings

        values, left_out = earlier_settings(self.store)
        observer = Observer(progress)
        if left_out:
            observer.note(f"settings that this version does not have: {', '.join(left_out)}")
        made = Workspace(out, storage=self._held.given_storage)
        return made.published(made.run(values, progress=progress))

    def gc(self, *, grace: float | None = None, keep_maps: int | None = None, delete: bool = False) -> Findings:
        """List, or delete, what nothing in the workspace needs any more.

        Parameters
        ----------
        grace : float, optional
            Keep what is younger than so many seconds; by default a week.
        keep_maps : int, optional
            Also drop all maps but so many of the latest, the current one, those that have a name and those whose points
            one of these shows.
        delete : bool
            Without it nothing is deleted.

        Returns
        -------
        Findings
            What is, or was, not needed.

        Raises
        ------
        EnvironmentFailure
            If a run works on the workspace, and ``delete`` is set.
        """
        from latentscale.upkeep.gc import GRACE, delete_garbage, find_garbage

        seconds = GRACE if grace is None else grace
        return (delete_garbage if delete else find_garbage)(self.store, grace=seconds, keep_maps=keep_maps)

    # --------------------------------------------------------------------------------------------------- work on it

    def ingest(
        self, corpus: Any, *, text: str | None = None, id: str | None = None, progress: Mode = "quiet", **settings: Any
    ) -> Snapshot:
        """Read a corpus into the workspace.

        Parameters
        ----------
        corpus : str, Path, sequence of those, data frame or iterator of batches
            Files, folders, globs or URLs; a pandas, polars or Arrow frame; or an iterator of record batches or of
            lists of dicts.
        text, id : str, optional
            As in ``CorpusConfig``, as are all other ``settings``. Those of the stages are those of the current map.
        """
        held = self._held.of_stages() if self.store.exists(WORKSPACE) else {}
        values = {**held, "corpus": {"sources": self.sources(corpus), "text": text, "id": id, **settings}}
        outcome = self.run(values, until="ingest", progress=progress)
        assert outcome.snapshot is not None
        return outcome.snapshot

    def map(
        self,
        *,
        publish: bool | PublishConfig | PublishSettings = False,
        name: str | None = None,
        progress: Mode = "quiet",
        update: UpdateConfig | UpdateSettings | None = None,
        **groups: Unpack[StageSettings],
    ) -> Map:
        """Make, or find, a map of the documents beside the current one, which stays what it is.

        Parameters
        ----------
        publish : bool or mapping
            True: the map becomes the current one, and the page shows it (as ``promote`` does later). A mapping: the
            settings of the stage ``publish``, as in ``groups``; the current map stays.
        name : str, optional
            Of the map, by which ``workspace[name]`` finds it.
        update, **groups
            Settings by stage, such as ``project={"n_neighbors": 25}``, in place of those of the current map; all
            others, the engine too, are those of its run. Where a group names another ``method`` or ``model``, the rest
            of that group begins at its defaults.
        """
        if name is not None:
            check_name(name)
        given = with_group(groups, "update", update)
        if not isinstance(publish, bool):
            given["publish"] = publish
        values = self.settings(of_last_run=True)
        for group, settings in plain_groups(given).items():
            values[group] = laid_over(values.get(group, {}), settings) if isinstance(settings, Mapping) else settings
        made = self.published(self.run(values, snapshot=self.snapshot, progress=progress, show=False, name=name))
        return self.promote(made.id) if publish is True else made

    def sweep(
        self,
        *,
        names: str | None = None,
        sheet: str | Path | None = None,
        progress: Mode = "quiet",
        **groups: Mapping[str, Any],
    ) -> pl.DataFrame:
        """Make, or find, a map for each combination of settings, and compare them.

        Parameters
        ----------
        names : str, optional
            The maps are called ``<names>-1``, ``<names>-2``, … in the order of the rows.
        sheet : str or Path, optional
            An ``.html`` file: the pictures of the maps beside each other, with settings and figures.
        **groups
            As in ``map``, and a list varies a setting: ``project={"n_neighbors": [5, 15, 30]}``. Several lists give all
            combinations.

        Returns
        -------
        polars.DataFrame
            A row a map: the settings, such as ``project.n_neighbors``; ``map`` (its id), ``name``, ``documents``,
            ``clusters``, ``noise_share``; ``trustworthiness``, ``preservation``, ``stability``, agreement where
            ``quality.against`` is set; ``red_flags``.
        """
        from latentscale.explore.contact_sheet import write_sheet
        from latentscale.explore.tables import combinations, sweep_row

        rows: list[dict[str, Any]] = []
        self.check_sweep(self.settings(of_last_run=True), groups, names=names, sheet=sheet)
        wanted = combinations(plain_groups(groups))
        labels = [None if names is None else f"{names}-{number}" for number in range(1, len(wanted) + 1)]
        for settings, name in zip(wanted, labels, strict=True):
            made = self.map(name=name, progress=progress, **cast(StageSettings, settings))
            rows.append(sweep_row(settings, self._row(made.record), made.quality))
        frame = pl.DataFrame(rows, infer_schema_length=None)
        if sheet is not None:
            write_sheet(self.store, frame, at_home(sheet))
        return frame

    def check_sweep(
        self,
        values: Mapping[str, Any],
        groups: Mapping[str, Mapping[str, Any]],
        *,
        names: str | None = None,
        sheet: str | Path | None = None,
    ) -> None:
        """Refuse a sweep of the job ``values`` that cannot be made, before its corpus is read.

        Parameters
        ----------
        groups, names, sheet
            As in ``sweep``.

        Raises
        ------
        ConfigError
            If a combination of the settings cannot be, there is no such model, nothing is varied, or maps cannot have
            such names.
        RequestError
            If the sheet cannot be written.
        """
        from latentscale.explore.contact_sheet import check_sheet
        from latentscale.explore.tables import combinations
        from latentscale.pipeline.context import chosen_embedder

        if sheet is not None:
            check_sheet(at_home(sheet), values.get("corpus", {}))
        wanted = combinations(plain_groups(groups))
        if names is not None:
            check_name(f"{names}-{len(wanted)}")
        for settings in wanted:
            laid = {name: laid_over(values.get(name, {}), group) for name, group in settings.items()}
            chosen_embedder(self._held.job({**values, **laid}))

    def _row(self, record: Record) -> dict[str, Any]:
        from latentscale.explore.tables import map_row

        names = [name for name, identity in self.names.items() if identity == record.id]
        return map_row(record, current=record.id == read_head(self.store), names=names)

    def update(
        self,
        source: Any = None,
        /,
        *,
        texts: Iterable[str | None] | None = None,
        vectors: Any = None,
        complete: bool = False,
        refit: bool = False,
        name: str | None = None,
        progress: Mode = "quiet",
        update: UpdateConfig | UpdateSettings | None = None,
        **groups: Unpack[JobSettings],
    ) -> Map:
        """Bring the current map to what the corpus holds now: new documents are added, missing ones removed.

        No document that was on the map moves. Nothing is done where nothing changed, and an update that is killed or
        overtaken by another resumes from what exists.

        Parameters
        ----------
        source : path, list of paths, frame, list of texts or iterator, optional
            Documents that join those of the map, as ``ls.run`` takes them; by default the corpus of the map is listed
            again. Of a row whose ``id`` the map has, the new one counts. Without an id column a row is the document
            that has its text: such a row changes nothing.
        texts, vectors : optional
            As in ``ls.run``.
        complete : bool
            ``source`` is all that there is from now on: documents that it lacks leave the map.
        refit : bool
            Make a new map of all documents instead, aligned to the old one; clusters that are in both keep their ids.
        name : str, optional
            Of the map, by which ``workspace[name]`` finds it.
        update, **groups
            Settings by stage, such as ``update={"max_removed_fraction": 1}``; the others, and the corpus with its
            selection, are those of the run that made the current map.

        Raises
        ------
        WorkspaceError
            If there is no map yet.
        CorpusError
            If more documents are missing than ``update.max_removed_fraction`` allows.
        QuarantineError
            If shards were quarantined; the map without them is the current one.
        """
        if name is not None:
            check_name(name)
        check_mode(progress)
        values = self.map_settings()
        for group, settings in plain_groups(with_group(groups, "update", update)).items():
            values[group] = {**values.get(group, {}), **settings} if isinstance(settings, Mapping) else settings
        if source is None and texts is None and (vectors is not None or complete):
            raise RequestError(
                f"{'vectors=' if vectors is not None else 'complete='} goes with documents",
                hint="Give them: ws.update(frame, …).",
            )
        with self._observed(progress) as observer:
            if source is not None or texts is not None:
                before = list(values["corpus"]["sources"])
                documents = InputDocuments(source=source, texts=texts, vectors=vectors)
                add_documents(documents, values, self._held, observer, complete=complete)
                if refit and values["corpus"]["sources"] != before:
                    # A refit knows the corpus by the shards that the workspace has of it.
                    self.run_update(values, progress=progress).check_complete()
            outcome = self.run_update(values, refit=refit, name=name, progress=observer)
        return self.published(outcome)

    def run_update(
        self,
        values: Mapping[str, Any] | None = None,
        *,
        overrides: Sequence[str] = (),
        refit: bool = False,
        name: str | None = None,
        progress: Mode | Observer = "quiet",
        command: Sequence[str] | None = None,
    ) -> Outcome:
        """Run an update with the settings of a job, by default those that ``map_settings`` gives.

        Parameters
        ----------
        overrides : sequence of str
            ``group.field=value`` in place of some, as ``--set`` takes them.
        name : str, optional
            Of the map.

        Raises
        ------
        WorkspaceError
            If there is no map, or the settings with which it was made are lost.
        """
        from latentscale.pipeline.update import update_job

        with self._observed(progress) as observer:
            if name is not None:
                check_name(name)
            values = self.map_settings() if values is None else dict(values)
            apply_overrides(values, overrides)
            config = self._held.job(values)
            if refit:
                from latentscale.pipeline.run import run_job

                outcome = run_job(config, observer, refit=True, command=command)
            else:
                outcome = update_job(config, observer, command=command)
            return self._named(outcome, name)

    def promote(self, identity: str | Map, *, name: str | None = None) -> Map:
        """Make an earlier map, given by its name or id, the current one again, on the public page too.

        Parameters
        ----------
        name : str, optional
            Also give the map this name.

        Raises
        ------
        WorkspaceError
            If there is no such map.
        """
        from latentscale.stages.publish import write_public_page

        chosen = identity if isinstance(identity, Map) else self.get(identity)
        if name is not None:
            write_name(self.store, name, chosen.id)
        write_head(self.store, chosen.id)
        write_public_page(self.store, chosen.record, again=True)
        return chosen

    def map_settings(self) -> dict[str, Any]:
        """Settings of the current map: the corpus of the run that made it, and the stages of its fit.

        Raises
        ------
        WorkspaceError
            If there is no map, or the settings with which it was made are lost.
        """
        return self._held.of_map(needed_map(self.store))

    def settings(self, *, of_last_run: bool = False) -> dict[str, Any]:
        """Settings with the corpus of ``snapshot``: all others at their defaults, or those of its run."""
        return self._held.of_snapshot(with_stages=of_last_run)

    def check_selection(self, corpus: Mapping[str, Any], *, where: str) -> None:
        """Refuse settings of a corpus that choose other documents than those of the current map, as an update would.

        Parameters
        ----------
        corpus : mapping
            Only what is in it is compared.
        where : str
            The file that it is from.

        Raises
        ------
        ConfigError
            With what differs.
        """
        self._held.check_selection(corpus, needed_map(self.store), where=where)

    def run_stages(
        self,
        overrides: Sequence[str] = (),
        *,
        until: str,
        progress: Mode | Observer = "quiet",
        command: Sequence[str] | None = None,
    ) -> Outcome:
        """Run the stages up to ``until`` on ``snapshot``, with the settings of its run.

        Parameters
        ----------
        overrides : sequence of str
            ``group.field=value``, as ``--set`` takes them.
        """
        with self._observed(progress) as observer:
            values = self.settings(of_last_run=True)
            apply_overrides(values, overrides)
            return self.run(values, until=until, snapshot=self.snapshot, progress=observer, command=command)

    def plan(
        self,
        source: Any = None,
        /,
        *,
        text: str | None = None,
        id: str | None = None,
        documents: int | None = None,
        characters: int | None = None,
        gpus: int | None = None,
        update: UpdateConfig | UpdateSettings | None = None,
        **settings: Unpack[JobSettings],
    ) -> JobPlan:
        """Estimate what a run here would take: shards, gigabytes and minutes of each stage. Nothing is written.

        Parameters
        ----------
        source : str, Path or sequence of those, optional
            By default the corpus of ``snapshot``, with the settings of its run.
        text, id : str, optional
            As in ``CorpusConfig``.
        documents, characters : int, optional
            What if there were so many documents of so many characters (450); no corpus is looked at.
        gpus : int, optional
            What if there were so many GPUs; by default those of this machine.
        **settings
            Settings by stage, and ``corpus={...}`` for the rest of the corpus's.

        Raises
        ------
        LatentScaleError
            If the corpus or the settings are wrong, as a run would say.
        """
        if source is not None and documents is not None:
            raise RequestError("a corpus and documents= were given", hint="Leave one out.")
        values: dict[str, Any] = {"corpus": {"sources": files_of(source)}} if source is not None else {}
        if documents is not None:
            values = {"corpus": {"sources": ["assumed"]}}
        values = values or self.settings(of_last_run=True)
        groups = with_corpus(with_group(settings, "update", update), {"text": text, "id": id})
        values["corpus"] = {**values["corpus"], **groups.pop("corpus")}
        return self.plan_job({**values, **groups}, documents=documents, characters=characters, gpus=gpus)

    def quote_labels(self, overrides: Sequence[str] = ()) -> tuple[LabelQuote, str] | None:
        """Quote the labels of the current map, with the settings of its run; None where no service gives them.

        Parameters
        ----------
        overrides : sequence of str
            ``group.field=value``, as ``--set`` takes them.

        Returns
        -------
        quote : LabelQuote
        sentence : str
            The same for a person.
        """
        from latentscale.pipeline.label_quote import quote_labels

        values = self.settings(of_last_run=True)
        apply_overrides(values, overrides)
        return quote_labels(self._held.job(values), self.snapshot.documents, self.store)

    def plan_job(
        self,
        values: Mapping[str, Any],
        *,
        documents: int | None = None,
        characters: int | None = None,
        gpus: int | None = None,
    ) -> JobPlan:
        """Estimate what a job here would take; ``values`` are nested settings, as in ``job.yaml``.

        Parameters
        ----------
        documents, characters, gpus : int, optional
            As in ``plan``.
        """
        from latentscale.pipeline.plan import plan_job

        return plan_job(self._held.job(values), documents=documents, characters=characters, gpus=gpus)

    def run(
        self,
        values: Mapping[str, Any],
        *,
        until: str = "publish",
        snapshot: Snapshot | None = None,
        refit: bool = False,
        show: bool = True,
        name: str | None = None,
        progress: Mode | Observer = "quiet",
        command: Sequence[str] | None = None,
    ) -> Outcome:
        """Run the stages of a job up to ``until``; those whose artifact exists do nothing.

        With ``show``, the map becomes the current one; ``name`` is one by which it is found. ``command`` is what a
        person typed, for the record of the run: the command line passes it, a program does not.
        """
        from latentscale.pipeline.run import run_job

        with self._observed(progress) as observer:
            if name is not None:
                check_name(name)
            config = self._held.job(values)
            outcome = run_job(
                config, observer, until=until, snapshot=snapshot, refit=refit, show_map=show, command=command
            )
            return self._named(outcome, name)

    def _named(self, outcome: Outcome, name: str | None) -> Outcome:
        """Give the map that a run made the name that it was to get, be it without the shards of a quarantine."""
        if name is not None and outcome.map is not None:
            write_name(self.store, name, outcome.map.id)
        return outcome

    def _observed(self, progress: Mode | Observer) -> AbstractContextManager[Observer]:
        """An observer that reports how the run ends, be it by wrong settings."""
        observer = progress if isinstance(progress, Observer) else Observer(progress)
        return observer.watched(self.url)

    def published(self, outcome: Outcome) -> Map:
        """The map that a run to its end published.

        Raises
        ------
        QuarantineError
            If shards were quarantined; the map without them is the current one.
        """
        outcome.check_complete()
        assert outcome.map is not None, "a run to its end publishes a map"
        return self._map(outcome.map)

    def sources(self, corpus: Any) -> list[str]:
        """The sources of a corpus as settings have them; data of this process is written to ``uploads/`` first."""
        return resolve_corpus(corpus, self.store).sources

    def job_values(
        self,
        corpus: InputDocuments,
        settings: Mapping[str, Any],
        *,
        corpus_settings: Mapping[str, Any],
        title: str | None = None,
    ) -> dict[str, Any]:
        """The settings of a run of ``corpus``, data of which is written to ``uploads/``.

        Raises
        ------
        LatentScaleError
            If a setting is given twice, the corpus is none, or the workspace holds other data already.
        """
        return settings_of_run(corpus, settings, self._held, corpus_settings=corpus_settings, title=title)

    def view(self, *, port: int = 0, open_browser: bool = True, block: bool | None = None) -> ServedPage | None:
        """Serve the page, which shows the current map, as ``Map.view`` does."""
        from latentscale.explore.page import ServedPage
        from latentscale.explore.serve import serve

        if in_notebook() if block is None else not block:
            return ServedPage(self.store, None, port=port)
        serve(self.store, port=port, open_browser=open_browser)
        return None

    def __repr__(self) -> str:
        try:
            return f"<Workspace {self.name!r} at {self.url}: {read_head(self.store) or 'no map yet'}>"
        except LatentScaleError as error:
            # A repr that raises shows nothing at all.
            return f"<Workspace at {self.url}: {error.message}>"

    def _repr_html_(self) -> str:
        import html

        try:
            current = self.current
            return f"<pre>{html.escape(repr(self))}</pre>" + ("" if current is None else current.as_html())
        except LatentScaleError:
            return f"<pre>{html.escape(repr(self))}</pre>"


class Maps(list[Map]):
    """The maps of a workspace, the oldest first.

    Parameters
    ----------
    workspace : Workspace
    """

    def __init__(self, workspace: Workspace) -> None:
        super().__init__(workspace._map(record) for record in list_records(workspace.store, ["map"]))  # pyright: ignore[reportPrivateUsage]
        self._workspace = workspace

    def table(self) -> pl.DataFrame:
        """The maps as a frame.

        Returns
        -------
        polars.DataFrame
            ``map`` (its id), ``name``, ``current``, ``created``, ``documents``, ``clusters``, ``noise_share``,
            ``layers``, ``updated`` (whether an update made it).
        """
        from latentscale.explore.tables import MAP_SCHEMA

        return pl.DataFrame([self._workspace._row(one.record) for one in self], schema=MAP_SCHEMA)  # pyright: ignore[reportPrivateUsage]

    def __repr__(self) -> str:
        with pl.Config(
            tbl_cols=-1, tbl_rows=40, fmt_str_lengths=80, tbl_width_chars=200, tbl_hide_dataframe_shape=True
        ):
            return repr(self.table())

    def _repr_html_(self) -> str:
        return self.table()._repr_html_()  # pyright: ignore[reportPrivateUsage]


def _no_such_name(store: Store, name: str) -> WorkspaceError:
    known = ", ".join(read_names(store)) or "none yet"
    return WorkspaceError(
        f"no map of {store.url} is called {name!r}",
        hint=f"Names that were given: {known}. latentscale list shows the ids.",
    )
