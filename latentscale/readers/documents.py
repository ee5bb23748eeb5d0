"""From rows to documents: the condition, the text, and what has to be set aside."""

from __future__ import annotations

import hashlib
import itertools
import re
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from latentscale.config import CorpusConfig, IngestConfig
from latentscale.errors import ConfigError, CorpusError
from latentscale.readers.columns import as_text, stored_name, stored_text_column, text_of
from latentscale.readers.records import Block, RejectedRows
from latentscale.readers.values import pc
from latentscale.storage.input_table import InputFile

DOCUMENT, REJECT, WHERE, SAMPLE = range(4)
"""What becomes of a row."""

# Anything but separators, control and format characters (zero-width ones among them) and letters that draw nothing.
_INK = r"[^\s\p{Z}\p{Cc}\p{Cf}\x{115F}\x{1160}\x{2800}\x{3164}\x{FFA0}]"
_FIELD = re.compile(r"\{([^{}]+)\}")


@dataclass(slots=True, kw_only=True)
class Documents:
    """What became of the rows of a block.

    Attributes
    ----------
    source : str
    kind : uint8 ndarray, shape (size,)
        DOCUMENT, REJECT, WHERE or SAMPLE, by position.
    table : pyarrow.Table
        Text column first, then the source columns, under their stored names; one row a document.
    source_row, cost : int64 ndarray, shape (documents,)
    rejects : RejectedRows
        By position.
    """

    source: str
    kind: NDArray[np.uint8]
    table: pa.Table
    source_row: NDArray[np.int64]
    cost: NDArray[np.int64]
    rejects: RejectedRows


