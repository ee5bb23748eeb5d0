"""Beginning a workspace."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest

from latentscale.config import parse_job
from latentscale.errors import WorkspaceError
from latentscale.storage.listing import Listing
from latentscale.storage.objects import Store
from latentscale.storage.workspace_record import WorkspaceRecord, claim_workspace

NO_UNITS = pa.array([], pa.large_string())


def claim(store: Store, source: str) -> WorkspaceRecord:
    job = parse_job({"corpus": {"sources": [source], "text": "text"}, "out": store.url}, where="the test")
    return claim_workspace(store, job, text_column="text", id_column=None, unit_keys=NO_UNITS)


class Overtaken(Store):
    """A store on which another run begins the workspace between this one's look at it and its listing."""

    def list(self, prefix: str = "", *more: str, brief: bool = False) -> Listing:
        if prefix == "":
            claim(Store(self.url), self.first)
        return super().list(prefix, *more, brief=brief)

    first = ""


def test_two_runs_that_begin_a_workspace_at_once_share_it(tmp_path: Path) -> None:
    corpus = tmp_path / "corpus.csv"
    store = Overtaken(str(tmp_path / "map"))
    store.first = str(corpus)
    assert claim(store, str(corpus)) == claim(Store(store.url), str(corpus))


def test_a_folder_of_other_things_is_refused(tmp_path: Path) -> None:
    (tmp_path / "holiday.jpg").write_bytes(b"x")
    with pytest.raises(WorkspaceError, match=r"not empty and is not a workspace \(it holds 'holiday.jpg'\)"):
        claim(Store(str(tmp_path)), "corpus.csv")
