"""The commands on a map: their output and files."""

from __future__ import annotations

import gzip
import http.client
import itertools
import json
import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import yaml

import latentscale as ls
from latentscale.cli.report import print_frame
from latentscale.errors import RequestError
from latentscale.explore.excel import ExcelWriter, check_rows
from latentscale.explore.page_selection import PageSelection
from latentscale.explore.serve import PageServer
from latentscale.storage.objects import Store
from latentscale.upkeep.verify import verify_workspace
from tests.cli.conftest import Ended

Latentscale = Callable[..., Ended]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, small_corpus: Path) -> Path:
    out = tmp_path_factory.mktemp("maps") / "packages"
    ls.run(str(small_corpus), out=out, progress="quiet", cluster={"min_cluster_size": 12})
    return out


def test_a_run_prints_its_numbers_and_where_the_map_is(
    latentscale: Latentscale, tmp_path: Path, small_corpus: Path
) -> None:
    out = tmp_path / "map"
    ended = latentscale("run", small_corpus, "--out", out, "--set", "project.n_epochs=50", "--progress", "json")
    assert ended.code == 0
    for words in ("documents    600", "rejects      0", "clusters", "noise", "quality", f"latentscale view {out}"):
        assert words in ended.out, ended.out
    events = [json.loads(line) for line in ended.err.splitlines()]
    assert [e["stage"] for e in events if e["event"] == "stage done"][:3] == ["ingest", "embed", "neighbors"]
    assert {(e["run"], e["workspace"]) for e in events} == {(ls.open(out).runs[0]["id"], str(out))}
    assert [events[0]["event"], events[-1]["event"]] == ["run started", "run done"]
    ended = latentscale("run", small_corpus, "--out", out, "--set", "project.n_epochs=50")
    assert "nothing: all results exist already" in ended.out
    # Nobody asked for events: a few lines, of which the last says where the map is.
    assert len(ended.err.splitlines()) <= 5
    assert ended.err.splitlines()[-1].endswith(f" in {out}")


def test_metrics_have_a_row_for_each_stage(made: Path) -> None:
    table = pl.read_parquet(next(made.glob("runs/*/metrics.parquet")))
    assert set(table["stage"]) == {"ingest", "embed", "neighbors", "project", "cluster", "label", "publish"}
    publish = table.row(by_predicate=pl.col("stage") == "publish", named=True)
    assert publish["key"] == ls.open(made).the_map().id
    assert (publish["rows"], publish["bytes"] > 10_000, publish["seconds"] > 0) == (600, True, True)


def test_an_update_by_a_program(latentscale: Latentscale, tmp_path: Path, demo: pl.DataFrame) -> None:
    """What a nightly job sees: a night with news, one without, and one that fails."""
    corpus, out, metrics = tmp_path / "corpus", tmp_path / "map", tmp_path / "night.prom"
    corpus.mkdir()
    demo.head(240).write_parquet(corpus / "a.parquet")
    quick = ("--set", "project.n_epochs=20", "--set", "cluster.min_cluster_size=8")
    refused = latentscale("run", corpus, "--out", out, *quick, "--name", "First try")
    assert refused.code == 2
    assert "'First try' is not a name for a map" in refused.err
    assert "first-try" in refused.err
    assert not out.exists()
    first = ("--name", "first", "--json", "--progress", "quiet")
    made = json.loads(latentscale("run", corpus, "--out", out, *quick, *first).out)
    assert (made["documents"], made["changed"], made["exit_code"], made["added"]) == (240, True, 0, None)
    demo.slice(240, 30).write_parquet(corpus / "b.parquet")
    night = json.loads(latentscale("update", out, "--name", "night", "--json", "--metrics-file", metrics).out)
    assert ls.open(out).names == {"first": made["map"], "night": night["map"]}
    assert (night["added"], night["removed"], night["changed"], night["refit_due"]) == (30, 0, True, False)
    assert night["drift"]["added"] == 30
    assert "latentscale_documents_added" in metrics.read_text()
    again = latentscale("update", out, "--json", "--metrics-file", metrics)
    quiet_night = json.loads(again.out)
    assert (quiet_night["added"], quiet_night["changed"], quiet_night["map"]) == (0, False, night["map"])
    assert 'latentscale_run_changed{workspace="' in metrics.read_text()
    told = latentscale("update", out).out
    assert "nothing changed; 30 added and 0 removed since the fit" in told
    for path in corpus.iterdir():
        path.unlink()
    failed = latentscale("update", out, "--progress", "json", "--metrics-file", metrics)
    last = json.loads(next(line for line in failed.err.splitlines() if '"run failed"' in line))
    assert failed.code == last["exit_code"] == 2
    assert f'exit_code{{workspace="{out}"}} 2' in metrics.read_text()
    facts = json.loads(latentscale("status", out, "--json").out)
    assert facts["refit_due"] is False
    assert facts["drift"]["added"] == 30
    assert facts["last_run"]["status"] in ("done", "failed")
    assert all(key == key.lower() and " " not in key for key in facts)
    missing = latentscale("update", tmp_path / "nowhere", "--progress", "json")
    assert json.loads(missing.err.splitlines()[0])["event"] == "run failed"


