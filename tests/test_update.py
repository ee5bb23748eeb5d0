"""Maps that grow by updates: new documents are placed, deleted ones removed, and no old point moves."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import latentscale
from latentscale.errors import ConfigError, CorpusError, WorkspaceError
from latentscale.storage.head import current_map, write_head
from latentscale.storage.segments import segments_of
from latentscale.upkeep.verify import verify_workspace
from tests.conftest import moved

SETTINGS = {"ingest": {"shard_rows": 200}, "cluster": {"min_cluster_size": 15}}


@pytest.fixture(scope="module")
def documents(demo: pl.DataFrame) -> pl.DataFrame:
    """1,100 documents of six sections, with columns that have names of the points' own."""
    sections = ["games", "perl", "science", "mail", "fonts", "electronics"]
    chosen = demo.filter(pl.col("section").is_in(sections)).sort("package").head(1_100)
    return chosen.with_columns(outlier_score="section", update="priority", cluster="package")


@pytest.fixture(scope="module")
def fitted(tmp_path_factory: pytest.TempPathFactory, documents: pl.DataFrame) -> Path:
    """A corpus of two files and the workspace with its map."""
    root = tmp_path_factory.mktemp("grown")
    (root / "corpus").mkdir()
    documents[:500].write_parquet(root / "corpus" / "a.parquet")
    documents[500:900].write_parquet(root / "corpus" / "b.parquet")
    latentscale.run(str(root / "corpus"), out=root / "ws", progress="quiet", **SETTINGS)
    return root


@pytest.fixture
def copied(fitted: Path, tmp_path: Path) -> Path:
    """A copy of the corpus and its workspace, which refers to the copied corpus."""
    shutil.copytree(fitted, tmp_path / "copy", copy_function=shutil.copy2)
    moved(tmp_path / "copy" / "ws", fitted / "corpus", tmp_path / "copy" / "corpus")
    return tmp_path / "copy"


def points(workspace: latentscale.Workspace) -> pl.DataFrame:
    shown = workspace.current
    assert shown is not None
    return shown.points().collect().sort("row_id")


def check_complete(workspace: latentscale.Workspace, documents: pl.DataFrame) -> pl.DataFrame:
    """Check that the map has exactly the documents of the corpus, and that the workspace is intact."""
    shown = points(workspace)
    assert sorted(shown["package"].to_list()) == sorted(documents["package"].to_list())
    assert shown["row_id"].is_unique().all()
    for own, other in (("outlier_score", "section"), ("update", "priority"), ("cluster", "package")):
        assert shown[f"source_{own}"].to_list() == shown[other].to_list()
    assert verify_workspace(workspace.store).faults == []
    current = workspace.current
    assert current is not None
    assert current.record.counts["documents"] == len(documents)
    labels = current.labels().filter(pl.col("layer") == 0)
    sizes = dict(shown.filter(pl.col("cluster") >= 0).group_by("cluster").len().rows())
    assert {c: size for c, size in labels.select("cluster", "size").rows() if size} == sizes
    return shown


def count_unmoved(before: pl.DataFrame, after: pl.DataFrame) -> int:
    """Count the documents on both maps, after checking that position and cluster of each are unchanged."""
    columns = ["row_id", "package", "x", "y", "cluster", "nearest_cluster", "probability"]
    both = before.select(columns).join(after.select(columns), on="package", suffix="_after")
    for name in ("row_id", "x", "y", "cluster", "nearest_cluster", "probability"):
        assert both[name].to_list() == both[f"{name}_after"].to_list(), name
    return len(both)


