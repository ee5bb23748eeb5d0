"""Beginning a workspace."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest

from latentscale.config import parse_job
from latentscale.errors import StorageError, WorkspaceError
from latentscale.readers.inputs import absolute_source
from latentscale.storage.objects import ObjectInfo, Store
from latentscale.storage.workspace_record import WorkspaceRecord, claim_workspace

NO_UNITS = pa.array([], pa.large_string())


def claim(store: Store, source: str) -> WorkspaceRecord:
    job = parse_job({"corpus": {"sources": [source], "text": "text"}, "out": store.url}, where="the test")
    sources = [absolute_source(source) for source in job.corpus.sources]
    return claim_workspace(store, job, text_column="text", id_column=None, sources=sources, unit_keys=NO_UNITS)


class Overtaken(Store):
    """A store on which another run begins the workspace between this one's look at it and its listing."""

    def find_first(self, wanted: Callable[[str], bool]) -> str | None:
        claim(Store(self.url), self.first)
        return super().find_first(wanted)

    first = ""


def test_two_runs_that_begin_a_workspace_at_once_share_it(tmp_path: Path) -> None:
    corpus = tmp_path / "corpus.csv"
    store = Overtaken(str(tmp_path / "map"))
    store.first = str(corpus)
    assert claim(store, str(corpus)) == claim(Store(store.url), str(corpus))


def test_a_folder_with_other_files_is_refused(tmp_path: Path) -> None:
    (tmp_path / "holiday.jpg").write_bytes(b"x")
    with pytest.raises(WorkspaceError, match=r"not empty and is not a workspace \(it holds 'holiday.jpg'\)"):
        claim(Store(str(tmp_path)), "corpus.csv")


class Swallowing(Store):
    """A store behind something that answers writes with success, and keeps nothing or something else."""

    kept: bytes | None = None

    def put_bytes(self, name: str, data: bytes | memoryview) -> ObjectInfo:
        if self.kept is not None:
            return super().put_bytes(name, self.kept)
        return ObjectInfo(name=name, size=len(data), version="1")


@pytest.mark.parametrize("kept", [None, b"<html>"])
def test_a_store_that_swallows_the_first_write_is_found_out(tmp_path: Path, kept: bytes | None) -> None:
    store = Swallowing(str(tmp_path / "map"))
    store.kept = kept
    with pytest.raises(StorageError, match=r"does not give back what was written to workspace.json"):
        claim(store, "corpus.csv")


BEGUN = (
    "documents/ab/abcdef0123456789-00000e.parquet",
    "rejects/ab/abcdef0123456789-00000e.parquet",
    "receipts/documents/0123456789abcdef.parquet",
    "runs/20261126T061851.123456Z-0a1b2c/run.json",
    "leases/20261126T061851.123456Z-0a1b2c.json",
    "attempts/20261126T061851.123456Z-0a1b2c/abcdef-00000/0123",
    "uploads/0123456789abcdef.parquet",
)


def test_a_new_workspace_that_lost_its_record_is_resumed(tmp_path: Path) -> None:
    store = Store(str(tmp_path / "map"))
    for name in BEGUN:
        store.put_bytes(name, b"x")
    assert claim(store, "corpus.csv").text_column == "text"


@pytest.mark.parametrize("name", ["documents/report.docx", "maps/map-0123456789abcdef/map.json", "runs/2026/a.txt"])
def test_an_advanced_workspace_without_a_record_is_refused(tmp_path: Path, name: str) -> None:
    store = Store(str(tmp_path / "map"))
    for one in (*BEGUN, name):
        store.put_bytes(one, b"x")
    with pytest.raises(WorkspaceError, match=rf"it holds '{name}'"):
        claim(store, "corpus.csv")
