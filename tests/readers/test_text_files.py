"""Text files of many lines: whether a document is a line or a file is asked, and not guessed."""

from __future__ import annotations

import contextlib
import os
import pty
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from corpora import listed

from latentscale.config import CorpusConfig
from latentscale.errors import UndecidedTextError
from latentscale.readers.text_files import refuse_undecided

PAGE = "NAME\n\n" + "".join(f"  a line with the number {i}\n\n" for i in range(30))
SENTENCES = "".join(f"a sentence with the number {i}\n" for i in range(30))


def check(folder: Path, **settings: str) -> None:
    corpus = CorpusConfig(sources=(str(folder),), **settings)  # type: ignore[arg-type]
    refuse_undecided(listed(folder, **settings), corpus)


def write(folder: Path, count: int, content: str) -> Path:
    folder.mkdir(exist_ok=True)
    for i in range(count):
        (folder / f"{i:03}.txt").write_text(content)
    return folder


def test_many_files_of_paragraphs_are_not_guessed_about(tmp_path: Path):
    folder = write(tmp_path / "pages", 40, PAGE)
    with pytest.raises(UndecidedTextError) as error:
        check(folder)
    assert "40 text files have about 31 lines each" in str(error.value)
    assert "--format files (40 documents) or --format lines (about 1,240 documents)" in str(error.value)
    assert error.value.exit_code == 2
    check(folder, format="files")
    check(folder, format="lines")


def test_few_files_short_files_and_files_of_sentences_are_lines(tmp_path: Path):
    check(write(tmp_path / "few", 5, PAGE))
    check(write(tmp_path / "short", 40, "a title\n\na line\n"))
    check(write(tmp_path / "sentences", 40, SENTENCES))
    with pytest.raises(UndecidedTextError):
        check(write(tmp_path / "many", 120, SENTENCES))


def test_utf16_files_are_detected_by_their_byte_order_mark(tmp_path: Path, ingested: Callable[..., Any]):
    for name, encoding in (("a", "utf-8"), ("b", "utf-8-sig"), ("c", "utf-16"), ("d", "utf-32"), ("e", "utf-16-le")):
        (tmp_path / f"{name}.txt").write_bytes("A café, and more.\n".encode(encoding))
    made = ingested(tmp_path, format="files")
    assert made.texts == ["A café, and more.\n"] * 4
    # Without a mark it is no more than likely.
    assert made.rejects == [(0, None, "undecodable")]


def test_a_person_at_a_terminal_is_asked(tmp_path: Path):
    folder = write(tmp_path / "pages", 40, PAGE)
    command = [sys.executable, "-m", "latentscale", "ingest", str(folder), "--out", str(tmp_path / "map")]
    refused = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False)
    assert refused.returncode == 2
    assert "--format files (40 documents)" in refused.stderr
    assert not (tmp_path / "map").exists()
    master, slave = pty.openpty()
    shown: list[bytes] = []

    def read() -> None:
        # Until the last who writes has closed it. A terminal that nobody reads is full after some seconds of progress.
        with contextlib.suppress(OSError):
            while piece := os.read(master, 1 << 16):
                shown.append(piece)

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    os.write(master, b"files\n")
    asked = subprocess.run(command, stdin=slave, stderr=slave, stdout=subprocess.PIPE, text=True, check=False)
    os.close(slave)
    reader.join()
    os.close(master)
    assert asked.returncode == 0
    assert "documents  40 in" in asked.stdout
    assert b"files or lines" in b"".join(shown)
