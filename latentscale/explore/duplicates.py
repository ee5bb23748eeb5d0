"""Exact and near duplicates among the documents of a map, from its stored neighbour graph."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import get_args

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from latentscale.backends.stars import Prefer, find_stars
from latentscale.errors import RequestError
from latentscale.explore.graph import graph_of
from latentscale.storage.artifacts import Record
from latentscale.storage.objects import Store
from latentscale.storage.segments import contains, read_points
from latentscale.storage.snapshot import Snapshot
from latentscale.storage.snapshots import read_snapshot
from latentscale.storage.vectors import load_vectors, stream_documents
from latentscale.storage.workspace_record import WorkspaceRecord, read_workspace

PREFERENCES: tuple[str, ...] = get_args(Prefer)
LEAST_THRESHOLD = 0.5
EXCERPT = 160

Ids = NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Duplicates:
    """The duplicate groups of a map.

    Attributes
    ----------
    documents : polars.DataFrame
        One row per document of a group; largest group first, within a group the representative, then by decreasing
        similarity: ``group``, ``row_id``, the id column if there is one, ``representative`` (its row id),
        ``similarity`` (cosine similarity to it, float32), ``exact`` (whether the text is identical), ``excerpt`` (the
        beginning of the text).
    kept : int64 ndarray, ascending
        Row ids of the deduplicated corpus: the representatives, and the documents in no group.
    dropped : int64 ndarray, ascending
        Row ids of all other documents.
    groups : int
        Number of groups.
    threshold : float or None
        None if only identical texts count.
    recall : float or None
        Recall of the graph; None if the graph was not used.
    searched : int
        Number of distinct vectors that were compared with all documents, because the graph lacks some of their
        neighbours within the threshold, or because an update added them.
    """

    documents: pl.DataFrame
    kept: Ids
    dropped: Ids
    groups: int
    threshold: float | None
    recall: float | None
    searched: int

    def __repr__(self) -> str:
        return f"<Duplicates: {self.sentence()}>"

    def summary(self) -> pl.DataFrame:
        """One row per group: ``group``, ``documents`` (count), ``exact`` (count of those with the representative's
        text, itself included), ``least`` (lowest similarity), ``representative``, ``excerpt`` (of the representative).
        """
        return self.documents.group_by("group", maintain_order=True).agg(
            pl.len().alias("documents"),
            pl.col("exact").sum(),
            pl.col("similarity").min().alias("least"),
            pl.col("representative", "excerpt").first(),
        )

    def sentence(self) -> str:
        """A summary of the result as a sentence."""
        total = len(self.kept) + len(self.dropped)
        how = "of one text each" if self.threshold is None else f"of a cosine of at least {self.threshold:g}"
        return (
            f"{len(self.documents):,} of {total:,} documents are in {self.groups:,} groups {how}; "
            f"{len(self.kept):,} are left without {len(self.dropped):,} copies"
        )


def duplicates(
    store: Store, record: Record, *, threshold: float = 0.95, exact: bool = False, prefer: Prefer = "central"
) -> Duplicates:
    """Find documents with identical text, and near duplicates by their vectors.

    Memory use: the graph, the vectors (memory-mapped if large) and a few numbers per document.

    Parameters
    ----------
    threshold : float
        Minimum cosine similarity, 0.5 to 1, of a document to the representative of its group.
    exact : bool
        Only documents with identical text, byte for byte; vectors and graph are not read.
    prefer : {"central", "longest", "first"}
        The representative of a group: the document with the most copies (of several, the one with the longest text),
        the one with the longest text, or the first of the corpus.

    Returns
    -------
    Duplicates

    Raises
    ------
    RequestError
        If the threshold is out of range, or ``prefer`` has another value.
    """
    if not LEAST_THRESHOLD <= threshold <= 1:
        raise RequestError(
            f"a threshold of {threshold:g} is not between {LEAST_THRESHOLD:g} and 1",
            hint="It is a cosine: 0.95 finds near copies, 0.8 much that is only alike.",
        )
    if prefer not in PREFERENCES:
        raise RequestError(f"a preference of {prefer!r} is not one of {', '.join(PREFERENCES)}")
    snapshot = read_snapshot(store, str(record.request["snapshot"]))
    workspace = read_workspace(store)
    recall, searched = None, 0
    if exact:
        row_ids = _row_ids(store, record, snapshot)
        # The texts are identical, so that ``prefer`` makes no difference: the first represents them.
        representative = texts = _texts(store, snapshot, row_ids, workspace.text_column)[0]
        similarity = np.ones(len(row_ids), dtype=np.float32)
    else:
        vectors = load_vectors(store, snapshot, str(record.request["embedding"]))
        row_ids = vectors.row_ids
        texts, lengths = _texts(store, snapshot, row_ids, workspace.text_column)
        indices, distances, recall = _graph(store, record, row_ids)
        stars = find_stars(vectors.matrix, indices, distances, threshold=threshold, lengths=lengths, prefer=prefer)
        representative, similarity, searched = stars.representative, stars.similarity, stars.searched
    copies = representative != np.arange(len(row_ids))
    sizes = np.bincount(representative, minlength=len(row_ids))
    return Duplicates(
        documents=_frame(store, snapshot, row_ids, representative, similarity, sizes, texts, workspace),
        kept=np.sort(row_ids[~copies]),
        dropped=np.sort(row_ids[copies]),
        groups=int((sizes > 1).sum()),
        threshold=None if exact else threshold,
        recall=recall,
        searched=searched,
    )


def _row_ids(store: Store, record: Record, snapshot: Snapshot) -> Ids:
    """The row ids of the documents of a map, in offset order."""
    found = np.concatenate([table["row_id"].to_numpy() for _, table in read_points(store, record, ["row_id"])])
    return found[np.argsort(snapshot.offsets(found))]


def _texts(store: Store, snapshot: Snapshot, row_ids: Ids, column: str) -> tuple[Ids, Ids]:
    """For each document, the position of the first one with the same text, and the text length in bytes."""
    lengths = np.zeros(len(row_ids), dtype=np.int64)
    digests = np.zeros((len(row_ids), 2), dtype=np.uint64)
    for positions, batch in stream_documents(store, snapshot, row_ids, [column]):
        values = [str(value).encode() for value in batch.column(0).to_pylist()]
        lengths[positions] = [len(value) for value in values]
        of_batch = b"".join(hashlib.blake2b(value, digest_size=16).digest() for value in values)
        digests[positions] = np.frombuffer(of_batch, dtype="<u8").reshape(-1, 2)
    _, first, inverse = np.unique(digests, axis=0, return_index=True, return_inverse=True)
    return first[inverse.reshape(-1)].astype(np.int64), lengths


def _graph(store: Store, record: Record, row_ids: Ids) -> tuple[NDArray[np.int32], NDArray[np.float32], float | None]:
    """The fit's graph in positions of ``row_ids`` (-1 and NaN for added or changed documents), and its recall."""
    graph = graph_of(store, record)
    fitted = [table["row_id"].to_numpy() for segment, table in read_points(store, record, ["row_id"]) if segment == 0]
    # A document whose text changed keeps its row id, but has a new vector in a later segment.
    same = contains(np.sort(np.concatenate(fitted)), graph.row_ids) if fitted else np.zeros(len(graph), dtype=bool)
    order = np.argsort(row_ids)
    where = np.minimum(np.searchsorted(row_ids[order], graph.row_ids), len(order) - 1)
    position = np.where(same, order[where], -1).astype(np.int32)
    k = graph.indices.shape[1]
    indices = np.full((len(row_ids), k), -1, dtype=np.int32)
    distances = np.full((len(row_ids), k), np.nan, dtype=np.float32)
    indices[position[same]] = position[graph.indices[same]]
    distances[position[same]] = graph.distances[same]
    return indices, distances, graph.recall


