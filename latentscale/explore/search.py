"""Exact vector search: the documents most similar to a text or a vector."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from latentscale.config.text import shown
from latentscale.digest import canonical_json
from latentscale.embedders import opened_embedder, read_spec
from latentscale.errors import RequestError
from latentscale.explore.documents import read_texts
from latentscale.storage.artifacts import Record, find_record
from latentscale.storage.common_types import without_surrogates
from latentscale.storage.objects import Store
from latentscale.storage.ordered import in_order
from latentscale.storage.segments import contains
from latentscale.storage.snapshot import Shard, Snapshot
from latentscale.storage.snapshots import read_snapshot
from latentscale.storage.vectors import vectors_of_shard
from latentscale.storage.workspace_record import read_workspace


@dataclass(frozen=True, slots=True, kw_only=True)
class Hit:
    """One result of a search.

    Attributes
    ----------
    row_id : int
    score : float
        Cosine similarity with the query, in [-1, 1].
    text : str
    """

    row_id: int
    score: float
    text: str


def search(store: Store, record: Record, query: str | NDArray[np.float32], *, k: int) -> list[Hit]:
    """Find the ``k`` documents of a map most similar to a text or a vector, by exact search.

    Parameters
    ----------
    query : str or float32 ndarray, shape (d,)
        A text, or a unit vector of the map's model as checked by ``explore.query``.

    Returns
    -------
    list of Hit
        Best first.

    Raises
    ------
    RequestError
        If the map's vectors came with the corpus, so that a text cannot be embedded, or the text has no known token.
    """
    embedding = find_record(store, "embedding", str(record.request["embedding"]))
    assert embedding is not None, "a map's embedding is never removed while the map exists"
    vector = embedded(embedding, query) if isinstance(query, str) else query
    snapshot = read_snapshot(store, str(record.request["snapshot"]))
    row_ids, scores = nearest(store, snapshot, embedding.id, vector, k)
    texts = read_texts(store, snapshot, row_ids, read_workspace(store).text_column).to_pylist()
    return [
        Hit(row_id=int(row_id), score=float(score), text=text)
        for row_id, score, text in zip(row_ids, scores, texts, strict=True)
    ]


def embedded(embedding: Record, text: str) -> NDArray[np.float32]:
    """Embed a text with the model of an embedding; returns float32, shape (d,).

    Raises
    ------
    RequestError
        If the vectors came with the corpus, the installed model differs, or the text has no known token.
    """
    spec = read_spec(embedding.choices["spec"])
    if spec.reads == "vectors":
        raise RequestError(
            "the vectors of this map came with the corpus: a text cannot be embedded in their space",
            hint="Search by a vector of the same model, map.search(vector), or for words with polars: map.documents().",
        )
    if canonical_json(dict(spec.identity())) != canonical_json(embedding.request["model"]):
        raise RequestError(
            "the model that made this map is not the one that is installed",
            where=spec.name,
            hint="Install the version of LatentScale (or the model folder) with which the map was made.",
        )
    opened = opened_embedder(spec)
    query = (getattr(opened, "embed_queries", None) or opened.embed)([without_surrogates(text)])
    if not query.embeddable[0]:
        raise RequestError(f"{shown(text)} holds no token that the model knows", hint="Use other words.")
    return query.vectors[0]


def nearest(
    store: Store,
    snapshot: Snapshot,
    embedding_id: str,
    query: NDArray[np.float32],
    k: int,
    *,
    among: NDArray[np.int64] | None = None,
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """The row ids and scores of the ``k`` best documents; a few shards of vectors are in memory at a time.

    Parameters
    ----------
    among : int64 ndarray, ascending, optional
        Only these row ids.
    """

    def best_of_shard(shard: Shard) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        vectors = vectors_of_shard(store, snapshot, shard, embedding_id)
        scores = vectors.matrix @ query
        if among is None:
            return _best(vectors.row_ids, scores, k)
        allowed = contains(among, vectors.row_ids)
        return _best(vectors.row_ids[allowed], scores[allowed], k)

    row_ids, scores = np.empty(0, dtype=np.int64), np.empty(0, dtype=np.float32)
    for found, scored in in_order(store, best_of_shard, snapshot.shards):
        row_ids, scores = _best(np.concatenate([row_ids, found]), np.concatenate([scores, scored]), k)
    return row_ids, scores


def _best(
    row_ids: NDArray[np.int64], scores: NDArray[np.float32], k: int
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    if len(scores) > k:
        # Keep all ties with the k-th: the tie is broken by row id later, independently of the shards.
        least = np.partition(scores, len(scores) - k)[len(scores) - k]
        chosen = scores >= least
        row_ids, scores = row_ids[chosen], scores[chosen]
    order = np.lexsort((row_ids, -scores))[:k]
    return row_ids[order], scores[order]
