"""A model2vec model by its id on the hub: its kind is known without weights, its commit pinned, its id by bytes."""

from __future__ import annotations

import json
import sys

import numpy as np
import polars as pl
import pytest

import latentscale
from latentscale.config import EmbedConfig
from latentscale.embedders import embedder_spec, open_embedder, read_spec
from latentscale.embedders.static import StaticSpec
from latentscale.errors import ConfigError, EnvironmentFailure
from latentscale.registry import EMBEDDERS
from tests.models.conftest import cache_model

COMMIT = "0123456789abcdef0123456789abcdef01234567"
NEXT = "89abcdef0123456789abcdef0123456789abcdef"


def test_the_kind_of_an_id_is_known_from_its_settings_alone(hub, static_files):
    hub.add("acme/small", static_files)
    hub.add("acme/bert", {"config.json": b'{"model_type": "bert"}', "model.safetensors": b"x"})
    assert StaticSpec.recognizes("acme/small")
    assert not StaticSpec.recognizes("acme/bert")
    assert not any(name.endswith(".safetensors") for name in [*hub.fetched("acme/small"), *hub.fetched("acme/bert")])


def test_the_folder_of_another_encoder_is_not_claimed_and_one_of_nothing_is(tmp_path, static_files):
    (tmp_path / "config.json").write_bytes(static_files["config.json"])
    assert StaticSpec.recognizes(str(tmp_path))
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    assert not StaticSpec.recognizes(str(tmp_path))
    (tmp_path / "config.json").unlink()
    assert StaticSpec.recognizes(str(tmp_path))
    modules = [{"path": "", "type": "sentence_transformers.models.StaticEmbedding"}]
    (tmp_path / "modules.json").write_text(json.dumps(modules))
    assert StaticSpec.recognizes(str(tmp_path))
    modules[0]["type"] = "sentence_transformers.models.Transformer"
    (tmp_path / "modules.json").write_text(json.dumps(modules))
    assert not StaticSpec.recognizes(str(tmp_path))


def test_an_id_and_a_folder_with_the_same_bytes_are_the_same_embedding(hub, static_files, tmp_path):
    hub.add("acme/small", static_files)
    for name, content in static_files.items():
        (tmp_path / name).write_bytes(content)
    by_id = embedder_spec(EmbedConfig(model="acme/small"))
    by_folder = embedder_spec(EmbedConfig(model=str(tmp_path)))
    assert by_id.identity() == by_folder.identity()
    assert by_id.name == "acme/small"
    again = read_spec(json.loads(by_id.model_dump_json()))
    assert again == by_id
    assert again.model_dump()["revision"] == COMMIT
    np.testing.assert_array_equal(
        again.open().embed(["red card"]).vectors, by_folder.open().embed(["red card"]).vectors
    )


def test_a_revision_is_pinned_in_the_options(hub, static_files):
    hub.add("acme/small", static_files)
    hub.add("acme/small", static_files, commit=NEXT, branch="v2")
    spec = embedder_spec(EmbedConfig(model="acme/small", options={"revision": "v2"}))
    assert spec.model_dump()["revision"] == NEXT
    with pytest.raises(ConfigError, match="has no revision 'v3'"):
        embedder_spec(EmbedConfig(model="acme/small", options={"revision": "v3"}))
    with pytest.raises(ConfigError, match="the shipped model has no revision"):
        embedder_spec(EmbedConfig(options={"revision": "v2"}))


def test_a_model_of_the_cache_embeds_without_a_network_and_without_the_client(hub_cache, static_files, monkeypatch):
    cache_model(hub_cache, "acme/small", static_files, commit=COMMIT)
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    assert open_embedder("acme/small").embed(["green letter"]).vectors.shape == (1, 4)


def test_a_corpus_is_embedded_by_id_and_the_commit_is_recorded(hub, static_files, tmp_path, monkeypatch):
    hub.add("acme/small", static_files)
    corpus = tmp_path / "colours.parquet"
    pl.DataFrame({"text": ["red card", "green letter", "blue card", "zzz"] * 5}).write_parquet(corpus)
    values = {
        "out": str(tmp_path / "ws"),
        "corpus": {"sources": [str(corpus)], "text": "text"},
        "embed": {"model": "acme/small"},
        "engine": {"name": "local", "workers": 1},
    }
    workspace = latentscale.open(values["out"], must_exist=False)
    first = workspace.run(values, until="embed", progress="quiet").records["embed"]
    assert first.choices["spec"]["model"] == "acme/small"
    assert first.choices["spec"]["revision"] == COMMIT
    assert first.counts["dim"] == 4
    assert first.counts["rows"] - first.counts["embedded"] == 5
    # A newer commit on the hub changes nothing until it is pulled; and what is cached needs no hub.
    hub.add("acme/small", {**static_files, "README.md": b"# new\n"}, commit=NEXT)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert workspace.run(values, until="embed", progress="quiet").records["embed"].id == first.id
    with pytest.raises(EnvironmentFailure, match="disables the network"):
        workspace.run({**values, "embed": {"model": "acme/other"}}, until="embed", progress="quiet")


class Theirs(StaticSpec):
    """An embedder of another package, whose models have names like those of the hub."""

    @classmethod
    def recognizes(cls, model):
        return model.startswith("theirs/")

    @classmethod
    def from_settings(cls, config, *, vectors_column):
        return cls()


def test_a_name_that_the_hub_does_not_know_may_be_that_of_another_package(hub_cache, monkeypatch):
    load = EMBEDDERS.load
    monkeypatch.setattr(EMBEDDERS, "homes", lambda: {**EMBEDDERS._own, "theirs": "theirs:Spec"})
    monkeypatch.setattr(EMBEDDERS, "load", lambda name: Theirs if name == "theirs" else load(name))
    assert isinstance(embedder_spec(EmbedConfig(model="theirs/model")), Theirs)
    with pytest.raises(EnvironmentFailure, match="the model ours/model is not in the cache"):
        embedder_spec(EmbedConfig(model="ours/model"))
