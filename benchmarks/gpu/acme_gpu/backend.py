"""Exact neighbours by matrix products on a GPU."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from latentscale.backends import NeighborGraph
from latentscale.backends.cpu.backend import CpuBackend
from latentscale.machine import Place

_BLOCK = 4_096


class TorchBackend(CpuBackend):
    """Computes ``neighbors`` only; ``auto`` uses the CPU for other stages."""

    name: ClassVar[str] = "torch-exact"
    stages: ClassVar[frozenset[str]] = frozenset({"neighbors"})
    libraries: ClassVar[Mapping[str, tuple[str, ...]]] = {"neighbors": ("torch",)}
    gpus: ClassVar[float] = 1.0

    @classmethod
    def missing(cls, place: Place) -> str | None:
        """It needs a GPU."""
        return None if place.gpus else "it needs a GPU"

    def neighbors(
        self, vectors: Any, *, k: int, method: str, recall_target: float, seed: int, threads: int
    ) -> NeighborGraph:
        """Compare all pairs, in blocks of rows."""
        import torch  # pyright: ignore[reportMissingImports]

        matrix = torch.from_numpy(np.array(vectors, dtype=np.float32)).to("cuda:0")
        count = min(k, len(matrix) - 1)
        indices = np.empty((len(matrix), count), np.int32)
        distances = np.empty((len(matrix), count), np.float32)
        for start in range(0, len(matrix), _BLOCK):
            block = matrix[start : start + _BLOCK]
            similarity = block @ matrix.T
            rows = torch.arange(len(block), device=matrix.device)
            similarity[rows, rows + start] = -torch.inf
            nearest = torch.topk(similarity, count, dim=1)
            stop = start + len(block)
            indices[start:stop] = nearest.indices.int().cpu().numpy()
            distances[start:stop] = (1 - nearest.values).clamp(0, 2).cpu().numpy()
        return NeighborGraph(indices=indices, distances=distances, recall=1.0, method="exact", backend=self.name)
