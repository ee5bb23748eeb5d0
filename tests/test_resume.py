"""Resuming: finished shards are not opened again, however their run ended."""

from __future__ import annotations

import shutil
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import polars as pl
import pytest

import latentscale
from latentscale.config import JobConfig
from latentscale.engines.pipelined import IN_FLIGHT
from latentscale.pipeline.observe import Observer
from latentscale.pipeline.run import run_job
from latentscale.stages.embed_receipt import EmbedReceipt
from latentscale.stages.ingest import ShardReceipt
from latentscale.storage.objects import Store
from latentscale.storage.receipts import read_receipts
from latentscale.upkeep.verify import verify_workspace
from tests.conftest import moved

sys.path.insert(0, str(Path(__file__).parent / "faults"))

from harness import Place, fork

SETTINGS: dict[str, Any] = {
    "ingest": {"shard_rows": 20},
    "cluster": {"min_cluster_size": 15},
    "engine": {"threads": 1},
}
SHARDS = 30


@contextmanager
def record_opened_shards() -> Iterator[list[str]]:
    """Record the names of shards that this process opens."""
    names: list[str] = []
    opened, read = Store.open, Store.read_bytes

    def record(name: str) -> None:
        if name.startswith(("documents/", "embeddings/")) and name.endswith(".parquet"):
            names.append(name)

    def recording_open(self: Store, name: str) -> BinaryIO:
        record(name)
        return opened(self, name)

    def recording_read(self: Store, name: str) -> bytes:
        record(name)
        return read(self, name)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Store, "open", recording_open)
        patch.setattr(Store, "read_bytes", recording_read)
        yield names


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, small_corpus: Path) -> Path:
    """A corpus of two files, and the workspace with its map of 30 shards."""
    root = tmp_path_factory.mktemp("finished")
    (root / "corpus").mkdir()
    frame = pl.read_parquet(small_corpus)
    frame[:300].write_parquet(root / "corpus" / "a.parquet")
    frame[300:].write_parquet(root / "corpus" / "b.parquet")
    latentscale.run(str(root / "corpus"), out=root / "ws", progress="quiet", quality={"against": "section"}, **SETTINGS)
    return root


@pytest.fixture
def copied(finished: Path, tmp_path: Path) -> Path:
    """A copy of the workspace; its corpus is not copied."""
    shutil.copytree(finished / "ws", tmp_path / "ws", copy_function=shutil.copy2)
    return tmp_path / "ws"


def shards(workspace: Path, folder: str) -> set[str]:
    return {path.relative_to(workspace).as_posix() for path in (workspace / folder).rglob("*-*.parquet")}


def config_of(corpus: Path, workspace: Path) -> JobConfig:
    return JobConfig.model_validate({"corpus": {"sources": [str(corpus)]}, "out": str(workspace), **SETTINGS})


def embedded(corpus: Path, workspace: Path) -> list[str]:
    """Run up to the embedding; the shards that this opened."""
    with record_opened_shards() as opened:
        run_job(config_of(corpus, workspace), Observer("quiet"), until="embed")
    return opened


def test_a_run_that_finds_everything_opens_no_shard(finished: Path, copied: Path) -> None:
    before = latentscale.open(copied).current
    assert before is not None
    assert len(shards(copied, "documents")) == len(shards(copied, "embeddings")) == SHARDS
    with record_opened_shards() as opened:
        again = latentscale.run(
            str(finished / "corpus"), out=copied, progress="quiet", quality={"against": "section"}, **SETTINGS
        )
    assert opened == []
    assert again.id == before.id


def test_another_map_of_the_same_documents_reads_no_shard_before_computing(copied: Path) -> None:
    workspace = latentscale.open(copied)
    current = workspace.current
    assert current is not None
    with record_opened_shards() as opened:
        assert workspace.map(quality={"against": "section"}).id == current.id
    assert opened == []


def test_tables_that_are_deleted_by_hand_are_written_again(finished: Path, copied: Path) -> None:
    shutil.rmtree(copied / "receipts")
    assert set(embedded(finished / "corpus", copied)) == shards(copied, "documents") | shards(copied, "embeddings")
    assert len(list((copied / "receipts").rglob("*.parquet"))) == 2
    assert embedded(finished / "corpus", copied) == []
    assert verify_workspace(Store(str(copied))).faults == []


