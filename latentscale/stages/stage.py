"""The protocol of stages: request, artifact, cost."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Protocol

from latentscale.backends.select import Choice
from latentscale.config import JobConfig
from latentscale.digest import artifact_id
from latentscale.registry import StageEntry, stage_entry
from latentscale.stages.context import StageContext
from latentscale.storage.artifacts import Record, find_record
from latentscale.storage.objects import Store
from latentscale.storage.request import Request
from latentscale.storage.snapshot import Snapshot
from latentscale.storage.workspace_record import WorkspaceRecord

__all__ = ["Cost", "JobSize", "MapJob", "Stage", "StageContext", "Table", "WholeStage", "Work"]


# Text length in bytes of the documents on which rates were measured.
USUAL_BYTES = 450
# Bytes of memory per value of a vector, in the stage that needs most; the matrix itself is a mapped file, whose pages
# can be evicted (benchmarks/cases/vectors.py).
HELD_BYTES = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class JobSize:
    """Size of a job, for estimates.

    Attributes
    ----------
    documents, dim : int
    text_bytes : float
        Size of the corpus, decompressed; 0 where unknown.
    embedder : str
        The kind of the embedder.
    gpus : int
        GPUs available to stages that can use them.
    """

    documents: int
    dim: int
    text_bytes: float = 0.0
    embedder: str = "static"
    gpus: int = 0

    @property
    def length(self) -> float:
        """Length of a document relative to the reference of about 450 bytes."""
        return max(0.2, self.text_bytes / max(self.documents, 1) / USUAL_BYTES) if self.text_bytes else 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """Estimated cost of a stage.

    Attributes
    ----------
    cpu_seconds : float
        Seconds of a reference core (:mod:`latentscale.stages.rates`).
    parallel : bool
        Whether all cores share the work.
    gpu_seconds : float
        Additional seconds of GPUs, shared by the workers of a stage that works by shards.
    memory_bytes : float
        Peak memory, without the process itself.
    disk_bytes : float
        Size of its results in the workspace.
    scratch_bytes : float
        Temporary space in the scratch folder of its node.
    """

    cpu_seconds: float
    parallel: bool = False
    gpu_seconds: float = 0.0
    memory_bytes: float = 0.0
    disk_bytes: float = 0.0
    scratch_bytes: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """Schema of a table of an artifact, for ``verify``.

    Attributes
    ----------
    columns : mapping of str to str
        Arrow type of each column, or a prefix of it.
    by_document : bool
        Whether it has one row per document, in the order of ``row_id``.
    """

    columns: Mapping[str, str]
    by_document: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """One artifact to be made by a stage.

    Attributes
    ----------
    stage : WholeStage
        The stage that makes it; it may be another one than the stage that returns the work.
    slot : str
        Key of its record in ``MapJob.records``; the stage's name, unless it makes several.
    title : str
        Title for progress messages.
    request : Request
    parents : tuple of Record
        Records of the artifacts that it is made from.
    steps : bool
        Whether progress is reported in steps, instead of documents.
    starts_workers : bool
        Whether ``make`` starts its own workers on a cluster, which get the stage's resources; it then needs one core
        itself.
    is_shown : bool
        Whether a preview shows it while it is made.
    """

    stage: WholeStage
    slot: str
    title: str
    request: Request
    parents: tuple[Record, ...]
    steps: bool = False
    starts_workers: bool = False
    is_shown: bool = False


@dataclass(slots=True, kw_only=True)
class MapJob:
    """The job of a map: the request, and the records of earlier stages.

    Attributes
    ----------
    config : JobConfig
        Settings, with columns by their stored names.
    store : Store
    workspace : WorkspaceRecord
    snapshot : Snapshot
        The documents.
    records : dict of str to Record
        By slot.
    align : Record or None
        The map to which a refit aligns the new one.
    earlier : Record or None
        The map whose layouts are the initial ones of the new map (``project.init: earlier``).
    choose : callable
        Resolves the backend of a stage, once per run.
    vectors_column : str or None
        Stored name of the column with the corpus's own vectors.
    """

    config: JobConfig
    store: Store
    workspace: WorkspaceRecord
    snapshot: Snapshot
    choose: Callable[[str], Choice]
    records: dict[str, Record] = field(default_factory=dict[str, Record])
    align: Record | None = None
    earlier: Record | None = None
    vectors_column: str | None = None

    def settings(self, stage: str) -> Any:
        """Return the settings group of a stage."""
        return getattr(self.config, stage)

    def aligned(self, kind: str, request: Any, *, part: str | None = None) -> tuple[Any, tuple[Record, ...]]:
        """Add the map that a refit is aligned to, if there is one, to a request; returns the request and the maps.

        If the current map is made of exactly this artifact, the refit was done already, and the same request is
        returned. ``part`` is the artifact's field in the request of a map, by default its kind; nothing is aligned to a
        map without it.
        """
        current = self.align
        held = None if current is None else current.id if kind == "map" else current.request.get(part or kind)
        if current is None or held is None:
            return request, ()
        earlier = current.request.get("align")
        same = replace(request, align=earlier)
        if artifact_id(kind, same.identity()) == held:
            before = find_record(self.store, "map", str(earlier)) if earlier else None
            return same, (before,) if before else ()
        return replace(request, align=current.id), (current,)


class Stage(Protocol):
    """A stage of the pipeline, registered by name in ``latentscale.registry``.

    Implementations derive from :class:`WholeStage`, but for the two that work shard by shard.
    """

    name: str

    @property
    def entry(self) -> StageEntry:
        """Registry entry: artifact kind, unit of work, resources."""
        ...

    @property
    def tables(self) -> Mapping[str, Table]:
        """Schemas of the tables of its artifacts, by prefix of the object name."""
        ...

    def cost(self, size: JobSize, config: JobConfig) -> Cost:
        """Estimate the cost."""
        ...


class WholeStage(ABC):
    """Base class of stages that process all documents in one worker."""

    name: str
    tables: ClassVar[Mapping[str, Table]] = {}

    @property
    def entry(self) -> StageEntry:
        """Return the entry of the registry."""
        return stage_entry(self.name)

    @property
    def kind(self) -> str:
        """Kind of the artifacts that it makes."""
        kind = self.entry.kind
        assert kind is not None, "a stage over the whole set writes an artifact"
        return kind

    def works(self, job: MapJob) -> Iterator[Work]:
        """Return the artifacts that ``job`` needs from this stage; earlier stages are in ``job.records``.

        Empty by default, for stages that only updates use.
        """
        return iter(())

    @abstractmethod
    def make(self, context: StageContext, request: Any) -> Record:
        """Compute the artifact of ``request`` and write it, its record last; may run on another node.

        Raises
        ------
        LatentScaleError
            If it cannot be made.
        """

    @abstractmethod
    def cost(self, size: JobSize, config: JobConfig) -> Cost:
        """Estimate the cost."""
