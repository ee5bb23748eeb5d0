"""A map of a workspace: its points, labels and quality, and queries on them."""

from __future__ import annotations

import base64
import html
import json
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack, cast, overload

import polars as pl
from numpy.typing import NDArray

from latentscale.errors import LatentScaleError, RequestError
from latentscale.explore.rejects import read_rejects
from latentscale.file_names import at_home
from latentscale.pipeline.notebook import in_notebook
from latentscale.quality.figures import Quality
from latentscale.storage.artifacts import Record
from latentscale.storage.frames import read_parts, scan_points
from latentscale.storage.map_names import find_named
from latentscale.storage.objects import Store
from latentscale.storage.snapshots import read_snapshot

if TYPE_CHECKING:
    from latentscale.backends.stars import Prefer
    from latentscale.config import JobSettings, StorageConfig
    from latentscale.explore.diff_figures import Diff
    from latentscale.explore.duplicates import Duplicates
    from latentscale.explore.export import What
    from latentscale.explore.graph import Graph
    from latentscale.explore.overlay import Overlay
    from latentscale.explore.page import ServedPage
    from latentscale.explore.sample import By
    from latentscale.explore.search import Hit
    from latentscale.pipeline.observe import Mode, Observer
    from latentscale.pipeline.result import Outcome
    from latentscale.storage.vectors import Vectors


def _check_count(k: Any) -> None:
    if not hasattr(k, "__index__") or k < 1:
        raise RequestError(f"{k!r} documents were requested", hint="Request 1 or more.")