def test_a_shard_that_is_deleted_by_hand_is_made_again_though_a_table_has_it(finished: Path, copied: Path) -> None:
    lost = min(shards(copied, "embeddings"))
    content = (copied / lost).read_bytes()
    (copied / lost).unlink()
    assert set(embedded(finished / "corpus", copied)) == {f"documents/{lost.split('/', 2)[2]}"}
    assert (copied / lost).read_bytes() == content


def test_after_updates_the_shards_of_all_earlier_runs_stay_in_the_tables(
    finished: Path, copied: Path, tmp_path: Path, demo: pl.DataFrame
) -> None:
    corpus = shutil.copytree(finished / "corpus", tmp_path / "corpus", copy_function=shutil.copy2)
    moved(copied, finished / "corpus", corpus)
    for night in range(2):
        demo.filter(pl.col("section") == "x11")[20 * night : 20 * night + 20].write_parquet(
            corpus / f"n{night}.parquet"
        )
        latentscale.open(copied).update(progress="quiet")
    store = Store(str(copied))
    for folder, kind in (("documents", ShardReceipt), ("embeddings", EmbedReceipt)):
        made = shards(copied, folder)
        assert len(made) > SHARDS
        (group,) = {folder if folder == "documents" else name.split("/")[1] for name in made}
        known = set(read_receipts(store, group, kind)[0].keys.to_pylist())
        assert known >= {Path(name).stem for name in made}


def test_after_an_interruption_only_unfinished_shards_are_opened(finished: Path, tmp_path: Path) -> None:
    workspace = tmp_path / "ws"
    put = Store.put_bytes
    written: list[str] = []
    one_by_one = threading.Lock()

    def stop_after_seven(self: Store, name: str, data: bytes | memoryview) -> Any:
        if name.startswith("embeddings/"):
            with one_by_one:
                if len(written) == 7:
                    raise KeyboardInterrupt
                written.append(name)
        return put(self, name, data)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Store, "put_bytes", stop_after_seven)
        with pytest.raises(KeyboardInterrupt):
            run_job(config_of(finished / "corpus", workspace), Observer("quiet"), until="embed")
    done = shards(workspace, "embeddings")
    assert len(done) == 7
    left = {name for name in shards(workspace, "documents") if not any(d.endswith(name[10:]) for d in done)}
    opened = embedded(finished / "corpus", workspace)
    assert {name for name in opened if name.startswith("documents/")} == left
    # The table is written when a run ends, however it does. What was in flight with the shard that was interrupted may
    # have been written before it, while its thread waited for the processor, and is in no table.
    assert len({name for name in opened if name.startswith("embeddings/")}) < IN_FLIGHT


def test_after_a_kill_in_the_middle_of_embedding_only_unfinished_documents_are_opened(
    finished: Path, tmp_path: Path
) -> None:
    workspace = tmp_path / "ws"
    settings = ["--set", "ingest.shard_rows=20", "--set", "engine.threads=1", "--progress", "quiet"]
    command = ["run", str(finished / "corpus"), "--out", str(workspace), *settings]
    process = fork(command, Place(str(workspace)), crash=r"after:^embeddings/.*\.parquet$:7")
    said, _ = process.communicate(timeout=300)
    assert process.returncode == -signal.SIGKILL, said
    done = shards(workspace, "embeddings")
    assert 0 < len(done) < SHARDS
    left = {name for name in shards(workspace, "documents") if not any(d.endswith(name[10:]) for d in done)}
    (group,) = {name.split("/")[1] for name in done}
    known = set(read_receipts(Store(str(workspace)), group, EmbedReceipt)[0].keys.to_pylist())
    opened = embedded(finished / "corpus", workspace)
    assert {name for name in opened if name.startswith("documents/")} == left
    # A killed run has written no table since the last minute, where it took longer: what these say is read once.
    assert {name for name in opened if name.startswith("embeddings/")} == {d for d in done if Path(d).stem not in known}
    assert embedded(finished / "corpus", workspace) == []
