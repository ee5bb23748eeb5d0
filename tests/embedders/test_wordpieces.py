"""Tokens by words are those of the tokenizer, for every text and every tokenizer of BERT's kind."""

from __future__ import annotations

import hashlib
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, normalizers

from latentscale.embedders.word_split import word_splitter
from latentscale.embedders.wordpieces import WordPieces
from latentscale.models import static_model_path

# What may stand around an ASCII space or sign and be treated together with it, were the words not apart.
_PARTS = [
    *("the", "Card", "ISN'T", "v2.0", "C++", "naïve", "café", "cafe\u0301", "ΟΔΟΣ", "İstanbul", "straße", "Ünïcödé"),
    *("\u0301", "\u0338", "\u200b", "\u200d", "\u00ad", "\u00a0", "\u2028", "\u0085", "\ufeff", "\ufffd", "\x07"),
    *("“quoted”", "dash–dash", "…", "½", "ﬁ", "日本語", "русский", "हिन्दी", "ภาษาไทย", "한국어", "🎉", "👩\u200d💻"),
    *("[", "[UNK]", "[unk]", "[ÚNK]", "[MASK", "]", "##", "_", "=", "<", "x" * 120),
    *("\ud83d", "\udc00"),
]
_SPACES = ["", " ", "  ", "\n", "\t", "-", "."]
_TEXT = st.lists(st.tuples(st.sampled_from(_PARTS), st.sampled_from(_SPACES)), max_size=8).map(
    lambda parts: "".join(part + space for part, space in parts)
)


def _tokenizer() -> Tokenizer:
    return Tokenizer.from_file(str(static_model_path() / "tokenizer.json"))


def _variant(change: str) -> Tokenizer:
    tokenizer = _tokenizer()
    if change == "cased":
        tokenizer.normalizer = normalizers.BertNormalizer(lowercase=False)
    elif change == "accents kept":
        tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True, strip_accents=False)
    elif change == "not cleaned":
        tokenizer.normalizer = normalizers.BertNormalizer(clean_text=False, handle_chinese_chars=False)
    elif change == "own tokens":
        tokenizer.add_tokens([AddedToken(one, normalized=False, single_word=one == "card") for one in ("card", "Éa")])
    return tokenizer


@pytest.fixture(scope="module", params=["as shipped", "cased", "accents kept", "not cleaned", "own tokens"])
def tokenizer(request) -> Tokenizer:
    """Read once: that takes longer than all that an example below does."""
    return _variant(request.param)


def _expected(tokenizer: Tokenizer, texts: list[str]) -> list[list[int]]:
    # A text with half of a pair of surrogates is not one that the library takes.
    readable = [text.encode("utf-16", "surrogatepass").decode("utf-16", "replace") for text in texts]
    return [tokenizer.encode(text, add_special_tokens=False).ids for text in readable]


def _rows(pieces: WordPieces, texts: list[str]) -> list[list[int]]:
    ids, lengths = pieces.encode(texts)
    return [row.tolist() for row in np.split(ids, np.cumsum(lengths)[:-1])]


@settings(max_examples=150)
@given(texts=st.lists(st.one_of(_TEXT, st.text(), st.text(st.characters(max_codepoint=127))), min_size=1, max_size=8))
@example(texts=["a [ÚNK] b", "the [UNK] the"])
@example(texts=["cafe\u0301 =\u0338 -\u0301x", "\u0301 \u0301a", ""])
def test_words_give_the_ids_of_the_tokenizer(tokenizer, texts):
    # Three times: of words that do not come back the tokenizer itself would be asked.
    assert _rows(WordPieces(tokenizer), 3 * texts) == 3 * _expected(tokenizer, texts)


@pytest.mark.parametrize("template", ["Ab{0}cd 1{0}2{0}", " {0}é{0} {0}"])
def test_every_character_between_others_splits_as_the_tokenizer_splits_it(tokenizer, template):
    codes = [*range(0x3000), *range(0xFE00, 0xFFFF, 7), 0x1F389, 0x10FFFF]
    texts = [template.format(chr(code)) for code in codes]
    assert _rows(WordPieces(tokenizer), 3 * texts) == 3 * _expected(tokenizer, texts)


