"""Measured rates on which the estimates of cost rest: processor seconds of one reference core, and bytes.

The reference is one of two shared cores of an AMD EPYC of 2026; the figures are those of ``benchmarks/results``
(``scale``, ``pipeline_63k``, ``embed_static``, ``kmeans``, ``tokens``, ``gpu``) and of docs/decisions/0008.
``latentscale plan`` measures how fast this machine's cores are beside it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from latentscale.stages.stage import HELD_BYTES, JobSize

# Up to here a layout is found in the cache of the processor often enough; above, each doubling adds a share of the
# time: 16 CPU-s for both layouts of 100 thousand documents, 360 for those of a million.
_CACHED_DOCUMENTS = 64_000
_PER_DOUBLING = 0.44
# CPU-seconds of a document of the usual length: by a model of the size of all-MiniLM-L6-v2 (384 dimensions).
_ENCODER_SECONDS = 0.061
_ENCODER_DIM = 384
_TOKENS_SECONDS = 1.5e-5
# On an H100, a model of the size of BERT-base (768 dimensions) in bf16.
_GPU_SECONDS = 6.3e-5
_GPU_DIM = 768
# CPU-seconds of a document for the spanning tree of HDBSCAN with what follows, and for another selection of clusters.
_PER_TREE, _PER_FIT = 2.6e-5, 5.0e-6
# As the backend of the processors has it: exact search, and 500 epochs for a layout of few documents to look at.
_EXACT_LIMIT = 30_000**2 * 256
_SMALL_MAP, _MAP_DIMENSIONS = 10_000, 3
# What a layout takes that keeps densities, too.
_DENSE = 1.35
# A product of a value of a document and one of a centroid, and what a round takes for each value beside its products,
# in reads and sums.
_PRODUCT_SECONDS, _VALUE_SECONDS = 1.85e-11, 1.0e-8
# K-means of few clusters: rounds, and clusters where a silhouette curve chooses, which takes some seconds.
_ROUNDS, _CHOSEN_CLUSTERS, _CURVE_SECONDS = 25, 100, 3.0
# Of many, as backends.cpu.many_clusters has them: where they begin, the near ones, rounds among all centroids and among
# near ones, and documents of the start for each cluster.
_FEW_CLUSTERS, _NEAR = 256, 128
_ROUNDS_OF_ALL, _ROUNDS_OF_NEAR, _STARTED = 6, 30, 32
# Documents whose words labels and the page hold at once: labels read some of each cluster, the page goes by blocks.
_TEXTS_AT_ONCE = 50_000
# Documents from which the processors have a spanning tree of their own, on all threads.
OWN_TREE = 50_000
ENCODERS = ("transformers", "onnx", "vllm")
_SECONDS = {"static": 2.7e-5, "column": 1.0e-5, "endpoint": 3.0e-5}


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbedSeconds:
    """What embedding a corpus takes.

    Attributes
    ----------
    cpu : float
        Of all processors together.
    gpu : float
        Of all GPUs together; 0 without.
    """

    cpu: float
    gpu: float = 0.0


def embed_seconds(size: JobSize) -> EmbedSeconds:
    """By the kind of the embedder; the work of an encoder grows with the cube of its width (layers times width²).

    What a service takes is not known: only what is done here counts.
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
    """By how much more a document takes in a set of so many, in work that jumps about in memory."""
    return 1.0 + _PER_DOUBLING * max(0.0, math.log2(max(documents, 1) / _CACHED_DOCUMENTS))


def density_seconds(documents: int, *, fits: int = 1) -> float:
    """CPU-seconds of HDBSCAN on a few dimensions, in so many fits: those of a large layout share a spanning tree."""
    again = _PER_FIT if documents >= OWN_TREE else _PER_TREE
    return 0.35 + documents * (_PER_TREE + (fits - 1) * again)


def is_searched_exactly(size: JobSize) -> bool:
    """Whether the processors compare all pairs, as ``neighbors.method: auto`` has it."""
    return size.documents**2 * size.dim <= _EXACT_LIMIT


def neighbor_seconds(size: JobSize) -> float:
    """CPU-seconds of the neighbour graph: of all pairs, or by NN-descent."""
    if is_searched_exactly(size):
        return 0.4 + 5.5e-9 * size.documents**2 * size.dim / 256
    return 1.0 + 7.1e-5 * size.documents * (0.5 + 0.5 * size.dim / 256)


def default_epochs(documents: int, dimensions: int) -> int:
    """As the backend of the processors has it."""
    return 500 if documents <= _SMALL_MAP and dimensions <= _MAP_DIMENSIONS else 200


def layout_seconds(documents: int, *, epochs: int | None, dimensions: int, dense: bool = False) -> float:
    """CPU-seconds of the descent of one layout; without a number of epochs, of as many as there are by default.

    ``dense``: whether it keeps densities, too.
    """
    if epochs is None:
        epochs = default_epochs(documents, dimensions)
    each = 2.85e-7 if dimensions <= 2 else 3.3e-7 if dimensions == 3 else 4.1e-7
    return 0.2 + each * epochs * documents * cache_growth(documents) * (_DENSE if dense else 1.0)


def kmeans_seconds(size: JobSize, n_clusters: int | None) -> float:
    """CPU-seconds of spherical K-means; without a number of clusters, with the silhouette curve."""
    if not n_clusters:
        return _CURVE_SECONDS + kmeans_seconds(size, _CHOSEN_CLUSTERS)
    values = float(size.documents) * size.dim
    of_all = values * n_clusters * _PRODUCT_SECONDS
    if n_clusters <= _FEW_CLUSTERS:
        return _ROUNDS * (of_all + values * _VALUE_SECONDS)
    # The documents of the start are compared with twice as many candidates, of which greedy k-means++ takes half.
    started = min(size.documents, _STARTED * n_clusters) * size.dim
    start = 3 * started * n_clusters * _PRODUCT_SECONDS + 20 * n_clusters**2 * size.dim * _PRODUCT_SECONDS
    of_near = values * (_NEAR * _PRODUCT_SECONDS + _VALUE_SECONDS)
    return start + _ROUNDS_OF_ALL * of_all + _ROUNDS_OF_NEAR * of_near


def held_bytes(size: JobSize, *, fixed: float, document: float, text: float = 0.0) -> float:
    """Memory of a stage at its peak, the process itself left out.

    Parameters
    ----------
    fixed : float
        Of its libraries and compiled code.
    document : float
        For each document, its vector's share left out.
    text : float
        For each document of the usual length, of those whose texts are read at once.
    """
    texts = min(size.documents, _TEXTS_AT_ONCE) * text * size.length
    return fixed + texts + size.documents * (document + HELD_BYTES * size.dim)
