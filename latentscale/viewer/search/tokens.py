"""Words of many texts, as the search of the page has them: ``web/src/engine/tokens.ts`` finds the same ones."""

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
    """Texts in lower case, in compatibility form, without accents: ``Café`` and ``ＣＡＦÉ`` are ``cafe``."""
    plain = texts.str.to_lowercase()
    other = (plain.str.len_bytes() != plain.str.len_chars()).fill_null(value=False)
    if not other.any():
        return plain
    rows = other.arg_true()
    folded = plain.gather(rows).str.normalize("NFKD").str.replace_all(_DROPPED, "").str.normalize("NFC")
    # Compatibility forms may be capital letters again.
    return plain.scatter(rows, folded.str.to_lowercase())


def tokens(texts: pl.Series) -> pl.DataFrame:
    """The words of texts, each as often as it is there.

    A word is what stands between spaces, punctuation and symbols, its first 40 characters. Chinese, Japanese, Thai,
    Lao, Khmer and Burmese write no spaces: there each two neighbouring characters are a word, and a single one that has
    no neighbour.

    Parameters
    ----------
    texts : polars.Series of str
        None is a text without words.

    Returns
    -------
    polars.DataFrame
        ``row`` (uint32), the place in ``texts``, and ``term`` (str); in no order.
    """
    frame = pl.DataFrame({"row": pl.arange(len(texts), dtype=pl.UInt32, eager=True), "text": normalised(texts)})
    text = pl.col("text")
    found = [_listed(frame, text.str.extract_all(_WORD)).with_columns(pl.col("term").str.slice(0, LONGEST))]
    unspaced = frame.filter(text.str.contains(_CHARACTER))
    if unspaced.height:
        pair = _CHARACTER + "{2}"
        # Pairs from the first character of each run, then from its second, then what is a run of its own.
        second = text.str.replace_all(f"{_CHARACTER}({_CHARACTER}*)", "${1} ")
        alone = text.str.replace_all(_CHARACTER + "{2,}", " ").str.extract_all(_CHARACTER)
        parts = (text.str.extract_all(pair), second.str.extract_all(pair), alone)
        found += [_listed(unspaced, part) for part in parts]
    return pl.concat(found)


def _listed(frame: pl.DataFrame, terms: pl.Expr) -> pl.DataFrame:
    return frame.select("row", term=terms).explode("term").drop_nulls()


def own_ids(ids: pl.Series, before: str) -> pl.DataFrame:
    """Documents' own ids as words, each whole, with a sign before it that no other word begins with."""
    row = pl.arange(len(ids), dtype=pl.UInt32, eager=True)
    return pl.DataFrame({"row": row, "term": before + normalised(ids.str.strip_chars())}).drop_nulls()
