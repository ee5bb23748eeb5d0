"""What a map and a workspace give to Python: documents, clusters, vectors, the graph, names, sweeps and their looks."""

from __future__ import annotations

import base64
import json
import re
import sys
import urllib.request
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import polars as pl
import pytest
from sklearn.metrics import adjusted_rand_score

import latentscale as ls
from latentscale.cli.main import app
from latentscale.errors import ConfigError, DamagedObjectError, RequestError, WorkspaceError
from latentscale.pipeline.notebook import in_notebook


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory, small_corpus: Path) -> ls.Workspace:
    out = tmp_path_factory.mktemp("maps") / "news"
    ls.run(
        small_corpus,
        out,
        text="text",
        name="first",
        progress="quiet",
        ingest={"shard_rows": 200},
        project={"n_epochs": 30},
        cluster={"min_cluster_size": 12},
    )
    return ls.open(out)


@pytest.fixture
def current(workspace: ls.Workspace) -> ls.Map:
    found = workspace.current
    assert found is not None
    return found


# ------------------------------------------------------------------------------------------------------------ of a map


def test_documents_have_their_texts_and_read_only_those_asked_for(
    current: ls.Map, small_corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = dict(pl.read_parquet(small_corpus).select("package", "text").iter_rows())
    documents = current.documents()
    assert documents.collect_schema().names() == [*current.points().collect_schema().names(), "text"]
    whole = documents.collect()
    assert dict(whole.select("package", "text").iter_rows()) == source
    read: list[int] = []
    from latentscale.explore import tables

    real = tables.read_texts

    def watched(store: Any, snapshot: Any, row_ids: Any, column: str) -> Any:
        read.append(len(row_ids))
        return real(store, snapshot, row_ids, column)

    monkeypatch.setattr(tables, "read_texts", watched)
    inside = documents.filter(pl.col("cluster") == 0).select("text").collect()
    assert sorted(inside["text"]) == sorted(whole.filter(pl.col("cluster") == 0)["text"])
    assert sum(read) == len(inside) < len(whole)
    read.clear()
    assert documents.select("x").collect().height == 600
    assert read == []
    chess = documents.filter(pl.col("text").str.contains("chess")).collect()
    assert len(chess) == sum("chess" in text for text in source.values()) > 0
    assert documents.head(3).collect().height == 3
    assert list(whole.head(5).to_pandas()["text"]) == whole["text"].head(5).to_list()


def test_clusters_are_a_table_with_their_exemplars(current: ls.Map) -> None:
    clusters = current.clusters(texts=True)
    assert clusters.columns[:4] == ["layer", "cluster", "label", "size"]
    finest = clusters.filter(pl.col("layer") == 0)
    sizes = current.points().group_by("cluster").len().collect()
    counted = dict(sizes.filter(pl.col("cluster") >= 0).iter_rows())
    assert dict(finest.select("cluster", "size").iter_rows()) == counted
    assert finest["size"].to_list() == sorted(counted.values(), reverse=True)
    texts = dict(current.documents().select("row_id", "text").collect().iter_rows())
    for exemplars, found in finest.select("exemplars", "exemplar_texts").iter_rows():
        assert [texts[row] for row in exemplars] == found
    assert "exemplar_texts" not in current.clusters().columns


def test_vectors_and_graph_agree(current: ls.Map) -> None:
    vectors, graph = current.vectors(), current.graph()
    assert vectors.matrix.shape == (600, 256)
    assert np.array_equal(vectors.row_ids, graph.row_ids)
    cosine = np.einsum("ij,ij->i", vectors.matrix, vectors.matrix[graph.indices[:, 0]])
    assert np.abs((1 - cosine) - graph.distances[:, 0]).max() < 1e-3
    assert sorted(graph.row_ids) == sorted(current.points().select("row_id").collect()["row_id"])


def test_search_takes_one_query_or_several(current: ls.Map) -> None:
    one = current.search("chess", k=3)
    assert current.search(["chess", "fonts"], k=3)[0] == one
    vectors = current.vectors()
    own = current.search(vectors.matrix[5] * 3, k=1)[0]
    assert own.row_id == vectors.row_ids[5]
    assert own.score == pytest.approx(1, abs=1e-3)
    for wrong in (5, None, b"x", [], [[]], {"a": 1}, ["a", 1], np.zeros((2, 2, 2)), np.ones(3), np.full(256, np.nan)):
        with pytest.raises(RequestError):
            current.search(wrong)  # pyright: ignore[reportArgumentType, reportCallIssue]
    assert current.find(vectors.matrix[5], k=1)["row_id"].to_list() == [own.row_id]
    with pytest.raises(RequestError, match="takes one query"):
        current.find([[0.0] * 255 + [1.0]])  # pyright: ignore[reportArgumentType]
    for count in ("3", 2.5, None):
        with pytest.raises(RequestError, match="documents were requested"):
            current.search("chess", k=count)  # pyright: ignore[reportArgumentType]
    for name in (0, None):
        with pytest.raises(RequestError, match="no name and no id"):
            ls.open(current.store.url).get(name)  # pyright: ignore[reportArgumentType]
    for method in (current.search, current.find):
        with pytest.raises(RequestError, match="0 documents"):
            method("chess", k=0)


def test_reprs_show_the_main_facts(workspace: ls.Workspace, current: ls.Map, tmp_path: Path) -> None:
    assert repr(workspace) == f"<Workspace 'news' at {workspace.url}: {current.id}>"
    assert repr(current.record).startswith(f"<Record {current.id}, 20")
    assert repr(workspace.snapshot) == f"<Snapshot {workspace.snapshot.id}: documents 600, shards 3>"
    assert "600 documents" in repr(current.graph())
    assert "data:image/png" in (workspace._repr_html_())
    nothing = ls.Workspace(tmp_path / "no")
    assert "is not a workspace" in repr(nothing)
    assert "is not a workspace" in nothing._repr_html_()


def test_open_refuses_other_folders_than_workspaces(tmp_path: Path) -> None:
    with pytest.raises(WorkspaceError, match="there is no workspace"):
        ls.open(tmp_path / "nowhere")
    with pytest.raises(WorkspaceError, match="is not a workspace"):
        ls.open(tmp_path)
    assert ls.open(tmp_path / "new", must_exist=False).url.endswith("new")


# --------------------------------------------------------------------------------------------------------------- names


def test_a_map_is_found_by_its_name(workspace: ls.Workspace, current: ls.Map) -> None:
    first = workspace["first"]
    assert (workspace.get("first").id, workspace.names["first"]) == (first.id, first.id)
    other = workspace.map(cluster={"min_cluster_size": 30}, name="coarse")
    assert workspace["coarse"].id == other.id != first.id
    assert workspace.promote("first", name="best").id == first.id
    assert workspace.diff("best", "coarse")["settings"]["clusters.min_cluster_size"] == (12, 30)
    assert first.diff(other) == first.diff("coarse") == workspace.diff("first", "coarse")
    clusters = first.diff(other)["clusters"]
    assert clusters is not None
    both = first.points().join(other.points(), on="row_id", suffix="_after").collect()
    assert clusters["agreement"]["ari"] == round(adjusted_rand_score(both["cluster"], both["cluster_after"]), 4)
    assert clusters["noise"]["both"] == len(both.filter((pl.col("cluster") < 0) & (pl.col("cluster_after") < 0)))
    assert clusters["names"] is not None
    assert [set(map(int, names)) for names in clusters["names"]] == [
        set(one.clusters().filter(pl.col("layer") == 0)["cluster"]) for one in (first, other)
    ]
    of_stage = [str(one.record.request["clusters"]) for one in (first, other)]
    assert workspace.diff(*of_stage)["clusters"] == {**clusters, "names": None}
    assert workspace.artifact("coarse").id == other.id
    table = workspace.maps.table()
    assert dict(table.select("map", "name").iter_rows())[first.id] == "best, first"
    assert table.filter("current")["map"].to_list() == [first.id]
    assert other.id in repr(workspace.maps)
    # A name moves in one write, and is never lost in between.
    workspace.set_name("best", other)
    assert workspace["best"].id == other.id
    workspace.remove_name("best")
    with pytest.raises(WorkspaceError, match=r"no map of .* is called 'best'") as refused:
        workspace["best"]
    assert "first" in str(refused.value.hint)
    with pytest.raises(WorkspaceError, match="is called"):
        workspace.remove_name("best")


@pytest.mark.parametrize("name", ["", "Best", "a b", "../x", "a/b", ".hidden", "x" * 65, "map-0123456789abcdef", "ü"])
def test_names_that_no_map_can_have_are_refused_before_anything_is_computed(workspace: ls.Workspace, name: str) -> None:
    before = len(workspace.artifacts)
    for act in (
        lambda: workspace.set_name(name),
        lambda: workspace.map(name=name, embed={"max_tokens": 3}),
        lambda: workspace.update(name=name),
        lambda: ls.run(["a text"], workspace.url + "-new", name=name),
    ):
        with pytest.raises(ConfigError, match=r"name for a map|looks like an id"):
            act()
    assert len(workspace.artifacts) == before
    assert not Path(workspace.url + "-new").exists()


def test_upkeep_knows_names(workspace: ls.Workspace) -> None:
    kept = workspace.map(cluster={"min_cluster_size": 25}, name="kept")
    dropped = workspace.map(cluster={"min_cluster_size": 26})
    workspace.promote("first")
    found = workspace.gc(grace=0, keep_maps=0).dropped
    assert dropped.id in found
    assert kept.id not in found
    assert workspace.verify(quick=True).faults == []
    workspace.store.put_bytes("names/lost.json", json.dumps({"schema": 2, "map": "map-0", "written": ""}).encode())
    workspace.store.put_bytes("names/torn.json", b"{")
    assert {fault.object for fault in workspace.verify(quick=True).faults} == {"names/lost.json", "names/torn.json"}
    with pytest.raises(DamagedObjectError, match=r"names/torn\.json does not name a map"):
        workspace["torn"]
    workspace.store.delete(["names/lost.json", "names/torn.json"])


# -------------------------------------------------------------------------------------------------------------- sweeps


def test_a_sweep_is_a_table_of_maps(workspace: ls.Workspace, tmp_path: Path) -> None:
    frame = workspace.sweep(
        cluster={"min_cluster_size": [12, 40], "cluster_selection_method": "leaf"}, names="sizes", progress="quiet"
    )
    assert frame["cluster.min_cluster_size"].to_list() == [12, 40]
    assert set(frame["cluster.cluster_selection_method"]) == {"leaf"}
    assert frame["name"].to_list() == ["sizes-1", "sizes-2"]
    for row in frame.iter_rows(named=True):
        found = workspace.get(row["map"])
        assert found.record.counts["clusters"] == row["clusters"]
        assert found.quality["trustworthiness"] == row["trustworthiness"]
        assert workspace[row["name"]].id == found.id
    assert frame["clusters"][0] > frame["clusters"][1]
    sheet = tmp_path / "sweep.html"
    again = workspace.sweep(cluster={"min_cluster_size": [12, 40], "cluster_selection_method": "leaf"}, sheet=sheet)
    assert again["map"].to_list() == frame["map"].to_list()
    page = sheet.read_text(encoding="utf-8")
    pictures = [base64.b64decode(data) for data in re.findall(r'src="data:image/png;base64,([^"]+)"', page)]
    assert pictures == [workspace.store.read_bytes(f"maps/{one}/thumbnail.png") for one in frame["map"]]
    assert "<strong>cluster.min_cluster_size = 40, cluster.cluster_selection_method = leaf</strong>" in page
    with pytest.raises(RequestError, match="another ending"):
        workspace.sweep(cluster={"min_cluster_size": [12, 40]}, sheet=tmp_path / "sweep.png")
    before = len(workspace.artifacts)
    with pytest.raises(ConfigError, match="min_cluster_size"):
        workspace.sweep(cluster={"min_cluster_size": [13, 0]})
    assert len(workspace.artifacts) == before  # nothing is made of what cannot be made whole
    for wrong in ({}, {"cluster": {"min_cluster_size": 12}}):
        with pytest.raises(ConfigError, match="varies at least one setting"):
            workspace.sweep(**wrong)
    workspace.promote("first")


def test_a_sweep_that_cannot_be_is_refused_before_the_corpus_is_read(
    small_corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "folder.html").mkdir()
    given = ["run", str(small_corpus), "--text", "text", "--out", str(tmp_path / "w s"), "--progress", "quiet"]
    for wrong, says in (
        (["--sweep", "project.n_neighbors=5,9", "--name", "No Name"], "is not a name for a map"),
        (["--sweep", "project.n_neighbors=5,9", "--sheet", str(tmp_path / "folder.html")], "is a folder"),
        (["--sweep", "embed.model=nowhere-a,nowhere-b"], "there is no embedder"),
        (["--sweep", "engine.workers=1,2"], "no setting of a map"),
    ):
        with pytest.raises(RequestError, match=says):
            app([*given, *wrong], standalone_mode=False)
        assert not (tmp_path / "w s").exists()
    capsys.readouterr()
    sheet = tmp_path / "sweep.html"
    limited = [*given, "--limit", "60", "--sweep", "cluster.min_cluster_size=5,9", "--sheet", str(sheet)]
    app(limited, standalone_mode=False)
    out = capsys.readouterr().out
    maps = ls.open(tmp_path / "w s").maps.table()["map"]
    assert f"latentscale promote '{tmp_path / 'w s'}' {maps[0]}" in out
    assert str(sheet) in out
    app([*limited, "--json"], standalone_mode=False)
    assert [row["map"] for row in json.loads(capsys.readouterr().out)] == maps.to_list()


def test_two_maps_are_written_side_by_side(
    workspace: ls.Workspace, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = workspace.map(project={"n_epochs": 30, "seed": 5}, cluster={"min_cluster_size": 30})
    first = workspace["first"]
    app(["compare", workspace.url, "first", other.id, str(tmp_path / "two")], standalone_mode=False)
    assert "600 documents on both maps" in capsys.readouterr().out
    page = (tmp_path / "two/index.html").read_text()
    found = re.search(r'id="facts">(.*?)</script>', page)
    assert found
    facts = json.loads(found[1])
    points = {m.id: m.points().select("row_id", "cluster").collect() for m in (first, other)}
    assert (facts["documents"], facts["only"], facts["names"]) == (600, [0, 0], ["first", other.id])
    before = set(points[first.id]["cluster"].to_list()) - {-1}
    assert sorted(one for change in facts["changes"] for one in change["before"]) == sorted(before)
    assert set(facts["labels"][1]) == {str(one) for one in points[other.id]["cluster"].to_list() if one >= 0}
    texts = dict(first.documents().select("row_id", "text").collect().iter_rows())
    assert len(facts["moved"]) == 50
    for one in facts["moved"]:
        assert " ".join(texts[one["row_id"]].split()).startswith(one["text"])
    assert [one["moved"] for one in facts["moved"]] == sorted((one["moved"] for one in facts["moved"]), reverse=True)
    for side, name in zip("ab", (other.id, "first"), strict=True):
        (index,) = (tmp_path / "two" / side).glob("maps/*/viewer/index.json")
        assert [column["name"] for column in json.loads(index.read_text())["colours"]][-3:] == [
            "moved",
            "neighbours kept",
            f"cluster on {name}",
        ]
    assert workspace.verify(quick=True).faults == [], "the workspace is as it was"
    with pytest.raises(WorkspaceError, match="is not empty"):
        workspace.compare("first", other.id, tmp_path / "two")
    with pytest.raises(RequestError, match="compared with itself"):
        workspace.compare("first", first.id, tmp_path / "three")
    assert not (tmp_path / "three").exists()


def test_a_gallery_has_all_maps_with_their_pages(
    workspace: ls.Workspace, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = workspace.map(project={"n_epochs": 30, "seed": 5}, cluster={"min_cluster_size": 30}, name="maps")
    to = tmp_path / "gallery"
    app(["gallery", workspace.url, str(to), "-m", "first", "-m", other.id], standalone_mode=False)
    assert "(2 maps)" in capsys.readouterr().out
    page = (to / "index.html").read_text()
    links = re.findall(r'<a href="\./([^"]+)"><img src="\./([^"]+)"', page)
    # A name that is a folder of the gallery itself gives way to the id.
    assert [link for link, _ in links] == ["first/index.html", f"{other.id}/index.html"]
    for (link, picture), one in zip(links, (workspace["first"], other), strict=True):
        manifest = json.loads((to / link).with_name("manifest.json").read_text())
        for entry in manifest["generations"]:
            folder = ((to / link).parent / entry["url"]).resolve()
            assert (folder / "tiles/0-0-0.parquet").is_file()
            assert folder.parent.name == one.id
        assert (to / picture).read_bytes() == workspace.store.read_bytes(f"{one.record.folder}/thumbnail.png")
        assert {"Layout", "Clusters"} <= dict(manifest["about"]).keys()
    assert "<dt>Layout</dt><dd>UMAP, " in page
    assert "<dt>Embedding</dt>" not in page, "it is the same for all"
    assert len(workspace.gallery(tmp_path / "all")) == len(workspace.maps)
    first = re.search(r'href="\./([^"/]+)/', (tmp_path / "all/index.html").read_text())
    assert first
    assert first[1] == "first", "the current one"
    with pytest.raises(WorkspaceError, match="is not empty"):
        workspace.gallery(to)
    workspace.remove_name("maps")
    # A map may be called as a file of the gallery is.
    workspace.set_name("index.html", other.id)
    assert workspace.gallery(tmp_path / "named", [other.id]) == [other.id]
    assert f'href="./{other.id}/index.html"' in (tmp_path / "named/index.html").read_text()
    workspace.remove_name("index.html")
    (tmp_path / "file").write_text("mine")
    with pytest.raises(RequestError, match="is a file"):
        workspace.gallery(tmp_path / "file")
    with pytest.raises(RequestError, match="is a file"):
        workspace.export(tmp_path / "file", map=other.id, what="page")
    with pytest.raises(RequestError, match="is a file"):
        workspace.compare("first", other.id, tmp_path / "file")


def test_the_workspace_exports_its_current_map(workspace: ls.Workspace, current: ls.Map, tmp_path: Path) -> None:
    written = pl.read_parquet(workspace.export(tmp_path / "points.parquet", text=True))
    assert written.sort("row_id")["text"].equals(current.documents().collect().sort("row_id")["text"])


# ----------------------------------------------------------------------------------------------------------- notebooks


@pytest.fixture
def notebook(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """A kernel as IPython's modules show it; what cells display."""
    shown: list[Any] = []

    class Handle:
        def update(self, one: Any) -> None:
            shown.append(one._repr_html_())

    def display(one: Any, *, display_id: bool) -> Handle:
        shown.append(one._repr_html_())
        return Handle()

    shell = type("Shell", (), {"kernel": object()})()
    top, inner = ModuleType("IPython"), ModuleType("IPython.display")
    top.get_ipython = lambda: shell  # pyright: ignore[reportAttributeAccessIssue]
    inner.display = display  # pyright: ignore[reportAttributeAccessIssue]
    monkeypatch.setitem(sys.modules, "IPython", top)
    monkeypatch.setitem(sys.modules, "IPython.display", inner)
    return shown


def test_progress_in_a_notebook_is_one_area_that_is_rewritten(
    workspace: ls.Workspace, notebook: list[Any], capsys: pytest.CaptureFixture[str]
) -> None:
    assert in_notebook()
    workspace.map(cluster={"min_cluster_size": 33}, progress="auto")
    workspace.promote("first")
    assert "cluster" in notebook[-1]
    assert "<progress" in notebook[-1]
    assert capsys.readouterr() == ("", "")
    before = len(notebook)
    workspace.map(cluster={"min_cluster_size": 34}, progress="quiet")
    workspace.promote("first")
    assert len(notebook) == before


def test_an_error_in_a_notebook_shows_problem_place_and_hint(current: ls.Map, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(RequestError) as caught:
        current.sample(2, cluster=4711)
    lines = caught.value._render_traceback_()
    assert lines[0] == f"RequestError: {current.id} has no cluster 4711"
    assert lines[1].startswith("  next: ")
    monkeypatch.setenv("LATENTSCALE_DEBUG", "1")
    assert any("sample" in line for line in caught.value._render_traceback_())


def test_view_in_a_notebook_serves_in_a_thread(workspace: ls.Workspace, current: ls.Map, notebook: list[Any]) -> None:
    other = workspace.map(cluster={"min_cluster_size": 45})
    workspace.promote(current.id)
    # The page of a workspace shows its current map; that of another map is its own.
    for one, wanted in ((workspace, current.id), (current, current.id), (other, other.id)):
        page = one.view()
        assert page is not None
        try:
            assert f'src="{page.address}"' in page._repr_html_()
            manifest = page.address.replace("index.html", "manifest.json")
            assert wanted in urllib.request.urlopen(manifest, timeout=120).read().decode()
            assert page.selection == []
            assert page.documents().is_empty()
        finally:
            page.close()
