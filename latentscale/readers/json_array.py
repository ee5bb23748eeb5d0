"""Read .json files: an array of objects, concatenated objects, or JSON lines."""

from __future__ import annotations

import codecs
from array import array
from collections.abc import Iterator
from typing import BinaryIO, Literal

import numpy as np
import orjson
from numpy.typing import NDArray

from latentscale.config import CorpusConfig, IngestConfig
from latentscale.errors import CorpusError
from latentscale.file_names import shown
from latentscale.readers.columns import text_of
from latentscale.readers.input_table import InputFile
from latentscale.readers.jsonl import read_jsonl
from latentscale.readers.records import Block, record_limit
from latentscale.readers.streams import Content, content_of, refuse_other_content, refuse_wide_encoding

PIECE = 1 << 20
_QUOTE, _BACKSLASH, _COMMA, _SPACE, _LINE_END, _RETURN = b'"\\, \n\r'
_SPACES = b" \t\r\n"
Form = Literal["array", "objects", "lines", "nothing"]


def read_json(file: InputFile, raw: BinaryIO | Content, corpus: CorpusConfig, ingest: IngestConfig) -> Iterator[Block]:
    """Read a .json file in bounded memory; each element of the array is a row, treated like a line of JSON lines.

    A file that begins with an object is read as JSON lines if its first line is an object, else as concatenated
    objects. ``source_row`` is the index of the element, ``line`` the physical line where it begins.

    Raises
    ------
    CorpusError
        If the file is truncated, not JSON, or a single object around the array.
    """
    source = content_of(file, raw)
    elements = Elements(file, source, corpus.encoding)
    form = elements.form
    if form == "nothing":
        return
    settings = corpus.model_copy(update={"encoding": "utf-8"})
    blocks = read_jsonl(file, elements, settings, ingest)
    first = next(blocks, None)
    if first is None:
        return
    second = next(blocks, None)
    if form != "array" and second is None and first.size == 1:
        _refuse_columns(file, elements.first)
        _refuse_wrapped(file, first, corpus, ingest)
    for block in (first, second):
        if block is not None:
            yield elements.with_lines(block)
    for block in blocks:
        yield elements.with_lines(block)


def _refuse_wrapped(file: InputFile, block: Block, corpus: CorpusConfig, ingest: IngestConfig) -> None:
    """Reject a file that is a single object around the rows."""
    names = block.table.column_names
    wanted = corpus.text_columns() or (text_of(corpus),)
    inner = [name for name in names if str(block.table.column(name)[0]).startswith("[{")] if len(block.position) else []
    if block.rejects.reason == ["too_long"]:
        raise CorpusError(
            f"{shown(file.path)} is one JSON object of more than {record_limit(ingest) >> 20} MB, no array of objects",
            where=file.url,
            hint="Write the array that holds the rows to a file of its own, such as with jq '.rows' FILE.",
        )
    if inner and not set(wanted) <= set(names):
        raise CorpusError(
            f"{shown(file.path)} is an object, and the array of rows is in its key {shown(inner[0])!r}",
            where=file.url,
            hint=f"Write the array to a file of its own: jq '.{shown(inner[0])}' {shown(file.path)} > rows.json",
        )


def _refuse_columns(file: InputFile, data: bytes) -> None:
    """Reject a file that is a single object of columns, which would become one document."""
    try:
        columns: list[object] = list(orjson.loads(data).values())
    except (orjson.JSONDecodeError, AttributeError):
        return
    sizes = {len(column) if isinstance(column, list | dict) else 0 for column in columns}
    if len(columns) > 1 and len(sizes) == 1 and sizes.pop() > 1:
        raise CorpusError(
            f"{shown(file.path)} is an object with the values of each column, and no array of rows",
            where=file.url,
            hint="Write rows: pandas.read_json(FILE).to_json('rows.json', orient='records').",
        )


