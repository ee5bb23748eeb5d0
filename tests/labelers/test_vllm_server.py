"""Labels by a server of vLLM: a real one of OpenAI's protocol, with tiny models of random weights, on processors."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest

import latentscale
from latentscale.errors import ConfigError, EnvironmentFailure
from latentscale.services.client import Client
from latentscale.upkeep.verify import verify_workspace
from tests.environments import ROOT, python_of
from tests.vllm_server import KEY, VllmServer, free_port, until, vllm_server

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1_800)]
pytest.importorskip("httpx", reason="the extra 'endpoint' is not installed")

CONTEXT = 4_096
ROUGH: dict[str, Any] = {"cluster": {"min_cluster_size": 5}, "project": {"n_epochs": 50}}
MODEL = """
import sys
from pathlib import Path
from tests.labelers.tiny_chat import make_model

make_model(Path(sys.argv[1]), context=int(sys.argv[2]))
"""
# Without the second, a model of random weights writes white space between the parts of JSON until it is cut off.
SERVED = [
    *("--max-model-len", str(CONTEXT), "--max-num-seqs", "16"),
    *("--structured-outputs-config", json.dumps({"backend": "xgrammar", "disable_any_whitespace": True})),
]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model") / "noise"
    command = [python_of("vllm"), "-c", MODEL, str(folder), str(CONTEXT)]
    made = subprocess.run(
        command, env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=600, check=False
    )
    assert made.returncode == 0, made.stderr[-4_000:]
    return folder


@pytest.fixture(scope="module")
def server(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[VllmServer]:
    with vllm_server(model, tmp_path_factory.mktemp("server"), *SERVED) as one:
        yield one


@pytest.fixture(scope="module")
def mapped(tmp_path_factory: pytest.TempPathFactory, demo: pl.DataFrame) -> Path:
    """A workspace with clusters, labelled by keyphrases; some of its texts are long."""
    folder = tmp_path_factory.mktemp("labels")
    chosen = demo.filter(pl.col("section").is_in(["games", "perl", "mail", "fonts"]))[:700]
    # A few times longer than the context of the model, where eight of them are shown.
    chosen = chosen.with_columns(text=pl.concat_str([pl.col("text")] * 8, separator=" "))
    chosen.write_parquet(folder / "c.parquet")
    latentscale.run(folder / "c.parquet", out=folder / "ws", progress="quiet", **ROUGH)
    return folder / "ws"


@pytest.fixture
def place(mapped: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of that workspace."""
    monkeypatch.setenv("TEST_API_KEY", KEY)
    shutil.copytree(mapped, tmp_path / "ws")
    return tmp_path / "ws"


