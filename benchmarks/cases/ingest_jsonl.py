"""Ingest gigabytes of JSON lines, compared with loops that only read them."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.corpora import Context
from benchmarks.processes import PartFailedError, fresh, own_cpu_seconds
from benchmarks.report import Result, Target

BLOCK = 4 << 20


def run(context: Context) -> Result:
    """Write the file, ingest it once, read it with each of the bare loops once."""
    path = context.folder("jsonl") / "corpus.jsonl"
    _, written = fresh(make_corpus, path=path, size=int(context.gigabytes * 1e9))
    variants = {
        "ingest: read, check, write shards": ingest,
        "pyarrow.json, one thread, nothing written": bare_arrow,
        "polars scan_ndjson to sink_parquet, all threads": bare_polars,
        "orjson line by line, nothing kept": bare_orjson,
    }
    rows: list[dict[str, Any]] = []
    for name, function in variants.items():
        usage, facts = fresh(function, path=path, scratch=context.folder("jsonl"), compiled=context.compiled)
        if facts["rows"] != written["rows"]:
            raise PartFailedError(f"{name}: {facts['rows']:,} of {written['rows']:,} rows")
        size = path.stat().st_size / 1e6
        rows.append(
            {
                "what": name,
                "mb_per_cpu_second": size / facts["cpu_s"],
                "mb_per_second": size / facts["wall_s"],
                "cpu_s": facts["cpu_s"],
                "wall_s": facts["wall_s"],
                "peak_mb": usage.peak_mb,
            }
        )
    gigabytes = path.stat().st_size / 1e9
    path.unlink()
    return Result(
        title="JSON lines to checked shards of documents, beside loops that only read.",
        parameters={"gigabytes": round(gigabytes, 2), "rows": written["rows"]},
        rows=rows,
        targets=[Target(what="ingest, peak memory", value=rows[0]["peak_mb"], limit=1_000, unit="MB")],
        notes=[
            "The lines are the documents that ship with the package, numbered, again and again.",
            "No rival does what ingest does (compose texts, reject bad rows with their position, keep types stable "
            "over the whole corpus, cut shards, compress): its price is the difference.",
        ],
    )


# ------------------------------------------------------------------------------------------------ in fresh processes


def make_corpus(path: str, size: int) -> dict[str, Any]:
    """Write ``size`` bytes of JSON lines from the demo corpus, numbered so that all lines differ."""
    import orjson
    import polars as pl

    from latentscale.demo import corpus_path

    rows = pl.read_parquet(corpus_path()).to_dicts()
    written = number = 0
    with Path(path).open("wb") as file:
        while written < size:
            row = rows[number % len(rows)] | {"number": number, "score": number / 7}
            written += file.write(orjson.dumps(row, default=str) + b"\n")
            number += 1
    return {"rows": number}


def _timed(count: Any) -> dict[str, Any]:
    wall, cpu = time.perf_counter(), own_cpu_seconds()
    rows = count()
    return {"rows": rows, "wall_s": time.perf_counter() - wall, "cpu_s": own_cpu_seconds() - cpu}


def ingest(path: str, scratch: str) -> dict[str, Any]:
    """Run the whole stage: list, check, plan, read, write shards."""
    import tempfile

    from latentscale.config import CorpusConfig, IngestConfig
    from latentscale.readers.inputs import list_inputs
    from latentscale.stages import ingest as stage
    from latentscale.storage.objects import Store
    from latentscale.storage.receipts import Receipts

    def run_stage(folder: str) -> int:
        corpus, settings = CorpusConfig(sources=(path,), text="text"), IngestConfig()
        inputs = list_inputs(corpus)
        stage.check_corpus(inputs, corpus, settings)
        worker = stage.IngestWorker(Store(str(Path(folder, "workspace"))), corpus, settings)
        receipts = Receipts(stage.ShardReceipt)
        receipts.add(receipt for unit in stage.plan_ingest(inputs, corpus, settings) for receipt in worker(unit))
        stage.check_rejects(receipts, settings)
        return receipts.total("rows")

    with tempfile.TemporaryDirectory(dir=scratch) as folder:
        return _timed(lambda: run_stage(folder))


def blocks(path: str) -> Iterator[bytes]:
    """Yield blocks of complete lines."""
    with Path(path).open("rb") as file:
        rest = b""
        while chunk := file.read(BLOCK):
            head, _, rest = (rest + chunk).rpartition(b"\n")
            yield head
        if rest:
            yield rest


def bare_arrow(path: str, scratch: str) -> dict[str, Any]:
    """Read with ``pyarrow.json`` on one thread, without writing."""
    import pyarrow as pa
    import pyarrow.json

    options = pyarrow.json.ReadOptions(use_threads=False, block_size=4 * BLOCK)
    return _timed(
        lambda: sum(pyarrow.json.read_json(pa.BufferReader(b), read_options=options).num_rows for b in blocks(path))
    )


def bare_polars(path: str, scratch: str) -> dict[str, Any]:
    """Convert JSON lines to one parquet file with the streaming engine of polars."""
    import tempfile

    import polars as pl

    def convert(target: Path) -> int:
        pl.scan_ndjson(path).sink_parquet(target)
        return pl.scan_parquet(target).select(pl.len()).collect().item()

    with tempfile.TemporaryDirectory(dir=scratch) as folder:
        return _timed(lambda: convert(Path(folder, "all.parquet")))


def bare_orjson(path: str, scratch: str) -> dict[str, Any]:
    """Parse line by line with ``orjson``, without keeping the results."""
    import orjson

    return _timed(lambda: sum(len(list(map(orjson.loads, block.split(b"\n")))) for block in blocks(path)))
