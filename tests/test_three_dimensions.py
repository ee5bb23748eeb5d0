"""Three-dimensional maps, the 2-D map with a height, in run, update, verify, the tables and the page."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import latentscale
from latentscale.backends.cpu.backend import CpuBackend
from latentscale.backends.shapes import largest_piece
from latentscale.errors import ConfigError
from latentscale.stages import project
from latentscale.storage.artifacts import list_records
from latentscale.upkeep.references import droppable
from latentscale.upkeep.verify import verify_workspace
from latentscale.viewer.height import Height

SETTINGS = {"ingest": {"shard_rows": 200}, "cluster": {"min_cluster_size": 10}}


@pytest.fixture(scope="module")
def spatial(tmp_path_factory: pytest.TempPathFactory, demo: pl.DataFrame) -> tuple[Path, list[latentscale.Map]]:
    """A corpus; a flat map of it, one of three dimensions, and that grown by two files more."""
    root = tmp_path_factory.mktemp("space")
    (root / "corpus").mkdir()
    chosen = demo.filter(pl.col("section").is_in(["games", "perl", "science"])).sort("package").head(700)
    chosen[:500].write_parquet(root / "corpus" / "a.parquet")
    source, out = str(root / "corpus"), root / "ws"
    latentscale.run(source, out=out, progress="quiet", **SETTINGS)
    workspace = latentscale.open(out)
    maps = [workspace.current]
    latentscale.run(source, out=out, progress="quiet", project={"map_dimensions": 3}, **SETTINGS)
    maps.append(workspace.current)
    for name, rows in (("b", chosen[500:620]), ("c", chosen[620:])):
        rows.write_parquet(root / "corpus" / f"{name}.parquet")
        maps.append(workspace.update())
    assert all(one is not None for one in maps)
    return root, [one for one in maps if one is not None]


def points(one: latentscale.Map) -> pl.DataFrame:
    return one.points().collect().sort("row_id")


def test_a_height_is_added_to_the_unchanged_2d_map(spatial: tuple[Path, list[latentscale.Map]]) -> None:
    flat, high = spatial[1][:2]
    before, after = points(flat), points(high)
    assert "z" not in before.columns
    assert flat.record.request.get("height") is None
    for name in ("row_id", "x", "y", "cluster", "probability"):
        assert before[name].to_list() == after[name].to_list()
    assert after.schema["z"] == pl.Float32
    assert after["z"].is_finite().all()
    assert after["z"].n_unique() > 400
    # The same projection, clusters and labels: only the height was computed.
    for part in ("neighbors", "projection", "clusters", "labels"):
        assert high.record.request[part] == flat.record.request[part]
    figures = high.quality["space"]
    assert figures["preservation"] > high.quality["preservation"] == flat.quality["preservation"]
    labels = high.labels()
    for cluster, z in labels.filter(pl.col("layer") == 0).select("cluster", "z").rows():
        members = after.filter(pl.col("cluster") == cluster)
        # Of the largest of its pieces on the map, where its label stands.
        piece = members[largest_piece(members.select("x", "y").to_numpy())]
        assert z == pytest.approx(piece["z"].median(), abs=1e-5)


def test_updates_add_heights_and_move_no_points(spatial: tuple[Path, list[latentscale.Map]]) -> None:
    root, (_, high, *grown) = spatial
    before = points(high)
    for one, documents in zip(grown, (620, 700), strict=True):
        after = points(one)
        assert len(after) == documents
        both = before.join(after, on="row_id", suffix="_after")
        assert len(both) == len(before)
        for name in ("x", "y", "z"):
            assert both[name].to_list() == both[f"{name}_after"].to_list()
        assert after["z"].is_not_null().all()
        new = after.join(before, on="row_id", how="anti")
        assert new["z"].is_between(before["z"].min(), before["z"].max()).all()
        before = after
    assert verify_workspace(latentscale.open(root / "ws").store).faults == []


def test_the_page_has_every_height_once(spatial: tuple[Path, list[latentscale.Map]]) -> None:
    root, maps = spatial
    manifest = json.loads((root / "ws/viewer/manifest.json").read_bytes())
    everything = points(maps[-1])
    wanted = dict(everything.select("row_id", "z").rows())
    seen: dict[int, float] = {}
    for entry in manifest["generations"]:
        low, high = entry["z"]
        folder = root / "ws/viewer" / entry["url"]
        tiles = json.loads((folder / "index.json").read_bytes())["page"]["tiles"]
        assert entry["inline"]
        shown = json.loads((folder / "index.json").read_bytes())["sections"]["quality"]["space"]
        assert shown["preservation"] == maps[1].quality["space"]["preservation"]
        ids = pa.concat_tables(pq.read_table(path) for path in sorted((folder / "ids").iterdir())).sort_by("position")
        steps = np.concatenate(
            [pq.read_table(folder / f"tiles/{z}-{x}-{y}.parquet")["z"].to_numpy() for z, x, y, *_ in tiles]
        )
        assert steps.dtype == np.uint16
        heights = low + (steps + 0.5) / 65536 * (high - low)
        gone = set()
        if "removed" in entry:
            gone = set(pq.read_table(root / "ws/viewer" / entry["removed"]["url"])["position"].to_pylist())
        for position, (row_id, height) in enumerate(zip(ids["row_id"].to_pylist(), heights.tolist(), strict=True)):
            if position not in gone:
                assert row_id not in seen
                seen[row_id] = height
                assert height == pytest.approx(wanted[row_id], abs=(high - low) / 60_000)
    assert sorted(seen) == sorted(wanted)


def test_heights_and_the_layout_below_them_are_dropped_together(
    spatial: tuple[Path, list[latentscale.Map]],
) -> None:
    maps = [one.record for one in spatial[1]]
    records = list_records(latentscale.open(spatial[0] / "ws").store)
    high = maps[1].request
    # Whatever their order: no record is left that only dropped ones need.
    for listed in (records, records[::-1]):
        dropped = droppable(listed, [one.id for one in maps])
        assert {high["height"], high["projection"], high["clusters"], high["labels"]} <= set(dropped)
        assert dropped.index(high["height"]) < dropped.index(high["projection"])
    kept = droppable(records, [one.id for one in maps[1:]])
    assert high["height"] in kept
    assert high["projection"] not in kept


def test_density_ranks_are_uniform_over_the_whole_map() -> None:
    space = np.random.default_rng(0).normal(size=(4_096, 3)).astype(np.float32)
    whole = Height.of(space)
    assert np.bincount(whole.rank >> 6).tolist() == [1024] * 4
    middle = np.linalg.norm(space, axis=1)
    assert middle[whole.rank >= 192].mean() < 0.8 * middle[whole.rank < 64].mean()
    np.testing.assert_array_equal(Height.of(space, last=96).rank, whole.rank[-96:])
    alike = Height.of(np.ones((3, 3), np.float32))
    assert alike.bounds == (0.5, 1.5)
    assert alike.steps().tolist() == [32768] * 3


def test_a_backend_that_cannot_keep_x_and_y_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def layout(self: CpuBackend, graph: object, vectors: object, *, n_components: int) -> None:
        raise AssertionError("nothing is laid out")

    monkeypatch.setattr(CpuBackend, "layout", layout)
    corpus = tmp_path / "corpus.csv"
    corpus.write_text("text\n" + "".join(f"the text of number {i}\n" for i in range(30)))
    with pytest.raises(ConfigError, match="backend cpu lays out no map of three dimensions"):
        latentscale.run(
            str(corpus), out=tmp_path / "ws", progress="quiet", project={"map_dimensions": 3, "backend": "cpu"}
        )


def test_other_numbers_of_dimensions_are_refused_before_anything_is_read(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="map_dimensions"):
        latentscale.run("demo", out=tmp_path / "ws", progress="quiet", project={"map_dimensions": 4})
    assert not (tmp_path / "ws").exists()


def test_a_refit_has_its_up_where_the_earlier_map_had_it(
    spatial: tuple[Path, list[latentscale.Map]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, maps = spatial
    shutil.copytree(root / "ws", tmp_path / "ws")
    before = points(maps[-1])
    computed = project.compute_layout
    turned: list[str | None] = []

    def upside_down(context: Any, request: Any, *rest: Any) -> Any:
        layout = computed(context, request, *rest)
        if not request.fixed:
            return layout
        turned.append(request.align)
        # The wrong way up, whichever way it came: both are of all documents, by row id.
        up = -np.sign(np.corrcoef(layout.coordinates[:, 2], before["z"])[0, 1])
        return replace(layout, coordinates=layout.coordinates * np.float32([1, 1, up]) + np.float32([0, 0, 40]))

    monkeypatch.setattr(project, "compute_layout", upside_down)
    workspace = latentscale.open(tmp_path / "ws")
    refit = workspace.update(refit=True)
    assert turned == [maps[-1].id]
    both = before.join(points(refit), on="row_id", suffix="_after")
    assert len(both) == 700
    assert np.corrcoef(both["z"], both["z_after"])[0, 1] > 0.1
    # Both axes together: how well either one is kept depends on how the groups of the new layout lie.
    plane, plane_after = (both.select(f"x{which}", f"y{which}").to_numpy() for which in ("", "_after"))
    centred, centred_after = plane - plane.mean(axis=0), plane_after - plane_after.mean(axis=0)
    assert np.corrcoef(centred.ravel(), centred_after.ravel())[0, 1] > 0.1
    assert both["z_after"].median() == pytest.approx(both["z"].median(), abs=1e-3)
    made = workspace.artifact(str(refit.record.request["height"]))
    assert made.choices["mirrored"]
    # Once more: it is found.
    assert workspace.map(publish={"title": "again"}).record.request["height"] == made.id
    assert verify_workspace(workspace.store).faults == []
