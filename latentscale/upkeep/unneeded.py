"""Unreferenced objects of a workspace, folder by folder."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from latentscale.labelers import receipts as label_receipts
from latentscale.stages.publish.preview import NAME as PREVIEW
from latentscale.storage import answers, attempts, id_runs, lease, receipts, snapshots, spending
from latentscale.storage.artifacts import FOLDERS, Record, record_name
from latentscale.storage.objects import ObjectInfo, Store
from latentscale.upkeep.garbage import Kind

_SNAPSHOT = re.compile(r"snapshot-[0-9a-f]{16}")
_PAGE_FILE = re.compile(r"[\w.-]+\.(?:js|css|wasm|woff2?|svg|png)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Needed:
    """The referenced objects of a workspace.

    Attributes
    ----------
    records, dropped : sequence of Record
        Artifacts to keep, and artifacts to drop.
    snapshots, shard_keys, id_runs, label_receipts : set of str
        Referenced ids, and keys of shards and receipts.
    uploads, page_files : set of str
        File names.
    ingesting : bool
        Whether a resumable run has not written its snapshot yet.
    """

    records: Sequence[Record]
    dropped: Sequence[Record]
    snapshots: set[str]
    shard_keys: set[str]
    id_runs: set[str]
    label_receipts: set[str]
    uploads: set[str]
    page_files: set[str]
    ingesting: bool

    @property
    def embeddings(self) -> set[str]:
        """Ids of the embeddings to keep."""
        return {record.id for record in self.records if record.kind == "embedding"}


def unneeded_objects(
    listing: Mapping[str, ObjectInfo], needed: Needed, *, is_old: Callable[[ObjectInfo | None], bool], clock: float
) -> Iterator[tuple[Kind, ObjectInfo]]:
    """Yield the unreferenced objects of ``listing``, including those within the grace period.

    Parameters
    ----------
    is_old : callable
        Whether an object is older than the grace period. An artifact without a record is garbage once all its objects
        are.
    clock : float
        The store's time, seconds since 1970.
    """
    artifacts = _Artifacts(listing, needed)
    # Unfinished work may be resumed over several runs: its age is that of its newest object.
    old = {folder for folder, infos in artifacts.unrecorded.items() if all(is_old(info) for info in infos)}
    begun = {folder.partition("/")[2] for folder in artifacts.unrecorded.keys() - old}
    embeddings = needed.embeddings
    given_up = _given_up(listing, is_old)
    for name, info in listing.items():
        top, _, rest = name.partition("/")
        kind: Kind | None = None
        if top in artifacts.folders:
            kind = artifacts.kind_of(name)
        elif top == "documents":
            kind = None if needed.ingesting or shard_key(name) in needed.shard_keys else Kind.DOCUMENTS
        elif top == "rejects":
            kind = _reject(name, needed, embeddings, begun)
        elif top == snapshots.FOLDER:
            kind = _snapshot(rest, needed)
        elif top == receipts.FOLDER:
            group = rest.partition("/")[0]
            kept = group == "documents" or group in embeddings or group in begun
            kind = None if kept else Kind.RECEIPTS
        elif top == label_receipts.FOLDER:
            kind = None if label_receipts.key_of(name) in needed.label_receipts else Kind.LABEL_RECEIPT
        elif top == answers.FOLDER:
            # Answers are paid for and reused until their shard is written: the age of all answers of a model is that of
            # the newest.
            kind = Kind.ANSWER if rest.partition("/")[0] in given_up else None
        elif top == spending.FOLDER:
            kind = Kind.SPENDING
        elif top == id_runs.FOLDER:
            kind = None if rest.partition("/")[0] in needed.id_runs else Kind.ID_HASHES
        elif top == "uploads":
            kind = None if rest in needed.uploads else Kind.UPLOAD
        elif name.startswith("viewer/assets/"):
            kind = None if name.rsplit("/", 1)[-1] in needed.page_files else Kind.PAGE_FILE
        elif name == PREVIEW:
            kind = Kind.PREVIEW
        elif top == attempts.FOLDER:
            kind = Kind.ATTEMPT
        elif top == lease.FOLDER and clock - (info.modified or 0.0) > lease.EXPIRES_AFTER:
            kind = Kind.EXPIRED_LEASE
        if kind is not None:
            yield kind, info
    for folder in sorted(old):
        yield from ((Kind.UNRECORDED_PART, info) for info in artifacts.unrecorded[folder])


class _Artifacts:
    """The artifact folders of all kinds, including those of plug-ins."""

    def __init__(self, listing: Mapping[str, ObjectInfo], needed: Needed) -> None:
        self.folders = set(FOLDERS.values())
        self._keys = needed.shard_keys
        self._needed = {record_object(record) for record in needed.records}
        self._needed.update(name for record in needed.records for name in record.objects())
        self._recorded = {record.folder for record in needed.records}
        self._dropped_records = {record_object(record) for record in needed.dropped}
        self._dropped_folders = {record.folder for record in needed.dropped}
        self.unrecorded: dict[str, list[ObjectInfo]] = {}
        for name, info in listing.items():
            folder, nested = _artifact_folder(name)
            known = folder in self._recorded or folder in self._dropped_folders
            if nested and folder.partition("/")[0] in self.folders and not known:
                self.unrecorded.setdefault(folder, []).append(info)

    def kind_of(self, name: str) -> Kind | None:
        """Why an object of an artifact is unreferenced; None if it is needed."""
        folder, nested = _artifact_folder(name)
        if name in self._needed or not nested or folder in self.unrecorded:
            return None
        if name in self._dropped_records:
            return Kind.DROPPED_RECORD
        if folder in self._dropped_folders:
            return Kind.DROPPED_PART
        if folder.startswith(f"{FOLDERS['embedding']}/"):
            return None if shard_key(name) in self._keys else Kind.VECTORS
        return Kind.UNLISTED_PART


def _given_up(listing: Mapping[str, ObjectInfo], is_old: Callable[[ObjectInfo | None], bool]) -> set[str]:
    """Models all of whose answers are older than the grace period."""
    old: dict[str, bool] = {}
    for name, info in listing.items():
        if name.startswith(f"{answers.FOLDER}/"):
            model = name.split("/")[1]
            old[model] = old.get(model, True) and is_old(info)
    return {model for model, each in old.items() if each}


def _artifact_folder(name: str) -> tuple[str, bool]:
    """``<folder>/<id>`` of an object, and whether the object is inside it."""
    parts = name.split("/", 2)
    return "/".join(parts[:2]), len(parts) == 3


def _snapshot(name: str, needed: Needed) -> Kind | None:
    """The garbage kind of a snapshot's shard list, or of one of its tables."""
    match = _SNAPSHOT.search(name)
    return None if match is None or match[0] in needed.snapshots else Kind.UNREFERENCED_SNAPSHOT


