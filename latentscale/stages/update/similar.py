"""Similar documents across an update: nearest documents of new ones, and new ones among the nearest of old ones."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from latentscale.backends import NeighborGraph
from latentscale.backends.search import nearest_fitted
from latentscale.stages.neighbors import read_graph
from latentscale.stages.publish.similar import MOST_SIMILAR
from latentscale.stages.update.fit import Fit
from latentscale.stages.update.place import PlacementRequest, read_nearest, read_placement
from latentscale.storage.artifacts import Record
from latentscale.storage.objects import Store
from latentscale.storage.segments import Segment, contains, map_folder
from latentscale.storage.snapshot import Snapshot
from latentscale.storage.snapshots import read_snapshot
from latentscale.storage.vectors import load_vectors, vectors_at
from latentscale.viewer.removed import positions_by_row_id
from latentscale.viewer.similar import ReverseNeighbors, Similar

# Number of candidates per new document, if the placement has none: some were removed from the map, and the relation of
# being nearest is not symmetric.
_LOOKED_AT = 48

Ids = NDArray[np.int64]


def similar_of_update(
    store: Store,
    snapshot: Snapshot,
    fit: Fit,
    fitted_ids: Ids,
    staying: pa.Table,
    segments: Sequence[Segment],
    row_ids: Ids,
    placement: Record,
    *,
    threads: int,
) -> Similar | None:
    """Find the nearest documents on the map of each of ``row_ids``.

    Parameters
    ----------
    fitted_ids : int64 ndarray
        ``row_id`` of the fitted documents, in their order.
    staying : pyarrow.Table
        ``row_id`` and ``segment`` of the points reused from the parent.
    segments : sequence of Segment
        Kept segments, the fit first.
    row_ids : int64 ndarray, shape (n,)
        Documents of the new segment, by offset.
    placement : Record
        Record of the placement, whose nearest documents are reused.

    Returns
    -------
    Similar or None
        None if there are no other documents, or a kept segment has no page.
    """
    if any(segment.page is None for segment in segments):
        return None
    request = PlacementRequest.read(placement.request)
    ids, segment_of = staying["row_id"].to_numpy(), staying["segment"].to_numpy()
    fitted, later = np.sort(ids[segment_of == 0]), ids[segment_of > 0]
    own = vectors_at(store, snapshot, request.embedding, snapshot.offsets(row_ids)).matrix
    search = _Search(store, fit, fitted_ids, request, threads=threads)
    parts = [search.kept(placement, row_ids)]
    unknown = np.setdiff1d(np.arange(len(row_ids)), parts[0].rows)
    parts.append(search.nearest(own, unknown))
    near = _joined(parts).those(lambda others: contains(fitted, others))
    # Most of the nearest documents may have been removed.
    short = np.flatnonzero(np.bincount(near.rows, minlength=len(row_ids)) < min(MOST_SIMILAR, len(fitted)))
    parts = [near, search.nearest(own, short, only=fitted)]
    others = vectors_at(store, snapshot, request.embedding, np.sort(snapshot.offsets(later)))
    parts.append(search.among(own, own, row_ids, turned=False))
    parts.append(search.among(own, others.matrix, others.row_ids, turned=True))
    parts[2] = parts[2].without(row_ids)
    locate = partial(_locate, store, segments, np.sort(ids), segment_of[np.argsort(ids)])
    return _similar(_joined(parts), row_ids, locate, segments)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Pairs:
    """Pairs of a new document (row) and a near one (row id), their cosine, and whether the new one may also be among
    the nearest of the other; all of shape (p,)."""

    rows: Ids
    others: Ids
    similarity: NDArray[np.float32]
    back: NDArray[np.bool_]

    def those(self, which: Callable[[Ids], NDArray[np.bool_]]) -> _Pairs:
        """The pairs with such others."""
        return self._at(which(self.others))

    def without(self, row_ids: Ids) -> _Pairs:
        """Drop pairs of a document with itself."""
        return self._at(self.others != row_ids[self.rows])

    def _at(self, chosen: NDArray[np.bool_]) -> _Pairs:
        return _Pairs(
            rows=self.rows[chosen],
            others=self.others[chosen],
            similarity=self.similarity[chosen],
            back=self.back[chosen],
        )


def _joined(parts: Sequence[_Pairs]) -> _Pairs:
    return _Pairs(
        rows=np.concatenate([part.rows for part in parts]),
        others=np.concatenate([part.others for part in parts]),
        similarity=np.concatenate([part.similarity for part in parts]).astype(np.float32),
        back=np.concatenate([part.back for part in parts]),
    )


class _Search:
    """Searches among the documents of a fit; its vectors are read lazily."""

    def __init__(self, store: Store, fit: Fit, fitted_ids: Ids, request: PlacementRequest, *, threads: int) -> None:
        self._store, self._fit, self._ids, self._request, self._threads = store, fit, fitted_ids, request, threads

    @cached_property
    def _graph(self) -> NeighborGraph:
        return read_graph(self._store, self._fit.neighbors)

    @cached_property
    def _vectors(self) -> NDArray[np.float32]:
        snapshot = read_snapshot(self._store, str(self._fit.map.request["snapshot"]))
        return load_vectors(self._store, snapshot, self._request.embedding).matrix

    def kept(self, placement: Record, row_ids: Ids) -> _Pairs:
        """Read the pairs stored in a placement."""
        stored = read_nearest(self._store, placement)
        if stored is None:
            return self._pairs(np.empty(0, np.int64), np.empty((0, 0), np.int32), np.empty((0, 0), np.float32))
        placed = read_placement(self._store, placement)[0]["row_id"].to_numpy()
        order = np.argsort(row_ids)
        present = contains(row_ids[order], placed)
        rows = order[np.searchsorted(row_ids[order], placed[present])]
        return self._pairs(rows, stored[0][present], stored[1][present])

    def nearest(self, own: NDArray[np.float32], rows: Ids, *, only: Ids | None = None) -> _Pairs:
        """Search the nearest of some new documents among all fitted ones, or among ``only`` (ascending)."""
        positions = np.arange(len(self._ids)) if only is None else np.flatnonzero(contains(only, self._ids))
        if not len(rows) or not len(positions):
            return self._pairs(rows[:0], np.empty((0, 0), np.int32), np.empty((0, 0), np.float32))
        indices, distances = nearest_fitted(
            own[rows],
            self._vectors if only is None else self._vectors[positions],
            self._graph if only is None else None,
            k=_LOOKED_AT,
            recall_target=self._request.recall,
            seed=self._request.seed,
            threads=self._threads,
        )
        return self._pairs(rows, positions[indices], distances)

    def among(self, own: NDArray[np.float32], others: NDArray[np.float32], ids: Ids, *, turned: bool) -> _Pairs:
        """Compare new documents with those of earlier updates; ``turned``: new ones may enter the lists of these."""
        if not len(others):
            return self._pairs(ids[:0], np.empty((0, 0), np.int32), np.empty((0, 0), np.float32))
        indices, distances = nearest_fitted(
            own,
            others,
            None,
            k=_LOOKED_AT if turned else MOST_SIMILAR + 1,
            recall_target=self._request.recall,
            seed=self._request.seed,
            threads=self._threads,
        )
        return _Pairs(
            rows=np.repeat(np.arange(len(own)), indices.shape[1]),
            others=ids[indices.reshape(-1)],
            similarity=1 - distances.reshape(-1),
            back=np.full(indices.size, turned),
        )

    def _pairs(self, rows: Ids, indices: NDArray[Any], distances: NDArray[np.float32]) -> _Pairs:
        others, distances = indices.reshape(-1), distances.reshape(-1)
        k = min(MOST_SIMILAR, self._graph.k) if len(others) else 0
        # Nearer than the last neighbour of the other document.
        back = distances < self._graph.distances[others, k - 1] if k else np.ones(len(others), bool)
        return _Pairs(
            rows=np.repeat(rows, indices.shape[1]) if len(rows) else rows,
            others=self._ids[others],
            similarity=1 - distances,
            back=back,
        )


def _similar(
    pairs: _Pairs, row_ids: Ids, locate: partial[tuple[Ids, Ids]], segments: Sequence[Segment]
) -> Similar | None:
    n = len(row_ids)
    rows, others, similarity, back = pairs.rows, pairs.others, pairs.similarity, pairs.back
    order = np.lexsort((back, others, -similarity, rows))
    # Drop pairs found by two searches.
    again = np.zeros(len(order), bool)
    again[1:] = (rows[order][1:] == rows[order][:-1]) & (others[order][1:] == others[order][:-1])
    order = order[~again]
    counts = np.bincount(rows[order], minlength=n)
    # Lists have a fixed length, and are indexed by document.
    k = int(min(MOST_SIMILAR, counts.min(initial=MOST_SIMILAR)))
    if k == 0:
        return None
    nearest = order[(np.cumsum(counts) - counts)[:, None] + np.arange(k)]
    generation, positions = locate(row_ids, others[nearest].reshape(-1))
    reverse = np.flatnonzero(back)
    reverse_generation, reverse_positions = locate(row_ids, others[reverse])
    return Similar(
        neighbors=positions.reshape(n, k),
        similarity=similarity[nearest],
        generation=generation.reshape(n, k).astype(np.uint8),
        earlier=[segment.map for segment in segments],
        reverse=ReverseNeighbors(
            generation=reverse_generation.astype(np.uint8),
            positions=reverse_positions,
            rows=rows[reverse],
            similarity=similarity[reverse],
        ),
    )


def _locate(
    store: Store, segments: Sequence[Segment], known: Ids, segment_of: NDArray[np.int32], own: Ids, row_ids: Ids
) -> tuple[Ids, Ids]:
    """Locate documents: segment (0 for new ones, else from 1) and position on its page."""
    generation, positions = np.zeros(len(row_ids), np.int64), np.zeros(len(row_ids), np.int64)
    order = np.argsort(own)
    new = contains(own[order], row_ids)
    positions[new] = order[np.searchsorted(own[order], row_ids[new])]
    generation[~new] = segment_of[np.searchsorted(known, row_ids[~new])] + 1
    for number, segment in enumerate(segments, start=1):
        in_segment = generation == number
        wanted, inverse = np.unique(row_ids[in_segment], return_inverse=True)
        folder = f"{map_folder(segment.map)}/viewer"
        unique_positions = positions_by_row_id(
            lambda name, at=folder: store.read_bytes(f"{at}/{name}"), segment.page or {}, wanted
        )
        positions[in_segment] = unique_positions[inverse]
    return generation, positions
