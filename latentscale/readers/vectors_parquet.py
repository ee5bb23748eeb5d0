"""Stream the vectors of a table from a list column of a separate parquet file, one vector per row."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from latentscale.config.text import shown
from latentscale.errors import CorpusError, name_list
from latentscale.readers.input_table import InputFile
from latentscale.readers.vector_files import VectorFile, missing_vector_file

_BATCH_ROWS = 8_192


class ParquetVectors(VectorFile):
    """The only column of lists of numbers of a parquet file.

    Parameters
    ----------
    path : str
    id_column : str, optional
        Column that identifies a row of the table; if the file has it too, values must be equal row by row.

    Raises
    ------
    CorpusError
        If the file is missing or damaged, or does not have exactly one such column.
    """

    def __init__(self, path: str, id_column: str | None = None) -> None:
        self.path = path
        try:
            self._file = pq.ParquetFile(path)
        except FileNotFoundError as error:
            raise missing_vector_file(path) from error
        except (OSError, pa.ArrowInvalid) as error:
            raise CorpusError(
                f"{path} is no file of parquet: {error}", where=path, hint="Write it again, or copy it completely."
            ) from error
        schema = self._file.schema_arrow
        columns = [field.name for field in schema if _is_vector(field.type)]
        if len(columns) != 1:
            there = f"the columns {name_list(columns)} with vectors" if columns else "no column of lists of numbers"
            raise CorpusError(
                f"{path} has {there}, and one is needed",
                where="corpus.vectors",
                hint="Write the vectors as the only list column, one row for each row of the table.",
            )
        self._column = columns[0]
        self._id = id_column if id_column in schema.names else None
        sizes = [self._file.metadata.row_group(i).num_rows for i in range(self._file.metadata.num_row_groups)]
        self._starts = np.cumsum([0, *sizes])
        self._batches: Iterator[Any] = iter(())
        self._current: Any = None
        self._first = self._end = 0

    def __len__(self) -> int:
        return int(self._starts[-1])

    def rows(self, places: NDArray[np.int64], *, file: InputFile, ids: pa.ChunkedArray | None = None) -> pa.Array:
        """Return the vectors of the rows ``places`` as lists of float32; null where the file has null."""
        if len(places) and int(places[-1]) >= len(self):
            raise self.other_count(f"more than {len(self):,}", file)
        taken: list[Any] = []
        left = places
        while len(left):
            self._load_batch(int(left[0]))
            here = int(np.searchsorted(left, self._end))
            taken.append(self._current.take(pa.array(left[:here] - self._first)))
            left = left[here:]
        if self._id is not None and ids is not None and taken:
            self._compare([batch.column(self._id) for batch in taken], ids, places, file)
        kind = pa.list_(pa.float32())
        # Not exact for whole numbers above 2**24, as in a column of the corpus.
        pieces = [batch.column(self._column).cast(kind, safe=False) for batch in taken]
        return pa.concat_arrays(pieces) if pieces else pa.array([], kind)

    def _compare(self, here: list[pa.Array], ids: pa.ChunkedArray, places: NDArray[np.int64], file: InputFile) -> None:
        """Reject vectors whose ids differ from those of the rows, such as in another order."""
        ours, theirs = (column.cast(pa.string()).to_pylist() for column in (pa.chunked_array(here), ids))
        for place, our, their in zip(places.tolist(), ours, theirs, strict=True):
            if our != their:
                raise CorpusError(
                    f"row {place} of {file.path} has the {self._id} {shown(str(their))}, and the vector of that row in "
                    f"{self.path} the {self._id} {shown(str(our))}",
                    where=file.url,
                    hint="Write the vectors in the order of the rows, one for each, none twice.",
                )

    def _load_batch(self, place: int) -> None:
        """Load the batch with a row; usually each batch is read once, as rows are requested in order."""
        if self._current is None or place < self._first:
            group = int(np.searchsorted(self._starts, place, side="right")) - 1
            groups = range(group, len(self._starts) - 1)
            columns = [self._column, *([self._id] if self._id else [])]
            self._batches = self._file.iter_batches(_BATCH_ROWS, row_groups=groups, columns=columns)
            self._first = self._end = int(self._starts[group])
            self._current = None
        while self._current is None or place >= self._end:
            self._current = next(self._batches)
            self._first, self._end = self._end, self._end + self._current.num_rows


def _is_vector(kind: pa.DataType) -> bool:
    listed = pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)
    item: Any = getattr(kind, "value_type", None)
    return listed and (pa.types.is_floating(item) or pa.types.is_integer(item))
