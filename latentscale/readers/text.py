"""Read plain text: a document per line, or a document per file."""

from __future__ import annotations

import codecs
from collections.abc import Iterator
from typing import BinaryIO

import numpy as np
import pyarrow as pa

from latentscale.config import CorpusConfig, IngestConfig
from latentscale.readers.input_table import InputFile
from latentscale.readers.records import Block, RejectedRows, record_limit
from latentscale.readers.streams import (
    MAGIC_BYTES,
    Content,
    Lines,
    marked_encoding,
    read_lines,
    read_whole,
    refuse_other_content,
    unmarked_encoding,
)

TEXT = "text"
PATH = "path"


def read_text_lines(
    file: InputFile, raw: BinaryIO | Content, corpus: CorpusConfig, ingest: IngestConfig
) -> Iterator[Block]:
    """Read a document per line into the column ``text``; blank lines are not rows."""
    for piece in read_lines(file, raw, encoding=corpus.encoding, limit=record_limit(ingest)):
        if piece.data.isspace():
            continue
        rejects = RejectedRows()
        texts: list[str] = []
        numbers: list[int] = []
        positions: list[int] = []
        size = 0
        if isinstance(piece, Lines):
            for number, line in enumerate(piece.split(), piece.first):
                line = line.removesuffix(b"\r")
                if not line or line.isspace():
                    continue
                try:
                    texts.append(line.decode("utf-8"))
                    numbers.append(number)
                    positions.append(size)
                except UnicodeDecodeError:
                    rejects.add(
                        position=size,
                        source_row=number,
                        line=number + 1,
                        column=TEXT,
                        reason="undecodable",
                        detail=line.decode("utf-8", "backslashreplace"),
                    )
                size += 1
        else:
            size = 1
            detail = piece.data.decode("utf-8", "replace")
            rejects.add(
                position=0,
                source_row=piece.first,
                line=piece.first + 1,
                column=TEXT,
                reason="too_long",
                detail=detail,
            )
        source_row = np.asarray(numbers, dtype=np.int64)
        column = pa.array(texts, pa.string())
        yield Block(
            source=file.path,
            size=size,
            table=pa.table({TEXT: column}),
            position=np.asarray(positions, dtype=np.int64),
            source_row=source_row,
            line=source_row + 1,
            cost=np.fromiter(map(len, texts), np.int64, len(texts)),
            rejects=rejects,
        )


def read_text_file(
    file: InputFile, raw: BinaryIO | Content, corpus: CorpusConfig, ingest: IngestConfig
) -> Iterator[Block]:
    """Read a whole file as one document with the columns ``text`` and ``path``.

    If UTF-8 is expected, files with a byte order mark of UTF-16 or UTF-32 are decoded accordingly, since a folder may
    contain files of several encodings.
    """
    data, whole = read_whole(file, raw, limit=record_limit(ingest))
    refuse_other_content(file, data[:MAGIC_BYTES])
    rejects = RejectedRows()
    text = ""
    encoding = corpus.encoding
    reason = None if whole else "too_long"
    if codecs.lookup(encoding).name in ("utf-8", "utf-8-sig"):
        encoding = marked_encoding(data) or encoding
        reason = reason or ("undecodable" if unmarked_encoding(data) else None)
    try:
        text = data.decode(encoding).removeprefix("\ufeff").replace("\r\n", "\n")
        if "\n" not in text:
            text = text.replace("\r", "\n")
        text.encode()
    except UnicodeError:
        # Truncation may have split a character.
        reason = reason or "undecodable"
    if reason:
        detail = data[:1_000].decode("utf-8", "backslashreplace")
        rejects.add(position=0, source_row=0, line=None, column=TEXT, reason=reason, detail=detail)
    kept = 0 if reason else 1
    yield Block(
        source=file.path,
        size=1,
        table=pa.table(
            {TEXT: pa.array([text] * kept, pa.string()), PATH: pa.array([file.path] * kept, pa.string())},
        ),
        position=np.zeros(kept, dtype=np.int64),
        source_row=np.zeros(kept, dtype=np.int64),
        line=None,
        cost=np.full(kept, len(data), dtype=np.int64),
        rejects=rejects,
    )
