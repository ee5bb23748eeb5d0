"""Garbage collection: find what nothing in a workspace needs any more, and delete it."""

from __future__ import annotations

import json
import re
import secrets
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from latentscale.errors import EnvironmentFailure, LatentScaleError
from latentscale.storage import attempts, lease, snapshots
from latentscale.storage.artifacts import FOLDERS, Record, list_records, record_name
from latentscale.storage.head import read_head
from latentscale.storage.objects import ObjectInfo, Store
from latentscale.storage.references import (
    DROP_ORDER,
    RunFacts,
    droppable,
    maps_to_keep,
    read_runs,
    shard_keys,
    snapshots_to_keep,
)
from latentscale.storage.workspace_record import read_workspace

GRACE = 7 * 86_400.0
# What a call with ``keep_maps`` is about to drop: once a map is gone, nothing else tells what only it needed.
PLAN = "gc.json"
BATCH = 100
CHECKED_EVERY = 1.0

RECORD = "record of a dropped artifact"
DROPPED = "part of a dropped artifact"
LEFTOVER = "part that no record lists"
UNRECORDED = "part of an artifact without a record"
SNAPSHOT = "snapshot that nothing names"
VECTORS = "vectors of no snapshot"
DOCUMENTS = "documents of no snapshot"
REJECTS = "rejects of no snapshot"
UPLOAD = "upload that no run names"
ASSET = "file of an earlier page"
ATTEMPT = "trace of a try"
LEASE = "lease of a run that was killed"
UNFINISHED = "unfinished write"
# What names others goes before what is named, so that no reader finds a record without its parts.
ORDER = (
    *(RECORD, SNAPSHOT, DROPPED, LEFTOVER, UNRECORDED, VECTORS, DOCUMENTS, REJECTS),
    *(UPLOAD, ASSET, ATTEMPT, LEASE, UNFINISHED),
)

