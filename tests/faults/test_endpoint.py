"""kill -9 while an embedding service is paid: only in-flight requests are paid twice."""

from __future__ import annotations

import re
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import harness
import polars as pl
import pytest
from harness import Child, Place, fork, start

from latentscale.embedders.endpoint.embedder import PROBE
from latentscale.upkeep.verify import verify_workspace
from tests.embedders.embedding_server import DROPPED, KEY, EmbeddingServer, Request, Said, embedding_server

pytest.importorskip("httpx", reason="the extra 'endpoint' is not installed")

SHARD_ROWS = 60
TEXTS_A_REQUEST, CONCURRENCY = 5, 3
IN_FLIGHT = TEXTS_A_REQUEST * CONCURRENCY


class Paid:
    """A corpus, a workspace in which it is ingested, and the service that embeds it."""

    def __init__(self, folder: Path, server: EmbeddingServer, demo: pl.DataFrame, *more: str) -> None:
        self.server = server
        self.place = Place(str(folder / "map"))
        rows = demo["text"].to_list()[:120]
        self.texts = set(rows)
        self.shards = [set(rows[:SHARD_ROWS]), set(rows[SHARD_ROWS:])]
        demo.head(120).write_ndjson(folder / "a.jsonl")
        options = {
            "model": "m",
            "url": server.url,
            "api_key_env": "TEST_API_KEY",
            "max_batch_texts": TEXTS_A_REQUEST,
            "concurrency": CONCURRENCY,
        }
        settings = ["embed.model=endpoint", "embed.max_tokens=100000", f"ingest.shard_rows={SHARD_ROWS}"]
        settings += [*more, *(f"embed.options.{key}={value}" for key, value in options.items())]
        given = [part for one in settings for part in ("--set", one)]
        self.command = ["embed", self.place.url, *given, "--progress", "quiet"]
        ingest = ["ingest", str(folder / "a.jsonl"), "--out", self.place.url, *given]
        harness.finish(ingest, self.place, process=fork(ingest, self.place))

    def killed(self, crash: str) -> bool:
        """Whether a start is killed, as ``crash`` says."""
        process = fork(self.command, self.place, crash=crash)
        said, _ = process.communicate(timeout=300)
        assert process.returncode in (0, -signal.SIGKILL), said
        return process.returncode == -signal.SIGKILL

    def finish(self) -> None:
        harness.finish(self.command, self.place, process=fork(self.command, self.place))

    def paid_twice(self) -> int:
        """How many texts were paid for that had been answered before."""
        # A copy: the service may still answer a client that was killed a moment ago.
        return sum(count for text, count in list(self.server.paid.items()) if text != PROBE) - len(self.texts)

    def check_end(self, kills: int) -> None:
        assert self.paid_twice() <= kills * IN_FLIGHT
        assert verify_workspace(self.place.store).faults == []
        vectors = pl.concat([pl.read_parquet(path) for path in Path(self.place.url).glob("embeddings/*/*/*.parquet")])
        assert (len(vectors), vectors["vector"].null_count()) == (120, 0)
        assert list(self.place.store.list("answers")) == []


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[EmbeddingServer]:
    monkeypatch.setenv("TEST_API_KEY", KEY)
    with embedding_server() as one:
        yield one


@contextmanager
def one_shard_answered(paid: Paid) -> Iterator[None]:
    """The texts of the second shard get no answer once those of one are paid: they are asked for while it is written.

    Either may be the first, and another one after a kill: a worker computes what was read first.
    """
    over = threading.Event()

    def rule(request: Request) -> Said | None:
        answered = set(paid.server.paid)
        if any(shard <= answered and not shard & set(request.texts) for shard in paid.shards):
            over.wait(600)
            return DROPPED
        return None

    paid.server.rule = rule
    try:
        yield
    finally:
        paid.server.rule = None
        over.set()


def test_a_kill_between_answers_or_before_they_are_deleted_loses_none(
    tmp_path: Path, demo: pl.DataFrame, server: EmbeddingServer
) -> None:
    paid = Paid(tmp_path, server, demo)
    with one_shard_answered(paid):
        assert paid.killed("after:^answers/:7")
        assert paid.killed("after:^embeddings/.*parquet$:1")
    assert list(paid.place.store.list("answers")), "those of the shard that is written were not deleted"
    assert paid.paid_twice() < 0, "the second shard is not paid yet"
    paid.finish()
    paid.check_end(kills=2)


def test_a_kill_among_texts_of_several_shards_pays_for_none_twice(
    tmp_path: Path, demo: pl.DataFrame, server: EmbeddingServer
) -> None:
    demo = demo.head(90).vstack(demo.slice(20, 30))
    paid = Paid(tmp_path, server, demo, "embed.duplicates=corpus")
    assert paid.killed("after:^answers/:3")
    assert paid.killed("after:^embeddings/.*/shared-texts/.*parquet$:1")
    assert paid.killed("after:^embeddings/[^/]*/../[^/]*parquet$:1")
    assert any("/shared-texts/" in name for name in paid.place.store.list("embeddings"))
    assert verify_workspace(paid.place.store).faults == []
    paid.finish()
    paid.check_end(kills=3)
    assert not any("/shared-texts/" in name for name in paid.place.store.list("embeddings"))


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_command_that_dies_after_each_write_in_turn_pays_each_text_once(
    tmp_path: Path, demo: pl.DataFrame, server: EmbeddingServer
) -> None:
    paid = Paid(tmp_path, server, demo)
    kills = number = 0
    while True:
        number += 1
        # Some writes further each time: a start takes a second, and each keeps what the earlier ones wrote.
        when = "after" if number % 2 else "before"
        if not paid.killed(f"{when}:^(answers|spending|rejects|embeddings)/:{1 + number % 3}"):
            break
        kills += 1
        assert kills < 60, "it comes to no end"
    assert kills > 6
    paid.check_end(kills)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("moment", [1, 4, 9, 14, 20, 24])
def test_a_kill_while_the_service_answers_costs_at_most_what_is_in_flight(
    tmp_path: Path, demo: pl.DataFrame, server: EmbeddingServer, moment: int
) -> None:
    """The service itself kills who asks, when it has computed the answer and not sent it."""
    paid = Paid(tmp_path, server, demo)
    running: list[Child] = []
    ready = threading.Event()

    def rule(request: Request) -> Said | None:
        ready.wait(300)
        if request.number == moment:
            running[0].kill()
        return None

    server.rule = rule
    running.append(fork(paid.command, paid.place))
    ready.set()
    running[0].communicate(timeout=300)
    assert running[0].returncode == -signal.SIGKILL
    server.rule = None
    paid.finish()
    paid.check_end(kills=1)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_several_workers_share_the_answers_of_a_killed_run_and_its_limit(
    tmp_path: Path, demo: pl.DataFrame, server: EmbeddingServer
) -> None:
    paid = Paid(tmp_path, server, demo)
    assert paid.killed("after:^answers/:9")
    price = ["embed.options.price_per_million_tokens=1000", "embed.options.max_cost=1000"]
    several = [part for one in ["engine.resources.embed.workers=2", *price] for part in ("--set", one)]
    command = [*paid.command, *several]
    process = start(command, paid.place)
    said, _ = process.communicate(timeout=300)
    assert process.returncode == 0, said
    assert re.search(r"\d", said) is None or "Traceback" not in said
    paid.check_end(kills=1)
