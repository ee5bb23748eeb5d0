"""Size of the page for a browser: bytes per point, bytes until the first paint, scripts."""

from __future__ import annotations

import gzip
import json
import shutil
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import corpora, workspaces
from benchmarks.corpora import Context
from benchmarks.processes import fresh, latentscale, run_command
from benchmarks.report import Result, Target

SYNTHETIC = 1_000_000
# Requested by Chromium before its first paint; clusters.json, index.json and deeper tiles are requested after it.
FIRST_FILES = ("labels.json", "pages/0-0-0.json", "tiles/0-0-0.parquet")
CLUSTERS = 10_000
# Scripts that the page requests after the first picture; the map can be dragged once they are loaded.
DECK = ("drawing.", "pyramid-layer.")


def run(context: Context) -> Result:
    """Measure the pages of the demo, of the whole corpus, and of a million similar points."""
    workspaces.warm(context)
    demo = context.folder("viewer") / "demo"
    run_command(latentscale("run", "demo", "--out", demo, "--progress", "quiet"), compiled=context.compiled)
    corpus = corpora.full_corpus(context)
    corpus_workspace = context.folder("pipeline") / "workspace"  # reused if pipeline_63k has run in this scratch folder
    workspaces.run_corpus(corpus, corpus_workspace, compiled=context.compiled)
    count = 50_000 if context.quick else SYNTHETIC
    usage, synthetic = fresh(
        write_synthetic, workspace=corpus_workspace, folder=context.folder("viewer") / "million", count=count
    )
    _, many_clusters = fresh(
        write_synthetic,
        workspace=corpus_workspace,
        folder=context.folder("viewer") / "clusters",
        count=count,
        corpus=corpus.path,
        clusters=CLUSTERS // 100 if context.quick else CLUSTERS,
    )
    maps = {
        "demo": (_page(demo), _map(demo)),
        "corpus": (_page(corpus_workspace), _map(corpus_workspace)),
        "synthetic": (_page(corpus_workspace), Path(synthetic["folder"])),
        f"synthetic of {many_clusters['clusters']:,} clusters": (
            _page(corpus_workspace),
            Path(many_clusters["folder"]),
        ),
    }
    rows = [_measure(name, page, files) for name, (page, files) in maps.items()]
    script = _scripts(_page(demo))
    rows[2] |= {"write_cpu_s": usage.cpu_s, "write_peak_mb": usage.peak_mb}
    notes = [
        "Bytes until the first paint: the page, its style and script, the manifest, the labels, the first page of the "
        "tree and the root tile: what Chromium was seen to ask for before it. `gzip` is what a server that compresses "
        "text sends, `plain` what `python -m http.server` sends; parquet is not compressed again. The manifest of the "
        "synthetic map is that of the corpus. `deck_gzip_kb` is asked for at once after it, and moves the map by hand. "
        "Of more than 1,024 clusters the colours (`hues.json`) come before it, the names (`labels_kb`) after it.",
        "Bytes a point: all tiles (x, y, cluster), over the documents. All files: everything below the map's viewer "
        "folder, texts and columns included, over the documents. Close up: what is read besides where a map is wider "
        "than 65,536 pixels, if all of it were seen so; there at most one tile of each depth is.",
        f"The synthetic points are {count:,} draws from the corpus's own map, moved by about a three-hundredth of its "
        "width, with their clusters, one short text each: real density, no real documents. Its 10,000 clusters are "
        "around as many points, each named by the first words of a document.",
    ]
    return Result(
        title="What the page costs a browser.",
        parameters={
            "script_plain_kb": script["plain"] / 1e3,
            "script_gzip_kb": script["gzip"] / 1e3,
            "deck_gzip_kb": script["deck"] / 1e3,
        },
        rows=rows,
        targets=[
            *(
                Target(what=f"{row['what']}: bytes a point (x, y, cluster)", value=row["bytes_a_point"], limit=3)
                for row in rows[:3]  # with 10,000 clusters, the cluster takes more than half a byte more
            ),
            *(
                Target(
                    what=f"{row['what']}: to the first paint, gzip", value=row["first_gzip_kb"], limit=300, unit="kB"
                )
                for row in rows
            ),
            Target(what="script and style to the first paint, gzip", value=script["gzip"] / 1e3, limit=160, unit="kB"),
        ],
        notes=notes,
    )


def _page(workspace: Path) -> Path:
    return workspace / "viewer"


def _map(workspace: Path) -> Path:
    manifest = json.loads((_page(workspace) / "manifest.json").read_text(encoding="utf-8"))
    return (_page(workspace) / manifest["generations"][-1]["url"]).resolve()


def _packed(path: Path) -> int:
    data = path.read_bytes()
    return len(data) if path.suffix == ".parquet" else len(gzip.compress(data, 6))


def _scripts(page: Path) -> dict[str, int]:
    files = [path for path in (page / "assets").iterdir() if path.suffix in (".js", ".css")]
    html = (page / "index.html").read_text(encoding="utf-8")
    first = [path for path in files if path.name in html]  # others are loaded on demand
    deck = [path for path in files if path.name.startswith(DECK) and path not in first]
    return {
        "plain": sum(p.stat().st_size for p in first),
        "gzip": sum(map(_packed, first)),
        "deck": sum(map(_packed, deck)),
    }


