"""Read the passages that a static model is fitted to."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from latentscale.errors import ConfigError


@dataclass(frozen=True, slots=True, kw_only=True)
class TextFile:
    """A file of passages.

    Attributes
    ----------
    name : str
        File name, without its folder.
    sha256 : str
    passages : int
        Number of distinct passages that are not in preceding files.
    """

    name: str
    sha256: str
    passages: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Texts:
    """Distinct passages, and their files."""

    passages: list[str]
    files: tuple[TextFile, ...]

    def facts(self) -> list[dict[str, Any]]:
        """Return the files as plain values, for the provenance."""
        return [{"name": file.name, "sha256": file.sha256, "passages": file.passages} for file in self.files]


def read_passages(paths: Iterable[str | Path]) -> Texts:
    """Read text files with a passage on each line (UTF-8), and parquet files with a column ``text``.

    Raises
    ------
    ConfigError
        If a file does not exist, is not UTF-8, or has no column ``text``.
    """
    seen: dict[str, None] = {}
    files: list[TextFile] = []
    for path in map(Path, paths):
        if not path.is_file():
            raise ConfigError(
                f"there is no file {path}", where="texts", hint="--texts names files of passages, one a line."
            )
        before = len(seen)
        lines = _column(path) if path.suffix == ".parquet" else _lines(path)
        seen.update((line, None) for line in map(str.strip, lines) if line)
        with path.open("rb") as stream:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
        files.append(TextFile(name=path.name, sha256=digest, passages=len(seen) - before))
    return Texts(passages=list(seen), files=tuple(files))


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise ConfigError(
            f"{path} is not UTF-8 at byte {error.start:,}", where="texts", hint="Write it as UTF-8."
        ) from error


def _column(path: Path) -> list[str]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return [text for text in pq.read_table(path, columns=["text"])["text"].to_pylist() if text]
    except (pa.ArrowException, KeyError, OSError) as error:
        raise ConfigError(
            f"{path} has no column text that can be read ({error})",
            where="texts",
            hint="Give parquet with a column `text` of strings, or text files with a passage on each line.",
        ) from error
