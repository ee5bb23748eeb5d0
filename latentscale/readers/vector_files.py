"""Files with the vectors of a table: their location, and the interface of all formats."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from latentscale.config import protocol_of
from latentscale.errors import CorpusError
from latentscale.readers.input_table import InputFile


def has_file_per_table(path: str) -> bool:
    """Whether ``corpus.vectors`` is a template with one file per table."""
    return "{name}" in path


def vector_file_of(path: str, file: InputFile) -> str:
    """Return the path of a table's vectors: ``{name}`` is the table's name without suffix, ``{folder}`` its folder.

    Raises
    ------
    CorpusError
        If the table is not a file of this machine.
    """
    if not has_file_per_table(path):
        return path
    if file.member or protocol_of(file.url):
        raise CorpusError(
            f"{file.path} is no file of a folder of this machine, and vectors lie beside it",
            where=file.url,
            hint="Copy the corpus to this machine, or make the vectors a column of each table.",
        )
    table = Path(file.url)
    name = Path(table.stem).stem if file.compression != "none" else table.stem
    return path.replace("{folder}", str(table.parent)).replace("{name}", name)


def missing_vector_file(path: str) -> CorpusError:
    """Build the error for a file of vectors that does not exist."""
    return CorpusError(
        f"there is no file of vectors {path}",
        where="corpus.vectors",
        hint="Each table needs one; in a path for several tables, {folder} and {name} are those of the table: "
        "'{folder}/{name}.npy'.",
    )


class VectorFile(ABC):
    """A file with one vector per row of a table, in the same order.

    Attributes
    ----------
    path : str
        Local path.
    """

    path: str

    @abstractmethod
    def __len__(self) -> int:
        """Number of vectors."""

    @abstractmethod
    def rows(self, places: NDArray[np.int64], *, file: InputFile, ids: pa.ChunkedArray | None = None) -> pa.Array:
        """Read the vectors of the rows at ascending ``places``, as lists of float32.

        Parameters
        ----------
        ids : pyarrow.ChunkedArray, optional
            Ids of these rows in the table; compared if the file has ids, too.

        Raises
        ------
        CorpusError
            If there are fewer vectors than rows, or the ids differ.
        """

    def other_count(self, rows: str, file: InputFile) -> CorpusError:
        """Build the error for different numbers of rows and vectors."""
        return CorpusError(
            f"{file.path} has {rows} rows, and {self.path} has {len(self):,} vectors",
            where=file.url,
            hint="The vectors must be those of the rows of this table, in their order; rows without one: all zeros.",
        )