def _measure(name: str, page: Path, files: Path) -> dict[str, Any]:
    html = (page / "index.html").read_text(encoding="utf-8")
    names = ("hues.json", *FIRST_FILES[1:]) if (files / "hues.json").exists() else FIRST_FILES
    first = [page / "index.html", page / "manifest.json", *(files / file for file in names)]
    first += [path for path in (page / "assets").iterdir() if path.name in html]
    sizes: dict[str, int] = defaultdict(int)
    for path in files.rglob("*"):
        if path.is_file():
            sizes[path.relative_to(files).parts[0]] += path.stat().st_size
    documents = json.loads((files / "count.json").read_text())["documents"] if (files / "count.json").exists() else None
    if documents is None:
        documents = json.loads((page / "manifest.json").read_text(encoding="utf-8"))["generations"][-1]["documents"]
    root = (files / "tiles/0-0-0.parquet").stat().st_size
    return {
        "what": f"{name}, {documents:,} points",
        "bytes_a_point": sizes["tiles"] / documents,
        "close_up_bytes_a_point": sum(p.stat().st_size for p in (files / "cols/fine").iterdir()) / documents,
        "all_files_bytes_a_document": sum(sizes.values()) / documents,
        "root_tile_kb": root / 1e3,
        "labels_kb": (files / "labels.json").stat().st_size / 1e3,
        "first_plain_kb": sum(path.stat().st_size for path in first) / 1e3,
        "first_gzip_kb": sum(map(_packed, first)) / 1e3,
        "files": sum(1 for path in files.rglob("*") if path.is_file()),
    }


# ------------------------------------------------------------------------------------------------ in a fresh process


def write_synthetic(
    workspace: str, folder: str, count: int, corpus: str | None = None, clusters: int | None = None
) -> dict[str, Any]:
    """Write the viewer's files for ``count`` points drawn from the map of a workspace.

    With ``clusters``, they have as many of their own, named by texts of ``corpus``, below those of the map.
    """
    import pyarrow as pa

    import latentscale
    from latentscale.viewer import ViewerData, write_tiles

    target = Path(folder)
    shutil.rmtree(target, ignore_errors=True)
    source_map = latentscale.open(workspace).the_map()
    points = source_map.points().select("x", "y", "cluster", "nearest_cluster").collect()
    labels = source_map.labels().drop("centroid").to_arrow()
    labels = labels.cast(plain_schema(labels.schema))
    random = np.random.default_rng(0)
    chosen = random.integers(0, len(points), count)
    positions = points.select("x", "y").to_numpy()[chosen]
    width = np.ptp(points.select("x", "y").to_numpy(), axis=0)
    positions = (positions + random.normal(scale=width / 300, size=positions.shape)).astype(np.float32)
    ids = np.arange(count, dtype=np.int64)
    cluster_ids, nearest = points["cluster"].to_numpy()[chosen], points["nearest_cluster"].to_numpy()[chosen]
    if clusters is not None:
        assert corpus is not None
        labels, cluster_ids, nearest = _add_fine_clusters(
            labels, positions, cluster_ids, corpus=corpus, clusters=clusters
        )

    def documents() -> Iterator[pa.RecordBatch]:
        for start in range(0, count, 16_384):
            batch_ids = ids[start : start + 16_384]
            texts = pa.array([f"Document {number}" for number in batch_ids.tolist()])
            yield pa.record_batch({"row_id": pa.array(batch_ids), "text": texts})

    data = ViewerData(
        name="synthetic",
        row_ids=ids,
        coordinates=positions,
        clusters=cluster_ids,
        nearest_clusters=nearest,
        labels=labels,
        documents=documents,
        text_column="text",
        columns=["text"],
    )

    def put(name: str, content: bytes) -> None:
        path = target / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)

    scratch = target / "scratch"
    scratch.mkdir(parents=True)
    entry = write_tiles(data, put, scratch=scratch)
    scratch.rmdir()
    put("count.json", json.dumps({"documents": entry["documents"]}).encode())
    return {"folder": str(target), "clusters": clusters}


def _add_fine_clusters(
    labels: Any, positions: Any, cluster_ids: Any, *, corpus: str, clusters: int
) -> tuple[Any, Any, Any]:
    """Make labels of ``clusters`` clusters below the coarse ones of a map, and assign each position to a cluster."""
    import pyarrow as pa
    import pyarrow.parquet as pq
    from scipy.spatial import cKDTree

    random = np.random.default_rng(1)
    centres = random.choice(len(positions), clusters, replace=False)
    nearest = cKDTree(positions[centres]).query(positions)[1].astype(np.int32)
    sizes = np.bincount(nearest, minlength=clusters)
    texts = pq.read_table(corpus, columns=["text"])["text"].take(random.integers(0, 60_000, clusters)).to_pylist()
    rows = labels.to_pylist()
    coarse = [row for row in rows if row["layer"] == 1]
    template = dict.fromkeys(labels.column_names)
    # The parent is arbitrary: file sizes do not depend on it.
    fine = [
        template
        | {
            "layer": 0,
            "cluster": c,
            "label": ", ".join(texts[c].split()[:3]),
            "source": "keyphrases",
            "keyphrases": texts[c].split()[:8],
            "exemplars": [int(centres[c])],
            "parent": coarse[c % len(coarse)]["cluster"],
            "x": float(positions[centres[c]][0]),
            "y": float(positions[centres[c]][1]),
            "hull": [],
            "size": int(sizes[c]),
            "nearest_size": int(sizes[c]),
        }
        for c in range(clusters)
    ]
    return pa.Table.from_pylist([*fine, *coarse], schema=labels.schema), np.where(cluster_ids < 0, -1, nearest), nearest


def plain_schema(schema: Any) -> Any:
    """Replace the large Arrow types of polars by the small ones that the viewer's writer supports."""
    import pyarrow as pa

    return pa.schema([pa.field(field.name, _narrow(field.type)) for field in schema])


def _narrow(kind: Any) -> Any:
    import pyarrow as pa

    if pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        return pa.string()
    if pa.types.is_large_list(kind):
        return pa.list_(_narrow(kind.value_type))
    return kind
