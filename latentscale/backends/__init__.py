"""Numerical backends: the same few functions on processors and on GPUs, and what this machine has for them."""

from latentscale.backends.results import Clustering, NeighborGraph

__all__ = ["Clustering", "NeighborGraph"]
