"""Rows added to a map without an id column: rows whose text is on the map already are dropped."""

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
from latentscale.storage.hashed_rows import hash_buckets
from latentscale.storage.hashing import hash_strings
from latentscale.storage.objects import Store
from latentscale.storage.shard_hashes import strings_of
from latentscale.storage.snapshot import NO_IDS, Ids, Snapshot
from latentscale.storage.spool import Records, records_of

_HASH = np.dtype("S16")


def without_known_texts(
    path: Path, config: JobConfig, store: Store, snapshot: Snapshot, *, text_column: str
) -> tuple[Path | None, int]:
    """Drop the rows of a file whose texts are in a snapshot: without an id, they are the same documents.

    Parameters
    ----------
    path : Path
        Parquet or JSON lines, as ``spool_frame`` writes them.
    config : JobConfig
        Settings of the update, which define how a row becomes a text.
    text_column : str
        Stored name of the text.

    Returns
    -------
    path : Path or None
        The same file, a file with the remaining rows, or None if none is left.
    known : int
        Number of dropped rows.
    """
    corpus = config.corpus.model_copy(update={"sources": (str(path),), "limit": None, "storage": None})
    (file,) = list_inputs(corpus)
    maker = DocumentMaker(corpus, config.ingest)
    rows, firsts, seconds = [NO_IDS], [np.empty(0, np.uint64)], [np.empty(0, np.uint64)]
    for block in read_input(file, corpus, config.ingest):
        documents = maker.make(block, file)
        first, second = hash_strings(strings_of(documents.table.column(text_column)))
        rows.append(documents.source_row)
        firsts.append(first)
        seconds.append(second)
    added = records_of(np.concatenate(firsts), np.concatenate(seconds), 0, np.arange(sum(map(len, firsts))))
    left_out = np.sort(np.concatenate(rows)[_known(store, snapshot, text_column, added)])
    if not len(left_out):
        return path, 0
    other = path.with_name(f"added{path.suffix}")
    kept = _rows_without(path, other, left_out)
    return (other if kept else None), len(left_out)


def _known(store: Store, snapshot: Snapshot, column: str, added: Records) -> Ids:
    """Find added rows whose text is in the snapshot.

    The texts of the map are hashed once; later additions reuse the hashes.
    """
    added = added[np.argsort(added["first"])]
    firsts = np.ascontiguousarray(added["first"])
    found = [NO_IDS]
    for records in hash_buckets(store, snapshot.shards, column):
        offsets = snapshot.shards.bases[records["shard"]] + records["row"]
        records = records[~np.isin(offsets, snapshot.superseded)]
        if not len(records):
            continue
        # Those of the range of this bucket.
        bounds = (
            np.searchsorted(firsts, records["first"].min()),
            np.searchsorted(firsts, records["first"].max(), "right"),
        )
        here = added[slice(*bounds)]
        found.append(here["row"][np.isin(_hashes(here), _hashes(records))].astype(np.int64))
    return np.concatenate(found)


def _hashes(records: Records) -> NDArray[np.bytes_]:
    return np.stack([records["first"], records["second"]], axis=1).view(_HASH)[:, 0]


def _rows_without(path: Path, to: Path, rows: NDArray[np.int64]) -> int:
    """Copy a file without some of its rows; returns the number of remaining rows."""
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
