"""Read existing vectors from a column of the corpus, and validate them row by row."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Self

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from latentscale.config import EmbedConfig
from latentscale.embedders.protocol import Embedded
from latentscale.embedders.spec import EmbedderSpec
from latentscale.errors import ConfigError, CorpusError


@dataclass(frozen=True, slots=True, kw_only=True)
class ColumnVectors:
    """The vectors of a column.

    Attributes
    ----------
    vectors : float32 ndarray, shape (n_rows, dim)
        Unchanged, or L2-normalised if requested; zero where ``embeddable`` is false.
    embeddable : bool ndarray, shape (n_rows,)
        False for null and for a zero vector, which cannot be normalised.
    """

    vectors: NDArray[np.float32]
    embeddable: NDArray[np.bool_]


class ColumnSpec(EmbedderSpec):
    """Spec of vectors in a column of the corpus."""

    kind: Literal["column"] = "column"
    reads: ClassVar[Literal["text", "vectors"]] = "vectors"
    column: str
    """Stored column that contains the vectors."""

    @classmethod
    def from_settings(cls, config: EmbedConfig, *, vectors_column: str | None) -> Self:
        """Make the spec of the column ``corpus.vectors``."""
        if vectors_column is None:
            raise ConfigError(
                "embed.model is 'column', and corpus.vectors names no column",
                where="corpus.vectors",
                hint="Name the column with the vectors: --vectors COLUMN.",
            )
        return cls(column=vectors_column)

    def identity(self) -> Mapping[str, Any]:
        """Return the column name; its values are part of the corpus."""
        return {"model": "column", "column": self.column}

    def open(self, device: str = "cpu") -> Any:
        """Return a reader of the column, which does not embed texts."""
        return ColumnReader(self.column)


class ColumnReader:
    """Reads the vectors of a column.

    Parameters
    ----------
    column : str
        Name of the column, for messages.
    """

    def __init__(self, column: str) -> None:
        self._column = column

    def take(self, column: pa.Array | pa.ChunkedArray, *, file: str) -> Embedded:
        """Return the vectors of a column, L2-normalised."""
        result = column_vectors(column, name=self._column, file=file)
        return Embedded(vectors=result.vectors, embeddable=result.embeddable, tokens=0, unknown=0, truncated=0)


def column_width(kind: pa.DataType, *, name: str) -> int | None:
    """Check that a column of type ``kind`` can contain vectors, before any row is read.

    Returns
    -------
    int or None
        The width, for a fixed-size list.

    Raises
    ------
    CorpusError
        If the type is not a list of numbers.
    """
    is_list = pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)
    item: Any = getattr(kind, "value_type", None)
    if not is_list or not (pa.types.is_floating(item) or pa.types.is_integer(item)):
        raise CorpusError(
            f"column {name!r} is of type {kind}, and vectors are lists of numbers",
            hint="Name the column that holds the vectors, or embed the text instead: embed.model=static.",
        )
    return kind.list_size if isinstance(kind, pa.FixedSizeListType) else None


def column_vectors(
    column: pa.Array | pa.ChunkedArray,
    *,
    name: str,
    dim: int | None = None,
    rows: NDArray[np.int64] | None = None,
    file: str | None = None,
    normalise: bool = True,
) -> ColumnVectors:
    """Convert a list column to a matrix.

    Parameters
    ----------
    column : pyarrow array
        ``list``, ``large_list`` or ``fixed_size_list`` of half, float, double or integers; null rows are allowed.
    name : str
        Name of the column, for messages.
    dim : int, optional
        Required width of all vectors; by default that of the first one.
    rows : int64 ndarray, shape (n_rows,), optional
        Row numbers of ``column`` in ``file``, for messages, where rows may have been left out; by default from 0.
    file : str, optional
        Source of the column, for messages.
    normalise : bool
        L2-normalise each vector.

    Raises
    ------
    CorpusError
        For a type other than lists of numbers, another width, or a null, NaN or infinite element; names the row.
    """
    if pa.types.is_null(column.type):
        # No document of the file has a vector.
        column = column.cast(pa.list_(pa.float32()))
    fixed = column_width(column.type, name=name)
    array: Any = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    if isinstance(array, pa.ChunkedArray):  # older pyarrow returns a chunked array without chunks for zero rows
        array = pa.array([], type=column.type)
    present = np.flatnonzero(_as_numpy(array.is_valid()))
    lengths = np.full(len(present), fixed) if fixed is not None else _as_numpy(array.drop_null().value_lengths())

    def where(position: int) -> str:
        place = int(present[position])
        cell = f"row {place if rows is None else int(rows[place])}, column {name}"
        return f"{file}, {cell}" if file else cell

    width = dim or fixed or (int(lengths[0]) if len(lengths) else 0)
    wrong = np.flatnonzero(lengths != width)
    if len(wrong):
        raise CorpusError(
            f"a vector of {int(lengths[wrong[0]]):,} numbers among vectors of {width:,} ({len(wrong):,} such rows)",
            where=where(int(wrong[0])),
            hint="Every vector must come from one model; set the others to null to leave them out of the map.",
        )
    if width == 0 and len(present):
        raise CorpusError("the vectors are empty", where=where(0), hint=_HINT)

    flat: Any = array.drop_null().flatten() if len(present) else pa.array([], type=array.type.value_type)
    if flat.null_count:
        at = int(np.flatnonzero(_as_numpy(flat.is_null()))[0]) // width
        raise CorpusError("a vector with a null in it", where=where(at), hint=_HINT)
    numbers = _as_numpy(flat).reshape(len(present), max(width, 1) if len(present) else width)
    with np.errstate(over="ignore"):  # overflow to infinity is reported below
        values = numbers.astype(np.float32)
    finite = np.isfinite(values).all(axis=1)
    if not finite.all():
        at = int(np.flatnonzero(~finite)[0])
        raise CorpusError(
            f"a vector with NaN, infinity or a number that float32 cannot hold ({int((~finite).sum()):,} such rows)",
            where=where(at),
            hint=_HINT,
        )
    norms = np.sqrt(np.einsum("ij,ij->i", values, values, dtype=np.float64))
    nonzero = norms > 0
    if normalise:
        values = np.divide(values, norms[:, None], where=nonzero[:, None], out=values, casting="same_kind")

    vectors = np.zeros((len(array), width), dtype=np.float32)
    embeddable = np.zeros(len(array), dtype=np.bool_)
    vectors[present] = values
    embeddable[present] = nonzero
    return ColumnVectors(vectors=vectors, embeddable=embeddable)


_HINT = "Set such a vector to null to leave its document out of the map, or compute it again."


def _as_numpy(array: Any) -> NDArray[Any]:
    return np.asarray(array.to_numpy(zero_copy_only=False))
