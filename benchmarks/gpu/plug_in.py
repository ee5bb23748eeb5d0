"""An embedder and a backend of another package on a real GPU, found by entry points and run by the pipeline.

    python -m benchmarks.gpu.plug_in OUT

Runs the demo corpus twice, with the shipped embedder and backend and with those of ``acme_gpu``, and writes
``OUT/plug_in.json``: the choices with their reasons, the devices and seconds of each stage, and the agreement of the
vectors and the neighbours.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

ENTRY_POINTS = """
[latentscale.embedders]
torch-static = benchmarks.gpu.acme_gpu.embedder:TorchStaticSpec

[latentscale.backends]
torch-exact = benchmarks.gpu.acme_gpu.backend:TorchBackend
"""


def main(out: str) -> None:
    """Run both, compare, and write the results."""
    folder = Path(tempfile.mkdtemp())
    # A minimal distribution: the registries read only its entry points.
    for name, version, points in (("acme-gpu", "1.0", ENTRY_POINTS), ("latentscale", "0.1.0", "")):
        dist_info = folder / f"{name.replace('-', '_')}-{version}.dist-info"
        dist_info.mkdir()
        (dist_info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        (dist_info / "entry_points.txt").write_text(points)
    sys.path.append(str(folder))
    os.environ["PYTHONPATH"] = os.pathsep.join([str(folder), str(Path.cwd())])

    import numpy as np

    import latentscale
    from latentscale.demo import corpus_path
    from latentscale.machine import gpus, own_device, package_version

    results: dict[str, Any] = {
        "gpu": [
            {"name": first_vectors.name, "memory_gib": first_vectors.memory_gib, "driver": first_vectors.driver}
            for first_vectors in gpus()
        ],
        "torch": package_version("torch"),
        "own_device": own_device(),
        "runs": {},
    }
    corpus = {"sources": [str(corpus_path())], "text": "text"}
    jobs: dict[str, dict[str, Any]] = {
        "shipped": {"neighbors": {"backend": "cpu"}},
        "another package": {"embed": {"model": "torch-static"}},
    }
    vectors: dict[str, Any] = {}
    neighbors: dict[str, Any] = {}
    for name, settings in jobs.items():
        root = folder / name.replace(" ", "-")
        workspace = latentscale.Workspace(root)
        workspace.run({"corpus": corpus, **settings})
        records = {record.kind: record for record in workspace.artifacts}
        results["runs"][name] = {
            kind: {"choices": dict(record.choices), "cost": dict(record.cost)} for kind, record in records.items()
        }
        vectors[name] = _column(root / "embeddings", "vector")
        neighbors[name] = _column(root / "neighbors", "indices")
    first_vectors, second_vectors = vectors.values()
    results["smallest cosine of a document's two vectors"] = float(
        np.einsum("ij,ij->i", first_vectors, second_vectors).min()
    )
    common = [len(np.intersect1d(first, second)) for first, second in zip(*neighbors.values(), strict=True)]
    results["share of neighbours in common"] = float(np.mean(common) / neighbors["shipped"].shape[1])
    Path(out, "plug_in.json").write_text(json.dumps(results, indent=1, default=str))
    print(json.dumps(results, indent=1, default=str))


def _column(folder: Path, name: str) -> Any:
    import numpy as np
    import pyarrow.parquet as pq

    (path,) = folder.rglob("*.parquet")
    return np.stack(pq.read_table(path)[name].to_numpy()).astype(np.float64)


if __name__ == "__main__":
    main(sys.argv[1])
