"""The page compared with those of Embedding Atlas and DataMapPlot, for a million points."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks import corpora, workspaces
from benchmarks.cases.viewer_peers import Size, compare
from benchmarks.corpora import Context
from benchmarks.processes import fresh
from benchmarks.report import Result

COUNT = 1_000_000
CHARACTERS = 120


def run(context: Context) -> Result:
    """Write and open the pages of a million points similar to those of the corpus's map."""
    folder = context.folder("peers")
    workspace = folder / "corpus"  # reused if viewer_peers has run in this scratch folder
    workspaces.run_corpus(corpora.full_corpus(context), workspace, compiled=context.compiled)
    count = 30_000 if context.quick else COUNT
    rows = folder / "million.parquet"
    usage, _ = fresh(write_million, workspace=workspace, folder=folder / "million", rows=rows, count=count)
    size = Size(documents=count, folder=folder / "million", rows=rows)
    return compare(
        context,
        [size],
        rounds=1,
        notes=[
            "The points are draws from the map of the corpus, moved by about a three-hundredth of its width, with "
            f"their labels and the first {CHARACTERS} characters of their texts, numbered. latentscale's tiles and "
            f"index of words took {usage.cpu_s:.0f} CPU-s and {usage.peak_mb:,.0f} MB.",
        ],
    )


# ------------------------------------------------------------------------------------------------ in a fresh process


def write_million(workspace: str, folder: str, rows: str, count: int) -> dict[str, Any]:
    """Write LatentScale's page of ``count`` points drawn from a workspace's map, and the same rows for the others."""
    import shutil

    import numpy as np
    import polars as pl
    import pyarrow as pa

    import latentscale
    from benchmarks.cases.viewer_bytes import plain_schema
    from latentscale.viewer import ViewerData, write_page, write_tiles

    target = Path(folder)
    shutil.rmtree(target, ignore_errors=True)
    source_map = latentscale.open(workspace).the_map()
    columns = ["row_id", "x", "y", "text", "label", "cluster", "nearest_cluster"]
    frame = source_map.documents().select(columns).collect()
    labels = source_map.labels().drop("centroid").to_arrow()
    labels = labels.cast(plain_schema(labels.schema))
    random = np.random.default_rng(0)
    sample = frame[random.integers(0, len(frame), count)]
    positions = sample.select("x", "y").to_numpy()
    positions = (positions + random.normal(scale=np.ptp(positions, axis=0) / 300, size=positions.shape)).astype(
        np.float32
    )
    numbers = np.arange(count, dtype=np.int64)
    sample = sample.with_columns(
        row_id=pl.Series(numbers),
        x=pl.Series(positions[:, 0]),
        y=pl.Series(positions[:, 1]),
        text=pl.format("{} ({})", pl.col("text").str.slice(0, CHARACTERS), pl.Series(numbers)),
    )
    others = sample.select("row_id", "x", "y", "text", pl.col("label").fill_null("Unlabelled"))
    others.write_parquet(rows)

    def documents() -> Iterator[pa.RecordBatch]:
        for start in range(0, count, 16_384):
            batch = sample[start : start + 16_384]
            texts = pa.array(batch["text"].to_list(), pa.string())
            yield pa.record_batch({"row_id": pa.array(batch["row_id"].to_numpy()), "text": texts})

    data = ViewerData(
        name="A million",
        row_ids=numbers,
        coordinates=positions,
        clusters=sample["cluster"].to_numpy(),
        nearest_clusters=sample["nearest_cluster"].to_numpy(),
        labels=labels,
        documents=documents,
        text_column="text",
        columns=["text"],
    )

    def put(name: str, content: bytes) -> None:
        path = target / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)

    (target / "scratch").mkdir(parents=True)
    entry = write_tiles(data, lambda name, content: put(f"maps/m/viewer/{name}", content), scratch=target / "scratch")
    (target / "scratch").rmdir()
    page = [{**entry, "url": "../maps/m/viewer/"}]
    write_page(page, lambda name, content: put(f"viewer/{name}", content), title="A million")
    return {"rows": count}
