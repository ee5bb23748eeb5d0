"""Objects that are set aside while they are made again, so that a repair that fails loses nothing."""

from __future__ import annotations

from latentscale.storage.objects import Store


class Aside:
    """What objects held that were deleted to be made again.

    Parameters
    ----------
    store : Store
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._held: dict[str, bytes] = {}

    def put(self, name: str) -> None:
        """Delete an object, and keep what it held until it is made again."""
        if self._store.exists(name):
            self._held[name] = self._store.read_bytes(name)
            self._store.delete([name])

    def put_back(self) -> None:
        """Put back what was set aside and not made again."""
        for name, data in self._held.items():
            if not self._store.exists(name):
                self._store.put_bytes(name, data)
        self._held.clear()
