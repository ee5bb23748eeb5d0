"""Rejected rows of a corpus, with the reasons."""

from __future__ import annotations

import polars as pl

from latentscale.stages import embed, ingest
from latentscale.storage.frames import read_parts
from latentscale.storage.objects import Store
from latentscale.storage.snapshot import Snapshot
from latentscale.storage.snapshots import superseded_name

SCHEMA = {
    "source": pl.String(),
    "source_row": pl.Int64(),
    "column": pl.String(),
    "reason": pl.String(),
    "detail": pl.String(),
}


def read_rejects(store: Store, snapshot: Snapshot, embedding_id: str | None) -> pl.DataFrame:
    """Read the rejects of a snapshot, and its documents without a vector in an embedding.

    ``rejects/`` may contain more: rows rejected by earlier runs with other settings or files.

    Returns
    -------
    polars.DataFrame
        ``source``, ``source_row``, ``column``, ``reason``, ``detail``; one row for each rejected corpus row.
    """
    keys = [*(shard.key for shard in snapshot.shards), *snapshot.empty]
    wanted = {ingest.reject_name(key) for key in keys} | {superseded_name(snapshot.id)}
    if embedding_id is not None:
        wanted |= {embed.reject_name(embedding_id, key) for key in keys}
    names = [name for name in store.list(ingest.REJECTS) if name in wanted]
    frames = [pl.DataFrame(schema=SCHEMA)]
    if names:
        frames.append(read_parts(store, names).select([pl.col(name).cast(kind) for name, kind in SCHEMA.items()]))
    found = pl.concat(frames)
    if embedding_id is None or not len(snapshot.superseded):
        return found
    # A document that is both superseded and without a vector is listed once.
    return found.unique(["source", "source_row"], keep="first", maintain_order=True)
