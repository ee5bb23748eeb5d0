"""Lay documents out in a few dimensions with UMAP (McInnes et al. 2018) over one shared neighbour graph."""

from __future__ import annotations

import warnings
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from latentscale.backends.cpu.density import DensityTerm, Edges, serves_density
from latentscale.backends.cpu.parallel import blocks, one_blas_thread
from latentscale.backends.shown import cooling, is_shown
from latentscale.errors import ConfigError, CorpusError, ShapeError

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from latentscale.backends.results import NeighborGraph
    from latentscale.backends.shown import PreviewCallback

_PCA_SAMPLE = 200_000
# Largest accepted error of the fitted curve; that of UMAP's usual settings is up to 0.2.
_MAX_FIT_ERROR = 0.5


def usable_neighbors(graph: NeighborGraph, n_neighbors: int) -> int:
    """Number of neighbours per document that a layout uses: ``n_neighbors - 1``, as UMAP counts the document itself.

    Raises
    ------
    ShapeError
        If the graph has too few.
    """
    k = min(n_neighbors, len(graph)) - 1
    if graph.k < k:
        raise ShapeError(
            f"the neighbour graph has {graph.k} neighbours a document, n_neighbors={n_neighbors} needs {k}",
            hint=f"Set neighbors.k to {k} or more, or lower project.n_neighbors.",
        )
    return k


def fuzzy_graph(graph: NeighborGraph, *, n_neighbors: int) -> Any:
    """Build UMAP's fuzzy simplicial set from the first neighbours of a graph.

    Parameters
    ----------
    graph : NeighborGraph
        With ``k >= min(n_neighbors, n) - 1``.
    n_neighbors : int
        As in umap-learn, which counts the document itself: the first ``n_neighbors - 1`` of the graph are used.

    Returns
    -------
    scipy.sparse.csr_array, float32, shape (n, n)
        Symmetric, weights in (0, 1], no diagonal, sorted indices.

    Raises
    ------
    ShapeError
        If the graph has too few neighbours.
    """
    from scipy import sparse

    n = len(graph)
    k = usable_neighbors(graph, n_neighbors)
    if k < 1:
        return sparse.csr_array((n, n), dtype=np.float32)
    from latentscale.backends.cpu.neighbor_kernels import membership_strengths

    distances = np.ascontiguousarray(graph.distances[:, :k])
    weights = np.empty((n, k), np.float32)
    mean = float(distances.mean(dtype=np.float64)) * k / (k + 1)
    membership_strengths(distances, float(np.log2(k + 1)), mean, weights)
    directed = sparse.csr_array(
        (
            weights.ravel(),
            np.ascontiguousarray(graph.indices[:, :k]).ravel(),
            np.arange(0, n * k + 1, k, dtype=np.int64),
        ),
        shape=(n, n),
    )
    directed.eliminate_zeros()
    transposed = directed.T.tocsr()
    fuzzy = (directed + transposed - directed.multiply(transposed)).tocsr().astype(np.float32)
    fuzzy.sort_indices()
    return fuzzy


