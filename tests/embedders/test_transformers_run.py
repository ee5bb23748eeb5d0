"""Maps made with an encoder in torch: run, search by the query's own prompt, update; models of the hub, their code."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

import latentscale as ls
from latentscale.config import EmbedConfig
from latentscale.embedders import embedder_spec
from latentscale.errors import ConfigError
from latentscale.machine import Place
from tests.models.conftest import cache_model

pytestmark = pytest.mark.slow
for package in ("torch", "transformers", "sentence_transformers"):
    pytest.importorskip(package, reason=f"the model is made with {package}")

from tests.embedders.test_transformers import PROMPTS, opened, some_texts  # noqa: E402 - it needs the packages
from tests.embedders.tiny_models import sentence_encoder  # noqa: E402

COMMIT = "0123456789abcdef0123456789abcdef01234567"
CODE = """
from transformers import BertConfig, BertModel

class MineConfig(BertConfig):
    model_type = "mine"

class MineModel(BertModel):
    config_class = MineConfig
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return sentence_encoder(tmp_path_factory.mktemp("model") / "tiny", prompts=PROMPTS)


def test_a_map_is_made_searched_and_grown(folder: Path, tmp_path: Path) -> None:
    texts = some_texts(240)
    frame = pl.DataFrame({"id": [f"d{n}" for n in range(len(texts))], "text": texts})
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    frame.write_parquet(corpus / "one.parquet")
    settings: Any = {"embed": {"model": str(folder), "dtype": "float32"}, "publish": {"viewer": False}}
    made = ls.run(corpus, tmp_path / "map", text="text", id="id", progress="quiet", **settings)
    embedding = next(iter((tmp_path / "map" / "embeddings").glob("*/artifact.json")))
    record = json.loads(embedding.read_text())
    spec = record["choices"]["spec"]
    assert (spec["kind"], spec["precision"], spec["document_prompt"]) == ("transformers", "fp32", PROMPTS["document"])
    assert record["request"]["model"]["prompt"] == PROMPTS["document"]
    query = opened(folder, precision="fp32").embed_queries(["red card"]).vectors[0]
    documents = opened(folder, precision="fp32").embed(texts).vectors
    best = int(np.argmax(documents @ query))
    hits = made.search("red card", k=3)
    assert hits[0].text == texts[best]
    assert abs(hits[0].score - float(documents[best] @ query)) < 1e-4
    pl.DataFrame({"id": ["new"], "text": ["the red library of music"]}).write_parquet(corpus / "two.parquet")
    ls.open(tmp_path / "map").update(progress="quiet")
    assert len(list((tmp_path / "map" / "embeddings").glob("*/artifact.json"))) == 1


def hub_files(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("HF_TOKEN", "HUGGINGFACE_HUB_CACHE", "HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    return tmp_path / "hub"


def test_a_model_of_the_hub_is_pinned_and_is_the_folder_to_the_bit(folder: Path, cache: Path) -> None:
    cache_model(cache, "acme/tiny", hub_files(folder), commit=COMMIT)
    spec: Any = embedder_spec(EmbedConfig(model="acme/tiny"))
    assert (spec.kind, spec.model, spec.revision, spec.folder) == ("transformers", "acme/tiny", COMMIT, None)
    assert spec.settle(Place).settled_options() == {"precision": "fp32", "revision": COMMIT}
    assert spec.identity() == embedder_spec(EmbedConfig(model=str(folder))).identity()
    texts = some_texts(5)
    assert np.array_equal(spec.open().embed(texts).vectors, opened(folder).embed(texts).vectors)
    with pytest.raises(ConfigError, match="needs the revision"):
        embedder_spec(EmbedConfig(model="acme/tiny", options={"trust_remote_code": True}))


def test_code_of_a_repository_runs_only_where_it_is_trusted_with_its_revision(
    folder: Path, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path / "modules"))
    own = shutil.copytree(folder, tmp_path / "own")
    config = json.loads((own / "config.json").read_text()) | {"model_type": "mine", "architectures": ["MineModel"]}
    config["auto_map"] = {"AutoConfig": "mine.MineConfig", "AutoModel": "mine.MineModel"}
    (own / "config.json").write_text(json.dumps(config))
    (own / "mine.py").write_text(CODE)
    cache_model(cache, "acme/own", hub_files(own), commit=COMMIT)
    with pytest.raises(ConfigError, match="needs code of its repository"):
        embedder_spec(EmbedConfig(model="acme/own", options={"revision": COMMIT}))
    trusted = EmbedConfig(model="acme/own", options={"revision": COMMIT, "trust_remote_code": True})
    spec = embedder_spec(trusted)
    identity = spec.identity()
    texts = some_texts(5)
    assert np.abs(spec.open().embed(texts).vectors - opened(folder).embed(texts).vectors).max() < 1e-6
    changed = cache / "models--acme--own" / "snapshots" / COMMIT / "mine.py"
    changed.write_text(CODE + "# another\n")
    assert embedder_spec(trusted).identity() != identity
    config["auto_map"]["AutoModel"] = "other/repository--mine.MineModel"
    (changed.parent / "config.json").write_text(json.dumps(config))
    with pytest.raises(ConfigError, match="in another repository"):
        embedder_spec(trusted).open()