def test_new_documents_join_and_no_old_point_moves(copied: Path, documents: pl.DataFrame) -> None:
    workspace = latentscale.open(copied / "ws")
    before, first = points(workspace), workspace.current
    documents[900:].write_parquet(copied / "corpus" / "c.parquet")
    grown = workspace.update()
    assert first is not None
    assert grown.id != first.id
    after = check_complete(workspace, documents)
    assert count_unmoved(before, after) == 900
    new = after.filter(pl.col("package").is_in(documents[900:]["package"].to_list()))
    assert set(new["source"]) == {"c.parquet"}
    assert new["outlier_score"].is_between(0, 1).all()
    assert not new["fitted"].any()
    old = after.filter(pl.col("fitted"))
    assert old["package"].sort().to_list() == before["package"].sort().to_list()
    # One meaning in both: where a document is as far from its neighbours, so many of the fit are nearer.
    score = np.interp(new["neighbor_distance"], old["neighbor_distance"].sort(), np.linspace(0, 1, 900))
    assert np.abs(score - new["outlier_score"].to_numpy()).max() < 0.01
    # They lie among their own kind: in the frame of the old map, most of them in a cluster of their section.
    for axis in ("x", "y"):
        low, high = before[axis].min(), before[axis].max()
        assert new[axis].is_between(low - 1, high + 1).all()
    section = before.filter(pl.col("cluster") >= 0).group_by("cluster").agg(pl.col("section").mode().first())
    assigned = new.join(section, left_on="nearest_cluster", right_on="cluster", suffix="_of_cluster")
    old = before.join(section, left_on="nearest_cluster", right_on="cluster", suffix="_of_cluster")
    share = (assigned["section"] == assigned["section_of_cluster"]).mean()
    assert share > 0.8 * (old["section"] == old["section_of_cluster"]).mean()
    manifest = json.loads((copied / "ws" / "viewer" / "manifest.json").read_text())
    assert [entry["documents"] for entry in manifest["generations"]] == [900, 200]
    # A comparison of both says so.
    found = grown.diff(first)
    assert (found["clusters"] or {})["agreement"] == {"ari": 1, "nmi": 1}
    layout = found["layout"]
    assert layout is not None
    assert (layout["documents"], layout["only_first"], layout["only_second"]) == (900, 200, 0)
    assert layout["displacement"]["q95"] < 1e-4
    assert layout["neighbours"]["mean"] == 1


def test_areas_of_kmeans_on_the_map_stay_areas(copied: Path, documents: pl.DataFrame) -> None:
    workspace = latentscale.open(copied / "ws")
    workspace.map(cluster={"method": "kmeans", "space": "map", "n_clusters": 8}, publish=True)
    documents[900:].write_parquet(copied / "corpus" / "c.parquet")
    workspace.update()
    shown = points(workspace)
    old, new = shown.filter(pl.col("fitted")), shown.filter(~pl.col("fitted"))
    at = [old.filter(pl.col("cluster") == one).select("x", "y").to_numpy().mean(axis=0) for one in range(8)]
    apart = np.linalg.norm(new.select("x", "y").to_numpy()[:, None] - np.stack(at), axis=2)
    assert (new["cluster"].to_numpy() == apart.argmin(axis=1)).all()
    nearest, next_one = np.sort(apart, axis=1)[:, :2].T
    np.testing.assert_allclose(new["probability"], 1 - nearest / next_one, atol=1e-4)


def test_only_new_shards_are_read_and_embedded(copied: Path, documents: pl.DataFrame) -> None:
    workspace = latentscale.open(copied / "ws")
    # Tables of receipts are merged, and then have other names.
    parquet = [path for path in (copied / "ws").rglob("*.parquet") if not {"runs", "receipts"} & {*path.parts}]
    kept = {path: path.stat().st_mtime_ns for path in parquet}
    (copied / "corpus" / "a.parquet").touch()  # another time, so another file: its documents are read again
    shutil.copy2(copied / "corpus" / "b.parquet", copied / "b")
    workspace.update()
    for path, written in kept.items():
        assert path.stat().st_mtime_ns == written, path
    check_complete(workspace, documents[:900])


def test_an_update_twice_changes_nothing_twice(copied: Path, documents: pl.DataFrame) -> None:
    workspace = latentscale.open(copied / "ws")
    documents[900:].write_parquet(copied / "corpus" / "c.parquet")
    grown = workspace.update()
    held = {
        path: path.read_bytes() for path in (copied / "ws").rglob("*") if path.is_file() and "runs" not in path.parts
    }
    assert workspace.update().id == grown.id
    now = {
        path: path.read_bytes() for path in (copied / "ws").rglob("*") if path.is_file() and "runs" not in path.parts
    }
    assert {path for path in now if now[path] != held.get(path)} == set()


def test_a_night_without_documents_is_no_failure(copied: Path, documents: pl.DataFrame) -> None:
    workspace = latentscale.open(copied / "ws")
    before = points(workspace)
    documents[:0].write_parquet(copied / "corpus" / "c.parquet")
    workspace.update()
    assert count_unmoved(before, check_complete(workspace, documents[:900])) == 900
    # What is wrong with such a file is found out all the same.
    documents[:0].drop("text").write_parquet(copied / "corpus" / "d.parquet")
    with pytest.raises(CorpusError, match=r"d\.parquet is the text"):
        workspace.update()


