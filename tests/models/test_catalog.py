"""The list of models: what their files say without loading one, and models that are fetched ahead."""

from __future__ import annotations

import json

import pytest

import latentscale
from latentscale.cli.main import app
from latentscale.embedders.language import MULTILINGUAL
from latentscale.errors import ConfigError
from tests.models.conftest import cache_model

COMMIT = "0123456789abcdef0123456789abcdef01234567"
ENCODER = {
    "config.json": json.dumps({"model_type": "bert", "hidden_size": 32, "max_position_embeddings": 128}).encode(),
    "config_sentence_transformers.json": json.dumps(
        {"prompts": {"query": "query: ", "document": "passage: "}, "default_prompt_name": None}
    ).encode(),
    "sentence_bert_config.json": b'{"max_seq_length": 64}',
    "modules.json": json.dumps(
        [
            {"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"},
            {"idx": 1, "name": "1", "path": "1_Pooling", "type": "sentence_transformers.models.Pooling"},
        ]
    ).encode(),
    "1_Pooling/config.json": b'{"word_embedding_dimension": 32, "pooling_mode_mean_tokens": true}',
    "tokenizer.json": b"{}",
    "model.safetensors": b"weights",
    "README.md": b"---\nlicense: other\nlicense_name: acme-terms\nlanguage: fr\n---\n",
}


def listed(**options):
    return {model.name: model for model in latentscale.list_models(**options)}


def test_what_the_files_say_is_listed_without_a_network(hub_cache, static_files, tmp_path):
    cache_model(hub_cache, "acme/small", static_files, commit=COMMIT)
    cache_model(hub_cache, "acme/encoder", ENCODER, commit=COMMIT)
    cache_model(hub_cache, "acme/picture", {"config.json": b"{}", "model.safetensors": b"x"}, commit=COMMIT)
    folder = tmp_path / "mine"
    for name, content in static_files.items():
        folder.mkdir(exist_ok=True)
        (folder / name).write_bytes(content)
    models = listed(folders=[folder])
    assert list(models) == ["static", str(folder), "acme/encoder", "acme/small"]
    assert (models["static"].source, models["static"].dimensions, models["static"].kind) == ("shipped", 256, "static")
    small = models["acme/small"]
    assert (small.dimensions, small.max_tokens, small.licence, small.languages) == (4, None, "mit", ("en", "de"))
    assert (small.revision, small.problem, small.source) == (COMMIT, None, "cache")
    encoder = models["acme/encoder"]
    assert (encoder.kind, encoder.dimensions, encoder.max_tokens) == ("encoder", 32, 64)
    assert (encoder.document_prompt, encoder.query_prompt) == ("passage: ", "query: ")
    assert (encoder.licence, encoder.languages) == ("acme-terms", ("fr",))
    assert models[str(folder)].revision is None


def test_a_model_of_which_the_cache_has_a_part_or_that_is_damaged_is_listed_with_the_problem(hub_cache):
    part = {name: content for name, content in ENCODER.items() if name != "model.safetensors"}
    cache_model(hub_cache, "acme/part", part, commit=COMMIT)
    cache_model(hub_cache, "acme/wrong", {**ENCODER, "1_Pooling/config.json": b"[1"}, commit=COMMIT)
    models = listed()
    assert "latentscale models pull acme/part" in str(models["acme/part"].problem)
    assert "1_Pooling" in str(models["acme/wrong"].problem)


def test_a_folder_without_a_model_is_refused(hub_cache, tmp_path):
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ConfigError, match="neither a static model nor a sentence encoder"):
        latentscale.list_models([tmp_path])
    with pytest.raises(ConfigError, match="no folder"):
        latentscale.list_models(["nowhere at all"])


def test_the_recommended_ones_are_known_before_they_are_here_and_as_they_are_once_they_are(hub_cache, static_files):
    before = listed(recommended=True)
    assert before[MULTILINGUAL].source == "hub"
    assert all(model.dimensions and model.licence and model.languages for model in before.values())
    cache_model(hub_cache, MULTILINGUAL, static_files, commit=COMMIT)
    after = listed(recommended=True)
    assert list(after) == list(before)
    assert (after[MULTILINGUAL].source, after[MULTILINGUAL].dimensions) == ("cache", 4)


def test_a_pulled_model_is_whole_and_can_be_used_without_a_network(hub, static_files, monkeypatch):
    hub.add("acme/encoder", {**ENCODER, "onnx/model.onnx": b"graph", "onnx/model_O4.onnx": b"graph"})
    found = latentscale.pull_model("acme/encoder", files=["onnx/model.onnx"])
    assert (found.revision, found.problem, found.source) == (COMMIT, None, "cache")
    assert "onnx/model_O4.onnx" not in hub.fetched("acme/encoder")
    assert "onnx/model.onnx" in hub.fetched("acme/encoder")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert listed()["acme/encoder"].problem is None
    with pytest.raises(ConfigError, match="not the id of a model"):
        latentscale.pull_model("encoder")


def test_the_commands_print_a_table_or_json(hub, static_files, capsys):
    hub.add("acme/small", static_files)
    app(["models", "pull", "acme/small", "--revision", "main"], standalone_mode=False)
    said = capsys.readouterr().out
    assert f"acme/small at {COMMIT}" in said
    assert "--set embed.model=acme/small --set embed.options.revision=main" in said
    app(["models", "list"], standalone_mode=False)
    lines = capsys.readouterr().out.splitlines()
    assert any(line.startswith("acme/small") and " mit " in line and "en, de" in line for line in lines)
    app(["models", "list", "--json"], standalone_mode=False)
    assert [model["name"] for model in json.loads(capsys.readouterr().out)] == ["static", "acme/small"]
    app(["models", "list", "--recommended"], standalone_mode=False)
    assert MULTILINGUAL in capsys.readouterr().out
