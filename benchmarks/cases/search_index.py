"""The page's full-text index: cost of writing it, its size, and the bytes read by a query."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from benchmarks import corpora
from benchmarks.corpora import Context
from benchmarks.processes import fresh
from benchmarks.report import Result, Target

COPIES = (1, 16)
WORDS = 4
QUERY_KB = 200


def run(context: Context) -> Result:
    """Index the corpus, and about a million documents by repeating it with other positions."""
    corpus = corpora.full_corpus(context)
    rows: list[dict[str, Any]] = []
    for copies in COPIES[:1] if context.quick else COPIES:
        usage, measured = fresh(write_index, corpus=corpus.path, text=corpus.text, copies=copies)
        rows.append({**measured, "cpu_s": usage.cpu_s, "peak_mb": usage.peak_mb})
    return Result(
        title="The index by which the page finds documents by their words.",
        parameters={"copies": list(COPIES), "words_of_a_query": WORDS},
        rows=rows,
        targets=[
            Target(
                what=f"{row['documents']:,} documents: a query of {WORDS} words, the largest shards",
                value=row["query_kb"],
                limit=QUERY_KB,
                unit="kB",
            )
            for row in rows
        ],
        notes=[
            "A query reads the list of shards once and one shard a word: here the largest there are, which hold the "
            "words of most documents. Shards do not grow with the corpus, their number does.",
            f"{COPIES[1]} copies of the corpus: as many words as in one, each in {COPIES[1]} times the documents.",
            "CPU-seconds and memory of a fresh process that reads the corpus and writes only the index, with imports.",
        ],
    )


# ------------------------------------------------------------------------------------------------ in a fresh process


def write_index(corpus: str, text: str, copies: int) -> dict[str, Any]:
    """Index ``copies`` of a corpus, and sum the sizes of the files."""
    import numpy as np
    import polars as pl
    import pyarrow as pa

    from latentscale.viewer.search.index import SearchIndex

    path = Path(corpus)
    frame = pl.read_parquet(path) if path.suffix == ".parquet" else pl.read_csv(path)
    table = frame.select(pl.col(text).cast(pl.String)).to_arrow().cast(pa.schema([(text, pa.string())]))
    count = table.num_rows * copies
    positions = np.random.default_rng(0).permutation(count).astype(np.int64)
    sizes: dict[str, int] = {}

    def put(name: str, content: bytes) -> None:
        sizes[name] = len(content)

    with tempfile.TemporaryDirectory(prefix="latentscale-index-") as scratch:
        index = SearchIndex({"text": text}, positions=positions, scratch=Path(scratch))
        start = 0
        for _ in range(copies):
            for batch in table.to_batches(max_chunksize=16_384):
                index.add(start, batch)
                start += batch.num_rows
        index.write(put)
        index.close()
    shards = sorted(size for name, size in sizes.items() if name.startswith("terms/"))
    shard_list_bytes = sizes.get("first.parquet", 0)
    return {
        "documents": count,
        "index_mb": sum(sizes.values()) / 1e6,
        "bytes_a_document": sum(sizes.values()) / count,
        "shards": len(shards),
        "largest_shard_kb": shards[-1] / 1e3,
        "query_kb": (shard_list_bytes + sum(shards[-WORDS:])) / 1e3,
    }
