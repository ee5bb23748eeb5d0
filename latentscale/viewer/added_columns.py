"""Add columns to an exported page: additional files, and entries in its index."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from latentscale.viewer.columns import CATEGORIES, NULL_CODE, OTHER_CODE
from latentscale.viewer.rows import parquet_bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class AddedColumn:
    """A column for colouring and filtering points, by row id.

    Attributes
    ----------
    name : str
    row_ids : int64 ndarray, shape (n,)
        Ascending; documents not listed have no value.
    values : float32 or int64 ndarray, shape (n,)
        Numbers; or with ``categories`` category indices, of which those beyond 63 share one code.
    categories : sequence of str, optional
        Category names, most frequent first.
    """

    name: str
    row_ids: NDArray[np.int64]
    values: NDArray[Any]
    categories: Sequence[str] | None = None

    def of(self, row_ids: NDArray[np.int64]) -> NDArray[Any]:
        """The values in a tile file: uint8 codes (64 other, 255 missing), or float32 (NaN missing)."""
        indices = np.minimum(np.searchsorted(self.row_ids, row_ids), max(0, len(self.row_ids) - 1))
        known = self.row_ids[indices] == row_ids
        if self.categories is None:
            return np.where(known, self.values[indices], np.float32(np.nan)).astype(np.float32)
        codes = np.minimum(self.values[indices], OTHER_CODE)
        if len(self.categories) > CATEGORIES:
            codes = np.where(codes >= CATEGORIES - 1, OTHER_CODE, codes)
        return np.where(known, codes, NULL_CODE).astype(np.uint8)

    def entry(self, column_id: str, values: NDArray[Any]) -> dict[str, Any]:
        """The column's entry in ``index.json``, with counts over the documents that are still on the map."""
        if self.categories is None:
            finite = values[np.isfinite(values)].astype(np.float64)
            knots = np.quantile(finite if len(finite) else [0.0], np.linspace(0, 1, 65))
            return {
                "id": column_id,
                "name": self.name,
                "kind": "numbers",
                "min": float(f"{knots[0]:.7g}"),
                "max": float(f"{knots[-1]:.7g}"),
                "quantiles": [float(f"{v:.7g}") for v in knots],
                "nulls": int(len(values) - len(finite)),
            }
        counts = np.bincount(values, minlength=NULL_CODE + 1)
        shown = len(self.categories) if len(self.categories) <= CATEGORIES else CATEGORIES - 1
        return {
            "id": column_id,
            "name": self.name,
            "kind": "categories",
            "categories": [[name, int(counts[code])] for code, name in enumerate(self.categories[:shown])],
            "other": [len(self.categories) - shown, int(counts[OTHER_CODE])],
            "nulls": int(counts[NULL_CODE]),
        }


def add_columns(page: Path, columns: Sequence[AddedColumn]) -> None:
    """Add columns to an exported page, as ``latentscale export`` writes it, generation by generation.

    Parameters
    ----------
    page : Path
        The folder with ``viewer/manifest.json``.
    """
    viewer = page / "viewer"
    manifest = json.loads((viewer / "manifest.json").read_bytes())
    for entry in manifest["generations"]:
        folder = (viewer / entry["url"]).resolve()
        index = json.loads((folder / "index.json").read_bytes())
        row_ids = _row_ids(folder, index, int(entry["documents"]))
        on_map = np.ones(len(row_ids), bool)
        if "removed" in entry:
            removed = pq.ParquetFile((viewer / entry["removed"]["url"]).resolve()).read()
            on_map[removed["position"].to_numpy()] = False
        used_ids = {column["id"] for column in index["colours"]}
        for column in columns:
            column_id = next(name for k in range(len(used_ids) + 1) if (name := f"a{k}") not in used_ids)
            used_ids.add(column_id)
            values = column.of(row_ids)
            index["colours"].append(column.entry(column_id, values[on_map]))
            _write(folder, index, column_id, values, inline=bool(entry.get("inline")))
        (folder / "index.json").write_bytes(_json(index))


def _row_ids(folder: Path, index: Mapping[str, Any], documents: int) -> NDArray[np.int64]:
    """The row ids of a generation, by position."""
    row_ids = np.empty(documents, np.int64)
    for k in range(len(index["ids"]["first"])):
        table = pq.ParquetFile(folder / f"ids/{k}.parquet").read()
        row_ids[table["position"].to_numpy()] = table["row_id"].to_numpy()
    return row_ids


def _write(folder: Path, index: Mapping[str, Any], column_id: str, values: NDArray[Any], *, inline: bool) -> None:
    floats = values.dtype == np.float32
    if inline:
        _write_inline(folder / "tiles/0-0-0.parquet", index, column_id, values)
        return
    (folder / "cols" / column_id).mkdir(parents=True)
    for name, _ in index["pages"]:
        page = json.loads((folder / f"pages/{name}.json").read_bytes())
        for z, x, y, first, count, *_ in page["tiles"]:
            blob = parquet_bytes(
                pa.table({"value": values[first : first + count]}),
                encoding={"value": "BYTE_STREAM_SPLIT"} if floats else None,
                dictionary=[] if floats else ["value"],
            )
            (folder / "cols" / column_id / f"{z}-{x}-{y}.parquet").write_bytes(blob)


def _write_inline(tile: Path, index: Mapping[str, Any], column_id: str, values: NDArray[Any]) -> None:
    table = pq.ParquetFile(tile).read().append_column(column_id, pa.array(values))
    floats = [
        field.name for field in table.schema if pa.types.is_floating(field.type) or pa.types.is_uint16(field.type)
    ]
    blob = parquet_bytes(
        table,
        encoding={"place": "DELTA_BINARY_PACKED", **dict.fromkeys(floats, "BYTE_STREAM_SPLIT")},
        dictionary=[name for name in table.column_names if name not in {"place", *floats}],
    )
    tile.write_bytes(blob)
    # The index entry has the size of the tile in bytes.
    index["page"]["tiles"][0][6] = len(blob)


def _json(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()
