"""What a file of vectors beside a table is, in whatever format, and where it lies."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from latentscale.config import protocol_of
from latentscale.errors import CorpusError
from latentscale.readers.input_table import InputFile


def is_one_for_each(path: str) -> bool:
    """Whether ``corpus.vectors`` names a file for each table."""
    return "{name}" in path


def beside(path: str, file: InputFile) -> str:
    """The file of vectors of a table: ``{name}`` is the table's name without suffix, ``{folder}`` its folder.

    Raises
    ------
    CorpusError
        If the table is not a file of this machine.
    """
    if not is_one_for_each(path):
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


class VectorFile(ABC):
    """Vectors in a file beside the corpus's only table, one for each of its rows, in their order.

    Attributes
    ----------
    path : str
        On this machine.
    """

    path: str

    @abstractmethod
    def __len__(self) -> int:
        """Number of vectors."""

    @abstractmethod
    def rows(self, places: NDArray[np.int64], *, file: InputFile, ids: pa.ChunkedArray | None = None) -> pa.Array:
        """The vectors of some rows of the table, at ascending ``places``, as lists of float32.

        Parameters
        ----------
        ids : pyarrow.ChunkedArray, optional
            What identifies these rows in the table; compared where the file knows it too.

        Raises
        ------
        CorpusError
            If there are fewer vectors than rows, or they are of other rows.
        """

    def other_count(self, rows: str, file: InputFile) -> CorpusError:
        """Build the error for a table that has not as many rows as there are vectors."""
        return CorpusError(
            f"{file.path} has {rows} rows, and {Path(self.path).name} has {len(self):,} vectors",
            where=file.url,
            hint="The vectors must be those of the rows of this table, in their order; rows without one: all zeros.",
        )