def test_the_stages_one_by_one_make_the_same_map(latentscale: Latentscale, tmp_path: Path, small_corpus: Path) -> None:
    whole, parts = tmp_path / "whole" / "x", tmp_path / "parts" / "x"
    assert latentscale("run", small_corpus, "--out", whole).code == 0
    assert latentscale("ingest", small_corpus, "--out", parts).code == 0
    for stage in ("embed", "neighbors", "project", "cluster", "label", "publish"):
        ended = latentscale(stage, parts)
        assert ended.code == 0, ended.err
    one, two = ls.open(whole).current, ls.open(parts).current
    assert one is not None
    assert two is not None
    assert one.id == two.id
    assert one.points().collect().equals(two.points().collect())
    ended = latentscale("cluster", parts, "--set", "cluster.min_cluster_size=30")
    assert ended.code == 0
    assert "cluster " in ended.out


def test_plan_writes_nothing_and_estimates_every_stage(
    latentscale: Latentscale, tmp_path: Path, small_corpus: Path
) -> None:
    ended = latentscale("plan", small_corpus, "--json")
    assert ended.code == 0
    planned = json.loads(ended.out)
    assert planned["documents"] == 600
    assert [stage["stage"] for stage in planned["stages"]] == [
        "ingest",
        "embed",
        "neighbors",
        "project",
        "cluster",
        "label",
        "publish",
    ]
    lines = tmp_path / "lines.jsonl"
    pl.read_parquet(small_corpus).write_ndjson(lines)
    guessed = json.loads(latentscale("plan", lines, "--json").out)["documents"]
    assert 400 < guessed < 900
    quoted = tmp_path / "quoted.csv"
    pl.read_parquet(small_corpus).with_columns(text=pl.col("text").str.replace_all(" ", "\n")).write_csv(quoted)
    assert 400 < json.loads(latentscale("plan", quoted, "--json").out)["documents"] < 900
    assert sorted(tmp_path.iterdir()) == [lines, quoted]


def test_a_sweep_makes_maps_without_publishing_them(
    latentscale: Latentscale, tmp_path: Path, small_corpus: Path
) -> None:
    out, sheet = tmp_path / "map", tmp_path / "sweep.html"
    command = ["run", small_corpus, "--out", out, "--limit", 300, "--set", "project.n_epochs=20", "--progress", "quiet"]
    for wrong, says in (
        ("project.n_neighbors", "stage.field=value,value"),
        ("project.n_neighbors=10", "varies at least one setting"),
        ("project.n_neighbours=5,10", "n_neighbours"),
        ("project.n_neighbors=5,none", "n_neighbors"),
        ("corpus.limit=5,10", "the same documents"),
    ):
        ended = latentscale(*command, "--sweep", wrong)
        assert ended.code == 2
        assert says in ended.err
        assert not list(out.glob("documents/*"))
    ended = latentscale(*command, "--sweep", "cluster.min_cluster_size=8,20", "--sheet", sheet, "--json")
    assert ended.code == 0, ended.err
    rows = json.loads(ended.out)
    assert [row["cluster.min_cluster_size"] for row in rows] == [8, 20]
    assert rows[0]["map"] != rows[1]["map"]
    assert len(list(out.glob("neighbors/*"))) == 1
    assert len(list(out.glob("maps/*/map.json"))) == 2
    assert not (out / "HEAD.json").exists()
    assert sheet.read_text(encoding="utf-8").count("<figure>") == 2


