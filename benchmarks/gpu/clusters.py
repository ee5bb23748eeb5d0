"""K-means and the spanning tree of the backend torch on a GPU, beside the processors: one command, two minutes.

    python benchmarks/gpu/clusters.py VECTORS.npy OUT [--rows 1000000] [--device cuda:0]

``VECTORS.npy`` holds unit rows (float16 or float32). Needs torch, NumPy, SciPy and scikit-learn. Writes
``OUT/clusters.json``: on the rows as they are, how far GPU and processors agree; on as many jittered copies as
``--rows`` says, seconds. Points of the tree are the first five principal components.
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
    """Measure, and write after each part."""
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
    many = real[random.integers(0, len(real), options.rows)]
    many += random.normal(scale=0.02, size=many.shape).astype(np.float32)
    many /= np.linalg.norm(many, axis=1, keepdims=True)
    axes = np.linalg.svd(real - real.mean(axis=0), full_matrices=False)[2][:5]
    found: dict[str, Any] = {"rows": len(real), "many_rows": len(many), "torch": torch.__version__}
    if device.type == "cuda":
        found["gpu"] = torch.cuda.get_device_name(device)

    def clusters(points: Any, k: int, **how: Any) -> tuple[float, Any]:
        began = time.perf_counter()
        made = kmeans(points, n_clusters=k, seed=0, threads=torch.get_num_threads(), **how)
        return round(time.perf_counter() - began, 2), made

    def agreement(k: int) -> dict[str, Any]:
        on_device = {"lloyd": partial(lloyd, device=device)}
        clusters(real[:2_000], 10, **on_device)
        seconds, gpu = clusters(real, k, **on_device)
        cpu_seconds, cpu = clusters(real, k)
        same = float((gpu.labels == cpu.labels).mean())
        means = [float(one.probabilities.mean()) for one in (gpu, cpu)]
        return {"seconds": seconds, "cpu_seconds": cpu_seconds, "same_labels": same, "mean_cosine_gpu_cpu": means}

    def timed(k: int) -> dict[str, Any]:
        seconds, made = clusters(many, k, lloyd=partial(lloyd, device=device))
        return {"seconds": seconds, "mean_cosine": float(made.probabilities.mean()), "notes": list(made.notes)}

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
        "tree_100k": lambda: tree(many[:100_000]),
        "many_tree": lambda: tree(many),
    }
    for name, part in parts.items():
        try:
            found[name] = part()
        except Exception:  # noqa: BLE001 - the other parts go on
            found[name] = {"failed": traceback.format_exc()[-1_500:]}
        print(name, json.dumps(found[name]), flush=True)
        options.out.mkdir(parents=True, exist_ok=True)
        (options.out / "clusters.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
