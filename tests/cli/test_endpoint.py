"""A map by an embedding service, through the command line: paid once, rows named, keys nowhere."""

from __future__ import annotations

import itertools
import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

import latentscale as ls
from latentscale.embedders.endpoint.embedder import PROBE
from latentscale.storage.objects import Store
from latentscale.upkeep.verify import verify_workspace
from tests.cli.conftest import Ended
from tests.embedders.embedding_server import KEY, EmbeddingServer, Request, Said, embedding_server, error

pytest.importorskip("httpx", reason="the extra 'endpoint' is not installed")

Latentscale = Callable[..., Ended]


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[EmbeddingServer]:
    monkeypatch.setenv("TEST_API_KEY", KEY)
    with embedding_server() as one:
        yield one


@pytest.fixture
def corpus(tmp_path: Path, demo: pl.DataFrame) -> Path:
    """Two files of 120 documents."""
    folder = tmp_path / "corpus"
    folder.mkdir()
    demo.slice(0, 120).write_ndjson(folder / "a.jsonl")
    demo.slice(120, 120).write_ndjson(folder / "b.jsonl")
    return folder


def options(server: EmbeddingServer, **more: Any) -> list[str]:
    given = {"model": "m-1", "url": server.url, "api_key_env": "TEST_API_KEY", "max_batch_texts": 10, "concurrency": 2}
    given |= {"max_attempts": 2, **more}
    embed = [
        "embed.model=endpoint",
        "embed.max_tokens=100000",
        *(f"embed.options.{key}={value}" for key, value in given.items()),
    ]
    settings = [*embed, "ingest.shard_rows=60", "project.n_epochs=30", "cluster.min_cluster_size=10"]
    return [part for one in settings for part in ("--set", one)]


def texts_of(corpus: Path) -> list[str]:
    return pl.concat([pl.read_ndjson(path) for path in sorted(corpus.iterdir())])["text"].to_list()


def until_embedded(latentscale: Latentscale, corpus: Path, out: Path, server: EmbeddingServer, **more: Any) -> Ended:
    if not out.exists():
        assert latentscale("ingest", corpus, "--out", out, *options(server)).code == 0
    return latentscale("embed", out, *options(server, **more), "--progress", "json")


def once(server: EmbeddingServer, texts: list[str]) -> None:
    """Each different text was paid for once."""
    paid = {text: count for text, count in server.paid.items() if text != PROBE}
    assert paid == dict.fromkeys(set(texts), 1)


def spent(ended: Ended) -> list[str]:
    events = [json.loads(line) for line in ended.err.splitlines() if line.startswith("{")]
    return [event["text"] for event in events if event["event"] == "note" and "requests to the emb" in event["text"]]


def test_a_map_is_made_grown_and_searched(
    latentscale: Latentscale, tmp_path: Path, corpus: Path, server: EmbeddingServer, demo: pl.DataFrame
) -> None:
    out = tmp_path / "map"
    priced = {"price_per_million_tokens": 20, "query_prompt": '"query: "'}
    ended = latentscale("run", corpus, "--out", out, *options(server, **priced), "--progress", "json")
    assert ended.code == 0, ended.err
    texts = texts_of(corpus)
    once(server, texts)
    tokens = sum(len(text.split()) for text in set(texts))
    cost = f"{tokens * 20 / 1e6:.6g} at 20 a million"
    assert spent(ended) == [f"24 requests to the embedding service, {tokens:,} tokens, {cost}"]
    run = ls.open(out).runs[-1]
    assert run["facts"]["spending"] == {"requests": 24, "tokens": tokens, "cost": round(tokens * 20 / 1e6, 6)}
    # An update pays for new texts alone: one file is renamed, one comes.
    (corpus / "a.jsonl").rename(corpus / "renamed.jsonl")
    demo.slice(240, 15).write_ndjson(corpus / "c.jsonl")
    server.paid.clear()
    ended = latentscale("update", out, "--progress", "quiet")
    assert ended.code == 0, ended.err
    once(server, demo.slice(240, 15)["text"].to_list())
    ended = latentscale("search", out, texts[7])
    assert ended.code == 0
    assert texts[7][:30] in ended.out
    assert server.requests[-1].texts == [f"query: {texts[7]}"]
    assert verify_workspace(Store(str(out))).faults == []
    for path in out.rglob("*"):
        assert not path.is_file() or KEY.encode() not in path.read_bytes(), path
    assert not [path for name in ("answers", "spending") for path in (out / name).rglob("*") if path.is_file()]


