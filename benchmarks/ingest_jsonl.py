"""Ingest gigabytes of JSON lines in a fresh process; prints speed and peak memory beside bare read loops.

python benchmarks/ingest_jsonl.py --gigabytes 1 --scratch /some/folder
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

BLOCK = 4 << 20


def make_corpus(path: Path, size: int) -> int:
    """Write ``size`` bytes of JSON lines from the demo corpus, numbered so that no two lines are alike."""
    import orjson
    import polars as pl

    from latentscale.demo import corpus_path

    rows = pl.read_parquet(corpus_path()).to_dicts()
    written = number = 0
    with path.open("wb") as file:
        while written < size:
            row = rows[number % len(rows)] | {"number": number, "score": number / 7}
            written += file.write(orjson.dumps(row, default=str) + b"\n")
            number += 1
    return number


def ingest(path: Path, scratch: Path) -> int:
    """The whole stage: list, check, plan, read, write shards."""
    from latentscale.config import CorpusConfig, IngestConfig
    from latentscale.stages import ingest as stage
    from latentscale.storage.inputs import list_inputs
    from latentscale.storage.objects import Store

    corpus, settings = CorpusConfig(sources=(str(path),), text="text"), IngestConfig()
    inputs = list_inputs(corpus)
    stage.check_corpus(inputs, corpus, settings)
    worker = stage.IngestWorker(Store(str(scratch / "workspace")), corpus, settings)
    receipts = [receipt for unit in stage.plan_ingest(inputs, corpus, settings) for receipt in worker(unit)]
    stage.check_rejects(receipts, settings)
    return sum(receipt.rows for receipt in receipts)


def blocks(path: Path):
    """Blocks of whole lines."""
    with path.open("rb") as file:
        kept = b""
        while chunk := file.read(BLOCK):
            head, _, kept = (kept + chunk).rpartition(b"\n")
            yield head
        if kept:
            yield kept


def bare_arrow(path: Path, scratch: Path) -> int:
    """``pyarrow.json`` on one thread, nothing written."""
    import pyarrow as pa
    import pyarrow.json

    options = pyarrow.json.ReadOptions(use_threads=False, block_size=4 * BLOCK)
    return sum(pyarrow.json.read_json(pa.BufferReader(b), read_options=options).num_rows for b in blocks(path))


def bare_orjson(path: Path, scratch: Path) -> int:
    """``orjson`` line by line, nothing kept."""
    import orjson

    return sum(len(list(map(orjson.loads, block.split(b"\n")))) for block in blocks(path))


CASES = {"ingest": ingest, "bare_arrow": bare_arrow, "bare_orjson": bare_orjson}


def child(case: str, path: Path, scratch: Path) -> None:
    wall = time.perf_counter()
    rows = CASES[case](path, scratch)
    used = resource.getrusage(resource.RUSAGE_SELF)
    wall, cpu = time.perf_counter() - wall, used.ru_utime + used.ru_stime
    size = path.stat().st_size / 1e6
    peak = used.ru_maxrss * (1 if platform.system() == "Darwin" else 1024)
    print(
        json.dumps(
            {
                "case": case,
                "rows": rows,
                "wall_seconds": round(wall, 2),
                "cpu_seconds": round(cpu, 2),
                "mb_per_second": round(size / wall, 1),
                "mb_per_cpu_second": round(size / cpu, 1),
                "peak_rss_mb": round(peak / 1e6),
            }
        )
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--gigabytes", type=float, default=1.0)
    parser.add_argument("--scratch", type=Path, default=None)
    parser.add_argument("--case", choices=list(CASES), help=argparse.SUPPRESS)
    parser.add_argument("--corpus", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.case:
        child(options.case, options.corpus, options.scratch)
        return
    with tempfile.TemporaryDirectory(dir=options.scratch) as folder:
        path = Path(folder, "corpus.jsonl")
        rows = make_corpus(path, int(options.gigabytes * 1e9))
        results = []
        for case in CASES:
            command = [sys.executable, __file__, "--case", case, "--corpus", str(path), "--scratch", folder]
            done = subprocess.run(command, check=True, capture_output=True, text=True)
            results.append(json.loads(done.stdout))
        print(
            json.dumps(
                {
                    "benchmark": "ingest_jsonl",
                    "date": datetime.now(UTC).date().isoformat(),
                    "machine": f"{platform.machine()}, {os.cpu_count()} processors, Python {platform.python_version()}",
                    "gigabytes": round(path.stat().st_size / 1e9, 2),
                    "rows": rows,
                    "results": results,
                },
                indent=1,
            )
        )


if __name__ == "__main__":
    main()
