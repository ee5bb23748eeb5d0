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
    """The file that removes ``row_ids`` from a generation, and its manifest entry, to which the caller adds ``url``.

    Parameters
    ----------
    read : callable
        Reads a whole object of the generation: ``read(name) -> bytes``, names relative to its folder. Only the files
        that hold these documents are read: parts of ``ids/``, tiles and their colour columns.
    generation : mapping
        Its manifest entry.
    row_ids : int64 ndarray, shape (n,)
        Sorted; all documents that are no longer on the map, those removed by earlier updates included.
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
    old, counts = (np.empty(0, np.int64), None) if previous is None else _read_removed(previous)
    if counts is None or not np.isin(old, positions, assume_unique=True).all():
        old, counts = np.empty(0, np.int64), None
    fresh = np.setdiff1d(positions, old, assume_unique=True)
    counted = _added(counts, removed_counts(read, generation, fresh))
    return removed_file(positions, counted), {"count": len(positions), "noise": counted["noise"]}


def positions_of(read: Read, generation: Mapping[str, Any], row_ids: NDArray[np.int64]) -> NDArray[np.int64]:
    """The sorted positions of sorted ``row_ids`` in a generation, int64, shape (n,).

    As ``places_of``, whose order is that of the row ids.
    """
    return np.sort(places_of(read, generation, row_ids))


def places_of(read: Read, generation: Mapping[str, Any], row_ids: NDArray[np.int64]) -> NDArray[np.int64]:
    """The position of each of sorted ``row_ids`` in a generation: int64 of shape (n,).

    Of ``ids/`` it reads only the files that hold them.

    Raises
    ------
    ShapeError
        If a row id is not in the generation, or the row ids do not ascend.
    """
    wanted = np.asarray(row_ids, np.int64)
    if (np.diff(wanted) <= 0).any():
        raise ShapeError("row ids whose positions are looked up must ascend, each once")
    if not len(wanted):
        return wanted
    first = np.asarray(json.loads(read("index.json"))["ids"]["first"], np.int64)
    files = np.searchsorted(first, wanted, side="right") - 1
    found: list[NDArray[np.int64]] = []
    for k in np.unique(files[files >= 0]).tolist():
        table = pq.ParquetFile(io.BytesIO(read(f"ids/{k}.parquet"))).read()
        ids, places = table["row_id"].to_numpy(), table["position"].to_numpy()
        here = wanted[files == k]
        at = np.minimum(np.searchsorted(ids, here), len(ids) - 1)
        found.append(places[at[ids[at] == here]])
    positions = np.concatenate(found) if found else np.empty(0, np.int64)
    if len(positions) != len(wanted):
        raise ShapeError(
            f"{len(wanted) - len(positions):,} of {len(wanted):,} row ids are not in the generation of "
            f"{int(generation['documents']):,} documents",
            where=str(generation.get("url", "")),
        )
    return positions


def removed_counts(read: Read, generation: Mapping[str, Any], positions: NDArray[np.int64]) -> dict[str, Any]:
    """What the page takes off its totals: ``noise``, and by column id the number of each code, or of values and nulls.

    For a column of categories ``{"0": 3, "64": 1, "255": 2}``, for numbers and dates ``{"255": nulls}``.
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
            codes, times = np.unique(values, return_counts=True)
            into = counts["columns"][name]
            for code, n in zip(codes.tolist(), times.tolist(), strict=True):
                into[str(code)] = into.get(str(code), 0) + n
    return counts


def removed_file(positions: NDArray[np.int64], counts: Mapping[str, Any] | None = None) -> bytes:
    """A parquet file of one sorted int64 column ``position``; ``counts`` go along as its metadata."""
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
    """The tiles that contain positions: their keys, and the indices of these points within the tile."""
    firsts = np.array([first for _, first in index["pages"]], np.int64)
    pages = np.searchsorted(firsts, positions, side="right") - 1
    for k in np.unique(pages).tolist():
        page = index["page"] if "page" in index else json.loads(read(f"pages/{index['pages'][k][0]}.json"))
        tiles = page["tiles"]
        starts = np.array([tile[3] for tile in tiles], np.int64)
        here = positions[pages == k]
        owners = np.searchsorted(starts, here, side="right") - 1
        for i in np.unique(owners).tolist():
            z, x, y, first = tiles[i][:4]
            yield f"{z}-{x}-{y}", here[owners == i] - first


def _added(one: Mapping[str, Any] | None, other: Mapping[str, Any]) -> dict[str, Any]:
    if one is None:
        return dict(other)
    columns = {name: dict(codes) for name, codes in one["columns"].items()}
    for name, codes in other["columns"].items():
        into = columns.setdefault(name, {})
        for code, n in codes.items():
            into[code] = into.get(code, 0) + n
    return {"noise": one["noise"] + other["noise"], "columns": columns}
