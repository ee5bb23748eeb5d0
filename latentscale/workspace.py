"""The SDK: a workspace, the maps in it, and what can be asked of them."""

from __future__ import annotations

import base64
import html
import json
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import polars as pl

from latentscale.config import JobConfig, StorageConfig, parse_job
from latentscale.errors import RequestError, WorkspaceError
from latentscale.observe import Mode, Observer
from latentscale.outcome import Outcome
from latentscale.pipeline import Pipeline, StageName
from latentscale.rejects import read_rejects
from latentscale.storage.artifacts import Record, list_records, read_record
from latentscale.storage.frames import read_parts, scan_points
from latentscale.storage.head import read_head, write_head
from latentscale.storage.objects import Store
from latentscale.storage.runs import latest_runs, list_runs, read_run
from latentscale.storage.snapshots import Snapshot, read_snapshot
from latentscale.storage.workspace_record import WorkspaceRecord, read_workspace

if TYPE_CHECKING:
    from latentscale.search import Hit

STAGE_GROUPS = (
    "ingest",
    "embed",
    "neighbors",
    "project",
    "cluster",
    "label",
    "quality",
    "publish",
    "update",
    "engine",
    "storage",
)


class Map:
    """One published map: a projection, its clusters and their labels.

    Attributes
    ----------
    record : Record
        Every parameter, the parents, counts and costs.
    """

    def __init__(self, workspace: Workspace, record: Record) -> None:
        self._workspace = workspace
        self.record = record

    @property
    def store(self) -> Store:
        """The objects of the workspace."""
        return self._workspace.store

    @property
    def id(self) -> str:
        """``map-<8 hex>``."""
        return self.record.id

    @property
    def url(self) -> str:
        """Folder of the map."""
        return f"{self._workspace.url}/{self.record.folder}"

    @property
    def page(self) -> str:
        """The public page, which shows the current map."""
        return f"{self._workspace.url}/viewer/index.html"

    @cached_property
    def quality(self) -> dict[str, Any]:
        """What was measured of the map, as in ``quality.json``."""
        return cast(dict[str, Any], json.loads(self._workspace.store.read_bytes(f"{self.record.folder}/quality.json")))

    def points(self) -> pl.LazyFrame:
        """The documents of the map with their places, clusters and source columns.

        Returns
        -------
        polars.LazyFrame
            ``row_id``, ``x``, ``y``, ``cluster``, ``nearest_cluster``, ``probability``, ``density``, ``layer_<n>``,
            ``label``, ``source``, ``source_row`` and the published source columns; one row a document. Documents that
            an update placed have an ``outlier_score``: the share of the fitted ones that are nearer to their
            neighbours. A column that an earlier part lacks is null there.
        """
        return scan_points(self._workspace.store, self.record)

    def labels(self) -> pl.DataFrame:
        """The clusters of all layers: label, keyphrases, exemplars, parent, centre, hull, sizes."""
        return read_parts(self._workspace.store, [f"{self.record.folder}/labels.parquet"])

    def rejects(self) -> pl.DataFrame:
        """The rows of the corpus that are not in this map, as ``Workspace.rejects`` has them."""
        request = self.record.request
        return read_rejects(self.store, read_snapshot(self.store, request["snapshot"]), request["embedding"])

    def search(self, text: str, *, k: int = 10) -> list[Hit]:
        """Find the ``k`` documents whose vectors are nearest to that of ``text``."""
        from latentscale.search import search

        return search(self._workspace.store, self.record, text, k=k)

    def view(self, *, port: int = 0, open_browser: bool = True) -> None:
        """Serve the page on this machine until interrupted."""
        self._workspace.view(port=port, open_browser=open_browser)

    def __repr__(self) -> str:
        counts = self.record.counts
        name = f" {self.record.name!r}" if self.record.name else ""
        return (
            f"<Map {self.id}{name} of {self._workspace.name!r}\n"
            f"  documents {counts['documents']:,} · clusters {counts['clusters']:,} "
            f"· noise {counts['noise_share']:.0%} · layers {len(counts['layers'])}\n"
            f"  {self.url}>"
        )

    def _repr_html_(self) -> str:
        image = self._workspace.store.read_bytes(f"{self.record.folder}/thumbnail.png")
        data = base64.b64encode(image).decode()
        return (
            f'<figure><img alt="map" src="data:image/png;base64,{data}"><pre>{html.escape(repr(self))}</pre></figure>'
        )


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
        self._storage = None if storage is None else self.store.storage

    # ------------------------------------------------------------------------------------------------- what is there

    @property
    def record(self) -> WorkspaceRecord:
        """What ``workspace.json`` says.

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
        """The map that the page shows, or None."""
        head = read_head(self.store)
        return None if head is None else self.get(head)

    @property
    def maps(self) -> list[Map]:
        """All maps, the oldest first."""
        return [Map(self, record) for record in list_records(self.store, ["map"])]

    @property
    def artifacts(self) -> list[Record]:
        """Records of all artifacts, the oldest first."""
        return list_records(self.store)

    @property
    def runs(self) -> list[dict[str, Any]]:
        """Records of all runs, the oldest first."""
        return list_runs(self.store)

    def get(self, identity: str) -> Map:
        """Return a map by id or name.

        Raises
        ------
        WorkspaceError
            If there is none.
        """
        record = read_record(self.store, identity)
        if record.kind != "map":
            raise WorkspaceError(f"{identity} is a {record.kind}, not a map", hint="latentscale list shows the maps.")
        return Map(self, record)

    def the_map(self, identity: str | None = None) -> Map:
        """Return a map by id or name, or the current one.

        Raises
        ------
        WorkspaceError
            If there is none.
        """
        if identity is not None:
            return self.get(identity)
        current = self.current
        if current is None:
            read_workspace(self.store)
            raise WorkspaceError(f"{self.url} has no map yet", hint=f"latentscale publish {self.url}")
        return current

    @property
    def snapshot(self) -> Snapshot:
        """The documents of the last run.

        Raises
        ------
        WorkspaceError
            If nothing has been ingested to the end yet.
        """
        return read_snapshot(self.store, self._last_complete_run()["facts"]["snapshot"])

    def _last_complete_run(self) -> dict[str, Any]:
        read_workspace(self.store)
        for run in latest_runs(self.store):
            if run["facts"].get("snapshot"):
                return run
        raise WorkspaceError(
            f"{self.url} holds no complete set of documents yet", hint="Run `latentscale ingest` or `run` to its end."
        )

    def rejects(self) -> pl.DataFrame:
        """The rows that the last complete run set aside; those of a map are ``map.rejects()``.

        Returns
        -------
        polars.DataFrame
            ``source``, ``source_row``, ``column``, ``reason``, ``detail``; one row a row of the corpus.
        """
        run = self._last_complete_run()
        snapshot = read_snapshot(self.store, run["facts"]["snapshot"])
        return read_rejects(self.store, snapshot, run["facts"]["artifacts"].get("embed"))

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
            As in ``CorpusConfig``, as are all other ``settings``.
        """
        values = {"corpus": {"sources": self._sources(corpus), "text": text, "id": id, **settings}, "out": self.url}
        outcome = self.run(values, until="ingest", progress=progress)
        assert outcome.snapshot is not None
        return outcome.snapshot

    def map(self, *, progress: Mode = "quiet", **groups: Mapping[str, Any]) -> Map:
        """Make, or find, a map of the documents.

        Parameters
        ----------
        **groups
            Settings by stage, such as ``project={"n_neighbors": 25}``.
        """
        values = {**self.settings(), **{group: dict(settings) for group, settings in groups.items()}}
        outcome = self.run(values, snapshot=self.snapshot, progress=progress)
        outcome.check_complete()
        assert outcome.map is not None
        return Map(self, outcome.map)

    def update(self, *, refit: bool = False, progress: Mode = "quiet", **groups: Mapping[str, Any]) -> Map:
        """Bring the current map to what the corpus holds now: what is new is added, what is gone is left out.

        No document that was on the map moves. Nothing is done where nothing changed, and an update that is killed or
        overtaken by another goes on from what is there.

        Parameters
        ----------
        refit : bool
            Make a new map of all documents instead, laid on the old one; clusters that are in both keep their ids.
        **groups
            Settings by stage, such as ``update={"max_removed_fraction": 1}``; the others are those of the map.

        Raises
        ------
        WorkspaceError
            If there is no map yet.
        QuarantineError
            If shards had to be set aside; the map without them is the current one.
        """
        values = self.map_settings()
        for group, settings in groups.items():
            values[group] = {**values.get(group, {}), **settings}
        outcome = self.run_update(values, refit=refit, progress=progress)
        outcome.check_complete()
        assert outcome.map is not None
        return Map(self, outcome.map)

    def run_update(
        self,
        values: Mapping[str, Any],
        *,
        refit: bool = False,
        progress: Mode = "quiet",
        command: Sequence[str] | None = None,
    ) -> Outcome:
        """Run an update with the settings of a job, as ``map_settings`` gives them."""
        from latentscale.updating import Update

        config = self._job(values)
        job = Update(config, Observer(progress), command=command)
        return job.run(refit=True) if refit else job.update()

    def promote(self, identity: str) -> Map:
        """Make an earlier map the current one again, on the public page too.

        Raises
        ------
        WorkspaceError
            If there is no such map.
        """
        from latentscale.stages.publish import write_public_page

        chosen = self.get(identity)
        write_head(self.store, chosen.id)
        write_public_page(self.store, chosen.record)
        return chosen

    def map_settings(self) -> dict[str, Any]:
        """Settings of the run that fitted the current map, with the workspace's corpus.

        Raises
        ------
        WorkspaceError
            If there is no map yet.
        """
        record = self.the_map().record
        if "update" in record.request:
            record = self.get(str(record.request["update"]["fit"])).record
        values: dict[str, Any] = {"corpus": self._recorded_corpus(), "out": self.url}
        run = read_run(self.store, str(record.run))
        if run is not None:
            values |= {group: run["job"][group] for group in STAGE_GROUPS if group in run["job"]}
        return values

    def settings(self, *, of_last_run: bool = False) -> dict[str, Any]:
        """Settings with the workspace's corpus: all others at their defaults, or those of the last run."""
        values: dict[str, Any] = {"corpus": self._recorded_corpus(), "out": self.url}
        if of_last_run:
            job = next((run["job"] for run in latest_runs(self.store)), None)
            if job is not None:
                values |= {group: job[group] for group in STAGE_GROUPS if group in job}
        return values

    def _recorded_corpus(self) -> dict[str, Any]:
        """The workspace's corpus; the way to a store that was given now stands before the recorded one."""
        if self._storage is None or not self.store.is_local:
            return self.record.corpus
        return {**self.record.corpus, "storage": self._storage.model_dump(mode="json")}

    def run(
        self,
        values: Mapping[str, Any],
        *,
        until: StageName = "publish",
        snapshot: Snapshot | None = None,
        refit: bool = False,
        progress: Mode = "quiet",
        command: Sequence[str] | None = None,
    ) -> Outcome:
        """Run the stages of a job up to ``until``; those whose artifact is there do nothing."""
        config = self._job(values)
        return Pipeline(config, Observer(progress), command=command).run(until=until, snapshot=snapshot, refit=refit)

    def _job(self, values: Mapping[str, Any]) -> JobConfig:
        """Settings of a job here: the way to the store is the one by which this workspace was opened."""
        storage = {} if self._storage is None else {"storage": self._storage.model_dump(mode="json")}
        return parse_job({**values, "out": self.url, **storage}, where="the settings")

    def _sources(self, corpus: Any) -> list[str]:
        if isinstance(corpus, str | Path):
            return [str(corpus)]
        if isinstance(corpus, Sequence) and corpus and all(isinstance(item, str | Path) for item in corpus):
            for item in cast(Sequence[str | Path], corpus):
                if isinstance(item, str) and ("\n" in item or len(item.split()) > 3) and not Path(item[:255]).exists():
                    raise RequestError(
                        f"a list of strings is a list of files, and {item[:60]!r} looks like a text",
                        hint="For texts pass an iterator, iter(texts), or a frame.",
                    )
            return [str(item) for item in cast(Sequence[str | Path], corpus)]
        from latentscale.readers.frames import spool_frame

        return [spool_frame(corpus, self.store)]

    def view(self, *, port: int = 0, open_browser: bool = True) -> None:
        """Serve the page on this machine until interrupted."""
        from latentscale.serving import serve

        serve(self.store, port=port, open_browser=open_browser)

    def __repr__(self) -> str:
        current = self.current
        return f"<Workspace {self.name!r} at {self.url}: {current.id if current else 'no map yet'}>"


