"""Label: give each cluster of each layer a name, its keyphrases and its exemplars."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from latentscale.backends.grouping import members_by_cluster
from latentscale.config import JobConfig, LabelConfig
from latentscale.labelers import ClusterEvidence, Label, labeler_class
from latentscale.labelers.edit_file import edits_of, read_edits
from latentscale.labelers.exemplars import choose_exemplars
from latentscale.labelers.keyphrases.stop_words import stop_words_of
from latentscale.labelers.receipts import FOLDER as RECEIPTS
from latentscale.labelers.receipts import read_receipt, receipt_key, write_receipt
from latentscale.stages.cluster import Clusters, read_clusters
from latentscale.stages.column_shares import column_shares
from latentscale.stages.label_edits import apply_edits
from latentscale.stages.stage import HELD_BYTES, Cost, JobSize, MapJob, StageContext, Table, WholeStage, Work
from latentscale.storage.artifacts import ArtifactWriter, Record, needed_record
from latentscale.storage.objects import Store
from latentscale.storage.provenance import measured
from latentscale.storage.request import Request, later
from latentscale.storage.snapshot import Snapshot
from latentscale.storage.snapshots import read_snapshot
from latentscale.storage.vectors import load_vectors, stream_documents

EXEMPLAR_CANDIDATES = 1_000
# Characters of an exemplar's text that a labeler gets.
EXEMPLAR_CHARACTERS = 1_200

LABELS_SCHEMA = pa.schema(
    [
        ("layer", pa.int32()),
        ("cluster", pa.int32()),
        ("label", pa.string()),
        ("source", pa.string()),
        ("keyphrases", pa.list_(pa.string())),
        ("exemplars", pa.list_(pa.int64())),
        ("parent", pa.int32()),
        ("size", pa.int64()),
        ("nearest_size", pa.int64()),
        ("persistence", pa.float32()),
        ("coverage", pa.float32()),
        ("coverage_outside", pa.float32()),
        ("documents_read", pa.int64()),
        ("receipt", pa.string()),
        ("description", pa.string()),
        ("hidden", pa.bool_()),
        ("edit", pa.string()),
    ]
)
LABELS_TABLE = Table(
    columns={
        "layer": "int32",
        "cluster": "int32",
        "label": "string",
        "source": "string",
        "keyphrases": "list",
        "exemplars": "list",
        "parent": "int32",
        "size": "int64",
        "nearest_size": "int64",
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelsRequest(Request):
    """Everything that alters the labels."""

    VERSION: ClassVar[int] = 4

    clusters: str
    text: str
    method: str
    max_keyphrases: int
    exemplars: int
    max_documents_per_cluster: int
    seed: int
    labeler: Mapping[str, Any]
    options: Mapping[str, Any] = later({})
    ngram_range: tuple[int, int] = later((1, 3))
    stop_words: tuple[str, ...] = later(())
    edits: tuple[Mapping[str, Any], ...] = later(())


class LabelStage(WholeStage):
    """A name, keyphrases and exemplars for each cluster of each layer."""

    name = "label"
    tables: ClassVar[Mapping[str, Table]] = {"labels": LABELS_TABLE}

    def works(self, job: MapJob) -> Iterator[Work]:
        """The labels of the job's clusters."""
        config, clusters = job.config.label, job.records["cluster"]
        request = LabelsRequest(
            clusters=clusters.id,
            text=job.workspace.text_column,
            method=config.method,
            max_keyphrases=config.max_keyphrases,
            exemplars=config.exemplars,
            max_documents_per_cluster=config.max_documents_per_cluster,
            seed=config.seed,
            labeler=labeler_class(config.method).check(config),
            options=config.options,
            ngram_range=config.ngram_range,
            stop_words=stop_words_of(config.stop_words),
            edits=edits_of(config.edits),
        )
        yield Work(stage=self, slot=self.name, title=self.name, request=request, parents=(clusters,))

    def make(self, context: StageContext, request: LabelsRequest) -> Record:
        """Gather the evidence, ask the labeler for what it has not answered yet, and write the table."""
        from latentscale.labelers.keyphrases.words import MAX_CHARACTERS

        store = context.store
        clusters = needed_record(store, "clusters", request.clusters)
        writer = ArtifactWriter(store, self.kind, request.identity(), [clusters], run=context.run)
        with measured() as cost:
            found = read_clusters(store, clusters)
            gathered = gather_evidence(store, clusters, found, request)
            labels, keys, asked = ask_labeler(context, request, [one.evidence for one in gathered])
            rows: list[dict[str, Any]] = [
                one.facts | {"label": label.label, "source": label.source, "receipt": key}
                for one, label, key in zip(gathered, labels, keys, strict=True)
            ]
            _use_column_names(found, rows)
            _make_unique(rows)
            edited = apply_edits(rows, found, read_edits(request.edits))
            writer.put_table("labels", pa.Table.from_pylist(rows, schema=LABELS_SCHEMA))
        # Documents read for a coarser layer are among those read for the finest.
        read = sum(row["documents_read"] for row in rows if row["layer"] == 0)
        clustered = sum(row["size"] for row in rows if row["layer"] == 0)
        notes = [f"Only the first {MAX_CHARACTERS:,} characters of a text are read for labels."]
        if read < clustered:
            notes.append(
                f"Labels were counted in {read:,} of the {clustered:,} documents in clusters: "
                f"at most {request.max_documents_per_cluster:,} of a cluster of the finest layer."
            )
        unnamed = sum(row["source"] == "keyphrases" for row in rows) if request.method != "keyphrases" else 0
        if unnamed:
            notes.append(
                f"The labeler {request.method} could not name {unnamed:,} clusters: they keep their keyphrases."
            )
        return writer.commit(
            counts={
                "labels": len(rows),
                "without_words": sum(row["source"] == "none" for row in rows),
                "documents_read": read,
                "asked": asked,
                **edited.counts,
            },
            cost=cost,
            choices={"max_characters": MAX_CHARACTERS, "documents_read": read, "documents_in_clusters": clustered},
            notes=[*notes, *edited.notes],
        )

    def cost(self, size: JobSize, config: JobConfig) -> Cost:
        """Estimate by the measured rate of keyphrases; what a labeler's model takes is not known."""
        return Cost(
            cpu_seconds=1.0e-4 * size.documents * size.length,
            memory_bytes=size.documents * (6_000.0 + HELD_BYTES * size.dim),
            scratch_bytes=size.documents * size.dim * 4.0,
        )


