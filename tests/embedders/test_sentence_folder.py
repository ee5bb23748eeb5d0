"""What the files of a sentence encoder say, in the old and the new layout, and what is refused by its file's name."""

from __future__ import annotations

import json

import pytest

from latentscale.embedders.sentence_folder import (
    Dense,
    LayerNorm,
    Normalize,
    is_sentence_folder,
    read_sentence_folder,
)
from latentscale.errors import ConfigError
from tests.embedders.encoder_files import HIDDEN, NEW, OLD, write, write_dense, write_encoder


@pytest.mark.parametrize("package", [OLD, NEW])
@pytest.mark.parametrize(
    ("pooling", "found"),
    [
        ({"word_embedding_dimension": HIDDEN, "pooling_mode_cls_token": True}, ("cls",)),
        ({"word_embedding_dimension": HIDDEN, "pooling_mode_cls_token": False}, ("mean",)),
        ({"pooling_mode_mean_tokens": True, "pooling_mode_cls_token": True}, ("cls", "mean")),
        ({"embedding_dimension": HIDDEN, "pooling_mode": "lasttoken"}, ("lasttoken",)),
        ({"embedding_dimension": HIDDEN, "pooling_mode": ["max", "weightedmean"]}, ("max", "weightedmean")),
    ],
)
def test_pooling_is_read_in_both_layouts(tmp_path, package, pooling, found):
    folder = read_sentence_folder(write_encoder(tmp_path, package=package, pooling=pooling))
    assert folder.pooling == found
    assert folder.dimensions == HIDDEN * len(found)
    assert folder.heads == (Normalize(),)
    assert folder.include_prompt


def test_heads_follow_in_their_order_and_the_last_width_is_that_of_the_model(tmp_path):
    write_encoder(tmp_path, modules=("Transformer", "Pooling", "Dense", "LayerNorm", "Normalize"))
    write_dense(tmp_path / "2_Dense", outputs=8, activation_function="torch.nn.modules.linear.Identity")
    write(tmp_path / "3_LayerNorm" / "config.json", {"dimension": 8})
    folder = read_sentence_folder(tmp_path)
    dense, norm, last = folder.heads
    assert dense == Dense(folder=tmp_path / "2_Dense", in_features=HIDDEN, out_features=8, activation="Identity")
    assert norm == LayerNorm(folder=tmp_path / "3_LayerNorm", width=8)
    assert last == Normalize()
    assert (folder.hidden, folder.dimensions, folder.normalise, folder.dense) == (HIDDEN, 8, True, (dense,))


def test_a_plain_encoder_has_no_pooling_and_none_is_guessed(tmp_path):
    write_encoder(tmp_path)
    (tmp_path / "modules.json").unlink()
    folder = read_sentence_folder(tmp_path)
    assert (folder.modules, folder.pooling, folder.heads, folder.dimensions) == ((), (), (), HIDDEN)


@pytest.mark.parametrize(
    ("prompts", "default", "document", "query"),
    [
        ({}, None, ("", ""), ""),
        ({"query": "q: ", "document": "d: "}, None, ("document", "d: "), "q: "),
        ({"query": "q: ", "passage": "p: ", "corpus": "c: "}, None, ("passage", "p: "), "q: "),
        ({"query": "q: ", "document": "d: ", "Clustering": "sort: "}, None, ("Clustering", "sort: "), "q: "),
        ({"web": "w: "}, "web", ("web", "w: "), "w: "),
        ({"query": "q: ", "document": ""}, "query", ("document", ""), "q: "),
    ],
)
def test_prompts_of_documents_and_queries(tmp_path, prompts, default, document, query):
    write_encoder(tmp_path, prompts={"prompts": prompts, "default_prompt_name": default})
    folder = read_sentence_folder(tmp_path)
    assert (folder.document_prompt_name, folder.document_prompt) == document
    assert folder.query_prompt == query
    assert folder.prompts == prompts


@pytest.mark.parametrize(
    ("config", "lengths", "tokenizer", "longest"),
    [
        ({}, {"max_seq_length": 32}, {}, 32),
        ({}, {"max_seq_length": 128}, {}, 64),
        ({}, {"max_seq_length": None}, {"model_max_length": 48}, 48),
        ({}, None, {"model_max_length": 1e30}, 64),
        ({"model_type": "roberta", "pad_token_id": 1}, None, {}, 62),
        ({"model_type": "t5", "max_position_embeddings": None, "n_positions": 512}, None, {}, None),
        ({"max_position_embeddings": -1}, None, {}, None),
    ],
)
def test_the_longest_text(tmp_path, config, lengths, tokenizer, longest):
    write_encoder(tmp_path, config=config, lengths=lengths)
    write(tmp_path / "tokenizer_config.json", tokenizer)
    assert read_sentence_folder(tmp_path).max_seq_length == longest


