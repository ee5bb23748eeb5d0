"""Label: give each cluster of each layer a name, its keyphrases and its exemplars."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar

import pyarrow as pa

from latentscale.config import JobConfig
from latentscale.labelers import labeler_class
from latentscale.labelers.edit_file import edits_of, read_edits
from latentscale.labelers.keyphrases.stop_words import stop_words_of
from latentscale.labelers.model import answering_options, runs_in_the_job, settled_options
from latentscale.stages.cluster import read_clusters
from latentscale.stages.label_edits import apply_edits
from latentscale.stages.label_evidence import gather_evidence
from latentscale.stages.label_request import LabelsRequest
from latentscale.stages.label_table import LABELS_SCHEMA, LABELS_TABLE
from latentscale.stages.naming import name_clusters
from latentscale.stages.rates import peak_bytes
from latentscale.stages.stage import Cost, JobSize, MapJob, StageContext, Table, WholeStage, Work
from latentscale.storage.artifacts import ArtifactWriter, Record, needed_record
from latentscale.storage.provenance import measured

__all__ = ["STAGE", "LabelStage", "LabelsRequest"]

# Number of reasons for unnamed clusters that a note lists.
_REASONS = 3


class LabelStage(WholeStage):
    """Computes a name, keyphrases and exemplars for each cluster of each layer."""

    name = "label"
    tables: ClassVar[Mapping[str, Table]] = {"labels": LABELS_TABLE}

    def works(self, job: MapJob) -> Iterator[Work]:
        """The labels of the job's clusters."""
        config, clusters = job.config.label, job.records["cluster"]
        kind = labeler_class(config.method)
        options = settled_options(kind, config)
        answering = answering_options(kind, options)
        request = LabelsRequest(
            clusters=clusters.id,
            text=job.workspace.text_column,
            method=config.method,
            max_keyphrases=config.max_keyphrases,
            exemplars=config.exemplars,
            max_documents_per_cluster=config.max_documents_per_cluster,
            seed=config.seed,
            labeler=kind.check(config),
            options=answering,
            ngram_range=config.ngram_range,
            stop_words=stop_words_of(config.stop_words),
            edits=edits_of(config.edits),
            transport={name: value for name, value in options.items() if name not in answering},
        )
        yield Work(
            stage=self,
            slot=self.name,
            title=self.name,
            request=request,
            parents=(clusters,),
            starts_workers=runs_in_the_job(kind) and kind.starts_workers,
        )

    def make(self, context: StageContext, request: LabelsRequest) -> Record:
        """Gather the evidence, ask the labeler for missing answers, and write the table."""
        from latentscale.labelers.keyphrases.words import MAX_CHARACTERS

        store = context.store
        clusters = needed_record(store, "clusters", request.clusters)
        writer = ArtifactWriter(store, self.kind, request.identity(), [clusters], run=context.run)
        with measured() as cost:
            found = read_clusters(store, clusters)
            gathered = gather_evidence(store, clusters, found, request)
            named, said = name_clusters(context, request, clusters, found, gathered)
            rows: list[dict[str, Any]] = [
                fact
                | {
                    "label": label.label,
                    "source": label.source,
                    "description": label.description or None,
                    "confidence": label.confidence,
                    "reason": label.reason or None,
                    "held_out": held_out,
                    "receipt": receipt,
                    "receipts": later or None,
                }
                for fact, label, held_out, receipt, later in zip(
                    gathered.facts, named.labels, named.held_out, named.receipts, named.later, strict=True
                )
            ]
            _make_unique(rows)
            edited = apply_edits(rows, found, read_edits(request.edits), clusters)
            writer.put_table("labels", pa.Table.from_pylist(rows, schema=LABELS_SCHEMA))
        # Documents read for coarser layers are a subset of those read for the finest.
        read = sum(row["documents_read"] for row in rows if row["layer"] == 0)
        clustered = sum(row["size"] for row in rows if row["layer"] == 0)
        notes = [f"Only the first {MAX_CHARACTERS:,} characters of a text are read for labels."]
        if read < clustered:
            notes.append(
                f"Labels were counted in {read:,} of the {clustered:,} documents in clusters: "
                f"at most {request.max_documents_per_cluster:,} of a cluster of the finest layer."
            )
        notes += _of_unnamed(request.method, rows)
        return writer.commit(
            counts={
                "labels": len(rows),
                "without_words": sum(row["source"] == "none" for row in rows),
                "documents_read": read,
                "asked": named.asked,
                **({"asked_again": named.again} if named.again else {}),
                **edited.counts,
            },
            cost=cost,
            choices={
                "max_characters": MAX_CHARACTERS,
                "documents_read": read,
                "documents_in_clusters": clustered,
                **({"transport": dict(request.transport)} if request.transport else {}),
                **({"spending": said.spending} if said.spending else {}),
            },
            notes=[*notes, *said.notes, *edited.notes],
        )

    def cost(self, size: JobSize, config: JobConfig) -> Cost:
        """Estimate by the measured rate of keyphrases; the cost of a labeler's model is unknown."""
        # For a few hundred clusters of the finest layer, the usual default.
        read = min(size.documents, 100 * config.label.max_documents_per_cluster)
        return Cost(
            cpu_seconds=0.2 + (2.4e-5 * read + 6.5e-6 * size.documents) * size.length,
            memory_bytes=peak_bytes(size, fixed=93e6, document=1_300.0, text=7_000.0),
            scratch_bytes=size.documents * size.dim * 4.0,
        )


STAGE = LabelStage()


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


def _of_unnamed(method: str, rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return a note on clusters that the labeler did not name, and why."""
    unnamed = [row for row in rows if row["source"] in ("keyphrases", "none")] if method != "keyphrases" else []
    if not unnamed:
        return []
    # Reasons may quote the rejected label.
    reasons = Counter(str(row["reason"] or "it gave no reason").partition(":")[0] for row in unnamed)
    named = "; ".join(f"{reason} ({count:,})" for reason, count in reasons.most_common(_REASONS))
    return [
        f"The labeler {method} could not name {len(unnamed):,} of {len(rows):,} clusters: they keep their keyphrases. "
        f"Their column 'reason' says why: {named}"
    ]