def _frame(
    store: Store,
    snapshot: Snapshot,
    row_ids: Ids,
    representative: Ids,
    similarity: NDArray[np.float32],
    sizes: NDArray[np.int64],
    texts: Ids,
    workspace: WorkspaceRecord,
) -> pl.DataFrame:
    text_column, id_column = workspace.text_column, workspace.id_column
    members = np.flatnonzero(sizes[representative] > 1)
    chief = representative[members]
    order = np.lexsort((members, -similarity[members], members != chief, chief, -sizes[chief]))
    members, chief = members[order], chief[order]
    new = np.r_[True, chief[1:] != chief[:-1]] if len(chief) else np.zeros(0, dtype=bool)
    columns = [text_column] if id_column in (None, text_column) else [str(id_column), text_column]
    # Read in offset order, then reordered.
    by_offset = np.sort(members)
    pieces: list[pa.Table] = []
    for _, batch in stream_documents(store, snapshot, row_ids[by_offset], columns):
        table = pa.Table.from_batches([batch]).select(columns)
        excerpt = pc.call_function("utf8_slice_codeunits", [table[text_column]], pc.SliceOptions(0, EXCERPT))
        pieces.append(pa.table([*table.columns[:-1], excerpt], names=[*columns[:-1], "excerpt"]))
    if len({piece.schema for piece in pieces}) > 1:
        # The id type may differ between files: as text, the ids form one column.
        pieces = [
            pa.table([column.cast(pa.string()) for column in piece.columns], [*columns[:-1], "excerpt"])
            for piece in pieces
        ]
    read = pa.concat_tables(pieces) if pieces else None
    back = pa.array(np.searchsorted(by_offset, members))
    frame = pl.DataFrame(
        {
            "group": (np.cumsum(new) - 1).astype(np.int64),
            "row_id": row_ids[members],
            "representative": row_ids[chief],
            "similarity": similarity[members],
            "exact": texts[members] == texts[chief],
        }
    )
    if read is None:
        return frame.with_columns(pl.lit(None, pl.String).alias("excerpt"))
    if len(columns) == 2:
        name = columns[0] if columns[0] not in {*frame.columns, "excerpt"} else f"source_{columns[0]}"
        frame.insert_column(2, pl.Series(name, read[0].take(back)))
    return frame.with_columns(pl.Series("excerpt", read["excerpt"].take(back)))
