"""Compare a backend with the reference on documents of a snapshot, where its stage runs."""

from __future__ import annotations

import numpy as np

from latentscale.backends.canary import DOCUMENTS, Comparison, compare_backends
from latentscale.backends.select import open_backend
from latentscale.stages.context import StageContext
from latentscale.storage.snapshots import read_snapshot
from latentscale.storage.vectors import load_vectors


def try_on_documents(context: StageContext, *, backend: str, snapshot: str, embedding: str) -> Comparison:
    """Compare a backend with the backend cpu on at most 5,000 evenly spaced documents.

    Parameters
    ----------
    context : StageContext
    backend : str
    snapshot, embedding : str
        Ids.
    """
    matrix = load_vectors(context.store, read_snapshot(context.store, snapshot), embedding).matrix
    chosen = np.unique(np.linspace(0, max(len(matrix) - 1, 0), min(len(matrix), DOCUMENTS)).astype(np.int64))
    vectors = np.asarray(matrix[chosen], dtype=np.float32)
    return compare_backends(open_backend(backend), open_backend("cpu"), vectors, threads=context.threads)