STAGE = LabelStage()


@dataclass(frozen=True, slots=True, kw_only=True)
class Gathered:
    """The evidence of one cluster, and what of it goes into the table."""

    evidence: ClusterEvidence
    facts: dict[str, Any]


def gather_evidence(store: Store, clusters: Record, found: Clusters, request: LabelsRequest) -> list[Gathered]:
    """Keyphrases and exemplars of each cluster of each layer; texts and columns where the labeler needs them."""
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
    groups = [members_by_cluster(membership) for membership in memberships]
    exemplars = [
        choose_exemplars(
            vectors.matrix,
            groups[one.layer][one.cluster],
            k=request.exemplars,
            max_candidates=EXEMPLAR_CANDIDATES,
            seed=request.seed,
        )
        for one in suggestions
    ]
    exemplar_texts = _exemplar_texts(store, snapshot, found, exemplars, request.text) if "texts" in needs else {}
    columns = (
        column_shares(store, snapshot, found.row_ids, memberships, text_column=request.text)
        if "columns" in needs
        else {}
    )
    facts = _cluster_facts(found, [(one.layer, one.cluster) for one in suggestions])
    return [
        Gathered(
            evidence=ClusterEvidence(
                layer=one.layer,
                cluster=one.cluster,
                size=fact["size"],
                suggestion=one.label,
                keyphrases=tuple(one.keyphrases),
                exemplars=tuple(found.row_ids[chosen].tolist()),
                texts=tuple(exemplar_texts[position] for position in chosen.tolist() if position in exemplar_texts),
                columns=tuple(columns.get((one.layer, one.cluster), ())),
            ),
            facts=fact
            | {
                "keyphrases": list(one.keyphrases),
                "coverage": one.coverage,
                "coverage_outside": one.coverage_outside,
                "documents_read": one.documents_read,
                "exemplars": found.row_ids[chosen].tolist(),
            },
        )
        for one, chosen, fact in zip(suggestions, exemplars, facts, strict=True)
    ]


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


def ask_labeler(
    context: StageContext, request: LabelsRequest, evidence: Sequence[ClusterEvidence]
) -> tuple[list[Label], list[str | None], int]:
    """Have each cluster named, except those that a receipt names already.

    Returns
    -------
    labels : list of Label
    keys : list of str or None
        Of the receipts; None from a labeler that keeps none.
    asked : int
        Clusters that the labeler was asked for.
    """
    kind = labeler_class(request.method)
    keys: list[str | None] = [None] * len(evidence)
    labels: dict[int, Label] = {}
    if kind.keeps_receipts:
        keys = [receipt_key({"name": request.method, **request.labeler}, one) for one in evidence]
        kept = {name.rsplit("/", 1)[1].removesuffix(".json") for name in context.store.list(RECEIPTS, brief=True)}
        labels = {
            at: read_receipt(context.store, key) for at, key in enumerate(keys) if key is not None and key in kept
        }
    missing = [at for at in range(len(evidence)) if at not in labels]
    if missing:
        labeler = kind.open(LabelConfig(method=request.method, options=request.options), context.device)
        batches = [missing[start : start + labeler.batch] for start in range(0, len(missing), labeler.batch)]

        def name(batch: Sequence[int]) -> list[tuple[int, Label]]:
            answers = labeler.label([evidence[at] for at in batch])
            named = [(at, answer) for at, answer in zip(batch, answers, strict=True) if answer is not None]
            for at, answer in named:
                key = keys[at]
                if key is not None:
                    write_receipt(context.store, key, answer)
            return named

        done = len(evidence) - len(missing)
        with ThreadPoolExecutor(max(1, labeler.concurrency)) as pool:
            for named in pool.map(name, batches):
                labels.update(named)
                done += len(named)
                context.progress(done, len(evidence))
    fallback = [Label(label=one.suggestion, source="keyphrases" if one.keyphrases else "none") for one in evidence]
    return [labels.get(at, fallback[at]) for at in range(len(evidence))], keys, len(missing)


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


def _use_column_names(found: Clusters, rows: list[dict[str, Any]]) -> None:
    """Clusters that are a column's values are called by those values."""
    if "name" in found.tree.column_names:
        names = found.tree["name"].to_pylist()
        for row in rows:
            if row["layer"] == 0:
                row |= {"label": names[row["cluster"]], "source": "column"}


def _make_unique(rows: list[dict[str, Any]]) -> None:
    """Make equal names within a layer unique, by a keyphrase or by the cluster's number."""
    for layer in {row["layer"] for row in rows}:
        used: set[str] = set()
        for row in (row for row in rows if row["layer"] == layer):
            name = row["label"]
            spare = [f"{name}: {phrase}" for phrase in row["keyphrases"] if phrase.lower() not in name.lower()]
            options = [name, *spare[:3], f"{name} ({row['cluster']})"]
            row["label"] = next((option for option in options if option not in used), options[-1])
            used.add(row["label"])