class Seen:
    """The requests that our client sends and how they were answered, as they pass.

    Attributes
    ----------
    answered : list of (dict, int)
        Request and status.
    usage : list of dict
        Tokens of each good answer, as the server says them.
    then : callable
        Called after each answer, with the number of answers so far.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.answered: list[tuple[dict[str, Any], int]] = []
        self.usage: list[dict[str, int]] = []
        self.then: Callable[[int], None] = lambda number: None
        # It still sends each request to the real server.
        post = Client._post

        def posted(client: Client, body: bytes) -> Any:
            answer = post(client, body)
            self.answered.append((json.loads(body), answer[0]))
            if answer[0] == 200:
                self.usage.append(json.loads(answer[2])["usage"])
            self.then(len(self.answered))
            return answer

        monkeypatch.setattr(Client, "_post", posted)

    def prompts(self, status: int = 200) -> list[str]:
        """Of the requests that were answered so, but the one that asks whether anything answers."""
        found = [one["messages"][-1]["content"] for one, said in self.answered if said == status]
        return [prompt for prompt in found if "When is the library open on holidays?" not in prompt]


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> Seen:
    return Seen(monkeypatch)


def labelled(place: Path, url: str, **more: Any) -> tuple[pl.DataFrame, Any]:
    """The clusters with their labels, and the record of these."""
    options = {"model": "tiny", "url": url, "api_key_env": "TEST_API_KEY", "timeout": 600, "max_attempts": 2}
    options |= {"concurrency": 4, "max_output_tokens": 128, "held_out": False, **more}
    workspace = latentscale.open(place)
    # The clusters are those of the map that is there: its settings are held.
    settings = workspace.settings() | {"label": {"method": "endpoint", "options": options}, **ROUGH}
    record = workspace.run(settings, until="label").records["label"]
    assert verify_workspace(workspace.store).faults == []
    return pl.read_parquet(place / record.folder / "labels-*.parquet"), record


def check_noise(labels: pl.DataFrame) -> None:
    """Every cluster has a label with its source, and what is wrong with an answer is never that it is no JSON."""
    assert len(labels) > 12
    for row in labels.iter_rows(named=True):
        assert row["label"]
        assert row["source"] == "endpoint" or (row["source"] == "keyphrases" and row["reason"]), row
    reasons = " ".join(labels["reason"].drop_nulls())
    assert "such JSON" not in reasons
    assert "no good answer" not in reasons
    assert "refused" not in reasons
    assert "two answers of the model are no label" in reasons


def test_answers_keep_to_the_schema_and_prompts_to_their_budget(place: Path, server: VllmServer, seen: Seen) -> None:
    refused, answered = server.answers("4xx"), server.answers("2xx")

    def counted(kind: str) -> float:
        return server.counted(f"vllm:{kind}_tokens_total")

    sent, said = counted("prompt"), counted("generation")
    labels, record = labelled(place, server.url, evidence_tokens=400)
    check_noise(labels)
    assert record.counts["asked"] == len(labels)
    # Nothing was too long for the server, which was asked for a schema and took it.
    assert server.answers("4xx") == refused
    assert all(one["response_format"]["json_schema"]["strict"] for one, _ in seen.answered)
    assert not any("JSON schema" in note for note in record.notes)
    assert len(set(seen.prompts())) == len(seen.prompts()) == len(seen.answered) - 1
    # All texts together would be longer.
    assert any("…" in prompt for prompt in seen.prompts())
    # What is billed is what the server counted; the first short request is no part of the labels.
    spent = record.choices["spending"]
    assert spent["requests"] + 1 == server.answers("2xx") - answered == len(seen.answered)
    short = seen.usage[0]
    assert until(lambda: spent["tokens"] + short["prompt_tokens"] == counted("prompt") - sent)
    assert until(lambda: spent["output_tokens"] + short["completion_tokens"] == counted("generation") - said)


def test_a_prompt_that_the_server_refuses_as_too_long_is_shortened(place: Path, server: VllmServer, seen: Seen) -> None:
    refused = server.answers("4xx")
    labels, record = labelled(place, server.url, evidence_tokens=8_000)
    check_noise(labels)
    assert record.counts["asked"] == len(labels)
    assert server.answers("4xx") - refused == len(seen.prompts(400)) > 0
    assert max(map(len, seen.prompts())) < max(map(len, seen.prompts(400)))
    assert not any("JSON schema" in note for note in record.notes)


def test_a_wrong_key_or_model_is_named_before_anything_is_asked(
    place: Path, server: VllmServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ConfigError, match="language model has no model 'large'"):
        labelled(place, server.url, model="large")
    with pytest.raises(ConfigError, match=r"refuses every request \(400: .*max_tokens"):
        labelled(place, server.url, max_output_tokens=50_000)
    monkeypatch.setenv("TEST_API_KEY", "sk-wrong-0123456789")
    with pytest.raises(ConfigError, match="does not accept the key in TEST_API_KEY"):
        labelled(place, server.url)


def test_a_server_that_dies_ends_the_run_and_the_next_one_is_asked_for_the_rest(
    place: Path, model: Path, tmp_path: Path, seen: Seen
) -> None:
    port = free_port()
    with vllm_server(model, tmp_path, *SERVED, port=port) as first:
        seen.then = lambda number: first.end() if number == 5 else None
        with pytest.raises(EnvironmentFailure, match="gave no good answer in 2 attempts: it cannot be reached") as died:
            labelled(place, first.url, evidence_tokens=400, concurrency=1)
    assert "run the same command" in str(died.value.hint)
    assert died.value.exit_code == 4
    assert verify_workspace(latentscale.open(place).store).faults == []
    answered = seen.prompts()
    assert answered
    seen.then = lambda number: None
    with vllm_server(model, tmp_path, *SERVED, port=port) as second:
        labels, record = labelled(place, second.url, evidence_tokens=400, concurrency=1)
        check_noise(labels)
        assert record.counts["asked"] < len(labels)
        # An answer of a pair that was not finished has no receipt: it is asked for again.
        assert len(seen.prompts()) - len(set(seen.prompts())) <= 1
        # The receipts name all clusters: without the record nothing is asked, but whether anything answers.
        (place / record.folder / "artifact.json").unlink()
        before = second.answers("2xx")
        again, record = labelled(place, second.url, evidence_tokens=400, concurrency=1)
        assert second.answers("2xx") - before <= 1
        assert record.counts["asked"] == 0
        assert again.equals(labels)