def test_documents_of_a_removed_file_leave_the_map(copied: Path, documents: pl.DataFrame) -> None:
    workspace = latentscale.open(copied / "ws")
    before = points(workspace)
    (copied / "corpus" / "b.parquet").unlink()
    grown = workspace.update()
    after = check_complete(workspace, documents[:500])
    assert count_unmoved(before, after) == 500
    assert grown.record.counts["gone"] == 400
    # It comes back: the same documents with the row ids that they had.
    documents[500:900].write_parquet(copied / "corpus" / "b.parquet")
    workspace.update()
    assert len(check_complete(workspace, documents[:900])) == 900


def test_a_renamed_file_keeps_row_ids_and_positions(copied: Path, documents: pl.DataFrame) -> None:
    workspace = latentscale.open(copied / "ws")
    before = points(workspace)
    (copied / "corpus" / "b.parquet").rename(copied / "corpus" / "z.parquet")
    workspace.update()
    after = check_complete(workspace, documents[:900])
    assert count_unmoved(before, after) == 900
    assert set(after["source"]) == {"a.parquet", "z.parquet"}
    assert after["fitted"].all()
    both = before.join(after, on="row_id", suffix="_after")
    assert both["outlier_score"].to_list() == both["outlier_score_after"].to_list()
    current = workspace.current
    assert current is not None
    assert current.quality["drift"]["added"] == 0


def test_a_rewritten_file_keeps_its_remaining_documents(copied: Path, documents: pl.DataFrame) -> None:
    workspace = latentscale.open(copied / "ws")
    before = points(workspace)
    rewritten = pl.concat([documents[1000:], documents[600:900].reverse()])
    rewritten.write_parquet(copied / "corpus" / "b.parquet")
    workspace.update()
    now = pl.concat([documents[:500], rewritten])
    after = check_complete(workspace, now)
    assert count_unmoved(before, after) == 800


def test_a_changed_text_keeps_its_row_id_and_gets_a_new_position(tmp_path: Path, documents: pl.DataFrame) -> None:
    corpus, out = tmp_path / "corpus", tmp_path / "ws"
    corpus.mkdir()
    documents[:700].write_parquet(corpus / "a.parquet")
    latentscale.run(str(corpus), out=out, id="package", progress="quiet", **SETTINGS)
    workspace = latentscale.open(out)
    before = points(workspace)
    game = before.filter(pl.col("section") == "games").row(0, named=True)
    perl = documents.filter(pl.col("section") == "perl")["text"][0]
    changed = documents[:700].with_columns(
        pl.when(pl.col("package") == game["package"]).then(pl.lit(perl)).otherwise("text").alias("text")
    )
    # The old file stays; a later one has a newer version of one document.
    changed.filter(pl.col("package") == game["package"]).write_parquet(corpus / "b.parquet")
    workspace.update()
    after = check_complete(workspace, documents[:700])
    assert count_unmoved(before.filter(pl.col("package") != game["package"]), after) == 699
    moved = after.filter(pl.col("package") == game["package"]).row(0, named=True)
    assert moved["row_id"] == game["row_id"]
    assert (moved["x"], moved["y"]) != (game["x"], game["y"])
    near = before.filter(pl.col("section") == "perl").select(
        ((pl.col("x") - moved["x"]) ** 2 + (pl.col("y") - moved["y"]) ** 2).min()
    )
    assert near.item() < 0.5
    # Rejects of an update are those that it made, also where as many of earlier ones went with their files.
    changed.filter(pl.col("package") != game["package"])[:1].write_parquet(corpus / "b.parquet")
    rewritten = workspace.run_update()
    assert rewritten.rejects == {"superseded": 1}
    assert rewritten.map is not None
    assert rewritten.map.counts["documents"] == 700


def test_many_updates_leave_few_segments(copied: Path, documents: pl.DataFrame) -> None:
    workspace = latentscale.open(copied / "ws")
    before = points(workspace)
    most = 0
    for night in range(10):
        documents[900 + 20 * night : 920 + 20 * night].write_parquet(copied / "corpus" / f"n{night}.parquet")
        grown = workspace.update()
        most = max(most, len(segments_of(grown.record)))
    assert most <= 5
    after = check_complete(workspace, documents)
    assert count_unmoved(before, after) == 900


