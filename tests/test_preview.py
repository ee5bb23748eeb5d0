"""The preview of a map during its layout: its content, its end, and that it does not change the map."""

from __future__ import annotations

import base64
import io
import json
import re
import threading
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow.parquet as pq
import pytest

import latentscale
from latentscale.backends import abilities
from latentscale.backends.cpu.backend import CpuBackend
from latentscale.config import JobConfig
from latentscale.errors import ConfigError, StorageError
from latentscale.explore.serve import PageServer
from latentscale.stages import previewed
from latentscale.stages.publish import preview
from latentscale.stages.publish.preview import NAME, Preview, sample_rows
from latentscale.stages.stage import JobSize
from latentscale.storage.head import read_head
from latentscale.storage.objects import Store

SETTINGS: dict[str, Any] = {"ingest": {"shard_rows": 200}, "cluster": {"min_cluster_size": 10}}


@dataclass(frozen=True)
class Page:
    """A preview, taken apart."""

    text: str

    @property
    def files(self) -> dict[str, bytes]:
        found = re.search(r'<script type="application/json" id="files">(.*?)</script>', self.text, re.DOTALL)
        assert found
        return {name: base64.b64decode(content) for name, content in json.loads(found[1]).items()}

    @property
    def manifest(self) -> dict[str, Any]:
        return json.loads(self.files["viewer/manifest.json"])

    @property
    def documents(self) -> pl.DataFrame:
        packs = [content for name, content in self.files.items() if "/rows/" in name]
        return pl.concat([pl.from_arrow(pq.read_table(io.BytesIO(pack))) for pack in packs])  # pyright: ignore


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> list[Page]:
    """All previews that runs of this process write."""
    pages: list[Page] = []
    put = Store.put_bytes

    def keep(self: Store, name: str, data: bytes | memoryview) -> Any:
        info = put(self, name, data)
        if name == NAME and b'id="files"' in data:
            pages.append(Page(self.read_bytes(name).decode()))
        return info

    monkeypatch.setattr(Store, "put_bytes", keep)
    return pages


def notes(out: Path) -> list[str]:
    """What the last run told of its preview."""
    run = max((out / "runs").iterdir())
    events = [json.loads(line) for line in (run / "events.jsonl").read_text().splitlines()]
    return [event["text"] for event in events if event["event"] == "note" and "preview" in event["text"]]


def objects(workspace: latentscale.Workspace) -> dict[str, bytes]:
    """All objects whose bytes no clock has a part in."""
    dated = ("artifact.json", "map.json", "manifest.json", "HEAD.json", "workspace.json")
    return {
        name: workspace.store.read_bytes(name)
        for name in workspace.store.list()
        if not name.startswith(("runs/", "leases/")) and not name.endswith(dated)
    }