def test_another_model_under_the_same_name_is_not_mixed_with_the_old_vectors(
    latentscale: Latentscale, tmp_path: Path, corpus: Path, server: EmbeddingServer, demo: pl.DataFrame
) -> None:
    out = tmp_path / "map"
    assert until_embedded(latentscale, corpus, out, server).code == 0
    demo.slice(240, 15).write_ndjson(corpus / "c.jsonl")
    assert latentscale("ingest", corpus, "--out", out, *options(server)).code == 0

    def rule(request: Request) -> dict[str, Any]:
        for item in request.good["data"]:
            item["embedding"] = [*item["embedding"][1:], item["embedding"][0]]
        return request.good

    server.base64, server.rule = False, rule
    ended = until_embedded(latentscale, corpus, out, server)
    assert ended.code == 2
    assert "another model" in ended.err
    server.rule = None
    assert until_embedded(latentscale, corpus, out, server).code == 0


@pytest.mark.parametrize(("key", "model", "said"), [("sk-wrong-1", "m-1", "TEST_API_KEY"), (KEY, "unknown", "unknown")])
def test_a_wrong_key_or_name_is_found_before_the_first_shard(
    latentscale: Latentscale,
    tmp_path: Path,
    corpus: Path,
    server: EmbeddingServer,
    monkeypatch: pytest.MonkeyPatch,
    key: str,
    model: str,
    said: str,
) -> None:
    monkeypatch.setenv("TEST_API_KEY", key)
    ended = until_embedded(latentscale, corpus, tmp_path / "map", server, model=model)
    assert ended.code == 2
    assert said in ended.err
    assert len(server.requests) == 1
    assert "sk-wrong" not in ended.err + ended.out


def test_a_key_in_the_settings_is_refused_and_not_repeated(
    latentscale: Latentscale, tmp_path: Path, corpus: Path, server: EmbeddingServer
) -> None:
    for name in ("api_key", "api_key_env", "headers_env.X"):
        given = (*options(server), "--set", f"embed.options.{name}={KEY}")
        ended = latentscale("run", corpus, "--out", tmp_path / "map", *given)
        assert ended.code == 2, name
        assert KEY not in ended.err + ended.out
    assert server.requests == []


def test_a_text_that_the_service_refuses_is_a_reject_with_its_reason(
    latentscale: Latentscale, tmp_path: Path, corpus: Path, server: EmbeddingServer
) -> None:
    bad = texts_of(corpus)[130]
    server.rule = lambda request: error(400, "not this one") if bad in request.texts else None
    assert until_embedded(latentscale, corpus, tmp_path / "map", server).code == 0
    rejects = ls.open(tmp_path / "map").rejects()
    assert rejects.select("source", "source_row", "reason", "detail").rows() == [
        ("b.jsonl", 10, "not_embeddable", "the embedding service refused it: 400: not this one")
    ]
    once(server, [text for text in texts_of(corpus) if text != bad])


def test_a_shard_without_an_answer_is_quarantined_and_the_others_finish(
    latentscale: Latentscale, tmp_path: Path, corpus: Path, server: EmbeddingServer
) -> None:
    bad, others, served = texts_of(corpus)[70], itertools.count(1), threading.Event()

    def rule(request: Request) -> Said | None:
        if bad not in request.texts:
            # Two send at a time: whoever sends the third of these has read an answer to an earlier one.
            if request.texts != [PROBE] and next(others) == 3:
                served.set()
            return None
        # Were it tried twice before any other is served, the service would count as one that answers nothing.
        assert served.wait(120)
        return error(503, "overloaded", retry_after="0")

    server.rule = rule
    ended = until_embedded(latentscale, corpus, tmp_path / "map", server)
    assert ended.code == 3, ended.err
    assert "503: overloaded" in ended.err
    assert "a.jsonl row" in ended.err
    assert len(list((tmp_path / "map" / "embeddings").rglob("*.parquet"))) == 3
    assert verify_workspace(Store(str(tmp_path / "map"))).faults == []
    server.rule = None
    assert latentscale("ingest", corpus, "--out", tmp_path / "map", *options(server)).code == 0
    assert until_embedded(latentscale, corpus, tmp_path / "map", server).code == 0
    once(server, texts_of(corpus))


def test_a_prompt_that_yaml_misreads_is_refused_with_its_correct_form(
    latentscale: Latentscale, tmp_path: Path, corpus: Path, server: EmbeddingServer
) -> None:
    ended = latentscale("run", corpus, "--out", tmp_path / "map", *options(server, query_prompt="query: "))
    assert ended.code == 2
    assert "--set 'embed.options.query_prompt=" in ended.err


