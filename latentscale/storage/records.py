"""The record of an artifact: its request, its parents, and its objects."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from latentscale import registry
from latentscale.digest import digest
from latentscale.errors import DamagedObjectError
from latentscale.file_names import argument
from latentscale.storage.objects import Store
from latentscale.storage.parquet import encode_table
from latentscale.storage.sealed import seal, unseal

FOLDERS = registry.kinds()
"""Of the kinds of artifacts, parents before children."""

MAX_LISTED_PARTS = 64
"""More parts than this are listed in an object of their own: a map of a hundred million documents has 100,000."""

_PARTS_SCHEMA = pa.schema(
    [
        pa.field("name", pa.string(), nullable=False),
        pa.field("rows", pa.int64()),
        pa.field("bytes", pa.int64(), nullable=False),
        pa.field("sha256", pa.string(), nullable=False),
    ]
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One object of an artifact.

    Attributes
    ----------
    name : str
        Relative to the artifact's folder.
    rows : int or None
        None if the object is no table.
    bytes : int
    sha256 : str
    """

    name: str
    rows: int | None
    bytes: int
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Record:
    """The record of an artifact: request, parents, environment and cost.

    Attributes
    ----------
    id, kind : str
    request : dict
        Every parameter with its value, and the ids of the parents; the id is its digest.
    parents : dict of str to str
        Digest of the content of each parent, by id.
    content : str
        Digest of the contents of the parts, stored in children to detect rebuilt parents.
    listed : tuple of Part
        The parts, if they are few; else empty.
    parts_table : Part or None
        The object that lists the parts, if they are many.
    counts : dict
        Counts of rows, clusters and the like.
    choices : dict
        Automatic choices, with reasons.
    notes : list of str
        Notes for users of the result.
    cost : dict
        ``seconds``, ``cpu_seconds``, ``peak_bytes``.
    environment : dict
        Versions and hardware.
    created : str
    run : str or None
    segments : tuple of dict
        For maps made by updates: fields of ``storage.segments.Segment``, oldest first.
    job : dict or None
        For maps: settings of the run by group, without those of engine and store. Updates use them if the record of
        that run is missing.
    store : Store
        Store where it was read or written.
    """

    id: str
    kind: str
    request: dict[str, Any]
    parents: dict[str, str]
    content: str
    store: Store = field(compare=False, repr=False)
    listed: tuple[Part, ...] = ()
    parts_table: Part | None = None
    counts: dict[str, Any] = field(default_factory=dict)
    choices: dict[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    cost: dict[str, Any] = field(default_factory=dict)
    environment: dict[str, Any] = field(default_factory=dict)
    created: str = ""
    run: str | None = None
    segments: tuple[dict[str, Any], ...] = ()
    job: dict[str, Any] | None = None

    @property
    def parts(self) -> tuple[Part, ...]:
        """The objects of the artifact; if there are many, each access reads the object that lists them.

        Raises
        ------
        WorkspaceError
            If that object does not exist.
        DamagedObjectError
            If it does not match the record.
        """
        return self.listed if self.parts_table is None else _read_parts(self.store, self.folder, self.parts_table)

    @property
    def folder(self) -> str:
        """Folder of the artifact in the workspace."""
        return f"{FOLDERS[self.kind]}/{self.id}"

    def __repr__(self) -> str:
        shown = ((key, value) for key, value in self.counts.items() if isinstance(value, int | float))
        counts = ", ".join(f"{key} {value:,}" for key, value in shown)
        return f"<Record {self.id}, {self.created}{': ' if counts else ''}{counts}>"

    def objects(self) -> list[str]:
        """Names of all objects of the artifact: the parts, and the object that lists them."""
        table = [] if self.parts_table is None else [self.parts_table]
        return [f"{self.folder}/{part.name}" for part in (*table, *self.parts)]

    def to_json(self) -> bytes:
        """Return the record as indented JSON."""
        values = {
            "id": self.id,
            "kind": self.kind,
            "request": self.request,
            "parents": self.parents,
            "content": self.content,
            "parts": [asdict(part) for part in self.listed],
            "parts_table": None if self.parts_table is None else asdict(self.parts_table),
            "counts": self.counts,
            "choices": self.choices,
            "notes": self.notes,
            "cost": self.cost,
            "environment": self.environment,
            "created": self.created,
            "run": self.run,
            "segments": self.segments,
        }
        return seal(values if self.job is None else values | {"job": self.job})


def content_of(parts: Iterable[Part]) -> str:
    """Return the digest of the contents of parts."""
    return digest([[part.name, part.sha256] for part in parts], size=8)


def parse_record(store: Store, name: str, data: bytes) -> Record:
    """Parse the result of ``Record.to_json``.

    Raises
    ------
    ValueError, KeyError, TypeError
        If it is malformed.
    WorkspaceError
        If another version wrote it.
    """
    values = unseal(store, name, data)
    values["listed"] = tuple(Part(**part) for part in values.pop("parts"))
    table = values.pop("parts_table")
    values["parts_table"] = None if table is None else Part(**table)
    values["notes"] = tuple(values["notes"])
    values["segments"] = tuple(values["segments"])
    # Ignore fields added by later versions of the same schema.
    known = {one.name for one in fields(Record)} - {"store"}
    return Record(store=store, **{key: value for key, value in values.items() if key in known})


def record_name(kind: str, identity: str) -> str:
    """Object name of an artifact's record."""
    return f"{FOLDERS[kind]}/{identity}/{'map.json' if kind == 'map' else 'artifact.json'}"


def encode_parts(artifact: str, parts: Sequence[Part]) -> tuple[Part, memoryview]:
    """Encode the object that lists parts; returns its entry in the record, and its bytes.

    The content-based name keeps two writers of one artifact apart.
    """
    columns = {name: [getattr(part, name) for part in parts] for name in _PARTS_SCHEMA.names}
    table = pa.table(columns, schema=_PARTS_SCHEMA)
    data = memoryview(encode_table(table, facts={"artifact": artifact}))
    sha256 = hashlib.sha256(data).hexdigest()
    return Part(name=f"parts.{sha256[:8]}.parquet", rows=len(parts), bytes=data.nbytes, sha256=sha256), data


def _read_parts(store: Store, folder: str, listing: Part) -> tuple[Part, ...]:
    name = f"{folder}/{listing.name}"
    data = store.read_bytes(name)
    if hashlib.sha256(data).hexdigest() != listing.sha256:
        raise DamagedObjectError(
            f"{name}, which lists the parts of an artifact, is not what its record says",
            where=store.path(name),
            hint=f"latentscale repair {argument(store.url)} makes it again.",
        )
    columns = pq.ParquetFile(pa.BufferReader(data)).read(use_threads=False).to_pydict()
    rows = zip(columns["name"], columns["rows"], columns["bytes"], columns["sha256"], strict=True)
    return tuple(Part(name=name, rows=count, bytes=size, sha256=sha256) for name, count, size, sha256 in rows)
