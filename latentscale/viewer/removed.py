"""List the documents of an immutable generation that left the map, with their counts."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from latentscale.errors import ShapeError
from latentscale.viewer.columns import NULL_CODE

_COUNTS = "latentscale.removed"
Read = Callable[[str], bytes]


def write_removed(
    read: Read, generation: Mapping[str, Any], row_ids: NDArray[np.int64], *, previous: bytes | None = None
) -> tuple[bytes, dict[str, int]]:
    """Build the file that removes ``row_ids`` from a generation, and its manifest entry without ``url``.

    Parameters
    ----------
    read : callable
        Reads a whole object of the generation: ``read(name) -> bytes``, names relative to its folder. Only files that
        contain these documents are read: parts of ``ids/``, tiles and their colour columns.
    generation : mapping
        Its manifest entry.
    row_ids : int64 ndarray, shape (n,)
        Sorted; all documents that are no longer on the map, including those removed by earlier updates.
    previous : bytes, optional
        The previous file, with fewer removed documents: its counts are reused.

    Returns
    -------
    file : bytes
        As from ``removed_file``, with the counts of ``removed_counts``.
    entry : dict
        ``count``, and ``noise``: how many of them are in no cluster.

    Raises
    ------
    ShapeError
        If a row id is not in the generation.
    """
    positions = positions_of(read, generation, row_ids)
    previous_positions, counts = (np.empty(0, np.int64), None) if previous is None else _read_removed(previous)
    if counts is None or not np.isin(previous_positions, positions, assume_unique=True).all():
        previous_positions, counts = np.empty(0, np.int64), None
    new = np.setdiff1d(positions, previous_positions, assume_unique=True)
    total = _sum_counts(counts, removed_counts(read, generation, new))
    return removed_file(positions, total), {"count": len(positions), "noise": total["noise"]}


def positions_of(read: Read, generation: Mapping[str, Any], row_ids: NDArray[np.int64]) -> NDArray[np.int64]:
    """Look up ``row_ids``, sorted, like ``positions_by_row_id``, and sort the positions; int64, shape (n,)."""
    return np.sort(positions_by_row_id(read, generation, row_ids))


def positions_by_row_id(read: Read, generation: Mapping[str, Any], row_ids: NDArray[np.int64]) -> NDArray[np.int64]:
    """Look up the position of each of the sorted ``row_ids`` in a generation; int64, shape (n,).

    Reads only those files of ``ids/`` that contain them.

    Raises
    ------
    ShapeError
        If a row id is not in the generation, or the row ids are not strictly ascending.
    """
    wanted = np.asarray(row_ids, np.int64)
    if (np.diff(wanted) <= 0).any():
        raise ShapeError("row ids whose positions are looked up must be strictly ascending")
    if not len(wanted):
        return wanted
    first = np.asarray(json.loads(read("index.json"))["ids"]["first"], np.int64)
    files = np.searchsorted(first, wanted, side="right") - 1
    parts: list[NDArray[np.int64]] = []
    for k in np.unique(files[files >= 0]).tolist():
        table = pq.ParquetFile(io.BytesIO(read(f"ids/{k}.parquet"))).read()
        ids, file_positions = table["row_id"].to_numpy(), table["position"].to_numpy()
        wanted_here = wanted[files == k]
        indices = np.minimum(np.searchsorted(ids, wanted_here), len(ids) - 1)
        parts.append(file_positions[indices[ids[indices] == wanted_here]])
    positions = np.concatenate(parts) if parts else np.empty(0, np.int64)
    if len(positions) != len(wanted):
        raise ShapeError(
            f"{len(wanted) - len(positions):,} of {len(wanted):,} row ids are not in the generation of "
            f"{int(generation['documents']):,} documents",
            where=str(generation.get("url", "")),
        )
    return positions


def removed_counts(read: Read, generation: Mapping[str, Any], positions: NDArray[np.int64]) -> dict[str, Any]:
    """Count what the page subtracts from its totals: ``noise``, and per column id the values of these documents.

    Of a column of categories by code, such as ``{"0": 3, "64": 1, "255": 2}``; of numbers and dates the nulls,
    ``{"255": nulls}``.
    """
    index = json.loads(read("index.json"))
    colours: Sequence[Mapping[str, Any]] = index["colours"]
    counts: dict[str, Any] = {"noise": 0, "columns": {column["id"]: {} for column in colours}}
    inline = bool(generation.get("inline"))
    for key, rows in _by_tile(read, index, positions):
        tile = pq.ParquetFile(io.BytesIO(read(f"tiles/{key}.parquet"))).read()
        counts["noise"] += int((tile["cluster"].to_numpy()[rows] < 0).sum())
        for column in colours:
            name = column["id"]
            table = tile if inline else pq.read_table(io.BytesIO(read(f"cols/{name}/{key}.parquet")))
            values = table[name if inline else "value"].to_numpy()[rows]
            if column["kind"] != "categories":
                values = np.full(int(np.isnan(values).sum()), NULL_CODE)
            codes, repeats = np.unique(values, return_counts=True)
            column_counts = counts["columns"][name]
            for code, n in zip(codes.tolist(), repeats.tolist(), strict=True):
                column_counts[str(code)] = column_counts.get(str(code), 0) + n
    return counts


def removed_file(positions: NDArray[np.int64], counts: Mapping[str, Any] | None = None) -> bytes:
    """A parquet file with one sorted int64 column ``position``, and ``counts`` in its metadata."""
    table = pa.table({"position": np.sort(np.asarray(positions, np.int64))})
    sink = io.BytesIO()
    with pq.ParquetWriter(
        sink,
        table.schema,
        compression="zstd",
        compression_level=9,
        use_dictionary=False,
        column_encoding={"position": "DELTA_BINARY_PACKED"},
        write_statistics=False,
        store_schema=False,
    ) as writer:
        writer.write_table(table, row_group_size=max(1, table.num_rows))
        if counts is not None:
            writer.add_key_value_metadata({_COUNTS: json.dumps(counts, separators=(",", ":"), sort_keys=True)})
    return sink.getvalue()


def _read_removed(file: bytes) -> tuple[NDArray[np.int64], dict[str, Any] | None]:
    source = pq.ParquetFile(io.BytesIO(file))
    counts = (source.metadata.metadata or {}).get(_COUNTS.encode())
    return source.read()["position"].to_numpy(), None if counts is None else json.loads(counts)


def _by_tile(
    read: Read, index: Mapping[str, Any], positions: NDArray[np.int64]
) -> Iterator[tuple[str, NDArray[np.int64]]]:
    """Yield the key of each tile that contains positions, and the indices of these points in it."""
    firsts = np.array([first for _, first in index["pages"]], np.int64)
    pages = np.searchsorted(firsts, positions, side="right") - 1
    for k in np.unique(pages).tolist():
        page = index["page"] if "page" in index else json.loads(read(f"pages/{index['pages'][k][0]}.json"))
        tiles = page["tiles"]
        starts = np.array([tile[3] for tile in tiles], np.int64)
        page_positions = positions[pages == k]
        owners = np.searchsorted(starts, page_positions, side="right") - 1
        for i in np.unique(owners).tolist():
            z, x, y, first = tiles[i][:4]
            yield f"{z}-{x}-{y}", page_positions[owners == i] - first


def _sum_counts(counts: Mapping[str, Any] | None, more: Mapping[str, Any]) -> dict[str, Any]:
    if counts is None:
        return dict(more)
    columns = {name: dict(codes) for name, codes in counts["columns"].items()}
    for name, codes in more["columns"].items():
        column_counts = columns.setdefault(name, {})
        for code, n in codes.items():
            column_counts[code] = column_counts.get(code, 0) + n
    return {"noise": counts["noise"] + more["noise"], "columns": columns}
