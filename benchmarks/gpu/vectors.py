"""Write vectors of the Debian corpus for a machine without a network: ``python -m benchmarks.gpu.vectors OUT.npy``."""

from __future__ import annotations

import sys


def main(out: str, rows: int = 20_000) -> None:
    """Embed the first texts with the shipped model, as float16 of shape (rows, 256)."""
    import tempfile
    from pathlib import Path

    import numpy as np
    import polars as pl

    from benchmarks import corpora
    from latentscale.embedders import open_embedder

    with tempfile.TemporaryDirectory() as folder:
        corpus = corpora.full_corpus(corpora.Context(scratch=Path(folder)))
        texts = pl.read_parquet(corpus.path)[corpus.text].unique(maintain_order=True).head(rows).to_list()
    np.save(out, open_embedder().embed(texts).vectors.astype(np.float16))


if __name__ == "__main__":
    main(sys.argv[1])