def _reject(name: str, needed: Needed, embeddings: set[str], begun: set[str]) -> Kind | None:
    parts = name.split("/")
    if len(parts) == 2:
        return _snapshot(parts[1], needed)
    if len(parts) == 4 and parts[1] not in embeddings:  # rejects/<embedding>/<kk>/<key>
        # Rejects of unrecorded work have the age of its vectors.
        return None if parts[1] in begun else Kind.REJECTS
    if len(parts) == 3 and needed.ingesting:
        return None
    return None if shard_key(name) in needed.shard_keys else Kind.REJECTS


def shard_key(name: str) -> str:
    """The shard key in the name of an object."""
    return name.rsplit("/", 1)[-1].removesuffix(".parquet")


def record_object(record: Record) -> str:
    """Object name of a record."""
    return record_name(record.kind, record.id)


def file_names(sources: Iterable[str]) -> set[str]:
    """The file names of paths, without their folders."""
    return {source.rsplit("/", 1)[-1] for source in sources}


def page_files(store: Store, listing: Mapping[str, ObjectInfo]) -> set[str]:
    """Names of the page's files that its index references, directly or through one of those files."""
    files = {name.rsplit("/", 1)[-1]: name for name in listing if name.startswith("viewer/assets/")}
    if "viewer/index.html" not in listing:
        return set(files)
    used: set[str] = set()
    waiting = ["viewer/index.html"]
    while waiting:
        name = waiting.pop()
        if name.endswith((".html", ".js", ".css")):
            text = store.read_bytes(name).decode("utf-8", "replace")
            more = (set(_PAGE_FILE.findall(text)) & files.keys()) - used
            used |= more
            waiting.extend(files[file] for file in more)
    return used
