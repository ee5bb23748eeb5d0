"""The evidence of clusters: keyphrases, exemplars, texts, columns, the sibling most alike, and held-out documents."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from latentscale.backends.grouping import members_by_cluster
from latentscale.labelers import ClusterEvidence, labeler_class
from latentscale.labelers.exemplars import exemplars_of_clusters
from latentscale.labelers.protocol import Contrast, Majority
from latentscale.stages.cluster import Clusters
from latentscale.stages.column_shares import columns_that_tell
from latentscale.stages.label_request import LabelsRequest
from latentscale.stages.siblings import cluster_centroids, nearest_siblings, sibling_groups
from latentscale.storage.artifacts import Record
from latentscale.storage.objects import Store
from latentscale.storage.snapshot import Snapshot
from latentscale.storage.snapshots import read_snapshot
from latentscale.storage.vectors import Vectors, column_values, load_vectors, stream_documents

# Characters of an exemplar's text that a labeler gets.
EXEMPLAR_CHARACTERS = 1_200
# Exemplars of the sibling most alike that are kept, those most like the cluster itself.
CONTRAST_EXEMPLARS = 3
# Documents of a cluster on which its label is tried.
HELD_OUT = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Gathered:
    """The evidence of all clusters.

    Attributes
    ----------
    evidence : list of ClusterEvidence
    facts : list of dict
        Of each cluster: what goes into the table of labels.
    groups : list of list of int
        The clusters of each parent, by their position here.
    near : list of list of int
        Of each cluster: its nearest siblings.
    members : list of int64 ndarray
        Matrix positions of the documents of each cluster.
    vectors : Vectors
        Of all documents.
    """

    evidence: list[ClusterEvidence]
    facts: list[dict[str, Any]]
    groups: list[list[int]]
    near: list[list[int]]
    members: list[NDArray[np.int64]]
    vectors: Vectors


def gather_evidence(store: Store, clusters: Record, found: Clusters, request: LabelsRequest) -> Gathered:
    """Keyphrases and exemplars of each cluster of each layer; what else there is where the labeler needs it."""
    from latentscale.labelers.keyphrases.phrases import label_clusters

    snapshot = read_snapshot(store, clusters.request["snapshot"])
    memberships = found.memberships()
    needs = labeler_class(request.method).needs

    def texts() -> Iterator[tuple[NDArray[np.int64], Sequence[str]]]:
        for positions, batch in stream_documents(store, snapshot, found.row_ids, [request.text]):
            yield positions, batch.column(0).to_pylist()

    suggestions = label_clusters(
        texts,
        memberships,
        max_keyphrases=request.max_keyphrases,
        max_documents_per_cluster=request.max_documents_per_cluster,
        seed=request.seed,
        ngram_range=(request.ngram_range[0], request.ngram_range[1]),
        stop_words=request.stop_words,
    )
    vectors = load_vectors(store, snapshot, clusters.request["embedding"])
    by_layer = [members_by_cluster(membership) for membership in memberships]
    members = [by_layer[one.layer][one.cluster] for one in suggestions]
    wanted = [(one.layer, one.cluster) for one in suggestions]
    facts = _cluster_facts(found, wanted)
    parents = [fact["parent"] for fact in facts]
    exemplars = exemplars_of_clusters(vectors.matrix, members, wanted, parents, k=request.exemplars)
    exemplar_texts = _exemplar_texts(store, snapshot, found, exemplars, request.text) if "texts" in needs else {}
    columns = columns_that_tell(store, snapshot, found.row_ids, memberships, text_column=request.text)
    column = request.options.get("column") if "majority" in needs else None
    majorities = _majorities(store, snapshot, found, members, column) if column else [None] * len(members)
    groups = sibling_groups(wanted, parents)
    near = nearest_siblings(found, wanted, groups)
    contrasts = _contrasts(vectors, found, wanted, exemplars, near)

    def texts_of(positions: NDArray[np.int64]) -> tuple[str, ...]:
        return tuple(exemplar_texts[position] for position in positions.tolist() if position in exemplar_texts)

    evidence: list[ClusterEvidence] = []
    for at, (one, fact) in enumerate(zip(suggestions, facts, strict=True)):
        key = (one.layer, one.cluster)
        sibling = (
            Contrast(keyphrases=tuple(suggestions[near[at][0]].keyphrases), texts=texts_of(contrasts[at]))
            if near[at]
            else None
        )
        evidence.append(
            ClusterEvidence(
                layer=one.layer,
                cluster=one.cluster,
                size=fact["size"],
                suggestion=one.label,
                keyphrases=tuple(one.keyphrases),
                exemplars=tuple(found.row_ids[exemplars[at]].tolist()),
                texts=texts_of(exemplars[at]),
                columns=tuple(columns.values.get(key, ())) if "columns" in needs else (),
                numbers=tuple(columns.numbers.get(key, ())) if "columns" in needs else (),
                sibling=sibling if "siblings" in needs else None,
                majority=majorities[at],
                members=found.row_ids[members[at]] if "members" in needs else np.empty(0, np.int64),
            )
        )
        fact |= {
            "keyphrases": list(one.keyphrases),
            "coverage": one.coverage,
            "coverage_outside": one.coverage_outside,
            "documents_read": one.documents_read,
            "exemplars": list(evidence[-1].exemplars),
            "columns": [asdict(share) for share in columns.values.get(key, ())],
            "numbers": [asdict(shift) for shift in columns.numbers.get(key, ())],
            "sibling": wanted[near[at][0]][1] if near[at] else None,
            "contrast": found.row_ids[contrasts[at]].tolist(),
        }
    return Gathered(evidence=evidence, facts=facts, groups=groups, near=near, members=members, vectors=vectors)


def _majorities(
    store: Store, snapshot: Snapshot, found: Clusters, members: Sequence[NDArray[np.int64]], column: str
) -> list[Majority | None]:
    """The value of a column that most documents of each cluster have; of equally many the first of the corpus."""
    values = column_values(store, snapshot, found.row_ids, column)
    majorities: list[Majority | None] = []
    for inside in members:
        codes = values.codes[inside]
        known, counts = np.unique(codes[codes >= 0], return_counts=True)
        most = int(counts.argmax()) if len(counts) else -1
        majorities.append(
            Majority(value=values.categories[int(known[most])], share=float(counts[most]) / len(inside))
            if len(counts)
            else None
        )
    return majorities


def _contrasts(
    vectors: Vectors,
    found: Clusters,
    wanted: Sequence[tuple[int, int]],
    exemplars: Sequence[NDArray[np.int64]],
    near: Sequence[Sequence[int]],
) -> list[NDArray[np.int64]]:
    """Of each cluster: the exemplars of its nearest sibling that are most like it, the most alike first."""
    centroids = cluster_centroids(found, wanted)
    chosen: list[NDArray[np.int64]] = []
    for at, siblings in enumerate(near):
        others = exemplars[siblings[0]] if siblings else np.empty(0, np.int64)
        alike = np.asarray(vectors.matrix[others], np.float32) @ centroids[at]
        chosen.append(others[np.argsort(-np.round(alike, 5), kind="stable")[:CONTRAST_EXEMPLARS]])
    return chosen


def held_out_vectors(gathered: Gathered, row_ids: NDArray[np.int64], *, seed: int) -> list[NDArray[np.float32]]:
    """Vectors of some documents of each cluster that are none of its exemplars, of unit length.

    Parameters
    ----------
    row_ids : int64 ndarray, shape (n,)
        Of all documents, by matrix position.
    """
    found: list[NDArray[np.float32]] = []
    for one, members in zip(gathered.evidence, gathered.members, strict=True):
        shown = np.isin(row_ids[members], np.asarray(one.exemplars, dtype=np.int64))
        unseen = members[~shown]
        if len(unseen) > HELD_OUT:
            # By its own documents, so that a re-clustering that leaves it alone tries it on the same ones.
            unseen = np.sort(np.random.default_rng(seed).choice(unseen, size=HELD_OUT, replace=False))
        points = np.asarray(gathered.vectors.matrix[unseen], dtype=np.float32)
        norms = np.linalg.norm(points, axis=1)
        usable = np.isfinite(norms) & (norms > 0)
        found.append(points[usable] / norms[usable, None])
    return found


def _exemplar_texts(
    store: Store, snapshot: Snapshot, found: Clusters, exemplars: Sequence[NDArray[np.int64]], column: str
) -> dict[int, str]:
    """The beginnings of the texts of all exemplars, by matrix position."""
    wanted = np.unique(np.concatenate([*exemplars, np.empty(0, np.int64)]))
    texts: dict[int, str] = {}
    for positions, batch in stream_documents(store, snapshot, found.row_ids[wanted], [column]):
        for position, text in zip(wanted[positions].tolist(), batch.column(0).to_pylist(), strict=True):
            texts[position] = str(text)[:EXEMPLAR_CHARACTERS]
    return texts


def _cluster_facts(found: Clusters, wanted: Sequence[tuple[int, int]]) -> list[dict[str, Any]]:
    """Parent, sizes and persistence of clusters, given as (layer, cluster)."""
    coarser = found.coarser()
    sizes, nearest_sizes = found.tree["size"].to_numpy(), found.tree["nearest_size"].to_numpy()
    persistence = found.tree["persistence"].to_pylist()
    width = len(sizes)
    finest = np.arange(width, dtype=np.int32)
    levels = [finest, *coarser]
    totals: list[tuple[NDArray[np.int64], NDArray[np.int64]]] = []
    parents: list[dict[int, int]] = []
    for depth, level in enumerate(levels):
        used = level >= 0
        count = int(level.max(initial=-1)) + 1
        totals.append(
            (
                np.bincount(level[used], weights=sizes[used], minlength=count).astype(np.int64),
                np.bincount(level[used], weights=nearest_sizes[used], minlength=count).astype(np.int64),
            )
        )
        if depth + 1 < len(levels):
            both = used & (levels[depth + 1] >= 0)
            parents.append(dict(zip(level[both].tolist(), levels[depth + 1][both].tolist(), strict=True)))
        else:
            parents.append({})
    return [
        {
            "layer": layer,
            "cluster": cluster,
            "parent": parents[layer].get(cluster),
            "size": int(totals[layer][0][cluster]),
            "nearest_size": int(totals[layer][1][cluster]),
            "persistence": float(persistence[cluster]) if layer == 0 else None,
        }
        for layer, cluster in wanted
    ]