class Map:
    """One published map: a projection, its clusters and their labels.

    Parameters
    ----------
    store : Store
        The objects of its workspace.
    record : Record
    workspace_name : str

    Attributes
    ----------
    store : Store
    record : Record
        Every parameter, the parents, counts and costs.
    """

    def __init__(self, store: Store, record: Record, *, workspace_name: str) -> None:
        self.store = store
        self.record = record
        self._workspace_name = workspace_name

    @property
    def id(self) -> str:
        """``map-<hex>``."""
        return self.record.id

    @property
    def url(self) -> str:
        """Folder of the map."""
        return f"{self.store.url}/{self.record.folder}"

    @property
    def page(self) -> str:
        """The public page, which shows the current map."""
        return f"{self.store.url}/viewer/index.html"

    @cached_property
    def quality(self) -> Quality:
        """What was measured of the map, as in ``quality.json``."""
        return cast(Quality, json.loads(self.store.read_bytes(f"{self.record.folder}/quality.json")))

    def points(self) -> pl.LazyFrame:
        """The documents of the map with their positions, clusters and source columns.

        Nothing is read until the frame is collected, and then only the columns that are asked for, part by part; on a
        disk and in a bucket alike.

        Returns
        -------
        polars.LazyFrame
            ``row_id``, ``x``, ``y``, ``cluster``, ``nearest_cluster``, ``probability``, ``density``, ``layer_<n>``,
            ``label``, ``neighbor_distance``, ``outlier_score`` (the share of the fitted documents that are nearer to
            their neighbours), ``fitted`` (false for those that an update placed), ``source``, ``source_row`` and the
            published source columns; one row a document. A column that an earlier part lacks is null there.
        """
        return scan_points(self.store, self.record)

    def documents(self) -> pl.LazyFrame:
        """The documents of the map as ``points()`` has them, with their texts.

        Lazily, as ``points()``: a text is read only where it is asked for, and only of the documents that conditions on
        other columns leave. ``m.documents().collect().to_pandas()`` is a pandas frame.

        Returns
        -------
        polars.LazyFrame
            The columns of ``points()`` and the text, under the name of its column.
        """
        from latentscale.explore.tables import scan_documents

        return scan_documents(self.store, self.record)

    def clusters(self, *, texts: bool = False) -> pl.DataFrame:
        """The clusters of all layers, the finest layer first and the largest cluster first.

        Parameters
        ----------
        texts : bool
            Also read the texts of the exemplars.

        Returns
        -------
        polars.DataFrame
            ``layer``, ``cluster``, ``label``, ``description`` (where a labeler gave one), ``size``, ``nearest_size``
            (with noise at its nearest cluster), ``parent``, ``keyphrases``, ``exemplars`` (row ids), with ``texts``
            also ``exemplar_texts``. ``labels()`` has positions and hulls, too.
        """
        from latentscale.explore.tables import cluster_table

        return cluster_table(self.store, self.record, texts=texts)

    def vectors(self) -> Vectors:
        """The vectors of the documents of the map.

        Returns
        -------
        Vectors
            ``matrix`` (float32, shape (n, d), rows of length 1; a mapped file where it is large) and ``row_ids``
            (int64, shape (n,)). Documents without a vector are in neither.
        """
        from latentscale.storage.vectors import load_vectors

        request = self.record.request
        return load_vectors(self.store, read_snapshot(self.store, request["snapshot"]), str(request["embedding"]))

    def graph(self) -> Graph:
        """The neighbour graph that the layout and the figures were made from; of an updated map, that of its fit.

        Returns
        -------
        Graph
            ``row_ids``, ``indices``, ``distances``, ``recall``.
        """
        from latentscale.explore.graph import graph_of

        return graph_of(self.store, self.record)

    def diff(self, other: Map | str, *, vectors: bool = True) -> Diff:
        """Compare with another map, as ``Workspace.diff`` does: this one first, to which the other is aligned.

        Parameters
        ----------
        other : Map or str
            Of the same workspace; or its id, or its name.
        vectors : bool
            Whether the vectors are read and compared, where the maps have different embeddings.
        """
        from latentscale.upkeep.inspect import compare

        second = other.id if isinstance(other, Map) else find_named(self.store, other) or other
        return compare(self.store, self.id, second, vectors=vectors)

    def labels(self) -> pl.DataFrame:
        """The clusters of all layers: label, keyphrases, exemplars, parent, centre, hull, sizes."""
        return read_parts(self.store, [f"{self.record.folder}/labels.parquet"])

    def tree(self) -> list[str]:
        """The clusters as lines of text: each below its parent, with its size, layer and number."""
        from latentscale.explore.cluster_tree import tree_lines

        return list(tree_lines(self.labels()))

    def rejects(self) -> pl.DataFrame:
        """The rows of the corpus that are not in this map, as ``Workspace.rejects`` has them."""
        request = self.record.request
        return read_rejects(self.store, read_snapshot(self.store, request["snapshot"]), request["embedding"])

    @overload
    def search(self, query: str | NDArray[Any], *, k: int = 10) -> list[Hit]: ...
    @overload
    def search(self, query: list[float], *, k: int = 10) -> list[Hit]: ...
    @overload
    def search(self, query: list[str] | list[list[float]], *, k: int = 10) -> list[list[Hit]]: ...
    def search(self, query: Any, *, k: int = 10) -> Any:
        """Find the ``k`` documents whose vectors are nearest to that of a text, or to a vector.

        Parameters
        ----------
        query : str, array of shape (d,), or a list of one of these
            A text, embedded with the map's model; or a vector of the model that the map's vectors came from. A list, or
            an array of shape (q, d), is several queries.
        k : int

        Returns
        -------
        list of Hit
            The best first: ``row_id``, ``score``, ``text``. For a list of queries a list of these lists.

        Raises
        ------
        RequestError
            If the query is of another type or width, or a text cannot be embedded as the map's documents were.
        """
        from latentscale.explore.query import queries_of
        from latentscale.explore.search import search

        _check_count(k)
        queries, several = queries_of(self.store, self.record, query)
        found = [search(self.store, self.record, one, k=k) for one in queries]
        return found if several else found[0]

    def sample(
        self,
        n: int = 10,
        *,
        seed: int = 0,
        cluster: int | None = None,
        where: pl.Expr | str | None = None,
        by: By | None = None,
        layer: int = 0,
        power: float = 1.0,
    ) -> pl.DataFrame:
        """Choose ``n`` documents at random and read them with their texts.

        Parameters
        ----------
        n : int
            Fewer are given where there are not so many.
        seed : int
            The same seed chooses the same documents.
        cluster : int, optional
            Only documents of this cluster of the finest layer; -1 is noise.
        where : polars expression or str, optional
            Only documents for which it holds: ``pl.col("year") > 2020``, or the same as SQL, ``"year > 2020"``.
        by : {"density", "cluster"}, optional
            By default each document is as likely as any other. ``density``: a document weighs its
            ``neighbor_distance``, so that sparse regions of the embedding are not lost beside dense ones. ``cluster``:
            as many of each cluster, or all where it has fewer; noise counts as one more.
        layer : int
            Of the clusters, with ``by="cluster"``; 0 is the finest.
        power : float
            To which the distance is raised, with ``by="density"``: the larger, the more of the sparse regions.

        Returns
        -------
        polars.DataFrame
            The columns of ``points()`` and the text, by ``row_id``.

        Raises
        ------
        RequestError
            If there is no such cluster or layer, or the condition is none on the columns of the points.
        WorkspaceError
            If documents have no ``neighbor_distance``, as in maps of earlier versions.
        """
        from latentscale.explore.sample import sample

        condition = self._condition(cluster, where)
        return sample(self.store, self.record, n, seed=seed, where=condition, by=by, layer=layer, power=power)

    def duplicates(self, threshold: float = 0.95, *, exact: bool = False, prefer: Prefer = "central") -> Duplicates:
        """Find documents that are copies of others, to the letter or nearly, from the stored neighbour graph.

        A group has a representative, to which each of its documents is at least as similar as ``threshold``; no two
        representatives are so similar to each other, as far as the graph knows. So groups do not chain.

        Parameters
        ----------
        threshold : float
            Cosine, 0.5 to 1.
        exact : bool
            Only documents with the same text.
        prefer : {"central", "longest", "first"}
            What represents a group: the document with the most copies, the one with the longest text, or the first.

        Returns
        -------
        Duplicates
            ``documents``, a frame of the groups; ``kept`` and ``dropped``, the row ids of what is left and what is
            not; how many ``groups``.

        Raises
        ------
        RequestError
            If the threshold is out of range, or there is no such preference.
        """
        from latentscale.explore.duplicates import duplicates

        return duplicates(self.store, self.record, threshold=threshold, exact=exact, prefer=prefer)

    def find(
        self,
        query: str | NDArray[Any] | list[float],
        *,
        k: int = 10,
        cluster: int | None = None,
        where: pl.Expr | str | None = None,
        threshold: float | None = None,
    ) -> pl.DataFrame:
        """Find the ``k`` documents nearest to a text as a frame, with their columns; ``search`` has scores and texts.

        Parameters
        ----------
        query : str or array, shape (d,)
            One query, as ``search`` takes it.
        k : int
            How many at most.
        cluster, where
            As in ``sample``.
        threshold : float, optional
            Only documents whose cosine similarity is at least this.

        Returns
        -------
        polars.DataFrame
            The best first: ``score``, ``row_id``, ``cluster``, ``label``, the id column, the text, then the other
            columns of ``points()``.

        Raises
        ------
        RequestError
            If the text cannot be embedded as the documents were, there is no such cluster, or the condition is none.
        """
        from latentscale.explore.find import find
        from latentscale.explore.query import queries_of

        _check_count(k)
        queries, several = queries_of(self.store, self.record, query)
        if several:
            raise RequestError("find takes one query", hint="For several, map.search([…]).")
        condition = self._condition(cluster, where)
        return find(self.store, self.record, queries[0], k=k, where=condition, threshold=threshold)

    def _condition(self, cluster: int | None, where: pl.Expr | str | None) -> pl.Expr | str | None:
        """``where``, and that the document is in a cluster, which must exist."""
        if cluster is None:
            return where
        known = self.labels().filter(pl.col("layer") == 0)["cluster"].to_list()
        if cluster != -1 and cluster not in known:
            raise RequestError(f"{self.id} has no cluster {cluster}", hint=f"It has {len(known):,}, and -1 for noise.")
        inside = pl.col("cluster") == cluster
        return inside if where is None else inside & (pl.sql_expr(where) if isinstance(where, str) else where)

    def place(
        self,
        source: Any = None,
        /,
        out: str | Path | None = None,
        *,
        texts: Iterable[str | None] | None = None,
        vectors: Any = None,
        text: str | None = None,
        id: str | None = None,
        where: str | None = None,
        limit: int | None = None,
        sample: float | None = None,
        page: str | Path | None = None,
        progress: Mode = "quiet",
        storage: Mapping[str, Any] | StorageConfig | None = None,
        **settings: Unpack[JobSettings],
    ) -> Overlay:
        """Place another corpus in the space of this map, which stays what it is.

        Its documents are read, embedded by the map's own model, and get the position, the cluster and the scores that
        an update of this map would give them, shard by shard: memory does not grow with them.

        Parameters
        ----------
        source, texts, vectors, where, limit, sample, storage
            As ``ls.run`` takes them.
        out : str or Path
            A workspace of its own, for the documents, their vectors, rejects and points. The same call resumes there,
            and another map with the same model finds the vectors.
        text, id : str, optional
            By default those of the map's corpus.
        page : str or Path, optional
            A new folder, in which the map's page with the placed documents is written; ``overlay.export_page`` does so
            later.
        **settings
            Settings by stage in place of those of the map, such as ``engine={"workers": 2}``.

        Raises
        ------
        RequestError
            If ``out`` is not named.
        WorkspaceError
            If ``out`` is the workspace of this map, or holds another corpus; or no page can be written.
        ConfigError
            If the settings would embed otherwise than this map was.
        QuarantineError
            If shards were quarantined; the points are there without them.
        """
        from latentscale.explore.overlay import Overlay
        from latentscale.explore.overlay_page import check_page
        from latentscale.pipeline.python_corpus import InputDocuments, settings_of_run
        from latentscale.pipeline.recorded_settings import RecordedSettings

        if out is None:
            raise RequestError("the workspace of the placed documents is not named", hint='m.place(corpus, "placed")')
        if page is not None:
            # Before the documents of a frame are stored.
            check_page(self.record, at_home(page))
        to = Store(str(out), storage=storage)
        given = {"text": text, "id": id, "where": where, "limit": limit, "sample": sample}
        documents = InputDocuments(source=source, texts=texts, vectors=vectors)
        held = RecordedSettings(to, given=None if storage is None else to.storage)
        values = settings_of_run(documents, settings, held, corpus_settings=given)
        outcome = self.run_place(values, out=out, storage=storage, page=page, progress=progress)
        outcome.check_complete()
        return Overlay(to, outcome.records["overlay"])

    def run_place(
        self,
        values: Mapping[str, Any],
        *,
        out: str | Path,
        storage: Mapping[str, Any] | StorageConfig | None = None,
        overrides: Sequence[str] = (),
        page: str | Path | None = None,
        progress: Mode | Observer = "quiet",
        command: Sequence[str] | None = None,
    ) -> Outcome:
        """Place the corpus of a job; its other groups of settings are laid over those of the map.

        Parameters
        ----------
        overrides : sequence of str
            ``group.field=value``, as ``--set`` takes them.
        page
            As in ``place``.
        """
        from latentscale.explore.overlay_page import check_page, write_overlay_page
        from latentscale.pipeline.observe import Observer
        from latentscale.pipeline.place import place_job, settings_of_place
        from latentscale.pipeline.recorded_settings import RecordedSettings

        if page is not None:
            check_page(self.record, at_home(page))
        observer = progress if isinstance(progress, Observer) else Observer(progress)
        to = Store(str(out), storage=storage)
        with observer.watched(to.url):
            job = settings_of_place(RecordedSettings(self.store), self.record, values, overrides)
            config = RecordedSettings(to, given=None if storage is None else to.storage).job(job)
            outcome = place_job(config, self.store, self.record, observer, command=command)
        if page is not None:
            write_overlay_page(to, outcome.records["overlay"], at_home(page))
        return outcome

    def export(self, to: str | Path, *, what: What | None = None, text: bool = False, updates: bool = False) -> Path:
        """Write the points, texts or clusters to one file, or the page to a new folder.

        Parameters
        ----------
        to : str or Path
            A ``.parquet``, ``.csv``, ``.jsonl`` or ``.xlsx`` file (the last with the extra ``excel``); anything without
            a suffix is a folder for the page. An ``.html`` file is the page with all that it shows, of up to 20,000
            documents: it opens from a disk, and asks nobody for anything. In CSV and Excel, nested values are JSON
            text; in all but parquet, bytes are hexadecimal digits.
        what : {"points", "text", "clusters", "labels", "page"}, optional
            ``points``: one row a document, with the label of its cluster in each layer; ``text``: ids, clusters and the
            text; ``clusters``: one row a cluster of each layer; ``labels``: the same with positions and hulls, in
            parquet centroids too. By default what the file is called, ``labels.csv``, and else the points.
        text : bool
            Add the text of the documents to the points.
        updates : bool
            Add the column ``update`` to the points: the snapshot with which each came.

        Returns
        -------
        Path
            What was written.

        Raises
        ------
        ConfigError
            For another suffix, or one that does not fit ``what``.
        RequestError
            If an ``.xlsx`` or ``.html`` file cannot hold it, or the next update would read it as documents.
        WorkspaceError
            If the folder is not empty, or the map has no page.
        """
        from latentscale.explore.export import export

        return export(self.store, self.record, at_home(to), what=what, text=text, updates=updates)

    def view(self, *, port: int = 0, open_browser: bool = True, block: bool | None = None) -> ServedPage | None:
        """Serve the page of this map on this machine.

        Parameters
        ----------
        port : int
            0 for any that is free.
        open_browser : bool
            In a script.
        block : bool, optional
            Serve until interrupted, or in a thread of this process; by default in a thread where this is a notebook,
            which then shows the page in a frame.

        Returns
        -------
        ServedPage or None
            With ``block=False``: it has an ``address``; ``selection``, the row ids of the documents that are selected
            on the page, and ``documents()``, a frame of them; ``close()`` ends it.
        """
        from latentscale.explore.page import ServedPage, page_store
        from latentscale.explore.serve import serve

        if in_notebook() if block is None else not block:
            return ServedPage(self.store, self.record, port=port)
        served, folder = page_store(self.store, self.record)
        try:
            serve(served, port=port, open_browser=open_browser)
        finally:
            if folder is not None:
                folder.cleanup()
        return None

    def __repr__(self) -> str:
        counts = self.record.counts
        return (
            f"<Map {self.id} of {self._workspace_name!r}\n"
            f"  documents {counts['documents']:,} · clusters {counts['clusters']:,} "
            f"· noise {counts['noise_share']:.0%} · layers {len(counts['layers'])}\n"
            f"  {self.url}>"
        )

    def _repr_html_(self) -> str:
        return self.as_html()

    def as_html(self) -> str:
        """The map as notebooks show it: its picture and what ``repr`` says."""
        try:
            image = self.store.read_bytes(f"{self.record.folder}/thumbnail.png")
        except LatentScaleError as error:
            # An output cell must show something, whatever has become of the map.
            return f"<pre>{html.escape(f'{self!r}{chr(10)}{error}')}</pre>"
        data = base64.b64encode(image).decode()
        return (
            f'<figure><img alt="map" src="data:image/png;base64,{data}"><pre>{html.escape(repr(self))}</pre></figure>'
        )
