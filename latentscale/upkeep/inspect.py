"""Inspection of a workspace: status, and comparison of two artifacts."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from datetime import datetime
from itertools import chain, islice
from typing import Any

from latentscale.errors import WorkspaceError
from latentscale.explore.diff_figures import Diff
from latentscale.explore.embedding_diff import Side, compare_embeddings
from latentscale.explore.map_diff import diff_clusters, diff_maps
from latentscale.stages.embed import pending_shards
from latentscale.storage.artifacts import Record, find_record, list_records, read_record
from latentscale.storage.head import current_map
from latentscale.storage.objects import Store
from latentscale.storage.runs import latest_runs
from latentscale.storage.shared_texts import is_shared
from latentscale.storage.snapshots import read_snapshot
from latentscale.storage.workspace_record import read_workspace

# Number of earlier runs searched for the last one that embedded: runs without new documents embed nothing.
EARLIER_RUNS = 8


def workspace_status(store: Store) -> dict[str, Any]:
    """Summarise a workspace: object counts, the current map, and the last run.

    Returns
    -------
    dict
        The keys are stable; others may be added. ``workspace`` (its URL), ``name``, ``corpus`` (list of sources),
        ``created``, ``document_shards``, ``embedded_shards``, ``maps``, ``overlays`` (number of placed corpora, or
        None), ``bytes``; for the current map, or None: ``current_map``, ``map_created``, ``documents``, ``clusters``,
        ``noise_share``, ``fit``, and if it has had updates ``drift`` and ``refit_due``; ``last_run``: None or ``id``,
        ``status``, ``command``, ``started``, ``ended``, ``seconds``, ``made``, ``error``; ``to_resume``;
        ``embedding``: None or the throughput of the last run that embedded, as in
        :meth:`latentscale.pipeline.embed_work.EmbedWork.as_json`, with the id of the ``run``; for an active run it may
        be a minute old. Times are ISO 8601 in UTC.

    Raises
    ------
    WorkspaceError
        If the workspace does not exist.
    DamagedObjectError
        If one of these records cannot be read.
    """
    record = read_workspace(store)
    objects = store.list()
    runs = latest_runs(store)
    last = next(runs, None)
    current = current_map(store)
    counts: Mapping[str, Any] = current.counts if current else {}
    update: Mapping[str, Any] | None = current.request.get("update") if current else None
    drift = _drift(store, current) if current and update else None
    return {
        "workspace": store.url,
        "name": record.name,
        "corpus": list(record.corpus["sources"]),
        "created": record.created,
        "documents": counts.get("documents"),
        "document_shards": sum(name.startswith("documents/") for name in objects),
        "embedded_shards": sum(
            name.startswith("embeddings/") and name.endswith(".parquet") and not is_shared(name) for name in objects
        ),
        "maps": sum(name.startswith("maps/") and name.endswith("/map.json") for name in objects),
        "overlays": sum(name.startswith("overlays/") and name.endswith("/artifact.json") for name in objects) or None,
        "bytes": sum(info.size for info in objects.values()),
        "current_map": current.id if current else None,
        "map_created": current.created if current else None,
        "fit": str(update["fit"]) if update else current.id if current else None,
        "clusters": counts.get("clusters"),
        "noise_share": counts.get("noise_share"),
        "drift": drift,
        "refit_due": bool(drift["refit_due"]) if drift else None,
        "last_run": _run_facts(last) if last else None,
        "to_resume": "the same command again" if last and last["status"] != "done" else None,
        "embedding": None if last is None else _embedding(chain([last], islice(runs, EARLIER_RUNS))),
    }


def _embedding(runs: Iterable[Mapping[str, Any]]) -> dict[str, Any] | None:
    """The embedding throughput of the latest run that embedded anything."""
    for run in runs:
        figures = run["facts"].get("embedding")
        if figures:
            return {"run": run["id"], **figures}
    return None


def _drift(store: Store, record: Record) -> dict[str, Any]:
    return json.loads(store.read_bytes(f"{record.folder}/quality.json"))["drift"]


def _run_facts(run: Mapping[str, Any]) -> dict[str, Any]:
    started, ended = (None if run[key] is None else datetime.fromisoformat(run[key]) for key in ("started", "ended"))
    return {
        "id": run["id"],
        "status": run["status"],
        "command": run["command"],
        "started": run["started"],
        "ended": run["ended"],
        "seconds": None if started is None or ended is None else (ended - started).total_seconds(),
        "made": run["facts"].get("made"),
        "error": run["facts"].get("error"),
    }


def compare(store: Store, first: str, second: str, *, vectors: bool = True) -> Diff:
    """Compare two artifacts of the same kind.

    Parameters
    ----------
    vectors : bool
        Whether to read and compare the vectors of two embeddings, or of two maps with different embeddings.

    Returns
    -------
    Diff
        ``settings`` and ``counts``: the differing values, as (first, second) by name; ``clusters``: for artifacts with
        clusters; ``layout``: for two maps with a document in common; ``vectors``: for two embeddings, or maps with
        different embeddings, as in :func:`latentscale.explore.embedding_diff.compare_embeddings`. Entries that do not
        apply are None.

    Raises
    ------
    WorkspaceError
        If one does not exist, they are of different kinds, or no document has a vector in both.
    """
    a, b = read_record(store, first), read_record(store, second)
    if a.kind != b.kind:
        raise WorkspaceError(f"{first} is a {a.kind} and {second} a {b.kind}: they cannot be compared")
    facts: Diff = {
        "settings": _differences(_all_settings(store, a), _all_settings(store, b)),
        "counts": _differences(_flat(_counted(a)), _flat(_counted(b))),
        "clusters": None,
        "layout": None,
        "vectors": None,
    }
    if a.kind == "map":
        facts["clusters"], facts["layout"] = diff_maps(store, a, b)
    else:
        pair = [_clusters_of(store, record) for record in (a, b)]
        if pair[0] is not None and pair[1] is not None:
            facts["clusters"] = diff_clusters(store, pair[0], pair[1])
    sides = _embedded(store, a, b) if vectors else None
    if sides is not None:
        facts["vectors"] = compare_embeddings(store, *sides)
    return facts


def _embedded(store: Store, a: Record, b: Record) -> tuple[Side, Side] | None:
    """The embeddings of two artifacts with their snapshots; None if both have the same embedding."""
    if a.kind == "map":
        sides = [
            Side(snapshot=read_snapshot(store, str(one.request["snapshot"])), embedding=str(one.request["embedding"]))
            for one in (a, b)
        ]
        return None if sides[0].embedding == sides[1].embedding else (sides[0], sides[1])
    if a.kind != "embedding" or a.id == b.id:
        return None
    tried: list[str] = []
    maps = (record.request.get("snapshot") for record in reversed(list_records(store, ["map"])))
    for identity in chain(maps, (run["facts"].get("snapshot") for run in latest_runs(store))):
        if not identity or identity in tried:
            continue
        tried.append(str(identity))
        snapshot = read_snapshot(store, str(identity))
        if not any(pending_shards(snapshot.shards, one.id, store.list(one.folder, brief=True)).any() for one in (a, b)):
            return Side(snapshot=snapshot, embedding=a.id), Side(snapshot=snapshot, embedding=b.id)
    raise WorkspaceError(
        f"no documents of {store.url} have all their vectors of both {a.id} and {b.id}",
        hint="Embed the same documents with both: latentscale embed WORKSPACE --set embed.model=…",
    )


def _all_settings(store: Store, record: Record) -> dict[str, Any]:
    """The settings of an artifact and of all its ancestors, by ``kind.name``."""
    settings = {f"{record.kind}.{key}": value for key, value in _flat(record.request).items()}
    for identity in record.parents:
        parent = find_record(store, identity.rpartition("-")[0], identity)
        if parent is not None:
            settings = {**_all_settings(store, parent), **settings}
    return settings


def _counted(record: Record) -> dict[str, Any]:
    """The counts of an artifact, without the tile offsets of the page."""
    return {key: value for key, value in record.counts.items() if key != "page"}


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def _differences(a: Mapping[str, Any], b: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    return {key: (a.get(key), b.get(key)) for key in sorted({*a, *b}) if a.get(key) != b.get(key)}


def _clusters_of(store: Store, record: Record) -> Record | None:
    if record.kind == "clusters":
        return record
    identity = record.request.get("clusters")
    return find_record(store, "clusters", str(identity)) if identity else None