_SNAPSHOT = re.compile(r"snapshot-[0-9a-f]{8}")
_ASSET = re.compile(r"[\w.-]+\.(?:js|css|wasm|woff2?|svg|png)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Garbage:
    """One object that nothing needs.

    Attributes
    ----------
    kind : str
        Why it is not needed.
    info : ObjectInfo
    """

    kind: str
    info: ObjectInfo


@dataclass(slots=True, kw_only=True)
class Findings:
    """What a workspace holds in vain.

    Attributes
    ----------
    garbage : list of Garbage
        Older than the grace period, in the order in which to delete it.
    young : int
        Objects that nothing needs either, but that are younger.
    dropped : list of str
        Ids of the maps, and of the artifacts that only they needed, that ``keep_maps`` gives up.
    head : str or None
        The current map when this was found.
    clock : float
        The store's time.
    objects, bytes : int
        All that was looked at.
    """

    garbage: list[Garbage] = field(default_factory=list[Garbage])
    young: int = 0
    dropped: list[str] = field(default_factory=list[str])
    head: str | None = None
    clock: float = 0.0
    objects: int = 0
    bytes: int = 0

    def by_kind(self) -> dict[str, tuple[int, int]]:
        """Number of objects and bytes of each kind, in the order of deletion."""
        numbers: Counter[str] = Counter()
        sizes: Counter[str] = Counter()
        for item in self.garbage:
            numbers[item.kind] += 1
            sizes[item.kind] += item.info.size
        return {kind: (numbers[kind], sizes[kind]) for kind in ORDER if numbers[kind]}


def find_garbage(store: Store, *, grace: float = GRACE, keep_maps: int | None = None) -> Findings:
    """List what nothing needs and what is older than ``grace`` seconds by the store's own clock. Nothing is written
    but a probe of that clock.

    Parameters
    ----------
    store : Store
        The workspace.
    grace : float
    keep_maps : int, optional
        Give up all maps but so many of the latest, the current one, those that have a name and those whose points one
        of these shows; and the artifacts that only they needed.

    Raises
    ------
    DamagedObjectError
        If a record cannot be read: what it needs is not known then.
    """
    workspace = read_workspace(store)
    # What is written after this listing is not in it, and so never garbage.
    listing = store.list()
    clock = _clock(store, listing)
    runs = read_runs(store, listing)
    records = list_records(store)
    head = read_head(store)
    findings = Findings(head=head, clock=clock, objects=len(listing), bytes=sum(info.size for info in listing.values()))
    oldest = clock - grace

    def is_old(info: ObjectInfo | None) -> bool:
        return info is not None and info.modified is not None and info.modified < oldest

    if keep_maps is not None:
        keep = maps_to_keep(records, head, keep_maps)
        findings.dropped = droppable(
            records,
            [r.id for r in records if r.kind == "map" and r.id not in keep and is_old(listing.get(_record(r)))],
            begun=_begun(store, listing),
            may_go=lambda record: is_old(listing.get(_record(record))),
        )
    gone = set(findings.dropped)
    left = [record for record in records if record.id not in gone]
    kept_snapshots = snapshots_to_keep(store, left, runs, young_after=oldest)
    keys = shard_keys(store, kept_snapshots)
    unneeded = _Unneeded(
        listing=listing,
        left=left,
        dropped=[record for record in records if record.id in gone],
        snapshots=kept_snapshots,
        keys=keys,
        embeddings={record.id for record in left if record.kind == "embedding"},
        ingesting=any(_is_ingesting(run, oldest) for run in runs),
        uploads=_upload_names([*workspace.corpus["sources"], *(source for run in runs for source in run.sources)]),
        assets=_assets_in_use(store, listing),
        is_old=is_old,
        clock=clock,
    )
    found = [*unneeded.all(), *((UNFINISHED, info) for info in store.unfinished())]
    rank = {kind: number for number, kind in enumerate(ORDER)}
    for kind, info in found:
        if is_old(info):
            findings.garbage.append(Garbage(kind=kind, info=info))
        else:
            findings.young += 1
    findings.garbage.sort(key=lambda item: (rank[item.kind], _drop_rank(item), item.info.name))
    return findings


def delete_garbage(
    store: Store,
    *,
    grace: float = GRACE,
    keep_maps: int | None = None,
    say: Callable[[str], None] = lambda text: None,
) -> Findings:
    """Find garbage and delete it; returns what was deleted.

    A run that is under way, or that begins meanwhile, ends this: it may be about to use what was left from an earlier
    one. What is deleted until then stays so, and a later call goes on.

    Raises
    ------
    EnvironmentFailure
        If a run works on the workspace.
    """
    identity = f"{datetime.now(UTC):%Y%m%dT%H%M%S.%fZ}-{secrets.token_hex(3)}"
    with lease.hold_lease(store, identity, lease.GC) as held:
        _refuse(store, held.others(), deleted=0)
        findings = find_garbage(store, grace=grace, keep_maps=keep_maps)
        if findings.dropped:
            store.put_bytes(PLAN, json.dumps({"schema": 1, "dropped": findings.dropped}).encode())
        checked = time.monotonic()
        for start in range(0, len(findings.garbage), BATCH):
            if start == 0 or time.monotonic() - checked > CHECKED_EVERY:
                _refuse(store, lease.read_leases(store, but=identity), deleted=start)
                if read_head(store) != findings.head:
                    raise EnvironmentFailure(
                        f"the current map changed; {start:,} objects were deleted", hint="Run the same command again."
                    )
                checked = time.monotonic()
            batch = [item.info for item in findings.garbage[start : start + BATCH]]
            store.delete([info.name for info in batch if not _is_unfinished(info)])
            store.discard([info for info in batch if _is_unfinished(info)])
            say(f"{start + len(batch):,} of {len(findings.garbage):,} deleted")
        store.delete([PLAN])
    return findings


def _refuse(store: Store, others: Sequence[lease.Lease], *, deleted: int) -> None:
    at_work = [held for held in others if held.purpose != lease.GC]
    if at_work:
        raise EnvironmentFailure(
            f"{store.url} is being worked on by {'; '.join(map(str, at_work))}; {deleted:,} objects were deleted",
            hint="Run the same command again when that has ended.",
        )


def _is_unfinished(info: ObjectInfo) -> bool:
    from latentscale.storage.objects import TEMPORARY_PREFIX
    from latentscale.storage.objects import UPLOAD as UPLOAD_ID

    return info.version.startswith(UPLOAD_ID) or info.name.rsplit("/", 1)[-1].startswith(TEMPORARY_PREFIX)


def _clock(store: Store, listing: Mapping[str, ObjectInfo]) -> float:
    try:
        return store.clock()
    except LatentScaleError:
        # A workspace that may only be read: it is at least as late as its newest object says, which errs to the safe.
        return max((info.modified or 0.0 for info in listing.values()), default=0.0)


def _begun(store: Store, listing: Mapping[str, ObjectInfo]) -> list[str]:
    if PLAN not in listing:
        return []
    try:
        return [str(identity) for identity in json.loads(store.read_bytes(PLAN))["dropped"]]
    except (ValueError, KeyError, TypeError):
        return []


def _record(record: Record) -> str:
    return record_name(record.kind, record.id)


def _is_ingesting(run: RunFacts, oldest: float) -> bool:
    """Whether a run ended, or was killed, before its documents were complete, and may still be given again."""
    return run.status != "done" and not run.snapshot and (run.modified is None or run.modified >= oldest)


def _drop_rank(item: Garbage) -> int:
    kind = item.info.name.split("/")[1].split("-")[0] if item.kind == RECORD else ""
    return DROP_ORDER.index(kind) if kind in DROP_ORDER else 0


def _upload_names(sources: Iterable[str]) -> set[str]:
    return {source.rsplit("/", 1)[-1] for source in sources}


def _assets_in_use(store: Store, listing: Mapping[str, ObjectInfo]) -> set[str]:
    """Names of the page's files that its index names, or one of those names, and so on."""
    there = {name.rsplit("/", 1)[-1]: name for name in listing if name.startswith("viewer/assets/")}
    used: set[str] = set()
    waiting = ["viewer/index.html"] if "viewer/index.html" in listing else []
    if not waiting:
        return set(there)
    while waiting:
        name = waiting.pop()
        if name.endswith((".html", ".js", ".css")):
            named = set(_ASSET.findall(store.read_bytes(name).decode("utf-8", "replace")))
            more = (named & set(there)) - used
            used |= more
            waiting.extend(there[file] for file in more)
    return used


@dataclass(frozen=True, slots=True, kw_only=True)
class _Unneeded:
    """Goes through a listing, folder by folder, and yields what nothing needs."""

    listing: Mapping[str, ObjectInfo]
    left: Sequence[Record]
    dropped: Sequence[Record]
    snapshots: set[str]
    keys: set[str]
    embeddings: set[str]
    ingesting: bool
    uploads: set[str]
    assets: set[str]
    is_old: Callable[[ObjectInfo | None], bool]
    clock: float

    def all(self) -> Iterator[tuple[str, ObjectInfo]]:
        needed = {_record(record) for record in self.left}
        needed |= {f"{record.folder}/{part.name}" for record in self.left for part in record.parts}
        recorded = {record.folder for record in self.left}
        dropped_records = {_record(record) for record in self.dropped}
        dropped_folders = {record.folder for record in self.dropped}
        folders = set(FOLDERS.values())
        unrecorded = self._unrecorded(recorded | dropped_folders)
        begun = {folder.partition("/")[2] for folder, infos in unrecorded.items() if not self._all_old(infos)}
        for name, info in self.listing.items():
            top, _, rest = name.partition("/")
            kind = None
            if top in folders:
                folder = f"{top}/{rest.partition('/')[0]}"
                if name in needed or "/" not in rest:
                    continue
                if name in dropped_records:
                    kind = RECORD
                elif folder in dropped_folders:
                    kind = DROPPED
                elif folder not in recorded:
                    kind = None  # below, folder by folder
                elif top == FOLDERS["embedding"]:
                    kind = None if _key(name) in self.keys else VECTORS
                else:
                    kind = LEFTOVER
            elif top == "documents":
                kind = None if self.ingesting or _key(name) in self.keys else DOCUMENTS
            elif top == "rejects":
                kind = self._reject(name, begun)
            elif top == snapshots.FOLDER:
                kind = self._snapshot(rest)
            elif top == "uploads":
                kind = None if rest in self.uploads else UPLOAD
            elif name.startswith("viewer/assets/"):
                kind = None if name.rsplit("/", 1)[-1] in self.assets else ASSET
            elif top == attempts.FOLDER:
                kind = ATTEMPT
            elif top == lease.FOLDER and self.clock - (info.modified or 0.0) > lease.EXPIRES_AFTER:
                kind = LEASE
            if kind is not None:
                yield kind, info
        for infos in unrecorded.values():
            # Work that goes on, over several runs if need be, is as young as the last thing that it wrote.
            if self._all_old(infos):
                yield from ((UNRECORDED, info) for info in infos)

    def _snapshot(self, name: str) -> str | None:
        """The list of a snapshot, or one of the tables that go with it."""
        found = _SNAPSHOT.search(name)
        return None if found is None or found[0] in self.snapshots else SNAPSHOT

    def _unrecorded(self, recorded: set[str]) -> dict[str, list[ObjectInfo]]:
        """The objects of each folder of an artifact that has no record."""
        found: dict[str, list[ObjectInfo]] = {}
        for name, info in self.listing.items():
            parts = name.split("/", 2)
            folder = "/".join(parts[:2])
            if len(parts) == 3 and parts[0] in FOLDERS.values() and folder not in recorded:
                found.setdefault(folder, []).append(info)
        return found

    def _all_old(self, infos: Iterable[ObjectInfo]) -> bool:
        return all(self.is_old(info) for info in infos)

    def _reject(self, name: str, begun: set[str]) -> str | None:
        parts = name.split("/")
        if len(parts) == 2:
            return self._snapshot(parts[1])
        if len(parts) == 4 and parts[1] not in self.embeddings:  # rejects/<embedding>/<kk>/<key>
            # Those of work that is not recorded yet are as young as its vectors.
            return None if parts[1] in begun else REJECTS
        if len(parts) == 3 and self.ingesting:
            return None
        return None if _key(name) in self.keys else REJECTS


def _key(name: str) -> str:
    return name.rsplit("/", 1)[-1].removesuffix(".parquet")
