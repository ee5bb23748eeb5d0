"""The page's description of how its map was made, from the records of the map and its artifacts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from latentscale.storage.artifacts import Record, find_record
from latentscale.storage.objects import Store
from latentscale.storage.segments import segments_of


def about_map(store: Store, record: Record) -> list[tuple[str, str]]:
    """Return names and values in display order.

    Fields missing from records of other versions, and missing artifacts, are skipped.
    """
    created = _day(record.created)
    facts = [("Map", record.id), ("Made", created)]
    fitted = find_record(store, "map", segments_of(record)[0].map)
    if fitted is not None and fitted.id != record.id:
        facts.append(("Fitted", f"{_day(fitted.created)} ({fitted.id})"))
    version = record.environment.get("versions", {}).get("latentscale")
    if version:
        facts.append(("LatentScale", str(version)))
    request = record.request
    for name, kind, key, describe in (
        ("Text", "embedding", "embedding", _text),
        ("Embedding", "embedding", "embedding", _model),
        ("Layout", "projection", "projection", _layout),
        ("Clusters", "clusters", "clusters", _clusters),
        ("Labels", "labels", "labels", _labels),
    ):
        identity = request.get(key)
        source = find_record(store, kind, str(identity)) if identity else None
        if source is not None:
            description = ", ".join(describe(source.request))
            if description:
                facts.append((name, description))
    return [(name, value[:300]) for name, value in facts]


def _day(created: str) -> str:
    return f"{created[:16].replace('T', ' ')} UTC"


def _text(request: Mapping[str, Any]) -> Iterator[str]:
    if request.get("text"):
        yield str(request["text"])


def _model(request: Mapping[str, Any]) -> Iterator[str]:
    model = request.get("model", {})
    # A local path would reveal details of the machine.
    name = str(model.get("name") or model.get("model") or model.get("embedder") or "").rstrip("/").replace("\\", "/")
    if name:
        yield name.rsplit("/", 1)[-1] if name.startswith(("/", ".", "~")) or "://" in name else name
    if model.get("revision"):
        yield f"revision {str(model['revision'])[:12]}"
    if model.get("dim"):
        yield f"{model['dim']} dimensions"


def _layout(request: Mapping[str, Any]) -> Iterator[str]:
    yield "UMAP"
    yield from _settings(request, "n_neighbors", "min_dist", "spread", "n_epochs", "seed")


def _clusters(request: Mapping[str, Any]) -> Iterator[str]:
    yield str(request.get("method", ""))
    yield from _settings(
        request, "column", "space", "min_cluster_size", "min_samples", "cluster_selection_method", "n_clusters", "seed"
    )


def _labels(request: Mapping[str, Any]) -> Iterator[str]:
    yield str(request.get("method", ""))
    yield from _settings(request, "max_keyphrases", "exemplars")


def _settings(request: Mapping[str, Any], *names: str) -> Iterator[str]:
    for name in names:
        value = request.get(name)
        if value is not None:
            yield f"{name} {value}"
