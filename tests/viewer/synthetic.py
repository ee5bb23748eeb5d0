"""Synthetic maps with texts, generated from a seed, for the viewer's tests."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from latentscale.embedders.static import StaticEmbedder
from latentscale.viewer import (
    SECTIONS,
    MapQuality,
    Section,
    ViewerData,
    continued,
    map_density,
    with_hues,
    write_page,
    write_removed,
    write_tiles,
)
from latentscale.viewer.height import Height
from latentscale.viewer.meaning import Meaning
from latentscale.viewer.similar import ReverseNeighbors, Similar

HOSTILE = "<img src=x onerror=\"document.title='owned'\">"
WORDS = ("amber", "basin", "cedar", "delta", "ember", "fjord", "grove", "haven")
WORDS += ("inlet", "jetty", "knoll", "lagoon", "meadow", "nectar", "orchard", "prairie")
LABELS = pa.schema(
    [
        ("layer", pa.int32()),
        ("cluster", pa.int32()),
        ("label", pa.string()),
        ("source", pa.string()),
        ("keyphrases", pa.list_(pa.string())),
        ("exemplars", pa.list_(pa.int64())),
        ("parent", pa.int32()),
        ("x", pa.float32()),
        ("y", pa.float32()),
        ("hull", pa.list_(pa.float32())),
        ("size", pa.int64()),
        ("nearest_size", pa.int64()),
    ]
)


def text_of(row: int) -> str:
    """The text of a document, which contains its row number for identification."""
    return f"Document number {row} about {WORDS[row % 16]} and {WORDS[(row // 16) % 16]}."


def make_labels(
    points: np.ndarray,
    found: np.ndarray,
    owner: np.ndarray,
    row_ids: np.ndarray,
    *,
    clusters: int,
    hostile: bool = False,
    step: int = 1,
) -> pa.Table:
    """Labels of two layers, four clusters per region; cluster ids are multiples of ``step``, so they may have gaps."""
    rows: list[dict[str, Any]] = []
    for layer, group in ((0, 1), (1, 4)):
        for c in range(-(-clusters // group)):
            inside = (found >= 0) & (found // group == c)
            if not inside.any():
                continue
            # A coarse cluster here is a stretch of the ring: its label stands outside it.
            x, y = points[inside].mean(axis=0) * (1.0 if layer == 0 else 1.35)
            low, high = points[inside].min(axis=0), points[inside].max(axis=0)
            rows.append(
                {
                    "layer": layer,
                    "cluster": c * step,
                    "label": HOSTILE
                    if hostile and layer == 0 and c == 0
                    else f"{WORDS[c % 16]} {'region' if layer else 'topic'}",
                    "source": "keyphrases",
                    "keyphrases": [WORDS[c % 16], WORDS[(c + 1) % 16]],
                    "exemplars": row_ids[inside][:3].tolist(),
                    "parent": c // 4 * step if layer == 0 else None,
                    "x": float(x),
                    "y": float(y),
                    "hull": [low[0], low[1], high[0], low[1], high[0], high[1], low[0], high[1]],
                    "size": int(inside.sum()),
                    "nearest_size": int((owner // group == c).sum()),
                }
            )
    return pa.Table.from_pylist(rows, schema=LABELS)


def make_quality(n: int, *, clusters: int, added: int | None = None) -> dict[str, Any]:
    """A ``quality.json`` of a map of ``n`` documents; with ``added``, that of an update."""
    facts: dict[str, Any] = {
        "documents": n,
        "recall": 0.985,
        "trustworthiness": 0.912,
        "preservation": 0.345,
        "k": 15,
        "sample": min(n, 10_000),
        "outlier_rate": 0.0012,
        "components": 3,
        "largest_component": 0.93,
        "duplicates": 0.25,
        "clusters": clusters,
        "noise_share": 0.2,
        "persistence": {"least": 0.01, "median": 0.1, "largest": 0.4},
        "stability": 0.82,
        "against": {
            "column": "kind",
            "nmi": 0.71,
            "ari": 0.52,
            "purity": 0.8,
            "documents": n,
            "classes": 5,
            "nearest": {"nmi": 0.7, "ari": 0.5, "purity": 0.78},
        },
        "red_flags": ["25% of the documents are identical to another: dense spots may be copies, not topics."],
    }
    if added is None:
        return facts
    reasons = [f"{added:,} documents were added to the {n:,} that the map was fitted to."] if added > n // 5 else []
    drift = {
        "fitted": n,
        "added": added,
        "removed": 60,
        "added_share": added / n,
        "removed_share": 60 / n,
        "noise_share_fitted": 0.2,
        "noise_share_added": 0.2,
        "ood_share": 0.05,
        "largest_growth": None,
        "refit_due": bool(reasons),
        "reasons": reasons,
    }
    return {**facts, "fit": "map-00000000", "drift": drift}


def make_data(
    n: int,
    *,
    clusters: int = 16,
    seed: int = 7,
    batch: int = 1000,
    hostile: bool = False,
    outliers: int = 0,
    heights: bool = False,
    similar: bool = False,
    meaning: bool = False,
) -> ViewerData:
    """``n`` documents in ``clusters`` round clusters on a ring, a fifth of them noise; row ids have gaps.

    ``outliers`` of them lie a hundred units away. With ``heights``, each cluster is higher than the one before it;
    with ``similar``, each document is like those after it; with ``meaning``, it has the vector of its text.
    """
    random = np.random.default_rng(seed)
    owner = random.integers(0, clusters, n).astype(np.int32)
    angle = 2 * np.pi * np.arange(clusters) / clusters
    centres = np.stack([10 * np.cos(angle), 10 * np.sin(angle)], 1)
    points = (centres[owner] + random.normal(0, 0.7, (n, 2))).astype(np.float32)
    if outliers:
        points[:: n // outliers] += np.float32(100)
    found = np.where(random.random(n) < 0.2, -1, owner).astype(np.int32)
    row_ids = np.arange(n, dtype=np.int64) * 3 + 5
    labels = make_labels(points, found, owner, row_ids, clusters=clusters, hostile=hostile)
    odd = HOSTILE if hostile else "note"
    z = (0.4 * owner + random.normal(0, 0.5, n)).astype(np.float32)
    if heights:
        groups = [found // 4 if layer else found for layer in labels["layer"].to_pylist()]
        middles = [z[g == c].mean() for g, c in zip(groups, labels["cluster"].to_pylist(), strict=True)]
        labels = labels.append_column("z", pa.array(middles, pa.float32()))

    def documents() -> Iterator[pa.RecordBatch]:
        for start in range(0, n, batch):
            at = np.arange(start, min(n, start + batch))
            texts = [HOSTILE if hostile and i % 2 == 0 else text_of(int(i)) for i in at]
            yield pa.record_batch(
                {
                    "row_id": row_ids[at],
                    "body": pa.array(texts),
                    "kind": pa.array([f"kind {int(owner[i]) % 5}" for i in at]),
                    "score": pa.array([None if i % 10 == 0 else float(i) for i in at], pa.float64()),
                    "published": pa.array((at % 3650).astype("datetime64[D]")),
                    "url": pa.array([f"https://example.org/{i}" if i % 2 else "javascript:alert(1)" for i in at]),
                    odd: pa.array([f"{HOSTILE} {i}" if hostile else f"note {i}" for i in at]),
                    "__proto__": pa.array([f"proto {i % 3}" for i in at]),
                }
            )

    return ViewerData(
        name="Synthetic",
        row_ids=row_ids,
        coordinates=points,
        clusters=found,
        nearest_clusters=owner,
        labels=labels,
        documents=documents,
        text_column="body",
        columns=["body", "kind", "score", "published", "url", odd, "__proto__"],
        quality=MapQuality.parse(make_quality(n, clusters=clusters), map="map-00000001"),
        height=Height.of(np.column_stack([points, z])) if heights else None,
        similar=like_the_next(n) if similar else None,
        meaning=meaning_of_texts([text_of(i) for i in range(n)]) if meaning else None,
    )


def meaning_of_texts(texts: Sequence[str]) -> Meaning:
    """Vectors of texts and of a few phrases, by the shipped model."""
    model = StaticEmbedder()
    phrases = [f"{first} {second}" for first in WORDS for second in WORDS[:4]]
    vectors, queries = model.embed(texts).vectors, model.embed(phrases).vectors
    return Meaning(vectors=vectors, queries=queries, tokens=model.token_table())


LIKENESS = np.array([0.9, 0.8, 0.7, 0.6], np.float32)


def like_the_next(n: int, *, first: str | None = None) -> Similar:
    """Make each of ``n`` documents similar to the four after it; in an update, most similar to the document with the
    same number in the generation ``first``, and vice versa."""
    own = np.arange(n)
    places = (own[:, None] + np.arange(1, 5)) % n
    scores = np.tile(LIKENESS, (n, 1))
    if first is None:
        return Similar(neighbors=places, similarity=scores)
    of = np.zeros((n, 4), np.uint8)
    of[:, 0], places[:, 0] = 1, own
    back = ReverseNeighbors(
        generation=np.ones(n, np.uint8), positions=own, rows=own, similarity=np.full(n, 0.95, np.float32)
    )
    return Similar(neighbors=places, similarity=scores, generation=of, earlier=[first], reverse=back)


STEP = 7


@dataclass(kw_only=True)
class Grown:
    """A map that grew by updates: its rows, and the generations as written.

    ``rows`` are row numbers (row id ``3 * row + 5``), each once; ``generation`` holds the last one that has the row.
    ``gone`` are the row numbers that each generation has and the map has not, or has in a later generation.
    """

    rows: np.ndarray
    generation: np.ndarray
    coordinates: np.ndarray
    clusters: np.ndarray
    owners: np.ndarray
    kinds: list[str]
    scores: np.ndarray
    parts: list[ViewerData]
    entries: list[dict[str, Any]]
    labels: list[pa.Table]
    gone: list[np.ndarray]


def grown_text(row: int, generation: int) -> str:
    """The text of a document in a generation."""
    return text_of(row) if not generation else f"{text_of(row)} As of update {generation}."


def write_grown(folder: Path, *, base: int = 20_000, sizes: Sequence[int] = (600, 3_000), clusters: int = 16) -> Grown:
    """A workspace whose page shows ``1 + len(sizes)`` generations.

    Each update replaces 40 rows of the first generation (they move to a new place), takes 60 of each earlier one off
    the map, and adds the rest as new rows. The second update brings a cluster that was not there before, and a kind of
    its own. Cluster ids are multiples of seven.
    """
    random = np.random.default_rng(11)
    angle = 2 * np.pi * np.arange(clusters) / clusters
    centres = np.stack([10 * np.cos(angle), 10 * np.sin(angle)], 1)
    scratch = folder / "scratch"
    scratch.mkdir(parents=True)
    parts: list[ViewerData] = []
    entries: list[dict[str, Any]] = []
    labels: list[pa.Table] = []
    gone: list[np.ndarray] = []  # row numbers that are off the map, by generation
    facts: list[dict[str, Any]] = []
    following = 0
    for g, size in enumerate((base, *sizes)):
        # The last cluster comes with the second update.
        owner = random.integers(0, clusters if g > 1 else clusters - 1, size).astype(np.int32)
        points = (centres[owner] + random.normal(0, 0.7, (size, 2))).astype(np.float32)
        found = np.where(random.random(size) < 0.2, -1, owner).astype(np.int32)
        replaced = random.choice(np.setdiff1d(facts[0]["rows"], gone[0]), 40, replace=False) if g else np.empty(0, int)
        rows = np.sort(np.concatenate([replaced, np.arange(following, following + size - len(replaced))]).astype(int))
        following += size - len(replaced)
        for earlier in range(g):
            alive = np.setdiff1d(facts[earlier]["rows"], np.union1d(gone[earlier], replaced))
            taken = random.choice(alive, 60, replace=False)
            gone[earlier] = np.union1d(gone[earlier], np.union1d(taken, np.intersect1d(facts[earlier]["rows"], rows)))
        gone.append(np.empty(0, int))
        kinds = [f"kind {9 if g == 2 and i % 3 == 0 else int(owner[i]) % 5}" for i in range(size)]
        scores = np.where(rows % 10 == 0, np.nan, rows.astype(float) if g < 2 else rows * 10.0)
        facts.append({"rows": rows, "points": points, "found": found, "owner": owner, "kinds": kinds, "scores": scores})
        kept = [np.isin(f["rows"], gone[i], invert=True) for i, f in enumerate(facts)]

        def whole(name: str, kept: list[np.ndarray] = kept) -> np.ndarray:
            return np.concatenate([np.asarray(f[name])[k] for f, k in zip(facts, kept, strict=True)])

        row_ids = whole("rows") * 3 + 5
        table = make_labels(whole("points"), whole("found"), whole("owner"), row_ids, clusters=clusters, step=STEP)
        labels.append(with_hues(table, labels[-1] if labels else None))

        def documents(f: dict[str, Any] = facts[-1], g: int = g) -> Iterator[pa.RecordBatch]:
            n = len(f["rows"])
            yield pa.record_batch(
                {
                    "row_id": f["rows"].astype(np.int64) * 3 + 5,
                    "body": pa.array([grown_text(int(row), g) for row in f["rows"]]),
                    "kind": pa.array(f["kinds"]),
                    "score": pa.array(f["scores"], pa.float64(), from_pandas=True),
                    # No value in the first update.
                    "source": pa.array([None if g == 1 else f"source {i % 4}" for i in range(n)], pa.string()),
                }
            )

        data = ViewerData(
            name="Grown map",
            row_ids=rows.astype(np.int64) * 3 + 5,
            coordinates=points,
            clusters=np.where(found < 0, -1, found * STEP).astype(np.int32),
            nearest_clusters=(owner * STEP).astype(np.int32),
            labels=labels[-1],
            documents=documents,
            text_column="body",
            columns=["body", "kind", "score", "source"],
            quality=MapQuality.parse(
                make_quality(base, clusters=clusters, added=following - base if g else None), map=f"map-0000000{g}"
            ),
            density=map_density(np.concatenate([f["points"] for f in facts]))[-size:],
            added=f"2026-01-0{g}" if g else None,
            similar=like_the_next(size, first="map-00000000" if g else None),
        )
        name = f"maps/map-0000000{g}/viewer"
        if g:
            last = folder / f"maps/map-0000000{g - 1}/viewer"
            data = continued(data, entries, lambda file, last=last: (last / file).read_bytes())
        parts.append(data)
        entry = write_tiles(data, Disk(folder / name), scratch=scratch)
        entries.append({**entry, "url": f"../{name}/"})
        for i in range(g):
            was = entries[i].get("removed")
            source = folder / f"maps/map-0000000{i}/viewer"
            file, removed = write_removed(
                lambda file, source=source: (source / file).read_bytes(),
                entries[i],
                gone[i].astype(np.int64) * 3 + 5,
                previous=(folder / "viewer" / was["url"]).resolve().read_bytes() if was else None,
            )
            Disk(folder / name)(f"removed-{i}.parquet", file)
            entries[i] = {**entries[i], "removed": {"url": f"../{name}/removed-{i}.parquet", **removed}}
        # The page as it is now, and a copy as it was after this generation.
        for page in ("viewer", f"viewer-{g}"):
            write_page(entries, Disk(folder / page), title="Grown map")
    scratch.rmdir()
    return Grown(
        rows=whole("rows"),
        generation=np.concatenate([np.full(int(k.sum()), i) for i, k in enumerate(kept)]),
        coordinates=whole("points"),
        clusters=np.where(whole("found") < 0, -1, whole("found") * STEP),
        owners=whole("owner"),
        kinds=list(whole("kinds")),
        scores=whole("scores"),
        parts=parts,
        entries=entries,
        labels=labels,
        gone=gone,
    )


class Disk:
    """A ``put`` that writes below a folder, and counts the objects."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.names: list[str] = []

    def __call__(self, name: str, content: bytes) -> None:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        self.names.append(name)


def write_workspace(
    data: ViewerData, folder: Path, *, title: str = "Synthetic map", sections: Sequence[Section] = SECTIONS
) -> Path:
    """Write a workspace with one map and its page, as ``publish`` does."""
    scratch = folder / "scratch"
    scratch.mkdir(parents=True)
    entry = write_tiles(data, Disk(folder / "maps/map-00000001/viewer"), scratch=scratch, sections=sections)
    write_page([{**entry, "url": "../maps/map-00000001/viewer/"}], Disk(folder / "viewer"), title=title)
    scratch.rmdir()
    return folder
