"""Backup of deleted objects while they are rebuilt, so that a failed repair loses nothing."""

from __future__ import annotations

from latentscale.storage.objects import Store


class ObjectBackup:
    """Contents of objects that were deleted in order to rebuild them.

    Parameters
    ----------
    store : Store
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._contents: dict[str, bytes] = {}

    def remove(self, name: str) -> None:
        """Delete an object, and keep its content until it is rebuilt."""
        if self._store.exists(name):
            self._contents[name] = self._store.read_bytes(name)
            self._store.delete([name])

    def restore(self) -> None:
        """Restore deleted objects that were not rebuilt."""
        for name, data in self._contents.items():
            if not self._store.exists(name):
                self._store.put_bytes(name, data)
        self._contents.clear()