def open(url: str | Path, *, storage: Mapping[str, Any] | StorageConfig | None = None) -> Workspace:  # noqa: A001
    """Open a workspace, or a place for one.

    Parameters
    ----------
    storage : mapping or StorageConfig, optional
        How to reach the store, as in the group ``storage`` of a job: ``{"endpoint_url": …}``. It holds no key.
    """
    return Workspace(url, storage=storage)


def run(
    corpus: Any,
    /,
    *,
    out: str | Path,
    text: str | None = None,
    id: str | None = None,
    progress: Mode = "auto",
    storage: Mapping[str, Any] | StorageConfig | None = None,
    **settings: Any,
) -> Map:
    """Turn a corpus into a map, from the first stage to the page.

    Parameters
    ----------
    corpus : str, Path, sequence of those, data frame or iterator of batches
    out : str or Path
        The workspace.
    text, id : str, optional
        As in ``CorpusConfig``.
    storage : mapping or StorageConfig, optional
        How to reach the store of ``out``, and of the corpus where the protocol is the same.
    **settings
        Settings by stage, such as ``project={"n_neighbors": 25}``, and ``corpus={...}`` for the rest of the corpus's.

    Returns
    -------
    Map
    """
    workspace = Workspace(out, storage=storage)
    sources = workspace._sources(corpus)  # pyright: ignore[reportPrivateUsage]
    corpus_settings = {"sources": sources, "text": text, "id": id, **settings.pop("corpus", {})}
    outcome = workspace.run({"corpus": corpus_settings, **settings}, progress=progress)
    outcome.check_complete()
    assert outcome.map is not None
    return Map(workspace, outcome.map)
