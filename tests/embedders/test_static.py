"""The static embedder: equal to model2vec, independent of the batch, honest about what it cannot embed."""

from __future__ import annotations

import hashlib
import json

import numpy as np
import pytest
from model2vec import StaticModel
from model2vec.quantization import quantize_embeddings
from safetensors.numpy import load_file, save_file

from latentscale.embedders import open_embedder, read_spec
from latentscale.embedders.static import StaticEmbedder, StaticSpec
from latentscale.errors import ConfigError
from latentscale.models import STATIC_MODELS, STATIC_REVISION, static_model_path

TEXTS = [
    "What can I do if my card still hasn't arrived after 2 weeks?",
    "PostgreSQL 15: object-relational SQL database (server), version 15.",
    "naïve café – Ünïcödé, 日本語 and русский; emoji 🎉!",
    "tabs\tand\nnew lines\r\nand a bell\x07inside",
    "[PAD] [unk] and a [UNK] token",
    "x" * 150 + " a word that is too long",
    "battery",
    "word " * 700,
]


@pytest.fixture(scope="module", params=sorted(STATIC_MODELS))
def revision(request) -> str:
    return request.param


@pytest.fixture(scope="module")
def embedder(revision) -> StaticEmbedder:
    return StaticEmbedder(static_model_path(revision))


@pytest.fixture(scope="module")
def reference(revision) -> StaticModel:
    return StaticModel.from_pretrained(static_model_path(revision))


def test_the_vectors_equal_those_of_model2vec(embedder, reference):
    expected = reference.encode(TEXTS, normalize=True)
    np.testing.assert_allclose(embedder.embed(TEXTS).vectors, expected, atol=1e-6)


@pytest.mark.parametrize("max_tokens", [1, 7, 128])
def test_a_shorter_limit_equals_that_of_model2vec(reference, revision, max_tokens):
    expected = reference.encode(TEXTS, max_length=max_tokens, normalize=True)
    short = StaticEmbedder(static_model_path(revision), max_tokens=max_tokens)
    np.testing.assert_allclose(short.embed(TEXTS).vectors, expected, atol=1e-6)


def test_a_vector_does_not_depend_on_the_batch(embedder):
    texts = [f"{TEXTS[number % len(TEXTS)]} {number}" for number in range(1100)]
    together = embedder.embed(texts).vectors
    backwards = embedder.embed(texts[::-1]).vectors[::-1]
    alone = np.concatenate([embedder.embed([text]).vectors for text in texts[500:560]])
    assert together.tobytes() == backwards.tobytes()
    assert together[500:560].tobytes() == alone.tobytes()


def test_vectors_have_length_one_and_texts_without_a_known_token_have_none(embedder):
    result = embedder.embed(["a real text", "", "   \n", "🎉🎉", "𐎀𐎁"])
    assert result.embeddable.tolist() == [True, False, False, False, False]
    np.testing.assert_allclose(np.linalg.norm(result.vectors, axis=1), [1, 0, 0, 0, 0], atol=1e-6)
    assert (result.tokens, result.unknown, result.truncated) == (5, 2, 0)


def test_cut_texts_are_counted(embedder):
    assert embedder.embed(["short", "word " * 513, "word " * 512, "x" * 4000]).truncated == 2


def test_an_empty_batch_is_an_empty_matrix(embedder):
    result = embedder.embed([])
    assert result.vectors.shape == (0, 256)
    assert result.tokens == 0


def test_the_identity_follows_the_bytes_of_the_model_and_not_its_place(tmp_path):
    copy = tmp_path / "elsewhere"
    copy.mkdir()
    for name in ("model.safetensors", "tokenizer.json", "config.json"):
        (copy / name).write_bytes((static_model_path() / name).read_bytes())
    shipped = StaticSpec(revision=STATIC_REVISION).identity()
    assert StaticSpec(folder=str(copy)).identity() == shipped
    assert json.loads(json.dumps(shipped)) == shipped
    assert StaticSpec(folder=str(copy), max_tokens=64).identity() != shipped

    table = load_file(copy / "model.safetensors")
    table["embeddings"][5, 5] += 1
    save_file(table, copy / "model.safetensors")
    assert StaticSpec(folder=str(copy)).identity()["revision"] != shipped["revision"]


def test_a_spec_knows_width_and_limits_without_loading_the_model(embedder, revision, monkeypatch):
    monkeypatch.setattr("latentscale.embedders.static.load_model", None)
    spec = StaticSpec(revision=revision, max_tokens=7)
    assert (spec.dimensions, spec.token_limit, spec.name) == (embedder.dim, 7, STATIC_MODELS[revision])
    assert read_spec(json.loads(spec.model_dump_json())) == spec
    assert spec.identity()["max_tokens"] == 7


@pytest.mark.parametrize("kind", ["float16", "weighted"])
def test_other_kinds_of_model2vec_models_are_read_too(tmp_path, kind):
    rng = np.random.default_rng(0)
    table = load_file(static_model_path() / "model.safetensors")["embeddings"][:, :16].astype(np.float32) / 50
    extra = {}
    if kind == "weighted":
        extra = {
            "weights": rng.random(len(table), dtype=np.float32),
            "token_mapping": rng.integers(0, 1000, len(table)),
        }
        table = table[:1000]
    model = StaticModel(
        quantize_embeddings(table, "float16" if kind == "float16" else "float32"),
        _tokenizer(),
        normalize=True,
        **extra,
    )
    model.save_pretrained(tmp_path / "model")
    result = StaticEmbedder(tmp_path / "model").embed(TEXTS)
    np.testing.assert_allclose(result.vectors, model.encode(TEXTS).astype(np.float32), atol=2e-3)


def test_a_folder_that_is_no_model_is_refused_with_what_is_missing(tmp_path):
    (tmp_path / "pytorch_model.bin").write_bytes(b"")
    with pytest.raises(ConfigError, match=r"model\.safetensors, tokenizer\.json, config\.json missing"):
        open_embedder(str(tmp_path))


def test_a_damaged_model_is_refused(tmp_path):
    for name in ("model.safetensors", "tokenizer.json", "config.json"):
        (tmp_path / name).write_bytes((static_model_path() / name).read_bytes()[:1000])
    with pytest.raises(ConfigError, match="cannot be read"):
        open_embedder(str(tmp_path))


def test_an_unknown_name_is_refused_with_the_nearest_one():
    with pytest.raises(ConfigError, match="Did you mean 'static'"):
        open_embedder("statik")


def test_the_shipped_model_is_small_and_is_the_one_that_its_provenance_describes(revision):
    folder = static_model_path(revision)
    provenance = json.loads((folder / "provenance.json").read_text(encoding="utf-8"))
    for name, facts in provenance["files"].items():
        data = (folder / name).read_bytes()
        assert hashlib.sha256(data).hexdigest() == facts["sha256"]
    assert sum(path.stat().st_size for path in folder.iterdir()) < 10_000_000
    assert len(provenance["teacher"]["sha256"]["model.safetensors"]) == 64
    assert "Apache License, Version 2.0" in (folder / "README.md").read_text(encoding="utf-8")


def test_similar_sentences_are_nearer_than_others(embedder):
    vectors = embedder.embed(
        ["my bank card was stolen", "someone took my debit card", "a library for parsing XML documents"]
    ).vectors
    assert vectors[0] @ vectors[1] > vectors[0] @ vectors[2] + 0.2


def _tokenizer():
    from tokenizers import Tokenizer

    return Tokenizer.from_file(str(static_model_path() / "tokenizer.json"))