class Elements(Content):
    """The elements of a JSON array as lines: separators outside and line ends inside of elements become spaces.

    Parameters
    ----------
    file : InputFile
    source : Content
    encoding : str

    Attributes
    ----------
    form : {"array", "objects", "lines", "nothing"}
    first : bytes
        The first bytes; all of a small file.
    """

    def __init__(self, file: InputFile, source: Content, encoding: str) -> None:
        self._file = file
        self._source = source
        utf8 = codecs.lookup(encoding).name in ("utf-8", "utf-8-sig", "ascii")
        self._decoder = None if utf8 else codecs.getincrementaldecoder(encoding)("latentscale-mark")
        self._ended = False
        self._ready = bytearray()
        self._waiting = b""
        # Parser state: inside a string, after an odd number of backslashes, number of open brackets.
        self._in_string = False
        self._after_backslash = False
        self._depth = 0
        self._closed = False
        self._line = 1
        # Lines where elements begin that no block has taken, the number of the first of them, and whether the last
        # separator is still without its element.
        self._starts = array("q")
        self._taken = 0
        self._open_start = False
        self.first = b""
        self.form: Form = self._begin()

    def _begin(self) -> Form:
        start = self._next_piece()
        if self._decoder is None:
            refuse_wide_encoding(self._file, start)
        start = start.removeprefix(codecs.BOM_UTF8)
        refuse_other_content(self._file, start)
        while not self._ended and not start.strip(_SPACES):
            start += self._next_piece()
        body = start.lstrip(_SPACES)
        self._waiting = start
        if not body:
            return "nothing"
        if body.startswith(b"["):
            self._line += start[: len(start) - len(body)].count(b"\n")
            # The bracket is consumed here; the rest is split by `_cut`.
            self._waiting = body[1:]
            self._depth = 1
            self._open_start = True
            return "array"
        if not body.startswith(b"{"):
            begin = shown(body[:20].decode("utf-8", "replace"))
            raise CorpusError(
                f"{shown(self._file.path)} holds no JSON array of objects: it begins with {begin!r}",
                where=self._file.url,
                hint="A .json file is an array of objects, or an object a line.",
            )
        first = body.split(b"\n", 1)[0]
        while b"\n" not in body and not self._ended and len(body) < 4 * PIECE:
            more = self._next_piece()
            self._waiting += more
            body += more
            first = body.split(b"\n", 1)[0]
        try:
            return "lines" if isinstance(orjson.loads(first), dict) else "objects"
        except orjson.JSONDecodeError:
            return "objects"

    def _next_piece(self) -> bytes:
        """Return the next bytes in UTF-8."""
        data = self._source.read(PIECE)
        self._ended = len(data) < PIECE
        if self._decoder is not None:
            data = self._decoder.decode(data, self._ended).encode("utf-8", "surrogateescape")
        return data

    def read(self, size: int) -> bytes:
        """Read exactly ``size`` bytes of lines, fewer only at the end.

        Raises
        ------
        CorpusError
            If the file ends within an element, or continues after the array.
        """
        while len(self._ready) < size:
            piece, self._waiting = self._waiting, b""
            if not piece:
                if self._ended:
                    break
                piece = self._next_piece()
            self._ready += piece if self.form == "lines" else self._cut(piece)
        else:
            return self._take(size)
        if self.form != "lines" and (self._in_string or self._depth):
            raise CorpusError(
                f"{shown(self._file.path)} ends inside of {'the array' if self._depth < 2 else 'an element'}: it is "
                f"damaged or cut short",
                where=f"{self._file.url}:{self._line}",
                hint="Fetch or write the file again, or take it out of the corpus.",
            )
        return self._take(size)

    def _take(self, size: int) -> bytes:
        taken = bytes(self._ready[:size])
        del self._ready[:size]
        self.first = self.first or taken
        return taken

    def _cut(self, piece: bytes) -> bytes:
        """Put a line end after each element, and replace all other line ends by spaces."""
        if not piece:
            return piece
        data = np.frombuffer(piece, dtype=np.uint8)
        outside = ~self._strings(data)
        opening = outside & ((data == ord("[")) | (data == ord("{")))
        closing = outside & ((data == ord("]")) | (data == ord("}")))
        depth = self._depth + np.cumsum(opening.astype(np.int32) - closing.astype(np.int32))
        breaks = data == _LINE_END
        lines = self._line + np.cumsum(breaks)
        cut = data.copy()
        top = 1 if self.form == "array" else 0
        line_ends = breaks | (data == _RETURN)
        cut[line_ends & ((depth > 0) | bool(top))] = _SPACE
        # JSON allows no line ends in strings; their replacement is invalid too, so that the row is rejected.
        cut[line_ends & ~outside] = 1
        if top:
            ends = closing & (depth == 0)
            separators = outside & (data == _COMMA) & (depth == 1)
            self._note_starts(data, separators, ends, lines)
            cut[separators | ends] = _LINE_END
            self._refuse_rest(data, ends, lines)
        if int(depth.min(initial=0)) < 0:
            raise self._no_json(int(lines[int(np.argmax(depth < 0))]), "a bracket closes what none has opened")
        self._depth = int(depth[-1]) if len(depth) else self._depth
        self._line = int(lines[-1]) if len(lines) else self._line
        return cut.tobytes()

    def _strings(self, data: NDArray[np.uint8]) -> NDArray[np.bool_]:
        """Whether each byte is in a string, including the opening quote (bool, shape of ``data``)."""
        quotes = data == _QUOTE
        backslashes = data == _BACKSLASH
        if self._after_backslash or backslashes.any():
            places = np.arange(len(data))
            before = np.maximum.accumulate(np.where(backslashes, -1, places))
            runs = np.where(backslashes, places - before, 0)
            # A run of backslashes from the beginning may have started in the previous piece.
            runs += (backslashes & (before < 0)) * int(self._after_backslash)
            odd = runs % 2 == 1
            quotes &= ~np.concatenate([[self._after_backslash], odd[:-1]])
            self._after_backslash = bool(odd[-1])
        inside = (np.cumsum(quotes) + self._in_string) % 2 == 1
        self._in_string = bool(inside[-1])
        return inside

    def _note_starts(
        self,
        data: NDArray[np.uint8],
        separators: NDArray[np.bool_],
        ends: NDArray[np.bool_],
        lines: NDArray[np.int64],
    ) -> None:
        """Record the line of the first non-space byte after each separator."""
        solid = np.flatnonzero((data > _SPACE) | (data == 0))
        after = np.flatnonzero(separators)
        if self._open_start:
            after = np.concatenate([[-1], after])
        where = np.searchsorted(solid, after, side="right")
        found = where < len(solid)
        self._starts.extend(lines[solid[where[found]]].tolist())
        self._open_start = bool(len(found) and not found[-1]) if len(after) else False
        if ends.any():
            self._open_start = False

    def _refuse_rest(self, data: NDArray[np.uint8], ends: NDArray[np.bool_], lines: NDArray[np.int64]) -> None:
        """Reject anything but whitespace after the end of the array."""
        begin = 0 if self._closed else (int(np.argmax(ends)) + 1 if ends.any() else len(data))
        self._closed = self._closed or bool(ends.any())
        rest = np.flatnonzero(~np.isin(data[begin:], np.frombuffer(_SPACES, dtype=np.uint8)))
        if len(rest):
            raise self._no_json(int(lines[begin + rest[0]]), "something follows the end of the array")

    def _no_json(self, line: int, why: str) -> CorpusError:
        return CorpusError(
            f"{shown(self._file.path)} is no JSON array of objects: {why}",
            where=f"{self._file.url}:{line}",
            hint="Write the file again; `python -m json.tool FILE` shows where it is wrong.",
        )

    def with_lines(self, block: Block) -> Block:
        """Set the line numbers of a block to those in the file."""
        if self.form == "lines":
            return block
        rows = [*block.source_row.tolist(), *block.rejects.source_row]
        if self.form == "objects" or not rows:
            block.line = None
            block.rejects.line = [None] * len(block.rejects)
            return block
        starts = self._starts
        block.line = np.array([starts[row - self._taken] for row in block.source_row.tolist()], dtype=np.int64)
        block.rejects.line = [starts[row - self._taken] for row in block.rejects.source_row]
        done = max(rows) + 1 - self._taken
        del starts[:done]
        self._taken += done
        return block