def layout(
    fuzzy: Any,
    vectors: NDArray[Any],
    *,
    n_components: int,
    min_dist: float,
    spread: float,
    n_epochs: int | None,
    mode: Literal["exact", "fast"],
    seed: int,
    negative_sample_rate: int,
    learning_rate: float,
    threads: int,
    progress: Callable[[int, int], None] | None = None,
    preview: PreviewCallback | None = None,
    fixed: NDArray[np.float32] | None = None,
    init: NDArray[np.float32] | None = None,
    radii: NDArray[np.float64] | None = None,
    density_weight: float = 0.0,
) -> NDArray[np.float32]:
    """Lay out the documents of a fuzzy graph in ``n_components`` dimensions.

    Initialized from the first principal components of ``vectors``, not from a spectral layout (which hangs on large
    sets). ``exact`` runs on one thread and is reproducible to the bit on one kind of machine; ``fast`` runs threads
    without locks (as Hogwild), so two runs differ. Both release the GIL: two layouts can run concurrently.

    Parameters
    ----------
    fuzzy : scipy.sparse.csr_array, shape (n, n)
        From :func:`fuzzy_graph`; several layouts can share it.
    vectors : ndarray, shape (n, dim)
        What the graph was built from, float32 or float16, a mapped file included.
    n_epochs : int or None
        None: see :func:`default_epochs`.
    progress : callable, optional
        Called with (epochs done, epochs) after each epoch.
    preview : callable, optional
        Called with (coordinates, epochs done, epochs) after each quarter of the epochs but the last: those of a copy
        that has cooled down.
    fixed : float32 ndarray, shape (n, c), optional
        The first ``c`` coordinates of each document, which are not moved: only the others are optimised.
    init : float32 ndarray, shape (n, n_components), optional
        Initial coordinates, instead of the principal components.
    radii : float64 ndarray, shape (n,), optional
        From :func:`latentscale.backends.cpu.density.log_radii`: the local densities that the layout is to preserve.
    density_weight : float
        Their weight relative to UMAP's objective.

    Returns
    -------
    float32 ndarray, shape (n, n_components)
        Unitless. Documents without neighbours keep their initial coordinates.

    Raises
    ------
    ShapeError
        If the graph and the vectors are of different numbers of documents, or ``fixed`` or ``init`` does not fit them.
    """
    n = int(fuzzy.shape[0])
    if len(vectors) != n:
        raise ShapeError(
            f"the neighbour graph covers {n:,} documents, the embedding {len(vectors):,}",
            hint="Build the graph from the same snapshot.",
        )
    epochs = default_epochs(n, n_components) if n_epochs is None else n_epochs
    positions = start_positions(vectors, fixed, init, n_components=n_components, seed=seed)
    if n < 2 or fuzzy.nnz == 0 or epochs < 1:
        return positions
    a, b = fit_ab(spread=spread, min_dist=min_dist)
    pull, push = _tables(a, b)
    edges = _edges(fuzzy, epochs)
    _descend(
        positions,
        edges,
        (pull, push, int(negative_sample_rate), np.uint64(seed & 0xFFFFFFFFFFFFFFFF)),
        first=0 if fixed is None else fixed.shape[1],
        epochs=epochs,
        learning_rate=learning_rate,
        mode=mode,
        threads=threads,
        progress=progress,
        preview=preview,
        density=None if radii is None else DensityTerm(radii, edges, pull, b, weight=density_weight),
    )
    return positions


