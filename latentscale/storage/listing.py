"""A listing of a store in columnar form: a million objects take about a hundred megabytes."""

from __future__ import annotations

from collections.abc import ItemsView, Iterable, Iterator, Mapping, ValuesView

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from latentscale.storage.columns import BATCH, ColumnType, ascending, gather, indices
from latentscale.storage.remote.protocol import ObjectInfo

_COLUMNS: Mapping[str, ColumnType] = {"name": "string", "size": "int64", "version": "string", "modified": "float64"}


class Listing(Mapping[str, ObjectInfo]):
    """A mapping of object names, ascending, to object infos, which are created on access.

    Attributes
    ----------
    names : pyarrow.LargeStringArray, shape (n,)
    sizes : int64 ndarray, shape (n,)
        Bytes.

    Parameters
    ----------
    brief : bool
        Without versions and times, which takes a third of the memory.
    """

    def __init__(self, infos: Iterable[ObjectInfo] = (), *, brief: bool = False) -> None:
        rows = (
            (info.name, info.size, "" if brief else info.version, _number(None if brief else info.modified))
            for info in infos
        )
        columns = gather(rows, _COLUMNS)
        self.names: pa.LargeStringArray = columns["name"]
        self.sizes: NDArray[np.int64] = columns["size"]
        self._versions: pa.LargeStringArray = columns["version"]
        self._modified: NDArray[np.float64] = columns["modified"]
        del columns
        order = ascending(self.names)
        if np.any(order[1:] < order[:-1]):
            self.names, self._versions = self.names.take(indices(order)), self._versions.take(indices(order))
            self.sizes, self._modified = self.sizes[order], self._modified[order]

    def __len__(self) -> int:
        return len(self.sizes)

    def __iter__(self) -> Iterator[str]:
        for start in range(0, len(self), BATCH):
            yield from self.names.slice(start, BATCH).to_pylist()

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and self._position(name) is not None

    def __getitem__(self, name: str) -> ObjectInfo:
        position = self._position(name)
        if position is None:
            raise KeyError(name)
        return self._at(position, name)

    def items(self) -> ItemsView[str, ObjectInfo]:
        """Items, without copies."""
        return _Items(self)

    def values(self) -> ValuesView[ObjectInfo]:
        """Object infos, in order of names."""
        return _Values(self)

    def rows(self) -> Iterator[ObjectInfo]:
        """Object infos, in order of names."""
        for position, name in enumerate(self):
            yield self._at(position, name)

    def _at(self, position: int, name: str) -> ObjectInfo:
        modified = float(self._modified[position])
        return ObjectInfo(
            name=name,
            size=int(self.sizes[position]),
            version=str(self._versions[position]),
            modified=None if np.isnan(modified) else modified,
        )

    def _position(self, name: str) -> int | None:
        low, high = 0, len(self)
        while low < high:
            middle = (low + high) // 2
            if str(self.names[middle]) < name:
                low = middle + 1
            else:
                high = middle
        return low if low < len(self) and str(self.names[low]) == name else None


def _number(value: float | None) -> float:
    return float("nan") if value is None else value


class _Items(ItemsView[str, ObjectInfo]):
    _mapping: Listing

    def __iter__(self) -> Iterator[tuple[str, ObjectInfo]]:
        return ((info.name, info) for info in self._mapping.rows())


class _Values(ValuesView[ObjectInfo]):
    _mapping: Listing

    def __iter__(self) -> Iterator[ObjectInfo]:
        return self._mapping.rows()
