"""Look at a workspace from outside: how far it is, and how two of its artifacts differ."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from latentscale.errors import WorkspaceError
from latentscale.stages.cluster import read_clusters
from latentscale.storage.artifacts import Record, find_record, read_record
from latentscale.storage.objects import Store

if TYPE_CHECKING:
    from latentscale.workspace import Workspace


def workspace_status(workspace: Workspace) -> dict[str, Any]:
    """Count what a workspace holds.

    Returns
    -------
    dict
        ``workspace``, ``corpus``, ``documents``, ``document shards``, ``embedded shards``, ``maps``, ``current map``,
        ``last run`` with its outcome, ``bytes``.
    """
    store = workspace.store
    record = workspace.record
    objects = store.list()
    runs = workspace.runs
    last = runs[-1] if runs else None
    facts: dict[str, Any] = {
        "workspace": store.url,
        "name": record.name,
        "corpus": ", ".join(record.corpus["sources"]),
        "document shards": sum(name.startswith("documents/") for name in objects),
        "embedded shards": sum(name.startswith("embeddings/") and name.endswith(".parquet") for name in objects),
        "maps": len(workspace.maps),
        "bytes": sum(info.size for info in objects.values()),
    }
    current = workspace.current
    facts["current map"] = current.id if current else "none yet"
    if current:
        facts["documents"] = current.record.counts["documents"]
    if last:
        facts["last run"] = f"{last['id']}: {last['status']}"
        if last["status"] != "done":
            facts["to go on"] = "the same command again"
    return facts


def compare(workspace: Workspace, first: str, second: str) -> dict[str, Any]:
    """Compare two artifacts of one kind.

    Returns
    -------
    dict
        ``settings`` and ``counts``: what differs, as (first, second) by name; ``agreement``: sentences on how far the
        clusters agree, where both have any.

    Raises
    ------
    WorkspaceError
        If one does not exist, or their kinds differ.
    """
    store = workspace.store
    a, b = read_record(store, first), read_record(store, second)
    if a.kind != b.kind:
        raise WorkspaceError(f"{first} is a {a.kind} and {second} a {b.kind}: they cannot be compared")
    facts: dict[str, Any] = {
        "settings": _differences(_all_settings(store, a), _all_settings(store, b)),
        "counts": _differences(_flat(a.counts), _flat(b.counts)),
        "agreement": [],
    }
    pair = [_clusters_of(store, record) for record in (a, b)]
    if pair[0] is not None and pair[1] is not None:
        facts["agreement"] = _agreement(store, pair[0], pair[1])
    return facts


def _all_settings(store: Store, record: Record) -> dict[str, Any]:
    """The settings of an artifact and of all it was made from, by ``kind.name``."""
    settings = {f"{record.kind}.{key}": value for key, value in _flat(record.request).items()}
    for identity in record.parents:
        parent = find_record(store, identity.split("-", 1)[0], identity)
        if parent is not None:
            settings = {**_all_settings(store, parent), **settings}
    return settings


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


def _agreement(store: Store, a: Record, b: Record) -> list[str]:
    from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score

    one, two = read_clusters(store, a), read_clusters(store, b)
    _, left, right = np.intersect1d(one.row_ids, two.row_ids, assume_unique=True, return_indices=True)
    if not len(left):
        return ["They share no document."]
    lines = [f"{len(left):,} documents are in both."]
    for title, name in (
        ("with noise as a cluster", "cluster"),
        ("with noise at its nearest cluster", "nearest_cluster"),
    ):
        x, y = getattr(one, name)[left], getattr(two, name)[right]
        rand, mutual = adjusted_rand_score(x, y), normalized_mutual_info_score(x, y)
        lines.append(f"Agreement {title}: ARI {rand:.3f}, NMI {mutual:.3f}.")
    return lines
