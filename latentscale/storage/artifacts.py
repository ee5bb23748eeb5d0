"""Artifacts: what a stage leaves, immutable, with a record of everything that went into it, written last."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import pyarrow as pa

from latentscale.digest import artifact_id, digest
from latentscale.errors import DamagedObjectError, WorkspaceError
from latentscale.provenance import Cost, environment, now
from latentscale.storage.objects import Store
from latentscale.storage.parquet import encode_table, read_parquet

Kind = Literal["embedding", "neighbors", "projection", "clusters", "labels", "placement", "map"]

FOLDERS: dict[str, str] = {
    "embedding": "embeddings",
    "neighbors": "neighbors",
    "projection": "projections",
    "clusters": "clusters",
    "labels": "labels",
    "placement": "placements",
    "map": "maps",
}
RECORD_VERSION = 1
PART_ROWS = 262_144


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One object of an artifact.

    Attributes
    ----------
    name : str
        Relative to the artifact's folder.
    rows : int or None
        None where the object is no table.
    bytes : int
    sha256 : str
    """

    name: str
    rows: int | None
    bytes: int
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """The record of an artifact: what was asked, from what it was made, by what, at what cost.

    Attributes
    ----------
    id, kind : str
    request : dict
        Every parameter with its value, and the ids of the parents; the id is its digest.
    parents : dict of str to str
        Digest of the content of each parent, by id.
    parts : tuple of Part
    counts : dict
        Rows, clusters and the like.
    choices : dict
        What was chosen for the user, with the reason.
    notes : list of str
        What a reader of the result should know.
    cost : dict
        ``seconds``, ``cpu_seconds``, ``peak_bytes``.
    environment : dict
        Versions and hardware.
    created : str
    run : str or None
    name : str or None
        A name that a person gave it.
    segments : tuple of dict
        Of a map that an update made: what ``storage.segments.Segment`` has, the oldest first.
    """

    id: str
    kind: str
    request: dict[str, Any]
    parents: dict[str, str]
    parts: tuple[Part, ...]
    counts: dict[str, Any] = field(default_factory=dict)
    choices: dict[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    cost: dict[str, Any] = field(default_factory=dict)
    environment: dict[str, Any] = field(default_factory=dict)
    created: str = ""
    run: str | None = None
    name: str | None = None
    segments: tuple[dict[str, Any], ...] = ()

    @property
    def content(self) -> str:
        """Digest of what the parts hold: children name it, so that a parent made anew is noticed."""
        return digest([[part.name, part.sha256] for part in self.parts], size=8)

    @property
    def folder(self) -> str:
        """Folder of the artifact in the workspace."""
        return f"{FOLDERS[self.kind]}/{self.id}"

    def to_json(self) -> bytes:
        """The record as an indented JSON document."""
        return json.dumps({"schema": RECORD_VERSION, **asdict(self)}, indent=1, ensure_ascii=False).encode()


def record_name(kind: str, identity: str) -> str:
    """Object name of an artifact's record."""
    return f"{FOLDERS[kind]}/{identity}/{'map.json' if kind == 'map' else 'artifact.json'}"


def find_record(store: Store, kind: str, identity: str) -> Record | None:
    """Read an artifact's record, or None where there is no such artifact.

    Raises
    ------
    DamagedObjectError
        If the record is not what we write.
    """
    name = record_name(kind, identity)
    if not store.exists(name):
        return None
    try:
        values = json.loads(store.read_bytes(name))
        values.pop("schema")
        values["parts"] = tuple(Part(**part) for part in values["parts"])
        values["notes"] = tuple(values["notes"])
        values["segments"] = tuple(values.get("segments", ()))
        return Record(**values)
    except (ValueError, KeyError, TypeError) as error:
        raise DamagedObjectError(
            f"{name} is not a record of LatentScale: {error}",
            where=store.path(name),
            hint="Delete it and run the same command again: the artifact is made anew.",
        ) from error


def find_artifact(store: Store, kind: Kind, request: Mapping[str, Any], parents: Iterable[Record]) -> Record | None:
    """Find the artifact of a request, made from these very parents, or None."""
    record = find_record(store, kind, artifact_id(kind, dict(request)))
    if record is None or record.parents != {parent.id: parent.content for parent in parents}:
        return None
    # A part that somebody deleted since it was damaged is made anew with the others.
    there = store.list(record.folder) if record.parts else {}
    held = (there.get(f"{record.folder}/{part.name}") for part in record.parts)
    whole = all(info is not None and info.size == part.bytes for info, part in zip(held, record.parts, strict=True))
    return record if whole else None


def list_records(store: Store, kinds: Sequence[str] = tuple(FOLDERS)) -> list[Record]:
    """Read the records of all artifacts of these kinds, the oldest first."""
    records: list[Record] = []
    for kind in kinds:
        ending = record_name(kind, "").rsplit("/", 1)[1]
        for name in store.list(FOLDERS[kind]):
            parts = name.split("/")
            if len(parts) == 3 and parts[2] == ending:
                record = find_record(store, kind, parts[1])
                if record is not None:
                    records.append(record)
    # Ids of runs tell microseconds, and times of records only seconds.
    return sorted(records, key=lambda record: (record.created, record.run or "", record.id))


def read_record(store: Store, identity: str) -> Record:
    """Read the record of an artifact by its id, or by the name that a person gave it.

    Raises
    ------
    WorkspaceError
        If there is none, naming those that there are.
    """
    kind = identity.split("-", 1)[0]
    if kind in FOLDERS:
        store.path(identity)  # refuses what would leave the workspace
        record = find_record(store, kind, identity)
        if record is not None:
            return record
    records = list_records(store)
    for record in records:
        if record.name == identity:
            return record
    known = ", ".join(record.id for record in records[-8:]) or "none yet"
    raise WorkspaceError(
        f"there is no artifact {identity!r} in {store.url}", hint=f"There are: {known} (latentscale list shows all)."
    )


class ArtifactWriter:
    """Writes the parts of one artifact, then its record.

    Parameters
    ----------
    store : Store
        The workspace.
    kind : str
    request : mapping
        Every parameter, and the ids of the parents.
    parents : iterable of Record
    run : str or None
        The run that makes it.
    """

    def __init__(
        self, store: Store, kind: Kind, request: Mapping[str, Any], parents: Iterable[Record], *, run: str | None
    ) -> None:
        self.store = store
        self.kind = kind
        self.request = dict(request)
        self.id = artifact_id(kind, self.request)
        self.parents = {parent.id: parent.content for parent in parents}
        self.run = run
        self.parts: list[Part] = []

    @property
    def folder(self) -> str:
        """Folder of the artifact in the workspace."""
        return f"{FOLDERS[self.kind]}/{self.id}"

    def put(self, name: str, data: bytes | memoryview, *, rows: int | None = None) -> None:
        """Write one object of the artifact."""
        self.store.put_bytes(f"{self.folder}/{name}", data)
        sha256 = hashlib.sha256(data).hexdigest()
        self.parts.append(Part(name=name, rows=rows, bytes=len(data), sha256=sha256))

    def put_table(self, stem: str, table: pa.Table, *, byte_stream_split: Sequence[str] = ()) -> None:
        """Write a table as parts of at most ``PART_ROWS`` rows, named by their content.

        The content in the name keeps two writers of one artifact from mixing their parts.
        """
        for index, start in enumerate(range(0, max(table.num_rows, 1), PART_ROWS)):
            piece = table.slice(start, PART_ROWS)
            data = memoryview(encode_table(piece, facts={"artifact": self.id}, byte_stream_split=byte_stream_split))
            mark = hashlib.sha256(data).hexdigest()[:8]
            self.put(f"{stem}-{index:05d}.{mark}.parquet", data, rows=piece.num_rows)

    def commit(
        self,
        *,
        counts: Mapping[str, Any],
        cost: Cost,
        choices: Mapping[str, Any] | None = None,
        notes: Sequence[str] = (),
        name: str | None = None,
        segments: Sequence[Mapping[str, Any]] = (),
    ) -> Record:
        """Write the record: from now on the artifact is there."""
        record = Record(
            id=self.id,
            kind=self.kind,
            request=self.request,
            parents=self.parents,
            parts=tuple(self.parts),
            counts=dict(counts),
            choices=dict(choices or {}),
            notes=tuple(notes),
            cost=cost.as_dict(),
            environment=environment(),
            created=now(),
            run=self.run,
            name=name,
            segments=tuple(dict(segment) for segment in segments),
        )
        self.store.put_bytes(record_name(self.kind, self.id), record.to_json())
        return record


def table_parts(record: Record, stem: str) -> list[str]:
    """Object names of the parts of one table of an artifact, in order."""
    return [f"{record.folder}/{part.name}" for part in record.parts if part.name.startswith(f"{stem}-")]


def read_table(store: Store, record: Record, stem: str, columns: Sequence[str] | None = None) -> pa.Table:
    """Read one table of an artifact whole."""
    return pa.concat_tables([read_parquet(store, name, columns) for name in table_parts(record, stem)])


def iterate_table(store: Store, record: Record, stem: str, columns: Sequence[str] | None = None) -> Iterator[pa.Table]:
    """Read one table of an artifact part by part."""
    for name in table_parts(record, stem):
        yield read_parquet(store, name, columns)
