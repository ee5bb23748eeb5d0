"""Artifacts: immutable outputs of stages, with a record of all inputs, written last."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa

from latentscale.digest import artifact_id, canonical_json
from latentscale.errors import DamagedObjectError, WorkspaceError
from latentscale.file_names import argument
from latentscale.redaction import without_signatures
from latentscale.storage.objects import Store
from latentscale.storage.parquet import encode_table, read_parquet
from latentscale.storage.provenance import Cost, environment, now
from latentscale.storage.records import (
    FOLDERS,
    MAX_LISTED_PARTS,
    Part,
    Record,
    content_of,
    encode_parts,
    parse_record,
    record_name,
)
from latentscale.storage.uploads import Uploads

__all__ = [
    "FOLDERS",
    "ArtifactWriter",
    "Part",
    "Record",
    "find_artifact",
    "find_record",
    "iterate_table",
    "lacking_part",
    "list_records",
    "needed_record",
    "read_record",
    "read_table",
    "record_name",
    "table_parts",
]

PART_ROWS = 262_144


def find_record(store: Store, kind: str, identity: str) -> Record | None:
    """Read an artifact's record; None if it does not exist.

    Raises
    ------
    DamagedObjectError
        If the record is malformed.
    WorkspaceError
        If it was written by a version with another schema.
    """
    name = record_name(kind, identity)
    data = store.find_bytes(name)
    if data is None:
        return None
    try:
        return parse_record(store, name, data)
    except (ValueError, KeyError, TypeError) as error:
        raise DamagedObjectError(
            f"{name} is not a record of LatentScale: {error}",
            where=store.path(name),
            hint=f"latentscale repair {argument(store.url)} makes it again.",
        ) from error


def needed_record(store: Store, kind: str, identity: str) -> Record:
    """Read the record of an artifact that must exist, as another one was made from it.

    Raises
    ------
    DamagedObjectError
        If it is missing.
    """
    record = find_record(store, kind, identity)
    if record is None:
        raise DamagedObjectError(
            f"{identity} does not exist any more, and the requested artifact is made from it",
            where=store.url,
            hint=f"latentscale repair {argument(store.url)} makes it again.",
        )
    return record


def find_artifact(store: Store, kind: str, request: Mapping[str, Any], parents: Iterable[Record]) -> Record | None:
    """Find the artifact of a request that was built from exactly these parents; else None.

    Raises
    ------
    DamagedObjectError
        If the artifact with that id has another request.
    """
    record = find_record(store, kind, artifact_id(kind, dict(request)))
    if record is None:
        return None
    if canonical_json(record.request) != canonical_json(dict(request)):
        name = record_name(kind, record.id)
        raise DamagedObjectError(
            f"{name} has the requested id, but another request",
            where=store.path(name),
            hint=f"latentscale repair {argument(store.url)} makes it again.",
        )
    if record.parents != {parent.id: parent.content for parent in parents}:
        return None
    # If a damaged part was deleted, the whole artifact is rebuilt.
    return record if lacking_part(record) is None else None


def lacking_part(record: Record) -> str | None:
    """Find an object of an artifact that is missing or has the wrong size; None if there is none."""
    listing = record.parts_table
    there = record.store.list(record.folder) if record.listed or listing is not None else {}

    def lacks(part: Part) -> bool:
        info = there.get(f"{record.folder}/{part.name}")
        return info is None or info.size != part.bytes

    if listing is not None and lacks(listing):
        return f"{record.folder}/{listing.name}"
    return next((f"{record.folder}/{part.name}" for part in record.parts if lacks(part)), None)


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
    # Ids of runs have microseconds, times of records only seconds.
    return sorted(records, key=lambda record: (record.created, record.run or "", record.id))


def read_record(store: Store, identity: str) -> Record:
    """Read the record of an artifact by its id.

    Raises
    ------
    WorkspaceError
        If there is none; lists existing ones.
    """
    kind = identity.split("-", 1)[0]
    if kind in FOLDERS:
        store.path(identity)  # rejects paths outside the workspace
        record = find_record(store, kind, identity)
        if record is not None:
            return record
    records = list_records(store)
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
        self, store: Store, kind: str, request: Mapping[str, Any], parents: Iterable[Record], *, run: str | None
    ) -> None:
        self.store = store
        self.kind = kind
        self.request = dict(request)
        self.id = artifact_id(kind, self.request)
        self.parents = {parent.id: parent.content for parent in parents}
        self.run = run
        self.parts: list[Part] = []
        self._uploads = Uploads(store)

    @property
    def folder(self) -> str:
        """Folder of the artifact in the workspace."""
        return f"{FOLDERS[self.kind]}/{self.id}"

    def put(self, name: str, data: bytes | memoryview, *, rows: int | None = None) -> None:
        """Write one object of the artifact in the background; ``commit`` waits for all of them.

        ``data`` must not be modified afterwards.

        Raises
        ------
        LatentScaleError
            If an earlier object could not be written.
        """
        self._put(name, data, rows, hashlib.sha256(data).hexdigest())

    def _put(self, name: str, data: bytes | memoryview, rows: int | None, sha256: str) -> None:
        self._uploads.put(f"{self.folder}/{name}", data)
        self.parts.append(Part(name=name, rows=rows, bytes=memoryview(data).nbytes, sha256=sha256))

    def keep(self, name: str, *, rows: int | None = None) -> None:
        """Reuse an object that an interrupted writer of the same artifact has written."""
        data = self.store.read_bytes(f"{self.folder}/{name}")
        self.parts.append(Part(name=name, rows=rows, bytes=len(data), sha256=hashlib.sha256(data).hexdigest()))

    def put_table(self, stem: str, table: pa.Table, *, byte_stream_split: Sequence[str] = ()) -> None:
        """Write a table as parts of at most ``PART_ROWS`` rows, named by their content.

        Content-based names keep two writers of one artifact from mixing their parts.
        """
        for index, start in enumerate(range(0, max(table.num_rows, 1), PART_ROWS)):
            piece = table.slice(start, PART_ROWS)
            data = memoryview(encode_table(piece, facts={"artifact": self.id}, byte_stream_split=byte_stream_split))
            sha256 = hashlib.sha256(data).hexdigest()
            self._put(f"{stem}-{index:05d}.{sha256[:8]}.parquet", data, piece.num_rows, sha256)

    def commit(
        self,
        *,
        counts: Mapping[str, Any],
        cost: Cost,
        choices: Mapping[str, Any] | None = None,
        notes: Sequence[str] = (),
        segments: Sequence[Mapping[str, Any]] = (),
        job: Mapping[str, Any] | None = None,
    ) -> Record:
        """Wait for the parts, then write the record, which completes the artifact.

        Parameters
        ----------
        counts, cost, choices, notes, segments, job
            As in ``Record``; signatures of URLs are removed from ``job``.

        Raises
        ------
        LatentScaleError
            If a part could not be written; then there is no record.
        """
        self._uploads.wait()
        table: Part | None = None
        if len(self.parts) > MAX_LISTED_PARTS:
            table, data = encode_parts(self.id, self.parts)
            self.store.put_bytes(f"{self.folder}/{table.name}", data)
        record = Record(
            id=self.id,
            kind=self.kind,
            request=self.request,
            parents=self.parents,
            content=content_of(self.parts),
            store=self.store,
            listed=() if table else tuple(self.parts),
            parts_table=table,
            counts=dict(counts),
            choices=dict(choices or {}),
            notes=tuple(notes),
            cost=cost.as_dict(),
            environment=environment(),
            created=now(),
            run=self.run,
            segments=tuple(dict(segment) for segment in segments),
            job=None if job is None else json.loads(without_signatures(json.dumps(job, ensure_ascii=False))),
        )
        self.store.put_bytes(record_name(self.kind, self.id), record.to_json())
        return record


def table_parts(record: Record, stem: str) -> list[str]:
    """Object names of the parts of one table of an artifact, in order."""
    return [f"{record.folder}/{part.name}" for part in record.parts if part.name.startswith(f"{stem}-")]


def read_table(store: Store, record: Record, stem: str, columns: Sequence[str] | None = None) -> pa.Table:
    """Read one table of an artifact."""
    return pa.concat_tables([read_parquet(store, name, columns) for name in table_parts(record, stem)])


def iterate_table(store: Store, record: Record, stem: str, columns: Sequence[str] | None = None) -> Iterator[pa.Table]:
    """Read one table of an artifact part by part."""
    for name in table_parts(record, stem):
        yield read_parquet(store, name, columns)