@dataclass(slots=True)
class DocumentMaker:
    """Makes documents of the blocks of one unit of work.

    Parameters
    ----------
    corpus : CorpusConfig
    ingest : IngestConfig
    """

    corpus: CorpusConfig
    ingest: IngestConfig
    renamed: dict[str, str] = field(default_factory=dict[str, str])
    """Source columns that are stored under another name."""
    vector_width: int | None = None

    def make(self, block: Block, file: InputFile) -> Documents:
        """Apply the condition, make the text, set aside what cannot be used, take the sample: in this order.

        Raises
        ------
        CorpusError
            If the file lacks a column that the text or the id is made of, or its type cannot be used.
        ConfigError
            If the condition cannot be evaluated.
        """
        kind = np.zeros(block.size, dtype=np.uint8)
        rejects = block.rejects
        kind[rejects.position] = REJECT
        table, position = block.table, block.position
        source_row, line, cost = block.source_row, block.line, block.cost
        if self.corpus.where and table.num_rows:
            keep = evaluate(self.corpus.where, table, where=file.path)
            kind[position[~keep]] = WHERE
            table = table.filter(pa.array(keep))
            position, source_row, cost = position[keep], source_row[keep], cost[keep]
            line = None if line is None else line[keep]
        self._require(table, file)
        text, blank = compose_text(table, self.corpus, file)
        reasons = self._judge(text, blank)
        bad = reasons != ""
        if bad.any():
            name = text_of(self.corpus) if not self.corpus.is_template() else "text"
            for place in np.flatnonzero(bad):
                reason = str(reasons[place])
                value = text[int(place)].as_py() if reason == "too_long" else ""
                detail = f"{len(value):,} characters: {value[:80]}" if value else ""
                rejects.add(
                    position=int(position[place]),
                    source_row=int(source_row[place]),
                    line=None if line is None else int(line[place]),
                    column=name,
                    reason=reason,
                    detail=detail,
                )
            kind[position[bad]] = REJECT
        keep = ~bad
        if self.corpus.sample is not None and table.num_rows:
            chosen = self._sample(table, text, keep)
            kind[position[keep & ~chosen]] = SAMPLE
            keep &= chosen
        if not keep.all():
            mask = pa.array(keep)
            table, text = table.filter(mask), text.filter(mask)
            source_row, cost = source_row[keep], cost[keep]
        self._check_vectors(table, source_row, file)
        return Documents(
            source=block.source,
            kind=kind,
            table=self._stored(table, text),
            source_row=source_row,
            cost=cost,
            rejects=_by_position(rejects),
        )

    def _require(self, table: pa.Table, file: InputFile) -> None:
        wanted = [*self.corpus.text_columns(), *filter(None, [self.corpus.id, self.corpus.vectors])]
        for name in wanted or [text_of(self.corpus)]:
            # An object of JSON lines may lack a key; a table lacks a column for good.
            if name not in table.column_names and file.format != "jsonl":
                raise missing_column(name, table.column_names, file)

    def _judge(self, text: pa.Array, blank: NDArray[np.bool_]) -> NDArray[Any]:
        reasons = np.full(len(text), "", dtype="U16")
        reasons[blank] = "blank_text"
        reasons[np.asarray(text.is_null())] = "null_text"
        lengths = np.asarray(pc.utf8_length(text).fill_null(0))
        reasons[lengths > self.ingest.max_text_characters] = "too_long"
        return reasons

    def _sample(self, table: pa.Table, text: pa.Array, keep: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Choose by a hash of the id, or of the text where there is none: the same documents in every run."""
        name = self.corpus.id
        texts = text.to_pylist()
        ids = as_text(table.column(name)).to_pylist() if name and name in table.column_names else texts
        threshold = int((self.corpus.sample or 1.0) * 2.0**64)
        chosen = np.zeros(len(texts), dtype=bool)
        for place in np.flatnonzero(keep):
            value: str = texts[place] if ids[place] is None else ids[place]
            hashed = hashlib.blake2b(value.encode(), digest_size=8).digest()
            chosen[place] = int.from_bytes(hashed, "big") < threshold
        return chosen

    def _check_vectors(self, table: pa.Table, source_row: NDArray[np.int64], file: InputFile) -> None:
        name = self.corpus.vectors
        if name is None or name not in table.column_names or not table.num_rows:
            return
        from latentscale.embedders.column import column_vectors

        column = table.column(name)
        if pa.types.is_null(column.type):
            return
        found = column_vectors(
            column, name=name, dim=self.vector_width, first_row=int(source_row[0]), file=file.path, normalise=False
        )
        self.vector_width = self.vector_width or found.vectors.shape[1] or None

    def _stored(self, table: pa.Table, text: pa.Array) -> pa.Table:
        columns: dict[str, pa.Array | pa.ChunkedArray] = {stored_text_column(self.corpus): text}
        for name in table.column_names:
            stored = stored_name(name, self.corpus)
            if stored != name:
                self.renamed[name] = stored
            columns.setdefault(stored, table.column(name))
        return pa.table(columns)


def compose_text(table: pa.Table, corpus: CorpusConfig, file: InputFile) -> tuple[pa.Array, NDArray[np.bool_]]:
    """Make the text of each row, and say where it is blank (bool, shape (rows,)).

    In a template a null is the empty text, and a text is blank where all its columns are; ``\\n`` and ``\\t``, as a
    shell passes them, count as line end and tab.

    Raises
    ------
    CorpusError
        If a column's type is not text, or for a template nested.
    """
    if not corpus.is_template():
        text = _text_column(table, text_of(corpus), file, template=False)
        return text, _blank(text)
    template = text_of(corpus).replace("\\n", "\n").replace("\\t", "\t")
    pieces = _FIELD.split(template)
    parts: list[pa.Array | pa.Scalar] = []
    blank = np.ones(table.num_rows, dtype=bool)
    for number, piece in enumerate(pieces):
        if number % 2:
            part = _text_column(table, piece, file, template=True).fill_null("")
            blank &= _blank(part)
            parts.append(part)
        else:
            parts.append(pa.scalar(piece))
    if not table.num_rows:
        return pa.array([], pa.string()), blank
    return pc.binary_join_element_wise(*parts, ""), blank


def _text_column(table: pa.Table, name: str, file: InputFile, *, template: bool) -> pa.Array:
    if name not in table.column_names:
        return pa.nulls(table.num_rows, pa.string())
    column = table.column(name)
    if pa.types.is_null(column.type):
        return pa.nulls(table.num_rows, pa.string())
    if pa.types.is_string(column.type):
        return _whole(column)
    if template and not pa.types.is_nested(column.type) and not pa.types.is_binary(column.type):
        return as_text(column)
    raise wrong_type(name, column.type, file)


def _whole(column: pa.ChunkedArray) -> pa.Array:
    if column.num_chunks == 1:
        return column.chunk(0)
    return pa.concat_arrays(column.chunks) if column.num_chunks else pa.array([], column.type)


def _blank(text: pa.Array) -> NDArray[np.bool_]:
    return ~np.asarray(pc.match_substring_regex(text, _INK).fill_null(False), dtype=bool)


def missing_column(name: str, columns: list[str], file: InputFile) -> CorpusError:
    """Say that a file has no such column, which ones it has, and which is nearest."""
    import difflib

    near = difflib.get_close_matches(name, columns, n=1, cutoff=0.5)
    if not near:
        near = [column for column in columns if column.lower() == name.lower()]
    shown = ", ".join(columns[:20]) + (f" … ({len(columns):,} in all)" if len(columns) > 20 else "")
    return CorpusError(
        f"{file.path} has no column {name!r}; its columns are: {shown or 'none'}",
        where=file.url,
        hint=f"Did you mean {near[0]!r}?" if near else "Name one of these columns.",
    )


def wrong_type(name: str, kind: pa.DataType, file: InputFile) -> CorpusError:
    """Say that a column cannot be the text because of its type."""
    return CorpusError(
        f"the text column {name!r} of {file.path} is of type {kind}, not text",
        where=file.url,
        hint="Name a column of text, or a template such as --text '{title} ({year})'.",
    )


def condition_columns(where: str) -> list[str]:
    """Parse a SQL condition and return the columns that it names.

    Raises
    ------
    ConfigError
        If it cannot be parsed.
    """
    import polars as pl

    try:
        return list(dict.fromkeys(pl.sql_expr(where).meta.root_names()))
    except Exception as error:
        raise ConfigError(
            f"the condition {where!r} cannot be read: {_first_line(error)}",
            where="corpus.where",
            hint="Write a SQL condition on the columns, such as \"year >= 2020 AND lang = 'en'\".",
        ) from error


def evaluate(condition: str, table: pa.Table, *, where: str) -> NDArray[np.bool_]:
    """Evaluate a SQL condition on each row with polars; null counts as false.

    A column of text (all are in CSV) is compared as text; where the condition cannot be read so, as numbers, in which
    what is no number is null. A column that the table lacks is null.

    Raises
    ------
    ConfigError
        If the condition cannot be evaluated.
    """
    import polars as pl

    names = condition_columns(condition)
    arrow = {name: table.column(name) for name in names if name in table.column_names}
    frame = pl.DataFrame({name: pl.Series(name, pl.from_arrow(column)) for name, column in arrow.items()})
    if not arrow:
        frame = pl.DataFrame({"": pl.Series("", [None] * table.num_rows)})
    frame = frame.with_columns([pl.lit(None).alias(name) for name in names if name not in arrow])
    expression = pl.sql_expr(condition)
    texts = [name for name in names if frame.schema[name] == pl.String]
    subsets: list[tuple[str, ...]] = [
        subset for size in range(len(texts) + 1) for subset in itertools.combinations(texts, size)
    ]
    problem: Exception | None = None
    # Seven text columns at most are tried in all combinations; more are numbers all together or not at all.
    for subset in subsets if len(texts) <= 7 else [(), tuple(texts)]:
        casts = [pl.col(name).cast(pl.Float64, strict=False) for name in subset]
        try:
            answer = frame.with_columns(casts).select(answer=expression)["answer"]
        except pl.exceptions.PolarsError as error:
            problem = problem or error
            continue
        if answer.dtype == pl.Null:
            return np.zeros(table.num_rows, dtype=bool)
        if answer.dtype != pl.Boolean:
            problem = problem or TypeError(f"it gives {answer.dtype}, not true or false")
            continue
        if len(answer) != table.num_rows:  # a condition on no column
            answer = answer.extend_constant(answer[0], table.num_rows - len(answer))
        return answer.fill_null(False).to_numpy().astype(bool)
    raise ConfigError(
        f"the condition {condition!r} cannot be evaluated: {_first_line(problem)}",
        where=where,
        hint="Columns there: " + ", ".join(f"{n} ({frame.schema[n]})" for n in names if n in arrow) + ".",
    ) from problem


def _first_line(error: BaseException | None) -> str:
    return str(error).strip().split("\n")[0][:300]


def _by_position(rejects: RejectedRows) -> RejectedRows:
    order = sorted(range(len(rejects)), key=rejects.position.__getitem__)
    if order == list(range(len(rejects))):
        return rejects
    return RejectedRows(
        position=[rejects.position[i] for i in order],
        source_row=[rejects.source_row[i] for i in order],
        line=[rejects.line[i] for i in order],
        column=[rejects.column[i] for i in order],
        reason=[rejects.reason[i] for i in order],
        detail=[rejects.detail[i] for i in order],
    )
