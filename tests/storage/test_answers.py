"""Stored answers of a service are found by their texts, and workers together never exceed the cost limit."""

from __future__ import annotations

import threading
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

from latentscale.embedders.service import Answer
from latentscale.errors import DamagedObjectError, ResourceError
from latentscale.services.terms import ServiceTerms
from latentscale.storage.answers import (
    AnswerIndex,
    forget_written,
    is_answer_name,
    model_key,
    read_answer,
    shard_of,
    write_answer,
)
from latentscale.storage.objects import Store
from latentscale.storage.spending import SpendingLog, delete_spending, read_spending
from latentscale.storage.vectors import vector_name

MODEL = model_key({"model": "m"})


def answer(rows: int, *, refused: int | None = None, width: int = 3) -> Answer:
    vectors = np.arange(rows * width, dtype=np.float32).reshape(rows, width)
    reasons = ["" if row != refused else "too long" for row in range(rows)]
    return Answer(vectors=vectors, reasons=reasons, tokens=np.arange(rows, dtype=np.int64))


def test_an_answer_is_found_by_its_texts_in_any_shard(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    name = write_answer(store, MODEL, "shard-1", ["a", "b", "half \ud800"], answer(3, refused=1))
    assert is_answer_name(name)
    assert shard_of(name) == "shard-1"
    index = AnswerIndex(store, MODEL)
    [(positions, found)] = index.find(["new", "half \ud800", "b"])
    assert positions.tolist() == [1, 2]
    assert found.vectors[0].tolist() == [6, 7, 8]
    assert list(found.reasons) == ["", "too long"]
    assert found.tokens.tolist() == [2, 1]
    assert list(AnswerIndex(store, model_key({"model": "other"})).find(["a"])) == []
    # Another worker answers, and dies; this one gets the shard.
    write_answer(store, MODEL, "shard-2", ["c"], answer(1))
    assert list(index.find(["c"])) == []
    index.look_again("shard-2")
    assert [positions.tolist() for positions, _ in index.find(["c"])] == [[0]]
    index.forget("shard-1")
    assert list(index.find(["a", "b"])) == []
    assert [positions.tolist() for positions, _ in index.find(["c"])] == [[0]]
    assert list(store.list("answers/" + MODEL + "/shard-1")) == []


def test_answers_of_a_shard_that_is_written_are_deleted_and_no_others(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    gone = write_answer(store, MODEL, "aa-1", ["a"], answer(1))
    kept = write_answer(store, MODEL, "bb-2", ["b"], answer(1))
    store.put_bytes(vector_name("embedding-1", "aa-1"), b"vectors")
    store.put_bytes(vector_name("embedding-2", "bb-2"), b"vectors of another embedding")
    forget_written(store, MODEL, "embedding-1")
    assert (store.exists(gone), store.exists(kept)) == (False, True)


def test_a_refusal_alone_has_no_width(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    name = write_answer(store, MODEL, "s", ["a"], answer(1, refused=0, width=0))
    assert read_answer(store, name).answer.vectors.shape == (1, 0)


def test_a_missing_answer_is_requested_again_and_a_renamed_one_is_damaged(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    name = write_answer(store, MODEL, "s", ["a"], answer(1))
    index = AnswerIndex(store, MODEL)
    other = name.replace(name[-36:-8], "0" * 28)
    store.put_bytes(other, store.read_bytes(name))
    with pytest.raises(DamagedObjectError, match="not those of its name"):
        read_answer(store, other)
    store.delete([name])
    assert list(index.find(["a"])) == []


def test_answers_count_against_the_limit_by_their_own_price(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    terms = ServiceTerms(
        price_per_million_tokens=2.0,
        price_per_million_output_tokens=10.0,
        max_cost=1_000 * 2.0 / 1e6,
        service="language model",
        settings="label.options",
    )
    log = SpendingLog(store, "run", terms)
    # A token of an answer costs as much as five that are sent.
    assert log.reserve(100, 100) == 600
    log.settle(600, 90, 40)
    assert log.reserve(100, 100) == 600
    with pytest.raises(ResourceError, match=r"label\.options\.max_cost = 0\.002"):
        SpendingLog(store, "run", terms).reserve(100, 100)
    log.settle(600, 10, 0)
    log.write()
    spent = read_spending(store, "run")
    assert (spent.requests, spent.tokens, spent.output_tokens) == (2, 100, 40)
    assert spent.cost(terms) == pytest.approx((100 * 2 + 40 * 10) / 1e6)
    assert spent.describe(terms) == "2 requests to the language model, 100 tokens and 40 of answers: 0.0006"


def test_the_total_spending_of_workers_never_exceeds_the_limit(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    limit = 10_000
    terms = ServiceTerms(price_per_million_tokens=1.0, max_cost=limit / 1e6)
    spent: list[int] = []

    def work() -> None:
        log = SpendingLog(store, "run", terms)
        done = 0
        try:
            while True:
                log.reserve(70)
                log.settle(70, 40)
                done += 40
        except ResourceError as error:
            assert "max_cost" in str(error)  # noqa: PT017 - in a thread
        spent.append(done)
        log.write()

    workers = [threading.Thread(target=work) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(300)
    assert len(spent) == 4
    assert 0.8 * limit < sum(spent) <= limit
    found = read_spending(store, "run")
    assert (found.tokens, found.requests) == (sum(spent), sum(spent) // 40)
    assert found.announced <= limit
    assert f"{sum(spent):,} tokens" in found.describe(terms)
    delete_spending(store, "run")
    assert read_spending(store, "run").requests == 0


def test_one_of_two_concurrent_announcements_that_fit_alone_is_refused(tmp_path: Path) -> None:
    together = threading.Barrier(2)

    class Racing(Store):
        """Each worker's first announcement is written before either looks at the other's."""

        def put_bytes(self, name: str, data: bytes) -> None:
            super().put_bytes(name, data)
            if not together.broken:
                with suppress(threading.BrokenBarrierError):
                    together.wait(120)
                together.abort()

    store = Racing(str(tmp_path))
    ended: list[str] = []

    def work() -> None:
        try:
            SpendingLog(store, "run", ServiceTerms(price_per_million_tokens=1.0, max_cost=100 / 1e6)).reserve(60)
        except ResourceError:
            ended.append("refused")
        else:
            ended.append("granted")

    workers = [threading.Thread(target=work) for _ in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(300)
    assert sorted(ended) == ["granted", "refused"]
    assert read_spending(store, "run").announced <= 100


def test_a_request_waits_for_those_in_flight_before_it_is_refused(tmp_path: Path) -> None:
    log = SpendingLog(Store(str(tmp_path)), "run", ServiceTerms(price_per_million_tokens=1.0, max_cost=100 / 1e6))
    log.reserve(60)
    begun, granted = threading.Event(), threading.Event()

    def later() -> None:
        begun.set()
        log.reserve(60)
        granted.set()

    thread = threading.Thread(target=later, daemon=True)
    thread.start()
    assert begun.wait(120)
    assert not granted.is_set()
    log.settle(60, 30)
    assert granted.wait(120)
    log.settle(60, 60)
    with pytest.raises(ResourceError, match="max_cost"):
        log.reserve(20)


def test_without_a_limit_nothing_is_announced(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    log = SpendingLog(store, "run", ServiceTerms())
    log.reserve(10**9)
    log.settle(10**9, 5)
    assert list(store.list("spending")) == []
    log.write()
    assert read_spending(store, "run").tokens == 5
