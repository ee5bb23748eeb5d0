"""Workspaces of earlier versions, kept as bytes, are read, grown, checked and shown by this one; or migrated."""

from __future__ import annotations

import http.client
import json
import tarfile
import threading
from pathlib import Path

import polars as pl
import pytest

import latentscale as ls
from latentscale.errors import WorkspaceError
from latentscale.explore.serve import PageServer

HERE = Path(__file__).parent
READ = sorted([*HERE.glob("schema-2*.tar.xz"), *HERE.glob("schema-3*.tar.xz")])


def unpacked(archive: Path, to: Path) -> Path:
    with tarfile.open(archive) as tar:
        tar.extractall(to, filter="data")
    return to


@pytest.mark.parametrize("archive", READ, ids=lambda path: path.name.partition(".")[0])
def test_a_golden_workspace_is_read_grown_checked_and_shown(archive: Path, tmp_path: Path, demo: pl.DataFrame) -> None:
    place = unpacked(archive, tmp_path)
    workspace = ls.open(place / "ws", must_exist=True)
    expected = pl.read_parquet(place / "expected.parquet")
    current = workspace.the_map()
    embedding = current.record.request["embedding"]
    seen = current.points().select(expected.columns).collect().sort("row_id")
    assert seen.with_columns(pl.col("label").cast(pl.String)).equals(
        expected.with_columns(pl.col("label").cast(pl.String))
    )
    assert [run["status"] for run in workspace.runs] == ["quarantined", "done", "done"]
    assert set(current.rejects()["reason"]) == {"not_json", "superseded"}
    assert len(current.search("a game of cards", k=3)) == 3
    assert workspace.map_settings()["corpus"]["where"] == "package NOT LIKE 'z%'"
    # The corpus is elsewhere now. The site's files, which are not in the archive, are those of this version.
    sources = f"corpus.sources={json.dumps([str(place / 'corpus')])}"
    assert workspace.run_update(overrides=[sources]).map == current.record
    assert workspace.verify().faults == []
    grown = demo.filter(pl.col("section") == "perl").select("package", "section", "text").head(9)
    grown.write_ndjson(place / "corpus" / "c.jsonl")
    updated = workspace.update()
    assert len(updated.points().collect()) == len(expected) + 9
    # The shipped model has another revision since; the map keeps that which made it.
    assert updated.record.request["embedding"] == embedding
    assert workspace.verify().faults == []
    with PageServer(workspace.store, port=0) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        port = int(server.server_address[1])
        manifest = json.loads(fetched(port, "viewer/manifest.json"))
        for generation in manifest["generations"]:
            assert json.loads(fetched(port, f"viewer/{generation['url']}index.json"))
            assert fetched(port, f"viewer/{generation['url']}tiles/0-0-0.parquet").startswith(b"PAR1")
        assert b"<script" in fetched(port, "viewer/index.html")
        server.shutdown()


def fetched(port: int, path: str) -> bytes:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
    connection.request("GET", f"/{path}")
    answer = connection.getresponse()
    assert answer.status == 200, path
    data = answer.read()
    connection.close()
    return data


def test_a_workspace_of_schema_1_is_refused_and_migrated(tmp_path: Path) -> None:
    place = unpacked(HERE / "schema-1.tar.xz", tmp_path / "old")
    old = ls.Workspace(place / "ws")
    with pytest.raises(WorkspaceError, match="has schema 1 and was written by an earlier version") as refused:
        old.the_map()
    assert refused.value.exit_code == 2
    assert f"latentscale migrate {old.url} --out NEW" in str(refused.value)
    # Its corpus is elsewhere now.
    path = place / "ws" / "workspace.json"
    path.write_text(path.read_text().replace("/tmp/latentscale-golden/corpus", str(place / "corpus")))
    before = {name: info.version for name, info in old.store.list().items()}
    made = old.migrate(tmp_path / "new")
    assert {name: info.version for name, info in old.store.list().items()} == before
    expected = pl.read_parquet(place / "expected.parquet")
    assert set(made.points().collect()["package"]) >= set(expected["package"])
    new = ls.open(tmp_path / "new", must_exist=True)
    assert new.verify().faults == []
    assert new.map_settings()["cluster"]["min_cluster_size"] == 5
    with pytest.raises(WorkspaceError, match="needs no migration"):
        new.migrate(tmp_path / "newer")
