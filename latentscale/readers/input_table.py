"""The inputs of a corpus in columnar form: a million files take about a hundred megabytes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args, overload

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from latentscale.storage.columns import BATCH, ColumnType, ascending, gather, indices

Format = Literal["parquet", "csv", "tsv", "jsonl", "lines", "files", "json", "arrow", "excel", "lance"]
Compression = Literal["none", "gzip", "zstd", "bzip2", "xz"]

FORMATS: tuple[Format, ...] = get_args(Format)
COMPRESSIONS: tuple[Compression, ...] = get_args(Compression)

_COLUMNS: Mapping[str, ColumnType] = {
    "root": "int32",
    "rest": "string",
    "size": "int64",
    "version": "string",
    "format": "int8",
    "compression": "int8",
    "member": "string",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class InputFile:
    """One file of the corpus.

    Attributes
    ----------
    url : str
        Local path or fsspec URL.
    path : str
        Path relative to its source: its stable identity, and the ``source`` of its documents.
    size : int
        Bytes.
    version : str
        ETag, or the modification time.
    format : {"parquet", "csv", "tsv", "jsonl", "lines", "files", "json", "arrow", "excel", "lance"}
    compression : {"none", "gzip", "zstd", "bzip2", "xz"}
    member : str
        Name in the .zip archive at ``url``, to which size and version apply; empty for other files.
    """

    url: str
    path: str
    size: int
    version: str
    format: Format
    compression: Compression
    member: str = ""

    def as_json(self) -> dict[str, Any]:
        """Return the fields as plain values, omitting an empty ``member``."""
        return {name: value for name, value in asdict(self).items() if name != "member" or value}


class InputTable(Sequence[InputFile]):
    """A sequence of input files, whose items are created on access.

    Attributes
    ----------
    sizes : int64 ndarray, shape (n,)
        Bytes.
    formats, compressions : int8 ndarray, shape (n,)
        Indices into ``FORMATS`` and ``COMPRESSIONS``.
    paths, versions : pyarrow.LargeStringArray, shape (n,)
    """

    def __init__(self, files: Iterable[InputFile] = ()) -> None:
        roots: dict[str, int] = {}
        elsewhere: dict[int, str] = {}
        rows = (_row(position, file, roots, elsewhere) for position, file in enumerate(files))
        columns = gather(rows, _COLUMNS)
        self._roots = list(roots)
        self._root: NDArray[np.int32] = columns["root"]
        self._rests: pa.LargeStringArray = columns["rest"]
        self.paths = self._rests
        if elsewhere:
            paths: list[str] = self._rests.to_pylist()
            for position, path in elsewhere.items():
                paths[position] = path
            self.paths = pa.array(paths, pa.large_string())
        self.sizes: NDArray[np.int64] = columns["size"]
        self.versions: pa.LargeStringArray = columns["version"]
        self.formats: NDArray[np.int8] = columns["format"]
        self.compressions: NDArray[np.int8] = columns["compression"]
        self._members: pa.LargeStringArray = columns["member"]

    @property
    def roots(self) -> Sequence[str]:
        """The distinct prefixes of the files' URLs before their paths."""
        return self._roots

    def __len__(self) -> int:
        return len(self.sizes)

    @overload
    def __getitem__(self, index: int) -> InputFile: ...
    @overload
    def __getitem__(self, index: slice) -> InputTable: ...
    def __getitem__(self, index: int | slice) -> InputFile | InputTable:
        if isinstance(index, slice):
            return self.take(np.arange(*index.indices(len(self))))
        position = range(len(self))[index]
        texts = (self._rests, self.paths, self.versions, self._members)
        return self._file(position, *(str(column[position]) for column in texts))

    def __iter__(self) -> Iterator[InputFile]:
        for start in range(0, len(self), BATCH):
            rests = self._rests.slice(start, BATCH).to_pylist()
            paths = rests if self.paths is self._rests else self.paths.slice(start, BATCH).to_pylist()
            versions = self.versions.slice(start, BATCH).to_pylist()
            members = self._members.slice(start, BATCH).to_pylist()
            for offset, texts in enumerate(zip(rests, paths, versions, members, strict=True)):
                yield self._file(start + offset, *texts)

    def _file(self, position: int, rest: str, path: str, version: str, member: str) -> InputFile:
        return InputFile(
            url=self._roots[self._root[position]] + rest,
            path=path,
            size=int(self.sizes[position]),
            version=version,
            format=FORMATS[self.formats[position]],
            compression=COMPRESSIONS[self.compressions[position]],
            member=member,
        )

    @property
    def in_archives(self) -> NDArray[np.bool_]:
        """Whether each file is a member of an archive (bool, shape (n,))."""
        return np.asarray(pc.call_function("not_equal", [self._members, ""]), dtype=bool)

    def take(self, positions: NDArray[Any]) -> InputTable:
        """Select files by position, in that order."""
        chosen = indices(positions)
        selected = InputTable()
        selected._roots = self._roots
        selected._root = self._root[positions]
        selected._rests = self._rests.take(chosen)
        selected.paths = selected._rests if self.paths is self._rests else self.paths.take(chosen)
        selected.sizes = self.sizes[positions]
        selected.versions = self.versions.take(chosen)
        selected.formats = self.formats[positions]
        selected.compressions = self.compressions[positions]
        selected._members = self._members.take(chosen)
        return selected

    def by_path(self) -> InputTable:
        """Return the files sorted by path."""
        order = ascending(self.paths)
        return self if bool(np.all(order[1:] > order[:-1])) else self.take(order.astype(np.int64))

    def with_paths(self, paths: Sequence[str]) -> InputTable:
        """Return the files with other paths."""
        renamed = self.take(np.arange(len(self)))
        renamed.paths = pa.array(paths, pa.large_string())
        return renamed

    @staticmethod
    def concat(tables: Sequence[InputTable]) -> InputTable:
        """Concatenate tables."""
        if len(tables) == 1:
            return tables[0]
        joined = InputTable()
        shifts = np.cumsum([0, *(len(table._roots) for table in tables)])
        joined._roots = [root for table in tables for root in table._roots]
        joined._root = np.concatenate(
            [joined._root, *(table._root + shift for table, shift in zip(tables, shifts[:-1], strict=True))]
        ).astype(np.int32)
        joined._rests = pa.concat_arrays([joined._rests, *(table._rests for table in tables)])
        joined.paths = pa.concat_arrays([joined.paths, *(table.paths for table in tables)])
        joined.versions = pa.concat_arrays([joined.versions, *(table.versions for table in tables)])
        joined.sizes = np.concatenate([joined.sizes, *(table.sizes for table in tables)])
        joined.formats = np.concatenate([joined.formats, *(table.formats for table in tables)])
        joined.compressions = np.concatenate([joined.compressions, *(table.compressions for table in tables)])
        joined._members = pa.concat_arrays([joined._members, *(table._members for table in tables)])
        return joined


def _row(position: int, file: InputFile, roots: dict[str, int], elsewhere: dict[int, str]) -> tuple[Any, ...]:
    # Nearly all URLs are the source's URL followed by the path.
    rest = file.path
    if not file.url.endswith(rest):
        elsewhere[position] = rest
        rest = ""
    root = roots.setdefault(file.url[: len(file.url) - len(rest)], len(roots))
    kinds = (FORMATS.index(file.format), COMPRESSIONS.index(file.compression))
    return (root, rest, file.size, file.version, *kinds, file.member)
