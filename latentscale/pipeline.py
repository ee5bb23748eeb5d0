"""The pipeline: ordered stages, each of which finds its artifact or makes it."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial
from typing import Any, Literal, cast

from latentscale.backends.capability import describe as describe_machine
from latentscale.digest import artifact_id
from latentscale.embedders import check_model
from latentscale.engines import check_engine
from latentscale.errors import WorkspaceError
from latentscale.outcome import Outcome
from latentscale.planning import check_resources
from latentscale.shard_stages import ShardStages
from latentscale.stages import cluster, ingest, label, neighbors, project, publish
from latentscale.storage.artifacts import Kind, Record, find_artifact, find_record
from latentscale.storage.head import current_map, current_snapshot, read_head, write_head
from latentscale.storage.input_table import InputTable
from latentscale.storage.inputs import list_inputs
from latentscale.storage.runs import Run, start_run
from latentscale.storage.snapshots import Snapshot, read_groups
from latentscale.storage.workspace_record import WorkspaceRecord, claim_workspace

StageName = Literal["ingest", "embed", "neighbors", "project", "cluster", "label", "publish"]
# A run's record lists its inputs up to this many; each document names its own file.
MAX_RECORDED_INPUTS = 1_000
STAGES: tuple[StageName, ...] = ("ingest", "embed", "neighbors", "project", "cluster", "label", "publish")


class Pipeline(ShardStages):
    """Runs all stages of one job."""

    _align: Record | None = None

    def run(self, *, until: StageName = "publish", snapshot: Snapshot | None = None, refit: bool = False) -> Outcome:
        """Run all stages up to ``until``.

        Parameters
        ----------
        until : str
            The last stage to run.
        snapshot : Snapshot, optional
            Start from these documents instead of reading the corpus.
        refit : bool
            Turn and shift the new layout so that it lies on that of the current map, and give clusters that are in
            both the ids, and so the colours, that they had.

        Raises
        ------
        LatentScaleError
            With what is wrong; what was done until then stays, and the same request goes on from there.
        """
        started = time.monotonic()
        self.store.check(write=True)
        self._align = current_map(self.store) if refit else None
        if refit and self._align is None:
            raise WorkspaceError(
                f"{self.store.url} has no map yet that a new one could be aligned to", hint="Run without --refit."
            )
        # Before the corpus is listed, which may take minutes.
        check_engine(self.config.engine)
        inputs = InputTable()
        if snapshot is None:
            # All that can be wrong with the request is found before anything is written or any model is loaded.
            notes: list[str] = []
            inputs = list_inputs(self.config.corpus, notes)
            check = ingest.check_corpus(inputs, self.config.corpus, self.config.ingest)
            if len(inputs) == 1:
                publish.check_columns(self.config, list(check.columns))
            for text in (*notes, *check.notes):
                self.observer.note(text)
        check_model(self.config.embed.model)
        corpus = self.config.corpus
        parent = current_snapshot(self.store) if snapshot is None else None
        units = (
            ingest.plan_ingest(inputs, corpus, self.config.ingest, groups=read_groups(self.store, parent))
            if snapshot is None
            else None
        )
        record = claim_workspace(
            self.store,
            self.config,
            text_column=ingest.stored_text_column(corpus),
            id_column=ingest.stored_id_column(corpus),
            unit_keys=units.keys if units is not None else None,
        )
        run = self._start_run(inputs)
        run.facts["backends"] = [asdict(choice) for choice in describe_machine().stages]
        outcome = Outcome(workspace=self.store.url, run=run.id)
        with self._recorded(run, outcome), self._leased(run, "run"):
            documents = snapshot or self._ingest(cast(ingest.UnitTable, units), outcome, parent, growing=False)
            outcome.snapshot = documents
            self._build(documents, record, until, run, outcome)
        outcome.seconds = time.monotonic() - started
        return outcome

    def _start_run(self, inputs: InputTable) -> Run:
        run = start_run(self.config.model_dump(mode="json"), self._command)
        run.facts |= {
            "inputs": [file.as_json() for file in inputs[:MAX_RECORDED_INPUTS]],
            "input_files": len(inputs),
        }
        return run

    # ------------------------------------------------------------------------------------------------ global stages

    def _build(
        self, snapshot: Snapshot, workspace: WorkspaceRecord, until: StageName, run: Run, outcome: Outcome
    ) -> None:
        config, records = self.config, outcome.records
        last = STAGES.index(until)
        if last < STAGES.index("embed"):
            return
        # A wrong column name is found now and not after the layout.
        clustering, measuring, publishing = publish.resolve_columns(
            self.store, snapshot, config, workspace.text_column, self._vectors_column
        )
        embedding = records["embed"] = self._embed(snapshot, workspace, run, outcome)
        # Without the shards that had to be set aside.
        snapshot = outcome.snapshot or snapshot
        if last < STAGES.index("neighbors"):
            return
        # Said now, and not by the operating system an hour later.
        check_resources(snapshot.documents, int(embedding.counts["dim"]), self.store, 0.0)
        mode = project.resolve_mode(config.project, snapshot.documents)
        request = neighbors.neighbors_request(
            config.neighbors, config.project, snapshot_id=snapshot.id, embedding=embedding
        )
        graph = records["neighbors"] = self._stage(
            "neighbors",
            "neighbors",
            request,
            [embedding],
            outcome,
            partial(neighbors.make_neighbors, self.store, request, embedding, self.threads, run.id),
        )
        if last < STAGES.index("project"):
            return
        plane = records["project"] = self._projection(graph, project.MAP_DIMENSIONS, mode, run, outcome)
        if last < STAGES.index("cluster"):
            return
        layout: Record | None = None
        if config.cluster.method == "hdbscan" and config.cluster.space != "vectors":
            wanted = project.MAP_DIMENSIONS if config.cluster.space == "map" else config.project.cluster_dimensions
            layout = plane
            if wanted != project.MAP_DIMENSIONS:
                layout = records["layout"] = self._projection(graph, wanted, mode, run, outcome)
        request, carried = self._aligned(
            "clusters",
            partial(
                cluster.clusters_request,
                clustering,
                snapshot_id=snapshot.id,
                embedding=embedding,
                projection=layout,
                documents=int(graph.counts["documents"]),
            ),
        )
        clusters = records["cluster"] = self._stage(
            "cluster",
            "clusters",
            request,
            [record for record in (embedding, layout, carried) if record is not None],
            outcome,
            partial(cluster.make_clusters, self.store, request, embedding, layout, carried, self.threads, run.id),
        )
        if last < STAGES.index("label"):
            return
        request = label.labels_request(config.label, clusters, text_column=workspace.text_column)
        labels = records["label"] = self._stage(
            "label",
            "labels",
            request,
            [clusters],
            outcome,
            partial(label.make_labels, self.store, request, clusters, run.id),
        )
        if last < STAGES.index("publish"):
            return
        parents = publish.MapParents(neighbors=graph, projection=plane, clusters=clusters, labels=labels)
        request, before = self._aligned(
            "map",
            partial(
                publish.map_request,
                publishing,
                measuring,
                parents,
                title=config.publish.title or workspace.name,
                workspace=workspace,
                vectors_column=self._vectors_column,
            ),
        )
        done = records["publish"] = self._stage(
            "publish",
            "map",
            request,
            [*parents.records(), *([before] if before else [])],
            outcome,
            partial(publish.make_map, self.store, request, parents, before, self.threads, run.id),
        )
        self.show(done)

    def _projection(
        self, graph: Record, n_components: int, mode: Literal["exact", "fast"], run: Run, outcome: Outcome
    ) -> Record:
        asked = partial(project.projection_request, self.config.project, graph, n_components=n_components, mode=mode)
        # Only the map itself is seen: how the layout for clustering lies does not matter.
        plane = n_components == project.MAP_DIMENSIONS
        request, before = self._aligned("projection", asked) if plane else (asked(align=None), None)
        return self._stage(
            f"project {n_components}-D",
            "projection",
            request,
            [graph, *([before] if before else [])],
            outcome,
            partial(project.make_projection, self.store, request, graph, before, self.threads, run.id),
            steps=True,
        )

    def _aligned(self, kind: Kind, request: Callable[..., dict[str, Any]]) -> tuple[dict[str, Any], Record | None]:
        """The request of an artifact that a refit aligns with the current map, and that map.

        Where the current map is made of this very artifact, the refit was done already: it is found again.
        """
        current = self._align
        if current is None:
            return request(align=None), None
        held = current.id if kind == "map" else current.request[kind]
        earlier = current.request.get("align")
        same = request(align=earlier)
        if artifact_id(kind, same) == held:
            return same, find_record(self.store, "map", str(earlier)) if earlier else None
        return request(align=current.id), current

    def _stage(
        self,
        title: str,
        kind: Kind,
        request: dict[str, Any],
        parents: Sequence[Record],
        outcome: Outcome,
        make: Callable[..., Record],
        *,
        steps: bool = False,
    ) -> Record:
        """Find the artifact of ``request``, or make it with the engine; ``steps``: ``make`` tells its progress."""
        found = find_artifact(self.store, kind, request, parents)
        if found is not None:
            self.observer.event("found", stage=title, artifact=found.id)
            return found
        with self.observer.stage(title, unit="steps" if steps else "documents") as progress:
            record = self.engine.call(make, stage=kind, progress=progress.reach if steps else None)
            if not steps:
                progress.advance(int(record.counts.get("documents", 0)))
        outcome.made.append(title)
        self.observer.event("artifact", id=record.id, counts=record.counts, choices=record.choices, cost=record.cost)
        for text in record.notes:
            self.observer.note(text, artifact=record.id)
        return record

    def show(self, record: Record) -> None:
        """Make ``record`` the current map, on its page too; both are overwritten in place, the page last."""
        if read_head(self.store) != record.id:
            write_head(self.store, record.id)
        publish.write_public_page(self.store, record)
