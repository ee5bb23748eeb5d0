"""The page of a map in a notebook: served by a thread of this process, shown in a frame."""

from __future__ import annotations

import html
import tempfile
import threading
from pathlib import Path

import polars as pl

from latentscale.errors import WorkspaceError
from latentscale.explore.export import export
from latentscale.explore.page_selection import PageSelection
from latentscale.explore.serve import PageServer
from latentscale.storage.artifacts import Record
from latentscale.storage.head import current_map, read_head
from latentscale.storage.objects import Store

HEIGHT = 640


class ServedPage:
    """A page that a thread serves on loopback until ``close`` or the end of the process.

    Attributes
    ----------
    address : str
        Its URL on this machine: the browser must run there, or the port be forwarded.
    store : Store
        Of the map's workspace.
    record : Record or None
        The map; None for the current one.
    """

    def __init__(self, store: Store, record: Record | None, *, port: int = 0) -> None:
        self.store, self.record = store, record
        self._selection = PageSelection()
        served, self._folder = page_store(store, record)
        self._server = PageServer(served, port=port, selection=self._selection)
        self.address = self._server.address
        threading.Thread(target=self._server.serve_forever, name="latentscale-page", daemon=True).start()

    @property
    def selection(self) -> list[int]:
        """Row ids, ascending, of the documents that were selected last on the page; empty where none is.

        By a box, a lasso, a cluster, a search or a tag: what the page shows as selected. Until something is selected
        there it is empty.

        Raises
        ------
        RequestError
            If more than a million documents are selected.
        """
        return self._selection.row_ids()

    def documents(self) -> pl.DataFrame:
        """The documents that are selected on the page, with the columns of ``Map.documents``, by ``row_id``.

        Raises
        ------
        RequestError
            If more than a million documents are selected.
        WorkspaceError
            If the page is that of the current map, and there is none any more.
        """
        from latentscale.explore.tables import scan_documents

        chosen = pl.col("row_id").is_in(self.selection)
        record = self.record or current_map(self.store)
        if record is None:
            raise WorkspaceError(
                f"{self.store.url} has no current map any more", hint="latentscale promote WORKSPACE MAP"
            )
        return scan_documents(self.store, record).filter(chosen).collect().sort("row_id")

    def close(self) -> None:
        """End the server."""
        self._server.shutdown()
        self._server.server_close()
        if self._folder is not None:
            self._folder.cleanup()

    def __repr__(self) -> str:
        return f"<ServedPage {self.address}>"

    def _repr_html_(self) -> str:
        address = html.escape(self.address, quote=True)
        return (
            f'<iframe src="{address}" width="100%" height="{HEIGHT}" style="border:0" allowfullscreen></iframe>'
            f'<div><a href="{address}" target="_blank" rel="noopener">{address}</a></div>'
        )


def page_store(store: Store, record: Record | None) -> tuple[Store, tempfile.TemporaryDirectory[str] | None]:
    """What to serve to see a map: its workspace where it is the current map, else a copy of its page.

    The page of a workspace shows its current map.
    """
    if record is None or (store.is_local and read_head(store) == record.id):
        return store, None
    folder = tempfile.TemporaryDirectory(prefix="latentscale-page-")
    export(store, record, Path(folder.name, "page"))
    return Store(str(Path(folder.name, "page"))), folder
