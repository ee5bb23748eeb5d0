"""Overlays: documents that were placed on a map without being added to it."""

from __future__ import annotations

from pathlib import Path

import polars as pl

from latentscale.explore.rejects import read_rejects
from latentscale.file_names import at_home
from latentscale.storage.artifacts import Record
from latentscale.storage.frames import scan_parts
from latentscale.storage.objects import Store
from latentscale.storage.snapshots import read_snapshot


class Overlay:
    """A corpus placed on a map: positions and clusters of its documents.

    Parameters
    ----------
    store : Store
        The workspace of the placed documents.
    record : Record

    Attributes
    ----------
    store : Store
    record : Record
        ``counts``: ``documents``, ``noise``, ``far`` (documents farther from the map's documents than 95 % of these are
        from each other) and ``recall`` (the lowest of the neighbour searches); ``request`` has the ``map`` and its
        ``workspace``.
    """

    def __init__(self, store: Store, record: Record) -> None:
        self.store = store
        self.record = record

    @property
    def id(self) -> str:
        """The id of the overlay, ``overlay-<hex>``."""
        return self.record.id

    @property
    def url(self) -> str:
        """URL or path of the folder with the points as parquet."""
        return f"{self.store.url}/{self.record.folder}/points"

    def points(self) -> pl.LazyFrame:
        """The placed documents with their positions, clusters and source columns, as in ``Map.points``.

        Returns
        -------
        polars.LazyFrame
            ``row_id`` (in the overlay's workspace, not the map's), ``x``, ``y`` (``z``), ``cluster``,
            ``nearest_cluster``, ``probability``, ``density``, ``layer_<n>``, ``label``, ``neighbor_distance``,
            ``outlier_score``, ``source``, ``source_row`` and the source columns; one row per document.
        """
        parts = [part.name for part in self.record.parts if part.name.startswith("points/")]
        return scan_parts(self.store, [f"{self.record.folder}/{name}" for name in parts])

    def export_page(self, to: str | Path) -> Path:
        """Write a copy of the map's page that also shows the placed documents.

        Parameters
        ----------
        to : str or Path
            A new or empty folder, which any static web server can serve.

        Returns
        -------
        Path
            The page to open; it colours documents by the column ``from`` (``map`` or ``placed``).

        Raises
        ------
        WorkspaceError
            If the folder is not empty, the map or its page does not exist, or no document was placed.
        """
        from latentscale.explore.overlay_page import write_overlay_page

        return write_overlay_page(self.store, self.record, at_home(to))

    def rejects(self) -> pl.DataFrame:
        """The rejected rows of the placed corpus, with the reasons; columns as in ``Workspace.rejects``."""
        request = self.record.request
        return read_rejects(self.store, read_snapshot(self.store, str(request["snapshot"])), request["embedding"])

    def __repr__(self) -> str:
        counts = self.record.counts
        return (
            f"<Overlay {self.id} on {self.record.request['map']}\n"
            f"  documents {counts['documents']:,} · noise {counts['noise']:,} · far from the map {counts['far']:,}\n"
            f"  {self.url}>"
        )
