"""A map with texts, made from a seed: what the viewer's tests are run on."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from latentscale.viewer import ViewerData, write_page, write_tiles

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
    """The text of a document: names its row, so that a test can tell whose text it reads."""
    return f"Document number {row} about {WORDS[row % 16]} and {WORDS[(row // 16) % 16]}."


def make_data(
    n: int, *, clusters: int = 16, seed: int = 7, batch: int = 1000, hostile: bool = False, outliers: int = 0
) -> ViewerData:
    """``n`` documents in ``clusters`` round clusters on a ring, a fifth of them noise; row ids have gaps.

    ``outliers`` of them lie a hundred units away.
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
                    "cluster": c,
                    "label": HOSTILE
                    if hostile and layer == 0 and c == 0
                    else f"{WORDS[c % 16]} {'region' if layer else 'topic'}",
                    "source": "keyphrases",
                    "keyphrases": [WORDS[c % 16], WORDS[(c + 1) % 16]],
                    "exemplars": row_ids[inside][:3].tolist(),
                    "parent": c // 4 if layer == 0 else None,
                    "x": float(x),
                    "y": float(y),
                    "hull": [low[0], low[1], high[0], low[1], high[0], high[1], low[0], high[1]],
                    "size": int(inside.sum()),
                    "nearest_size": int((owner // group == c).sum()),
                }
            )
    odd = HOSTILE if hostile else "note"

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
        labels=pa.Table.from_pylist(rows, schema=LABELS),
        documents=documents,
        text_column="body",
        columns=["body", "kind", "score", "published", "url", odd, "__proto__"],
        stats={"documents": n, "trustworthiness": 0.91},
    )


class Disk:
    """A ``put`` that writes below a folder, and counts."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.names: list[str] = []

    def __call__(self, name: str, content: bytes) -> None:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        self.names.append(name)


def write_workspace(data: ViewerData, folder: Path, *, title: str = "Synthetic map") -> Path:
    """A workspace with one map and its page, as ``publish`` lays it out."""
    scratch = folder / "scratch"
    scratch.mkdir(parents=True)
    entry = write_tiles(data, Disk(folder / "maps/map-00000001/viewer"), scratch=scratch)
    write_page([{**entry, "url": "../maps/map-00000001/viewer/"}], Disk(folder / "viewer"), title=title)
    scratch.rmdir()
    return folder
