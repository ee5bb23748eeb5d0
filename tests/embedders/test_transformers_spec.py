"""The kind `transformers` before a weight is loaded: what it knows, what its identity is, and what it refuses."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest
from safetensors.numpy import save_file

from latentscale.config import EmbedConfig
from latentscale.embedders import embedder_spec, read_spec
from latentscale.embedders.encoder import weights
from latentscale.embedders.encoder.precision import has_bf16, resolve_precision
from latentscale.embedders.sentence_folder import read_sentence_folder
from latentscale.embedders.transformers import TransformersSpec
from latentscale.errors import ConfigError
from latentscale.machine import Gpu, Place
from tests.embedders.encoder_files import HIDDEN, write, write_dense, write_encoder

H100 = Gpu(name="NVIDIA H100 80GB HBM3", memory_gib=80, driver="1")
T4 = Gpu(name="Tesla T4", memory_gib=16, driver="1")
PROMPTS = {"prompts": {"query": "query: ", "passage": "the "}}


def spec_of(folder, *, kind="auto", max_tokens=512, **options) -> TransformersSpec:
    found = embedder_spec(EmbedConfig(model=str(folder), kind=kind, max_tokens=max_tokens, options=options))
    assert isinstance(found, TransformersSpec)
    return found


@pytest.fixture
def folder(tmp_path):
    return write_encoder(tmp_path / "tiny", lengths={"max_seq_length": 32}, prompts=PROMPTS)


def test_a_folder_with_an_encoder_is_of_this_kind_and_torch_is_not_imported(folder):
    found = spec_of(folder)
    assert (found.name, found.dimensions, found.token_limit, found.pooling) == ("tiny", HIDDEN, 32, ("mean",))
    assert (found.document_prompt, found.document_prompt_name, found.query_prompt) == ("the ", "passage", "query: ")
    assert not found.deterministic
    assert read_spec(json.loads(found.model_dump_json())) == found
    notice = found.notice({})
    assert "tiny in fp32 with the prompt 'the ' (passage) before each text" in str(notice)
    assert "it takes 32 tokens of a text, fewer than embed.max_tokens = 512" in str(notice)


def test_a_width_that_the_model_was_not_trained_for_is_said(tmp_path):
    prompts = {"matryoshka_dimensions": [4, 8]}
    folder = write_encoder(tmp_path / "tiny", lengths={"max_seq_length": 32}, prompts=prompts)
    for width in (4, 8, HIDDEN):
        assert "trained" not in str(spec_of(folder, dimensions=width).notice({}))
    assert "cut to 5 numbers, and it was trained to be cut to 4, 8" in str(spec_of(folder, dimensions=5).notice({}))


@pytest.mark.parametrize("kind", ["auto", "transformers"])
def test_a_folder_below_the_home_folder(folder, monkeypatch, kind):
    monkeypatch.setenv("HOME", str(folder.parent))
    found = embedder_spec(EmbedConfig(model=f"~/{folder.name}", kind=kind))
    assert found.identity() == spec_of(folder).identity()


def test_a_driver_needs_no_torch(folder):
    script = (
        "import sys; sys.modules['torch'] = sys.modules['transformers'] = None\n"
        "from latentscale.config import EmbedConfig; from latentscale.embedders import embedder_spec\n"
        f"spec = embedder_spec(EmbedConfig(model={str(folder)!r}, kind='transformers'))\n"
        "print(spec.identity()['dim'], spec.resources().memory > 0, spec.notice({}) != '')\n"
        "spec.open()"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.stdout.split() == [str(HIDDEN), "True", "True"], done.stderr
    assert "MissingPackageError" in done.stderr
    assert "pip install 'latentscale[torch]'" in done.stderr


def test_the_identity_is_of_bytes_and_settings_and_not_of_a_place_or_a_speed(folder, tmp_path):
    identity = spec_of(folder).identity()
    moved = write_encoder(tmp_path / "elsewhere", lengths={"max_seq_length": 32}, prompts=PROMPTS)
    assert spec_of(moved).identity() == identity
    assert str(tmp_path) not in json.dumps(dict(identity))
    for same in (
        {"batch_tokens": 7},
        {"tokenizer_processes": 1},
        {"attention": "eager"},
        {"compile": True},
        {"query_prompt": "q"},
    ):
        assert spec_of(folder, **same).identity() == identity
    for other in (
        {"pooling": "cls"},
        {"document_prompt": ""},
        {"document_prompt": "query"},
        {"dimensions": 8},
        {"precision": "bf16"},
        {"long": "chunk"},
    ):
        assert spec_of(folder, **other).identity() != identity
    assert spec_of(folder, max_tokens=16).identity() != identity
    assert spec_of(folder, max_tokens=32).identity() == identity
    save_file({"embeddings": np.ones((80, HIDDEN), np.float32)}, moved / "model.safetensors")
    assert spec_of(moved).identity() != identity


def test_prompts_by_name_by_text_and_none(folder):
    assert spec_of(folder, document_prompt="query").document_prompt == "query: "
    named = spec_of(folder, document_prompt="title: ")
    assert (named.document_prompt, named.document_prompt_name) == ("title: ", "")
    assert "no prompt" in str(spec_of(folder, document_prompt="").notice({}))


def test_windows_overlap_by_an_eighth_unless_the_settings_say_otherwise(folder):
    assert spec_of(folder, long="chunk").overlap == 4
    assert spec_of(folder, long="chunk", overlap=0).overlap == 0
    assert "takes 32 tokens at a time" in str(spec_of(folder, long="chunk").notice({}))


def test_the_precision_is_settled_where_the_model_will_run(folder):
    asked: list[str] = []

    def place():
        asked.append("place")
        return Place(gpus=(H100,))

    settled = spec_of(folder).settle(place)
    assert settled.precision == "bf16"
    assert settled.identity()["precision"] == "bf16"
    assert settled.settled_options() == {"precision": "bf16"}
    assert spec_of(folder).settle(Place).precision == "fp32"
    assert spec_of(folder, precision="fp16").settle(place).precision == "fp16"
    assert asked == ["place"]


@pytest.mark.parametrize(
    ("name", "has"),
    [
        ("NVIDIA H100 80GB HBM3", True),
        ("NVIDIA A100-SXM4-40GB", True),
        ("NVIDIA A10G", True),
        ("NVIDIA L4", True),
        ("NVIDIA B200", True),
        ("NVIDIA GeForce RTX 4090", True),
        ("NVIDIA RTX 6000 Ada Generation", True),
        ("NVIDIA RTX A6000", True),
        ("Tesla T4", False),
        ("Tesla V100-SXM2-16GB", False),
        ("Tesla P100-PCIE-16GB", False),
        ("Quadro RTX 6000", False),
        ("NVIDIA GeForce GTX 1080 Ti", False),
        ("NVIDIA GeForce RTX 2080 Ti", False),
    ],
)
def test_gpus_with_bfloat16(name, has):
    assert has_bf16(name) == has


def test_auto_never_means_float16():
    assert resolve_precision("auto", [H100]) == "bf16"
    assert resolve_precision("auto", [H100, T4]) == "fp32"
    assert resolve_precision("auto", []) == "fp32"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"dimensions": 17}, "vectors of 16 numbers, fewer than 17"),
        ({"pooling": "median"}, r"embed\.options\.pooling"),
        ({"overlap": 3}, "overlap is for long: chunk"),
        ({"trust_remote_code": True}, "needs the revision of the code"),
        ({"revision": "main"}, "a folder has no revision"),
        ({"precision": "fp8"}, r"embed\.options\.precision"),
        ({"batch": 7}, r"Known here: .*batch_tokens"),
    ],
)
def test_options_that_do_not_fit(folder, options, said):
    with pytest.raises(ConfigError, match=said):
        spec_of(folder, **options)


def test_a_plain_encoder_needs_a_pooling(folder):
    (folder / "modules.json").unlink()
    with pytest.raises(ConfigError, match="does not say how its tokens become one vector") as caught:
        spec_of(folder)
    assert caught.value.where == "embed.options.pooling"
    assert spec_of(folder, pooling="cls").pooling == ("cls",)


def test_a_pooling_that_the_layer_after_it_cannot_take(tmp_path):
    both = {"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": True}
    folder = write_encoder(tmp_path, modules=("Transformer", "Pooling", "Dense"), pooling=both)
    write_dense(folder / "2_Dense", inputs=2 * HIDDEN)
    assert spec_of(folder).dimensions == 8
    with pytest.raises(ConfigError, match="gives 16 numbers, and the layer after it takes 32"):
        spec_of(folder, pooling="cls")


def test_weights_in_a_form_that_can_hold_code_are_not_read(folder):
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(ConfigError, match=r"has no model\.safetensors, only pytorch_model\.bin") as caught:
        spec_of(folder)
    assert "Only safetensors are read" in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"\x08\x00\x00\x00\x00\x00\x00\x00{", b"x" * 500])
def test_weights_that_are_damaged(folder, content):
    (folder / "model.safetensors").write_bytes(content)
    with pytest.raises(ConfigError, match=r"model\.safetensors cannot be read"):
        spec_of(folder)


def test_weights_that_were_cut_off(folder):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ConfigError, match=r"model\.safetensors cannot be read"):
        spec_of(folder)


def test_weights_in_parts(folder):
    (folder / "model.safetensors").rename(folder / "part-1.safetensors")
    write(folder / weights.INDEX, {"weight_map": {"a": "part-1.safetensors", "b": "part-2.safetensors"}})
    with pytest.raises(ConfigError, match=r"lacks part-2\.safetensors, which .* names \(1 of 2 missing\)"):
        spec_of(folder)
    write(folder / weights.INDEX, {"weight_map": {"a": "../part-1.safetensors"}})
    with pytest.raises(ConfigError, match="leads out of its folder"):
        spec_of(folder)
    write(folder / weights.INDEX, {"weight_map": {"a": "part-1.safetensors"}})
    assert spec_of(folder).dimensions == HIDDEN


def test_an_adapter_is_no_model(folder):
    (folder / "model.safetensors").unlink()
    write(folder / "adapter_config.json", {})
    with pytest.raises(ConfigError, match="contains an adapter"):
        spec_of(folder)


def test_weights_of_a_layer_that_are_of_another_shape(tmp_path):
    folder = write_encoder(tmp_path, modules=("Transformer", "Pooling", "Dense"))
    write_dense(folder / "2_Dense")
    write_dense(folder / "2_Dense", out_features=9)
    with pytest.raises(ConfigError, match=r"linear\.weight of the shape \(8, 16\), and its settings say \(9, 16\)"):
        spec_of(folder)


def test_a_model_that_needs_its_own_code(folder):
    config = json.loads((folder / "config.json").read_text())
    write(folder / "config.json", config | {"model_type": "my-own", "auto_map": {"AutoModel": "modeling.Mine"}})
    with pytest.raises(ConfigError, match="needs code of its repository") as caught:
        spec_of(folder)
    assert "embed.options.revision" in str(caught.value)


def test_a_module_of_another_package_is_refused(folder):
    modules = json.loads((folder / "modules.json").read_text())
    modules[0]["type"] = "custom_st.Transformer"
    write(folder / "modules.json", modules)
    with pytest.raises(ConfigError, match=r"needs code of its repository: the module custom_st\.Transformer"):
        spec_of(folder)


def test_a_kind_is_forced_or_found(folder):
    assert spec_of(folder, kind="transformers") == spec_of(folder)
    with pytest.raises(ConfigError, match="no kind of embedder 'transformer'") as caught:
        spec_of(folder, kind="transformer")
    assert "Did you mean 'transformers'?" in str(caught.value)
    with pytest.raises(ConfigError, match="embeddings"):
        embedder_spec(EmbedConfig(model=str(folder), kind="static"))
    with pytest.raises(ConfigError, match="which is another kind"):
        embedder_spec(EmbedConfig(model="static", kind="transformers"))
    with pytest.raises(ConfigError, match="which is a kind of model, not a model"):
        embedder_spec(EmbedConfig(model="transformers"))


def test_a_worker_gets_the_memory_of_the_weights(folder):
    numbers = weights.check_weights(read_sentence_folder(folder))
    assert numbers == 80 * HIDDEN
    asked = spec_of(folder).resources()
    assert asked.memory > 4 * numbers
    assert asked.gpus == "auto"
    assert spec_of(folder, tokenizer_processes=2).resources().memory == asked.memory + 2 * 200_000_000
