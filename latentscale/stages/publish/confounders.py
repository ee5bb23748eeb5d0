"""How strongly clusters follow confounders: length, language and source file of the texts."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from latentscale.embedders.language import language_of
from latentscale.quality.metrics import uncertainty_coefficient
from latentscale.storage.objects import Store
from latentscale.storage.snapshot import Snapshot
from latentscale.storage.vectors import stream_documents

_SAMPLE = 4_000
_MOST_SHARDS = 32
_LENGTHS = 4
# With more files, a file is likely a single document or a day, and not a confounder.
_MOST_FILES = 50


def measure_confounders(
    store: Store, snapshot: Snapshot, row_ids: NDArray[np.int64], cluster: NDArray[np.int32], *, text_column: str
) -> dict[str, float | None]:
    """Compute the share of the information on length, language and file that is explained by the clusters.

    Uses a sample of 4,000 documents from at most 32 shards, without noise.

    Returns
    -------
    dict
        ``length`` (in quartiles), ``language`` (or script) and ``file``, each in [0, 1]; None if nearly all documents
        have the same value, or there are too few.
    """
    chosen = _sample(snapshot, row_ids, cluster)
    lengths = np.zeros(len(chosen), dtype=np.int64)
    languages: list[str] = [""] * len(chosen)
    files: list[str] = [""] * len(chosen)
    for positions, batch in stream_documents(store, snapshot, row_ids[chosen], [text_column, "source"]):
        texts, sources = batch.column(0).to_pylist(), batch.column(1).to_pylist()
        for position, text, source in zip(positions.tolist(), texts, sources, strict=True):
            lengths[position], languages[position], files[position] = len(text), language_of(text), str(source)
    labels = cluster[chosen]
    quartiles = np.quantile(lengths, np.arange(1, _LENGTHS) / _LENGTHS) if len(chosen) else np.empty(0)
    return {
        "length": uncertainty_coefficient(labels, np.searchsorted(np.unique(quartiles), lengths)),
        "language": uncertainty_coefficient(labels, _codes(languages)),
        "file": uncertainty_coefficient(labels, _codes(files)) if len(set(files)) <= _MOST_FILES else None,
    }


def _sample(snapshot: Snapshot, row_ids: NDArray[np.int64], cluster: NDArray[np.int32]) -> NDArray[np.int64]:
    """Sample positions of documents that are not noise, ascending."""
    candidates = np.flatnonzero(cluster >= 0)
    shards = np.searchsorted(snapshot.shards.bases, snapshot.offsets(row_ids[candidates]), side="right")
    used = np.unique(shards)
    if len(used) > _MOST_SHARDS:
        sampled_shards = used[np.linspace(0, len(used) - 1, _MOST_SHARDS).round().astype(int)]
        candidates = candidates[np.isin(shards, sampled_shards)]
    if len(candidates) > _SAMPLE:
        candidates = np.sort(np.random.default_rng(0).choice(candidates, _SAMPLE, replace=False))
    return candidates


def _codes(values: list[str]) -> NDArray[np.int64]:
    return np.unique(np.array(values, dtype=object).astype(str), return_inverse=True)[1].astype(np.int64)
