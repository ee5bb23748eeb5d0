"""Which format and compression the name of a file tells."""

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

# What a folder holds beside others is about them or another form of them: only the first group that is there is read.
GROUPS: tuple[frozenset[str], ...] = (
    frozenset({"parquet", "csv", "tsv", "jsonl", "arrow"}),
    frozenset({"json", "excel", "zip"}),
    frozenset({"lines", "files"}),
)


def format_of(name: str) -> tuple[Format | Archive | None, Compression]:
    """Read format and compression off a file's name; the format is None where the suffix says nothing."""
    if name.startswith(("http://", "https://")):
        name = name.partition("?")[0]
    stem, suffix = posixpath.splitext(name.lower())
    compression = COMPRESSIONS.get(suffix, "none")
    if compression != "none":
        suffix = posixpath.splitext(stem)[1]
    return SUFFIXES.get(suffix), compression


def chosen_format(name: str, wanted: str) -> tuple[Format | Archive, Compression] | None:
    """How to read a file: as the settings say, else as its name tells; None where neither does."""
    named, compression = format_of(name)
    if named == "zip" and compression == "none":
        return "zip", "none"
    chosen = named if wanted == "auto" else cast(Format, wanted)
    return None if chosen is None else (chosen, compression)


def fits(name: str, wanted: str) -> bool:
    """Whether a file of a folder belongs to the corpus when the user sets the format."""
    named = format_of(name)[0]
    if wanted in ("lines", "files"):
        return named in ("lines", "files", None)
    return wanted == "auto" or named == wanted or {named, wanted} in ({"csv", "tsv"}, {"json", "jsonl"})


def is_hidden(part: str) -> bool:
    """Whether a file or folder of this name is passed over: it begins with a dot or ``_``, or is a lock of Office."""
    return part.startswith((".", "_", "~$"))


def ending(name: str) -> str:
    """The suffix of a name, for counting."""
    suffix = posixpath.splitext(name)[1]
    return suffix if 1 < len(suffix) <= 12 else "(no suffix)"
