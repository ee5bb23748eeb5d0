"""Texts to compare the page's tokenizer with the model's: every character, and words of many scripts."""

from __future__ import annotations

import itertools
import unicodedata
from typing import Any

import numpy as np

from latentscale.embedders.static import StaticEmbedder

TEXTS = (
    "",
    "Play music from the terminal",
    "unbelievably embedding-based   re-ranking, isn't it?",
    "don't stop... C++/C# & R&D (v2.0) 100% $5",
    "Café CAFÉ cafe\u0301 naïve Ångström İstanbul ΟΔΥΣΣΕΥΣ straße ﬁne",
    "東京都 で音楽 を聴く、 한국어 텍스트 ไทย हिन्दी العربية עברית",
    "tabs\tand\nlines\r\nand\u00a0no-break\u2003em\u200bzero",
    "soft\u00adhyphen \ufeffmark \ufffd replaced \x00nul \x07bell",
    "[UNK] [PAD] [unk] [PAD][UNK]x [CLS]",
    "emoji 😀👍🏽 flags 🇩🇪 family 👨‍👩‍👧",
    "x" * 100,
    "y" * 101,
    "word " * 700,
    "µ-opioid 10⁻³ ½ ² № ℃ ∑ ≤ “quoted” – — … ‚low‘ ´ ` ^ ~ |",
    "Ǆ ǅ ǆ Ⱥ ẞ ᾼ ŉ Σσς ΑΣ",
)


def every_character() -> list[str]:
    """Each assigned character of the first two planes inside a word, but of letters without case one in eight."""
    points = [*range(0xD800), *range(0xE000, 0x20000), *range(0xE0000, 0xE0200)]
    kinds = {p: unicodedata.category(chr(p)) for p in points}
    return [f"in{chr(p)}side" for p, kind in kinds.items() if kind not in ("Cn", "Co") and (kind != "Lo" or p % 8 == 0)]


def random_texts(count: int) -> list[str]:
    """Random letters, marks, punctuation and spaces of many scripts."""
    random = np.random.default_rng(4)
    ranges = [(0x20, 0x7F), (0xA0, 0x250), (0x300, 0x370), (0x370, 0x530), (0x590, 0x700), (0x900, 0xDFF)]
    ranges += [
        (0x1E00, 0x2070),
        (0x2070, 0x2600),
        (0x3000, 0x3100),
        (0x4E00, 0x9FFF),
        (0xAC00, 0xD7A4),
        (0xFF00, 0xFFF0),
    ]
    texts = []
    for _ in range(count):
        low, high = ranges[random.integers(len(ranges))]
        letters = [chr(one) for one in random.integers(low, high, random.integers(1, 30))]
        words = ["the", "data", "music", "-", " ", "  "]
        texts.append("".join(words[random.integers(6)] if random.random() < 0.3 else one for one in letters))
    return texts


def cases() -> dict[str, Any]:
    """Vocabulary, rules, and texts with the ids of the shipped model's tokenizer."""
    model = StaticEmbedder()
    table = model.token_table()
    assert table is not None
    texts = [*TEXTS, *random_texts(2_000), *every_character()]
    ids, _, bounds, _ = model._tokens(texts)
    lists = [ids[start:end].tolist() for start, end in itertools.pairwise(bounds)]
    return {"tokens": list(table.tokens), "rules": dict(table.rules), "cases": list(zip(texts, lists, strict=True))}
