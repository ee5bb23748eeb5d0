"""The numerical stages on processors: neighbours, layouts, clusters, densities and outlines."""

from latentscale.backends.cpu.clustering import hdbscan, kmeans, layer_tree, nearest_centroid
from latentscale.backends.cpu.compiled import cache_note
from latentscale.backends.cpu.layout import default_epochs, fuzzy_graph, layout
from latentscale.backends.cpu.neighbors import nearest_neighbors
from latentscale.backends.cpu.shapes import density, hulls

__all__ = [
    "cache_note",
    "default_epochs",
    "density",
    "fuzzy_graph",
    "hdbscan",
    "hulls",
    "kmeans",
    "layer_tree",
    "layout",
    "nearest_centroid",
    "nearest_neighbors",
]
