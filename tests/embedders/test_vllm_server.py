"""Embeddings by a server of vLLM: a real one of OpenAI's protocol, with a real encoder, on processors."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

import latentscale
from latentscale.config import EmbedConfig
from latentscale.embedders import embedder_spec
from latentscale.errors import ConfigError, EnvironmentFailure
from latentscale.upkeep.verify import verify_workspace
from tests.embedders.test_vllm import minilm
from tests.vllm_server import KEY, VllmServer, vllm_server

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1_800)]
pytest.importorskip("httpx", reason="the extra 'endpoint' is not installed")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[VllmServer]:
    folder = tmp_path_factory.mktemp("server")
    arguments = ("--runner", "pooling", "--dtype", "float32", "--max-num-seqs", "16")
    with vllm_server(minilm(), folder, *arguments) as one:
        yield one


@pytest.fixture(autouse=True)
def _key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEST_API_KEY", KEY)


def settings(server: VllmServer, **more: Any) -> dict[str, Any]:
    given = {"model": "tiny", "provider": "vllm", "url": server.url, "api_key_env": "TEST_API_KEY"}
    return {"model": "endpoint", "max_tokens": 128, "options": {**given, "timeout": 600, "max_attempts": 2, **more}}


def opened(server: VllmServer, **more: Any) -> Any:
    return embedder_spec(EmbedConfig(**settings(server, **more))).open()


def test_the_vectors_are_those_of_torch_in_both_encodings(server: VllmServer) -> None:
    pytest.importorskip("torch", reason="the reference needs the extra 'torch'")
    texts = ["a chess program", "mail for the console", "naïve 東京 \0"]
    texts += [f"document {number} about topic {number % 7}" for number in range(40)]
    reference: Any = embedder_spec(
        EmbedConfig(kind="transformers", model=str(minilm()), max_tokens=128, options={"precision": "fp32"})
    )
    expected = reference.open().embed(texts)
    for more in ({}, {"encoding": "float"}, {"max_batch_texts": 7, "concurrency": 3}):
        found = opened(server, **more).embed(texts)
        assert found.embeddable.all()
        assert np.einsum("ij,ij->i", found.vectors, expected.vectors).min() > 0.999
        # The server counts the marks of beginning and end.
        assert found.tokens == expected.tokens + 2 * len(texts)


def test_a_text_longer_than_the_context_is_cut_by_vllm_and_by_a_server_that_cuts_none_left_out_alone(
    server: VllmServer,
) -> None:
    pytest.importorskip("torch", reason="the reference needs the extra 'torch'")
    texts = [f"document {number}" for number in range(9)]
    # By their bytes as many tokens as are allowed; by their characters, which are the tokens of this model, more.
    texts[4] = "naïve 東京 " * 1_000

    def embedded(**more: Any) -> Any:
        spec: Any = embedder_spec(EmbedConfig(**{**settings(server, **more), "max_tokens": 8_000}))
        return spec.open().embed(texts)

    refused = server.answers("4xx")
    found = embedded()
    assert found.embeddable.all()
    assert server.answers("4xx") == refused
    context = server.context
    reference: Any = embedder_spec(
        EmbedConfig(kind="transformers", model=str(minilm()), max_tokens=context, options={"precision": "fp32"})
    )
    expected = reference.open().embed(texts)
    assert np.einsum("ij,ij->i", found.vectors, expected.vectors).min() > 0.999
    found = embedded(provider="compatible")
    assert server.answers("4xx") > refused
    assert found.embeddable.tolist() == [number != 4 for number in range(9)]
    assert list(found.reasons) == [4]
    assert "refused it: 400: " in found.reasons[4]
    assert "maximum context length" in found.reasons[4]


def test_a_run_asks_for_each_text_once_and_says_when_the_server_is_gone(
    server: VllmServer, tmp_path: Path, demo: pl.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    demo[:300].write_parquet(tmp_path / "c.parquet")

    def run(**more: Any) -> Any:
        rough = {"project": {"n_epochs": 50}, "cluster": {"min_cluster_size": 8}}
        given = settings(server, **more)
        return latentscale.run(tmp_path / "c.parquet", out=tmp_path / "ws", progress="quiet", embed=given, **rough)

    with pytest.raises(ConfigError, match="embedding service has no model 'large'"):
        run(model="large")
    with pytest.raises(ConfigError, match=r"400: .*dimensions"):
        run(dimensions=64)
    monkeypatch.setenv("WRONG_KEY", "sk-wrong-0123456789")
    with pytest.raises(ConfigError, match="does not accept the key in WRONG_KEY"):
        run(api_key_env="WRONG_KEY")
    made = run()
    assert verify_workspace(latentscale.open(tmp_path / "ws").store).faults == []
    answered = server.answers("2xx")
    assert run().id == made.id
    assert server.answers("2xx") == answered
    # A document is what is nearest to its own text.
    text = demo["text"][17]
    assert text in [hit.text for hit in made.search(text, k=3)]
    assert server.answers("2xx") == answered + 1
    # The last of this file: nothing is asked of the server any more.
    server.end()
    with pytest.raises(EnvironmentFailure, match="it cannot be reached") as gone:
        run(revision="2")
    assert gone.value.exit_code == 4
