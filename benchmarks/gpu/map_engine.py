"""The backends torch and cuml on a GPU, compared with CPUs: neighbours, layouts, clusters, figures of real vectors.

    python -m benchmarks.gpu.map_engine VECTORS.npy OUT [--rows 1000000] [--quick]

``VECTORS.npy`` contains unit rows, float16 or float32 (``python -m benchmarks.gpu.vectors`` writes those of the Debian
corpus). Writes ``OUT/map_engine.json``: the agreement of the backends on these rows, and seconds and memory of the GPU
alone on ``--rows`` jittered copies. Needs torch, numba, numpy, scipy, scikit-learn and hdbscan; cuML and cuVS are
measured too if they are installed.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

K = 15
LAYOUT: dict[str, Any] = {
    "n_neighbors": 15,
    "min_dist": 0.1,
    "spread": 1.0,
    "n_epochs": 200,
    "negative_sample_rate": 5,
    "learning_rate": 1.0,
    "seed": 42,
}
DENSITY: dict[str, Any] = {
    "min_samples": 10,
    "cluster_selection_method": "eom",
    "cluster_selection_epsilon": 0.0,
    "threads": 1,
}


def main() -> None:
    """Measure, and write the results."""
    import numpy as np
    import torch  # pyright: ignore[reportMissingImports]
    from sklearn.metrics import adjusted_rand_score

    from latentscale.backends.canary import DOCUMENTS, compare_backends
    from latentscale.backends.cpu.backend import CpuBackend
    from latentscale.backends.cpu.clustering import exact_hdbscan, hdbscan
    from latentscale.backends.cuml.backend import SEARCH, CumlBackend
    from latentscale.backends.torch.backend import TorchBackend
    from latentscale.engines.place import measure_place
    from latentscale.machine import available_processors, gpus, package_version

    parser = argparse.ArgumentParser()
    parser.add_argument("vectors")
    parser.add_argument("out")
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--device", default="cuda:0")
    parser.add_argument("--quick", action="store_true")
    given = parser.parse_args()
    unit = np.load(given.vectors).astype(np.float32)
    if given.quick:
        unit, given.rows = unit[:250], 500
        LAYOUT["n_epochs"] = 10
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    threads = available_processors()
    gpu, cpu = TorchBackend(given.device), CpuBackend()
    results: dict[str, Any] = {
        "gpu": [{"name": one.name, "memory_gib": one.memory_gib, "driver": one.driver} for one in gpus()],
        "device": str(gpu.device),
        "torch": package_version("torch"),
        "processors": threads,
        "rows": list(unit.shape),
    }

    def timed(name: str, work: Callable[[], Any]) -> Any:
        if gpu.device.type == "cuda":
            torch.cuda.synchronize()
            torch.cuda.reset_peak_memory_stats()
        begun = time.perf_counter()
        found = work()
        if gpu.device.type == "cuda":
            torch.cuda.synchronize()
        facts = {"seconds": round(time.perf_counter() - begun, 3)}
        if gpu.device.type == "cuda":
            facts["peak_gib"] = round(torch.cuda.max_memory_allocated() / 2**30, 3)
        results[name] = facts
        print(name, facts, flush=True)
        return found

    def near(backend: Any, rows: Any, method: str = "auto") -> Any:
        return backend.neighbors(rows, k=K, method=method, recall_target=0.95, seed=0, threads=threads)

    def laid_out(graph: Any, rows: Any, dimensions: int, *, deterministic: bool) -> Any:
        return gpu.layout(graph, rows, n_components=dimensions, deterministic=deterministic, threads=threads, **LAYOUT)

    def judged(rows: Any, coordinates: Any, backend: Any = cpu) -> dict[str, Any]:
        found = backend.faithfulness(rows, coordinates, k=K, sample=2_000, seed=0, threads=threads)
        return {"trustworthiness": found.trustworthiness, "preservation": found.preservation}

    def clustered(backend: Any, points: Any) -> Any:
        return backend.hdbscan(points, min_cluster_size=max(5, len(points) // 500), **DENSITY)

    def grouped(backend: Any, rows: Any) -> Any:
        return backend.kmeans(rows, n_clusters=min(512, len(rows) // 4), seed=0, threads=threads)

    lacks = CumlBackend.missing(measure_place(cpus=threads, memory_bytes=0.0))
    rapids = CumlBackend(given.device) if lacks is None else None
    results["cuml"] = lacks or {one: package_version(one) for one in ("cuml-cu13", "cuvs-cu13")}
    own = [("torch", gpu), *([("cuml", rapids)] if rapids is not None else [])]
    for name, backend in own:
        compared = timed(
            f"comparison, {name}", partial(compare_backends, backend, cpu, unit[:DOCUMENTS], threads=threads)
        )
        results[f"comparison, {name}"] |= compared.as_json()
    timed("neighbors, first call", lambda: near(gpu, unit))
    ours = timed("neighbors", lambda: near(gpu, unit))
    truth = timed("neighbors, processors", lambda: near(cpu, unit, "exact"))
    results["agreement of the neighbours"] = {
        "indices_equal": float((ours.indices == truth.indices).mean()),
        "largest_difference_of_distances": float(np.abs(ours.distances - truth.distances).max()),
        "recall": ours.recall,
        "details": ours.details,
    }
    for dimensions in (2, 5):
        for deterministic in (True, False):
            name = f"layout {dimensions}-D, {'repeatable' if deterministic else 'not repeatable'}"
            work = partial(laid_out, truth, unit, dimensions, deterministic=deterministic)
            made = timed(name, work)
            if dimensions == 2:
                results[name] |= judged(unit, made.coordinates)
                again = work()
                results[name]["same_bits_again"] = bool((again.coordinates == made.coordinates).all())
    flat = timed(
        "layout 2-D, processors, one thread",
        lambda: cpu.layout(truth, unit, n_components=2, deterministic=True, threads=1, **LAYOUT),
    )
    results["layout 2-D, processors, one thread"] |= judged(unit, flat.coordinates)
    deep = laid_out(truth, unit, 5, deterministic=True).coordinates
    exact = hdbscan(deep, min_cluster_size=max(5, len(deep) // 500), fit=exact_hdbscan, **DENSITY)
    timed("clusters 5-D, processors", partial(clustered, cpu, deep))
    middle = timed("K-means, processors", partial(grouped, cpu, unit))
    for name, backend in own:
        found = timed(f"clusters 5-D, {name}", partial(clustered, backend, deep))
        again = clustered(backend, deep)
        results[f"clusters 5-D, {name}"] |= {
            "clusters": found.n_clusters,
            "of an exact tree": exact.n_clusters,
            "adjusted_rand_index": float(adjusted_rand_score(exact.labels, found.labels)),
            "same_bits_again": bool((again.labels == found.labels).all()),
        }
        found = timed(f"K-means, {name}", partial(grouped, backend, unit))
        results[f"K-means, {name}"] |= {
            "adjusted_rand_index": float(adjusted_rand_score(middle.labels, found.labels)),
            "similarity": float(found.probabilities.mean()),
            "similarity on processors": float(middle.probabilities.mean()),
        }
    if rapids is not None:
        made = timed(
            "layout 2-D, cuml",
            lambda: rapids.layout(truth, unit, n_components=2, deterministic=True, threads=threads, **LAYOUT),
        )
        results["layout 2-D, cuml"] |= judged(unit, made.coordinates)
    results["figures by the GPU"] = judged(unit, flat.coordinates, gpu)
    results["figures by the processors"] = judged(unit, flat.coordinates)

    copies = -(-given.rows // len(unit))
    random = np.random.default_rng(0)
    many = np.concatenate([unit + random.normal(scale=0.02, size=unit.shape).astype(np.float32) for _ in range(copies)])
    many = many[: given.rows]
    many /= np.linalg.norm(many, axis=1, keepdims=True)
    title = f"{len(many):,} × {many.shape[1]}"
    graph = timed(f"neighbors, {title}", lambda: near(gpu, many))
    results[f"neighbors, {title}"] |= {"recall": graph.recall, "details": graph.details}
    for dimensions, deterministic in ((2, True), (2, False), (5, True)):
        name = f"layout {dimensions}-D, {title}, {'repeatable' if deterministic else 'not repeatable'}"
        made = timed(name, partial(laid_out, graph, many, dimensions, deterministic=deterministic))
        if dimensions == 2:
            results[name] |= timed(f"figures, {title}", partial(judged, many, made.coordinates, gpu))
    for name, backend in own:
        found = timed(f"clusters 5-D, {title}, {name}", partial(clustered, backend, made.coordinates))
        results[f"clusters 5-D, {title}, {name}"] |= {"clusters": found.n_clusters}
        timed(f"K-means, {title}, {name}", partial(grouped, backend, many))
    if rapids is not None:
        found = timed(f"neighbors, {title}, cuVS", partial(near, rapids, many, SEARCH))
        results[f"neighbors, {title}, cuVS"] |= {"recall": found.recall, "details": found.details}
    Path(given.out).mkdir(parents=True, exist_ok=True)
    Path(given.out, "map_engine.json").write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
