"""Rows that a program adds to a map: those of which the map has the document already are left out."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from latentscale.config import JobConfig
from latentscale.readers import read_input
from latentscale.readers.documents import DocumentMaker
from latentscale.readers.inputs import list_inputs
from latentscale.storage.hashing import hash_strings
from latentscale.storage.objects import Store
from latentscale.storage.ordered import in_order
from latentscale.storage.parquet import read_parquet
from latentscale.storage.snapshot import Shard, Snapshot

_HASH = np.dtype("S16")


def without_known_texts(
    path: Path, config: JobConfig, store: Store, snapshot: Snapshot, *, text_column: str
) -> tuple[Path | None, int]:
    """Leave out the rows of a file whose texts a snapshot has: without an id, such a row is the same document.

    Parameters
    ----------
    path : Path
        Parquet or JSON lines, as ``spool_frame`` writes them.
    config : JobConfig
        Of the update: its corpus says how a row becomes a text.
    text_column : str
        Stored name of the text.

    Returns
    -------
    path : Path or None
        The same file, one with the other rows, or None where no row is left.
    known : int
        Rows that were left out.
    """
    known = np.unique(_hashes_of(store, snapshot, text_column))
    corpus = config.corpus.model_copy(update={"sources": (str(path),), "limit": None, "storage": None})
    (file,) = list_inputs(corpus)
    maker = DocumentMaker(corpus, config.ingest)
    rows: list[NDArray[np.int64]] = [np.empty(0, dtype=np.int64)]
    for block in read_input(file, corpus, config.ingest):
        documents = maker.make(block, file)
        hashes = _hashed(documents.table.column(text_column))
        rows.append(documents.source_row[np.isin(hashes, known)])
    left_out = np.concatenate(rows)
    if not len(left_out):
        return path, 0
    other = path.with_name(f"added{path.suffix}")
    kept = _rows_without(path, other, left_out)
    return (other if kept else None), len(left_out)


def _hashes_of(store: Store, snapshot: Snapshot, text_column: str) -> NDArray[np.bytes_]:
    def of_shard(shard: Shard) -> NDArray[np.bytes_]:
        return _hashed(read_parquet(store, shard.name, [text_column]).column(0))[snapshot.kept(shard)]

    return np.concatenate([np.empty(0, dtype=_HASH), *in_order(store, of_shard, snapshot.shards)])


def _hashed(texts: pa.Array | pa.ChunkedArray) -> NDArray[np.bytes_]:
    array = pa.concat_arrays(texts.chunks) if isinstance(texts, pa.ChunkedArray) else texts
    return np.stack(hash_strings(array), axis=1).view(_HASH)[:, 0]


def _rows_without(path: Path, to: Path, rows: NDArray[np.int64]) -> int:
    """Copy a file without some of its rows; returns how many it has then."""
    kept = done = 0
    if path.suffix != ".parquet":
        dropped = set(rows.tolist())
        with path.open("rb") as lines, to.open("wb") as out:
            for number, line in enumerate(lines):
                if number not in dropped:
                    out.write(line)
                    kept += 1
        return kept
    with pq.ParquetFile(path) as file, pq.ParquetWriter(to, file.schema_arrow, compression="zstd") as out:
        for group in range(file.num_row_groups):
            table = file.read_row_group(group)
            keep = ~np.isin(np.arange(done, done + table.num_rows), rows)
            done += table.num_rows
            if keep.any():
                out.write_table(table.filter(pa.array(keep)))
                kept += int(keep.sum())
    return kept
