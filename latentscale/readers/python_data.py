"""In-memory data as a corpus: texts, data frames and batches, optionally with vectors."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from latentscale.errors import RequestError, shortened
from latentscale.readers.frames import as_table, spool_frame
from latentscale.readers.sources import are_files, files_of
from latentscale.storage.objects import Store


@dataclass(frozen=True, slots=True, kw_only=True)
class ResolvedCorpus:
    """A corpus in the form of settings.

    Attributes
    ----------
    sources : list of str
        Paths and URLs; in-memory data has been written to the workspace. Empty if ``keep`` selected no row.
    vectors : str or None
        Column with the vectors that were passed with the documents.
    """

    sources: list[str]
    vectors: str | None = None


VECTORS = "vectors"
TEXT = "text"
_BATCH = 8_192


def resolve_corpus(
    corpus: Any,
    store: Store,
    *,
    texts: Any = None,
    vectors: Any = None,
    vectors_name: str | None = None,
    keep: Callable[[Path], Path | None] = lambda path: path,
    check: Callable[[str], None] = lambda name: None,
) -> ResolvedCorpus:
    """Resolve a corpus argument: paths are kept, in-memory data is written to ``uploads/``.

    Parameters
    ----------
    corpus : path, list of paths, texts, frame or iterator, or None
    texts : list of str, optional
        Instead of ``corpus``: always texts, never paths.
    vectors : array, shape (n, d), optional
    vectors_name : str, optional
        Name of their column, if the workspace has one.
    keep, check : callable, optional
        As in ``spool_frame``.

    Raises
    ------
    RequestError
        If it is no valid corpus, or the vectors do not match it.
    """
    if (corpus is None) == (texts is None):
        what = "no corpus was given" if corpus is None else "a corpus and texts= were given"
        raise RequestError(what, hint="Give one: paths, a frame, a list of texts, or texts=[…].")
    if texts is not None:
        data = text_table(as_texts(texts))
    elif are_files(corpus):
        if vectors is not None:
            raise RequestError(
                "vectors= goes with data of this program, and the corpus is files",
                hint="Name the column that holds them: corpus={'vectors': COLUMN}, embed={'model': 'column'}.",
            )
        return ResolvedCorpus(sources=files_of(corpus))
    else:
        data = text_table(as_texts(corpus)) if is_text_column(corpus) or _is_text_list(corpus) else corpus
    data = _with_index(data)
    column = None
    if vectors is not None:
        data, column = with_vectors(data, as_vectors(vectors), name=vectors_name)
    source = spool_frame(data, store, keep=keep, check=check)
    return ResolvedCorpus(sources=[] if source is None else [source], vectors=column)


def _with_index(data: Any) -> Any:
    """Turn a named index of a pandas frame into columns: it is data, and often the id."""
    if type(data).__module__.split(".")[0] != "pandas" or not hasattr(data, "columns"):
        return data
    names = [name for name in data.index.names if name is not None]
    if not names or len(names) < data.index.nlevels or any(name in data.columns for name in names):
        return data
    return data.reset_index()


def as_texts(texts: Any) -> list[str | None]:
    """Check a list of texts: strings, or None for a document without one, which is rejected.

    Raises
    ------
    RequestError
        Naming the first item that is something else.
    """
    if isinstance(texts, str | bytes | Mapping) or not isinstance(texts, Iterable):
        raise RequestError(f"texts is {_kind(texts)}, not a list of strings", hint="texts=[…], one string a document.")
    given: Any = texts
    values: Iterable[Any] = given.to_pylist() if isinstance(given, pa.Array | pa.ChunkedArray) else given
    items = [None if _is_missing(item) else item for item in values]
    for number, item in enumerate(items):
        if item is not None and not isinstance(item, str):
            raise RequestError(
                f"text {number} is {_kind(item)}, not a string",
                hint="For a frame or a list of mappings leave out texts= and name the column: text='…'.",
            )
    if not items:
        raise RequestError("the corpus holds nothing", hint="Give at least one text.")
    return items


def is_text_column(data: Any) -> bool:
    """Whether data is one column of texts: a pandas or polars Series, or an array, of strings."""
    module = type(data).__module__.split(".")[0]
    if isinstance(data, np.ndarray):
        return data.ndim == 1 and data.dtype.kind in "UTO"
    if module in ("pandas", "polars") and type(data).__name__ == "Series":
        return True
    return isinstance(data, pa.Array | pa.ChunkedArray)


def _is_text_list(data: Any) -> bool:
    if not isinstance(data, list | tuple):
        return False
    items = cast("list[Any]", data)
    return any(isinstance(item, str) for item in items) and all(item is None or isinstance(item, str) for item in items)


def as_vectors(vectors: Any) -> NDArray[np.float32]:
    """Check vectors that come beside the documents.

    Parameters
    ----------
    vectors : array, shape (n, d), or column of n lists of d numbers
        Of floats or integers: anything that numpy reads as an array, a tensor, or a Series of pandas or polars, an
        Arrow or an object array of lists. A list that is null, or None, means a document without a vector.

    Returns
    -------
    float32 ndarray, shape (n, d)
        Zero where there is no vector.

    Raises
    ------
    RequestError
        If it has another shape or type, or holds masked values, NaN, infinity or a number that float32 cannot hold.
    CorpusError
        If the lists of a column are of different lengths, or hold such a value; it names the row.
    """
    if isinstance(vectors, np.ma.MaskedArray) and np.ma.is_masked(vectors):
        masked = np.flatnonzero(np.ma.getmaskarray(vectors).reshape(len(vectors), -1).any(axis=1))
        raise RequestError(
            f"vectors: row {int(masked[0]):,} holds masked values ({len(masked):,} such rows)",
            hint="Fill them: vectors.filled(0). A row of zeros means: no vector.",
        )
    if (column := _list_column(vectors)) is not None:
        return _column_matrix(column)
    try:
        array = np.asarray(plain_array(vectors))
    except (TypeError, ValueError, RuntimeError) as error:  # of numpy, and of libraries of tensors
        if isinstance(vectors, list | tuple):
            # Of different lengths, or with None: as a column, whose errors name the row.
            return _column_matrix(cast("list[Any]", vectors))
        raise RequestError(f"vectors: {shortened(' '.join(str(error).split()), 300)}", hint=_VECTORS_HINT) from None
    if array.ndim != 2 or array.shape[1] == 0:
        raise RequestError(f"vectors has the shape {array.shape}, not (documents, width)", hint=_VECTORS_HINT)
    if array.dtype.kind not in "fiu":
        raise RequestError(f"vectors has the type {array.dtype}, and vectors are numbers", hint=_VECTORS_HINT)
    with np.errstate(over="ignore"):  # what float32 cannot hold becomes infinite, and is refused
        array = np.ascontiguousarray(array, dtype=np.float32)
    # The sums of rows are finite where their values are, and take no second matrix.
    wrong = np.flatnonzero(~np.isfinite(array).all(axis=1))
    if len(wrong):
        raise RequestError(
            f"vectors: row {int(wrong[0]):,} holds NaN, infinity or a number that float32 cannot hold "
            f"({len(wrong):,} such rows)",
            hint="Compute them again, or leave these documents out. A row of zeros means: no vector.",
        )
    return array


def plain_array(vectors: Any) -> Any:
    """A tensor of torch, or a list of them, as numpy can read it: without gradients, in main memory, no bfloat16."""
    if isinstance(vectors, list | tuple):
        items = cast("list[Any]", vectors)
        return [plain_array(item) for item in items] if items and hasattr(items[0], "detach") else items
    if not (hasattr(vectors, "detach") and hasattr(vectors, "is_floating_point")):
        return vectors
    tensor = vectors.detach().cpu()
    return tensor.float() if tensor.is_floating_point() else tensor


def _list_column(vectors: Any) -> Any:
    """The values of a column, which numpy would read as objects of no width; None for anything else."""
    module = type(vectors).__module__.split(".")[0]
    if isinstance(vectors, pa.Array | pa.ChunkedArray):
        return vectors
    if module == "polars" and type(vectors).__name__ == "Series":
        return vectors.to_list() if str(vectors.dtype).startswith("Object") else vectors.to_arrow()
    if module == "pandas" and type(vectors).__name__ == "Series":
        return [None if _is_missing(item) else item for item in vectors]
    if isinstance(vectors, np.ndarray) and vectors.ndim == 1 and vectors.dtype == object:
        return list(vectors)
    return None


def _column_matrix(column: Any) -> NDArray[np.float32]:
    """The matrix of a column of lists; a row of zeros where there is none."""
    from latentscale.embedders.column import column_vectors

    try:
        values: Any = column if isinstance(column, pa.Array | pa.ChunkedArray) else pa.array(column)
        if isinstance(values.type, pa.BaseExtensionType):
            values = values.cast(values.type.storage_type)
    except (pa.ArrowException, TypeError, ValueError, RuntimeError) as error:
        raise RequestError(f"vectors: {shortened(' '.join(str(error).split()), 300)}", hint=_VECTORS_HINT) from None
    found = column_vectors(values, name=VECTORS, normalise=False).vectors
    if not found.shape[1]:
        raise RequestError(f"vectors has the shape {found.shape}, not (documents, width)", hint=_VECTORS_HINT)
    return found


_VECTORS_HINT = "Give one row of numbers a document: a float array of shape (documents, width)."


def with_vectors(data: Any, vectors: NDArray[np.float32], *, name: str | None = None) -> tuple[Any, str]:
    """Data with its vectors in a column.

    Parameters
    ----------
    data : frame, list of texts or mappings, or iterator of batches
    vectors : float32 ndarray, shape (n, d)
    name : str, optional
        Of the column; by default one that the data does not have.

    Returns
    -------
    data, name
        What ``spool_frame`` takes, and the name of the column.

    Raises
    ------
    RequestError
        If the numbers of documents and vectors differ, at the latest when an iterator ends.
    """
    table = None if isinstance(data, list | tuple | pa.RecordBatchReader) else as_table(data)
    if table is not None:
        _check_length(table.num_rows, vectors)
        chosen = _free_name(table.column_names, name)
        return table.append_column(chosen, _column(vectors)), chosen
    if not isinstance(data, list | tuple) and hasattr(data, "__arrow_c_stream__"):
        data = pa.RecordBatchReader.from_stream(data)
    if not isinstance(data, Iterable):
        return data, _free_name([], name)  # refused by the reader of frames
    if isinstance(data, list | tuple) and isinstance(next(iter(cast("list[Any]", data)), None), str | Mapping):
        _check_length(len(cast("list[Any]", data)), vectors)
    items = iter(cast("Iterable[Any]", data))
    first = next(items, None)
    if first is None:
        raise RequestError("the corpus holds nothing", hint="Give at least one row.")
    everything = itertools.chain([first], items)
    if isinstance(first, str):
        chosen = _free_name([TEXT], name)
        return _batches(_text_batches(everything), vectors, chosen), chosen
    if isinstance(first, Mapping):
        chosen = _free_name(list(map(str, cast("Mapping[Any, Any]", first))), name)
        return _objects(everything, vectors, chosen), chosen
    table = as_table(first)
    chosen = _free_name([] if table is None else table.column_names, name)
    return _batches(everything, vectors, chosen), chosen


def text_table(texts: Iterable[str | None]) -> pa.Table:
    """Texts as a table with the column ``text``; half a surrogate pair, which UTF-8 cannot hold, is U+FFFD."""
    items = list(texts)
    try:
        return pa.table({TEXT: pa.array(items, pa.string())})
    except UnicodeEncodeError:
        whole = [i if i is None else i.encode("utf-16", "surrogatepass").decode("utf-16", "replace") for i in items]
        return pa.table({TEXT: pa.array(whole, pa.string())})


def _text_batches(items: Iterator[str]) -> Iterator[pa.Table]:
    while chunk := list(itertools.islice(items, _BATCH)):
        yield text_table(chunk)


def _batches(items: Iterator[Any], vectors: NDArray[np.float32], name: str) -> Iterator[Any]:
    done = 0
    for item in items:
        table = as_table(item)
        if table is None:
            yield item  # refused by the reader of batches
            continue
        end = done + table.num_rows
        if end > len(vectors):
            raise _lengths(f"more than {len(vectors):,}", vectors)
        yield table.append_column(name, _column(vectors[done:end]))
        done = end
    _check_length(done, vectors)


def _objects(items: Iterator[Any], vectors: NDArray[np.float32], name: str) -> Iterator[Any]:
    done = 0
    for item in items:
        if not isinstance(item, Mapping):
            yield item
            continue
        if done >= len(vectors):
            raise _lengths(f"more than {len(vectors):,}", vectors)
        yield {**cast("Mapping[str, Any]", item), name: vectors[done]}
        done += 1
    _check_length(done, vectors)


def _column(vectors: NDArray[np.float32]) -> pa.Array:
    return pa.FixedSizeListArray.from_arrays(pa.array(vectors.reshape(-1)), vectors.shape[1])


def _free_name(columns: list[str], name: str | None) -> str:
    if name is not None:
        if name in columns:
            raise RequestError(
                f"the vectors of this workspace are in the column {name!r}, which the data has already",
                hint=f"Leave out vectors=, or the column {name!r}.",
            )
        return name
    names = itertools.chain([VECTORS], (f"{VECTORS}_{number}" for number in itertools.count(2)))
    return next(one for one in names if one not in columns)


def _check_length(documents: int, vectors: NDArray[np.float32]) -> None:
    if documents != len(vectors):
        raise _lengths(f"{documents:,}", vectors)


def _lengths(documents: str, vectors: NDArray[np.float32]) -> RequestError:
    return RequestError(
        f"there are {documents} documents and {len(vectors):,} vectors", hint="Give one vector for each, in order."
    )


def _is_missing(item: Any) -> bool:
    """Whether a value is how pandas writes that there is none: NaN, or its NA."""
    return (isinstance(item, float) and item != item) or type(item).__name__ in ("NAType", "NaTType")


def _kind(value: Any) -> str:
    return "None" if value is None else f"of type {type(value).__name__}"
