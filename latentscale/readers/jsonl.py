"""Read JSON lines: one object a line."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from typing import Any, BinaryIO

import numpy as np
import orjson

from latentscale.config import CorpusConfig, IngestConfig
from latentscale.readers.columns import text_of
from latentscale.readers.records import Block, RejectedRows, record_limit
from latentscale.readers.streams import Lines, read_lines
from latentscale.readers.values import columns_of, json_text, table_of
from latentscale.storage.input_table import InputFile

_TEXT_KINDS = {str, type(None)}


def read_jsonl(file: InputFile, raw: BinaryIO, corpus: CorpusConfig, ingest: IngestConfig) -> Iterator[Block]:
    """Read a file of JSON lines in blocks of about four megabytes.

    Blank lines are not rows. ``NaN`` and ``Infinity``, which Python writes, are read as numbers. A line that is not
    UTF-8, not JSON, not an object or longer than any record may be is set aside; its neighbours are not.
    """
    reader = _Reader(file, corpus)
    for piece in read_lines(file, raw, encoding=corpus.encoding, limit=record_limit(ingest)):
        if not isinstance(piece, Lines):
            rejects = RejectedRows()
            rejects.add(
                position=0,
                source_row=piece.first,
                line=piece.first + 1,
                column="",
                reason="too_long",
                detail=piece.data.decode("utf-8", "replace"),
            )
            yield reader.block([], [], [], piece.first, 1, rejects)
            continue
        lines = piece.data.split(b"\n")
        if not lines[-1]:
            lines.pop()
        try:
            rows = list(map(orjson.loads, lines))
            if set(map(type, rows)) <= {dict}:
                costs = list(map(len, lines))
                yield reader.block(rows, list(range(len(rows))), costs, piece.first, len(rows), RejectedRows())
                continue
        except orjson.JSONDecodeError:
            pass
        yield reader.one_by_one(lines, piece.first)


def parse_line(line: bytes) -> tuple[Any, str | None, str]:
    """Parse one line: (object, None, ""), or (None, reason, detail); the reason of a blank line is empty."""
    try:
        value = orjson.loads(line)
    except orjson.JSONDecodeError:
        if not line.strip():
            return None, "", ""
        try:
            text = line.decode("utf-8")
        except UnicodeDecodeError:
            return None, "undecodable", line.decode("utf-8", "backslashreplace")
        try:
            value = json.loads(text)
            # Half of a surrogate pair, which JSON can escape and UTF-8 cannot carry.
            json.dumps(value, ensure_ascii=False).encode()
        except UnicodeEncodeError:
            return None, "undecodable", text
        except (ValueError, RecursionError):
            return None, "not_json", text
    if not isinstance(value, dict):
        return None, "not_an_object", line.decode("utf-8", "replace")
    return value, None, ""


class _Reader:
    """Makes blocks of the objects of one file."""

    def __init__(self, file: InputFile, corpus: CorpusConfig) -> None:
        self._file = file
        self._lists = frozenset((corpus.vectors,) if corpus.vectors else ())
        self._texts = corpus.text_columns() or (text_of(corpus),)
        self._template = corpus.is_template()

    def one_by_one(self, lines: list[bytes], first: int) -> Block:
        """Parse each line by itself, where a block holds one that is not an object."""
        rows: list[dict[str, Any]] = []
        numbers: list[int] = []
        costs: list[int] = []
        rejects = RejectedRows()
        for number, line in enumerate(lines):
            value, reason, detail = parse_line(line)
            if reason is None:
                rows.append(value)
                numbers.append(number)
                costs.append(len(line))
            elif reason:
                row = first + number
                rejects.add(position=number, source_row=row, line=row + 1, column="", reason=reason, detail=detail)
        return self.block(rows, numbers, costs, first, len(lines), rejects)

    def block(
        self,
        rows: list[dict[str, Any]],
        numbers: list[int],
        costs: list[int],
        first: int,
        size: int,
        rejects: RejectedRows,
    ) -> Block:
        """Make a block of objects that stand at the lines ``numbers``, counted from line ``first``."""
        bad = self._not_text(rows)
        if bad:
            for place, (name, value) in sorted(bad.items()):
                row = first + numbers[place]
                rejects.add(
                    position=numbers[place],
                    source_row=row,
                    line=row + 1,
                    column=name,
                    reason="not_text",
                    detail=f"{type(value).__name__}: {json_text(value)}",
                )
            good = [place for place in range(len(rows)) if place not in bad]
            rows = [rows[i] for i in good]
            numbers, costs = [numbers[i] for i in good], [costs[i] for i in good]
        position = np.asarray(numbers, dtype=np.int64)
        source_row = position + first
        if len(numbers) + len(rejects) != size:
            # Blank lines are not rows: close the gaps that they leave among the positions.
            places = np.sort(np.concatenate([position, np.asarray(rejects.position, dtype=np.int64)]))
            position = np.searchsorted(places, position)
            rejects.position = [int(place) for place in np.searchsorted(places, rejects.position)]
            size = len(places)
        return Block(
            source=self._file.path,
            size=size,
            table=table_of(columns_of(rows, lists=self._lists, where=self._file.url), len(rows)),
            position=position,
            source_row=source_row,
            line=source_row + 1,
            cost=np.asarray(costs, dtype=np.int64),
            rejects=rejects,
        )

    def _not_text(self, rows: list[dict[str, Any]]) -> dict[int, tuple[str, Any]]:
        """Find the rows whose text is something else, and make NaN, which is how Python writes no text, null."""
        bad: dict[int, tuple[str, Any]] = {}
        for name in self._texts:
            values = [row.get(name) for row in rows]
            if set(map(type, values)) <= _TEXT_KINDS:
                continue
            for place, value in enumerate(values):
                if value is None or isinstance(value, str):
                    continue
                if isinstance(value, float) and math.isnan(value):
                    rows[place][name] = None
                elif not self._template or isinstance(value, dict | list):
                    bad.setdefault(place, (name, value))
        return bad
