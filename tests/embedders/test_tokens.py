"""Tokens of many texts: equal to the tokenizer's own truncation, windows over long texts, texts hard to read."""

from __future__ import annotations

import random

import numpy as np
import pytest
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from latentscale.embedders.tokens import TextTokenizer, lower, open_tokenizer, special_tokens
from latentscale.errors import ConfigError
from tests.embedders.encoder_files import WORDS, word_pieces, write, write_encoder

PROMPT = "query: "


def some_texts(count: int = 200) -> list[str]:
    generator = random.Random(1)
    return [" ".join(generator.choices([*WORDS, "zebra", "42", "x"], k=generator.randint(0, 60))) for _ in range(count)]


def rows(tokens):
    return [tokens.ids[a:b].tolist() for a, b in zip(tokens.bounds, tokens.bounds[1:], strict=False)]


@pytest.mark.parametrize("prompt", ["", PROMPT])
@pytest.mark.parametrize("limit", [12, 40])
def test_tokens_equal_those_of_the_tokenizer_with_its_own_truncation(prompt, limit):
    texts = some_texts()
    reference = word_pieces()
    reference.enable_truncation(limit)
    tokens = TextTokenizer(word_pieces(), limit=limit, prompt=prompt).encode(texts)
    assert rows(tokens) == [reference.encode(prompt + text).ids for text in texts]
    assert tokens.lengths.tolist() == [len(row) for row in rows(tokens)]
    whole = word_pieces()
    assert tokens.truncated.tolist() == [len(whole.encode(prompt + text).ids) > limit for text in texts]
    assert tokens.read == int(tokens.content.sum()) == sum(map(len, rows(tokens))) - len(texts) * (4 if prompt else 2)


def test_a_prompt_whose_last_space_becomes_part_of_the_text_leaves_a_text_of_one_word_its_token():
    """As SentencePiece has it: a word and the space before it are one token."""
    vocabulary = {
        piece: number for number, piece in enumerate(["<unk>", "\u2581passage", ":", "\u2581", "\u2581rust", "\u2581a"])
    }
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Metaspace(prepend_scheme="always"), pre_tokenizers.Split(":", "isolated")]
    )
    assert tokenizer.encode("passage: ").tokens == ["\u2581passage", ":", "\u2581"]
    assert tokenizer.encode("passage: rust").tokens == ["\u2581passage", ":", "\u2581rust"]
    tokens = TextTokenizer(tokenizer, limit=8, prompt="passage: ").encode(["rust", "rust a", "", "zebra"])
    assert tokens.content.tolist() == [1, 2, 0, 1]
    assert tokens.empty.tolist() == [False, False, True, True]
    assert rows(tokens)[:2] == [[1, 2, 4], [1, 2, 4, 5]]


def test_windows_hold_every_token_with_overlap_and_the_prompt_in_each():
    words = [WORDS[number % len(WORDS)] for number in range(47)]
    tokenizer = TextTokenizer(word_pieces(), limit=16, prompt=PROMPT, long="chunk", overlap=3)
    assert tokenizer.prompt_tokens == 3  # [CLS] query :
    tokens = tokenizer.encode([" ".join(words), "red card", ""])
    room = 16 - 4
    assert tokens.text.tolist() == [0] * 5 + [1, 2]
    assert tokens.content.tolist() == [12, 12, 12, 12, 47 - 4 * (room - 3), 2, 0]
    plain = word_pieces().encode(" ".join(words), add_special_tokens=False).ids
    head = word_pieces().encode(PROMPT).ids[:-1]
    for number, row in enumerate(rows(tokens)[:5]):
        assert row == [*head, *plain[number * 9 : number * 9 + room], 3]
    assert not tokens.truncated.any()
    assert tokens.empty.tolist() == [False, False, True]


def test_windows_of_a_text_that_fits_exactly():
    tokenizer = TextTokenizer(word_pieces(), limit=5, long="chunk")
    tokens = tokenizer.encode(["red green blue", "red green blue card"])
    assert tokens.text.tolist() == [0, 1, 1]
    assert tokens.content.tolist() == [3, 3, 1]


def test_texts_that_are_hard_to_read_have_tokens_or_are_empty():
    texts = [
        "",
        "   ",
        "\x00",
        "\u202e\u202d",
        "\ud800",
        "red \udc00 card",
        "\U0001f600",
        "é",
        "red " * 50_000,
        "y" * 300_000,
    ]
    tokens = TextTokenizer(word_pieces(), limit=16).encode(texts)
    assert tokens.empty.tolist() == [True, True, True, True, True, False, True, False, False, True]
    assert tokens.truncated.tolist() == [False] * 8 + [True, False]
    assert tokens.unknown == 2  # the smiling face, and the word of 300,000 letters