def test_a_map_in_space_is_shown_on_its_way_and_is_the_same_to_the_bit(
    tmp_path: Path, small_corpus: Path, written: list[Page]
) -> None:
    settings = {**SETTINGS, "project": {"map_dimensions": 3, "n_epochs": 50}}
    plain = latentscale.run(str(small_corpus), out=tmp_path / "plain" / "x", progress="quiet", **settings)
    assert written == []
    settings["project"]["preview"] = True
    made = latentscale.run(str(small_corpus), out=tmp_path / "shown" / "x", progress="quiet", **settings)

    one, two = (latentscale.open(tmp_path / which / "x") for which in ("plain", "shown"))
    before, after = objects(one), objects(two)
    ended = after.pop(NAME).decode()
    assert before == after
    assert read_head(one.store) == read_head(two.store) == made.id
    assert (made.id, made.record.request, made.record.job) == (plain.id, plain.record.request, plain.record.job)
    assert made.record.parts == plain.record.parts

    states = ["after 13 of 50 steps (26%)", "after 25 of 50 steps (50%)", "after 38 of 50 steps (76%)"]
    where = str(tmp_path / "shown" / "x" / NAME)
    expected = [
        *(f"preview of the layout {state}: {where}" for state in states),
        f"preview of the layout, done: {where}",
        *(f"preview of the heights {state}: {where}" for state in states),
        f"preview of the heights, done: {where}",
    ]
    assert notes(tmp_path / "shown" / "x") == expected
    said = [page.manifest["preview"]["said"] for page in written]
    assert said[0] == (
        "The layout after 13 of 50 steps (26%), of all 600 documents. Still to come: heights, clusters and labels."
    )
    assert said[-1] == "The heights, done, of all 600 documents. Still to come: clusters and labels."
    assert [("z" in page.manifest["generations"][0]) for page in written] == [False] * 4 + [True] * 4
    for page in written:
        (generation,) = page.manifest["generations"]
        assert (generation["documents"], generation["layers"]) == (600, [])
        assert page.manifest["preview"]["due"] >= preview.MIN_REFRESH
    # What is shown of the finished layout is where the map has its documents.
    points = made.points().collect()
    extent = [f(points[axis]) for f in (min, max) for axis in ("x", "y")]
    assert written[3].manifest["generations"][0]["extent"] == pytest.approx(extent, rel=1e-5)
    assert written[0].manifest["generations"][0]["extent"] != pytest.approx(extent, rel=1e-3)
    corpus = pl.read_parquet(small_corpus)
    assert set(written[0].documents["text"]) == {
        text if len(text) <= preview.CHARACTERS else f"{text[: preview.CHARACTERS]}…" for text in corpus["text"]
    }

    assert "is done" in ended
    assert 'href="viewer/index.html"' in ended
    assert "files" not in ended


