"""Determine format and compression from file names."""

from __future__ import annotations

import posixpath
from collections.abc import Mapping
from typing import Literal, cast

from latentscale.readers.input_table import Compression, Format

Archive = Literal["zip"]

SUFFIXES: Mapping[str, Format | Archive] = {
    ".parquet": "parquet",
    ".pq": "parquet",
    ".csv": "csv",
    ".tsv": "tsv",
    ".tab": "tsv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".jsonlines": "jsonl",
    ".json-lines": "jsonl",
    ".json": "json",
    ".arrow": "arrow",
    ".arrows": "arrow",
    ".feather": "arrow",
    ".ipc": "arrow",
    ".xlsx": "excel",
    ".txt": "lines",
    ".text": "lines",
    ".lines": "lines",
    ".md": "files",
    ".markdown": "files",
    ".rst": "files",
    ".zip": "zip",
}
COMPRESSIONS: Mapping[str, Compression] = {
    ".gz": "gzip",
    ".gzip": "gzip",
    ".zst": "zstd",
    ".zstd": "zstd",
    ".bz2": "bzip2",
    ".xz": "xz",
}
READ = ".parquet .csv .tsv .jsonl .json .arrow .feather .xlsx .txt .md, plain, .gz .zst .bz2 .xz, or in a .zip"
"""For messages."""

# Groups by priority: only the first group present in a folder is read, as other files describe or duplicate it.
GROUPS: tuple[frozenset[str], ...] = (
    frozenset({"parquet", "csv", "tsv", "jsonl", "arrow"}),
    frozenset({"json", "excel", "zip"}),
    frozenset({"lines", "files"}),
)


def format_of(name: str) -> tuple[Format | Archive | None, Compression]:
    """Return format and compression by the suffixes of a file name; the format is None if unknown."""
    if name.startswith(("http://", "https://")):
        name = name.partition("?")[0]
    stem, suffix = posixpath.splitext(name.lower())
    compression = COMPRESSIONS.get(suffix, "none")
    if compression != "none":
        suffix = posixpath.splitext(stem)[1]
    return SUFFIXES.get(suffix), compression


def chosen_format(name: str, wanted: str) -> tuple[Format | Archive, Compression] | None:
    """Return format and compression of a file, by the settings, else by its name; None if unknown."""
    named, compression = format_of(name)
    if named == "zip" and compression == "none":
        return "zip", "none"
    chosen = named if wanted == "auto" else cast(Format, wanted)
    return None if chosen is None else (chosen, compression)


def fits(name: str, wanted: str) -> bool:
    """Whether a file in a folder belongs to the corpus if the settings give the format."""
    named = format_of(name)[0]
    if wanted in ("lines", "files"):
        return named in ("lines", "files", None)
    return wanted == "auto" or named == wanted or {named, wanted} in ({"csv", "tsv"}, {"json", "jsonl"})


def is_hidden(part: str) -> bool:
    """Whether a file or folder name is ignored: with a leading dot or ``_``, or a lock file of Office."""
    return part.startswith((".", "_", "~$"))


def ending(name: str) -> str:
    """Return the suffix of a name, by which files are counted."""
    suffix = posixpath.splitext(name)[1]
    return suffix if 1 < len(suffix) <= 12 else "(no suffix)"
