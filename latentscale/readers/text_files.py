"""Ask the user whether lines or files are documents, for a corpus of many long text files."""

from __future__ import annotations

import numpy as np

from latentscale.config import CorpusConfig
from latentscale.errors import UndecidedTextError
from latentscale.readers.input_table import FORMATS, InputFile, InputTable
from latentscale.readers.streams import open_content

FEWEST_FILES = 10
FEWEST_LINES = 10
SAMPLED = 16
_BEGINNING = 64 << 10
# Files with a document per line have no blank lines, unlike paragraphs.
_BLANK_SHARE = 0.05
_MANY_FILES = 100


def refuse_undecided(inputs: InputTable, corpus: CorpusConfig) -> None:
    """Raise an error if a corpus consists of many text files of many lines each.

    A document per line would be wrong for the pages of a manual, and a document per file for lists of sentences.

    Raises
    ------
    UndecidedTextError
        With both settings and their results.
    """
    if corpus.format != "auto":
        return
    texts = np.flatnonzero(inputs.formats == FORMATS.index("lines"))
    if len(texts) < FEWEST_FILES:
        return
    chosen = texts[np.arange(min(SAMPLED, len(texts))) * len(texts) // min(SAMPLED, len(texts))]
    counts = [_lines(inputs[position], corpus) for position in chosen.tolist()]
    lines = sum(whole for whole, _, _ in counts) / len(counts)
    blank = sum(empty for _, empty, _ in counts) / max(1, sum(seen for _, _, seen in counts))
    if lines < FEWEST_LINES or (blank < _BLANK_SHARE and len(texts) < _MANY_FILES):
        return
    raise UndecidedTextError(
        f"is a document a file or a line? {len(texts):,} text files have about {lines:,.0f} lines each",
        where=inputs[int(texts[0])].url,
        hint=f"--format files ({len(texts):,} documents) or --format lines (about {lines * len(texts):,.0f} documents)",
    )


def _lines(file: InputFile, corpus: CorpusConfig) -> tuple[float, int, int]:
    """Estimate the non-blank lines of a file; also returns the blank and all lines of its beginning."""
    with open_content(file, corpus) as content:
        data = content.read(_BEGINNING)
    lines = data.split(b"\n")
    blank = sum(not line.strip(b" \t\r\0") for line in lines[:-1])
    held = len(lines) - blank - (not lines[-1].strip())
    scale = max(1.0, file.size / max(1, len(data))) if file.compression == "none" and len(data) == _BEGINNING else 1.0
    return held * scale, blank, len(lines)