def density_correlation(
    fuzzy: Any,
    radii: NDArray[np.float64],
    positions: NDArray[np.float32],
    *,
    min_dist: float,
    spread: float,
    threads: int,
) -> float | None:
    """Measure how well a layout preserves the local densities of the embedding.

    Returns
    -------
    float or None
        Pearson's correlation over the documents of the log radii in the embedding (``radii``) and in the layout; None
        where it is undefined.
    """
    if fuzzy.nnz == 0:
        return None
    a, b = fit_ab(spread=spread, min_dist=min_dist)
    term = DensityTerm(radii, _edges(fuzzy, None), _tables(a, b)[0], b)
    workers = max(1, threads)
    with ThreadPoolExecutor(workers, thread_name_prefix="latentscale-layout") as pool:
        return term.correlation(positions, blocks(len(positions), -(-len(positions) // workers)), pool)


def _edges(fuzzy: Any, epochs: int | None) -> Edges:
    """Return a fuzzy set as CSR arrays for the kernels; as in UMAP, edges that would never be sampled get weight 0."""
    from latentscale.backends.cpu.layout_kernels import FULL_WEIGHT

    weights = (fuzzy.data / fuzzy.data.max()).astype(np.float32)
    if epochs is not None:
        weights[weights < 1.0 / epochs] = 0.0
    return (
        fuzzy.indptr.astype(np.int64),
        fuzzy.indices.astype(np.int32),
        np.rint(weights * np.float64(FULL_WEIGHT)).astype(np.uint32),
    )


def _descend(
    positions: NDArray[np.float32],
    edges: Edges,
    constants: tuple[Any, ...],
    *,
    first: int,
    epochs: int,
    learning_rate: float,
    mode: Literal["exact", "fast"],
    threads: int,
    progress: Callable[[int, int], None] | None,
    preview: PreviewCallback | None,
    density: DensityTerm | None,
) -> None:
    from latentscale.backends.cpu.layout_kernels import move_vertices

    workers = 1 if mode == "exact" else max(1, threads)
    pieces = blocks(len(positions), -(-len(positions) // workers))

    def move(coordinates: NDArray[np.float32], piece: tuple[int, int], epoch: int, alpha: float) -> None:
        move_vertices(coordinates, *piece, first, *edges, epoch, np.float32(alpha), *constants)

    def move_all(coordinates: NDArray[np.float32], epoch: int, alpha: float) -> None:
        if workers == 1:
            move(coordinates, pieces[0], epoch, alpha)
        else:
            list(pool.map(partial(move, coordinates, epoch=epoch, alpha=alpha), pieces))

    with ThreadPoolExecutor(workers, thread_name_prefix="latentscale-layout") as pool:
        for epoch in range(epochs):
            alpha = learning_rate * (1.0 - epoch / epochs)
            move_all(positions, epoch, alpha)
            if density is not None and serves_density(epoch, epochs):
                density.move(positions, pieces, pool, epoch=epoch, alpha=alpha)
            if progress is not None:
                progress(epoch + 1, epochs)
            if preview is not None and is_shown(epoch + 1, epochs):
                preview_positions = positions.copy()
                for next_epoch, rate in cooling(epoch + 1, epochs, learning_rate):
                    move_all(preview_positions, next_epoch, rate)
                preview(preview_positions, epoch + 1, epochs)


def _tables(a: float, b: float) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Tabulate UMAP's attractive and repulsive forces by squared distance, for the kernels."""
    from latentscale.backends.cpu.layout_kernels import FIRST_BITS, PIECES_SHIFT, TABLE_SIZE

    bits = FIRST_BITS + (np.arange(TABLE_SIZE, dtype=np.int32) << PIECES_SHIFT)
    square = bits.view(np.float32).astype(np.float64)
    power = a * square**b
    pull = 2.0 * b * power / (square * (1.0 + power))
    push = 2.0 * b / ((0.001 + square) * (1.0 + power))
    return pull.astype(np.float32), push.astype(np.float32)


def default_epochs(n: int, n_components: int) -> int:
    """Number of epochs: 500 for a map of up to 10,000 documents, as in umap-learn, and 200 otherwise.

    Layouts of more than three dimensions are for clustering, which did not improve with more epochs (docs/decisions).
    """
    return 500 if n <= 10_000 and n_components <= 3 else 200


def fit_ab(*, spread: float, min_dist: float) -> tuple[float, float]:
    """Fit UMAP's ``a`` and ``b``, the shape of 1 / (1 + a d^2b), as ``umap.umap_.find_ab_params`` does."""
    x = np.linspace(0, spread * 3, 300)
    y = np.where(x < min_dist, 1.0, np.exp(-(x - min_dist) / spread))
    fitted = _fit_curve(x, y)
    if fitted is None:
        # From (1, 1) the fit diverges on scales far from 1: fit the same curve in units of ``spread``.
        fitted = _fit_curve(x / spread, y)
        if fitted is None:
            raise ConfigError(
                f"UMAP's curve cannot be fitted to project.spread={spread:g} and project.min_dist={min_dist:g}",
                where="project.min_dist",
                hint="Lower project.min_dist.",
            )
        a, b = fitted
        fitted = a / spread ** (2 * b), b
    return fitted


def _fit_curve(x: NDArray[np.float64], y: NDArray[np.float64]) -> tuple[float, float] | None:
    """Fit 1 / (1 + a x^2b); None where the fit does not converge or is poor. scipy's warnings are suppressed."""
    from scipy.optimize import curve_fit

    def curve(d: NDArray[np.float64], a: float, b: float) -> NDArray[np.float64]:
        return 1.0 / (1.0 + a * d ** (2 * b))

    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            (a, b), _ = curve_fit(curve, x, y)
        except RuntimeError:
            return None
        max_error = np.abs(curve(x, a, b) - y).max()
    return (float(a), float(b)) if a > 0 and b > 0 and max_error < _MAX_FIT_ERROR else None


def start_positions(
    vectors: NDArray[Any],
    fixed: NDArray[np.float32] | None,
    init: NDArray[np.float32] | None = None,
    *,
    n_components: int,
    seed: int,
) -> NDArray[np.float32]:
    """Compute initial coordinates: ``fixed``, if given, and for the other axes ``init`` or the principal components.

    Axes after the fixed ones are taken from the same columns of the start, centred at 0.

    Raises
    ------
    ShapeError
        If ``init`` or ``fixed`` has the wrong shape, or ``fixed`` leaves no axis to optimise.
    """
    if init is None:
        positions = pca_init(vectors, n_components=n_components, seed=seed)
    elif init.shape == (len(vectors), n_components):
        positions = np.array(init, np.float32)
    else:
        raise ShapeError(
            f"a start of shape {init.shape} is none of a layout of {len(vectors):,} documents in {n_components} "
            "dimensions"
        )
    if fixed is None:
        return positions
    if fixed.ndim != 2 or len(fixed) != len(vectors) or not 0 < fixed.shape[1] < n_components:
        raise ShapeError(
            f"fixed coordinates of shape {fixed.shape} are none of a layout of {len(vectors):,} documents in "
            f"{n_components} dimensions"
        )
    positions[:, fixed.shape[1] :] -= positions[:, fixed.shape[1] :].mean(axis=0)
    positions[:, : fixed.shape[1]] = fixed
    return positions


def pca_init(vectors: NDArray[Any], *, n_components: int, seed: int) -> NDArray[np.float32]:
    """Place documents by their first principal components, jittered, each axis stretched to [0, 10] as in UMAP.

    The components are fitted on at most 200,000 evenly spaced rows. A component without variance is replaced by random
    values in [0, 1], so that no two documents start at the same point.

    Returns
    -------
    float32 ndarray, shape (n, n_components)
    """
    n, dim = vectors.shape
    random = np.random.default_rng(seed)
    if n < 2:
        return np.zeros((n, n_components), np.float32)
    sampled = None if n <= _PCA_SAMPLE else np.linspace(0, n - 1, _PCA_SAMPLE).astype(np.int64)
    size = n if sampled is None else len(sampled)
    with one_blas_thread():
        mean = np.zeros(dim)
        spread = np.zeros((dim, dim))
        for start, stop in blocks(size, 8192):
            some = vectors[start:stop] if sampled is None else vectors[sampled[start:stop]]
            rows = np.asarray(some, np.float32)
            mean += rows.sum(axis=0, dtype=np.float64)
            spread += rows.T @ rows
        mean /= size
        covariance = spread / size - np.outer(mean, mean)
        if not np.isfinite(covariance).all():
            raise CorpusError("the embedding has values that are not numbers (NaN or infinite)")
        values, axes = np.linalg.eigh(covariance)
        kept = min(n_components, dim)
        axes = axes[:, ::-1][:, :kept].astype(np.float32)
        # The sign of an eigenvector is arbitrary: the largest entry is made positive.
        axes *= np.sign(axes[np.abs(axes).argmax(axis=0), np.arange(kept)])
        positions = np.zeros((n, n_components), np.float32)
        for start, stop in blocks(n, 8192):
            rows = np.asarray(vectors[start:stop], np.float32) - mean.astype(np.float32)
            positions[start:stop, :kept] = rows @ axes
    # Rounding leaves a little variance on axes that have none.
    floor = 1e-6 * max(float(values[-1]), 0.0) + 1e-12
    flat = np.ones(n_components, bool)
    flat[:kept] = values[::-1][:kept] <= floor
    positions[:, flat] = 0.0
    widest = float(np.abs(positions).max())
    positions *= 10.0 / widest if widest > 0 else 0.0
    positions += random.normal(scale=1e-4, size=positions.shape).astype(np.float32)
    positions -= positions.min(axis=0)
    extent = positions.max(axis=0)
    positions *= np.where(flat, 1.0, 10.0) / np.where(extent > 0, extent, 1.0)
    return positions.astype(np.float32)
