"""Read JSON lines: one object per line."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from typing import Any, BinaryIO

import numpy as np
import orjson

from latentscale.config import CorpusConfig, IngestConfig
from latentscale.readers.columns import text_of
from latentscale.readers.input_table import InputFile
from latentscale.readers.paths import SEPARATOR
from latentscale.readers.records import Block, RejectedRows, record_limit
from latentscale.readers.streams import Content, Lines, read_lines
from latentscale.readers.values import columns_of, json_text, table_of
from latentscale.storage.common_types import without_surrogates

_TEXT_KINDS = {str, type(None)}
# orjson silently reads integers beyond 64 bits as floats.
_LONG_NUMBER = re.compile(rb"[:\[,]\s*-?[0-9]{19}")
# Finding long runs of digits outside of fractions costs a third of parsing; the regular expression three times that.
_DIGITS_AS_ZEROS = bytes(48 if 48 <= code < 58 else 46 if code == 46 else 32 for code in range(256))


def read_jsonl(file: InputFile, raw: BinaryIO | Content, corpus: CorpusConfig, ingest: IngestConfig) -> Iterator[Block]:
    """Read a file of JSON lines in blocks of about four megabytes.

    Blank lines are not rows. ``NaN`` and ``Infinity``, as written by Python, are numbers; integers of any length keep
    all digits. Lone surrogates, as from truncated texts, become U+FFFD. A line that is not UTF-8, not JSON, not an
    object or longer than the record limit is rejected without affecting its neighbours.
    """
    reader = _Reader(file, corpus, ingest)
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
        if piece.data.isspace():
            continue
        lines = piece.split()
        try:
            rows = list(map(_loads if _may_be_long(piece.data) else orjson.loads, lines))
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
        value = _loads(line)
    except orjson.JSONDecodeError:
        if not line.strip():
            return None, "", ""
        try:
            text = line.decode("utf-8")
        except UnicodeDecodeError:
            return None, "undecodable", line.decode("utf-8", "backslashreplace")
        try:
            value = _replace_surrogates(json.loads(text, parse_float=_finite))
        except (ValueError, RecursionError):
            return None, "not_json", text
    if not isinstance(value, dict):
        return None, "not_an_object", line.decode("utf-8", "replace")
    return value, None, ""


def _may_be_long(data: bytes) -> bool:
    return b" " + b"0" * 19 in data.translate(_DIGITS_AS_ZEROS) and _LONG_NUMBER.search(data) is not None


def _loads(line: bytes) -> Any:
    """Parse a line as orjson does, but keep all digits of integers."""
    value = orjson.loads(line)
    return value if _LONG_NUMBER.search(line) is None else json.loads(line)


def _finite(text: str) -> float | str:
    """Convert a number with a point or an exponent to float; text if it overflows float64."""
    number = float(text)
    return text if math.isinf(number) else number


def _replace_surrogates(value: Any) -> Any:
    """Replace lone surrogates in a JSON value, which UTF-8 cannot encode."""
    if isinstance(value, str):
        return without_surrogates(value)
    if isinstance(value, list):
        return [_replace_surrogates(item) for item in value]
    if isinstance(value, dict):
        return {without_surrogates(key): _replace_surrogates(item) for key, item in value.items()}
    return value


class _Reader:
    """Builds blocks of the objects of one file."""

    def __init__(self, file: InputFile, corpus: CorpusConfig, ingest: IngestConfig) -> None:
        self._file = file
        self._ingest = ingest
        self._lists = frozenset(filter(None, [corpus.vectors_column()]))
        self._texts = corpus.text_columns() or (text_of(corpus),)
        self._template = corpus.is_template()

    def one_by_one(self, lines: list[bytes], first: int) -> Block:
        """Parse lines individually, for blocks with a line that is not an object."""
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
        """Build a block of objects at the lines ``numbers``, relative to line ``first``."""
        bad = self._not_text(rows)
        if bad:
            for index, (name, value) in sorted(bad.items()):
                row = first + numbers[index]
                rejects.add(
                    position=numbers[index],
                    source_row=row,
                    line=row + 1,
                    column=name,
                    reason="not_text",
                    detail=f"{type(value).__name__}: {json_text(value)}",
                )
            good = [index for index in range(len(rows)) if index not in bad]
            rows = [rows[i] for i in good]
            numbers, costs = [numbers[i] for i in good], [costs[i] for i in good]
        position = np.asarray(numbers, dtype=np.int64)
        source_row = position + first
        if len(numbers) + len(rejects) != size:
            # Blank lines are not rows: renumber the positions without gaps.
            all_positions = np.sort(np.concatenate([position, np.asarray(rejects.position, dtype=np.int64)]))
            position = np.searchsorted(all_positions, position)
            rejects.position = [int(index) for index in np.searchsorted(all_positions, rejects.position)]
            size = len(all_positions)
        return Block(
            source=self._file.path,
            size=size,
            table=table_of(columns_of(rows, lists=self._lists, file=self._file, ingest=self._ingest), len(rows)),
            position=position,
            source_row=source_row,
            line=source_row + 1,
            cost=np.asarray(costs, dtype=np.int64),
            rejects=rejects,
        )

    def _not_text(self, rows: list[dict[str, Any]]) -> dict[int, tuple[str, Any]]:
        """Find rows whose text is not a string; joins lists of strings, and treats NaN as null."""
        bad: dict[int, tuple[str, Any]] = {}
        for name in self._texts:
            values = [row.get(name) for row in rows]
            if set(map(type, values)) <= _TEXT_KINDS:
                continue
            for index, value in enumerate(values):
                if value is None or isinstance(value, str):
                    continue
                if isinstance(value, float) and math.isnan(value):
                    rows[index][name] = None
                elif isinstance(value, list) and all(isinstance(item, str) for item in value):
                    rows[index][name] = SEPARATOR.join(value)
                elif not self._template or isinstance(value, dict | list):
                    bad.setdefault(index, (name, value))
        return bad
