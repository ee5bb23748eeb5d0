"""Kinds of garbage: unreferenced objects of a workspace, by reason."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from enum import StrEnum

from latentscale.storage.objects import ObjectInfo


class Kind(StrEnum):
    """Kinds of unreferenced objects, in the order of deletion.

    Referencing objects are deleted before referenced ones, so that no reader finds a record without its parts.
    """

    DROPPED_RECORD = "dropped-record"
    UNREFERENCED_SNAPSHOT = "unreferenced-snapshot"
    DROPPED_PART = "dropped-part"
    UNLISTED_PART = "unlisted-part"
    UNRECORDED_PART = "unrecorded-part"
    RECEIPTS = "receipts"
    LABEL_RECEIPT = "label-receipt"
    ANSWER = "answer"
    VECTORS = "vectors"
    DOCUMENTS = "documents"
    REJECTS = "rejects"
    ID_HASHES = "id-hashes"
    UPLOAD = "upload"
    PAGE_FILE = "page-file"
    PREVIEW = "preview"
    ATTEMPT = "attempt"
    SPENDING = "spending"
    EXPIRED_LEASE = "expired-lease"
    UNFINISHED_WRITE = "unfinished-write"

    @property
    def description(self) -> str:
        """Return the description shown to the user."""
        return _DESCRIPTIONS[self]


_DESCRIPTIONS = {
    Kind.DROPPED_RECORD: "record of a dropped artifact",
    Kind.UNREFERENCED_SNAPSHOT: "unreferenced snapshot",
    Kind.DROPPED_PART: "part of a dropped artifact",
    Kind.UNLISTED_PART: "part that no record lists",
    Kind.UNRECORDED_PART: "part of an artifact without a record",
    Kind.RECEIPTS: "receipts of a deleted embedding",
    Kind.LABEL_RECEIPT: "receipt of a label that no artifact uses",
    Kind.ANSWER: "answer of an embedding service for a shard that nobody finished",
    Kind.VECTORS: "vectors of no snapshot",
    Kind.DOCUMENTS: "documents of no snapshot",
    Kind.REJECTS: "rejects of no snapshot",
    Kind.ID_HASHES: "hashes of ids of no snapshot",
    Kind.UPLOAD: "upload that no run names",
    Kind.PAGE_FILE: "file of an earlier page",
    Kind.PREVIEW: "preview of a map by a run that has ended",
    Kind.ATTEMPT: "trace of an attempt",
    Kind.SPENDING: "spending of a killed run",
    Kind.EXPIRED_LEASE: "lease of a killed run",
    Kind.UNFINISHED_WRITE: "unfinished write",
}
ORDER = {kind: number for number, kind in enumerate(Kind)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Garbage:
    """One unreferenced object.

    Attributes
    ----------
    kind : Kind
        Why it is unreferenced.
    info : ObjectInfo
    """

    kind: Kind
    info: ObjectInfo


@dataclass(slots=True, kw_only=True)
class Findings:
    """The garbage of a workspace.

    Attributes
    ----------
    garbage : list of Garbage
        Older than the grace period, in the order of deletion.
    young : int
        Number of unreferenced objects within the grace period, which are kept.
    dropped : list of str
        Ids of the maps that ``keep_maps`` drops, and of the artifacts that only they needed.
    head : str or None
        The current map at the time of the search.
    clock : float
        The store's time, seconds since 1970.
    objects, bytes : int
        Totals of the whole workspace.
    """

    garbage: list[Garbage] = field(default_factory=list[Garbage])
    young: int = 0
    dropped: list[str] = field(default_factory=list[str])
    head: str | None = None
    clock: float = 0.0
    objects: int = 0
    bytes: int = 0

    def by_kind(self) -> dict[Kind, tuple[int, int]]:
        """Number of objects and bytes of each kind, in the order of deletion."""
        numbers: Counter[Kind] = Counter()
        sizes: Counter[Kind] = Counter()
        for item in self.garbage:
            numbers[item.kind] += 1
            sizes[item.kind] += item.info.size
        return {kind: (numbers[kind], sizes[kind]) for kind in Kind if numbers[kind]}
