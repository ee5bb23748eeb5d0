"""Other languages and scripts in a corpus are noticed; English text, code and keywords are not."""

from __future__ import annotations

import polars as pl
import pytest

from latentscale.demo import corpus_path
from latentscale.embedders.language import ENGLISH, MULTILINGUAL, count_languages, language_notice

OTHERS = {
    "German": "Die Lieferung ist noch nicht da und ich möchte wissen, wo sich das Paket befindet.",
    "French": "La carte est dans une boîte avec les autres, mais je ne sais pas qui l'a prise pour vous.",
    "Spanish": "El pedido no ha llegado y está con los otros en la oficina, es una lástima para mi madre.",
    "Cyrillic": "Как активировать новую карту (PIN)?",
    "Chinese or Japanese": "你好世界,这是一个测试。",
    "Japanese": "カードを有効にする方法を教えてください。",
    "Arabic": "كيف يمكنني تفعيل البطاقة",
}


@pytest.mark.parametrize("language", OTHERS)
def test_a_text_of_another_language_is_counted_as_such(language):
    assert count_languages([OTHERS[language]]) == {language: 1}


def test_the_demo_corpus_is_english():
    counts = count_languages(pl.read_parquet(corpus_path())["text"].to_list())
    assert counts[ENGLISH] / counts.total() > 0.99
    assert language_notice(counts) is None


def test_the_notice_names_the_languages_and_their_share():
    counts = count_languages(["An English sentence about the weather."] * 3 + [OTHERS["German"]] * 2)
    notice = language_notice(counts)
    assert notice is not None
    assert "about 40% of the texts" in notice
    assert "German 40%" in notice
    assert f"latentscale models pull {MULTILINGUAL}" in notice


@pytest.mark.parametrize("text", ["", "a", "12 34", "∀x∈ℝ: x² ≥ 0", "SELECT * FROM t;", "naïve café"])
def test_short_text_code_and_symbols_are_left_undecided(text):
    assert count_languages([text]) == {ENGLISH: 1}


def test_no_text_at_all_gives_no_notice():
    assert language_notice(count_languages([])) is None
