"""The commands around a map: what they print and write."""

from __future__ import annotations

import http.client
import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import polars as pl
import pytest
import yaml

import latentscale as ls
from latentscale.errors import RequestError
from latentscale.serving import PageServer
from latentscale.storage.objects import Store
from latentscale.verification import verify_workspace
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
    ended = latentscale("run", small_corpus, "--out", out, "--set", "project.n_epochs=50")
    assert ended.code == 0
    for words in ("documents    600", "rejects      0", "clusters", "noise", "quality", f"latentscale view {out}"):
        assert words in ended.out, ended.out
    events = [json.loads(line) for line in ended.err.splitlines()]
    assert [e["stage"] for e in events if e["event"] == "stage done"][:3] == ["ingest", "embed", "neighbors"]
    ended = latentscale("run", small_corpus, "--out", out, "--set", "project.n_epochs=50")
    assert "nothing: all of it was there" in ended.out


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


def test_status_list_show_and_diff(latentscale: Latentscale, made: Path) -> None:
    facts = json.loads(latentscale("status", made, "--json").out)
    assert (facts["documents"], facts["maps"], facts["document shards"]) == (600, 1, 1)
    listed = json.loads(latentscale("list", made, "--json").out)
    assert [record["kind"] for record in listed].count("projection") == 2
    first = facts["current map"]
    shown = json.loads(latentscale("show", made, first).out)
    assert shown["id"] == first
    assert shown["environment"]["versions"]["numpy"]

    other = ls.open(made).map(cluster={"min_cluster_size": 40}).id
    ended = latentscale("diff", made, first, other)
    assert "clusters.min_cluster_size" in ended.out
    assert "ARI" in ended.out
    assert latentscale("diff", made, first, "projection-00000000").code == 2
    ls.open(made).map(cluster={"min_cluster_size": 12})


def test_search_finds_what_is_alike(latentscale: Latentscale, made: Path) -> None:
    hits = [
        json.loads(line)
        for line in latentscale("search", made, "a board game of chess", "-k", 3, "--json").out.splitlines()
    ]
    assert len(hits) == 3
    assert hits[0]["score"] >= hits[1]["score"]
    assert any("chess" in hit["text"].lower() for hit in hits)
    assert latentscale("search", made, "\ue000").code == 2


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
    assert latentscale("export", made, tmp_path / "points.xlsx").code == 2


def test_the_page_is_exported_alone(latentscale: Latentscale, made: Path, tmp_path: Path) -> None:
    site = tmp_path / "site"
    assert latentscale("export", made, site).code == 0
    assert (site / "viewer" / "index.html").exists()
    assert (site / "viewer" / "manifest.json").exists()
    assert not (site / "documents").exists()
    assert latentscale("export", made, site).code == 2


def test_verify_finds_a_flipped_byte_and_a_missing_part(latentscale: Latentscale, made: Path, tmp_path: Path) -> None:
    import shutil

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


def test_doctor_and_models_say_what_is_here(latentscale: Latentscale) -> None:
    ended = latentscale("doctor")
    assert ended.code == 0
    for words in ("processors", "memory", "neighbors", "cpu"):
        assert words in ended.out.lower(), ended.out
    assert json.loads(latentscale("doctor", "--json").out)
    assert "256 dimensions" in latentscale("models", "list").out


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
    connection = http.client.HTTPConnection("127.0.0.1", server.server_address[1], timeout=10)
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


def test_a_workspace_without_a_page_is_not_served(tmp_path: Path) -> None:
    with pytest.raises(RequestError):
        PageServer(Store(str(tmp_path)), port=0)
