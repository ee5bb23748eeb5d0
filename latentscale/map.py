"""The map class of the SDK: points, labels and quality figures, queries, export and display."""

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
    """A map: a 2-D or 3-D projection of the documents, its clusters and their labels.

    Maps are obtained from ``ls.run``, ``Workspace.current`` or ``workspace[name]``.

    Parameters
    ----------
    store : Store
        The object store of its workspace.
    record : Record
    workspace_name : str

    Attributes
    ----------
    store : Store
    record : Record
        The artifact record: all parameters, the parent artifacts, counts and costs.
    """

    def __init__(self, store: Store, record: Record, *, workspace_name: str) -> None:
        self.store = store
        self.record = record
        self._workspace_name = workspace_name

    @property
    def id(self) -> str:
        """The id of the map, ``map-<hex>``."""
        return self.record.id

    @property
    def url(self) -> str:
        """URL or path of the folder of the map."""
        return f"{self.store.url}/{self.record.folder}"

    @property
    def page(self) -> str:
        """URL or path of the workspace's page, which shows the current map."""
        return f"{self.store.url}/viewer/index.html"

    @cached_property
    def quality(self) -> Quality:
        """The quality figures of the map, as in ``quality.json``."""
        return cast(Quality, json.loads(self.store.read_bytes(f"{self.record.folder}/quality.json")))

    def points(self) -> pl.LazyFrame:
        """The documents of the map with their positions, clusters and source columns.

        Nothing is read until the frame is collected, and then only the requested columns, part file by part file; this
        also holds for maps in object stores.

        Returns
        -------
        polars.LazyFrame
            ``row_id``, ``x``, ``y``, ``cluster``, ``nearest_cluster``, ``probability``, ``density``, ``layer_<n>``,
            ``label``, ``neighbor_distance``, ``outlier_score`` (the fraction of the fitted documents with a smaller
            ``neighbor_distance``), ``fitted`` (false for documents added by an update), ``source``, ``source_row`` and
            the published source columns; one row per document. A column that an older part file lacks is null there.
        """
        return scan_points(self.store, self.record)

    def documents(self) -> pl.LazyFrame:
        """The rows of ``points()`` with the texts of the documents.

        The frame is lazy like that of ``points()``: texts are read only if requested, and only for documents that pass
        the filters on other columns. ``m.documents().collect().to_pandas()`` is a pandas frame.

        Returns
        -------
        polars.LazyFrame
            The columns of ``points()`` and the text, under the name of its column.
        """
        from latentscale.explore.tables import scan_documents

        return scan_documents(self.store, self.record)

    def clusters(self, *, texts: bool = False) -> pl.DataFrame:
        """The clusters of all layers, finest layer first and by decreasing size.

        Parameters
        ----------
        texts : bool
            Also read the texts of the exemplars (the most typical documents).

        Returns
        -------
        polars.DataFrame
            ``layer``, ``cluster``, ``label``, ``description`` (if the labeler gave one), ``size``, ``nearest_size``
            (noise documents included, each counted with its nearest cluster), ``parent``, ``keyphrases``,
            ``exemplars`` (row ids), with ``texts`` also ``exemplar_texts``. ``labels()`` also has positions and hulls.
        """
        from latentscale.explore.tables import cluster_table

        return cluster_table(self.store, self.record, texts=texts)

    def vectors(self) -> Vectors:
        """The embedding vectors of the documents of the map.

        Returns
        -------
        Vectors
            ``matrix`` (float32, shape (n, d), unit-length rows; memory-mapped if large) and ``row_ids`` (int64, shape
            (n,)). Documents without a vector are left out.
        """
        from latentscale.storage.vectors import load_vectors

        request = self.record.request
        return load_vectors(self.store, read_snapshot(self.store, request["snapshot"]), str(request["embedding"]))

    def graph(self) -> Graph:
        """The k-nearest-neighbour graph from which the layout and the quality figures were computed.

        For a map with incremental updates, it is the graph of the fit, without the documents added since.

        Returns
        -------
        Graph
            ``row_ids``, ``indices``, ``distances``, ``recall``.
        """
        from latentscale.explore.graph import graph_of

        return graph_of(self.store, self.record)

    def diff(self, other: Map | str, *, vectors: bool = True) -> Diff:
        """Compare this map with another one, which is aligned to it; see ``Workspace.diff``.

        Parameters
        ----------
        other : Map or str
            A map of the same workspace, or its id or name.
        vectors : bool
            Whether to read and compare the vectors if the maps have different embeddings.

        Returns
        -------
        Diff
        """
        from latentscale.upkeep.inspect import compare

        second = other.id if isinstance(other, Map) else find_named(self.store, other) or other
        return compare(self.store, self.id, second, vectors=vectors)

    def labels(self) -> pl.DataFrame:
        """The clusters of all layers, one row each: label, keyphrases, exemplars, parent, centre, hull, sizes."""
        return read_parts(self.store, [f"{self.record.folder}/labels.parquet"])

    def tree(self) -> list[str]:
        """The cluster hierarchy as indented lines of text, with the size, layer and id of each cluster."""
        from latentscale.explore.cluster_tree import tree_lines

        return list(tree_lines(self.labels()))

    def rejects(self) -> pl.DataFrame:
        """The rejected corpus rows of this map; columns as in ``Workspace.rejects``."""
        request = self.record.request
        return read_rejects(self.store, read_snapshot(self.store, request["snapshot"]), request["embedding"])

    @overload
    def search(self, query: str | NDArray[Any], *, k: int = 10) -> list[Hit]: ...
    @overload
    def search(self, query: list[float], *, k: int = 10) -> list[Hit]: ...
    @overload
    def search(self, query: list[str] | list[list[float]], *, k: int = 10) -> list[list[Hit]]: ...
    def search(self, query: Any, *, k: int = 10) -> Any:
        """Find the ``k`` documents whose vectors are most similar to a query text or vector (exact search).

        Parameters
        ----------
        query : str, array of shape (d,), or a list of one of these
            A text, which is embedded with the map's model; or a vector of that model. A list, or an array of shape
            (q, d), gives several queries.
        k : int
            Maximum number of documents for each query.

        Returns
        -------
        list of Hit
            Best first: ``row_id``, ``score`` (cosine similarity), ``text``. For several queries, a list of such lists.

        Raises
        ------
        RequestError
            If the query has another type or dimension, or a text cannot be embedded with the map's model.
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
        """Draw a random sample of documents, with their texts.

        Parameters
        ----------
        n : int
            Sample size; if fewer documents match, all of them are returned.
        seed : int
            Random seed; the same seed draws the same documents.
        cluster : int, optional
            Only documents of this cluster of the finest layer; -1 is noise.
        where : polars expression or str, optional
            Filter: ``pl.col("year") > 2020``, or a SQL condition, ``"year > 2020"``.
        by : {"density", "cluster"}, optional
            By default the sample is uniform. ``density``: documents are weighted by ``neighbor_distance``, so that
            sparse regions of the embedding are represented too. ``cluster``: the same number from each cluster, or all
            documents of smaller clusters; noise counts as a cluster.
        layer : int
            Cluster layer for ``by="cluster"``; 0 is the finest.
        power : float
            Exponent of the distance for ``by="density"``; larger values favour sparse regions more.

        Returns
        -------
        polars.DataFrame
            The columns of ``points()`` and the text, sorted by ``row_id``.

        Raises
        ------
        RequestError
            If there is no such cluster or layer, or the filter is not valid for the columns of the points.
        WorkspaceError
            If documents have no ``neighbor_distance``, as in maps of earlier versions.
        """
        from latentscale.explore.sample import sample

        condition = self._condition(cluster, where)
        return sample(self.store, self.record, n, seed=seed, where=condition, by=by, layer=layer, power=power)

    def duplicates(self, threshold: float = 0.95, *, exact: bool = False, prefer: Prefer = "central") -> Duplicates:
        """Find exact and near duplicates, from the stored neighbour graph.

        Each group has a representative, to which all its documents have at least the similarity ``threshold``; two
        representatives never do, as far as the graph shows. Similarity is therefore not chained within a group.

        Parameters
        ----------
        threshold : float
            Minimum cosine similarity, 0.5 to 1.
        exact : bool
            Only documents with identical text.
        prefer : {"central", "longest", "first"}
            The representative of a group: the document with the most copies, the one with the longest text, or the
            first one.

        Returns
        -------
        Duplicates
            ``documents``, a frame of the groups; ``kept`` and ``dropped``, the row ids to keep and to drop when
            deduplicating; ``groups``, the number of groups.

        Raises
        ------
        RequestError
            If the threshold is out of range, or ``prefer`` has another value.
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
        """Find the ``k`` documents most similar to a query, as a frame with all columns.

        Unlike ``search``, it can filter, and it takes a single query.

        Parameters
        ----------
        query : str or array, shape (d,)
            A text or a vector, as in ``search``.
        k : int
            Maximum number of documents.
        cluster, where
            Filters, as in ``sample``.
        threshold : float, optional
            Minimum cosine similarity.

        Returns
        -------
        polars.DataFrame
            Best first: ``score``, ``row_id``, ``cluster``, ``label``, the id column, the text, then the other columns
            of ``points()``.

        Raises
        ------
        RequestError
            If the text cannot be embedded with the map's model, there is no such cluster, or the filter is invalid.
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
        """The filter ``where``, combined with membership in ``cluster``, which must exist."""
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
        """Project another corpus onto this map as an overlay; the map itself is not changed.

        The documents are read, embedded with the map's model, and assigned the position, cluster and scores that an
        update of this map would assign. This works shard by shard, so that memory use does not grow with the corpus.

        Parameters
        ----------
        source, texts, vectors, where, limit, sample, storage
            As in ``ls.run``.
        out : str or Path
            A separate workspace for the documents, their vectors, rejects and points. Repeating the call resumes
            there, and placing the corpus on another map with the same model reuses the vectors.
        text, id : str, optional
            By default those of the map's corpus.
        page : str or Path, optional
            A new folder, to which the map's page with the placed documents is written; ``overlay.export_page`` does so
            later.
        **settings
            Settings by stage that override those of the map, such as ``engine={"workers": 2}``.

        Returns
        -------
        Overlay

        Raises
        ------
        RequestError
            If ``out`` is missing.
        WorkspaceError
            If ``out`` is the workspace of this map or holds another corpus, or the page cannot be written.
        ConfigError
            If the settings would produce other embeddings than those of the map.
        QuarantineError
            If shards were quarantined; the points of the remaining documents are written.
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
        """Place the corpus of a job on this map; the job's stage settings override those of the map.

        Parameters
        ----------
        values : mapping
            Nested settings, as in ``job.yaml``.
        overrides : sequence of str
            ``group.field=value``, in the syntax of ``--set``.
        out, storage, page
            As in ``place``.
        command : sequence of str, optional
            The command line, for the run record.
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
            A ``.parquet``, ``.csv``, ``.jsonl`` or ``.xlsx`` file (the last with the extra ``excel``); a path without a
            suffix is a folder for the page. An ``.html`` file is a self-contained page of up to 20,000 documents, which
            opens from disk without a server or network. In CSV and Excel, nested values are JSON text; in all formats
            but parquet, bytes are hexadecimal digits.
        what : {"points", "text", "clusters", "labels", "page"}, optional
            ``points``: one row per document, with the label of its cluster in each layer; ``text``: ids, clusters and
            the text; ``clusters``: one row per cluster of each layer; ``labels``: the same with positions and hulls, in
            parquet also centroids. By default taken from the file name (``labels.csv``), otherwise the points.
        text : bool
            Add the text of the documents to the points.
        updates : bool
            Add the column ``update`` to the points: the snapshot in which each document was added.

        Returns
        -------
        Path
            The written file or folder.

        Raises
        ------
        ConfigError
            If the suffix is unknown or does not match ``what``.
        RequestError
            If the map exceeds the limits of an ``.xlsx`` or ``.html`` file, or the next update would read the file as
            documents.
        WorkspaceError
            If the folder is not empty, or the map has no page.
        """
        from latentscale.explore.export import export

        return export(self.store, self.record, at_home(to), what=what, text=text, updates=updates)

    def view(self, *, port: int = 0, open_browser: bool = True, block: bool | None = None) -> ServedPage | None:
        """Serve the page of this map over HTTP on the loopback interface.

        Parameters
        ----------
        port : int
            TCP port; 0 picks a free one.
        open_browser : bool
            Open the page in a browser, if blocking.
        block : bool, optional
            True: serve until interrupted. False: serve from a background thread. By default False in a notebook, which
            then shows the page in a frame, and True elsewhere.

        Returns
        -------
        ServedPage or None
            Without blocking, the server: ``address``; ``selection``, the row ids of the documents selected on the page;
            ``documents()``, a frame of them; ``close()`` stops it.
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
        """HTML for notebooks: the thumbnail of the map and its ``repr``."""
        try:
            image = self.store.read_bytes(f"{self.record.folder}/thumbnail.png")
        except LatentScaleError as error:
            # An output cell must show something, even if the map's files are gone.
            return f"<pre>{html.escape(f'{self!r}{chr(10)}{error}')}</pre>"
        data = base64.b64encode(image).decode()
        return (
            f'<figure><img alt="map" src="data:image/png;base64,{data}"><pre>{html.escape(repr(self))}</pre></figure>'
        )
