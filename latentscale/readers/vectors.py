"""Vectors that are not in a list column: numbers written as text, or a separate vector file."""

from __future__ import annotations

import time
import zipfile
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
from numpy.typing import NDArray

from latentscale.config import protocol_of
from latentscale.errors import CorpusError
from latentscale.readers.input_table import InputFile
from latentscale.readers.vector_files import VectorFile, missing_vector_file
from latentscale.readers.vectors_parquet import ParquetVectors

_SETTLED_NS = 2_000_000_000
_NPY_HINT = "Write the vectors of all rows as one array of numbers: np.save(path, np.asarray(vectors, 'float32'))."
_BRACKETS = str.maketrans({"[": " ", "]": " ", "(": " ", ")": " ", ",": " ", ";": " "})


def parse_vector(text: str) -> list[float] | None:
    """Parse a vector written as text: ``[0.1, 0.2]``, ``0.1 0.2`` or ``0.1;0.2``; None for empty text.

    Raises
    ------
    ValueError
        If the text is not a vector.
    """
    if not text.strip():
        return None
    try:
        found = orjson.loads(text)
        if isinstance(found, list) and all(isinstance(number, int | float) for number in found):
            return found
    except orjson.JSONDecodeError:
        pass
    if "..." in text:
        raise ValueError("it was cut when it was written (NumPy shortens long arrays by '...')")
    numbers = [float(number) for number in text.translate(_BRACKETS).split()]
    if len(numbers) == 1 and text.strip()[0] not in "[(":
        raise ValueError("vectors are lists of numbers, and it is one number")
    return numbers


def vectors_of_text(
    column: pa.ChunkedArray, *, name: str, file: str, rows: NDArray[np.int64] | None = None
) -> pa.ChunkedArray:
    """Parse a text column into lists of float64; null and empty text become null.

    Parameters
    ----------
    rows : int64 ndarray, shape (n_rows,), optional
        Row numbers in ``file``, for messages; by default from 0.

    Raises
    ------
    CorpusError
        If a text is not a list of numbers, with its row.
    """
    vectors: list[list[float] | None] = []
    for number, text in enumerate(column.to_pylist()):
        try:
            vectors.append(None if text is None else parse_vector(text))
        except ValueError as error:
            raise CorpusError(
                f"the vector {str(text)[:40]!r} cannot be read: {error}",
                where=f"{file}, row {number if rows is None else int(rows[number])}, column {name}",
                hint="Write vectors as lists of numbers, such as [0.1, 0.2], or keep them in a .npy file: --vectors.",
            ) from error
    return pa.chunked_array([pa.array(vectors, pa.list_(pa.float64()))])


class NumpyVectors(VectorFile):
    """A memory-mapped matrix in a NumPy file.

    Parameters
    ----------
    path : str
        Path of the ``.npy`` file.

    Attributes
    ----------
    matrix : ndarray, shape (n, dim)
        Floats or integers.

    Raises
    ------
    CorpusError
        If there is no such file, or it holds something else.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        try:
            matrix: Any = np.load(path, mmap_mode="r", allow_pickle=False)
        except FileNotFoundError as error:
            raise missing_vector_file(path) from error
        except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
            raise CorpusError(f"{path} is no file of NumPy: {error}", where=path, hint=_NPY_HINT) from error
        if not isinstance(matrix, np.ndarray):
            matrix.close()
            raise CorpusError(f"{path} is an archive of NumPy, not one array", where=path, hint=_NPY_HINT)
        self.matrix: NDArray[Any] = matrix
        if matrix.ndim != 2 or matrix.dtype.kind not in "fiu" or not matrix.shape[1]:
            raise CorpusError(
                f"{path} holds {matrix.dtype} of shape {matrix.shape}, not vectors",
                where=path,
                hint="It must hold numbers of shape (rows, dimensions), one row for each row of the table.",
            )

    def __len__(self) -> int:
        return len(self.matrix)

    def rows(self, places: NDArray[np.int64], *, file: InputFile, ids: pa.ChunkedArray | None = None) -> pa.Array:
        """Return the vectors of the rows ``places`` as lists of float32 of equal length."""
        if len(places) and int(places[-1]) >= len(self):
            raise self.other_count(f"more than {len(self):,}", file)
        width = self.matrix.shape[1]
        with np.errstate(over="ignore"):  # what float32 cannot hold becomes infinite, and is refused with its row
            vectors = np.ascontiguousarray(self.matrix[places], dtype=np.float32)
        return pa.FixedSizeListArray.from_arrays(pa.array(vectors.reshape(-1)), width)


def vector_file(path: str, id_column: str | None = None) -> VectorFile:
    """Open a ``.npy`` or ``.parquet`` file with the vectors of a table.

    Parameters
    ----------
    id_column : str, optional
        Column that identifies a row of the table.

    Raises
    ------
    CorpusError
        If it is remote, missing or not a vector file.
    """
    if protocol_of(path):
        raise CorpusError(
            f"the vectors {path} are not on this machine",
            where="corpus.vectors",
            hint="Copy the file to this machine, or make its rows a column of the table.",
        )
    return ParquetVectors(path, id_column) if path.endswith(".parquet") else NumpyVectors(path)


def vector_file_state(path: str, *, content: bool) -> str:
    """Return the fingerprint of the file: its name with size and modification time, or with a content digest.

    Raises
    ------
    CorpusError
        If it does not exist.
    """
    try:
        status = Path(path).stat()
        if not content:
            return f"{Path(path).name}\0{status.st_size}\0{status.st_mtime_ns}"
        # A file modified just now may change again within the resolution of its modification time.
        settled = time.time_ns() - status.st_mtime_ns > _SETTLED_NS
        digest = _known_digest(path, status.st_size, status.st_mtime_ns) if settled else _content_digest(path)
        return f"{Path(path).name}\0{digest}"
    except FileNotFoundError as error:
        raise missing_vector_file(path) from error
    except OSError as error:
        raise CorpusError(
            f"the file of vectors {path} cannot be read: {error.strerror}",
            where="corpus.vectors",
            hint="Check the file and its permissions.",
        ) from error


# Cached, as a plan needs it several times.
@lru_cache(maxsize=10_000)
def _known_digest(path: str, size: int, modified: int) -> str:
    return _content_digest(path)


def _content_digest(path: str) -> str:
    from latentscale.digest import digest_bytes

    with Path(path).open("rb") as stream:
        return digest_bytes(iter(lambda: stream.read(1 << 22), b""))
