"""Words that a vocabulary lacks are found in free text, and whole once they are added."""

from __future__ import annotations

import pytest
from tokenizers import Tokenizer
from tokenizers.models import Unigram

from latentscale.errors import ConfigError
from latentscale.models import static_model_path
from latentscale.models.words import missing_words, with_words


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer.from_file(str(static_model_path("1") / "tokenizer.json"))


def test_words_in_pieces_are_found_by_the_passages_that_have_them(tokenizer: Tokenizer) -> None:
    passages = [
        "Glomerulonephritis, again glomerulonephritis and GLOMERULONEPHRITIS.",
        "A kubernetes operator; glomerulonephritis is no operator.",
        "Kubernetes 12345678901 and the river.",
    ]
    assert missing_words(tokenizer, passages, count=10, least=2) == ["glomerulonephritis", "kubernetes"]
    assert missing_words(tokenizer, passages, count=1, least=1) in (["glomerulonephritis"], ["kubernetes"])
    assert "12345678901" not in missing_words(tokenizer, passages, count=10, least=1)
    assert "river" not in missing_words(tokenizer, passages, count=10, least=1)


def test_an_added_word_is_one_token_and_all_else_is_as_it_was(tokenizer: Tokenizer) -> None:
    words = ["glomerulonephritis", "kubernetes"]
    extended = with_words(tokenizer, words)
    size = tokenizer.get_vocab_size()
    assert extended.encode("Kubernetes", add_special_tokens=False).ids == [size + 1]
    for text in ("the river bank, and kubernetesque", "naïve 東京 café", "x" * 200):
        before = tokenizer.encode(text, add_special_tokens=False).tokens
        after = extended.encode(text, add_special_tokens=False).tokens
        assert after == before or "kubernetes" in after
    assert with_words(tokenizer, []) is tokenizer


def test_another_kind_of_vocabulary_is_refused() -> None:
    with pytest.raises(ConfigError, match="WordPiece vocabulary only, and this teacher's is Unigram"):
        missing_words(Tokenizer(Unigram([("a", 0.0)])), ["a"], count=1, least=1)
