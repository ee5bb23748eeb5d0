"""The dialect of a CSV file (delimiter, quotes, lines before the header), from settings or its first lines."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

from latentscale.config import CorpusConfig
from latentscale.readers.input_table import InputFile

DELIMITERS = ",;\t|"
_SAMPLE_RECORDS = 100
_RESTARTS = 20
_SEP = re.compile(r'"?sep=(.)"?\s*$', re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Dialect:
    """The dialect of a file.

    Attributes
    ----------
    delimiter, quote, escape : str
        One character each; ``quote`` is empty if quotes have no special meaning, ``escape`` if quotes are escaped by
        doubling.
    skipped : int
        Lines before the header.
    header : bool
        Whether the first record contains the column names.
    extra : {"", "last", "first"}
        Additional field of records: none, an empty one after a trailing delimiter, or a leading row number.
    """

    delimiter: str = ","
    quote: str = '"'
    escape: str = ""
    skipped: int = 0
    header: bool = True
    extra: str = ""

    def reader(self, lines: Iterable[str]) -> Any:
        """Return a strict csv.reader over physical lines, which must include their line ends."""
        if self.escape:
            lines = self._escaped(lines)
        return csv.reader(
            lines,
            delimiter=self.delimiter,
            quotechar=self.quote or None,
            quoting=csv.QUOTE_MINIMAL if self.quote else csv.QUOTE_NONE,
            escapechar=self.escape or None,
            strict=True,
        )

    def _escaped(self, lines: Iterable[str]) -> Iterator[str]:
        """Double escape characters that escape nothing, which the csv module would drop."""
        special = self.quote + self.escape
        pattern = re.compile(re.escape(self.escape) + "(.?)", re.DOTALL)
        return (
            pattern.sub(lambda found: found[0] if found[1] and found[1] in special else self.escape + found[0], line)
            if self.escape in line
            else line
            for line in lines
        )

    def sentence(self, usual: Dialect) -> str:
        """Describe the differences from the usual dialect; empty if there are none."""
        parts: list[str] = []
        if self.skipped != usual.skipped:
            parts.append(f"{self.skipped:,} line{'s' if self.skipped > 1 else ''} before the header skipped")
        if self.delimiter != usual.delimiter:
            parts.append(f"columns separated by {shown(self.delimiter)} (corpus.delimiter)")
        if self.quote != usual.quote:
            parts.append(f"quoted by {shown(self.quote)} (corpus.quote)")
        if self.escape != usual.escape:
            parts.append(f"quotes escaped by {shown(self.escape)} (corpus.escape)")
        if self.extra == "last":
            parts.append("an empty field after the last delimiter of each row left out")
        elif self.extra == "first":
            parts.append("the numbers before each row, which the header does not name, read as column 'row_name'")
        return ", ".join(parts)


def shown(character: str) -> str:
    """Format a delimiter or quote for messages."""
    return "a tab" if character == "\t" else f"'{character}'" if character != "'" else '"\'"'


def usual_dialect(file: InputFile, corpus: CorpusConfig) -> Dialect:
    """Return the dialect of the settings, with defaults by the file name: commas, or tabs for TSV."""
    return Dialect(
        delimiter=corpus.delimiter or ("\t" if file.format == "tsv" else ","),
        quote='"' if corpus.quote is None else corpus.quote,
        escape=corpus.escape or "",
        skipped=corpus.skip_lines,
        header=corpus.header,
    )


def sniff(lines: Sequence[str], file: InputFile, corpus: CorpusConfig, wanted: Sequence[str]) -> Dialect:
    """Detect the dialect from the first lines of a file, where the settings leave it open.

    Parameters
    ----------
    lines : sequence of str
        Including line ends.
    wanted : sequence of str
        Column names in the settings.

    Notes
    -----
    The usual dialect is kept unless it does not explain the lines and another one does: such as a header of one column
    by commas and several by semicolons, with equally many fields in the records; or quotes escaped by backslashes in
    lines that cannot be parsed otherwise. So a file of one column whose texts contain semicolons is read as such.
    """
    dialect = usual_dialect(file, corpus)
    lines = lines[dialect.skipped :]
    if corpus.delimiter is None and lines and (found := _SEP.match(lines[0])):
        # The delimiter of Excel in locales with decimal commas.
        dialect = replace(dialect, delimiter=found[1], skipped=dialect.skipped + 1)
        lines = lines[1:]
    comments = _comments(lines, dialect, corpus, wanted)
    dialect = replace(dialect, skipped=dialect.skipped + comments)
    lines = lines[comments:]
    if corpus.quote is None and dialect.header:
        dialect = replace(dialect, quote=_quote(lines, dialect, corpus))
    if corpus.delimiter is None and dialect.delimiter == usual_dialect(file, corpus).delimiter:
        dialect = replace(dialect, delimiter=_delimiter(lines, dialect, wanted))
    if corpus.escape is None and dialect.quote and any("\\" + dialect.quote in line for line in lines):
        escaped = replace(dialect, escape="\\")
        if _matching_records(lines, escaped) > _matching_records(lines, dialect):
            dialect = escaped
    return replace(dialect, extra=_extra(lines, dialect)) if dialect.header else dialect


def records(lines: Sequence[str], dialect: Dialect, count: int = _SAMPLE_RECORDS) -> list[list[str]]:
    """Parse the first records of some lines, up to the first malformed one."""
    found: list[list[str]] = []
    with suppress(csv.Error):
        found.extend(row for row in islice(dialect.reader(lines), count) if row)
    return found


def _matching_records(lines: Sequence[str], dialect: Dialect) -> int:
    """Count records with as many fields as the header; parsing continues at the second line of a malformed one."""
    good = width = at = 0
    for _ in range(_RESTARTS):
        reader = dialect.reader(islice(lines, at, None))
        read = 0
        try:
            for row in reader:
                read = reader.line_num
                width = width or len(row)
                good += bool(row) and len(row) == width
            break
        except csv.Error:
            at += read + 1
    return good


def _comments(lines: Sequence[str], dialect: Dialect, corpus: CorpusConfig, wanted: Sequence[str]) -> int:
    mark = "#" if corpus.comment is None else corpus.comment
    if not mark:
        return 0
    count = 0
    while count < len(lines) and (lines[count].startswith(mark) or (count and not lines[count].strip())):
        count += 1
    if not count or corpus.comment is not None or count == len(lines):
        return count
    # "#chrom", "# name": the last comment line may be the header.
    for delimiter in dict.fromkeys((dialect.delimiter, *DELIMITERS)):
        rows = records(lines[count - 1 : count + 1], replace(dialect, delimiter=delimiter))
        names = [name.strip() for name in rows[0]] if rows else []
        if len(rows) == 2 and len(names) == len(rows[1]) > 1 and not set(wanted) & set(map(str.strip, rows[1])):
            return count - 1
        if set(wanted) & set(names):
            return count - 1
    return count


def _quote(lines: Sequence[str], dialect: Dialect, corpus: CorpusConfig) -> str:
    """Return single quotes if all names of the header are in them, else the default quote."""
    header = lines[0].strip() if lines else ""
    for delimiter in (corpus.delimiter,) if corpus.delimiter else DELIMITERS:
        names = header.split(delimiter)
        if len(names) > 1 and all(len(name) > 2 and name[0] == name[-1] == "'" for name in map(str.strip, names)):
            return "'"
    return dialect.quote


def _delimiter(lines: Sequence[str], dialect: Dialect, wanted: Sequence[str]) -> str:
    usual = records(lines, dialect)
    names = {name.strip() for name in usual[0]} if usual else set[str]()
    asked = bool(wanted) and set(wanted) <= names
    if not usual or asked or (len(usual[0]) > 1 and (not wanted or set(wanted) & names)):
        return dialect.delimiter
    best, most = dialect.delimiter, 1
    for other in DELIMITERS:
        rows = records(lines, replace(dialect, delimiter=other)) if other != dialect.delimiter else []
        width = len(rows[0]) if rows else 0
        if width <= most or (len(usual[0]) > 1 and not set(wanted) <= {name.strip() for name in rows[0]}):
            continue
        fitting = sum(len(row) in (width, width + 1) for row in rows[1:])
        if fitting >= 0.9 * (len(rows) - 1):
            best, most = other, width
    return best


def _extra(lines: Sequence[str], dialect: Dialect) -> str:
    rows = records(lines, dialect)
    if len(rows) < 2 or any(len(row) != len(rows[0]) + 1 for row in rows[1:]):
        return ""
    if all(not row[-1].strip() for row in rows[1:]):
        return "last"
    numbers = [row[0] for row in rows[1:]]
    # R and pandas write row numbers, possibly without a column name.
    if any(numbers == [str(first + at) for at in range(len(numbers))] for first in (0, 1)):
        return "first"
    return ""


def advice(rows: Sequence[Sequence[str]], dialect: Dialect) -> str | None:
    """Return advice for a file of which none of the first records matches the header, or None."""
    width = len(rows[0])
    others = {len(row) for row in rows[1:]}
    if width in others or not others:
        return None
    if others == {width + 1}:
        return (
            "Every row has one field more than the header: if that is a row name, name its column in the header; if it "
            "is the last one, end the rows earlier; if texts hold the delimiter, quote them."
        )
    return (
        f"Check the delimiter, now {shown(dialect.delimiter)} (--set corpus.delimiter=…), and whether the first line "
        "holds the names of the columns (else --set corpus.header=false, or corpus.skip_lines for lines before it)."
    )
