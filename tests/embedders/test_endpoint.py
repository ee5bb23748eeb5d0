"""An endpoint: three protocols, and a service that misbehaves in every way."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from email.utils import formatdate
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from latentscale.config import EmbedConfig
from latentscale.embedders import embedder_spec
from latentscale.embedders.endpoint import EndpointSpec
from latentscale.embedders.endpoint.embedder import PROBE, EndpointEmbedder
from latentscale.embedders.endpoint.sizes import plan_requests, prepare
from latentscale.embedders.protocol import Embedded
from latentscale.embedders.service import Answer
from latentscale.errors import ConfigError, EnvironmentFailure, LatentScaleError, ResourceError
from latentscale.services.failures import UnansweredError
from latentscale.services.pace import Clock, Pacer, asked_wait, backoff_seconds, used_up
from tests.embedders.embedding_server import (
    DROPPED,
    KEY,
    EmbeddingServer,
    Request,
    Said,
    embedding_server,
    error,
    vector_of,
)

pytest.importorskip("httpx", reason="the extra 'endpoint' is not installed")


class Waits(Clock):
    """A clock whose waits take no time, and are remembered."""

    def __init__(self) -> None:
        self.waits: list[float] = []
        self._gone = 0.0

    def now(self) -> float:
        return self._gone

    def date(self) -> float:
        return 1_000_000_000.0 + self._gone

    def sleep(self, seconds: float, stop: threading.Event) -> None:
        self.waits.append(seconds)
        self._gone += seconds


class Kept:
    """A keeper in memory."""

    def __init__(self) -> None:
        self.known: dict[str, tuple[Any, str]] = {}
        self._lock = threading.Lock()

    def find(self, texts: Sequence[str]) -> Iterator[tuple[Any, Answer]]:
        for position, text in enumerate(texts):
            if text in self.known:
                vector, reason = self.known[text]
                yield np.array([position]), Answer(vectors=vector[None], reasons=[reason], tokens=np.array([1]))

    def keep(self, texts: Sequence[str], answer: Answer) -> None:
        with self._lock:
            for text, vector, reason in zip(texts, answer.vectors, answer.reasons, strict=True):
                self.known[text] = (vector, reason)


class Free:
    """Spending without a limit."""

    def __init__(self) -> None:
        self.tokens = self.reserved = 0
        self._lock = threading.Lock()

    def reserve(self, tokens: int, output: int = 0) -> int:
        with self._lock:
            self.reserved += tokens
        return tokens

    def settle(self, reserved: int, used: int, output: int = 0) -> None:
        with self._lock:
            self.reserved -= reserved
            self.tokens += used


OPENED: list[EndpointEmbedder] = []


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[EmbeddingServer]:
    monkeypatch.setenv("TEST_API_KEY", KEY)
    with embedding_server() as one:
        yield one
    while OPENED:
        OPENED.pop().close()


def spec_of(server: EmbeddingServer, *, max_tokens: int = 512, **options: Any) -> EndpointSpec:
    given = {"model": "m", "url": server.url, "api_key_env": "TEST_API_KEY", "concurrency": 2, **options}
    spec = embedder_spec(EmbedConfig(model="endpoint", options=given, max_tokens=max_tokens))
    assert isinstance(spec, EndpointSpec)
    return spec


def opened(server: EmbeddingServer, clock: Clock | None = None, **options: Any) -> EndpointEmbedder:
    OPENED.append(spec_of(server, **options).connect(clock or Waits()))
    return OPENED[-1]


def texts(number: int) -> list[str]:
    return [f"document {row} about topic {row % 5}" + " and more" * (row % 7) for row in range(number)]


def expected(given: Sequence[str]) -> Any:
    vectors = np.stack([vector_of(text) for text in given])
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def check(found: Embedded, given: Sequence[str]) -> None:
    np.testing.assert_allclose(found.vectors, expected(given), atol=1e-6)
    assert found.embeddable.all()
    assert found.reasons == {}


# ---------------------------------------------------------------------------------------------------------- protocols


@pytest.mark.parametrize("provider", ["compatible", "mistral", "tei", "voyage", "cohere"])
def test_every_protocol_gives_the_vectors_in_order(server: EmbeddingServer, provider: str) -> None:
    url = f"{server.base}/v2" if provider == "cohere" else server.url
    embedder = opened(server, provider=provider, url=url, max_batch_texts=7)
    given = texts(40)
    found = embedder.embed(given)
    check(found, given)
    assert found.tokens == sum(len(text.split()) for text in given)
    assert len(server.requests) == 6
    kinds = {request.values.get("input_type") for request in server.requests}
    assert kinds == {{"cohere": "search_document", "voyage": "document"}.get(provider)}
    embedder.embed_queries(["a question"])
    last = server.requests[-1].values
    assert last.get("input_type") == {"cohere": "search_query", "voyage": "query"}.get(provider)
    assert last.get("encoding_format") == (None if provider in ("mistral", "cohere") else "base64")


def test_dimensions_prompts_and_types_are_sent_as_each_service_names_them(server: EmbeddingServer) -> None:
    openai = opened(server, dimensions=8, document_prompt="passage: ", query_prompt="query: ")
    assert openai.embed(["one"]).vectors.shape == (1, 8)
    assert (server.requests[-1].values["dimensions"], server.requests[-1].texts) == (8, ["passage: one"])
    openai.embed_queries(["two"])
    assert server.requests[-1].texts == ["query: two"]
    cohere = opened(server, provider="cohere", url=f"{server.base}/v2", dimensions=8, input_type="clustering")
    cohere.embed(["one"])
    cohere.embed_queries(["two"])
    sent = [request.values for request in server.requests[-2:]]
    assert [values["input_type"] for values in sent] == ["clustering", "clustering"]
    assert all(values["output_dimension"] == 8 and values["truncate"] == "END" for values in sent)


def test_numbers_are_taken_where_base64_is_ignored_or_refused(server: EmbeddingServer) -> None:
    given = texts(12)
    server.base64 = False
    check(opened(server).embed(given), given)
    refused = error(422, "Extra inputs are not permitted: encoding_format")
    server.rule = lambda request: refused if "encoding_format" in request.values else None
    check(opened(server, max_batch_texts=4, max_attempts=1).embed(given), given)
    with pytest.raises(ConfigError, match="refuses every request"):
        opened(server, encoding="base64").embed(given)


def test_vectors_are_placed_by_their_index(server: EmbeddingServer) -> None:
    def shuffled(request: Request) -> dict[str, Any]:
        request.good["data"].reverse()
        return request.good

    server.rule = shuffled
    given = texts(9)
    check(opened(server).embed(given), given)


def test_requests_hold_no_more_texts_and_tokens_than_the_settings_allow(server: EmbeddingServer) -> None:
    given = [*texts(50), "long " * 300]
    check(opened(server, max_batch_texts=8, max_batch_tokens=60).embed(given), given)
    for request in server.requests:
        tokens = sum(-(-len(text) // 4) for text in request.texts)
        assert len(request.texts) <= 8
        assert tokens <= 60 or len(request.texts) == 1


def test_long_texts_are_cut_and_counted_and_what_cannot_be_sent_is_replaced(server: EmbeddingServer) -> None:
    found = opened(server, max_tokens=5).embed(["x" * 100, "naïve café " * 9, "short", "half \ud800 a pair", "nul \0"])
    assert found.truncated == 2
    sent = {text for request in server.requests for text in request.texts}
    assert "x" * 20 in sent
    assert all(len(text.encode()) <= 20 for text in sent)
    assert "half ? a pair" in sent
    assert prepare(["é" * 30], prompt="", max_tokens=4).texts == ["é" * 8]
    assert prepare(["é" * 30], prompt="", max_tokens=1).texts == ["é" * 2]


def test_the_key_is_the_providers_own_only_at_the_providers_own_address(
    server: EmbeddingServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-of-openai")
    spec = embedder_spec(EmbedConfig(model="endpoint", options={"model": "m", "url": server.url, "provider": "openai"}))
    server.key = None
    spec.open().embed(["one"])
    assert "authorization" not in server.requests[-1].headers
    monkeypatch.delenv("OPENAI_API_KEY")
    with pytest.raises(ConfigError, match="OPENAI_API_KEY is not set"):
        embedder_spec(EmbedConfig(model="endpoint", options={"model": "m"})).open()


def test_headers_come_from_variables(server: EmbeddingServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ORG", "acme")
    opened(server, headers_env={"OpenAI-Organization": "ORG"}).embed(["one"])
    assert server.requests[-1].headers["openai-organization"] == "acme"
    monkeypatch.setenv("ORG", "a\nb")
    with pytest.raises(ConfigError, match="no header can hold"):
        opened(server, headers_env={"OpenAI-Organization": "ORG"})


# ----------------------------------------------------------------------------------------------------- what goes wrong


@pytest.mark.parametrize(
    "said",
    [
        error(429),
        error(500),
        error(503, retry_after="2"),
        DROPPED,
        Said(body=b"{'not': json"),
        Said(body=b""),
        Said(body=b"[]"),
        Said(body=b'{"data": []}'),
        Said(body=b'{"data": [{"index": 0}]}'),
    ],
    ids=["429", "500", "503", "dropped", "malformed", "nothing", "list", "none", "no-embedding"],
)
def test_one_bad_answer_is_asked_for_again(server: EmbeddingServer, said: Said) -> None:
    server.first(said)
    given = texts(6)
    check(opened(server).embed(given), given)
    assert len(server.requests) == 2


def broken(change: str) -> Any:
    def rule(request: Request) -> dict[str, Any]:
        data = request.good["data"]
        if change == "fewer":
            data.pop()
        elif change == "more":
            data.append({**data[0], "index": len(data)})
        elif change == "duplicated":
            data[1]["index"] = 0
        elif change == "missing":
            del data[0]["index"]
        elif change == "beyond":
            data[0]["index"] = 99
        elif change == "widths":
            data[0]["embedding"] = data[0]["embedding"][:4]
        elif change == "nan":
            data[0]["embedding"][0] = None
        elif change == "text":
            data[0]["embedding"] = "not base64!"
        return request.good

    return rule


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("fewer", "5 vectors for 6 texts"),
        ("more", "7 vectors for 6 texts"),
        ("duplicated", "two items of 'data' have the index 0"),
        ("missing", "has the index None"),
        ("beyond", "has the index 99"),
        ("widths", "different widths"),
        ("nan", "NaN"),
        ("text", "not a list of numbers"),
    ],
)
def test_an_answer_that_stays_wrong_fails_with_what_is_wrong(server: EmbeddingServer, change: str, said: str) -> None:
    server.base64 = False
    server.rule = broken(change)
    with pytest.raises(EnvironmentFailure, match=said) as caught:
        opened(server, max_attempts=3).embed(texts(6))
    assert "in 3 attempts" in caught.value.message
    assert len(server.requests) == 3
    assert caught.value.where == f"{server.url}/embeddings"


def test_a_proxy_is_named_where_it_cannot_be_reached_or_used(
    server: EmbeddingServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTP_PROXY", "ALL_PROXY", "NO_PROXY", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("http_proxy", "http://user:secret@127.0.0.1:9")
    with pytest.raises(EnvironmentFailure, match=r"cannot be reached through the proxy 127\.0\.0\.1:9") as caught:
        opened(server, max_attempts=1).embed(texts(2))
    assert "secret" not in str(caught.value)
    for wrong in ("::::", "ftp://127.0.0.1:9", "http://[::1"):
        monkeypatch.setenv("http_proxy", wrong)
        with pytest.raises(ConfigError, match="the proxy in the environment cannot be used"):
            opened(server)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    check(opened(server).embed(texts(2)), texts(2))


def test_an_error_in_an_answer_of_status_200_is_quoted(server: EmbeddingServer) -> None:
    server.rule = lambda request: {"error": {"message": f"the provider is down; {KEY}", "code": 502}}
    with pytest.raises(EnvironmentFailure, match="has no list 'data'; it says: the provider is down") as caught:
        opened(server, max_attempts=2).embed(texts(2))
    assert KEY not in str(caught.value)
    server.rule = lambda request: {"error": {"message": "You exceeded your quota", "code": "insufficient_quota"}}
    with pytest.raises(ResourceError, match="no credit left"):
        opened(server).embed(texts(2))


@pytest.mark.parametrize("tokens", [1e300, -1, True, "12", None])
def test_a_number_of_tokens_that_is_none_is_estimated(server: EmbeddingServer, tokens: Any) -> None:
    server.rule = lambda request: {**request.good, "usage": {"total_tokens": tokens}}
    embedder = opened(server)
    assert embedder.embed(["four letters each, and more"] * 3).tokens == 3 * 7


def test_a_service_whose_vectors_are_zeros_is_found_before_anything_is_paid(server: EmbeddingServer) -> None:
    server.base64 = False
    server.rule = lambda request: {**request.good, "data": [{"index": 0, "embedding": [0.0] * 8}]}
    with pytest.raises(ConfigError, match="a vector of zeros"):
        opened(server).probe()


def test_a_width_that_changes_is_an_error_at_once(server: EmbeddingServer) -> None:
    embedder = opened(server)
    embedder.embed(["one"])
    server.width = 12
    with pytest.raises(EnvironmentFailure, match="vectors of 12 numbers, and before 24"):
        embedder.embed(["two"])
    assert len(server.requests) == 2
    server.rule = lambda request: {"data": [{"index": 0, "embedding": [1, 0]}]}
    with pytest.raises(ConfigError, match="vectors of 2 numbers, and 16 were asked for"):
        opened(server, dimensions=16).embed(["x"])


@pytest.mark.parametrize(
    ("options", "said", "key"),
    [
        ({}, "does not accept the key in TEST_API_KEY", "sk-wrong-9876"),
        ({"model": "unknown"}, "no model 'unknown'", KEY),
        ({"url": "/nothing"}, "nothing at this address", KEY),
    ],
)
def test_a_wrong_key_model_or_address_is_said_at_once_without_the_key(
    server: EmbeddingServer, monkeypatch: pytest.MonkeyPatch, options: dict[str, str], said: str, key: str
) -> None:
    monkeypatch.setenv("TEST_API_KEY", key)
    if "url" in options:
        options = {"url": server.base + options["url"]}
    embedder = opened(server, **options)
    for ask in (
        embedder.probe,
        lambda: embedder.embed(texts(3)),
        lambda: embedder.embed_kept(texts(3), Kept(), Free()),
    ):
        with pytest.raises(ConfigError, match=said) as caught:
            ask()
        assert key not in str(caught.value)
    assert len(server.requests) == 3


def test_a_key_that_is_corrected_is_used_without_opening_the_model_again(
    server: EmbeddingServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("TEST_API_KEY", "sk-old")
    embedder = opened(server)
    with pytest.raises(ConfigError, match="401"):
        embedder.embed(["one"])
    monkeypatch.delenv("TEST_API_KEY")
    (tmp_path / "key").write_text(f"{KEY}\n")
    monkeypatch.setenv("TEST_API_KEY_FILE", str(tmp_path / "key"))
    check(embedder.embed(["one"]), ["one"])


def test_an_account_without_credit_is_no_reason_to_wait(server: EmbeddingServer) -> None:
    clock = Waits()
    for said in (error(429, code="insufficient_quota"), error(402)):
        server.first(said)
        with pytest.raises(ResourceError, match="no credit left"):
            opened(server, clock).embed(["one"])
    assert clock.waits == []


def test_nobody_there_is_said_after_the_attempts() -> None:
    spec = EndpointSpec(options={"model": "m", "url": "http://127.0.0.1:9/v1", "max_attempts": 2})  # type: ignore[arg-type]
    with pytest.raises(EnvironmentFailure, match="in 2 attempts: it cannot be reached"):
        spec.connect(Waits()).probe()


def test_a_text_that_is_refused_is_found_and_the_others_are_embedded(server: EmbeddingServer) -> None:
    given = texts(33)
    given[5] = "POISON"
    given[20] = "more POISON here"
    server.rule = lambda r: error(400, f"bad input ({KEY})") if any("POISON" in t for t in r.texts) else None
    keeper = Kept()
    found = opened(server).embed_kept(given, keeper, Free())
    assert np.flatnonzero(~found.embeddable).tolist() == [5, 20]
    assert set(found.reasons) == {5, 20}
    assert "refused it: 400: bad input" in found.reasons[5]
    assert KEY not in found.reasons[5]
    good = [row for row in range(33) if row not in (5, 20)]
    np.testing.assert_allclose(found.vectors[good], expected([given[row] for row in good]), atol=1e-6)
    assert max(server.paid.values()) == 1
    # It is not asked for again either.
    before = len(server.requests)
    again = opened(server).embed_kept(given, keeper, Free())
    assert set(again.reasons) == {5, 20}
    assert len(server.requests) == before


def test_a_request_that_is_too_large_makes_the_next_ones_smaller(server: EmbeddingServer) -> None:
    server.rule = lambda request: error(413, "too many") if len(request.texts) > 10 else None
    given = texts(160)
    check(opened(server, concurrency=1, max_batch_texts=40).embed(given), given)
    sizes = [len(request.texts) for request in server.requests]
    assert sizes.count(40) == 4, "requests that were planned before the limit was known"
    again = len(sizes)
    embedder = opened(server, concurrency=1, max_batch_texts=40)
    embedder.embed(given)
    embedder.embed(given)
    assert max(len(request.texts) for request in server.requests[2 * again :]) == 10


def test_a_service_that_refuses_everything_is_a_wrong_request_and_not_a_corpus_of_bad_texts(
    server: EmbeddingServer,
) -> None:
    server.rule = lambda request: error(400, "dimensions is not supported")
    with pytest.raises(ConfigError, match=r"refuses every request \(400: dimensions is not supported\)"):
        opened(server).embed(texts(20))
    assert len(server.requests) < 20
    # Also where it began to do so in the middle.
    server.rule = None
    embedder = opened(server, max_batch_texts=8)
    embedder.embed(texts(3))
    server.rule = lambda request: error(400, "not loaded")
    with pytest.raises(ConfigError, match="not loaded"):
        embedder.embed(texts(60))


def test_threads_with_answers_do_not_wait_for_one_in_doubt(server: EmbeddingServer) -> None:
    asked, kept = threading.Event(), threading.Event()
    told: list[bool] = []

    class Counted(Kept):
        def keep(self, texts: Sequence[str], answer: Answer) -> None:
            super().keep(texts, answer)
            if {"one", "two"} <= self.known.keys():
                kept.set()

    def rule(request: Request) -> Said | None:
        if request.texts == ["bad"]:
            return error(400, "bad input")
        if request.texts == [PROBE]:
            asked.set()
            told.append(kept.wait(20))
        else:
            asked.wait(20)
        return None

    server.rule = rule
    embedder = opened(server, max_batch_texts=1, concurrency=3)
    found = embedder.embed_kept(["bad", "one", "two"], Counted(), Free())
    assert told == [True]
    assert "bad input" in found.reasons[0]
    check(embedder.embed(["one", "two"]), ["one", "two"])


def test_of_several_threads_in_doubt_one_asks(server: EmbeddingServer) -> None:
    together = threading.Barrier(4)

    def rule(request: Request) -> Said | None:
        if request.texts == [PROBE]:
            return None
        together.wait(20)
        return error(400, "bad input")

    server.rule = rule
    found = opened(server, max_batch_texts=1, concurrency=4).embed(texts(4))
    assert sorted(found.reasons) == [0, 1, 2, 3]
    assert sum(request.texts == [PROBE] for request in server.requests) == 1


def test_a_vector_of_zeros_is_no_vector(server: EmbeddingServer) -> None:
    found = opened(server).embed(["one", "   ", "two"])
    assert found.embeddable.tolist() == [True, False, True]
    assert "zeros" in found.reasons[1]


def test_what_was_answered_before_a_failure_is_kept_and_not_asked_for_again(server: EmbeddingServer) -> None:
    given = texts(60)
    down = threading.Event()

    def rule(request: Request) -> Said | None:
        return error(503) if down.is_set() or given[7] in request.texts else None

    server.rule = rule
    keeper, spending = Kept(), Free()
    embedder = opened(server, max_batch_texts=4, max_attempts=3)
    with pytest.raises(UnansweredError) as caught:
        embedder.embed_kept(given, keeper, spending)
    assert caught.value.attempts == 3
    assert 7 in caught.value.positions
    assert caught.value.answered
    assert set(server.paid) <= set(keeper.known)
    assert spending.reserved == 0
    down.set()
    with pytest.raises(UnansweredError) as caught:
        embedder.embed_kept(["another"], keeper, spending)
    assert not caught.value.answered, "it answers nothing: the service is down"
    server.rule = None
    check(embedder.embed_kept(given, keeper, spending), given)
    assert max(server.paid.values()) == 1


def test_a_run_that_is_stopped_sends_nothing_more_and_keeps_what_was_answered(server: EmbeddingServer) -> None:
    embedder = opened(server, max_batch_texts=2, concurrency=1)

    def rule(request: Request) -> None:
        if request.number == 3:
            embedder.stop()

    server.rule = rule
    keeper, given = Kept(), texts(30)
    with pytest.raises(EnvironmentFailure, match="22 texts were not sent"):
        embedder.embed_kept(given, keeper, Free())
    assert len(server.requests) == 4
    assert len(keeper.known) == 8
    check(embedder.embed_kept(given, keeper, Free()), given)
    assert max(server.paid.values()) == 1


def test_a_run_that_is_stopped_before_its_first_request_sends_none(server: EmbeddingServer) -> None:
    embedder = opened(server)

    class Slow(Kept):
        def find(self, texts: Sequence[str]) -> Iterator[tuple[Any, Answer]]:
            embedder.stop()
            return super().find(texts)

    with pytest.raises(EnvironmentFailure, match="30 texts were not sent"):
        embedder.embed_kept(texts(30), Slow(), Free())
    assert server.requests == []


def test_a_message_hides_all_keys_while_another_thread_brings_a_new_one(server: EmbeddingServer) -> None:
    client = opened(server)._client._http

    class Changing(str):
        """A message; while one key is replaced in it, a request with another key is made."""

        def replace(self, old: str, new: str, count: int = -1, /) -> str:
            client._secret_values.add(f"sk-new-{len(client._secret_values)}")
            return Changing(super().replace(old, new, count))

    client._secret_values.update(("sk-one", "sk-two"))
    assert client._safe(Changing("not sk-one, and not sk-two")).count("sk-") == 0


# ---------------------------------------------------------------------------------------------------------- pace, waits


def test_the_server_is_waited_for_as_long_as_it_asks(server: EmbeddingServer) -> None:
    date = formatdate(1_000_000_000 + 40, usegmt=True)
    for said, least in (
        (error(429, retry_after="17"), 17.0),
        (error(429, retry_after=date), 40.0),
        (error(429, x_ratelimit_remaining_tokens="0", x_ratelimit_reset_tokens="1m30s"), 90.0),
    ):
        clock = Waits()
        server.first(said)
        opened(server, clock).embed(["one"])
        assert least <= sum(clock.waits) <= least + 1


def test_a_wait_that_is_too_long_is_not_waited(server: EmbeddingServer) -> None:
    clock = Waits()
    server.rule = lambda request: error(429, "daily limit", retry_after="86400")
    with pytest.raises(EnvironmentFailure, match="daily limit"):
        opened(server, clock).embed(["one"])
    assert clock.waits == []
    assert len(server.requests) == 1


def test_a_request_that_is_limited_while_others_are_served_is_not_given_up(server: EmbeddingServer) -> None:
    given = texts(60)
    # The longest is sent first.
    given[30] += " and more" * 20
    changed, others, arrivals, limited = threading.Condition(), [0], [0], [0]

    def rule(request: Request) -> Said | None:
        with changed:
            if given[30] not in request.texts:
                # Others keep to the pace of the limited one, however late its sender reads an answer: some are left
                # for each of its attempts.
                assert changed.wait_for(lambda: limited[0] == 5 or others[0] < 3 * arrivals[0], timeout=30)
                others[0] += 1
                changed.notify_all()
                return None
            arrivals[0] += 1
            changed.notify_all()
            if limited[0] == 5:
                return None
            # Of the second one that comes now, the sender has had the answer to the first.
            enough = others[0] + 2
            assert changed.wait_for(lambda: others[0] >= enough, timeout=30)
            limited[0] += 1
            changed.notify_all()
            return error(429, retry_after="1")

    server.rule = rule
    check(opened(server, max_batch_texts=2, max_attempts=3, concurrency=2).embed(given), given)
    assert limited == [5]


def test_a_limit_that_is_used_up_is_waited_for_before_the_next_request(server: EmbeddingServer) -> None:
    clock = Waits()
    body = b'{"data": [{"index": 0, "embedding": [1, 0]}]}'
    headers = {"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "6s"}
    server.first(Said(body=body, headers=headers))
    embedder = opened(server, clock, max_batch_texts=1, concurrency=1)
    embedder.embed(["one"])
    assert clock.waits == []
    server.rule = lambda request: {"data": [{"index": 0, "embedding": [1, 0]}]}
    embedder.embed(["two"])
    assert clock.waits == [6.0]


def test_requests_and_tokens_a_minute_are_kept() -> None:
    clock = Waits()
    pacer = Pacer(60, None, clock)
    for _ in range(5):
        pacer.admit(1_000, threading.Event())
    assert clock.now() == pytest.approx(4.0)
    clock = Waits()
    pacer = Pacer(None, 6_000, clock)
    for tokens in (100, 300, 50):
        pacer.admit(tokens, threading.Event())
    assert clock.now() == pytest.approx(4.0)


def test_waits_grow_with_jitter_and_stay_bounded() -> None:
    longest = [backoff_seconds(attempt, lambda low, high: high) for attempt in range(1, 30)]
    assert longest[:4] == [0.5, 1, 2, 4]
    assert max(longest) == 60
    assert all(30 <= backoff_seconds(20) <= 60 for _ in range(50))


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after": "3"}, 3.0),
        ({"retry-after-ms": "250", "retry-after": "3"}, 0.25),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "-5"}, 0.0),
        ({"retry-after": formatdate(999_999_000, usegmt=True)}, 0.0),
        ({"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "20ms"}, 0.02),
        ({"x-ratelimit-remaining-requests": "3", "x-ratelimit-reset-requests": "20s"}, None),
        ({"x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-tokens": "6m0s"}, 360.0),
        ({"x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-tokens": "tomorrow"}, None),
        ({}, None),
    ],
)
def test_what_an_answer_asks_to_wait(headers: dict[str, str], seconds: float | None) -> None:
    assert asked_wait(headers, Waits()) == seconds
    assert used_up({}) is None


def test_requests_are_filled_longest_first_and_hold_each_text_once() -> None:
    sizes = np.array([4, 400, 40, 4, 4000, 8], dtype=np.int64)
    made = plan_requests(np.arange(6), sizes, max_texts=3, max_tokens=110)
    assert [one.tolist() for one in made] == [[4], [1, 2], [5, 0, 3]]
    assert plan_requests(np.empty(0, np.int64), sizes, max_texts=3, max_tokens=110) == []


def test_a_failure_is_a_sentence_with_a_hint(server: EmbeddingServer) -> None:
    server.rule = lambda request: error(500, "oh " * 400)
    with pytest.raises(LatentScaleError) as caught:
        opened(server, max_attempts=1).probe()
    assert caught.value.hint
    assert len(caught.value.message) < 500


def test_a_worker_gets_no_gpu_and_there_is_one(server: EmbeddingServer) -> None:
    asked = spec_of(server).resources()
    assert (asked.workers, asked.gpus) == (1, 0)
    assert not spec_of(server).deterministic
