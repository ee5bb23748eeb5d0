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
    options = parser.parse_args()
    unit = np.load(options.vectors).astype(np.float32)
    if options.quick:
        unit, options.rows = unit[:250], 500
        LAYOUT["n_epochs"] = 10
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    threads = available_processors()
    gpu, cpu = TorchBackend(options.device), CpuBackend()
    results: dict[str, Any] = {
        "gpu": [
            {"name": gpu_info.name, "memory_gib": gpu_info.memory_gib, "driver": gpu_info.driver} for gpu_info in gpus()
        ],
        "device": str(gpu.device),
        "torch": package_version("torch"),
        "processors": threads,
        "rows": list(unit.shape),
    }

    def timed(name: str, work: Callable[[], Any]) -> Any:
        if gpu.device.type == "cuda":
            torch.cuda.synchronize()
            torch.cuda.reset_peak_memory_stats()
        started = time.perf_counter()
        result = work()
        if gpu.device.type == "cuda":
            torch.cuda.synchronize()
        facts = {"seconds": round(time.perf_counter() - started, 3)}
        if gpu.device.type == "cuda":
            facts["peak_gib"] = round(torch.cuda.max_memory_allocated() / 2**30, 3)
        results[name] = facts
        print(name, facts, flush=True)
        return result

    def find_neighbors(backend: Any, rows: Any, method: str = "auto") -> Any:
        return backend.neighbors(rows, k=K, method=method, recall_target=0.95, seed=0, threads=threads)

    def compute_layout(graph: Any, rows: Any, dimensions: int, *, deterministic: bool) -> Any:
        return gpu.layout(graph, rows, n_components=dimensions, deterministic=deterministic, threads=threads, **LAYOUT)

    def faithfulness_of(rows: Any, coordinates: Any, backend: Any = cpu) -> dict[str, Any]:
        result = backend.faithfulness(rows, coordinates, k=K, sample=2_000, seed=0, threads=threads)
        return {"trustworthiness": result.trustworthiness, "preservation": result.preservation}

    def find_clusters(backend: Any, points: Any) -> Any:
        return backend.hdbscan(points, min_cluster_size=max(5, len(points) // 500), **DENSITY)

    def find_kmeans(backend: Any, rows: Any) -> Any:
        return backend.kmeans(rows, n_clusters=min(512, len(rows) // 4), seed=0, threads=threads)

    cuml_missing = CumlBackend.missing(measure_place(cpus=threads, memory_bytes=0.0))
    rapids = CumlBackend(options.device) if cuml_missing is None else None
    results["cuml"] = cuml_missing or {gpu_info: package_version(gpu_info) for gpu_info in ("cuml-cu13", "cuvs-cu13")}
    gpu_backends = [("torch", gpu), *([("cuml", rapids)] if rapids is not None else [])]
    for name, backend in gpu_backends:
        compared = timed(
            f"comparison, {name}", partial(compare_backends, backend, cpu, unit[:DOCUMENTS], threads=threads)
        )
        results[f"comparison, {name}"] |= compared.as_json()
    timed("neighbors, first call", lambda: find_neighbors(gpu, unit))
    ours = timed("neighbors", lambda: find_neighbors(gpu, unit))
    truth = timed("neighbors, processors", lambda: find_neighbors(cpu, unit, "exact"))
    results["agreement of the neighbours"] = {
        "indices_equal": float((ours.indices == truth.indices).mean()),
        "largest_difference_of_distances": float(np.abs(ours.distances - truth.distances).max()),
        "recall": ours.recall,
        "details": ours.details,
    }
    for dimensions in (2, 5):
        for deterministic in (True, False):
            name = f"layout {dimensions}-D, {'repeatable' if deterministic else 'not repeatable'}"
            work = partial(compute_layout, truth, unit, dimensions, deterministic=deterministic)
            layout = timed(name, work)
            if dimensions == 2:
                results[name] |= faithfulness_of(unit, layout.coordinates)
                repeated = work()
                results[name]["same_bits_again"] = bool((repeated.coordinates == layout.coordinates).all())
    layout_2d = timed(
        "layout 2-D, processors, one thread",
        lambda: cpu.layout(truth, unit, n_components=2, deterministic=True, threads=1, **LAYOUT),
    )
    results["layout 2-D, processors, one thread"] |= faithfulness_of(unit, layout_2d.coordinates)
    layout_5d = compute_layout(truth, unit, 5, deterministic=True).coordinates
    exact_clusters = hdbscan(layout_5d, min_cluster_size=max(5, len(layout_5d) // 500), fit=exact_hdbscan, **DENSITY)
    timed("clusters 5-D, processors", partial(find_clusters, cpu, layout_5d))
    cpu_kmeans = timed("K-means, processors", partial(find_kmeans, cpu, unit))
    for name, backend in gpu_backends:
        result = timed(f"clusters 5-D, {name}", partial(find_clusters, backend, layout_5d))
        repeated = find_clusters(backend, layout_5d)
        results[f"clusters 5-D, {name}"] |= {
            "clusters": result.n_clusters,
            "of an exact tree": exact_clusters.n_clusters,
            "adjusted_rand_index": float(adjusted_rand_score(exact_clusters.labels, result.labels)),
            "same_bits_again": bool((repeated.labels == result.labels).all()),
        }
        result = timed(f"K-means, {name}", partial(find_kmeans, backend, unit))
        results[f"K-means, {name}"] |= {
            "adjusted_rand_index": float(adjusted_rand_score(cpu_kmeans.labels, result.labels)),
            "similarity": float(result.probabilities.mean()),
            "similarity on processors": float(cpu_kmeans.probabilities.mean()),
        }
    if rapids is not None:
        layout = timed(
            "layout 2-D, cuml",
            lambda: rapids.layout(truth, unit, n_components=2, deterministic=True, threads=threads, **LAYOUT),
        )
        results["layout 2-D, cuml"] |= faithfulness_of(unit, layout.coordinates)
    results["figures by the GPU"] = faithfulness_of(unit, layout_2d.coordinates, gpu)
    results["figures by the processors"] = faithfulness_of(unit, layout_2d.coordinates)

    copies = -(-options.rows // len(unit))
    random = np.random.default_rng(0)
    copies_of_rows = np.concatenate(
        [unit + random.normal(scale=0.02, size=unit.shape).astype(np.float32) for _ in range(copies)]
    )
    copies_of_rows = copies_of_rows[: options.rows]
    copies_of_rows /= np.linalg.norm(copies_of_rows, axis=1, keepdims=True)
    title = f"{len(copies_of_rows):,} × {copies_of_rows.shape[1]}"
    graph = timed(f"neighbors, {title}", lambda: find_neighbors(gpu, copies_of_rows))
    results[f"neighbors, {title}"] |= {"recall": graph.recall, "details": graph.details}
    for dimensions, deterministic in ((2, True), (2, False), (5, True)):
        name = f"layout {dimensions}-D, {title}, {'repeatable' if deterministic else 'not repeatable'}"
        layout = timed(name, partial(compute_layout, graph, copies_of_rows, dimensions, deterministic=deterministic))
        if dimensions == 2:
            results[name] |= timed(
                f"figures, {title}", partial(faithfulness_of, copies_of_rows, layout.coordinates, gpu)
            )
    for name, backend in gpu_backends:
        result = timed(f"clusters 5-D, {title}, {name}", partial(find_clusters, backend, layout.coordinates))
        results[f"clusters 5-D, {title}, {name}"] |= {"clusters": result.n_clusters}
        timed(f"K-means, {title}, {name}", partial(find_kmeans, backend, copies_of_rows))
    if rapids is not None:
        result = timed(f"neighbors, {title}, cuVS", partial(find_neighbors, rapids, copies_of_rows, SEARCH))
        results[f"neighbors, {title}, cuVS"] |= {"recall": result.recall, "details": result.details}
    Path(options.out).mkdir(parents=True, exist_ok=True)
    Path(options.out, "map_engine.json").write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
