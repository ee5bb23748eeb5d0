"""Read CSV and TSV: records of quoted fields, in which a bad record never takes its neighbours with it."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa

from latentscale.config import CorpusConfig, IngestConfig
from latentscale.errors import CorpusError
from latentscale.readers.parquet import distinct_names, row_costs
from latentscale.readers.records import Block, RejectedRows, record_limit
from latentscale.readers.streams import BLOCK_BYTES, LongLine, read_lines
from latentscale.storage.input_table import InputFile

BATCH_RECORDS = 4_096
_COMMON_DELIMITERS = ",;\t|"
# A record: its fields, how many physical lines it takes, and why it is set aside, if it is known already.
_Entry = tuple[list[str], int, str | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """The first record of a file.

    Attributes
    ----------
    names : tuple of str
        Distinct: ``column_<n>`` for an empty one, ``<name>_2`` for a repeated one.
    renamed : dict of int to str
        Place and new name of those that were empty or repeated.
    """

    names: tuple[str, ...]
    renamed: dict[int, str]


class _TooMuch(Exception):  # noqa: N818 - never leaves this module
    """The lines of one batch are more than a record may be: an opening quote without an end."""


class _LineSource:
    """Physical lines of a file, with those of the batch in hand kept, so that a bad record can be read again.

    Attributes
    ----------
    long : LongLine or None
        A line that no record may be as long as: the lines before it are all that is given until it is set to None.
    fills : int
        How often lines were fetched.
    """

    def __init__(self, file: InputFile, raw: BinaryIO, encoding: str, limit: int) -> None:
        self._pieces = read_lines(file, raw, encoding=encoding, limit=limit)
        self._lines: list[str] = []
        self._begin = 0
        self._at = 0
        self._held = 0
        self._limit = limit
        self.long: LongLine | None = None
        self.fills = 0

    def lines(self) -> Iterator[str]:
        """Give line after line, from the place where the last iterator stopped."""
        while self._at < len(self._lines) or self._fill():
            line = self._lines[self._at]
            self._at += 1
            yield line

    def _fill(self) -> bool:
        if self.long is not None:
            return False
        if self._held > self._limit + BLOCK_BYTES:
            raise _TooMuch
        piece = next(self._pieces, None)
        if piece is None:
            return False
        if isinstance(piece, LongLine):
            self.long = piece
            return False
        # `newline=""` ends lines at \n, \r\n and \r and keeps what it found, as the csv module wants it.
        fetched = list(io.StringIO(piece.data.decode("utf-8", "surrogateescape"), newline=""))
        self._lines = [*self._lines[self._begin :], *fetched]
        self._at -= self._begin
        self._begin = 0
        self._held += len(piece.data)
        self.fills += 1
        return True

    @property
    def taken(self) -> list[str]:
        """The lines of the batch."""
        return self._lines[self._begin : self._at]

    @property
    def waiting(self) -> bool:
        """Whether lines were put back that have not been read again."""
        return self._at < len(self._lines)

    def begin(self) -> None:
        """Begin a batch."""
        self._begin = self._at
        self._held = 0

    def give_back(self, count: int) -> None:
        """Put the last ``count`` lines back, to be read next."""
        self._at -= count


def delimiter_of(file: InputFile, corpus: CorpusConfig) -> str:
    """The column separator of a file: the one that was asked for, else a tab for TSV and a comma for CSV."""
    return corpus.delimiter or ("\t" if file.format == "tsv" else ",")


def read_delimited(file: InputFile, raw: BinaryIO, corpus: CorpusConfig, ingest: IngestConfig) -> Iterator[Block]:
    """Read a CSV or TSV file with a header; every column is text, as it stands in the file.

    Blank lines are not rows. A record with more or fewer fields than the header, with quotes that do not fit or with
    bytes that the encoding does not know is set aside. Where an opening quote has no end, or not before other text, the
    first line is judged alone and reading goes on at the second, so that one stray quote cannot swallow what follows.
    Of a tab-separated file, lines that each have the right number of fields are never joined by a quote.

    Raises
    ------
    CorpusError
        If the header cannot be read.
    """
    limit = record_limit(ingest)
    csv.field_size_limit(max(csv.field_size_limit(), limit + 2 * BLOCK_BYTES))
    source = _LineSource(file, raw, corpus.encoding, limit)
    delimiter = delimiter_of(file, corpus)
    header, header_lines = _read_header(file, source, delimiter)
    if header is not None:
        yield from _Records(file, source, delimiter, header, line=header_lines).blocks()


def read_header(file: InputFile, raw: BinaryIO, corpus: CorpusConfig, ingest: IngestConfig) -> Header | None:
    """Read only the header of a CSV or TSV file; None where the file holds nothing.

    Raises
    ------
    CorpusError
        If its first record cannot be read.
    """
    source = _LineSource(file, raw, corpus.encoding, record_limit(ingest))
    return _read_header(file, source, delimiter_of(file, corpus))[0]


def likely_delimiter(header: Header, delimiter: str, wanted: Sequence[str]) -> str | None:
    """Find the separator with which the header would have all ``wanted`` columns, where the one in use does not."""
    line = delimiter.join(header.names)
    for other in _COMMON_DELIMITERS:
        if other != delimiter and set(wanted) <= {name.strip().strip('"') for name in line.split(other)}:
            return other
    return None


def _read_header(file: InputFile, source: _LineSource, delimiter: str) -> tuple[Header | None, int]:
    source.begin()
    try:
        names = next((row for row in csv.reader(source.lines(), delimiter=delimiter, strict=True) if row), None)
    except (csv.Error, _TooMuch) as error:
        raise CorpusError(
            f"the header of {file.path} cannot be read: {error or 'a quote without an end'}",
            where=f"{file.url}:1",
            hint="The first line must hold the names of the columns.",
        ) from error
    if names is None:
        return None, 0
    lines = len(source.taken)
    try:
        "".join(names).encode()
    except UnicodeEncodeError as error:
        raise CorpusError(
            f"the header of {file.path} is not in the encoding that was asked for",
            where=f"{file.url}:1",
            hint="Name the file's encoding, such as --set corpus.encoding=cp1252, latin-1 or utf-16.",
        ) from error
    names = [name.strip() for name in names]
    distinct = distinct_names(names)
    renamed = {place: new for place, (old, new) in enumerate(zip(names, distinct, strict=True)) if old != new}
    return Header(names=tuple(distinct), renamed=renamed), lines


class _Records:
    """The records of one file, batch by batch."""

    def __init__(self, file: InputFile, source: _LineSource, delimiter: str, header: Header, *, line: int) -> None:
        self._file = file
        self._source = source
        self._delimiter = delimiter
        self._names = header.names
        self._width = len(header.names)
        self._line = line  # physical lines before the next record
        self._row = 0

    def blocks(self) -> Iterator[Block]:
        source = self._source
        reader = self._reader()
        while True:
            source.begin()
            before, fills = reader.line_num, source.fills
            rows: list[list[str]] = []
            ends: list[int] = []
            problem: Exception | None = None
            try:
                for row in reader:
                    rows.append(row)
                    ends.append(reader.line_num)
                    if len(rows) >= BATCH_RECORDS or source.fills != fills:
                        break
            except (csv.Error, _TooMuch) as error:
                problem = error
            taken = source.taken
            lines = np.diff(np.asarray(ends, dtype=np.int64), prepend=before).tolist()
            bad = taken[sum(lines) :]
            entries: list[_Entry] = [(row, count, None) for row, count in zip(rows, lines, strict=True)]
            if self._delimiter == "\t" and self._width > 1 and sum(lines) != len(rows):
                entries = self._unjoin(entries, taken)
            if problem is not None and bad:
                entries.append(self._judge_alone(bad, problem))
                source.give_back(len(bad) - 1)
            if entries:
                yield self._block(entries)
            if source.long is not None and not source.waiting:
                yield self._long_line(source.long)
                source.long = None
                reader = self._reader()
            elif problem is not None:
                reader = self._reader()
            elif not rows:
                return

    def _reader(self) -> Any:
        return csv.reader(self._source.lines(), delimiter=self._delimiter, strict=True)

    def _unjoin(self, entries: list[_Entry], taken: list[str]) -> list[_Entry]:
        result: list[_Entry] = []
        place = 0
        for row, count, reason in entries:
            alone = [_bare(line).split("\t") for line in taken[place : place + count]] if count > 1 else []
            if alone and all(len(fields) == self._width for fields in alone):
                result.extend((fields, 1, None) for fields in alone)
            else:
                result.append((row, count, reason))
            place += count
        return result

    def _judge_alone(self, bad: list[str], problem: Exception) -> _Entry:
        """Take the first line of a bad record as it stands, without quoting, if that fits; else set it aside."""
        line = _bare(bad[0])
        fields = line.split(self._delimiter)
        endless = len(bad) > 1 or isinstance(problem, _TooMuch) or "end of data" in str(problem)
        if len(fields) == self._width and (self._delimiter == "\t" or not endless):
            return fields, 1, None
        return [line], 1, "bad_quoting"

    def _long_line(self, long: LongLine) -> Block:
        row = [long.data.decode("utf-8", "replace")]
        return self._block([(row, 1, "too_long")])

    def _block(self, entries: list[_Entry]) -> Block:
        rejects = RejectedRows()
        rows: list[list[str]] = []
        positions: list[int] = []
        lines: list[int] = []
        size = 0
        plain = all(len(row) == self._width and reason is None for row, _, reason in entries)
        if plain:
            rows = [row for row, _, _ in entries]
            size = len(rows)
            positions = list(range(size))
            counts = np.fromiter((count for _, count, _ in entries), np.int64, size)
            starts = self._line + 1 + np.cumsum(counts) - counts
            self._line += int(counts.sum())
        else:
            for row, count, reason in entries:
                line = self._line + 1
                self._line += count
                if not row:
                    continue
                if reason is None and len(row) == self._width:
                    rows.append(row)
                    positions.append(size)
                    lines.append(line)
                else:
                    self._reject(rejects, size, line, reason, row)
                size += 1
            starts = np.asarray(lines, dtype=np.int64)
        position = np.asarray(positions, dtype=np.int64)
        columns = self._columns(rows)
        if columns is None:
            good = np.array([_encodable(row) for row in rows])
            for place in np.flatnonzero(~good):
                self._reject(rejects, int(position[place]), int(starts[place]), "undecodable", rows[place])
            rows = [row for row, fine in zip(rows, good, strict=True) if fine]
            position, starts = position[good], starts[good]
            columns = self._columns(rows) or {}
        source_row = position + self._row
        rejects.source_row = [self._row + place for place in rejects.position]
        self._row += size
        table = pa.table(columns)
        return Block(
            source=self._file.path,
            size=size,
            table=table,
            position=position,
            source_row=source_row,
            line=starts,
            cost=row_costs(table),
            rejects=rejects,
        )

    def _columns(self, rows: list[list[str]]) -> dict[str, pa.Array] | None:
        values = list(zip(*rows, strict=True)) if rows else [()] * self._width
        try:
            return {name: pa.array(v, pa.string()) for name, v in zip(self._names, values, strict=True)}
        except UnicodeEncodeError:
            return None

    def _reject(self, rejects: RejectedRows, position: int, line: int, reason: str | None, row: list[str]) -> None:
        text = self._delimiter.join(row)
        column = ""
        if reason is None:
            reason = "ragged"
            text = f"{len(row)} fields instead of {self._width}: {text}"
        if reason == "undecodable":
            place = next(i for i, field in enumerate(row) if not _encodable([field]))
            column = self._names[place]
            text = row[place].encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
        rejects.add(position=position, source_row=0, line=line, column=column, reason=reason, detail=text)


def _bare(line: str) -> str:
    return line.removesuffix("\n").removesuffix("\r")


def _encodable(row: list[str]) -> bool:
    try:
        "".join(row).encode()
    except UnicodeEncodeError:
        return False
    return True