def test_status_list_show_and_diff(latentscale: Latentscale, made: Path) -> None:
    facts = json.loads(latentscale("status", made, "--json").out)
    assert (facts["documents"], facts["maps"], facts["document_shards"]) == (600, 1, 1)
    listed = json.loads(latentscale("list", made, "--json").out)
    assert [record["kind"] for record in listed].count("projection") == 2
    first = facts["current_map"]
    shown = json.loads(latentscale("show", made, first).out)
    assert shown["id"] == first
    assert shown["environment"]["versions"]["numpy"]

    other = ls.open(made).map(cluster={"min_cluster_size": 40}).id
    ended = latentscale("diff", made, first, other)
    assert "clusters.min_cluster_size" in ended.out
    assert "ARI" in ended.out
    assert "600 documents are in both; 0 in the first only, 0 in the second only." in ended.out
    assert "Neighbours kept on the map: 100.0% of the 15 nearest, of 600 documents" in ended.out
    facts = json.loads(latentscale("diff", made, first, other, "--json").out)
    assert list(facts) == ["settings", "counts", "clusters", "layout", "vectors"]
    assert (facts["layout"]["displacement"]["q95"], facts["vectors"]) == (0, None)
    assert latentscale("diff", made, first, "projection-00000000").code == 2
    ls.open(made).map(cluster={"min_cluster_size": 12})


def test_search_finds_similar_documents(latentscale: Latentscale, made: Path) -> None:
    hits = [
        json.loads(line)
        for line in latentscale("search", made, "a board game of chess", "-k", 3, "--json").out.splitlines()
    ]
    assert len(hits) == 3
    assert hits[0]["score"] >= hits[1]["score"]
    assert any("chess" in hit["text"].lower() for hit in hits)
    assert {"row_id", "cluster", "label", "package"} <= set(hits[0])
    assert latentscale("search", made, "\ue000").code == 2


def test_search_by_cluster_condition_and_threshold_with_the_columns_asked_for(
    latentscale: Latentscale, made: Path
) -> None:
    points = ls.open(made).the_map().points().collect()

    def rows(*options: object) -> list[dict[str, Any]]:
        ended = latentscale("search", made, "a board game of chess", "--json", *options)
        assert ended.code == 0, ended.err
        return [json.loads(line) for line in ended.out.splitlines()]

    everything = rows("-k", 600)
    perl = rows("--where", "section = 'perl'", "-k", 5)
    assert {hit["section"] for hit in perl} == {"perl"}
    assert [hit["row_id"] for hit in perl] == [hit["row_id"] for hit in everything if hit["section"] == "perl"][:5]
    cluster = points.filter(pl.col("cluster") >= 0)["cluster"][0]
    assert {hit["cluster"] for hit in rows("--cluster", cluster, "-k", 4)} == {cluster}
    limit = everything[3]["score"]
    assert [hit["row_id"] for hit in rows("--threshold", limit, "-k", 50)] == [
        hit["row_id"] for hit in everything if hit["score"] >= limit
    ]
    shown = latentscale("search", made, "chess", "-k", 2, "--columns", "package,section", "--format", "csv")
    assert pl.read_csv(shown.out.encode()).columns == [
        "score",
        "row_id",
        "cluster",
        "label",
        "package",
        "section",
        "text",
    ]
    table = latentscale("search", made, "chess", "-k", 1).out.splitlines()
    assert len(table) == 2
    # Where nobody looks at a terminal, a text is whole.
    assert len(table[1]) > 160
    assert latentscale("search", made, "x", "--columns", "titel").code == 2
    assert latentscale("search", made, "chess", "--threshold", 7).code == 2
    assert latentscale("search", made, "chess", "--format", "xml").code == 2
    assert latentscale("search", made, "chess", "--cluster", 4711).code == 2


def test_a_table_fits_the_terminal(latentscale: Latentscale, made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "90")
    monkeypatch.setattr("latentscale.cli.report.on_terminal", lambda: True)
    lines = latentscale("search", made, "chess", "-k", 3).out.splitlines()
    assert max(len(line) for line in lines) <= 90
    assert all(line.endswith("…") for line in lines[1:])


def test_a_text_never_commands_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    print_frame(pl.DataFrame({"row_id": [7], "text": ["a\x1b[2Jb\nc\x9b1m"]}), "table")
    assert capsys.readouterr().out == "row_id  text\n     7  a�[2Jb c�1m\n"


