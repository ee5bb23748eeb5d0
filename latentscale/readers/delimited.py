"""Read CSV and TSV so that a malformed record never affects its neighbours."""

from __future__ import annotations

import csv
import io
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa

from latentscale.config import CorpusConfig, IngestConfig
from latentscale.errors import CorpusError
from latentscale.readers.dialect import DELIMITERS, Dialect, advice, records, sniff, usual_dialect
from latentscale.readers.input_table import InputFile
from latentscale.readers.parquet import distinct_names, row_costs
from latentscale.readers.paths import column_root
from latentscale.readers.records import Block, RejectedRows, record_limit
from latentscale.readers.streams import BLOCK_BYTES, ENCODING_ADVICE, Content, LongLine, read_lines
from latentscale.readers.values import check_column_count

BATCH_RECORDS = 4_096
# Name of a leading column of row numbers without a header.
ROW_NAME = "row_name"
# A record: its fields, number of physical lines, and reject reason if known.
_Entry = tuple[list[str], int, str | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """The column names and the dialect of a file.

    Attributes
    ----------
    names : tuple of str
        Unique: empty names become ``column_<n>``, repeated ones ``<name>_2``.
    renamed : dict of int to str
        Index and new name of those that were empty or repeated.
    dialect : Dialect
    advice : str or None
        Advice for the user if none of the first records matches the header.
    """

    names: tuple[str, ...]
    renamed: dict[int, str]
    dialect: Dialect
    advice: str | None = None


class _RecordTooLong(Exception):  # noqa: N818 - never leaves this module
    """The lines of a batch exceed the record limit, as after an unclosed quote."""


class _LineSource:
    """Physical lines of a file; those of the current batch are buffered, so that a bad record can be read again.

    Attributes
    ----------
    encoding : str
    long : LongLine or None
        A line that exceeds the record limit; iteration stops before it until this is set to None.
    fills : int
        Number of times that lines were fetched.
    """

    def __init__(self, file: InputFile, raw: BinaryIO | Content, encoding: str, limit: int) -> None:
        self._pieces = read_lines(file, raw, encoding=encoding, limit=limit)
        self._lines: list[str] = []
        self._begin = 0
        self._at = 0
        self._held = 0
        self._limit = limit
        self.encoding = encoding
        self.long: LongLine | None = None
        self.fills = 0

    def lines(self) -> Iterator[str]:
        """Yield lines, continuing where the last iterator stopped."""
        while self._at < len(self._lines) or self._fill():
            line = self._lines[self._at]
            self._at += 1
            yield line

    def _fill(self) -> bool:
        if self.long is not None:
            return False
        if self._held > self._limit + BLOCK_BYTES:
            raise _RecordTooLong
        piece = next(self._pieces, None)
        if piece is None:
            return False
        if isinstance(piece, LongLine):
            self.long = piece
            return False
        # `newline=""` splits at \n, \r\n and \r and keeps the line ends, as the csv module requires.
        fetched = list(io.StringIO(piece.data.decode("utf-8", "surrogateescape"), newline=""))
        self._lines = [*self._lines[self._begin :], *fetched]
        self._at -= self._begin
        self._begin = 0
        self._held += len(piece.data)
        self.fills += 1
        return True

    @property
    def batch_lines(self) -> list[str]:
        """Return the lines of the current batch."""
        return self._lines[self._begin : self._at]

    @property
    def waiting(self) -> bool:
        """Whether lines were put back and not read again."""
        return self._at < len(self._lines)

    def ahead(self) -> list[str]:
        """Return lines that were fetched but not read."""
        return self._lines[self._at :]

    def begin(self) -> None:
        """Begin a batch."""
        self._begin = self._at
        self._held = 0

    def give_back(self, count: int) -> None:
        """Put back the last ``count`` lines, to be read next."""
        self._at -= count

    def peek(self) -> list[str]:
        """Return the lines of the first block of the file without consuming them."""
        self._fill()
        return self._lines


def read_delimited(
    file: InputFile, raw: BinaryIO | Content, corpus: CorpusConfig, ingest: IngestConfig
) -> Iterator[Block]:
    """Read a CSV or TSV file; every column is text, as it is in the file.

    Dialect settings that are not given are detected from the first four megabytes (:mod:`.dialect`). Blank lines are
    not rows. A record is rejected if its number of fields differs from the header's, its quotes are invalid or it
    cannot be decoded. If a quote is not closed, or is followed by other text, the first line is parsed alone and
    reading continues at the second, so that a stray quote cannot swallow the following records. In a TSV file, lines
    that each have the right number of fields are never joined by a quote.

    Raises
    ------
    CorpusError
        If the header cannot be read.
    """
    source, header = _opened(file, raw, corpus, ingest)
    if header is not None:
        yield from _Records(file, source, header, line=len(source.batch_lines)).blocks()


def read_header(file: InputFile, raw: BinaryIO | Content, corpus: CorpusConfig, ingest: IngestConfig) -> Header | None:
    """Read only the header of a CSV or TSV file; None if the file is empty.

    Raises
    ------
    CorpusError
        If its first record cannot be read, or has more columns than ``ingest.max_columns`` allows.
    """
    return _opened(file, raw, corpus, ingest)[1]


def _opened(
    file: InputFile, raw: BinaryIO | Content, corpus: CorpusConfig, ingest: IngestConfig
) -> tuple[_LineSource, Header | None]:
    """Open a file and read its header, so that the next record is the first one."""
    limit = record_limit(ingest)
    csv.field_size_limit(max(csv.field_size_limit(), limit + 2 * BLOCK_BYTES))
    source = _LineSource(file, raw, corpus.encoding, limit)
    first = source.peek()
    # Reject a header of millions of columns before trying several dialects.
    usual = usual_dialect(file, corpus)
    if first and first[0].count(usual.delimiter) > 10 * ingest.max_columns:
        check_column_count(first[0].count(usual.delimiter) + 1, file, ingest)
    wanted = [column_root(name) for name in corpus.text_columns()]
    wanted += filter(None, [corpus.id, None if corpus.vectors_file() else corpus.vectors])
    dialect = sniff(first, file, corpus, wanted)
    for _ in itertools.islice(source.lines(), dialect.skipped):
        pass
    skipped = source.batch_lines
    return source, _read_header(file, source, dialect, ingest, before=len(skipped))


def likely_delimiter(header: Header, wanted: Sequence[str]) -> str | None:
    """Return the delimiter with which the header would have all ``wanted`` columns, if the current one does not."""
    delimiter = header.dialect.delimiter
    line = delimiter.join(header.names)
    for other in DELIMITERS:
        if other != delimiter and set(wanted) <= {name.strip().strip('"') for name in line.split(other)}:
            return other
    return None


def later_header(
    file: InputFile, raw: BinaryIO | Content, corpus: CorpusConfig, ingest: IngestConfig, wanted: Sequence[str]
) -> int | None:
    """Return the number of lines before the one that has all ``wanted`` columns; None if none of the first does."""
    lines = _LineSource(file, raw, corpus.encoding, record_limit(ingest)).peek()[:100]
    for number, line in enumerate(lines):
        for delimiter in DELIMITERS:
            if number and set(wanted) <= {name.strip().strip('"') for name in _bare(line).split(delimiter)}:
                return number
    return None


def _read_header(
    file: InputFile, source: _LineSource, dialect: Dialect, ingest: IngestConfig, *, before: int
) -> Header | None:
    try:
        names = next((row for row in dialect.reader(source.lines()) if row), None)
    except (csv.Error, _RecordTooLong) as error:
        raise CorpusError(
            f"the header of {file.path} cannot be read: {error or 'a quote without an end'}",
            where=f"{file.url}:{before + 1}",
            hint="The first line must hold the names of the columns; lines before it: --set corpus.skip_lines=….",
        ) from error
    if names is None:
        if source.long is not None:
            raise CorpusError(
                f"the first line of {file.path} is longer than any record may be, and has no header",
                where=f"{file.url}:{before + 1}",
                hint="The first line must hold the names of the columns: --set corpus.format=… if this is no CSV.",
            )
        return None
    check_column_count(len(names), file, ingest)
    try:
        "".join(names).encode()
    except UnicodeEncodeError as error:
        raise CorpusError(
            f"the header of {file.path} is not {source.encoding}",
            where=f"{file.url}:{before + 1}",
            hint=ENCODING_ADVICE,
        ) from error
    if not dialect.header:
        source.give_back(len(source.batch_lines) - before)
        return Header(names=tuple(f"column_{n}" for n in range(1, len(names) + 1)), renamed={}, dialect=dialect)
    names = [name.strip() for name in names]
    if dialect.extra == "first":
        names.insert(0, ROW_NAME)
    distinct = distinct_names(names)
    renamed = {index: new for index, (old, new) in enumerate(zip(names, distinct, strict=True)) if old != new}
    said = advice([names, *records(source.ahead(), dialect)], dialect) if not dialect.extra else None
    return Header(names=tuple(distinct), renamed=renamed, dialect=dialect, advice=said)


class _Records:
    """Reads the records of one file in batches."""

    def __init__(self, file: InputFile, source: _LineSource, header: Header, *, line: int) -> None:
        self._file = file
        self._source = source
        self._dialect = header.dialect
        self._delimiter = header.dialect.delimiter
        self._names = header.names
        self._width = len(header.names)
        self._line = line  # physical lines before the next record
        self._row = 0

    def blocks(self) -> Iterator[Block]:
        source = self._source
        reader = self._reader()
        # Records of several batches that ended early at bad ones are merged: a block for each of millions of bad lines
        # would take minutes.
        waiting: list[_Entry] = []
        fills = source.fills
        while True:
            source.begin()
            before = reader.line_num
            rows: list[list[str]] = []
            ends: list[int] = []
            problem: Exception | None = None
            try:
                for row in reader:
                    rows.append(row)
                    ends.append(reader.line_num)
                    if len(waiting) + len(rows) >= BATCH_RECORDS or source.fills != fills:
                        break
            except (csv.Error, _RecordTooLong) as error:
                problem = error
            batch_lines = source.batch_lines
            lines = [end - start for start, end in zip([before, *ends], ends, strict=False)]
            bad = batch_lines[sum(lines) :]
            entries: list[_Entry] = [(row, count, None) for row, count in zip(rows, lines, strict=True)]
            if self._dialect.extra == "last":
                entries = [(self._without_last(row), count, reason) for row, count, reason in entries]
            if self._delimiter == "\t" and self._width > 1 and sum(lines) != len(rows):
                entries = self._split_joined_lines(entries, batch_lines)
            if problem is not None and bad:
                entries.append(self._judge_alone(bad, problem))
                source.give_back(len(bad) - 1)
            waiting += entries
            last = source.long is None and problem is None and not rows
            if waiting and (last or source.long is not None or source.fills != fills or len(waiting) >= BATCH_RECORDS):
                yield self._block(waiting)
                waiting = []
            if not waiting:
                fills = source.fills
            if source.long is not None and not source.waiting:
                yield self._long_line(source.long)
                source.long = None
                reader = self._reader()
            elif problem is not None:
                reader = self._reader()
            elif not rows:
                return

    def _reader(self) -> Any:
        return self._dialect.reader(self._source.lines())

    def _without_last(self, row: list[str]) -> list[str]:
        return row[:-1] if len(row) == self._width + 1 and not row[-1].strip() else row

    def _split_joined_lines(self, entries: list[_Entry], batch_lines: list[str]) -> list[_Entry]:
        result: list[_Entry] = []
        index = 0
        for row, count, reason in entries:
            alone = [_bare(line).split("\t") for line in batch_lines[index : index + count]] if count > 1 else []
            if alone and all(len(fields) == self._width for fields in alone):
                result.extend((fields, 1, None) for fields in alone)
            else:
                result.append((row, count, reason))
            index += count
        return result

    def _judge_alone(self, bad: list[str], problem: Exception) -> _Entry:
        """Parse the first line of a bad record without quoting if it has the right number of fields, else reject it."""
        line = _bare(bad[0])
        fields = line.split(self._delimiter)
        if self._dialect.extra == "last":
            fields = self._without_last(fields)
        endless = len(bad) > 1 or isinstance(problem, _RecordTooLong) or "end of data" in str(problem)
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
            for index in np.flatnonzero(~good):
                self._reject(rejects, int(position[index]), int(starts[index]), "undecodable", rows[index])
            rows = [row for row, fine in zip(rows, good, strict=True) if fine]
            position, starts = position[good], starts[good]
            columns = self._columns(rows) or {}
        source_row = position + self._row
        rejects.source_row = [self._row + index for index in rejects.position]
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
            index = next(i for i, field in enumerate(row) if not _encodable([field]))
            column = self._names[index]
            text = row[index].encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
        rejects.add(position=position, source_row=0, line=line, column=column, reason=reason, detail=text)


def _bare(line: str) -> str:
    return line.removesuffix("\n").removesuffix("\r")


def _encodable(row: list[str]) -> bool:
    try:
        "".join(row).encode()
    except UnicodeEncodeError:
        return False
    return True
