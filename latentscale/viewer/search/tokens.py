"""Tokenise many texts for full-text search, exactly like ``web/src/engine/tokens.ts``."""

from __future__ import annotations

import json
from pathlib import Path

import polars as pl

_RULES = json.loads((Path(__file__).parent / "tokens.json").read_bytes())
LONGEST: int = _RULES["longest"]


def _ranges(*kinds: str) -> str:
    return "".join(rf"\x{{{low}}}-\x{{{high}}}" for kind in kinds for low, high in _RULES[kind])


_DROPPED = f"[{_ranges('dropped')}]"
_WORD = f"[^{_ranges('between', 'unspaced')}]+"
_CHARACTER = f"[{_ranges('unspaced')}]"


def normalised(texts: pl.Series) -> pl.Series:
    """Normalise texts: lower case, compatibility forms (NFKD), no accents; ``Café`` and ``ＣＡＦÉ`` become ``cafe``."""
    plain = texts.str.to_lowercase()
    other = (plain.str.len_bytes() != plain.str.len_chars()).fill_null(value=False)
    if not other.any():
        return plain
    rows = other.arg_true()
    folded = plain.gather(rows).str.normalize("NFKD").str.replace_all(_DROPPED, "").str.normalize("NFC")
    # Compatibility forms may be capital letters.
    return plain.scatter(rows, folded.str.to_lowercase())


def tokens(texts: pl.Series) -> pl.DataFrame:
    """The words of texts, with repetitions.

    A word is a run of characters between spaces, punctuation and symbols, truncated to 40 characters. Chinese,
    Japanese, Thai, Lao, Khmer and Burmese have no spaces: each bigram of characters is a word, and a single character
    without neighbours.

    Parameters
    ----------
    texts : polars.Series of str
        None has no words.

    Returns
    -------
    polars.DataFrame
        ``row`` (uint32), the index in ``texts``, and ``term`` (str); unordered.
    """
    frame = pl.DataFrame({"row": pl.arange(len(texts), dtype=pl.UInt32, eager=True), "text": normalised(texts)})
    text = pl.col("text")
    frames = [_exploded(frame, text.str.extract_all(_WORD)).with_columns(pl.col("term").str.slice(0, LONGEST))]
    unspaced = frame.filter(text.str.contains(_CHARACTER))
    if unspaced.height:
        bigram = _CHARACTER + "{2}"
        # Bigrams from the first character of each run, those from its second, and runs of a single character.
        without_first = text.str.replace_all(f"{_CHARACTER}({_CHARACTER}*)", "${1} ")
        alone = text.str.replace_all(_CHARACTER + "{2,}", " ").str.extract_all(_CHARACTER)
        parts = (text.str.extract_all(bigram), without_first.str.extract_all(bigram), alone)
        frames += [_exploded(unspaced, part) for part in parts]
    return pl.concat(frames)


def _exploded(frame: pl.DataFrame, terms: pl.Expr) -> pl.DataFrame:
    return frame.select("row", term=terms).explode("term").drop_nulls()


def own_ids(ids: pl.Series, prefix: str) -> pl.DataFrame:
    """Documents' own ids as terms, each whole, with a prefix that no word has."""
    row = pl.arange(len(ids), dtype=pl.UInt32, eager=True)
    return pl.DataFrame({"row": row, "term": prefix + normalised(ids.str.strip_chars())}).drop_nulls()
