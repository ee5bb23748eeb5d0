"""A file that a command writes never becomes a document of the corpus that it is about."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest

import latentscale as ls
from latentscale.config import CorpusConfig
from latentscale.errors import RequestError
from latentscale.readers.inputs import list_inputs
from latentscale.readers.new_files import reading_source
from tests.cli.conftest import Ended


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, demo: pl.DataFrame) -> Path:
    """A corpus in a folder, and its workspace within it: ``latentscale run . --out maps``."""
    corpus = tmp_path_factory.mktemp("corpus")
    demo.head(60).write_parquet(corpus / "a.parquet")
    settings: dict[str, Any] = {"project": {"n_epochs": 5}, "cluster": {"method": "kmeans", "n_clusters": 3}}
    ls.run(corpus, text="text", out=corpus / "maps", progress="quiet", **settings)
    # Two maps to compare.
    ls.open(corpus / "maps").map(cluster={"method": "kmeans", "n_clusters": 4})
    return corpus


def test_every_command_that_writes_a_file_refuses_to_write_it_into_the_corpus(
    made: Path, latentscale: Callable[..., Ended], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(made)
    before = sorted(path.name for path in made.iterdir())
    for command in (
        ("export", "maps", "out.csv"),
        ("export", "maps", made / "b" / "out.jsonl", "--what", "text"),
        ("export", "maps", "a.parquet"),
        ("sample", "maps", "--out", "out.parquet"),
        ("duplicates", "maps", "--out", "out.csv"),
        ("duplicates", "maps", "--drop", "out.csv"),
        ("duplicates", "maps", "--keep", "out.csv"),
        ("labels", "export", "maps", "out.csv"),
    ):
        ended = latentscale(*command)
        assert ended.code == 2, command
        assert "would be read as documents by the next update" in ended.err
        assert "_exports" in ended.err
    assert sorted(path.name for path in made.iterdir()) == before
    assert len(pl.read_parquet(made / "a.parquet")) == 60


def test_outputs_in_the_corpus_folder_that_are_no_documents_are_allowed(
    made: Path, latentscale: Callable[..., Ended]
) -> None:
    first, second = (one.id for one in ls.open(made / "maps").maps[:2])
    assert latentscale("export", made / "maps", made / "_exports" / "out.csv").code == 0
    assert latentscale("export", made / "maps", made / "maps" / "out.csv").code == 0
    assert latentscale("export", made / "maps", made / "page").code == 0
    assert latentscale("export", made / "maps", made / "map.html").code == 0
    assert latentscale("labels", "export", made / "maps", made / "edits.yaml").code == 0
    assert latentscale("compare", made / "maps", first, second, made / "compared").code == 0
    assert latentscale("gallery", made / "maps", made / "gallery").code == 0
    placing = ("place", made / "a.parquet", "--text", "text", "--into", made / "maps", "--out", made / "placed")
    assert latentscale(*placing, "--page", made / "placed-page").code == 0
    found = list_inputs(CorpusConfig(sources=(str(made),)))
    assert [file.path for file in found] == ["a.parquet"]


@pytest.mark.parametrize(
    ("source", "format", "read", "unread"),
    [
        ("", "auto", ("x.csv", "z/x.xlsx", "x.csv.gz"), ("x.html", "edits.yaml", ".x.csv", "_z/x.csv", "ws/x.csv")),
        ("", "lines", ("x.html", "edits.yaml"), ("x.csv", "_x.html")),
        ("a.csv", "auto", ("a.csv",), ("x.csv", "z/a.csv")),
        ("*.csv", "auto", ("x.csv",), ("z/x.csv", "x.jsonl", "_x.csv")),
        ("z/**/*.csv", "auto", ("z/x.csv", "z/y/x.csv"), ("x.csv", "y/x.csv")),
    ],
)
def test_a_file_is_a_document_where_a_listing_has_it(
    tmp_path: Path, source: str, format: str, read: tuple[str, ...], unread: tuple[str, ...]
) -> None:
    (tmp_path / "ws").mkdir()
    (tmp_path / "ws" / "workspace.json").write_text('{"schema": 3, "latentscale": "1", "corpus": {}}')
    (tmp_path / "z").mkdir()
    named = str(tmp_path / source)
    for name in (*read, *unread):
        found = reading_source(tmp_path / name, [named], format, follow_links=None)
        assert found == (named if name in read else None), name
        # The same as when it is there.
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("text\nx\n")
        try:
            config = CorpusConfig.model_validate({"sources": [named], "format": format})
            listed = [file.url for file in list_inputs(config)]
            assert (str(tmp_path / name) in listed) == (name in read), name
        except ls.LatentScaleError:
            assert name in unread
        (tmp_path / name).unlink()


def test_outputs_are_allowed_next_to_a_corpus_elsewhere_or_in_a_bucket(tmp_path: Path) -> None:
    for source in ("demo", "s3://bucket/x", str(tmp_path / "nowhere"), str(tmp_path / "nowhere" / "*.csv")):
        assert reading_source(tmp_path / "x.csv", [source], "auto", follow_links=None) is None


def test_a_source_that_an_update_added_counts_too(made: Path, tmp_path: Path, demo: pl.DataFrame) -> None:
    shutil.copytree(made / "maps", tmp_path / "maps")
    (tmp_path / "more").mkdir()
    demo[60:70].write_parquet(tmp_path / "more" / "b.parquet")
    workspace = ls.open(tmp_path / "maps")
    workspace.update(tmp_path / "more")
    with pytest.raises(RequestError, match="would be read as documents"):
        workspace.export(tmp_path / "more" / "out.csv")
    assert not (tmp_path / "more" / "out.csv").exists()


def test_a_minus_is_no_file_for_any_command_that_writes_one(
    made: Path, latentscale: Callable[..., Ended], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    maps = made / "maps"
    for command in (
        ("export", maps, "-"),
        ("export", maps, "-", "--what", "points"),
        ("sample", maps, "--out", "-"),
        ("duplicates", maps, "--drop", "-"),
        ("labels", "export", maps, "-"),
        ("gallery", maps, "-"),
        ("compare", maps, *(one.id for one in ls.open(maps).maps[:2]), "-"),
        ("update", maps, "--metrics-file", "-"),
        ("run", made / "a.parquet", "--out", "-"),
        ("init", "-"),
    ):
        ended = latentscale(*command)
        assert ended.code == 2, command
        assert "- is no name of a file" in ended.err
    ended = latentscale("run", "-", "--out", "out")
    assert ended.code == 2
    assert "standard input is no corpus" in ended.err
    ended = latentscale("labels", "export", maps, "/dev/null")
    assert ended.code == 2
    assert "no plain file" in ended.err
    assert list(tmp_path.iterdir()) == []


def test_output_redirected_into_the_corpus_is_refused(made: Path, tmp_path: Path) -> None:
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    shutil.copy(made / "a.parquet", corpus)

    def run(*arguments: object, out: str = "/dev/null", err: str = "/dev/null") -> int:
        with (tmp_path / out).open("w") as one, (tmp_path / err).open("w") as other:
            command = [sys.executable, "-m", "latentscale", *map(str, arguments)]
            return subprocess.run(command, stdout=one, stderr=other, cwd=tmp_path, timeout=300).returncode

    asked = ("ingest", corpus, "--text", "text", "--out", "maps")
    assert run(*asked, out="corpus/log.csv", err="said") == 2
    assert "standard output: " in (tmp_path / "said").read_text()
    (corpus / "log.csv").unlink()
    # It is not written to say that the command failed, either.
    assert run(*asked, "--metrics-file", "corpus/m.csv") == 2
    assert not (corpus / "m.csv").exists()
    # No document of this corpus, as it is called.
    assert run(*asked, "--metrics-file", "corpus/m.prom", out="corpus/log") == 0
    assert run("status", "maps", out="corpus/log.csv") == 2
    assert run("status", "maps", err="corpus/log.csv") == 2
    (corpus / "log.csv").unlink()
    assert ls.open(tmp_path / "maps").snapshot.documents == 60
    # What looks for damage is not kept from it.
    shutil.copytree(made / "maps", tmp_path / "damaged")
    (tmp_path / "damaged" / "HEAD.json").write_text("{")
    assert run("verify", "damaged", out="log.txt", err="said") == 4
    assert "HEAD.json" in (tmp_path / "log.txt").read_text() + (tmp_path / "said").read_text()


def test_the_target_of_a_link_in_the_corpus_is_a_document(tmp_path: Path) -> None:
    for folder in ("corpus/in", "other/sub"):
        (tmp_path / folder).mkdir(parents=True)
    corpus, other = tmp_path / "corpus", tmp_path / "other"
    # The file that is to be written may not be there yet.
    (corpus / "in" / "l.csv").symlink_to(other / "out.csv")
    (corpus / "linked").symlink_to(other / "sub")
    (corpus / "h.csv").symlink_to("_exports/hidden.csv")
    folder, pattern = str(corpus), str(corpus / "**" / "*.csv")
    for file, source, follow, read in (
        (other / "out.csv", folder, True, True),
        (other / "out.csv", folder, None, False),
        (other / "out.csv", pattern, None, True),
        (other / "out.csv", pattern, False, False),
        (other / "out.csv", str(corpus / "*.csv"), None, False),
        (other / "sub" / "x.csv", folder, True, True),
        (other / "sub" / "_x.csv", folder, True, False),
        (other / "sub" / "x.png", folder, True, False),
        (other / "sub" / "x.csv", pattern, None, True),
        (other / "sub" / "x.csv", folder, None, False),
        (corpus / "_exports" / "hidden.csv", folder, None, True),
        (corpus / "_exports" / "other.csv", folder, None, False),
    ):
        found = reading_source(file, [source], "auto", follow_links=follow)
        assert (found == source) == read, (file, source, follow)
        # The same as when it is there.
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("text\nx\n")
        try:
            inputs = list_inputs(CorpusConfig.model_validate({"sources": [source], "follow_links": follow}))
            assert (str(file) in {str(Path(one.url).resolve()) for one in inputs}) == read, (file, source, follow)
        except ls.LatentScaleError:
            assert not read
        file.unlink()
