"""Evidence for labels: keyphrases, exemplars, texts, columns, the nearest sibling, and held-out documents."""

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
from latentscale.stages.column_shares import distinctive_columns
from latentscale.stages.label_request import LabelsRequest
from latentscale.stages.siblings import cluster_centroids, nearest_siblings, sibling_groups
from latentscale.storage.artifacts import Record
from latentscale.storage.objects import Store
from latentscale.storage.snapshot import Snapshot
from latentscale.storage.snapshots import read_snapshot
from latentscale.storage.vectors import Vectors, column_values, load_vectors, stream_documents

# Characters of an exemplar's text that are passed to a labeler.
EXEMPLAR_CHARACTERS = 1_200
# Number of exemplars of the nearest sibling, those most similar to the cluster itself.
CONTRAST_EXEMPLARS = 3
# Number of held-out documents of a cluster on which its label is tested.
HELD_OUT = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class EvidenceSet:
    """The evidence of all clusters.

    Attributes
    ----------
    evidence : list of ClusterEvidence
    facts : list of dict
        For each cluster, its columns of the table of labels.
    groups : list of list of int
        Positions in ``evidence`` of the clusters of each parent.
    nearest : list of list of int
        For each cluster, the positions of its nearest siblings.
    members : list of int64 ndarray
        Matrix positions of the documents of each cluster.
    vectors : Vectors
        Vectors of all documents.
    """

    evidence: list[ClusterEvidence]
    facts: list[dict[str, Any]]
    groups: list[list[int]]
    nearest: list[list[int]]
    members: list[NDArray[np.int64]]
    vectors: Vectors


def gather_evidence(store: Store, record: Record, clusters: Clusters, request: LabelsRequest) -> EvidenceSet:
    """Gather keyphrases and exemplars of the clusters of all layers, and further evidence that the labeler needs."""
    from latentscale.labelers.keyphrases.phrases import label_clusters

    snapshot = read_snapshot(store, record.request["snapshot"])
    memberships = clusters.memberships()
    needs = labeler_class(request.method).needs

    def texts() -> Iterator[tuple[NDArray[np.int64], Sequence[str]]]:
        for positions, batch in stream_documents(store, snapshot, clusters.row_ids, [request.text]):
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
    vectors = load_vectors(store, snapshot, record.request["embedding"])
    by_layer = [members_by_cluster(membership) for membership in memberships]
    members = [by_layer[suggestion.layer][suggestion.cluster] for suggestion in suggestions]
    cluster_keys = [(suggestion.layer, suggestion.cluster) for suggestion in suggestions]
    facts = _cluster_facts(clusters, cluster_keys)
    parents = [fact["parent"] for fact in facts]
    exemplars = exemplars_of_clusters(vectors.matrix, members, cluster_keys, parents, k=request.exemplars)
    exemplar_texts = _exemplar_texts(store, snapshot, clusters, exemplars, request.text) if "texts" in needs else {}
    columns = distinctive_columns(store, snapshot, clusters.row_ids, memberships, text_column=request.text)
    column = request.options.get("column") if "majority" in needs else None
    majorities = _majorities(store, snapshot, clusters, members, column) if column else [None] * len(members)
    groups = sibling_groups(cluster_keys, parents)
    nearest = nearest_siblings(clusters, cluster_keys, groups)
    contrasts = _contrasts(vectors, clusters, cluster_keys, exemplars, nearest)

    def texts_of(positions: NDArray[np.int64]) -> tuple[str, ...]:
        return tuple(exemplar_texts[position] for position in positions.tolist() if position in exemplar_texts)

    evidence: list[ClusterEvidence] = []
    for index, (suggestion, fact) in enumerate(zip(suggestions, facts, strict=True)):
        key = (suggestion.layer, suggestion.cluster)
        sibling = (
            Contrast(keyphrases=tuple(suggestions[nearest[index][0]].keyphrases), texts=texts_of(contrasts[index]))
            if nearest[index]
            else None
        )
        evidence.append(
            ClusterEvidence(
                layer=suggestion.layer,
                cluster=suggestion.cluster,
                size=fact["size"],
                suggestion=suggestion.label,
                keyphrases=tuple(suggestion.keyphrases),
                exemplars=tuple(clusters.row_ids[exemplars[index]].tolist()),
                texts=texts_of(exemplars[index]),
                columns=tuple(columns.values.get(key, ())) if "columns" in needs else (),
                numbers=tuple(columns.numbers.get(key, ())) if "columns" in needs else (),
                sibling=sibling if "siblings" in needs else None,
                majority=majorities[index],
                members=clusters.row_ids[members[index]] if "members" in needs else np.empty(0, np.int64),
            )
        )
        fact |= {
            "keyphrases": list(suggestion.keyphrases),
            "coverage": suggestion.coverage,
            "coverage_outside": suggestion.coverage_outside,
            "documents_read": suggestion.documents_read,
            "exemplars": list(evidence[-1].exemplars),
            "columns": [asdict(share) for share in columns.values.get(key, ())],
            "numbers": [asdict(shift) for shift in columns.numbers.get(key, ())],
            "sibling": cluster_keys[nearest[index][0]][1] if nearest[index] else None,
            "contrast": clusters.row_ids[contrasts[index]].tolist(),
        }
    return EvidenceSet(evidence=evidence, facts=facts, groups=groups, nearest=nearest, members=members, vectors=vectors)


