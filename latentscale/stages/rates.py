"""Measured rates for cost estimates: CPU-seconds of one reference core, and bytes.

The reference is one of two shared cores of an AMD EPYC of 2026; the figures are those of ``benchmarks/results``
(``scale``, ``pipeline_63k``, ``embed_static``, ``kmeans``, ``tokens``, ``gpu``) and of docs/decisions/0008.
``latentscale plan`` measures the speed of this machine's cores relative to it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from latentscale.stages.stage import HELD_BYTES, JobSize

# Up to here a layout mostly fits in the CPU cache; above, each doubling adds a share of the time: 16 CPU-s for both
# layouts of 100 thousand documents, 360 for those of a million.
_CACHED_DOCUMENTS = 64_000
_PER_DOUBLING = 0.44
# CPU-seconds per document of the reference length, with a model of the size of all-MiniLM-L6-v2 (384 dimensions).
_ENCODER_SECONDS = 0.061
_ENCODER_DIM = 384
_TOKENS_SECONDS = 1.5e-5
# On an H100, a model of the size of BERT-base (768 dimensions) in bf16.
_GPU_SECONDS = 6.3e-5
_GPU_DIM = 768
# CPU-seconds per document of HDBSCAN, and of another selection of clusters from the same tree.
_PER_TREE, _PER_FIT = 2.6e-5, 5.0e-6
# As in the backend cpu: limit of the exact search, and of maps with 500 epochs.
_EXACT_LIMIT = 30_000**2 * 256
_SMALL_MAP, _MAP_DIMENSIONS = 10_000, 3
# Relative cost of a layout with densMAP.
_DENSE = 1.35
# Per multiplication of a document's value with a centroid's, and per value and round for reads and sums.
_PRODUCT_SECONDS, _VALUE_SECONDS = 1.85e-11, 1.0e-8
# K-means of few clusters: rounds, assumed clusters if chosen by a silhouette curve, and seconds for that curve.
_ROUNDS, _CHOSEN_CLUSTERS, _CURVE_SECONDS = 25, 100, 3.0
# K-means of many clusters, as in backends.cpu.closure_kmeans: smallest number, size of a closure, full rounds, closure
# rounds, and documents per cluster of the initialization.
_FEW_CLUSTERS, _NEAR = 256, 128
_ROUNDS_OF_ALL, _ROUNDS_OF_NEAR, _STARTED = 6, 30, 32
# Largest number of documents whose words are in memory: labels sample each cluster, the page is written in blocks.
_TEXTS_AT_ONCE = 50_000
# Number of documents from which the backend cpu uses its own, multi-threaded spanning tree.
OWN_TREE = 50_000
ENCODERS = ("transformers", "onnx", "vllm")
_SECONDS = {"static": 2.7e-5, "column": 1.0e-5, "endpoint": 3.0e-5}


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbedSeconds:
    """Cost of embedding a corpus, in seconds.

    Attributes
    ----------
    cpu : float
        Sum over all cores.
    gpu : float
        Sum over all GPUs; 0 without.
    """

    cpu: float
    gpu: float = 0.0


def embed_seconds(size: JobSize) -> EmbedSeconds:
    """Estimate by the kind of embedder; the work of an encoder grows with the cube of its width (layers times width²).

    For a service only the local work is counted.
    """
    texts = size.documents * size.length
    if size.embedder not in ENCODERS:
        return EmbedSeconds(cpu=0.2 + _SECONDS.get(size.embedder, _SECONDS["static"]) * texts)
    if size.gpus:
        return EmbedSeconds(
            cpu=_TOKENS_SECONDS * texts, gpu=_GPU_SECONDS * texts * ((size.dim or _GPU_DIM) / _GPU_DIM) ** 3
        )
    return EmbedSeconds(cpu=_ENCODER_SECONDS * texts * ((size.dim or _ENCODER_DIM) / _ENCODER_DIM) ** 3)


def cache_growth(documents: int) -> float:
    """Relative cost per document of work with random memory access, which grows with the number of documents."""
    return 1.0 + _PER_DOUBLING * max(0.0, math.log2(max(documents, 1) / _CACHED_DOCUMENTS))


def density_seconds(documents: int, *, fits: int = 1) -> float:
    """CPU-seconds of ``fits`` runs of HDBSCAN on a few dimensions; for large layouts they share a spanning tree."""
    again = _PER_FIT if documents >= OWN_TREE else _PER_TREE
    return 0.35 + documents * (_PER_TREE + (fits - 1) * again)


def is_searched_exactly(size: JobSize) -> bool:
    """Whether the backend cpu searches exactly, with ``neighbors.method: auto``."""
    return size.documents**2 * size.dim <= _EXACT_LIMIT


def neighbor_seconds(size: JobSize) -> float:
    """CPU-seconds of the neighbour graph, exact or by NN-descent."""
    if is_searched_exactly(size):
        return 0.4 + 5.5e-9 * size.documents**2 * size.dim / 256
    return 1.0 + 7.1e-5 * size.documents * (0.5 + 0.5 * size.dim / 256)


def default_epochs(documents: int, dimensions: int) -> int:
    """Default epochs of the backend cpu."""
    return 500 if documents <= _SMALL_MAP and dimensions <= _MAP_DIMENSIONS else 200


def layout_seconds(documents: int, *, epochs: int | None, dimensions: int, dense: bool = False) -> float:
    """CPU-seconds of optimising one layout; ``epochs`` None is the default number.

    ``dense``: with densMAP.
    """
    if epochs is None:
        epochs = default_epochs(documents, dimensions)
    each = 2.85e-7 if dimensions <= 2 else 3.3e-7 if dimensions == 3 else 4.1e-7
    return 0.2 + each * epochs * documents * cache_growth(documents) * (_DENSE if dense else 1.0)


def kmeans_seconds(size: JobSize, n_clusters: int | None) -> float:
    """CPU-seconds of spherical K-means; ``n_clusters`` None includes the silhouette curve."""
    if not n_clusters:
        return _CURVE_SECONDS + kmeans_seconds(size, _CHOSEN_CLUSTERS)
    values = float(size.documents) * size.dim
    of_all = values * n_clusters * _PRODUCT_SECONDS
    if n_clusters <= _FEW_CLUSTERS:
        return _ROUNDS * (of_all + values * _VALUE_SECONDS)
    # Initialization compares its documents with twice as many candidates, which greedy k-means++ halves.
    started = min(size.documents, _STARTED * n_clusters) * size.dim
    start = 3 * started * n_clusters * _PRODUCT_SECONDS + 20 * n_clusters**2 * size.dim * _PRODUCT_SECONDS
    of_near = values * (_NEAR * _PRODUCT_SECONDS + _VALUE_SECONDS)
    return start + _ROUNDS_OF_ALL * of_all + _ROUNDS_OF_NEAR * of_near


def peak_bytes(size: JobSize, *, fixed: float, document: float, text: float = 0.0) -> float:
    """Estimate the peak memory of a stage in bytes, without the process itself.

    Parameters
    ----------
    fixed : float
        Bytes of libraries and compiled code.
    document : float
        Bytes per document, without its vector.
    text : float
        Bytes per document of the reference length, for the documents whose texts are in memory at once.
    """
    texts = min(size.documents, _TEXTS_AT_ONCE) * text * size.length
    return fixed + texts + size.documents * (document + HELD_BYTES * size.dim)
