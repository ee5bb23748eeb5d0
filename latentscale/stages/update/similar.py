"""Which documents of a map those of an update are similar to, and which of the map's have them among their nearest."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from latentscale.backends.search import nearest_fitted
from latentscale.backends.select import open_backend
from latentscale.stages.neighbors import read_graph
from latentscale.stages.publish.similar import MOST_SIMILAR
from latentscale.stages.update.fit import Fit
from latentscale.stages.update.place import PlacementRequest
from latentscale.storage.objects import Store
from latentscale.storage.segments import Segment, contains, map_folder
from latentscale.storage.snapshot import Snapshot
from latentscale.storage.snapshots import read_snapshot
from latentscale.storage.vectors import load_vectors, vectors_at
from latentscale.viewer.removed import places_of
from latentscale.viewer.similar import Back, Similar

# Fitted documents that are looked at for each new one: some have left the map, and a new document may be among the
# nearest of others than its own nearest.
_LOOKED_AT = 90

Ids = NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Pairs:
    """New documents (rows) and documents near them (row ids), their cosines, and whether they belong to the others'
    nearest, too; all of shape (p,)."""

    rows: Ids
    others: Ids
    similarity: NDArray[np.float32]
    back: NDArray[np.bool_]


def similar_of_update(
    store: Store,
    snapshot: Snapshot,
    fit: Fit,
    staying: pa.Table,
    segments: Sequence[Segment],
    row_ids: Ids,
    request: PlacementRequest,
    *,
    threads: int,
) -> Similar | None:
    """Search the map for the documents that are nearest to each of ``row_ids``.

    Parameters
    ----------
    staying : pyarrow.Table
        ``row_id`` and ``segment`` of the points that the map takes over from its parent as they are.
    segments : sequence of Segment
        Those that stay, the fit first.
    row_ids : int64 ndarray, shape (n,)
        The documents that the map writes itself, by offset.
    request : PlacementRequest
        Of the update, for the settings of its search.

    Returns
    -------
    Similar or None
        None if there is nothing to be similar to, or a segment that stays has no page.
    """
    if any(segment.page is None for segment in segments):
        return None
    ids, segment_of = staying["row_id"].to_numpy(), staying["segment"].to_numpy()
    fitted, later = np.sort(ids[segment_of == 0]), ids[segment_of > 0]
    own = vectors_at(store, snapshot, request.embedding, snapshot.offsets(row_ids)).matrix
    others = vectors_at(store, snapshot, request.embedding, np.sort(snapshot.offsets(later)))
    parts = [_to_fitted(store, fit, own, fitted, request, threads=threads)]
    matrix = np.concatenate([own, others.matrix]) if len(others) else own
    if len(matrix) > 1:
        named = np.concatenate([row_ids, others.row_ids])
        parts.append(_among(matrix, named, len(row_ids), request, threads=threads))
    return _similar(
        parts, row_ids, partial(_locate, store, segments, np.sort(ids), segment_of[np.argsort(ids)]), segments
    )


def _to_fitted(
    store: Store, fit: Fit, own: NDArray[np.float32], staying: Ids, request: PlacementRequest, *, threads: int
) -> _Pairs:
    """Pairs with documents of the fit."""
    vectors = load_vectors(store, read_snapshot(store, str(fit.map.request["snapshot"])), request.embedding)
    graph = read_graph(store, fit.neighbors)
    indices, distances = nearest_fitted(
        own,
        vectors.matrix,
        graph,
        k=_LOOKED_AT,
        recall_target=request.recall,
        seed=request.seed,
        threads=threads,
    )
    rows = np.repeat(np.arange(len(own)), indices.shape[1])
    others, distances = indices.reshape(-1), distances.reshape(-1)
    # Nearer than the last of those that the other document has.
    k = min(MOST_SIMILAR, graph.k)
    back = distances < graph.distances[others, k - 1] if k else np.ones(len(others), bool)
    here = contains(staying, vectors.row_ids[others])
    return _Pairs(
        rows=rows[here], others=vectors.row_ids[others[here]], similarity=1 - distances[here], back=back[here]
    )


def _among(matrix: NDArray[np.float32], row_ids: Ids, n: int, request: PlacementRequest, *, threads: int) -> _Pairs:
    """Pairs among the documents of updates, of which the first ``n`` are new."""
    graph = open_backend(request.backend).neighbors(
        matrix,
        k=min(MOST_SIMILAR, len(matrix) - 1),
        method="auto",
        recall_target=request.recall,
        seed=request.seed,
        threads=threads,
    )
    rows = np.repeat(np.arange(len(matrix)), graph.k)
    others, similarity = graph.indices.reshape(-1).astype(np.int64), 1 - graph.distances.reshape(-1)
    new = rows < n
    # Of an earlier update's documents, what new ones they have among their nearest.
    turned = ~new & (others < n)
    return _Pairs(
        rows=np.concatenate([rows[new], others[turned]]),
        others=row_ids[np.concatenate([others[new], rows[turned]])],
        similarity=np.concatenate([similarity[new], similarity[turned]]),
        back=np.repeat([False, True], [np.count_nonzero(new), np.count_nonzero(turned)]),
    )


def _similar(
    parts: Sequence[_Pairs], row_ids: Ids, locate: partial[tuple[Ids, Ids]], segments: Sequence[Segment]
) -> Similar | None:
    n = len(row_ids)
    rows, others = (np.concatenate([getattr(part, name) for part in parts]) for name in ("rows", "others"))
    similarity = np.concatenate([part.similarity for part in parts]).astype(np.float32)
    back = np.concatenate([part.back for part in parts])
    order = np.lexsort((back, others, -similarity, rows))
    # A pair that both searches found, or that was turned, counts once.
    again = np.zeros(len(order), bool)
    again[1:] = (rows[order][1:] == rows[order][:-1]) & (others[order][1:] == others[order][:-1])
    order = order[~again]
    counts = np.bincount(rows[order], minlength=n)
    # As many for each: a list is found by the number of its document.
    k = int(min(MOST_SIMILAR, counts.min(initial=MOST_SIMILAR)))
    if k == 0:
        return None
    taken = order[(np.cumsum(counts) - counts)[:, None] + np.arange(k)]
    of, places = locate(row_ids, others[taken].reshape(-1))
    turned = np.flatnonzero(back)
    of_turned, places_turned = locate(row_ids, others[turned])
    return Similar(
        places=places.reshape(n, k),
        similarity=similarity[taken],
        of=of.reshape(n, k).astype(np.uint8),
        earlier=[segment.map for segment in segments],
        back=Back(
            of=of_turned.astype(np.uint8), places=places_turned, rows=rows[turned], similarity=similarity[turned]
        ),
    )


def _locate(
    store: Store, segments: Sequence[Segment], known: Ids, segment_of: NDArray[np.int32], own: Ids, row_ids: Ids
) -> tuple[Ids, Ids]:
    """Where documents are: 0 and the row of a new one, or a segment, from 1, and the position in its page."""
    of, places = np.zeros(len(row_ids), np.int64), np.zeros(len(row_ids), np.int64)
    order = np.argsort(own)
    new = contains(own[order], row_ids)
    places[new] = order[np.searchsorted(own[order], row_ids[new])]
    of[~new] = segment_of[np.searchsorted(known, row_ids[~new])] + 1
    for number, segment in enumerate(segments, start=1):
        here = of == number
        wanted, inverse = np.unique(row_ids[here], return_inverse=True)
        folder = f"{map_folder(segment.map)}/viewer"
        found = places_of(lambda name, at=folder: store.read_bytes(f"{at}/{name}"), segment.page or {}, wanted)
        places[here] = found[inverse]
    return of, places
