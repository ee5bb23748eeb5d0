"""A file that a command writes never becomes a document of the corpus that it is about."""

from __future__ import annotations

import shutil
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


def test_what_is_written_there_and_no_document_is_not_refused(made: Path, latentscale: Callable[..., Ended]) -> None:
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


def test_a_corpus_elsewhere_and_one_in_a_bucket_refuse_nothing(tmp_path: Path) -> None:
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