def test_a_large_map_is_shown_by_a_uniform_sample_that_stays_the_same(
    tmp_path: Path, small_corpus: Path, written: list[Page], monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = sample_rows(1_000_000)
    assert (len(rows), len(np.unique(rows))) == (20_000, 20_000)
    assert (np.diff(rows) > 0).all()
    tenths = np.bincount(rows // 100_000, minlength=10)
    # Six standard deviations of a share of a tenth.
    assert np.abs(tenths - 2_000).max() < 255
    assert rows.tolist() == sample_rows(1_000_000).tolist()

    monkeypatch.setattr(preview, "SINGLE_PAGE_DOCUMENTS", 90)
    project = {"preview": True, "n_epochs": 8}
    latentscale.run(str(small_corpus), out=tmp_path / "ws", progress="quiet", project=project, **SETTINGS)
    assert len(written) == 4
    assert "of 90 of the 600 documents, chosen at random" in written[0].manifest["preview"]["said"]
    packages = [page.documents["package"].to_list() for page in written]
    assert len(packages[0]) == 90
    assert sorted(packages[0]) == sorted(packages[-1])


def test_a_preview_shows_only_what_the_page_will_publish(tmp_path: Path, written: list[Page]) -> None:
    corpus = pl.DataFrame(
        {
            "text": [f"the secret text number {i} about the game {i % 7}" for i in range(60)],
            "kind": ["odd" if i % 2 else "even" for i in range(60)],
            "hidden": ["hidden words"] * 60,
            "many": [[1, 2, 3]] * 60,
            "long": ["long " * 1_000] * 60,
        }
    )
    latentscale.run(
        corpus,
        out=tmp_path / "ws",
        progress="quiet",
        project={"preview": True, "n_epochs": 4},
        publish={"text": "none", "columns": ["kind", "many", "long"], "title": "A </script><b>title</b>"},
    )
    assert len(written) == 4
    for page in written:
        assert page.manifest["title"] == "A </script><b>title</b>"
        documents = page.documents
        assert {"kind", "long"} <= set(documents.columns)
        assert not {"text", "hidden", "many"} & set(documents.columns)
        assert set(documents["long"].str.len_chars()) == {preview.CHARACTERS + 1}
        assert b"secret" not in b"".join(page.files.values())


def test_a_failed_or_killed_run_leaves_no_misleading_preview(
    tmp_path: Path, small_corpus: Path, written: list[Page], monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "ws"
    project = {"preview": True, "n_epochs": 8}
    # Six hundred documents in clusters of two hundred: no coarser layer, which is known after the layout.
    few = {"cluster": {"min_cluster_size": 200}, "publish": {"partition_by": "layer_2"}}
    with pytest.raises(ConfigError, match="there is no layer_2"):
        latentscale.run(str(small_corpus), out=out, progress="quiet", project=project, **few)
    assert len(written) == 4
    ended = (out / NAME).read_text()
    assert "ended before the map was done" in ended
    assert "href" not in ended
    # As a killed run leaves it: the next one that publishes a map leads there, whatever its settings.
    (out / NAME).write_text(written[1].text)
    latentscale.run(str(small_corpus), out=out, progress="quiet", project={"n_epochs": 8}, **SETTINGS)
    assert len(written) == 4
    assert "viewer/index.html" in (out / NAME).read_text()
    # One that publishes nothing has no page to lead to.
    latentscale.open(out).map(project={"preview": True, "n_epochs": 9})
    assert len(written) == 8
    assert "did not publish the map to this workspace" in (out / NAME).read_text()
    # A preview that cannot be written costs no run its map.
    put = Store.put_bytes

    def full(self: Store, name: str, data: bytes | memoryview) -> Any:
        if name == NAME and b'id="files"' in data:
            raise StorageError("the disk is full")
        return put(self, name, data)

    monkeypatch.setattr(Store, "put_bytes", full)
    settings = {**SETTINGS, "project": {"preview": True, "n_epochs": 10}}
    latentscale.run(str(small_corpus), out=out, progress="quiet", **settings)
    assert notes(out)[0] == "no preview of the layout after 3 of 10 steps (30%): the disk is full"
    assert len(notes(out)) == 4


def test_large_maps_whose_page_is_published_have_one_by_default(
    tmp_path: Path, small_corpus: Path, written: list[Page], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(previewed, "DOCUMENTS", 600)
    out = tmp_path / "ws"

    def pages(**settings: Any) -> int:
        before = len(written)
        latentscale.run(str(small_corpus), out=out, progress="quiet", **SETTINGS, **settings)
        return len(written) - before

    assert pages(project={"n_epochs": 8}) == 4
    latentscale.open(out).map(project={"n_epochs": 11})
    assert len(written) == 4
    assert pages(project={"n_epochs": 9}, publish={"viewer": False}) == 0
    assert pages(project={"n_epochs": 10, "preview": False}) == 0
    assert pages(project={"n_epochs": 10, "preview": True}) == 0, "the layout was there"
    monkeypatch.setattr(previewed, "DOCUMENTS", 601)
    assert pages(project={"n_epochs": 12}) == 0


def test_the_file_is_as_large_as_planned(tmp_path: Path, demo: pl.DataFrame, written: list[Page]) -> None:
    corpus = demo[:3_000]
    corpus.write_parquet(tmp_path / "corpus.parquet")
    settings: dict[str, Any] = {**SETTINGS, "project": {"preview": True, "n_epochs": 8}}
    latentscale.run(str(tmp_path / "corpus.parquet"), out=tmp_path / "ws", text="text", progress="quiet", **settings)
    config = JobConfig.model_validate({"corpus": {"sources": ["demo"]}, "out": "nowhere", **settings})
    text_bytes = float(corpus["text"].str.len_bytes().sum())
    planned = previewed.preview_cost(JobSize(documents=3_000, dim=256, text_bytes=text_bytes), config)
    assert planned is not None
    for page in written:
        assert len(page.text.encode()) == pytest.approx(planned.file_bytes, rel=0.2)


def test_a_preview_that_cannot_be_shown_is_refused_before_reading(tmp_path: Path) -> None:
    missing = str(tmp_path / "missing.parquet")
    with pytest.raises(ConfigError, match=r"the backend cuml shows no layout before it is done") as refused:
        latentscale.run(
            missing,
            out=tmp_path / "ws",
            progress="quiet",
            project={"preview": True, "backend": "cuml"},
            engine={"resources": {"project": {"gpus": 0}}},
        )
    assert refused.value.where == "project.preview"
    with pytest.raises(ConfigError, match=r"project\.preview shows a page, and publish\.viewer is false"):
        latentscale.run(
            missing, out=tmp_path / "ws", progress="quiet", project={"preview": True}, publish={"viewer": False}
        )
    assert not (tmp_path / "ws").exists()


def test_auto_chooses_the_same_with_a_preview(
    tmp_path: Path, small_corpus: Path, written: list[Page], monkeypatch: pytest.MonkeyPatch
) -> None:
    own = CpuBackend.layout

    def layout(self: CpuBackend, graph: Any, vectors: Any, *, progress: Any = None, **settings: Any) -> Any:
        return own(self, graph, vectors, progress=progress, **settings)

    monkeypatch.setattr(CpuBackend, "layout", layout)
    config = JobConfig.model_validate(
        {"corpus": {"sources": ["x"]}, "out": "y", "project": {"preview": True, "init": "pca"}}
    )
    assert abilities.layout_lacks(CpuBackend, config) is None
    project = {"preview": True, "n_epochs": 8}
    latentscale.run(str(small_corpus), out=tmp_path / "ws", progress="quiet", project=project, **SETTINGS)
    first, second = notes(tmp_path / "ws")
    assert first == "the backend cpu shows no layout before it is done: the preview comes then"
    assert second.startswith("preview of the layout, done: ")
    assert len(written) == 1


def test_the_preview_of_a_refit_is_aligned(tmp_path: Path, small_corpus: Path, written: list[Page]) -> None:
    out = tmp_path / "ws"
    latentscale.run(str(small_corpus), out=out, progress="quiet", project={"n_epochs": 30}, **SETTINGS)
    workspace = latentscale.open(out)
    seen: list[tuple[int, Any]] = []
    show = Preview.show

    def keep(self: Preview, row_ids: Any, coordinates: Any, done: int, total: int) -> None:
        show(self, row_ids, coordinates, done, total)
        seen.append((done, coordinates.copy()))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Preview, "show", keep)
        refit = workspace.update(refit=True, project={"preview": True, "n_epochs": 31, "seed": 7})
    points = refit.points().collect().sort("row_id").select("x", "y").to_numpy()
    assert [done for done, _ in seen] == [8, 16, 24, 1]
    np.testing.assert_array_equal(seen[-1][1], points.astype(np.float32))
    # Three quarters of the way it lies as the map does, and not turned or mirrored against it.
    for axis in (0, 1):
        assert np.corrcoef(seen[2][1][:, axis], points[:, axis])[0, 1] > 0.9


def test_the_command_line_asks_for_it(
    tmp_path: Path, small_corpus: Path, written: list[Page], monkeypatch: pytest.MonkeyPatch
) -> None:
    from latentscale.cli.main import main

    monkeypatch.setattr("latentscale.cli.main.silence_libraries", lambda: None)
    steps = ("--set", "project.n_epochs=8", "--progress", "quiet")
    for flag, pages in (("--no-preview", 0), ("--preview", 4)):
        with pytest.raises(SystemExit) as ended:
            main(["run", str(small_corpus), "--out", str(tmp_path / flag), *steps, flag])
        assert ended.value.code in (0, None)
        assert len(written) == pages


def test_a_preview_is_served_until_there_is_a_map(tmp_path: Path) -> None:
    (tmp_path / NAME).write_text("the preview")
    with PageServer(Store(str(tmp_path)), port=0) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        first = server.address
        assert first.endswith(f"/{NAME}")
        with urllib.request.urlopen(first.removesuffix(NAME)) as answer:
            assert (answer.url, answer.read()) == (first, b"the preview")
        for name in ("manifest.json", "index.html"):
            (tmp_path / "viewer").mkdir(exist_ok=True)
            (tmp_path / "viewer" / name).write_text(name)
        with urllib.request.urlopen(first.removesuffix(NAME)) as answer:
            assert (answer.url, answer.read()) == (server.address, b"index.html")
        assert server.address.endswith("/viewer/index.html")
        server.shutdown()
