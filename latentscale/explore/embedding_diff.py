"""Comparison of two embeddings of the same documents: cosine similarities, common neighbours, changed documents."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from latentscale.errors import WorkspaceError
from latentscale.explore.documents import read_texts
from latentscale.storage.objects import Store
from latentscale.storage.ordered import in_order
from latentscale.storage.snapshot import Shard, Snapshot, in_shards
from latentscale.storage.vectors import Vectors, vectors_at, vectors_of_shard
from latentscale.storage.workspace_record import read_workspace

SAMPLE = 2_000
NEIGHBOURS = 15
MOVED = 20
QUANTILES = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95)
# Histogram bins for cosine similarities: quantiles are accurate to 1e-4 for any number of documents.
_BINS = 20_000
# Rows of similarities in memory at once: some tens of megabytes.
_CHUNK = 4_096
# Stored vectors are rounded: similarities that differ by less than this count as ties.
_ROUNDING = 1e-4
_TEXT = 200

Ids = NDArray[np.int64]
Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """One of the two embeddings to compare.

    Attributes
    ----------
    snapshot : Snapshot
        The documents.
    embedding : str
        Id of the embedding.
    """

    snapshot: Snapshot
    embedding: str


def compare_embeddings(
    store: Store, first: Side, second: Side, *, sample: int = SAMPLE, k: int = NEIGHBOURS, seed: int = 0
) -> dict[str, Any]:
    """Compare the vectors of the documents that both sides have; a few shards are in memory at a time.

    Parameters
    ----------
    sample : int
        Maximum number of documents whose neighbours are compared. The search is exact, among all common documents.
    k : int
        Number of neighbours.

    Returns
    -------
    dict
        ``documents`` (number with a vector in both), ``only_first``, ``only_second``; ``dimensions`` (of both);
        ``cosine``: None if the dimensions differ, else ``mean``, ``least`` and quantiles ``q01`` … ``q95`` over all
        documents; ``neighbours``: ``k``, ``sample``, ``kept`` (mean fraction of the first's neighbours that are
        neighbours in the second too, ties with the last one included), and quantiles of this fraction; ``moved``: up to
        20 documents that changed most, with ``row_id``, ``text``, and ``cosine``, or if the dimensions differ ``kept``
        (of the sample).

    Raises
    ------
    WorkspaceError
        If no document has a vector in both.
    """
    chosen = _sample(store, first, second, sample, seed)
    pairs = _pairs(store, first, second)
    near = _NeighborComparison(*chosen, k)
    cosines = _CosineStatistics() if chosen[1].shape[1] == chosen[2].shape[1] else None
    counts = np.zeros(3, np.int64)
    for row_ids, one, two, only_first, only_second in pairs:
        counts += (len(row_ids), only_first, only_second)
        if not len(row_ids):
            continue
        near.add(row_ids, one, two)
        if cosines is not None:
            cosines.add(row_ids, one, two)
    kept = near.kept()
    if cosines is not None:
        moved_ids, scores = cosines.least()
    else:
        order = np.lexsort((chosen[0], kept))[:MOVED]
        moved_ids, scores = chosen[0][order], kept[order]
    column = read_workspace(store).text_column
    texts = read_texts(store, first.snapshot, moved_ids, column).to_pylist() if len(moved_ids) else []
    name = "kept" if cosines is None else "cosine"
    return {
        "documents": int(counts[0]),
        "only_first": int(counts[1]),
        "only_second": int(counts[2]),
        "dimensions": [int(chosen[1].shape[1]), int(chosen[2].shape[1])],
        "cosine": None if cosines is None else cosines.as_json(),
        "neighbours": {
            "k": near.k,
            "sample": len(kept),
            "kept": round(float(kept.mean()), 4),
            **{_quantile_name(q): round(float(np.quantile(kept, q)), 4) for q in QUANTILES},
        },
        "moved": [
            {"row_id": int(row_id), name: round(float(score), 4), "text": (text or "")[:_TEXT]}
            for row_id, score, text in zip(moved_ids, scores, texts, strict=True)
        ],
    }


def _quantile_name(quantile: float) -> str:
    return f"q{round(100 * quantile):02d}"


def _sample(store: Store, first: Side, second: Side, size: int, seed: int) -> tuple[Ids, Floats, Floats]:
    """Draw documents with a vector in both: their row ids (ascending), and their vectors on each side."""
    rows = first.snapshot.rows
    drawn = np.random.default_rng(seed).choice(rows, min(rows, 4 * size), replace=False) if rows else np.empty(0, int)
    # Draw from consecutive row numbers: the offsets of an updated snapshot have gaps.
    shards = first.snapshot.shards
    ends = np.cumsum(shards.rows)
    owners = np.searchsorted(ends, drawn, side="right")
    drawn = drawn - (ends - shards.rows)[owners] + shards.bases[owners]
    found = np.empty(0, np.int64)
    # Some documents have no vector, or only on one side: drawing four times as many usually leaves enough.
    for some in (drawn[: 2 * size], drawn):
        offsets = np.sort(some)
        offsets = offsets[~np.isin(offsets, first.snapshot.superseded)]
        one = vectors_at(store, first.snapshot, first.embedding, offsets)
        two = _read_vectors(store, second, one.row_ids)
        found = np.intersect1d(one.row_ids, two.row_ids)
        if len(found) >= size or len(some) == len(drawn):
            break
    if not len(found):
        raise WorkspaceError(
            "no document has a vector in both embeddings",
            hint="Compare embeddings of the same documents, or maps of one workspace that share some.",
        )
    if len(found) > size:
        found = np.sort(np.random.default_rng(seed).choice(found, size, replace=False))
    return found, _select(one, found), _select(two, found)


def _pairs(store: Store, first: Side, second: Side) -> Iterator[tuple[Ids, Floats, Floats, int, int]]:
    """For each shard: row ids of documents with a vector in both, their vectors, and the counts in only one side."""

    def read(shard: Shard) -> tuple[Ids, Floats, Floats, int, int]:
        one = vectors_of_shard(store, first.snapshot, shard, first.embedding)
        both = first.snapshot.id == second.snapshot.id
        two = (
            vectors_of_shard(store, second.snapshot, shard, second.embedding)
            if both
            else _read_vectors(store, second, one.row_ids)
        )
        common = np.intersect1d(one.row_ids, two.row_ids)
        return common, _select(one, common), _select(two, common), len(one) - len(common), len(two) - len(common)

    yield from in_order(store, read, first.snapshot.shards)
    if first.snapshot.id != second.snapshot.id:
        alone = 0
        for shard in second.snapshot.shards:
            ids = second.snapshot.row_ids(shard.base + np.flatnonzero(second.snapshot.kept(shard)))
            alone += int(np.count_nonzero(~_contains(first.snapshot, ids)))
        none = np.empty((0, 0), np.float32)
        yield np.empty(0, np.int64), none, none, 0, alone


def _contains(snapshot: Snapshot, row_ids: Ids) -> NDArray[np.bool_]:
    """For each row id, whether the snapshot has the document."""
    offsets = snapshot.offsets(row_ids)
    there = in_shards(offsets, snapshot.shards) & ~np.isin(offsets, snapshot.superseded)
    return there & (snapshot.row_ids(offsets) == row_ids)


def _read_vectors(store: Store, side: Side, row_ids: Ids) -> Vectors:
    """The vectors of the documents, where the side has one."""
    known = row_ids[_contains(side.snapshot, row_ids)]
    return vectors_at(store, side.snapshot, side.embedding, np.sort(side.snapshot.offsets(known)))


def _select(vectors: Vectors, row_ids: Ids) -> Floats:
    """Select the vectors of ``row_ids``, which are ascending."""
    order = np.argsort(vectors.row_ids, kind="stable")
    return (
        vectors.matrix[order[np.searchsorted(vectors.row_ids[order], row_ids)]] if len(row_ids) else vectors.matrix[:0]
    )


class _CosineStatistics:
    """Streaming mean, quantiles and smallest values of cosine similarities."""

    def __init__(self) -> None:
        self._counts = np.zeros(_BINS + 1, np.int64)
        self._sum = 0.0
        self._ids = np.empty(0, np.int64)
        self._lowest = np.empty(0, np.float32)

    def add(self, row_ids: Ids, one: Floats, two: Floats) -> None:
        cosines = np.clip(np.einsum("ij,ij->i", one, two), -1, 1)
        self._sum += float(cosines.sum(dtype=np.float64))
        self._counts += np.bincount(np.rint((cosines + 1) * (_BINS / 2)).astype(np.int64), minlength=_BINS + 1)
        ids, scores = np.concatenate([self._ids, row_ids]), np.concatenate([self._lowest, cosines])
        order = np.lexsort((ids, scores))[:MOVED]
        self._ids, self._lowest = ids[order], scores[order]

    def least(self) -> tuple[Ids, Floats]:
        return self._ids, self._lowest

    def as_json(self) -> dict[str, float]:
        reached = np.cumsum(self._counts)
        total = int(reached[-1])
        quantiles = {
            _quantile_name(q): round(float(np.searchsorted(reached, q * total)) / (_BINS / 2) - 1, 4) for q in QUANTILES
        }
        return {"mean": round(self._sum / total, 6), "least": round(float(self._lowest[0]), 4), **quantiles}


class _NeighborComparison:
    """Streaming exact neighbour search for sampled documents on both sides, to count common neighbours."""

    def __init__(self, row_ids: Ids, one: Floats, two: Floats, k: int) -> None:
        self._row_ids = row_ids
        self._one, self._two = one, two
        self._wanted = k
        shape = (len(row_ids), k)
        # For the neighbours in the first: their similarities in the first and in the second; then the second's own.
        self._first = np.full(shape, -np.inf, np.float32)
        self._there = np.full(shape, -np.inf, np.float32)
        self._second = np.full(shape, -np.inf, np.float32)
        self._seen = 0

    @property
    def k(self) -> int:
        """Number of neighbours, limited by the number of documents."""
        return min(self._wanted, self._seen - 1)

    def add(self, row_ids: Ids, one: Floats, two: Floats) -> None:
        self._seen += len(row_ids)
        for begin in range(0, len(row_ids), _CHUNK):
            some = slice(begin, begin + _CHUNK)
            here, there = self._one @ one[some].T, self._two @ two[some].T
            # Exclude each document from its own neighbours; both lists of row ids are ascending within a shard.
            own = np.searchsorted(row_ids[some], self._row_ids)
            own = np.minimum(own, here.shape[1] - 1)
            same = np.flatnonzero(row_ids[some][own] == self._row_ids)
            here[same, own[same]] = there[same, own[same]] = -np.inf
            both = np.concatenate([self._first, here], axis=1)
            best = np.argpartition(-both, self._wanted - 1, axis=1)[:, : self._wanted]
            self._first = np.take_along_axis(both, best, axis=1)
            self._there = np.take_along_axis(np.concatenate([self._there, there], axis=1), best, axis=1)
            both = np.concatenate([self._second, there], axis=1)
            self._second = -np.partition(-both, self._wanted - 1, axis=1)[:, : self._wanted]

    def kept(self) -> NDArray[np.float64]:
        """For each sampled document, the fraction of its first-side neighbours that are second-side neighbours too."""
        if self.k < 1:
            return np.ones(len(self._row_ids))
        last = np.sort(self._second, axis=1)[:, -self.k]
        real = np.isfinite(self._first)
        near = real & (self._there >= last[:, None] - _ROUNDING)
        return near.sum(axis=1) / real.sum(axis=1)