def test_common_texts_are_read_by_words():
    splitter = word_splitter(_tokenizer())
    texts = [
        "Plain: text, of (two) kinds!",
        "naïve café – “Ünïcödé” Việt Nam русский",
        "日本語 text",
        "a [unk] b",
        "a [b] c",
    ]
    words = splitter.split(texts)
    assert words.rest.tolist() == [2, 3]
    assert words.counts.tolist() == [10, 7, 0, 0, 5]
    assert [words.different[place] for place in words.places[:4].tolist()] == ["plain", ": ", "text", ", "]
    known = pa.array(["text", "absent", ", "], pa.large_string())
    again = splitter.split(texts, known)
    every = [*known.to_pylist(), *again.different]
    assert len(set(every)) == len(every)
    assert [every[n] for n in again.places.tolist()] == [words.different[n] for n in words.places.tolist()]


def test_words_that_are_looked_up_first_give_the_same_ids(monkeypatch):
    monkeypatch.setattr("latentscale.embedders.wordpieces._CHARACTERS_A_FIRST_WORD", 1)
    pieces, tokenizer = WordPieces(_tokenizer()), _tokenizer()
    texts = [f"Word{n}, word{n + 1}  and\n the naïve\t(word{n % 7}) words" for n in range(300)]
    for begin in (0, 0, 100, 50, 200):
        some = texts[begin : begin + 100]
        assert _rows(pieces, some) == _expected(tokenizer, some)
    assert len(pieces._first) > 100


def test_a_tokenizer_of_another_kind_reads_whole_texts():
    tokenizer = _tokenizer()
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), tokenizer.normalizer])
    assert word_splitter(tokenizer) is None
    texts = ["ﬁne ﬁne ﬁne", "a b"]
    assert _rows(WordPieces(tokenizer), texts) == _expected(tokenizer, texts)


@pytest.mark.parametrize("added", [AddedToken("new york", normalized=False), AddedToken("éa", normalized=True)])
def test_added_tokens_that_come_of_several_words_or_of_other_letters_are_found(added):
    tokenizer = _tokenizer()
    tokenizer.add_tokens([added])
    texts = 3 * ["the new york times", "york is new", "new times", "0EA", "Éa"]
    assert _rows(WordPieces(tokenizer), texts) == _expected(tokenizer, texts)


def test_no_texts_and_texts_without_words():
    pieces = WordPieces(_tokenizer())
    assert [part.tolist() for part in pieces.encode([])] == [[], []]
    assert [part.tolist() for part in pieces.encode(["", " \n"])] == [[], [0, 0]]


def test_ids_stay_right_when_the_cache_of_words_starts_over(monkeypatch):
    monkeypatch.setattr("latentscale.embedders.wordpieces._CACHE_BYTES", 6_000)
    pieces, tokenizer = WordPieces(_tokenizer()), _tokenizer()
    for start in range(0, 200, 20):
        texts = [
            f"package{number} version {number * 7} of the words of the words" for number in range(start, start + 20)
        ]
        assert _rows(pieces, texts) == _expected(tokenizer, texts)
        assert f"package{start} " in pieces._numbers
        assert f"package{start - 20} " not in pieces._numbers


@pytest.mark.parametrize("kept", [32_000_000, 20_000])
def test_several_threads_may_share_the_words(monkeypatch, kept):
    monkeypatch.setattr("latentscale.embedders.wordpieces._CACHE_BYTES", kept)
    monkeypatch.setattr("latentscale.embedders.wordpieces._CHARACTERS_A_FIRST_WORD", 1)
    pieces, tokenizer = WordPieces(_tokenizer()), _tokenizer()
    texts = [
        [f"package{number % 90} of the words number {number} é" for number in range(begin, begin + 30)]
        for begin in range(0, 3_000, 30)
    ]
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda some: _rows(pieces, some), texts))
    assert found == [_expected(tokenizer, some) for some in texts]


def test_texts_of_words_that_never_come_back_are_not_kept():
    pieces, tokenizer = WordPieces(_tokenizer()), _tokenizer()
    texts = [" ".join(hashlib.sha256(f"{row} {n}".encode()).hexdigest() for n in range(20)) for row in range(50)]
    assert _rows(pieces, texts) == _expected(tokenizer, texts)
    assert not pieces._numbers
