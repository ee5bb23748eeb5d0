"""K-means and the spanning tree of the torch backend on a GPU, compared with CPUs: one command, two minutes.

    python benchmarks/gpu/clusters.py VECTORS.npy OUT [--rows 1000000] [--device cuda:0]

``VECTORS.npy`` contains unit rows (float16 or float32). Needs torch, NumPy, SciPy and scikit-learn. Writes
``OUT/clusters.json``: the agreement of GPU and CPUs on these rows, and seconds on ``--rows`` jittered copies. Points of
the tree are the first five principal components.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
import traceback
from functools import partial
from pathlib import Path
from typing import Any

sys.path[:0] = [str(Path(__file__).resolve().parents[2]), str(Path(__file__).resolve().parents[2] / ".gpu/packages")]


def main() -> None:
    """Measure, and write the results after each part."""
    import numpy as np
    import torch

    from latentscale.backends.cpu.clustering import kmeans
    from latentscale.backends.torch.device import open_device
    from latentscale.backends.torch.kmeans import lloyd
    from latentscale.backends.torch.spanning import spanning_tree

    parser = argparse.ArgumentParser()
    parser.add_argument("vectors")
    parser.add_argument("out", type=Path)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--device", default="cuda:0")
    options = parser.parse_args()
    device = open_device(options.device)
    real = np.load(options.vectors).astype(np.float32)
    real /= np.linalg.norm(real, axis=1, keepdims=True)
    random = np.random.default_rng(0)
    copies = real[random.integers(0, len(real), options.rows)]
    copies += random.normal(scale=0.02, size=copies.shape).astype(np.float32)
    copies /= np.linalg.norm(copies, axis=1, keepdims=True)
    axes = np.linalg.svd(real - real.mean(axis=0), full_matrices=False)[2][:5]
    results: dict[str, Any] = {"rows": len(real), "many_rows": len(copies), "torch": torch.__version__}
    if device.type == "cuda":
        results["gpu"] = torch.cuda.get_device_name(device)

    def clusters(points: Any, k: int, **fit_options: Any) -> tuple[float, Any]:
        began = time.perf_counter()
        fitted = kmeans(points, n_clusters=k, seed=0, threads=torch.get_num_threads(), **fit_options)
        return round(time.perf_counter() - began, 2), fitted

    def agreement(k: int) -> dict[str, Any]:
        on_device = {"lloyd": partial(lloyd, device=device)}
        clusters(real[:2_000], 10, **on_device)
        seconds, gpu = clusters(real, k, **on_device)
        cpu_seconds, cpu = clusters(real, k)
        same = float((gpu.labels == cpu.labels).mean())
        means = [float(one.probabilities.mean()) for one in (gpu, cpu)]
        return {"seconds": seconds, "cpu_seconds": cpu_seconds, "same_labels": same, "mean_cosine_gpu_cpu": means}

    def timed(k: int) -> dict[str, Any]:
        seconds, fitted = clusters(copies, k, lloyd=partial(lloyd, device=device))
        return {"seconds": seconds, "mean_cosine": float(fitted.probabilities.mean()), "notes": list(fitted.notes)}

    def tree(points: Any) -> dict[str, Any]:
        flat = np.ascontiguousarray((points @ axes.T).astype(np.float64))
        began = time.perf_counter()
        ways = spanning_tree(flat, min_samples=10, device=device)
        return {"seconds": round(time.perf_counter() - began, 2), "length": float(ways[:, 2].sum())}

    parts = {
        "kmeans_100": lambda: agreement(100),
        "kmeans_400": lambda: agreement(400),
        "many_kmeans_100": lambda: timed(100),
        "many_kmeans_5000": lambda: timed(5_000),
        "tree": lambda: tree(real),
        "tree_again": lambda: tree(real),
        "tree_100k": lambda: tree(copies[:100_000]),
        "many_tree": lambda: tree(copies),
    }
    for name, part in parts.items():
        try:
            results[name] = part()
        except Exception:  # noqa: BLE001 - continue with the other parts
            results[name] = {"failed": traceback.format_exc()[-1_500:]}
        print(name, json.dumps(results[name]), flush=True)
        options.out.mkdir(parents=True, exist_ok=True)
        (options.out / "clusters.json").write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
