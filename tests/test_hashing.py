"""Ids and texts are hashed by the workers: outputs are the same, and the driver reads no text."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pytest

import latentscale
from latentscale.config import EngineConfig
from latentscale.engines import Quarantined, open_engine
from latentscale.errors import EnvironmentFailure
from latentscale.pipeline import hashing
from latentscale.storage import hashed_rows

LINES = ["the first text that is in two files", "another one", "a third that is in both", "one more of its kind"]


@pytest.fixture
def hashing_only_in_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make hashing in the driver an error, however little work there is."""

    def fail_in_driver(column: pa.ChunkedArray) -> Any:
        raise AssertionError("the driver hashes texts")

    monkeypatch.setattr(hashing, "HERE_SECONDS", 0.0)
    monkeypatch.setattr("latentscale.engines.local.PROCESS_SECONDS", 0.0)
    monkeypatch.setattr(hashed_rows, "hash_values", fail_in_driver)


def write_corpus(folder: Path) -> Path:
    folder.mkdir(parents=True)
    for number in range(4):
        texts = [f"{line} of file {number}" for line in LINES] + LINES[number:] + [LINES[0]]
        ids = [f"{number}-{row}" for row in range(len(texts) - 1)] + ["shared"]
        pl.DataFrame({"id": ids, "body": texts}).write_parquet(folder / f"{number}.parquet")
    return folder


def written_objects(folder: Path, corpus: Path, *, id: str | None) -> dict[str, bytes]:
    """All objects that a run and an update write, except records."""
    settings: dict[str, Any] = {
        "corpus": {"sources": str(corpus), "text": "body", "id": id},
        "embed": {"duplicates": "corpus"},
        "engine": {"workers": 2},
        "publish": {"viewer": False},
    }
    workspace = latentscale.Workspace(folder)
    workspace.run(settings)
    # The rewritten file holds documents of the one that is gone.
    first, *_ = files = sorted(corpus.glob("*.parquet"))
    pl.concat([pl.read_parquet(path) for path in files[:2]]).write_parquet(corpus / "4.parquet")
    first.unlink()
    workspace.update()
    kept = ("documents/", "embeddings/", "snapshots/", "ids/")
    return {
        name: workspace.store.read_bytes(name)
        for name in workspace.store.list()
        if name.startswith(kept) and name.endswith(".parquet")
    }


@pytest.mark.parametrize("id", [None, "id"])
def test_workers_leave_what_the_driver_would(tmp_path: Path, id: str | None, request: pytest.FixtureRequest) -> None:
    here = written_objects(tmp_path / "here", write_corpus(tmp_path / "a" / "corpus"), id=id)
    request.getfixturevalue("hashing_only_in_workers")
    there = written_objects(tmp_path / "there", write_corpus(tmp_path / "b" / "corpus"), id=id)
    assert sorted(there) == sorted(here)
    assert [name for name in here if here[name] != there[name]] == []
    assert any(name.startswith("ids/") for name in there)
    assert not any(name.startswith("ids/shards-") for name in there), "a run of hashes has taken them up"
    events = [event for run in latentscale.open(tmp_path / "there").runs for event in run_events(tmp_path, run["id"])]
    hashed = [event for event in events if event["event"] == "hashed"]
    assert {event["column"] for event in hashed} == {"body", *([id] if id else [])}


def run_events(folder: Path, run: str) -> list[dict[str, Any]]:
    return pl.read_ndjson(folder / "there" / "runs" / run / "events.jsonl", infer_schema_length=None).to_dicts()


def test_a_shard_that_kills_its_workers_ends_the_run_with_what_to_do(
    tmp_path: Path, hashing_only_in_workers: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = open_engine(EngineConfig(workers=2))
    work = type(engine).map_shards

    def dies(self: Any, make_worker: Any, tasks: Any, **settings: Any) -> Iterator[Any]:
        if settings["receipt_type"] is hashing.HashReceipt:
            return iter([Quarantined(key=tasks[0].key, tries=3, reason="its worker died 3 times")])
        return work(self, make_worker, tasks, **settings)

    monkeypatch.setattr(type(engine), "map_shards", dies)
    with pytest.raises(EnvironmentFailure, match=r"'id'.*was not hashed: its worker died 3 times") as error:
        written_objects(tmp_path / "out", write_corpus(tmp_path / "corpus"), id="id")
    assert "ingest.shard_rows" in str(error.value.hint)
