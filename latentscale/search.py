"""Search: the documents whose vectors are nearest to that of a text."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from latentscale.errors import RequestError
from latentscale.stages.embed import opened_embedder
from latentscale.stages.vectors import load_vectors, stream_documents
from latentscale.storage.artifacts import Record, find_record
from latentscale.storage.objects import Store
from latentscale.storage.snapshots import read_snapshot
from latentscale.storage.workspace_record import read_workspace

BLOCK_ROWS = 262_144


@dataclass(frozen=True, slots=True, kw_only=True)
class Hit:
    """One document that was found.

    Attributes
    ----------
    row_id : int
    score : float
        Cosine similarity of its vector with the query's, in [-1, 1].
    text : str
    """

    row_id: int
    score: float
    text: str


def search(store: Store, record: Record, text: str, *, k: int) -> list[Hit]:
    """Find the ``k`` documents of a map that are nearest to ``text``, by exact search.

    Raises
    ------
    RequestError
        If the map's vectors came with the corpus, so that a text cannot be embedded, or the text has no known token.
    """
    embedding = find_record(store, "embedding", str(record.request["embedding"]))
    assert embedding is not None, "a map's embedding is never removed while the map is there"
    if embedding.choices["model"] == "column":
        raise RequestError(
            "the vectors of this map came with the corpus: a text cannot be embedded in their space",
            hint="Search for words with polars: map.points().",
        )
    embedder = opened_embedder(embedding.choices["model"], embedding.choices["max_tokens"])
    if dict(embedder.identity()) != dict(embedding.request["model"]):
        raise RequestError(
            "the model that made this map is not the one that is installed",
            where=str(embedding.choices["model"]),
            hint="Install the version of LatentScale (or the model folder) with which the map was made.",
        )
    query = embedder.embed([text])
    if not query.embeddable[0]:
        raise RequestError(f"{text!r} holds no token that the model knows", hint="Use other words.")
    snapshot = read_snapshot(store, str(record.request["snapshot"]))
    vectors = load_vectors(store, snapshot, embedding.id)
    scores = np.concatenate(
        [vectors.matrix[start : start + BLOCK_ROWS] @ query.vectors[0] for start in range(0, len(vectors), BLOCK_ROWS)]
    )
    k = min(k, len(scores))
    best = np.argpartition(-scores, k - 1)[:k]
    best = best[np.lexsort((best, -scores[best]))]
    ascending = np.sort(vectors.row_ids[best])
    texts: dict[int, str] = {}
    column = read_workspace(store).text_column
    for places, batch in stream_documents(store, snapshot, ascending, [column]):
        texts.update(zip(ascending[places].tolist(), batch.column(0).to_pylist(), strict=True))
    return [
        Hit(row_id=int(vectors.row_ids[i]), score=float(scores[i]), text=texts[int(vectors.row_ids[i])]) for i in best
    ]