def test_clusters_lists_the_topics_of_the_map(latentscale: Latentscale, made: Path) -> None:
    labels = ls.open(made).the_map().labels()
    finest = labels.filter(pl.col("layer") == 0)
    listed = json.loads(latentscale("clusters", made, "--layer", 0, "--format", "json").out)
    assert {row["cluster"]: row["size"] for row in listed} == dict(zip(finest["cluster"], finest["size"], strict=True))
    assert [row["size"] for row in listed] == sorted((row["size"] for row in listed), reverse=True)
    assert isinstance(listed[0]["keyphrases"], list)
    table = latentscale("clusters", made, "--format", "table")
    assert table.out.split()[:5] == ["layer", "cluster", "size", "label", "keyphrases"]
    assert len(table.out.splitlines()) == len(labels) + 1
    by_label = pl.read_csv(
        latentscale("clusters", made, "--layer", 0, "--sort", "label", "--format", "csv").out.encode()
    )
    assert by_label["label"].to_list() == sorted(finest["label"])
    heading, *tree = latentscale("clusters", made).out.splitlines()
    assert heading.split() == ["documents", "layer.cluster", "label"]
    labels = ls.open(made).the_map().labels()
    assert len(tree) == len(labels)
    top = labels.filter(pl.col("layer") == labels["layer"].max()).sort("size", descending=True).row(0, named=True)
    assert tree[0].split(maxsplit=2) == [f"{top['size']:,}", f"{top['layer']}.{top['cluster']}", top["label"]]
    below = labels.filter((pl.col("layer") == top["layer"] - 1) & (pl.col("parent") == top["cluster"]))
    names = [line[heading.index("label") :] for line in tree]
    inside = list(itertools.takewhile(lambda name: name.startswith("  "), names[1:]))
    assert sum(not name.startswith("    ") for name in inside) == len(below)
    assert latentscale("clusters", made, "--format", "tree", "--layer", 0).code == 2
    assert latentscale("clusters", made, "--layer", 9).code == 2
    assert latentscale("clusters", made, "--sort", "colour").code == 2