def test_pairs_of_surrogates_are_the_character_that_they_stand_for():
    tokenizer = word_pieces(["😀"])
    tokens = TextTokenizer(tokenizer, limit=8).encode(["\ud83d\ude00"])
    assert rows(tokens) == [tokenizer.encode("😀").ids]
    assert not tokens.empty.any()


def test_no_texts():
    tokens = TextTokenizer(word_pieces(), limit=8).encode([])
    assert (len(tokens.ids), tokens.bounds.tolist(), tokens.read) == (0, [0], 0)


def test_a_limit_that_leaves_no_room_and_an_overlap_without_end():
    with pytest.raises(ConfigError, match="4 tokens leave no room for a text: 4 are special tokens and the prompt"):
        TextTokenizer(word_pieces(), limit=4, prompt=PROMPT)
    with pytest.raises(ConfigError, match="windows that hold 6 tokens of a text cannot share 6"):
        TextTokenizer(word_pieces(), limit=8, long="chunk", overlap=6)


def test_settings_of_the_folder_that_outrank_its_tokenizer(tmp_path):
    write_encoder(tmp_path)
    write(tmp_path / "tokenizer_config.json", {"do_lower_case": False})
    cased = open_tokenizer(tmp_path)
    assert cased.encode("RED", add_special_tokens=False).tokens == ["[UNK]"]
    lower(cased)
    assert cased.encode("RED", add_special_tokens=False).tokens == ["red"]
    assert open_tokenizer(tmp_path, lower_case=True).encode("RED").tokens == ["[CLS]", "red", "[SEP]"]
    (tmp_path / "tokenizer.json").unlink()
    with pytest.raises(ConfigError, match=r"tokenizer\.json is missing"):
        open_tokenizer(tmp_path)


@pytest.mark.parametrize(
    ("settings", "found"),
    [
        ({}, ((), ())),
        ({"add_eos_token": True, "eos_token": "<e>"}, ((), (1,))),
        (
            {"add_bos_token": True, "add_eos_token": True, "bos_token": "<s>", "eos_token": {"content": "<e>"}},
            ((0,), (1,)),
        ),
        ({"add_eos_token": False, "eos_token": "<e>"}, ((), ())),
    ],
)
def test_first_and_last_token_that_only_the_settings_ask_for(tmp_path, settings, found):
    tokenizer = Tokenizer(models.WordLevel({"<s>": 0, "<e>": 1, "a": 2, "b": 3}, unk_token="<e>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    write(tmp_path / "tokenizer_config.json", settings)
    assert special_tokens(open_tokenizer(tmp_path)) == found


def test_a_tokenizer_without_its_vocabulary_is_refused():
    with pytest.raises(ConfigError, match="the model's tokenizer fails for a text"):
        special_tokens(Tokenizer(models.WordPiece({}, unk_token="[UNK]")))


@pytest.mark.parametrize("kind", [models.WordLevel, models.WordPiece])
def test_a_word_that_a_tokenizer_without_an_unknown_token_lacks_is_refused(kind):
    tokenizer = Tokenizer(kind({"a": 0, "b": 1}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    encoder = TextTokenizer(tokenizer, limit=12)
    assert encoder.encode(["a b"]).ids.tolist() == [0, 1]
    with pytest.raises(ConfigError, match="fails for a text") as refused:
        encoder.encode(["a b", "a c"])
    assert refused.value.hint is not None
    assert "unk_token" in refused.value.hint


def test_special_tokens_that_do_not_stand_around_the_text_are_refused():
    tokenizer = word_pieces()
    tokenizer.post_processor = processors.TemplateProcessing(single="$A [SEP] $A", special_tokens=[("[SEP]", 3)])
    with pytest.raises(ConfigError, match="changes the tokens"):
        special_tokens(tokenizer)


def test_a_large_call_goes_through_in_portions(monkeypatch):
    texts = some_texts(50)
    whole = TextTokenizer(word_pieces(), limit=12).encode(texts)
    monkeypatch.setattr("latentscale.embedders.tokens._TEXTS_AT_ONCE", 7)
    monkeypatch.setattr("latentscale.embedders.tokens._CHARACTERS_AT_ONCE", 300)
    parts = TextTokenizer(word_pieces(), limit=12).encode(texts)
    assert np.array_equal(whole.ids, parts.ids)
    assert np.array_equal(whole.bounds, parts.bounds)
