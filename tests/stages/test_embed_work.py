"""Work of embedding workers is measured in the workers, and is in the record, the status and the metrics."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from prometheus_client.parser import text_string_to_metric_families

import latentscale
from latentscale.cli.report import print_status
from latentscale.config import IngestConfig
from latentscale.embedders.protocol import Embedded
from latentscale.engines import local
from latentscale.errors import CorpusError
from latentscale.pipeline.embed_work import LISTED, EmbedWork, Widths
from latentscale.pipeline.prometheus import metrics_text
from latentscale.stages import ingest
from latentscale.stages.embed import EmbeddingRequest, EmbedWorker
from latentscale.stages.embed_receipt import EmbedReceipt, ShardWork, WorkClock
from latentscale.storage.objects import Store
from latentscale.storage.parquet import read_footer
from latentscale.storage.receipts import Receipts
from latentscale.storage.runs import latest_runs


def receipt(
    key: str, worker: str = "a:1", *, rows: int = 10, dim: int = 4, reused: int = 0, **work: Any
) -> EmbedReceipt:
    facts = {"device": "cpu", "load_seconds": 0.5, "computing": 2.0, "waiting": 0.0} | work
    return EmbedReceipt(
        key=key,
        rows=rows,
        embedded=rows,
        unique=rows,
        tokens=5 * rows,
        unknown=0,
        truncated=0,
        dim=dim,
        reused=reused,
        work=ShardWork(worker=worker, **facts),
    )


@pytest.fixture
def corpus(tmp_path: Path) -> list[str]:
    for name in ("a", "b"):
        frame = pl.DataFrame({"text": [f"letter {name} number {i} of a card" for i in range(40)]})
        frame.write_parquet(tmp_path / f"{name}.parquet")
    return [str(tmp_path / "a.parquet"), str(tmp_path / "b.parquet")]


def job(corpus: list[str], out: Path, **groups: Any) -> dict[str, Any]:
    return {
        "out": str(out),
        "corpus": {"sources": corpus, "text": "text"},
        "ingest": {"shard_rows": 20},
        "engine": {"name": "local", "workers": 2},
        **groups,
    }


@pytest.mark.parametrize("processes", [False, True])
def test_a_run_records_the_work_of_each_worker(
    corpus: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    processes: bool,
    capsys: pytest.CaptureFixture[str],
) -> None:
    if processes:
        monkeypatch.setattr(local, "PROCESS_SECONDS", 0.0)
    values = job(corpus, tmp_path / "ws")
    workspace = latentscale.open(values["out"], must_exist=False)
    record = workspace.run(values, until="embed", progress="quiet").records["embed"]
    figures = record.choices["work"]
    assert (figures["documents"], figures["devices"]) == (80, {"cpu": figures["workers"]})
    assert figures["tokens"] == record.counts["tokens"]
    assert sum(one["shards"] for one in figures["by_worker"]) == 4
    assert all(one["computing_seconds"] > 0 and 0 <= one["waiting_share"] < 1 for one in figures["by_worker"])
    if processes:
        # One may have done all before the other was ready.
        assert 1 <= figures["workers"] <= 2
        assert min(one["load_seconds"] for one in figures["by_worker"]) > 0
    # The second run embeds nothing: the status still says what the first one did.
    assert workspace.run(values, until="embed", progress="quiet").made == []
    status = workspace.status()
    assert {key: status["embedding"][key] for key in figures} == figures
    assert status["embedding"]["run"] != status["last_run"]["id"]
    print_status(status)
    said = capsys.readouterr().out
    assert "80 documents by" in said
    assert "of the time waiting" in said


def test_measurements_of_a_run_are_not_stored_with_the_vectors(corpus: list[str], tmp_path: Path) -> None:
    values = job(corpus, tmp_path / "ws")
    latentscale.open(values["out"], must_exist=False).run(values, until="embed", progress="quiet")
    store = Store(values["out"])
    for name in store.list("embeddings"):
        if name.endswith(".parquet"):
            assert not {"work", "seconds"} & set(read_footer(store, name).facts)


def test_waiting_and_computing_are_measured_separately(monkeypatch: pytest.MonkeyPatch) -> None:
    moments = iter([0.0, 0.0, 3.0, 5.0, 9.0, 10.0, 12.0])
    clock_module = "latentscale.stages.embed_receipt.time.perf_counter"
    monkeypatch.setattr(clock_module, lambda: next(moments))
    clock = WorkClock("cuda:0")
    assert next(moments) == 0.0
    clock.loaded()
    first = clock.end(clock.begin(), 2)
    assert (first.load_seconds, first.waiting, first.computing, first.halved) == (3.0, 2.0, 4.0, 2)
    second = clock.end(clock.begin(), 0)
    assert (second.load_seconds, second.waiting, second.computing, second.device) == (3.0, 1.0, 2.0, "cuda:0")


def test_overlapping_time_of_two_shards_counts_once(monkeypatch: pytest.MonkeyPatch) -> None:
    moments = iter([0.0, 1.0, 2.0, 4.0, 7.0, 9.0, 9.5, 12.0])
    monkeypatch.setattr("latentscale.stages.embed_receipt.time.perf_counter", lambda: next(moments))
    clock = WorkClock("cuda:0")
    clock.loaded()
    first, second = clock.begin(), clock.begin()
    assert (first, second) == (2.0, 4.0)
    ended = [clock.end(first, 0), clock.end(second, 0)]
    assert [(one.waiting, one.computing) for one in ended] == [(1.0, 5.0), (0.0, 2.0)]
    third = clock.end(clock.begin(), 0)
    assert (third.waiting, third.computing) == (0.5, 2.5)


def test_the_figures_add_up_and_the_slowest_worker_comes_first() -> None:
    work = EmbedWork(lambda figures: None)
    assert not work
    for i in range(LISTED + 2):
        work.add(receipt(f"k{i}", f"node:{i}", computing=1.0 + i, waiting=1.0, halved=i % 2))
    work.add(receipt("again", "node:0", rows=10, reused=10))
    figures = work.as_json()
    assert figures["workers"] == LISTED + 2
    assert figures["documents"] == 10 * (LISTED + 2)
    assert figures["halved"] == (LISTED + 2) // 2
    assert len(figures["by_worker"]) == LISTED
    rates = [one["documents_per_second"] for one in figures["by_worker"]]
    assert rates == sorted(rates)
    assert figures["by_worker"][0]["worker"] == f"node:{LISTED + 1}"


def test_a_long_run_reports_every_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("latentscale.pipeline.embed_work.WRITTEN_EVERY", 0.0)
    seen: list[dict[str, Any]] = []
    work = EmbedWork(seen.append)
    work.add(receipt("a"))
    work.add(receipt("b"))
    assert [figures["documents"] for figures in seen] == [10, 20]


def test_the_figures_reach_the_metrics_file() -> None:
    work = EmbedWork(lambda figures: None)
    work.add(receipt("a", "x:1", computing=4.0, waiting=1.0, device="cuda:0", halved=3))
    ending = {
        "event": "run done",
        "time": "2026-01-01T00:00:00+00:00",
        "exit_code": 0,
        "seconds": 1.0,
        "workspace": "w",
    }
    text = metrics_text([{"event": "embedding", **work.as_json()}, ending])
    found = {family.name: family.samples for family in text_string_to_metric_families(text)}
    (waiting,) = found["latentscale_embed_waiting_ratio"]
    assert (waiting.labels, waiting.value) == ({"workspace": "w", "worker": "0", "device": "cuda:0"}, 0.2)
    assert found["latentscale_embed_documents_per_second"][0].value == 2.0
    assert found["latentscale_embed_tokens_per_second"][0].value == 10.0
    assert found["latentscale_embed_halved_batches"][0].value == 3.0


def test_differing_widths_are_refused_naming_both_shards() -> None:
    widths = Widths(lambda key: f"{key}.parquet")
    widths.add("one", 4)
    widths.add("two", 4)
    with pytest.raises(CorpusError, match=r"4 in one\.parquet, 5 in three\.parquet") as caught:
        widths.add("three", 5)
    assert caught.value.where == "shards one and three"
    earlier = Receipts(EmbedReceipt)
    earlier.add([receipt("x", dim=4), receipt("none", rows=0, dim=0), receipt("y", dim=6)])
    with pytest.raises(CorpusError, match=r"4 in x\.parquet, 6 in y\.parquet"):
        Widths(lambda key: f"{key}.parquet").add_all(earlier)


class Wrong:
    """An embedder with invalid results."""

    def __init__(self, rows: int, width: int, value: float = 1.0) -> None:
        self._answer = np.full((rows, width), value, np.float32)

    def embed(self, texts: list[str]) -> Embedded:
        there = np.ones(len(self._answer), bool)
        return Embedded(vectors=self._answer, embeddable=there, tokens=1, unknown=0, truncated=0)


@pytest.mark.parametrize(
    ("embedder", "said"),
    [
        (Wrong(3, 256), "3 vectors for 20 texts"),
        (Wrong(20, 255), "vectors of 255 numbers, and this embedding has vectors of 256"),
        (Wrong(20, 256, float("nan")), "not finite"),
    ],
)
def test_invalid_results_of_an_embedder_are_refused(
    corpus: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, embedder: Wrong, said: str
) -> None:
    from latentscale.embedders.static import StaticSpec

    values = job(corpus, tmp_path / "ws")
    workspace = latentscale.open(values["out"], must_exist=False)
    snapshot = workspace.run(values, until="ingest", progress="quiet").snapshot
    assert snapshot is not None
    monkeypatch.setattr("latentscale.stages.embed.opened_embedder", lambda spec, device: embedder)
    spec = StaticSpec()
    request = EmbeddingRequest(model=spec.identity(), dtype="float16", text="text")
    with pytest.raises(CorpusError, match=said) as caught:
        EmbedWorker(workspace.store, spec, request)(snapshot.shards[0])
    assert caught.value.where == snapshot.shards[0].name
    assert not any(name.endswith(".parquet") for name in workspace.store.list("embeddings"))
    assert next(latest_runs(workspace.store))["facts"].get("embedding") is None


def test_vectors_of_two_widths_are_refused_naming_their_files() -> None:
    """Different workers read the files, so that none has seen both."""
    receipts = Receipts(ingest.ShardReceipt)
    for key, width in (("a", 2), ("none", None), ("b", 3)):
        counts = dict.fromkeys(("rows", "rows_in"), 1) | dict.fromkeys(("rejected", "filtered", "unwanted", "bytes"), 0)
        named = {"key": key, "name": key, "unit": key, "index": 0, "last": True, "vector_width": width}
        empty: dict[str, Any] = {"reasons": {}, "examples": [], "columns": [], "types": {}, "renamed": {}}
        receipts.add([ingest.ShardReceipt(**named, **counts, **empty)])
    with pytest.raises(CorpusError, match=r"2 in a\.parquet, 3 in b\.parquet"):
        ingest.check_rejects(receipts, IngestConfig(), described=lambda key: f"{key}.parquet")