def test_labels_are_exported_in_the_format_that_is_asked_for(
    latentscale: Latentscale, made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert latentscale("labels", "export", made, "--format", "csv").code == 0
    assert latentscale("labels", "export", made).code == 0
    assert pl.read_csv(tmp_path / "edits.csv")["label"].to_list() == [
        entry["label"] for entry in yaml.safe_load((tmp_path / "edits.yaml").read_text(encoding="utf-8"))["clusters"]
    ]
    assert latentscale("labels", "export", made, "other.csv", "--format", "yaml").code == 2
    assert latentscale("labels", "export", made, "--format", "xlsx").code == 2
    assert not (tmp_path / "other.csv").exists()


def test_labels_of_two_sides_are_compared(latentscale: Latentscale, made: Path) -> None:
    workspace = ls.open(made)
    current = workspace.the_map()
    sides = (current.id, current.record.request["labels"])
    facts = json.loads(latentscale("labels", "diff", made, *sides, "--json").out)
    labels = current.labels()
    assert facts["changes"] == {"same": len(labels)}
    assert {(row["layer"], row["cluster_before"]): row["size_after"] for row in facts["clusters"]} == {
        (layer, cluster): size for layer, cluster, size in labels.select("layer", "cluster", "size").iter_rows()
    }
    assert {row["label_before"] for row in facts["clusters"]} == set(labels["label"])
    listed = latentscale("labels", "diff", made, *sides, "--layer", 0).out.splitlines()
    assert listed[0].split()[:3] == ["layer", "change", "size_before"]
    assert len(listed) == len(labels.filter(pl.col("layer") == 0)) + 2
    assert "clusters are the same" in latentscale("labels", "diff", made, *sides, "--changed").out
    assert latentscale("labels", "diff", made, *sides, "--layer", 9).code == 2
    assert latentscale("labels", "diff", made, current.id, current.record.request["clusters"]).code == 2


@pytest.mark.parametrize("suffix", [".parquet", ".csv", ".jsonl"])
def test_points_are_exported(
    latentscale: Latentscale, made: Path, tmp_path: Path, suffix: str, small_corpus: Path
) -> None:
    target = tmp_path / f"points{suffix}"
    assert latentscale("export", made, target, "--text").code == 0
    read = {".parquet": pl.read_parquet, ".csv": pl.read_csv, ".jsonl": pl.read_ndjson}[suffix](target)
    corpus = pl.read_parquet(small_corpus)
    assert dict(zip(read["package"], read["text"], strict=True)) == dict(
        zip(corpus["package"], corpus["text"], strict=True)
    )
    assert read.columns.count("update") == 0
    assert latentscale("export", made, tmp_path / "points.ods").code == 2


def test_the_file_name_or_option_decides_what_is_exported(latentscale: Latentscale, made: Path, tmp_path: Path) -> None:
    chosen = ls.open(made).the_map()
    labels, points = chosen.labels(), chosen.points().collect()
    ended = latentscale("export", made, tmp_path / "labels.csv")
    assert "labels of" in ended.out
    assert pl.read_csv(tmp_path / "labels.csv")["label"].to_list() == labels["label"].to_list()
    assert latentscale("export", made, tmp_path / "clusters.csv").code == 0
    clusters = pl.read_csv(tmp_path / "clusters.csv")
    assert set(clusters["label"]) == set(labels["label"])
    assert clusters["keyphrases"][0] == ", ".join(labels.filter(label=clusters["label"][0])["keyphrases"][0])
    assert latentscale("export", made, tmp_path / "x.parquet", "--what", "text").code == 0
    texts = pl.read_parquet(tmp_path / "x.parquet")
    assert texts.height == points.height
    assert texts.columns[0] == "row_id"
    assert texts["text"].null_count() == 0
    assert latentscale("export", made, tmp_path / "labels.parquet", "--what", "points", "--updates").code == 0
    exported = pl.read_parquet(tmp_path / "labels.parquet")
    assert "update" in exported.columns
    # Of many clusters there are coarser layers, which have their names next to them.
    fine = ls.open(made).map(cluster={"method": "kmeans", "n_clusters": 24})
    assert latentscale("export", made, tmp_path / "fine.csv", "--map", fine.id).code == 0
    layer = fine.labels().filter(pl.col("layer") == 1)
    names = dict(zip(layer["cluster"], layer["label"], strict=True))
    written = pl.read_csv(tmp_path / "fine.csv")
    assert names
    assert [names.get(one) for one in written["layer_1"]] == written["layer_1_label"].to_list()
    for wrong in (
        ["labels"],
        ["page.csv", "--what", "page"],
        ["x.csv", "--what", "everything"],
        ["x", "--what", "text"],
    ):
        ended = latentscale("export", made, tmp_path / wrong[0], *wrong[1:])
        assert ended.code == 2, wrong
    assert not (tmp_path / "labels").exists()


def test_an_excel_file_holds_values_and_no_formula(tmp_path: Path) -> None:
    from datetime import UTC, date, datetime
    from zipfile import ZipFile

    path = tmp_path / "x.xlsx"
    frame = pl.DataFrame(
        {
            "text": ["=1+1", "http://x.org", "a\x01b"],
            "number": [2**60, 7, None],
            "share": [0.5, float("nan"), float("inf")],
            "day": [date(2024, 1, 31), None, date(1850, 1, 1)],
            "moment": [datetime(2024, 1, 31, 12, tzinfo=UTC)] * 3,
        }
    )
    with ExcelWriter(path) as writer:
        writer.write(frame.clear())
        writer.write(frame)
    with ZipFile(path) as archive:
        sheet = archive.read("xl/worksheets/sheet1.xml").decode()
    assert "<f>" not in sheet
    assert "hyperlink" not in sheet
    for shown in ("=1+1", "a_x0001_b", str(2**60), "<v>7</v>", "<v>0.5</v>", "NaN".lower(), "1850-01-01", "+00:00"):
        assert shown in sheet, shown
    with pytest.raises(RequestError, match="32,767"), ExcelWriter(path) as writer:
        writer.write(pl.DataFrame({"text": ["x" * 40_000]}))
    with pytest.raises(RequestError, match="1,048,575 rows"):
        check_rows(2_000_000, path)


def test_the_page_is_exported_alone(latentscale: Latentscale, made: Path, tmp_path: Path) -> None:
    site = tmp_path / "site"
    assert latentscale("export", made, site).code == 0
    assert (site / "viewer" / "index.html").exists()
    assert (site / "viewer" / "manifest.json").exists()
    assert not (site / "documents").exists()
    assert latentscale("export", made, site).code == 2


def test_verify_finds_a_flipped_byte_and_a_missing_part(latentscale: Latentscale, made: Path, tmp_path: Path) -> None:
    copied = tmp_path / "copied"
    shutil.copytree(made, copied)
    assert latentscale("verify", copied).code == 0
    points = next((copied / "maps").rglob("part-00000.parquet"))
    data = bytearray(points.read_bytes())
    data[len(data) // 2] ^= 1
    points.write_bytes(data)
    next((copied / "embeddings").rglob("*.parquet")).unlink()
    ended = latentscale("verify", copied)
    assert ended.code == 4
    assert "part-00000.parquet" in ended.out
    assert len(verify_workspace(Store(str(copied))).faults) >= 2


def test_init_writes_a_job_that_runs(
    latentscale: Latentscale, tmp_path: Path, small_corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert latentscale("init").code == 0
    assert latentscale("init").code == 2
    job = yaml.safe_load((tmp_path / "job.yaml").read_text())
    job["corpus"]["sources"] = [str(small_corpus)]
    job["out"] = "out"
    (tmp_path / "job.yaml").write_text(yaml.safe_dump(job))
    ended = latentscale("run", "job.yaml", "--limit", 40)
    assert ended.code == 0, ended.err
    assert "documents    40" in ended.out
    assert json.loads((tmp_path / "job.schema.json").read_text())["properties"]["project"]


def test_init_takes_the_name_of_a_file_and_several_share_a_schema(latentscale: Latentscale, tmp_path: Path) -> None:
    ended = latentscale("init", tmp_path / "jobs" / "news.yaml")
    assert ended.code == 0
    assert f"latentscale run {tmp_path / 'jobs' / 'news.yaml'}" in ended.out
    assert (tmp_path / "jobs" / "news.yaml").is_file()
    assert latentscale("init", tmp_path / "jobs" / "mails.yml").code == 0
    assert latentscale("init", tmp_path / "jobs" / "mails.yml").code == 2
    assert sorted(path.name for path in (tmp_path / "jobs").iterdir()) == ["job.schema.json", "mails.yml", "news.yaml"]


def test_a_job_runs_from_any_folder(
    latentscale: Latentscale, tmp_path: Path, small_corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "jobs").mkdir()
    (tmp_path / "elsewhere").mkdir()
    shutil.copy(small_corpus, tmp_path / "corpus.parquet")
    job = {"corpus": {"sources": "../corpus.parquet", "limit": 30}, "out": "../maps"}
    (tmp_path / "jobs" / "job.yaml").write_text(yaml.safe_dump(job))
    monkeypatch.chdir(tmp_path / "elsewhere")
    ended = latentscale("ingest", "../jobs/job.yaml")
    assert ended.code == 0, ended.err
    assert (tmp_path / "maps" / "workspace.json").exists()
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_doctor_and_models_list_what_is_installed(latentscale: Latentscale) -> None:
    ended = latentscale("doctor")
    assert ended.code == 0
    for words in ("processors", "memory", "neighbors", "cpu"):
        assert words in ended.out.lower(), ended.out
    assert json.loads(latentscale("doctor", "--json").out)
    shipped = json.loads(latentscale("models", "list", "--json").out)[0]
    assert (shipped["name"], shipped["dimensions"]) == ("static", 256)


# ------------------------------------------------------------------------------------------------------------- serving


@pytest.fixture
def server(made: Path) -> Iterator[PageServer]:
    with PageServer(Store(str(made)), port=0) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def get(server: PageServer, path: str, **headers: str) -> tuple[int, dict[str, str], bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", server.server_address[1], timeout=120)
    connection.request("GET", path, headers=headers)
    response = connection.getresponse()
    found = response.status, dict(response.getheaders()), response.read()
    connection.close()
    return found


def test_the_server_gives_ranges_and_only_the_page(server: PageServer, made: Path) -> None:
    assert server.server_address[0] == "127.0.0.1"
    manifest = (made / "viewer" / "manifest.json").read_bytes()
    assert get(server, "/viewer/manifest.json")[2] == manifest
    status, headers, body = get(server, "/viewer/manifest.json", Range="bytes=5-14")
    assert (status, body) == (206, manifest[5:15])
    assert headers["Content-Range"] == f"bytes 5-14/{len(manifest)}"
    assert get(server, "/viewer/manifest.json", Range="bytes=-7")[2] == manifest[-7:]
    assert get(server, "/viewer/manifest.json", Range=f"bytes={len(manifest)}-")[0] == 416
    assert get(server, "/")[0] == 302
    for path in (
        "/workspace.json",
        "/documents/",
        "/runs/",
        "/viewer/../workspace.json",
        "/viewer/%2e%2e/workspace.json",
        "/x",
    ):
        assert get(server, path)[0] == 404, path


def test_the_server_compresses_only_texts_and_only_if_accepted(server: PageServer, made: Path) -> None:
    manifest = (made / "viewer" / "manifest.json").read_bytes()
    # Other tests may have made further maps.
    labels = max(made.glob("maps/*/viewer/labels.json"), key=lambda path: path.stat().st_size)
    name = f"/{labels.relative_to(made).as_posix()}"
    status, headers, body = get(server, name, **{"Accept-Encoding": "br, gzip;q=0.5"})
    assert (status, headers["Content-Encoding"], headers["Vary"]) == (200, "gzip", "Accept-Encoding")
    assert gzip.decompress(body) == labels.read_bytes()
    assert len(body) == int(headers["Content-Length"]) < 0.6 * labels.stat().st_size
    for taken in ("identity", "br", "gzip;q=0", "gzip; q=0.0", ""):
        _, headers, body = get(server, name, **{"Accept-Encoding": taken})
        assert "Content-Encoding" not in headers
        assert body == labels.read_bytes()
    status, headers, body = get(server, "/viewer/manifest.json", **{"Accept-Encoding": "gzip", "Range": "bytes=5-14"})
    assert (status, body) == (206, manifest[5:15])
    tile = next(made.glob("maps/*/viewer/tiles/0-0-0.parquet"))
    _, headers, body = get(server, f"/{tile.relative_to(made).as_posix()}", **{"Accept-Encoding": "gzip"})
    assert "Content-Encoding" not in headers
    assert body == tile.read_bytes()


def test_a_workspace_without_a_page_is_not_served(tmp_path: Path) -> None:
    with pytest.raises(RequestError):
        PageServer(Store(str(tmp_path)), port=0)


def test_list_shows_documents_removed_by_an_update(latentscale: Latentscale, tmp_path: Path) -> None:
    texts = pl.DataFrame({"text": [f"{one} {number}" for number in range(15) for one in ("chess", "a river")]})
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    texts.write_csv(corpus / "a.csv")
    ls.run(str(corpus), out=tmp_path / "map", progress="quiet", publish={"viewer": False})
    # The file is read again, so that all points are in a new segment; two documents are gone.
    texts[2:].write_csv(corpus / "a.csv")
    ls.open(tmp_path / "map").update()
    line = next(line for line in latentscale("list", tmp_path / "map").out.splitlines() if "gone" in line)
    assert "gone 2, documents 28" in line
    assert "removed" not in line
    # 30 documents were fitted: the figures are those of the fit, and say so first.
    first, second = latentscale("quality", tmp_path / "map").out.splitlines()[:2]
    assert first.startswith("fit ")
    assert "figures of this fit" in first
    assert second.split() == ["documents", "30"]


@pytest.mark.parametrize("port", [-1, 65_536, 99_999])
def test_a_port_that_no_machine_has_is_refused(made: Path, port: int) -> None:
    with pytest.raises(RequestError, match=f"no port {port}"):
        PageServer(Store(str(made)), port=port)


def test_a_request_that_names_another_host_is_refused(server: PageServer) -> None:
    port = server.server_address[1]
    for host in (f"127.0.0.1:{port}", f"localhost:{port}", f"LOCALHOST:{port}", f"[::1]:{port}", "localhost"):
        assert get(server, "/viewer/manifest.json", Host=host)[0] == 200, host
    for host in ("evil.example", f"evil.example:{port}", f"127.0.0.1.evil.example:{port}", "localhost:1", ""):
        assert get(server, "/viewer/manifest.json", Host=host)[0] == 403, host


def post(server: PageServer, body: bytes, path: str = "/selection", **headers: str) -> int:
    connection = http.client.HTTPConnection("127.0.0.1", server.server_address[1], timeout=120)
    names = {name.replace("_", "-"): value for name, value in headers.items() if value}
    connection.request("POST", path, body=body, headers=names)
    status = connection.getresponse().status
    connection.close()
    return status


def test_a_selection_is_accepted_only_from_the_servers_own_page(made: Path) -> None:
    selection = PageSelection()
    with PageServer(Store(str(made)), port=0, selection=selection) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        own = f"http://127.0.0.1:{server.server_address[1]}"
        assert server.address == f"{own}/viewer/index.html?tell={selection.token}"
        right = {"Origin": own, "X_LatentScale_Token": selection.token, "Content_Type": "application/json"}

        def said(at: int, row_ids: list[Any], **more: Any) -> bytes:
            return json.dumps({"page": "a", "number": at, "count": len(row_ids), "row_ids": row_ids, **more}).encode()

        assert post(server, said(2, [7, 3]), **right) == 204
        assert selection.row_ids() == [3, 7]
        assert post(server, said(1, [1]), **right) == 204
        assert selection.row_ids() == [3, 7], "it was said before"
        for wrong, status in (
            ({"Origin": "http://evil.example"}, 403),
            ({"Origin": ""}, 403),
            ({"Origin": "null"}, 403),
            ({"Host": "evil.example", "Origin": "http://evil.example"}, 403),
            ({"X_LatentScale_Token": selection.token[:-1]}, 403),
            ({"X_LatentScale_Token": ""}, 403),
            ({"Content_Type": "text/plain"}, 400),
            ({"Content_Length": str(1 << 40)}, 413),
            ({"Content_Length": "-1"}, 411),
        ):
            assert post(server, said(9, [1]), **{**right, **wrong}) == status, wrong
        for body in (
            b"", b"no JSON", b"[]", b"[" * 100_000, said(9, ["1"]), said(9, [-1]), said(9, [2**63]), said(9, [True]),
            said(9, [1], count=5), said(9, [1], number="9"), said(9, [1], page=None),
        ):  # fmt: skip
            assert post(server, body, **right) == 400, body[:80]
        assert post(server, said(9, [1]), "/viewer/index.html", **right) == 404
        assert selection.row_ids() == [3, 7]
        # Another page of the same map, and more than a page sends.
        assert post(server, said(1, [5], page="b"), **right) == 204
        assert selection.row_ids() == [5]
        assert post(server, said(2, [], page="b", count=2_000_000), **right) == 204
        with pytest.raises(RequestError, match="2,000,000 documents are selected"):
            selection.row_ids()
        server.shutdown()
        thread.join()


def test_a_server_without_the_option_accepts_no_selection(server: PageServer) -> None:
    own = f"http://127.0.0.1:{server.server_address[1]}"
    assert server.address == f"{own}/viewer/index.html"
    assert post(server, b"{}", Origin=own, X_LatentScale_Token="", Content_Type="application/json") == 404


# ------------------------------------------------------------------------------------------------ sample, quality, runs


def test_sample_shows_documents_of_a_cluster_with_their_texts(latentscale: Latentscale, made: Path) -> None:
    rows = [json.loads(line) for line in latentscale("sample", made, "-n", 4, "--seed", 3, "--json").out.splitlines()]
    assert len(rows) == 4
    assert all(row["text"] for row in rows)
    cluster = next(row["cluster"] for row in map(json.loads, latentscale("sample", made, "--json").out.splitlines()))
    ended = latentscale("sample", made, "-n", 3, "--cluster", cluster)
    assert ended.code == 0
    assert "row_id" in ended.out
    assert latentscale("sample", made, "--cluster", 4711).code == 2
    assert latentscale("sample", made, "--where", "nothing = 1").code == 2
    assert latentscale("sample", made, "--where", "installed_size > 10").code == 0


def test_quality_prints_the_measured_figures(latentscale: Latentscale, made: Path) -> None:
    facts = json.loads(latentscale("quality", made, "--json").out)
    assert facts == ls.open(made).the_map().quality
    ended = latentscale("quality", made)
    assert ended.code == 0
    for words in ("recall", "trustworthiness", "noise_share", "persistence median"):
        assert words in ended.out


def test_a_run_records_its_command_without_signatures(
    latentscale: Latentscale, tmp_path: Path, small_corpus: Path
) -> None:
    out = tmp_path / "map"
    where = "homepage != 'https://x.org/?X-Amz-Signature=canary'"
    assert latentscale("ingest", small_corpus, "--out", out, "--limit", 30, "--where", where).code == 0
    assert latentscale("embed", out).code == 0
    first, second = [run["command"] for run in ls.open(out).runs]
    assert first[:2] == ["latentscale", "ingest"]
    assert "X-Amz-Signature=…'" in first[-1]
    assert second == ["latentscale", "embed", str(out)]
    assert not any(b"canary" in path.read_bytes() for path in (out / "runs").rglob("run.json"))


def test_a_workspace_of_another_version_is_refused_by_every_command(
    latentscale: Latentscale, made: Path, tmp_path: Path, small_corpus: Path
) -> None:
    copied = tmp_path / "copied"
    shutil.copytree(made, copied)
    path = copied / "workspace.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"schema": 1}))
    for arguments in (["status"], ["verify"], ["gc"], ["list"], ["update"], ["publish"], ["search", "x"]):
        ended = latentscale(arguments[0], copied, *arguments[1:])
        assert ended.code == 2, arguments
        assert "--out" in ended.err
    assert latentscale("run", small_corpus, "--out", copied).code == 2