def test_a_service_that_goes_down_ends_the_run_which_resumes(
    latentscale: Latentscale, tmp_path: Path, corpus: Path, server: EmbeddingServer
) -> None:
    server.rule = lambda request: error(503, retry_after="0") if request.number > 8 else None
    ended = until_embedded(latentscale, corpus, tmp_path / "map", server)
    assert ended.code == 4, ended.err
    assert "does not answer any more" in ended.err
    left = {path: path.read_bytes() for path in (tmp_path / "map" / "answers").rglob("*.parquet")}
    assert left
    server.rule = None
    assert until_embedded(latentscale, corpus, tmp_path / "map", server).code == 0
    once(server, texts_of(corpus))
    # A run that was killed after the last vectors leaves answers, and the next one has nothing else to do.
    for path, data in left.items():
        path.write_bytes(data)
    assert until_embedded(latentscale, corpus, tmp_path / "map", server).code == 0
    assert not any(path.exists() for path in left)
    once(server, texts_of(corpus))


def test_a_run_stops_before_a_request_that_might_cost_too_much(
    latentscale: Latentscale, tmp_path: Path, corpus: Path, server: EmbeddingServer
) -> None:
    texts = set(texts_of(corpus))
    whole = sum(len(text.split()) for text in texts)
    # Small requests: what one may cost at most, a token a byte, is many times what it costs, and the first ones of
    # all workers at once must fit, or the one that does not fit ends the run before the others have sent theirs.
    budget = {"price_per_million_tokens": 1_000, "max_cost": 0.9 * whole / 1_000, "max_batch_texts": 2}
    ended = until_embedded(latentscale, corpus, tmp_path / "map", server, **budget)
    assert ended.code == 4, ended.err
    assert "max_cost" in ended.err
    paid = sum(len(text.split()) * count for text, count in server.paid.items() if text != PROBE)
    assert 0 < paid <= 0.9 * whole
    assert spent(ended)
    assert until_embedded(latentscale, corpus, tmp_path / "map", server, **(budget | {"max_cost": 100})).code == 0
    once(server, list(texts))


def test_answers_that_nobody_needs_are_no_fault_and_are_collected_when_they_are_old(
    latentscale: Latentscale, tmp_path: Path, corpus: Path, server: EmbeddingServer
) -> None:
    out = tmp_path / "map"

    def rule(request: Request) -> Said | None:
        return error(503, retry_after="0") if request.number > 8 else None

    server.rule = rule
    until_embedded(latentscale, corpus, out, server)
    kept = [path for path in (out / "answers").rglob("*") if path.is_file()]
    assert kept
    assert verify_workspace(Store(str(out))).faults == []
    assert "0 objects" in latentscale("gc", out).out or all(path.exists() for path in kept)
    kept[0].write_bytes(b"PAR1")
    (out / "answers" / "x").write_bytes(b"?")
    assert {fault.object for fault in verify_workspace(Store(str(out))).faults} == {
        kept[0].relative_to(out).as_posix(),
        "answers/x",
    }
    assert latentscale("repair", out).code == 0
    assert not kept[0].exists()
    assert latentscale("gc", out, "--grace", "0", "--delete").code == 0
    assert not any(path.exists() for path in kept)


def test_a_text_of_several_shards_is_paid_once_where_asked(
    latentscale: Latentscale, tmp_path: Path, server: EmbeddingServer, demo: pl.DataFrame
) -> None:
    """Three files have texts in common; a later one has some of them, and one that is new."""
    corpus, out = tmp_path / "corpus", tmp_path / "map"
    corpus.mkdir()
    texts = demo["text"].to_list()
    repeated = [*texts[:60], *texts[30:90], *texts[:20], *texts[90:110]]
    for name, some in (("a", repeated[:60]), ("b", repeated[60:120]), ("c", repeated[120:])):
        pl.DataFrame({"text": some}).write_ndjson(corpus / f"{name}.jsonl")
    chosen = ["--set", "embed.duplicates=corpus"]
    plain = tmp_path / "plain"
    assert latentscale("run", corpus, "--out", plain, *options(server)).code == 0
    twice = {text for text, count in server.paid.items() if count > 1}
    assert twice == {*texts[30:60], *texts[:20]}
    server.paid.clear()
    ended = latentscale("run", corpus, "--out", out, *options(server), *chosen)
    assert ended.code == 0, ended.err
    assert "50 texts are in several shards: each is embedded once" in ended.err
    once(server, repeated)
    one, other = (ls.open(place).current.vectors() for place in (plain, out))
    np.testing.assert_array_equal(one.matrix, other.matrix)
    np.testing.assert_array_equal(one.row_ids, other.row_ids)
    assert not [name for name in Store(str(out)).list("embeddings") if "shared-texts" in name]
    assert verify_workspace(Store(str(out))).faults == []

    pl.DataFrame({"text": [*texts[80:100], texts[200], texts[200]]}).write_ndjson(corpus / "d.jsonl")
    ended = latentscale("update", out, "--progress", "quiet")
    assert ended.code == 0, ended.err
    once(server, [*repeated, texts[200]])
