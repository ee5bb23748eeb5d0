"""The page's engine, run by Node on tiles that Python wrote."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
from pathlib import Path
from types import ModuleType

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from latentscale.embedders.static import StaticEmbedder
from latentscale.viewer import write_tiles
from latentscale.viewer.labels import label_entries
from latentscale.viewer.palette import cluster_color
from tests.conftest import load

ROOT = Path(__file__).parents[2]
PIECES = Path(__file__).with_name("wordpiece_cases.py")
LABELS = Path(__file__).with_name("test_labels.py")
PHRASES = ["cedar and fjord", "Sweet nectar, orchards?", "a lagoon near the jetty", "Café au lait 東京"]
WEB = ROOT / "latentscale/viewer/web"


def hook() -> ModuleType:
    spec = importlib.util.spec_from_file_location("hatch_build", ROOT / "hatch_build.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def node() -> list[str]:
    build = hook()
    command = build.node_command()
    if command is None:
        pytest.skip(f"no Node {build.LEAST_NODE} or later on this machine (pip install '{build.NODE_PACKAGE}')")
    if not (WEB / "node_modules/vitest").is_dir():
        build.install(ROOT, command)
    return command


def run(node: list[str], *arguments: str, **environment: str) -> None:
    done = subprocess.run(
        [*node, *arguments], cwd=WEB, env={**os.environ, **environment}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-3000:]


def test_the_engine_reads_what_python_wrote_and_passes_its_own_tests(
    node: list[str], synthetic: ModuleType, tmp_path: Path
) -> None:
    data = synthetic.make_data(40_000, similar=True, meaning=True)
    entry = write_tiles(data, synthetic.Disk(tmp_path / "generation"), scratch=tmp_path)
    (tmp_path / "entry.json").write_text(json.dumps({**entry, "url": "generation/"}))
    expected = {
        "rowIds": data.row_ids.tolist(),
        "x": data.coordinates[:, 0].tolist(),
        "y": data.coordinates[:, 1].tolist(),
        "clusters": data.clusters.tolist(),
    }
    (tmp_path / "expected.json").write_text(json.dumps(expected))
    grown = synthetic.write_grown(tmp_path / "grown")
    alive = {
        "rowIds": (grown.rows * 3 + 5).tolist(),
        "x": grown.coordinates[:, 0].tolist(),
        "y": grown.coordinates[:, 1].tolist(),
        "clusters": grown.clusters.tolist(),
        "generations": grown.generation.tolist(),
        "kinds": grown.kinds,
        "scores": [None if np.isnan(score) else score for score in grown.scores.tolist()],
        "gone": [(rows * 3 + 5).tolist() for rows in grown.gone],
        "parts": [part.row_ids.tolist() for part in grown.parts],
    }
    (tmp_path / "grown.json").write_text(json.dumps(alive))
    model = StaticEmbedder()
    asked = model.embed(PHRASES).vectors
    assert data.meaning is not None
    tenth = np.sort(asked @ data.meaning.vectors.T, axis=1)[:, -10]
    queries = [
        {"text": text, "vector": vector.tolist(), "tenth": float(least)}
        for text, vector, least in zip(PHRASES, asked, tenth, strict=True)
    ]
    (tmp_path / "meaning.json").write_text(json.dumps(queries))
    (tmp_path / "wordpieces.json").write_text(json.dumps(load("wordpiece_cases", PIECES).cases()))
    # A tile as the first format had it.
    old = pa.table({"x": pa.array([7, 65_535], pa.uint16()), "y": pa.array([0, 9], pa.uint16()), "cluster": [-1, 700]})
    pq.write_table(
        old.cast(pa.schema([*list(old.schema)[:2], ("cluster", pa.int32())])),
        tmp_path / "old.parquet",
        compression="zstd",
        store_schema=False,
    )
    colours = [
        [hue, shade, theme, cluster_color(hue, shade, theme=theme)]
        for theme in ("dark", "light")
        for hue in range(12)
        for shade in (-1.0, -0.37, 0.0, 0.5, 1.0)
    ]
    (tmp_path / "colours.json").write_text(json.dumps(colours))
    rows = load("viewer_labels", LABELS).table(200, 3, 11).to_pylist()
    for row in rows[::7]:
        row["label"] = "東京の文書 と words"
    labels, details = label_entries(pa.Table.from_pylist(rows), side=20.0)
    (tmp_path / "room.json").write_text(json.dumps({"labels": labels, "details": details, "side": 20.0}))
    run(node, "node_modules/vitest/vitest.mjs", "run", VIEWER_FIXTURE=str(tmp_path))


def test_the_page_is_type_correct(node: list[str]) -> None:
    run(node, "node_modules/typescript/bin/tsc", "--noEmit")


def test_the_built_page_is_that_of_the_source(node: list[str]) -> None:
    build = hook()
    build.build(ROOT)
    assert build.is_current(ROOT)


def test_the_lock_file_contains_no_host() -> None:
    assert "://" not in (WEB / "package-lock.json").read_text()
