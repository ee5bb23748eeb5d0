"""The workspace class of the SDK: its artifacts and maps, its runs and updates, its maintenance."""

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
    """The documents, embeddings, maps and run records of one corpus, in a folder or at an fsspec URL.

    Parameters
    ----------
    url : str or Path
        The folder or URL; it need not exist yet.
    storage : mapping or StorageConfig, optional
        How to access the object store, as in the group ``storage`` of a job: ``{"endpoint_url": …}``. Credentials are
        not given here.
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
        """The current map, which the page shows; None if no map has been published yet."""
        head = read_head(self.store)
        return None if head is None else self.get(head)

    @property
    def maps(self) -> Maps:
        """All maps, oldest first: a list whose ``repr`` is a table; ``maps.table()`` returns that table as a frame."""
        return Maps(self)

    @property
    def names(self) -> dict[str, str]:
        """The ids of the named maps, by name."""
        return read_names(self.store)

    def __getitem__(self, name: str) -> Map:
        return self.get(name)

    def set_name(self, name: str, map: str | Map | None = None) -> Map:
        """Name a map, so that ``workspace["best"]`` returns it. A name in use is moved to this map.

        Parameters
        ----------
        name : str
            Lower-case letters, digits, ``.``, ``_`` and ``-``.
        map : str or Map, optional
            The map, or its id or name; by default the current map.

        Returns
        -------
        Map
            The named map.

        Raises
        ------
        ConfigError
            If the name is invalid.
        WorkspaceError
            If there is no such map.
        """
        check_name(name)
        chosen = map if isinstance(map, Map) else self.the_map(map)
        write_name(self.store, name, chosen.id)
        return chosen

    def remove_name(self, name: str) -> None:
        """Remove a name of a map; the map itself is kept.

        Raises
        ------
        WorkspaceError
            If no map has this name.
        """
        if find_named(self.store, name) is None:
            raise _no_such_name(self.store, name)
        remove_name(self.store, name)

    @property
    def artifacts(self) -> list[Record]:
        """Records of all artifacts, oldest first."""
        return list_records(self.store)

    @property
    def runs(self) -> list[dict[str, Any]]:
        """Records of all runs, oldest first."""
        return list_runs(self.store)

    def artifact(self, identity: str) -> Record:
        """Read the record of an artifact by its id, or of a map by its name.

        Raises
        ------
        WorkspaceError
            If there is no such artifact; the message lists the existing ones.
        """
        return read_record(self.store, self._identity(identity))

    def _identity(self, name: str) -> str:
        """The id of the map with this name; if there is none, ``name`` itself, which is then taken as an id."""
        return find_named(self.store, name) or name

    def get(self, identity: str) -> Map:
        """Return a map by its name or its id, as ``workspace[name]`` does.

        Raises
        ------
        RequestError
            If ``identity`` is not a string.
        WorkspaceError
            If there is no such map.
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
        """Export a map, by default the current one, to a file or a folder; see ``Map.export``."""
        return self.the_map(map).export(to, what=what, text=text)

    def export_labels(self, to: str | Path, *, map: str | None = None) -> Path:
        """Write the labels of a map, by default the current one, to a file for editing: a spreadsheet table, or YAML.

        Parameters
        ----------
        to : str or Path
            A new file, a table if its name ends in ``.csv`` or ``.tsv``, else YAML. For each cluster it has the label,
            the size, the edits so far, and the documents by which a later import identifies the cluster.

        Returns
        -------
        Path
            The written file.

        Raises
        ------
        RequestError
            If the file already exists, or the next update would read it as documents.
        """
        from latentscale.explore.label_file import write_label_file

        return write_label_file(self.store, self.the_map(map).record, to)

    def import_labels(self, path: str | Path, *, refit: bool = False, progress: Mode | Observer = "quiet") -> Outcome:
        """Relabel the current map with the edits of a file; later labellings and refits apply them too.

        Edits saved by the page of a map are added to those of the current map; any other file replaces them.

        Parameters
        ----------
        path : str or Path
            A file that ``export_labels`` wrote, with edits, or one that the page saved.
        refit : bool
            Fit a new map of all documents with these edits, as ``update(refit=True)`` does.

        Raises
        ------
        ConfigError
            If the file is invalid; the message gives the entry, or the row and column.
        WorkspaceError
            If there is no map, or it has had updates since its fit: then only a refit applies edits.
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
        """Compare two labellings cluster by cluster: the label before and after, and whether the cluster changed.

        Parameters
        ----------
        first, second : str
            Ids or names of maps, or ids of labels artifacts.
        layer : int, optional
            Compare only this layer; by default all layers that both have.

        Returns
        -------
        dict
            ``documents`` (number in both), ``only_first``, ``only_second``, ``changes`` (a count for each kind of
            change), and ``clusters``, a list of dicts: ``layer``, ``change``, labels, sizes, sources and cluster ids
            before and after, ``shared`` documents, ``overlap``; see
            :func:`latentscale.explore.label_diff.compare_labels`.

        Raises
        ------
        WorkspaceError
            If one does not exist or has no labels, or they have no document in common.
        RequestError
            If one of them lacks that layer.
        """
        from latentscale.explore.label_diff import compare_labels

        return compare_labels(self.store, self.artifact(first), self.artifact(second), layer=layer)

    def the_map(self, identity: str | None = None) -> Map:
        """Return the current map, or the map with this id or name; unlike ``current``, never None.

        Raises
        ------
        WorkspaceError
            If there is no such map; if there is no current one, the message lists the maps that could be promoted.
        """
        return self._map(needed_map(self.store)) if identity is None else self.get(identity)

    @property
    def snapshot(self) -> Snapshot:
        """The document snapshot of the current map, or of a later run that ingested other documents without a map yet.

        Raises
        ------
        WorkspaceError
            If no ingest has completed yet.
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
        """The rejected corpus rows of ``snapshot``; for those of a particular map use ``map.rejects()``.

        Returns
        -------
        polars.DataFrame
            ``source``, ``source_row``, ``column``, ``reason``, ``detail``; one row for each rejected corpus row.
        """
        run = self._leading_run()
        snapshot = read_snapshot(self.store, run["facts"]["snapshot"])
        return read_rejects(self.store, snapshot, run["facts"]["artifacts"].get("embed"))

    def status(self) -> dict[str, Any]:
        """Summarise the workspace: object counts, the current map, and the outcome of the last run.

        Returns
        -------
        dict
            ``workspace``, ``name``, ``corpus``, ``created``, ``documents``, ``document_shards``, ``embedded_shards``,
            ``maps``, ``overlays``, ``bytes``, ``current_map``, ``map_created``, ``fit``, ``clusters``, ``noise_share``,
            ``drift``, ``refit_due``, ``last_run`` (``id``, ``status``, ``command``, ``started``, ``ended``,
            ``seconds``, ``made``, ``error``), ``to_resume``, ``embedding`` (throughput of the last run that embedded:
            documents and tokens per second and the fraction of time waiting, by worker); None where not available.
            Times are ISO 8601 in UTC.
        """
        from latentscale.upkeep.inspect import workspace_status

        return workspace_status(self.store)

    def diff(self, first: str, second: str, *, vectors: bool = True) -> Diff:
        """Compare two artifacts of the same kind, given by id, or two maps, given by id or name.

        Parameters
        ----------
        first, second : str
        vectors : bool
            Whether to read and compare the vectors of two embeddings, or of two maps with different embeddings.

        Returns
        -------
        Diff
            A mapping. ``settings`` and ``counts``: the differing values, as (first, second) by name; ``clusters``:
            agreement, the clusters that were kept, split, merged, removed or added, and noise; ``layout``: how far
            documents moved after alignment, and the fraction of neighbours kept; ``vectors``: cosine similarities and
            neighbours. Entries that do not apply are None. ``docs/clusters.md`` defines every figure.

        Raises
        ------
        WorkspaceError
            If one does not exist, they are of different kinds, or no document has a vector in both.
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
            A new or empty folder, which any static web server can serve.

        Returns
        -------
        dict
            The figures on the page: ``documents``, ``only``, ``residual``, ``kept``, ``changes``, ``labels``,
            ``moved``; see :func:`latentscale.explore.compare_pages.write_comparison`.

        Raises
        ------
        RequestError
            If both are the same map, or they have more than a million documents.
        WorkspaceError
            If one does not exist or has no page, they have no document in common, or the folder is not empty.
        """
        from latentscale.explore.compare_pages import write_comparison

        records = (self.get(first).record, self.get(second).record)
        return write_comparison(self.store, *records, at_home(to), names=(first, second))

    def gallery(self, to: str | Path, maps: Sequence[str] = ()) -> list[str]:
        """Write an overview page of several maps, and a copy of each map's page, to a new folder.

        Parameters
        ----------
        to : str or Path
            A new or empty folder, which any static web server can serve.
        maps : sequence of str
            Ids or names in display order; by default all maps, the current one first, then newest first.

        Returns
        -------
        list of str
            Ids of the maps shown; maps without a page are left out.

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
        """Draw random documents of a map, by default the current one; see ``Map.sample``."""
        chosen = self.the_map(map)
        return chosen.sample(n, seed=seed, cluster=cluster, where=where, by=by, layer=layer, power=power)

    def check_outside_corpus(self, to: str | Path) -> None:
        """Reject an output file that the next update would read as documents, before anything is computed for it.

        Raises
        ------
        RequestError
            If it is in a folder of the corpus, matches one of its glob patterns, or is one of its files.
        """
        from latentscale.explore.targets import check_outside_corpus

        check_outside_corpus(self.store, at_home(to))

    # ------------------------------------------------------------------------------------------------------- upkeep

    def verify(self, *, quick: bool = False) -> Report:
        """Check the consistency of all objects: counts, ids, checksums and schemas. Nothing is changed.

        Parameters
        ----------
        quick : bool
            Read listings, records and parquet footers, but no data.

        Returns
        -------
        Report
            ``faults``, each with the object, the problem and a remedy; ``notes``; the amount of data checked.

        Raises
        ------
        WorkspaceError
            If the workspace does not exist, or was written by an incompatible version.
        """
        from latentscale.upkeep.verify import verify_workspace

        read_workspace(self.store)
        return verify_workspace(self.store, quick=quick)

    def repair(self, *, progress: Mode = "quiet") -> Repairs:
        """Recompute the objects that ``verify`` finds damaged or missing, where possible, under the same names.

        Returns
        -------
        Repairs
            ``mended``, the repaired objects; ``lost``, those that cannot be recomputed, each with the consequence; and
            ``report``, the verification afterwards.

        Raises
        ------
        LatentScaleError
            If the workspace does not exist, was written by an incompatible version, or its store fails.
        """
        from latentscale.repair import repair_workspace

        return repair_workspace(self.store, Observer(progress))

    def migrate(self, out: str | Path, *, progress: Mode = "quiet") -> Map:
        """Rebuild a workspace of an earlier schema in the current one, with the corpus and the settings of its run.

        The old workspace is not changed. Documents are read and embedded again; row ids, positions, cluster ids and
        colours differ from the old ones.

        Parameters
        ----------
        out : str or Path
            The new workspace, in a store with the same access settings.

        Returns
        -------
        Map
            The map of the new workspace.

        Raises
        ------
        WorkspaceError
            If this workspace already has the current schema, or a later one.
        """
        from latentscale.upkeep.migrate import earlier_settings

        values, left_out = earlier_settings(self.store)
        observer = Observer(progress)
        if left_out:
            observer.note(f"settings that this version does not have: {', '.join(left_out)}")
        made = Workspace(out, storage=self._held.given_storage)
        return made.published(made.run(values, progress=progress))

    def gc(self, *, grace: float | None = None, keep_maps: int | None = None, delete: bool = False) -> Findings:
        """List, or delete, the unreferenced objects of the workspace (garbage collection).

        Parameters
        ----------
        grace : float, optional
            Keep objects younger than this, in seconds; by default a week.
        keep_maps : int, optional
            Also drop old maps: keep this many of the newest, the current map, named maps, and maps whose point files a
            kept map uses.
        delete : bool
            Delete the objects; without it they are only listed.

        Returns
        -------
        Findings
            The unreferenced objects that were found or deleted.

        Raises
        ------
        EnvironmentFailure
            If a run is active on the workspace and ``delete`` is set.
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
        text, id, **settings : optional
            Corpus settings, as in ``CorpusConfig``. Stage settings are taken from the current map.

        Returns
        -------
        Snapshot
            The documents that were read.
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
        """Build another map of the same documents with other settings; the current map is not replaced.

        If a map with these settings exists already, it is returned.

        Parameters
        ----------
        publish : bool or mapping
            True: make the map the current one, shown by the page (``promote`` does so later). A mapping: settings of
            the stage ``publish``, as in ``groups``; the current map is not replaced.
        name : str, optional
            Name of the map, by which ``workspace[name]`` returns it.
        update, **groups
            Settings by stage, such as ``project={"n_neighbors": 25}``, that override those of the current map; all
            others, including the engine's, are taken from its run. If a group changes ``method`` or ``model``, the
            other settings of that group are reset to their defaults.

        Returns
        -------
        Map
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
        """Build a map for each combination of settings (a grid search), and tabulate their quality figures.

        Maps that exist already with the same settings are reused.

        Parameters
        ----------
        names : str, optional
            Prefix of the map names: ``<names>-1``, ``<names>-2``, … in row order.
        sheet : str or Path, optional
            An ``.html`` file to write: thumbnails of the maps in a grid, with settings and figures.
        **groups
            As in ``map``; a list varies a setting: ``project={"n_neighbors": [5, 15, 30]}``. Several lists give all
            combinations.

        Returns
        -------
        polars.DataFrame
            One row per map: the varied settings, such as ``project.n_neighbors``; ``map`` (its id), ``name``,
            ``documents``, ``clusters``, ``noise_share``; ``trustworthiness``, ``preservation``, ``stability``,
            agreement where ``quality.against`` is set; ``red_flags``.
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
        """Validate a sweep of the job ``values`` before its corpus is read.

        Parameters
        ----------
        groups, names, sheet
            As in ``sweep``.

        Raises
        ------
        ConfigError
            If a combination of settings is invalid, a model does not exist, no setting is varied, or the map names are
            invalid.
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
        """Update the current map incrementally to the current corpus: add new documents, remove missing ones.

        Documents already on the map keep their positions. If nothing changed, no work is done. An update that was
        killed, or that lost a race against another one, resumes from the existing results.

        Parameters
        ----------
        source : path, list of paths, frame, list of texts or iterator, optional
            Documents to add to those of the map, in any form that ``ls.run`` accepts; by default the corpus of the map
            is scanned again. A row whose ``id`` is on the map replaces that document. Without an id column, documents
            are identified by their text, and a row whose text is on the map changes nothing.
        texts, vectors : optional
            As in ``ls.run``.
        complete : bool
            Treat ``source`` as the complete corpus: documents not in it are removed from the map.
        refit : bool
            Fit a new map of all documents instead, aligned to the old one; clusters found in both keep their ids.
        name : str, optional
            Name of the map, by which ``workspace[name]`` returns it.
        update, **groups
            Settings by stage, such as ``update={"max_removed_fraction": 1}``; the others, and the corpus with its
            selection, are taken from the run that made the current map.

        Returns
        -------
        Map
            The updated map, now the current one.

        Raises
        ------
        WorkspaceError
            If there is no map yet.
        CorpusError
            If more documents are missing than ``update.max_removed_fraction`` allows.
        QuarantineError
            If shards were quarantined; the map of the remaining documents is still published as the current map.
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
        """Run an update with the settings of a job, by default those of ``map_settings``.

        Parameters
        ----------
        values : mapping, optional
            Nested settings, as in ``job.yaml``.
        overrides : sequence of str
            ``group.field=value``, in the syntax of ``--set``.
        refit, name
            As in ``update``.
        command : sequence of str, optional
            The command line, for the run record.

        Raises
        ------
        WorkspaceError
            If there is no map, or the settings of its run are missing.
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
        """Make another map, given by its name or id, the current one, and show it on the public page.

        Parameters
        ----------
        identity : str or Map
        name : str, optional
            Also give the map this name.

        Returns
        -------
        Map

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
        """Settings of the current map: the corpus settings of the run that made it, and the stage settings of its fit.

        Raises
        ------
        WorkspaceError
            If there is no map, or the settings of its run are missing.
        """
        return self._held.of_map(needed_map(self.store))

    def settings(self, *, of_last_run: bool = False) -> dict[str, Any]:
        """Nested settings with the corpus of ``snapshot``; the others are defaults, or those of its run."""
        return self._held.of_snapshot(with_stages=of_last_run)

    def check_selection(self, corpus: Mapping[str, Any], *, where: str) -> None:
        """Check, as an update does, that corpus settings select the documents in the same way as the current map.

        Parameters
        ----------
        corpus : mapping
            Corpus settings; only those present are compared.
        where : str
            The file that they come from, for the error.

        Raises
        ------
        ConfigError
            If a setting differs; the message names it.
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
        """Run the stages up to and including ``until`` on ``snapshot``, with the settings of its run.

        Parameters
        ----------
        overrides : sequence of str
            ``group.field=value``, in the syntax of ``--set``.
        until : str
            Name of the last stage.
        command : sequence of str, optional
            The command line, for the run record.
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
        """Estimate the cost of a run here: shards, gigabytes and minutes for each stage. Nothing is written.

        Parameters
        ----------
        source : str, Path or sequence of those, optional
            By default the corpus of ``snapshot``, with the settings of its run.
        text, id : str, optional
            As in ``CorpusConfig``.
        documents, characters : int, optional
            Estimate for a hypothetical corpus of this many documents with this mean text length (default 450
            characters); no corpus is read.
        gpus : int, optional
            Number of GPUs to assume; by default those of this machine.
        **settings
            Settings by stage; ``corpus={...}`` holds the other corpus settings.

        Returns
        -------
        JobPlan

        Raises
        ------
        LatentScaleError
            If the corpus or the settings are invalid, with the same message as ``run``.
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
        """Estimate the cost of labelling the current map with a paid service; None if the labeler uses none.

        Parameters
        ----------
        overrides : sequence of str
            ``group.field=value``, in the syntax of ``--set``.

        Returns
        -------
        quote : LabelQuote
        sentence : str
            The quote as a sentence for display.
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
        """Estimate the cost of a job here; ``values`` are nested settings, as in ``job.yaml``.

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
        """Run the stages of a job up to and including ``until``; stages whose artifact exists are skipped.

        Parameters
        ----------
        values : mapping
            Nested settings, as in ``job.yaml``.
        until : str
            Name of the last stage.
        snapshot : Snapshot, optional
            Documents to use instead of ingesting the corpus.
        refit : bool
            Align the new map to the current one.
        show : bool
            Make the map the current one.
        name : str, optional
            Name of the map.
        command : sequence of str, optional
            The command line, for the run record; only the CLI passes it.
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
        """Name the map of a run, even if shards were quarantined."""
        if name is not None and outcome.map is not None:
            write_name(self.store, name, outcome.map.id)
        return outcome

    def _observed(self, progress: Mode | Observer) -> AbstractContextManager[Observer]:
        """An observer, as a context manager, that reports how the run ends, invalid settings included."""
        observer = progress if isinstance(progress, Observer) else Observer(progress)
        return observer.watched(self.url)

    def published(self, outcome: Outcome) -> Map:
        """The map that a completed run published.

        Raises
        ------
        QuarantineError
            If shards were quarantined; the map of the remaining documents is still published.
        """
        outcome.check_complete()
        assert outcome.map is not None, "a run to its end publishes a map"
        return self._map(outcome.map)

    def sources(self, corpus: Any) -> list[str]:
        """The value of ``corpus.sources`` for a corpus; in-memory data is first written to ``uploads/``."""
        return resolve_corpus(corpus, self.store).sources

    def job_values(
        self,
        corpus: InputDocuments,
        settings: Mapping[str, Any],
        *,
        corpus_settings: Mapping[str, Any],
        title: str | None = None,
    ) -> dict[str, Any]:
        """The nested settings of a run on ``corpus``; its in-memory data is written to ``uploads/``.

        Raises
        ------
        LatentScaleError
            If a setting is given twice, the corpus is invalid, or the workspace already holds another corpus.
        """
        return settings_of_run(corpus, settings, self._held, corpus_settings=corpus_settings, title=title)

    def view(self, *, port: int = 0, open_browser: bool = True, block: bool | None = None) -> ServedPage | None:
        """Serve the page of the current map; see ``Map.view``."""
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
    """The maps of a workspace, oldest first.

    Parameters
    ----------
    workspace : Workspace
    """

    def __init__(self, workspace: Workspace) -> None:
        super().__init__(workspace._map(record) for record in list_records(workspace.store, ["map"]))  # pyright: ignore[reportPrivateUsage]
        self._workspace = workspace

    def table(self) -> pl.DataFrame:
        """The maps as a frame, one row per map.

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
