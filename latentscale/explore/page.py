"""The page of a map in a notebook: served by a thread of this process, shown in a frame."""

from __future__ import annotations

import html
import tempfile
import threading
from pathlib import Path

from latentscale.explore.export import export
from latentscale.explore.serve import PageServer
from latentscale.storage.artifacts import Record
from latentscale.storage.head import read_head
from latentscale.storage.objects import Store

HEIGHT = 640


class ServedPage:
    """A page that a thread serves on loopback until ``close`` or the end of the process.

    Attributes
    ----------
    address : str
        Its URL on this machine: the browser must run there, or the port be forwarded.
    """

    def __init__(self, store: Store, *, port: int = 0, folder: tempfile.TemporaryDirectory[str] | None = None) -> None:
        self._server = PageServer(store, port=port)
        self._folder = folder
        self.address = self._server.address
        threading.Thread(target=self._server.serve_forever, name="latentscale-page", daemon=True).start()

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


def serve_in_thread(store: Store, record: Record | None, *, port: int = 0) -> ServedPage:
    """Serve the page of a map, or of the current one, in a thread."""
    served, folder = page_store(store, record)
    return ServedPage(served, port=port, folder=folder)
