"""Numerical backends: the same computations on CPUs and on GPUs; one is chosen for each stage."""

from latentscale.backends.results import Assignment, Clustering, Faithfulness, Fitted, Layout, NeighborGraph

__all__ = ["Assignment", "Clustering", "Faithfulness", "Fitted", "Layout", "NeighborGraph"]