def _majorities(
    store: Store, snapshot: Snapshot, clusters: Clusters, members: Sequence[NDArray[np.int64]], column: str
) -> list[Majority | None]:
    """Find the most frequent value of a column in each cluster; ties go to the first in the corpus."""
    values = column_values(store, snapshot, clusters.row_ids, column)
    majorities: list[Majority | None] = []
    for inside in members:
        codes = values.codes[inside]
        known, counts = np.unique(codes[codes >= 0], return_counts=True)
        best = int(counts.argmax()) if len(counts) else -1
        majorities.append(
            Majority(value=values.categories[int(known[best])], share=float(counts[best]) / len(inside))
            if len(counts)
            else None
        )
    return majorities


def _contrasts(
    vectors: Vectors,
    clusters: Clusters,
    cluster_keys: Sequence[tuple[int, int]],
    exemplars: Sequence[NDArray[np.int64]],
    nearest: Sequence[Sequence[int]],
) -> list[NDArray[np.int64]]:
    """Choose, for each cluster, the exemplars of its nearest sibling that are most similar to it, in that order."""
    centroids = cluster_centroids(clusters, cluster_keys)
    chosen: list[NDArray[np.int64]] = []
    for index, siblings in enumerate(nearest):
        others = exemplars[siblings[0]] if siblings else np.empty(0, np.int64)
        similarity = np.asarray(vectors.matrix[others], np.float32) @ centroids[index]
        chosen.append(others[np.argsort(-np.round(similarity, 5), kind="stable")[:CONTRAST_EXEMPLARS]])
    return chosen


def held_out_vectors(evidence_set: EvidenceSet, row_ids: NDArray[np.int64], *, seed: int) -> list[NDArray[np.float32]]:
    """Draw documents of each cluster that are not its exemplars, and return their unit vectors.

    Parameters
    ----------
    row_ids : int64 ndarray, shape (n,)
        ``row_id`` of all documents, by matrix position.
    """
    vectors: list[NDArray[np.float32]] = []
    for cluster, members in zip(evidence_set.evidence, evidence_set.members, strict=True):
        is_exemplar = np.isin(row_ids[members], np.asarray(cluster.exemplars, dtype=np.int64))
        unseen = members[~is_exemplar]
        if len(unseen) > HELD_OUT:
            # Depends on the cluster's own documents only: unchanged clusters keep their sample after a re-clustering.
            unseen = np.sort(np.random.default_rng(seed).choice(unseen, size=HELD_OUT, replace=False))
        points = np.asarray(evidence_set.vectors.matrix[unseen], dtype=np.float32)
        norms = np.linalg.norm(points, axis=1)
        usable = np.isfinite(norms) & (norms > 0)
        vectors.append(points[usable] / norms[usable, None])
    return vectors


def _exemplar_texts(
    store: Store, snapshot: Snapshot, clusters: Clusters, exemplars: Sequence[NDArray[np.int64]], column: str
) -> dict[int, str]:
    """Read the truncated texts of all exemplars, by matrix position."""
    positions_read = np.unique(np.concatenate([*exemplars, np.empty(0, np.int64)]))
    texts: dict[int, str] = {}
    for positions, batch in stream_documents(store, snapshot, clusters.row_ids[positions_read], [column]):
        for position, text in zip(positions_read[positions].tolist(), batch.column(0).to_pylist(), strict=True):
            texts[position] = str(text)[:EXEMPLAR_CHARACTERS]
    return texts


def _cluster_facts(clusters: Clusters, cluster_keys: Sequence[tuple[int, int]]) -> list[dict[str, Any]]:
    """Look up parent, sizes and persistence of clusters, given as (layer, cluster)."""
    coarser = clusters.coarser()
    sizes, nearest_sizes = clusters.tree["size"].to_numpy(), clusters.tree["nearest_size"].to_numpy()
    persistence = clusters.tree["persistence"].to_pylist()
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
        for layer, cluster in cluster_keys
    ]