def test_widths_of_other_families_and_matryoshka_ones(tmp_path):
    write_encoder(tmp_path, config={"hidden_size": None, "d_model": HIDDEN, "matryoshka_dimensions": [8, 4]})
    folder = read_sentence_folder(tmp_path)
    assert (folder.hidden, folder.matryoshka) == (HIDDEN, (4, 8))


def test_code_of_the_repository_is_named(tmp_path):
    write_encoder(tmp_path, config={"auto_map": {"AutoModel": "modeling.Model"}})
    assert read_sentence_folder(tmp_path).own_code == ("auto_map in config.json",)
    modules = json.loads((tmp_path / "modules.json").read_text())
    modules[0]["type"] = "custom_st.Transformer"
    write(tmp_path / "modules.json", modules)
    assert read_sentence_folder(tmp_path).own_code[0] == "module custom_st.Transformer"


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("config.json", [], "is not a JSON object"),
        ("config.json", {"model_type": "bert"}, "does not say the width"),
        ("modules.json", {"a": 1}, "is not a list of modules"),
        ("modules.json", [{"type": f"{OLD}.StaticEmbedding", "path": ""}], "is that of a static model"),
        ("modules.json", [{"type": f"{OLD}.CLIPModel", "path": ""}], "begins with 'CLIPModel'"),
        ("modules.json", [{"type": f"{OLD}.Transformer", "path": "../other"}], "leads out of its folder"),
        (
            "modules.json",
            [{"type": f"{OLD}.Transformer", "path": ""}, {"type": f"{OLD}.CNN", "path": "1"}],
            "has the module 'CNN'",
        ),
        (
            "modules.json",
            [{"type": f"{OLD}.Transformer", "path": ""}, {"type": f"{OLD}.Normalize", "path": "1"}],
            "no pooling before it",
        ),
        ("1_Pooling/config.json", {"pooling_mode": "median"}, "has the pooling"),
        ("config_sentence_transformers.json", {"default_prompt_name": "x"}, "no prompt of that name"),
        ("config_sentence_transformers.json", {"prompts": ["x"]}, "prompts that are no texts"),
    ],
)
def test_what_does_not_fit_is_refused_by_its_file(tmp_path, name, content, said):
    write_encoder(tmp_path)
    write(tmp_path / name, content)
    with pytest.raises(ConfigError, match=said) as caught:
        read_sentence_folder(tmp_path)
    assert name in str(caught.value) or name.startswith("1_")


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"inputs": 4}, "a module Dense for vectors of 4 after ones of 16"),
        ({"activation_function": "evil.Activation"}, "not one of torch"),
        ({"out_features": True}, "not a positive whole number"),
        ({"module_input_name": "token_embeddings"}, "not over the vector of the text"),
    ],
)
def test_layers_that_do_not_fit_are_refused(tmp_path, changed, said):
    write_encoder(tmp_path, modules=("Transformer", "Pooling", "Dense"))
    write_dense(tmp_path / "2_Dense", **changed)
    with pytest.raises(ConfigError, match=said):
        read_sentence_folder(tmp_path)


def test_a_file_that_is_no_json_or_missing(tmp_path):
    write_encoder(tmp_path)
    (tmp_path / "config.json").write_bytes(b"{\xff")
    with pytest.raises(ConfigError, match=r"config\.json cannot be read"):
        read_sentence_folder(tmp_path)
    (tmp_path / "config.json").unlink()
    with pytest.raises(ConfigError, match=r"config\.json is missing"):
        read_sentence_folder(tmp_path)


def test_encoders_are_told_from_static_models_and_from_any_folder(tmp_path):
    assert is_sentence_folder(write_encoder(tmp_path / "encoder"))
    write(tmp_path / "plain" / "config.json", {"model_type": "roberta"})
    assert is_sentence_folder(tmp_path / "plain")
    write(tmp_path / "static" / "config.json", {"model_type": "model2vec"})
    assert not is_sentence_folder(tmp_path / "static")
    write(tmp_path / "st" / "modules.json", [{"type": f"{NEW}.StaticEmbedding", "path": ""}])
    assert not is_sentence_folder(tmp_path / "st")
    assert not is_sentence_folder(tmp_path)
