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


# Of a document on which the rates of the stages were measured.
USUAL_BYTES = 450
# Of a value of a vector, that the hungriest stage holds in its own memory; the matrix itself is a mapped file, whose
# pages the system takes back (benchmarks/cases/vectors.py).
HELD_BYTES = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class JobSize:
    """How large a job is, for estimates.

    Attributes
    ----------
    documents, dim : int
    text_bytes : float
        Of the corpus, decompressed; 0 where it is not known.
    embedder : str
        The kind of the embedder.
    gpus : int
        That the stages which can use one find.
    """

    documents: int
    dim: int
    text_bytes: float = 0.0
    embedder: str = "static"
    gpus: int = 0

    @property
    def length(self) -> float:
        """How long a document is; 1.0 is about 450 bytes, on which the rates were measured."""
        return max(0.2, self.text_bytes / max(self.documents, 1) / USUAL_BYTES) if self.text_bytes else 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """Estimated cost of a stage.

    Attributes
    ----------
    cpu_seconds : float
        Of a core of the machine on which the rates were measured (:mod:`latentscale.stages.rates`).
    parallel : bool
        Whether all processors share it.
    gpu_seconds : float
        Of GPUs, besides; the workers of a stage that works shard by shard share them.
    memory_bytes : float
        At its peak, the process itself left out.
    disk_bytes : float
        That it leaves in the workspace.
    scratch_bytes : float
        That it needs meanwhile in the scratch folder of its node.
    """

    cpu_seconds: float
    parallel: bool = False
    gpu_seconds: float = 0.0
    memory_bytes: float = 0.0
    disk_bytes: float = 0.0
    scratch_bytes: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """A table of an artifact, as ``verify`` checks it.

    Attributes
    ----------
    columns : mapping of str to str
        Names, each with its Arrow type or the beginning of it.
    by_document : bool
        Whether it has a row for each document, in the order of their positions.
    """

    columns: Mapping[str, str]
    by_document: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """One artifact that a stage asks for.

    Attributes
    ----------
    stage : WholeStage
        That makes it; a stage may ask for what another one makes.
    slot : str
        Under which later stages find its record in ``MapJob.records``; the stage's name, unless it makes several.
    title : str
        For a person.
    request : Request
    parents : tuple of Record
        What it is made from.
    steps : bool
        Whether ``make`` tells its progress in steps, and not in documents.
    starts_workers : bool
        Whether ``make`` starts workers of its own on a cluster, which get the stage's resources; it then needs one
        processor itself.
    is_shown : bool
        Whether it is what a preview of the map shows.
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
        The columns that it names are stored ones.
    store : Store
    workspace : WorkspaceRecord
    snapshot : Snapshot
        The documents.
    records : dict of str to Record
        By slot.
    align : Record or None
        The map to which a refit aligns the new one.
    earlier : Record or None
        The map from whose layouts those of the new one start (``project.init: earlier``).
    choose : callable
        Resolves the backend of a stage, once a run.
    vectors_column : str or None
        Stored column of the corpus's own vectors.
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
        """The group of settings of a stage."""
        return getattr(self.config, stage)

    def aligned(self, kind: str, request: Any, *, part: str | None = None) -> tuple[Any, tuple[Record, ...]]:
        """Let a request name the map that a refit aligns it to; and that map, where there is one.

        Where the current map is made of this very artifact, the refit was done already: it is found again. ``part`` is
        how the request of a map calls the artifact, where that is not by its kind; a map without it aligns nothing.
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
    """A stage: one object, found by its name in ``latentscale.registry``.

    An implementation derives from :class:`WholeStage`, or is one of the two that work shard by shard.
    """

    name: str

    @property
    def entry(self) -> StageEntry:
        """Its line in the registry: artifact kind, unit of work, resources."""
        ...

    @property
    def tables(self) -> Mapping[str, Table]:
        """The tables of its artifacts, by the beginning of their objects' names."""
        ...

    def cost(self, size: JobSize, config: JobConfig) -> Cost:
        """Estimate the cost."""
        ...


class WholeStage(ABC):
    """Base of the stages that work on the whole set in one worker."""

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
        """The artifacts that ``job`` wants of this stage, given what the stages before it left in ``job.records``.

        None by default: a stage that only an update asks for.
        """
        return iter(())

    @abstractmethod
    def make(self, context: StageContext, request: Any) -> Record:
        """Make the artifact of ``request`` and write it, its record last; runs where the engine says.

        Raises
        ------
        LatentScaleError
            With what is wrong.
        """

    @abstractmethod
    def cost(self, size: JobSize, config: JobConfig) -> Cost:
        """Estimate the cost."""
