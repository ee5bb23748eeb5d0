"""Have the real cuML and cuVS check the calls of the backend, in an environment that has them and no GPU.

    PYTHONPATH=. PYTHON tests/backends/cuml/contract.py

They check names, shapes, types and combinations of arguments before they first touch a device: a call that is stopped
by the missing driver alone has been accepted. Two names are replaced: the stream that cuML enters before it looks at
any argument, and the class of resources for which cuVS waits before it does. Prints an object of results.
"""

from __future__ import annotations

import contextlib
import inspect
import json
import sys
from collections.abc import Callable
from typing import Any

import numpy as np


def main() -> None:
    """Make each call of the backend, and some that must be refused."""
    import cuml.cluster
    import cuml.internals.outputs
    import cuml.manifold
    import cuvs.neighbors
    from cuvs.common import Resources

    from latentscale.backends.cuml import calls

    class Stream:
        ptds = contextlib.nullcontext()

    class Quiet(Resources):  # type: ignore[misc]
        def sync(self) -> None:
            """Wait for no device."""

    cuml.internals.outputs.Stream = Stream
    # Its methods are compiled, and look this name up in their module.
    sys.modules[cuvs.neighbors.all_neighbors.build.__module__].Resources = Quiet
    sys.modules[cuvs.neighbors.all_neighbors.AllNeighborsParams.__module__].Resources = Quiet

    random = np.random.default_rng(0)
    x = random.normal(size=(400, 16)).astype(np.float32)
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    apart = 1.0 - x @ x.T
    np.fill_diagonal(apart, -1.0)
    order = np.argsort(apart, axis=1)[:, :15].astype(np.int64)
    near = np.maximum(np.take_along_axis(apart, order, 1), 0.0).astype(np.float32)
    descent: dict[str, Any] = {"n_epochs": 200, "min_dist": 0.1, "spread": 1.0, "negative_sample_rate": 5}
    descent["learning_rate"] = 1.0
    density: dict[str, Any] = {
        "min_cluster_size": 20,
        "cluster_selection_method": "leaf",
        "cluster_selection_epsilon": 0.1,
    }
    start = np.ascontiguousarray(x[:, :5])
    cases: dict[str, Callable[[], Any]] = {
        "umap": lambda: calls.umap(x, order, near, start, random_state=None, **descent),
        "umap, repeatable": lambda: calls.umap(x, order, near, start, random_state=7, **descent),
        "umap, the row itself not first": lambda: calls.umap(
            x, order[:, 1:].copy(), near[:, 1:].copy(), start, random_state=None, **descent
        ),
        "umap, a start of another length": lambda: calls.umap(x, order, near, start[:-1], random_state=None, **descent),
        "hdbscan": lambda: calls.hdbscan(x[:, :5], min_samples=10, **density),
        "dbscan": lambda: calls.dbscan(x[:, :5], eps=0.3, min_samples=5),
        "all_neighbors": lambda: calls.all_neighbors(x, k=24, descent=calls.Descent(parts=1, overlap=1, degree=32)),
        "all_neighbors, in parts": lambda: calls.all_neighbors(
            x, k=24, descent=calls.Descent(parts=4, overlap=2, degree=64)
        ),
    }
    answers: dict[str, str] = {}
    for name, call in cases.items():
        try:
            call()
            answers[name] = "returned"
        except Exception as error:  # noqa: BLE001 - whatever they raise is compared
            answers[name] = f"{type(error).__name__}: {error}"
    kinds: dict[str, Any] = {
        "UMAP": cuml.manifold.UMAP,
        "HDBSCAN": cuml.cluster.HDBSCAN,
        "DBSCAN": cuml.cluster.DBSCAN,
        "build": cuvs.neighbors.all_neighbors.build,
        # Compiled: the first line of its documentation is its signature.
        "IndexParams": str(cuvs.neighbors.nn_descent.IndexParams.__doc__).splitlines()[0],
        "AllNeighborsParams": str(cuvs.neighbors.all_neighbors.AllNeighborsParams.__doc__).splitlines()[0],
    }
    signatures = {name: kind if isinstance(kind, str) else str(inspect.signature(kind)) for name, kind in kinds.items()}
    print(json.dumps({"cuml": cuml.__version__, "answers": answers, "signatures": signatures}))


if __name__ == "__main__":
    main()
