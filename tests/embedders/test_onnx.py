"""ONNX encoders: vectors equal to NumPy's whatever the batch, files chosen and refused by what they say, no torch."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from latentscale.config import EmbedConfig
from latentscale.embedders import embedder_spec, read_spec
from latentscale.embedders.onnx import OnnxSpec
from latentscale.embedders.onnx_session import OnnxSession, choose_provider
from latentscale.errors import ConfigError, ResourceError
from latentscale.machine import available_processors
from tests.embedders.tiny_onnx import TABLE, WORDS, expected, tiny_folder, write, write_graph

pytest.importorskip("onnxruntime", reason="these tests run ONNX models")

TEXTS = ["The cat sat on the mat", "dog", "a dog ran under the hat : on a mat the cat sat", "a cat ran", "zebra", ""]


def spec_of(folder: Path | str, *, max_tokens: int = 512, **options: Any) -> OnnxSpec:
    config = EmbedConfig(model=str(folder), max_tokens=max_tokens, options=options)
    return OnnxSpec.from_settings(config, vectors_column=None)


@pytest.mark.parametrize("pooled", [True, False])
@pytest.mark.parametrize("batch_tokens", [1, 24, 10_000])
def test_vectors_are_those_of_each_text_alone(tmp_path: Path, pooled: bool, batch_tokens: int) -> None:
    spec = spec_of(tiny_folder(tmp_path / "model", pooled=pooled), batch_tokens=batch_tokens)
    found = spec.open().embed(TEXTS)
    np.testing.assert_allclose(found.vectors[:4], [expected(text) for text in TEXTS[:4]], atol=1e-6)
    assert found.embeddable.tolist() == [True] * 4 + [False] * 2
    assert not found.vectors[4:].any()
    assert (found.tokens, found.unknown, found.truncated) == (6 + 1 + 13 + 3 + 1, 1, 0)
    assert (spec.dimensions, spec.token_limit, spec.name) == (8, 32, "model")


def test_inputs_of_int32_and_token_types_are_fed(tmp_path: Path) -> None:
    folder = tiny_folder(
        tmp_path / "model", inputs=("input_ids", "attention_mask", "token_type_ids"), input_type="INT32"
    )
    np.testing.assert_allclose(spec_of(folder).open().embed(["a cat"]).vectors[0], expected("a cat"), atol=1e-6)


def test_long_texts_are_cut_or_averaged_over_windows(tmp_path: Path) -> None:
    folder = tiny_folder(tmp_path / "model")
    long = " ".join(["cat dog mat hat"] * 3)
    cut = spec_of(folder, max_tokens=6).open().embed([long, "a cat"])
    np.testing.assert_allclose(cut.vectors[0], expected("cat dog mat hat"), atol=1e-6)
    assert cut.truncated == 1
    chunked = spec_of(folder, max_tokens=6, long="chunk", overlap=0).open().embed([long, "a cat"])
    np.testing.assert_allclose(chunked.vectors, [expected("cat dog mat hat"), expected("a cat")], atol=1e-6)
    assert chunked.truncated == 0


def test_prompts_come_first_and_are_left_out_of_the_pooling_where_the_files_say_so(tmp_path: Path) -> None:
    prompts = {"document": "passage: ", "query": "query: "}
    inside = tiny_folder(tmp_path / "inside", prompts=prompts)
    np.testing.assert_allclose(
        spec_of(inside).open().embed(["a cat"]).vectors[0], expected("a cat", prompt="passage: "), atol=1e-6
    )
    np.testing.assert_allclose(
        spec_of(inside, document_prompt="").open().embed(["a cat"]).vectors[0], expected("a cat"), atol=1e-6
    )
    outside = tiny_folder(tmp_path / "outside", prompts=prompts, pooled=False, pooling={"include_prompt": False})
    np.testing.assert_allclose(
        spec_of(outside).open().embed(["a cat", "dog"]).vectors[0],
        expected("a cat", prompt="passage: ", without_prompt=True),
        atol=1e-6,
    )
    np.testing.assert_allclose(
        spec_of(inside).open().embed_queries(["a cat"]).vectors[0], expected("a cat", prompt="query: "), atol=1e-6
    )
    whole = tiny_folder(tmp_path / "whole", prompts=prompts, pooling={"include_prompt": False})
    with pytest.raises(ConfigError, match="pools the tokens of a prompt too"):
        spec_of(whole)


def test_dimensions_are_cut_and_scaled_again(tmp_path: Path) -> None:
    folder = tiny_folder(tmp_path / "model")
    cut = expected("a cat")[:4]
    spec = spec_of(folder, dimensions=4)
    np.testing.assert_allclose(spec.open().embed(["a cat"]).vectors[0], cut / np.linalg.norm(cut), atol=1e-6)
    assert spec.dimensions == 4
    with pytest.raises(ConfigError, match="dimensions is 9, and the model has 8"):
        spec_of(folder, dimensions=9)
    nested = tiny_folder(tmp_path / "nested")
    (nested / "config_sentence_transformers.json").write_text(json.dumps({"matryoshka_dimensions": [2, 6]}))
    assert "trained" not in str(spec_of(nested, dimensions=8).notice({}))
    assert "cut to 4 numbers, and it was trained to be cut to 2, 6" in str(spec_of(nested, dimensions=4).notice({}))


def test_the_identity_is_of_bytes_and_settings_and_no_path(tmp_path: Path) -> None:
    first = spec_of(tiny_folder(tmp_path / "one"))
    second = spec_of(tiny_folder(tmp_path / "two"), batch_tokens=64, provider="cpu")
    assert first.identity() == second.identity()
    assert str(tmp_path) not in json.dumps(dict(first.identity()))
    others = [
        spec_of(tmp_path / "one", max_tokens=8),
        spec_of(tmp_path / "one", dimensions=4),
        spec_of(tmp_path / "one", document_prompt="query: "),
        spec_of(tmp_path / "one", max_tokens=8, long="chunk"),
        spec_of(tiny_folder(tmp_path / "three", table=TABLE * 2)),
        spec_of(tiny_folder(tmp_path / "four", pooled=False)),
    ]
    known = [json.dumps(dict(one.identity()), sort_keys=True) for one in [first, *others]]
    assert len(set(known)) == len(known)
    write(tmp_path / "two/tokenizer_config.json", {"model_max_length": 32})
    assert second.identity() != first.identity()


def test_a_spec_survives_its_record_and_a_file_names_its_folder(tmp_path: Path) -> None:
    folder = tiny_folder(tmp_path / "model")
    spec = spec_of(folder, batch_tokens=64)
    assert read_spec(json.loads(spec.model_dump_json())) == spec
    by_file = spec_of(folder / "onnx/model.onnx")
    assert by_file.identity() == spec.identity()
    assert by_file.file == "onnx/model.onnx"
    assert isinstance(embedder_spec(EmbedConfig(model=str(folder / "onnx/model.onnx"))), OnnxSpec)
    assert isinstance(embedder_spec(EmbedConfig(model=str(folder))), OnnxSpec)


def test_weights_beside_the_graph_are_found_or_named(tmp_path: Path) -> None:
    folder = tiny_folder(tmp_path / "model")
    alone = spec_of(folder).identity()
    write_graph(folder / "onnx/model.onnx", data_file="model.onnx_data")
    spec = spec_of(folder)
    np.testing.assert_allclose(spec.open().embed(["a cat"]).vectors[0], expected("a cat"), atol=1e-6)
    assert len(spec.identity()["graph"]) == 2
    assert spec.identity() != alone
    (folder / "onnx/model.onnx_data").unlink()
    with pytest.raises(ConfigError, match=r"has its weights in model\.onnx_data, which does not exist"):
        spec_of(folder)


@pytest.mark.parametrize(
    ("graph", "said"),
    [
        ({"inputs": ("input_ids", "attention_mask", "pixel_values")}, "needs the input 'pixel_values'"),
        ({"input_type": "FLOAT"}, r"takes input_ids: float32\[\?, \?\]"),
        ({"dims": (1, "tokens")}, "takes batches of exactly 1"),
        ({"output": "logits"}, r"has the outputs logits: float32\[\?, 8\]"),
        ({"double": True}, r"gives sentence_embedding: float64\[\?, 8\], not float32"),
        ({"table": TABLE[:, :6]}, "gives vectors of 6 values, and its folder describes a model of 8"),
        ({"quantised": True}, "precision is fp32, and .* is quantised"),
        ({"data_file": "../model.bin"}, "outside of its folder"),
    ],
)
def test_a_graph_that_does_not_fit_is_refused_before_it_is_loaded(
    tmp_path: Path, graph: dict[str, Any], said: str
) -> None:
    folder = tiny_folder(tmp_path / "model")
    if "data_file" in graph:
        graph = graph | {"data_file": "onnx_data"}
    write_graph(folder / "onnx/model.onnx", **graph)
    if "data_file" in graph:
        path = folder / "onnx/model.onnx"
        path.write_bytes(path.read_bytes().replace(b"onnx_data", b"../x_data"))
    with pytest.raises(ConfigError, match=said) as refused:
        spec_of(folder)
    assert refused.value.hint


def test_damaged_files_are_refused(tmp_path: Path) -> None:
    folder = tiny_folder(tmp_path / "model")
    path = folder / "onnx/model.onnx"
    whole = path.read_bytes()
    for damaged in (b"", whole[:-40], b"version https://git-lfs.github.com/spec/v1\n", bytes(200)):
        path.write_bytes(damaged)
        with pytest.raises(ConfigError, match="is not an ONNX file, or is damaged"):
            spec_of(folder)


def test_what_only_onnxruntime_can_tell_is_said_when_the_model_is_opened(tmp_path: Path) -> None:
    folder = tiny_folder(tmp_path / "model")
    write_graph(folder / "onnx/model.onnx", opset=99)
    with pytest.raises(ConfigError, match=r"is written for ai\.onnx 99, which onnxruntime"):
        spec_of(folder).open()
    write_graph(folder / "onnx/model.onnx", table=TABLE[:9])
    with pytest.raises(ConfigError, match="the tokenizer gives a token for which"):
        spec_of(folder).open()
    write_graph(folder / "onnx/model.onnx", table=TABLE * np.nan)
    with pytest.raises(ConfigError, match="not finite"):
        spec_of(folder).open()


def test_vectors_that_are_no_numbers_are_an_error_that_names_the_texts(tmp_path: Path) -> None:
    folder = tiny_folder(tmp_path / "model")
    table = TABLE.copy()
    table[WORDS.index("cat")] = np.inf
    for pooled in (True, False):
        write_graph(folder / "onnx/model.onnx", table=table, pooled=pooled)
        with pytest.raises(ConfigError, match="infinite vectors for 1 of 3 texts: 'a cat'") as refused:
            spec_of(folder, batch_tokens=8).open().embed(["dog", "a cat", "the hat"])
        assert refused.value.where == "texts 1 of the shard"


def test_missing_files_are_named(tmp_path: Path) -> None:
    folder = tiny_folder(tmp_path / "model")
    with pytest.raises(ConfigError, match=r"no ONNX file of int8 .* it has onnx/model\.onnx"):
        spec_of(folder, precision="int8")
    with pytest.raises(ConfigError, match=r"has no onnx/other\.onnx; it has onnx/model\.onnx"):
        spec_of(folder, file="onnx/other.onnx")
    with pytest.raises(ConfigError, match="there is no ONNX file"):
        spec_of(tmp_path / "nothing.onnx")
    with pytest.raises(ConfigError, match=r"embed\.options\.batch_size"):
        spec_of(folder, batch_size=3)
    (folder / "onnx/model.onnx").unlink()
    with pytest.raises(ConfigError, match="has no ONNX file") as refused:
        spec_of(folder)
    assert "models export" in str(refused.value.hint)
    bare = tiny_folder(tmp_path / "bare", modules=False, pooled=False)
    with pytest.raises(ConfigError, match="does not say how the vectors of tokens become that of a text"):
        spec_of(bare)
    np.testing.assert_allclose(
        spec_of(bare, pooling="mean").open().embed(["a cat"]).vectors[0], expected("a cat"), atol=1e-6
    )


def test_a_provider_that_is_not_there_is_an_error_and_auto_says_what_it_took(tmp_path: Path) -> None:
    folder = tiny_folder(tmp_path / "model")
    asked = spec_of(folder, provider="cuda")
    assert asked.resources().gpus == 1
    with pytest.raises(ConfigError, match="provider is cuda"):
        asked.open("cpu")
    assert spec_of(folder).open("cpu").device == "cpu (CPUExecutionProvider)"


def test_the_provider_follows_from_what_is_asked_what_the_worker_has_and_what_is_installed() -> None:
    both, alone = ["CUDAExecutionProvider", "CPUExecutionProvider"], ["CPUExecutionProvider"]
    assert choose_provider("auto", "cuda:0", both, version="1") == "cuda"
    assert choose_provider("auto", "cpu", both, version="1") == "cpu"
    assert choose_provider("auto", "cuda:0", alone, version="1") == "cpu"
    assert choose_provider("cpu", "cuda:0", both, version="1") == "cpu"
    assert choose_provider("cuda", "cuda:0", both, version="1") == "cuda"
    with pytest.raises(ConfigError, match="has only CPUExecutionProvider"):
        choose_provider("cuda", "cuda:0", alone, version="1")
    with pytest.raises(ConfigError, match="this worker has no GPU"):
        choose_provider("cuda", "cpu", both, version="1")


def test_a_provider_that_cannot_start_is_no_reason_to_compute_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # onnxruntime itself goes on with processors where the libraries of CUDA are missing.
    monkeypatch.setattr("onnxruntime.get_available_providers", lambda: ["CUDAExecutionProvider"])
    with pytest.raises(ConfigError, match="has CUDAExecutionProvider, but cannot start it") as refused:
        spec_of(tiny_folder(tmp_path / "model"), provider="cuda").open("cuda:0")
    assert "embed.options.provider=cpu" in str(refused.value.hint)


def test_threads_are_the_share_that_the_engine_gave(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tiny_folder(tmp_path / "model")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert OnnxSession(folder / "onnx/model.onnx").threads == 1
    monkeypatch.delenv("OMP_NUM_THREADS")
    assert OnnxSession(folder / "onnx/model.onnx").threads == available_processors()


def test_int8_is_measured_on_the_documents_and_refused_where_it_is_far_from_fp32(tmp_path: Path) -> None:
    words = WORDS[4:14]
    rng = np.random.default_rng(0)
    texts = [" ".join(rng.choice(words, 12)) for _ in range(200)]
    near = spec_of(tiny_folder(tmp_path / "near", int8=True, noise=0.0), precision="int8")
    assert near.check_rows == 256
    said = near.check(texts)
    assert said["rows"] == 200
    assert said["mean_cosine"] > 0.999
    assert said["recall"] > 0.95
    assert said["forced"] is False
    assert "of the 15 nearest neighbours kept" in said["summary"]
    far = tiny_folder(tmp_path / "far", int8=True, noise=0.6)
    with pytest.raises(ConfigError, match="int8 is too far from fp32 for these documents") as refused:
        spec_of(far, precision="int8").check(texts)
    assert "embed.options.force=true" in str(refused.value.hint)
    forced = spec_of(far, precision="int8", force=True).check(texts)
    assert forced["forced"] is True
    assert "used all the same" in forced["summary"]


def test_int8_without_a_reference_is_refused_at_once_or_used_unchecked(tmp_path: Path) -> None:
    folder = tiny_folder(tmp_path / "model", int8=True)
    (folder / "onnx/model.onnx").unlink()
    with pytest.raises(ConfigError, match=r"int8 is compared with fp32 .* cannot be done"):
        spec_of(folder, precision="int8")
    said = spec_of(folder, precision="int8", force=True).check(["a cat"])
    assert said["rows"] == 0
    assert "unchecked" in said["summary"]


def test_where_memory_does_not_hold_a_batch_it_is_halved_with_equal_vectors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = spec_of(tiny_folder(tmp_path / "model"), batch_tokens=64).open()
    whole = opened.embed(TEXTS)
    session = opened._session
    compute = session.run

    def tight(inputs: dict[str, np.ndarray], output: str) -> np.ndarray:
        if inputs["input_ids"].size > 16:
            raise ResourceError("no room")
        return compute(inputs, output)

    monkeypatch.setattr(session, "run", tight)
    halved = opened.embed(TEXTS)
    np.testing.assert_allclose(halved.vectors, whole.vectors, atol=1e-6)
    assert opened.budget < 64
    assert (whole.halved, halved.halved > 0) == (0, True)


def test_no_torch_and_no_transformers_are_imported(tmp_path: Path) -> None:
    folder = tiny_folder(tmp_path / "model")
    code = f"""
import sys
from latentscale.embedders import open_embedder
open_embedder({str(folder)!r}).embed(["a cat"])
assert not {{"torch", "transformers", "onnx"}} & set(sys.modules), sorted(sys.modules)
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=500)