def test_places_do_not_depend_on_how_documents_arrive(copied: Path, documents: pl.DataFrame) -> None:
    together = copied.parent / "together"
    shutil.copytree(copied, together, copy_function=shutil.copy2)
    moved(together / "ws", copied / "corpus", together / "corpus")
    for part, name in ((documents[900:950], "c"), (documents[950:], "d")):
        part.write_parquet(copied / "corpus" / f"{name}.parquet")
        latentscale.open(copied / "ws").update()
    documents[900:].write_parquet(together / "corpus" / "c.parquet")
    latentscale.open(together / "ws").update()
    columns = ["package", "x", "y", "cluster", "probability"]
    one, two = (points(latentscale.open(at / "ws")).select(columns).sort("package") for at in (copied, together))
    assert one.equals(two)


def test_an_overtaken_update_continues_from_the_winner(
    copied: Path, documents: pl.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    from latentscale.pipeline import update as updating

    workspace = latentscale.open(copied / "ws")
    documents[900:1000].write_parquet(copied / "corpus" / "c.parquet")
    switch = updating.switch_head
    overtaken: list[str] = []

    def late(store, *, expected, to):
        # While the first update stands before its last step, a second one sees one more file and is done.
        if not overtaken:
            overtaken.append(to)
            documents[1000:].write_parquet(copied / "corpus" / "d.parquet")
            latentscale.open(copied / "ws").update()
        return switch(store, expected=expected, to=to)

    monkeypatch.setattr(updating, "switch_head", late)
    workspace.update()
    # The loser planned with the files that it had listed; the next update has them all.
    workspace.update()
    check_complete(workspace, documents)


def test_a_crash_between_the_map_and_head_is_mended_by_the_next_update(copied: Path, documents: pl.DataFrame) -> None:
    workspace = latentscale.open(copied / "ws")
    first = current_map(workspace.store)
    assert first is not None
    documents[900:].write_parquet(copied / "corpus" / "c.parquet")
    grown = workspace.update()
    write_head(workspace.store, first.id)
    assert workspace.update().id == grown.id
    check_complete(workspace, documents)
    # And between HEAD and the page.
    manifest = (copied / "ws" / "viewer" / "manifest.json").read_bytes()
    workspace.promote(first.id)
    write_head(workspace.store, grown.id)
    assert (copied / "ws" / "viewer" / "manifest.json").read_bytes() != manifest
    workspace.update()
    assert (copied / "ws" / "viewer" / "manifest.json").read_bytes() == manifest


def test_promote_restores_an_earlier_map_and_updates_start_from_it(copied: Path, documents: pl.DataFrame) -> None:
    workspace = latentscale.open(copied / "ws")
    first = workspace.current
    assert first is not None
    documents[900:].write_parquet(copied / "corpus" / "c.parquet")
    grown = workspace.update()
    assert workspace.promote(first.id).id == first.id
    assert len(points(workspace)) == 900
    assert json.loads((copied / "ws" / "viewer" / "manifest.json").read_text())["generations"][-1]["documents"] == 900
    assert workspace.update().id == grown.id
    with pytest.raises(WorkspaceError, match="no artifact"):
        workspace.promote("map-00000000")


def test_a_corpus_that_seems_lost_changes_nothing(copied: Path, documents: pl.DataFrame) -> None:
    workspace = latentscale.open(copied / "ws")
    first = workspace.current
    assert first is not None
    (copied / "corpus" / "a.parquet").unlink()
    with pytest.raises(CorpusError, match="max_removed_fraction"):
        workspace.update()
    assert current_map(workspace.store) == first.record
    workspace.update(update={"max_removed_fraction": 1.0})
    check_complete(workspace, documents[500:900])


def test_an_update_with_another_model_is_refused(copied: Path) -> None:
    workspace = latentscale.open(copied / "ws")
    with pytest.raises(ConfigError, match="would use"):
        workspace.update(embed={"max_tokens": 7})


def test_a_workspace_without_a_map_cannot_grow(tmp_path: Path, small_corpus: Path) -> None:
    workspace = latentscale.Workspace(tmp_path)
    workspace.ingest(small_corpus)
    with pytest.raises(WorkspaceError, match="no map yet"):
        workspace.update()


def test_a_refit_is_aligned_to_the_old_map_and_clusters_keep_their_ids(copied: Path, documents: pl.DataFrame) -> None:
    workspace = latentscale.open(copied / "ws")
    before, first = points(workspace), workspace.current
    assert first is not None
    documents[900:].write_parquet(copied / "corpus" / "c.parquet")
    workspace.update()
    refitted = workspace.update(refit=True)
    after = check_complete(workspace, documents)
    both = before.join(after, on="package", suffix="_after")
    assert both["row_id"].to_list() == both["row_id_after"].to_list()
    # Places: nearer to the old ones than a layout that was not aligned to them.
    moved = np.hypot(both["x"] - both["x_after"], both["y"] - both["y_after"])
    plain = latentscale.run(str(copied / "corpus"), out=copied / "plain", progress="quiet", **SETTINGS)
    other = before.join(plain.points().collect(), on="package", suffix="_after")
    unaligned = np.hypot(other["x"] - other["x_after"], other["y"] - other["y_after"])
    assert np.median(moved) < 0.7 * np.median(unaligned)
    # Clusters that hold mostly the same documents have the same id, and the same colour.
    kept = both.filter((pl.col("cluster") >= 0) & (pl.col("cluster_after") >= 0))
    pairs = kept.group_by("cluster", "cluster_after").len()
    mostly = pairs.sort("len", descending=True).unique("cluster", keep="first", maintain_order=True)
    sizes = dict(kept.group_by("cluster").len().rows())
    sizes_after = dict(kept.group_by("cluster_after").len().rows())
    alike = [(a, b) for a, b, n in mostly.rows() if n > 0.6 * sizes[a] and n > 0.6 * sizes_after[b]]
    assert alike
    assert all(a == b for a, b in alike)
    colours = [
        {row["cluster"]: (row["hue"], row["shade"]) for row in made.labels().to_dicts() if row["layer"] == 0}
        for made in (first, refitted)
    ]
    assert all(colours[0][a] == colours[1][b] for a, b in alike)
    # The same again finds it.
    assert workspace.update(refit=True).id == refitted.id


def test_drift_is_measured_and_a_refit_recommended(copied: Path, documents: pl.DataFrame, demo: pl.DataFrame) -> None:
    workspace = latentscale.open(copied / "ws")
    documents[900:].write_parquet(copied / "corpus" / "c.parquet")
    calm = workspace.update().quality["drift"]
    assert calm["added"] == 200
    rest = demo.filter(~pl.col("section").is_in(documents["section"].unique().to_list())).head(700)
    rest.write_parquet(copied / "corpus" / "d.parquet")
    other = workspace.update()
    assert other.quality["drift"]["refit_due"]
    assert any("refit" in note for note in other.record.notes)


def test_columns_of_another_type_in_an_update_are_as_one_run_would_have_them(
    copied: Path, documents: pl.DataFrame
) -> None:
    """Of the fit's files the ids are whole, the times naive; those of the update are floats, and in zones."""
    numbers = pl.int_range(pl.len(), dtype=pl.Int64)
    when = pl.datetime(2026, 1, 1, time_unit="us")
    fitted = documents[:300].with_columns(number=2**60 + numbers, some=numbers, when=when, kind=numbers)
    fitted.write_parquet(copied / "corpus" / "a.parquet")
    (copied / "corpus" / "b.parquet").unlink()
    latentscale.run(str(copied / "corpus"), out=copied / "typed", progress="quiet", **SETTINGS)
    added = documents[300:320].with_columns(number=numbers.cast(pl.Float64), some=numbers + 0.5, kind=pl.lit("x"))
    table = added.to_arrow().append_column("when", pa.array([0] * 20, pa.timestamp("us", "+05:30")))
    pq.write_table(table, copied / "corpus" / "c.parquet")
    workspace = latentscale.open(copied / "typed")
    workspace.update(progress="quiet")
    shown = points(workspace)
    assert len(shown) == 320
    assert {name: str(shown.schema[name]) for name in ("number", "some", "when", "kind")} == {
        "number": "Int64",
        "some": "Float64",
        "when": "String",
        "kind": "String",
    }
    assert shown["number"].to_list() == [2**60 + n for n in range(300)] + list(range(20))
    assert shown["some"].to_list() == [float(n) for n in range(300)] + [n + 0.5 for n in range(20)]
    assert shown["kind"].to_list() == [*map(str, range(300)), *["x"] * 20]
    assert set(shown["when"]) == {"2026-01-01 00:00:00.000000", "1970-01-01 00:00:00.000000Z"}
    current = workspace.current
    assert current is not None
    assert current.points().filter(pl.col("kind") == "x").collect().height == 20
    current.export(copied / "points.csv")
    assert len(pl.read_csv(copied / "points.csv", infer_schema=False)) == 320
