"""A file that returns after documents of another file took the identities of its rows."""

from __future__ import annotations

import shutil
from pathlib import Path

import polars as pl
import pytest

import latentscale
from latentscale.errors import WorkspaceError
from latentscale.stages.ingest import plan
from latentscale.storage import identity
from latentscale.upkeep.verify import verify_workspace


def map_with_returned_file(root: Path, documents: pl.DataFrame, *, viewer: bool = True) -> latentscale.Workspace:
    """A map whose second file was replaced by its rows in another order under another name, and then returned."""
    corpus = root / "corpus"
    corpus.mkdir()
    documents[:200].write_parquet(corpus / "a.parquet")
    documents[200:300].write_parquet(corpus / "b.parquet")
    latentscale.run(
        str(corpus),
        out=root / "ws",
        text="text",
        progress="quiet",
        cluster={"method": "kmeans", "n_clusters": 3},
        publish={"viewer": viewer},
    )
    shutil.move(corpus / "b.parquet", root / "kept.parquet")
    documents[200:300].reverse().write_parquet(corpus / "c.parquet")
    workspace = latentscale.open(root / "ws")
    workspace.update()
    shutil.copy(root / "kept.parquet", corpus / "b.parquet")
    workspace.update()
    return workspace


def points(workspace: latentscale.Workspace) -> pl.DataFrame:
    return workspace.the_map().points().select("row_id", "source", "x", "y", "package").collect().sort("row_id")


@pytest.fixture(autouse=True)
def one_unit_per_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan, "TINY_BYTES", 0)


def test_every_document_has_its_own_row_id(tmp_path: Path, demo: pl.DataFrame) -> None:
    workspace = map_with_returned_file(tmp_path, demo.sort("package").head(300))
    shown = points(workspace)
    assert shown["row_id"].n_unique() == len(shown) == 400
    assert verify_workspace(workspace.store).faults == []
    # Those that stayed on the map keep their row ids.
    kept = shown.filter(pl.col("source").cast(pl.String).str.contains("c.parquet"))
    assert kept["row_id"].to_list() == list(range(200, 300))
    workspace.update(refit=True)
    assert points(workspace)["row_id"].n_unique() == 400


def test_a_map_of_an_earlier_version_that_shares_them_is_refused_and_refitted(
    tmp_path: Path, demo: pl.DataFrame
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(identity, "_without_clashes", lambda found, shards: found)
        # With a page, versions that could leave it failed here.
        workspace = map_with_returned_file(tmp_path, demo.sort("package").head(300), viewer=False)
    assert points(workspace)["row_id"].n_unique() == 300
    faults = verify_workspace(workspace.store).faults
    assert any("gives two documents the row_id 200" in fault.problem and "--refit" in fault.next for fault in faults)
    with pytest.raises(WorkspaceError, match="two documents of one row_id") as raised:
        workspace.update()
    assert "--refit" in str(raised.value.hint)
    workspace.update(refit=True)
    shown = points(workspace)
    assert shown["row_id"].n_unique() == len(shown) == 400
