"""Read a LanceDB table, a folder with the suffix ``.lance``, with the package pylance (the extra ``lance``).

The input is the manifest of the newest version of the table. It lists all files of that version and is immutable, so
that the table can be fingerprinted like any other file, and a run reads one version only.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa

from latentscale.config import protocol_of
from latentscale.errors import CorpusError, require
from latentscale.file_names import escaped, on_disk, shown
from latentscale.readers.input_table import InputFile
from latentscale.readers.parquet import BATCH_BYTES, BATCH_ROWS, pieces, row_costs, table_block
from latentscale.readers.records import Block

SUFFIX = ".lance"
VERSIONS = "_versions"
_MANIFEST = re.compile(r"([0-9]{1,20})\.manifest")
# Newer tables number their manifests downwards from here, so that the first in order is the newest.
_LARGEST = 2**64 - 1
_INVERTED_DIGITS = 20


def is_lance_table(root: str) -> bool:
    """Whether a local path is a LanceDB table."""
    return root.rstrip("/").endswith(SUFFIX) and Path(root).is_dir()


def refuse_remote_table(source: str) -> None:
    """Reject a LanceDB table in a remote store.

    Raises
    ------
    CorpusError
        With the code that converts it to parquet.
    """
    name = source.rstrip("/")
    if protocol_of(source) and name.endswith(SUFFIX):
        raise CorpusError(
            f"{source} is a table of LanceDB, which is read from a disk only",
            where=source,
            hint='Copy it, or write it as parquet: python -c "import lance, pyarrow.parquet as pq; '
            f"pq.write_table(lance.dataset({name!r}).to_table(), 'table.parquet')\".",
        )


def lance_input(root: str, source: str) -> InputFile:
    """Return the newest version of a table as an input.

    Raises
    ------
    CorpusError
        If the folder contains no version of a table.
    """
    found = [(version, name) for name in _names(root) if (version := _version(name)) is not None]
    if not found:
        raise CorpusError(
            f"{shown(source)} holds no version of a table of LanceDB",
            where=escaped(root),
            hint="Copy the whole folder, with what is in _versions and data.",
        )
    path = f"{root.rstrip('/')}/{VERSIONS}/{max(found)[1]}"
    status = Path(path).stat()
    return InputFile(
        url=escaped(path),
        path=escaped(posixpath.basename(root.rstrip("/"))),
        size=status.st_size,
        version=str(status.st_mtime_ns),
        format="lance",
        compression="none",
    )


def _names(root: str) -> list[str]:
    folder = Path(root, VERSIONS)
    return sorted(one.name for one in folder.iterdir()) if folder.is_dir() else []


def _version(name: str) -> int | None:
    found = _MANIFEST.fullmatch(name)
    if found is None:
        return None
    return _LARGEST - int(found[1]) if len(found[1]) == _INVERTED_DIGITS else int(found[1])


def lance_table(file: InputFile) -> Any:
    """Open the table version of an input.

    Returns
    -------
    lance.LanceDataset
        ``schema``, ``count_rows()`` and ``to_batches()``.

    Raises
    ------
    MissingPackageError
        If pylance is not installed.
    CorpusError
        If a file of the version is missing or damaged.
    """
    lance = require("lance", extra="lance", used_for=f"reading {shown(file.path)}")
    folder, _, manifest = on_disk(file.url).rpartition("/")
    try:
        return lance.dataset(folder.removesuffix(f"/{VERSIONS}"), version=_version(manifest))
    except (ValueError, OSError) as error:
        raise _damaged(file, error) from error


def read_lance(file: InputFile) -> Iterator[Block]:
    """Read the rows of a table in order, excluding deleted ones, in blocks of bounded size.

    Raises
    ------
    MissingPackageError
        If pylance is not installed.
    CorpusError
        If a part of the table is missing or damaged.
    """
    row = 0
    batches = lance_table(file).to_batches(
        batch_size=BATCH_ROWS, batch_size_bytes=BATCH_BYTES, batch_readahead=2, fragment_readahead=1, scan_in_order=True
    )
    try:
        for batch in batches:
            table = pa.Table.from_batches([batch])
            cost = row_costs(table)
            for first, stop in pieces(cost):
                yield table_block(file, table.slice(first, stop - first), cost[first:stop], row + first)
            row += table.num_rows
    except (pa.ArrowException, ValueError, OSError) as error:
        raise _damaged(file, error) from error


def _damaged(file: InputFile, error: Exception) -> CorpusError:
    # The rest of the message refers to source code of the package.
    reason = " ".join(str(error).split()).split(", /")[0][:200]
    return CorpusError(
        f"{shown(file.path)} is not a complete table of LanceDB: {reason}",
        where=file.url,
        hint="Copy the whole folder again, or write the table as parquet.",
    )
