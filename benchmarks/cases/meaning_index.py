"""Semantic search on the page: cost of writing the index, bytes read by a query, and recall."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from benchmarks import corpora
from benchmarks.corpora import Context
from benchmarks.processes import fresh
from benchmarks.report import Result, Target

CUTS = ("documents", "sentences")
# Number of short windows of the texts.
MILLION = 1_000_000
WORDS = 6
QUERY_MB = 2.5
RECALL = 0.9
TYPED = """play music from the terminal|edit photos|database for time series|learn a foreign language|chess game
scan documents and recognise text|monitor disk health|download videos|password manager|compress files quickly
draw diagrams|weather forecast|machine learning library for python|3d printing slicer|remove duplicate files
calendar and appointments|ham radio logging|DNA sequence alignment|web server written in go|fonts for arabic script
read ebooks|solve linear equations|virtual machines|sync folders between computers|watch tv streams
icons theme for desktop|astronomy telescope control|parse json in c|spell checking dictionary for german
wifi configuration|backup to cloud storage|bluetooth headphones|kids educational games|network packet sniffer
convert audio formats|log file analysis|crossword puzzles|handwriting recognition|robot simulation
email client in the console|debug memory leaks|geographic maps and routing|encrypt a hard disk|haskell http client
perl module for dates|screen reader for blind people|typing tutor|partition editor|molecular visualisation
music notation|racing game|build packages automatically|ruby testing framework|emulate old consoles|clipboard history
print labels|stock market data|fuzzy search|text to speech|window manager"""


def run(context: Context) -> Result:
    """Write the section for the corpus, for its sentences, and for a million windows of words."""
    corpus = corpora.full_corpus(context)
    rows: list[dict[str, Any]] = []
    for cut in CUTS[:1] if context.quick else CUTS:
        usage, measured = fresh(write_section, corpus=corpus.path, text=corpus.text, cut=cut)
        rows.append({**measured, "peak_mb": usage.peak_mb})
    if not context.quick:
        windows = corpora.windows(context, MILLION, group_rows=65_536)
        usage, measured = fresh(write_section, corpus=windows.path, text=windows.text, cut="documents")
        rows.append({**measured, "cut": "stretches of twelve words", "peak_mb": usage.peak_mb})
    targets = [
        target
        for row in rows
        for target in (
            Target(
                what=f"{row['documents']:,} {row['cut']}: a query", value=row["query_mb"], limit=QUERY_MB, unit="MB"
            ),
            Target(
                what=f"{row['documents']:,} {row['cut']}: recall@10 of typed queries",
                value=row["recall"],
                limit=RECALL,
                unit="",
                at_least=True,
            ),
        )
    ]
    return Result(
        title="Search by meaning in the page: cost, bytes of a query, and recall@10 against exact search.",
        parameters={"queries": len(queries()), "words_of_a_query": WORDS},
        rows=rows,
        targets=targets,
        notes=[
            f"A first query: the vocabulary, the centroids, {WORDS} files of tokens and the lists that are read. Later "
            "ones read tokens and lists.",
            "Queries are typed by hand, none is taken from the corpus. CPU-seconds of lists, trial and files, without "
            "the embedding of the documents.",
        ],
    )


def queries() -> list[str]:
    """The sample queries."""
    return TYPED.replace("\n", "|").split("|")


# ------------------------------------------------------------------------------------------------ in a fresh process


def write_section(corpus: str, text: str, cut: str) -> dict[str, Any]:
    """Write the section ``meaning`` of the corpus, and sum the sizes of its files."""
    import time

    import numpy as np
    import polars as pl

    from latentscale.embedders.static import StaticEmbedder
    from latentscale.viewer.meaning import Meaning
    from latentscale.viewer.meaning_files import meaning_section

    path = Path(corpus)
    frame = pl.read_parquet(path) if path.suffix == ".parquet" else pl.read_csv(path)
    texts = frame.select(text=pl.col(text).cast(pl.String))["text"].drop_nulls()
    if cut == "sentences":
        texts = texts.str.replace_all("\n", " ").str.split(". ").explode().str.strip_chars()
        texts = texts.filter(texts.str.len_chars() > 20).unique(maintain_order=True)
    model = StaticEmbedder()
    embedded = model.embed(texts.to_list())
    vectors = embedded.vectors[embedded.embeddable]
    meaning = Meaning(vectors=vectors, queries=model.embed(queries()).vectors, tokens=model.token_table())
    sizes: dict[str, int] = {}

    def put(name: str, content: bytes) -> None:
        sizes[name] = len(content)

    section = meaning_section(meaning, np.arange(len(vectors), dtype=np.int64))
    began = time.process_time()
    entry: Any = section.write(None, put)  # pyright: ignore[reportArgumentType]
    cpu_s = time.process_time() - began
    lists = [size for name, size in sizes.items() if name.startswith("lists/")]
    tokens = [size for name, size in sizes.items() if name.startswith("tokens/")]
    once = sizes["vocabulary.parquet"] + sizes["centroids.parquet"]
    return {
        "cut": cut,
        "documents": len(vectors),
        "cpu_s": cpu_s,
        "lists": entry["lists"],
        "lists_read": entry["probes"],
        "recall": entry["recall"],
        "bytes_a_document": sum(lists) / len(vectors),
        "tokens_mb": sum(tokens) / 1e6,
        "once_mb": once / 1e6,
        "query_mb": (once + WORDS * max(tokens) + entry["probes"] * sum(lists) / len(lists)) / 1e6,
    }
