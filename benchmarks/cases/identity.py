"""Identify documents by their ids: a join in buckets over stored runs of hashes, and the earlier join in memory."""

from __future__ import annotations

import hashlib
import resource
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.corpora import Context
from benchmarks.processes import fresh
from benchmarks.report import Result, Target

if TYPE_CHECKING:
    import polars as pl

    from latentscale.storage.identity import Identities
    from latentscale.storage.objects import Store
    from latentscale.storage.snapshot import ShardTable, Snapshot

SIZES = (1_000_000, 10_000_000)
SHARDS_A_MILLION = 60
# Shares of an update: new documents, and documents with a known id.
SHARE = 0.01
METHODS = {"in memory": False, "in buckets": True}


def run(context: Context) -> Result:
    """Run a first ingest and an update of one and of ten million ids, by both methods, each in a fresh process."""
    sizes = [size // 20 for size in SIZES] if context.quick else list(SIZES)
    rows: list[dict[str, Any]] = []
    peaks: dict[tuple[str, str, int], float] = {}
    cpu: dict[tuple[str, str, int], float] = {}
    for documents in sizes:
        folder = context.scratch / f"identity-{documents}"
        fresh(write_corpus, folder=folder, documents=documents)
        for what, update in (("first ingest", False), ("update by 1 % new, 1 % again", True)):
            digests: set[str] = set()
            for method, buckets in METHODS.items():
                _, measured = fresh(joined, folder=folder, documents=documents, update=update, buckets=buckets)
                digests.add(measured.pop("digest"))
                peaks[method, what, documents] = measured["peak_mb"] - measured["before_mb"]
                cpu[method, what, documents] = measured["cpu_s"]
                rows.append({"what": f"{documents // 1000:,} thousand, {what}: {method}", **measured})
            assert len(digests) == 1, "both methods give the same identities"
    small, large = sizes
    first, later = "first ingest", "update by 1 % new, 1 % again"
    return Result(
        title="Which documents are the same by an id column: a join in buckets beside one in memory.",
        parameters={"documents": large, "shards": _shards(large), "share_new": SHARE, "share_again": SHARE},
        rows=rows,
        targets=[
            Target(
                what=f"{what}: memory of ten times the documents",
                value=peaks["in buckets", what, large] / peaks["in buckets", what, small],
                limit=1.5,
            )
            for what in (first, later)
        ]
        + [
            Target(
                what=f"{what}: memory beside the join in memory",
                value=peaks["in buckets", what, large] / peaks["in memory", what, large],
                limit=0.25,
            )
            for what in (first, later)
        ]
        + [
            Target(
                what=f"{what}: processor time beside the join in memory",
                value=cpu["in buckets", what, large] / cpu["in memory", what, large],
                limit=limit,
            )
            for what, limit in ((first, 2.0), (later, 1.0))
        ],
        notes=[
            "Shards of about 17 thousand rows that hold an id of 16 characters and nothing else, on a disk. Before MB "
            "is what the process had with its imports; targets of memory are about what came on top of it.",
            "A first ingest in buckets writes the runs of hashes (run MB); an update reads them and the new shards "
            "only, where the join in memory reads all shards. Both give the same superseded and carried rows, bit for "
            "bit, which is checked.",
        ],
    )


def _shards(documents: int) -> int:
    return max(documents * SHARDS_A_MILLION // 1_000_000, 2)


def _table(documents: int, *, update: bool) -> ShardTable:
    """The shards of the first ingest, followed by those of the update."""
    import numpy as np
    import pyarrow as pa

    from latentscale.storage.snapshot import ShardTable

    shards = _shards(documents)
    rows = np.full(shards, documents // shards, dtype=np.int64)
    rows[-1] += documents - rows.sum()
    if update:
        new = max(round(2 * SHARE * shards), 1)
        each = int(2 * SHARE * documents) // new
        rows = np.append(rows, np.full(new, each, dtype=np.int64))
    keys = [
        hashlib.blake2b(str(number).encode(), digest_size=16).hexdigest() + "-00000e" for number in range(len(rows))
    ]
    return ShardTable(keys=pa.array(keys), rows=rows, bases=np.cumsum(rows) - rows, bytes=rows)


def write_corpus(folder: str, documents: int) -> dict[str, Any]:
    """Write the shards, those of the update too."""
    import numpy as np
    import polars as pl

    from latentscale.storage.objects import Store
    from latentscale.storage.parquet import write_parquet

    store, random = Store(folder), np.random.default_rng(0)
    for number, shard in enumerate(_table(documents, update=True)):
        ids = np.arange(shard.base, shard.base + shard.rows)
        if number >= _shards(documents):
            repeated_ids = random.choice(documents, shard.rows // 2, replace=False)
            ids[: len(repeated_ids)] = repeated_ids
        text = pl.DataFrame({"n": ids}).select(id=pl.format("doc-{}", pl.col("n").cast(pl.String).str.zfill(12)))
        write_parquet(store, shard.name, text.to_arrow(), facts={})
    return {}


def joined(folder: str, documents: int, update: bool, buckets: bool) -> dict[str, Any]:
    """Identify the documents, and measure the cost."""
    import numpy as np

    from latentscale.storage.identity import identify
    from latentscale.storage.objects import Store
    from latentscale.storage.snapshot import NO_IDS, Snapshot

    store, table = Store(folder), _table(documents, update=update)
    parent = None
    if update:
        parent = Snapshot(id="snapshot-0", shards=_table(documents, update=False), superseded=NO_IDS)
    before = _peak()
    started, used = time.perf_counter(), time.process_time()
    if buckets:
        order = np.arange(len(table))
        identities = identify(store, table, order, id_column="id", text_column="text", parent=parent)
    else:
        identities = _in_memory(store, table, parent)
    wall, cpu = time.perf_counter() - started, time.process_time() - used
    state = hashlib.sha256()
    for ids in (identities.superseded, identities.offsets, identities.row_ids):
        state.update(len(ids).to_bytes(8, "little") + ids.tobytes())
    return {
        "cpu_s": cpu,
        "wall_s": wall,
        "peak_mb": _peak(),
        "before_mb": before,
        "superseded": len(identities.superseded),
        "carried": len(identities.offsets),
        "run_mb": sum(path.stat().st_size for path in Path(folder).glob("ids/*/*")) / 1e6 if buckets else None,
        "digest": state.hexdigest(),
    }


def _in_memory(store: Store, shards: ShardTable, parent: Snapshot | None) -> Identities:
    """The earlier join: all hashes in one frame, shards read one by one."""
    import numpy as np
    import polars as pl

    from latentscale.storage.identity import Identities
    from latentscale.storage.snapshot import NO_IDS, in_shards

    all_hashes = _hashes(store, shards)
    winners = all_hashes.unique(["first", "second"], keep="last", maintain_order=True)
    superseded = all_hashes.join(winners, on="place", how="anti", maintain_order="left")["place"].to_numpy()
    offsets = row_ids = NO_IDS
    if parent is not None:
        earlier = all_hashes.filter(pl.Series(in_shards(all_hashes["place"].to_numpy(), parent.shards)))
        earlier = earlier.rename({"place": "earlier"})
        matches = winners.join(earlier, on=["first", "second"], how="inner", maintain_order="left")
        offsets = matches["place"].to_numpy()
        row_ids = parent.row_ids(matches["earlier"].to_numpy())
        moved = np.flatnonzero(offsets != row_ids)
        moved = moved[np.argsort(offsets[moved], kind="stable")]
        offsets, row_ids = offsets[moved], row_ids[moved]
    return Identities(superseded=np.sort(superseded), offsets=offsets, row_ids=row_ids)


def _hashes(store: Store, shards: ShardTable) -> pl.DataFrame:
    import numpy as np
    import polars as pl

    from latentscale.storage.parquet import read_parquet

    frames: list[pl.DataFrame] = []
    for shard in shards:
        values = pl.Series(pl.from_arrow(read_parquet(store, shard.name, ["id"])["id"])).cast(pl.String)
        place = np.arange(shard.base, shard.base + shard.rows, dtype=np.int64)
        hashed = {"first": values.hash(seed=1), "second": values.hash(seed=2), "place": place}
        frames.append(pl.DataFrame(hashed).filter(values.is_not_null()))
    return pl.concat(frames)


def _peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6
