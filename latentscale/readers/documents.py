"""Convert rows to documents: apply the condition, compose the text, reject unusable rows."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from latentscale.config import CorpusConfig, IngestConfig
from latentscale.errors import CorpusError, name_list, shortened
from latentscale.readers.columns import as_text, stored_name, stored_text_column, text_of
from latentscale.readers.conditions import evaluate, parse_condition
from latentscale.readers.input_table import InputFile
from latentscale.readers.parquet import decode_strings
from latentscale.readers.paths import Step, column_root, parse_path, text_at
from latentscale.readers.records import Block, RejectedRows
from latentscale.readers.values import check_column_count, json_text, pc
from latentscale.readers.vector_files import VectorFile, vector_file_of
from latentscale.readers.vectors import vector_file, vectors_of_text
from latentscale.storage.common_types import is_bytes, is_text_list, without_surrogates

DOCUMENT, REJECT, WHERE, SAMPLE = range(4)
"""Outcome of a row."""
NOT_COMPARABLE = "not_comparable"
"""Reject reason of rows for which the condition cannot be evaluated."""

# Any visible character: not separators, control and format (zero-width) characters, and invisible letters.
_INK = r"[^\s\p{Z}\p{Cc}\p{Cf}\x{115F}\x{1160}\x{2800}\x{3164}\x{FFA0}]"
_FIELD = re.compile(r"\{([^{}]+)\}")


Unusable = dict[int, tuple[str, str, str]]
"""Rows without a usable text: column, reason and detail, by row number."""

TEXT_HINT = (
    "Name a column of text, a template such as --text '{title} ({year})', or where the text is in nested values: "
    "--text meta.title, --text 'messages[].content', --text 'messages[role=user].content'."
)


@dataclass(slots=True, kw_only=True)
class Documents:
    """Outcome of the rows of a block.

    Attributes
    ----------
    source : str
    kind : uint8 ndarray, shape (size,)
        DOCUMENT, REJECT, WHERE or SAMPLE, by position.
    table : pyarrow.Table
        Text column first, then the source columns, under their stored names; one row per document.
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
    """Converts the blocks of one unit of work to documents.

    Parameters
    ----------
    corpus : CorpusConfig
    ingest : IngestConfig
    """

    corpus: CorpusConfig
    ingest: IngestConfig
    renamed: dict[str, str] = field(default_factory=dict[str, str])
    """Stored names of source columns that were renamed."""
    vector_width: int | None = None
    _vectors: VectorFile | None = None
    _rows: int = 0

    def make(self, block: Block, file: InputFile) -> Documents:
        """Apply the condition, compose the text, reject unusable rows, draw the sample: in this order.

        Raises
        ------
        CorpusError
            If the file lacks a text or id column, or its type is unsupported.
        ConfigError
            If the condition cannot be evaluated.
        """
        kind = np.zeros(block.size, dtype=np.uint8)
        rejects = block.rejects
        kind[rejects.position] = REJECT
        table, position = block.table, block.position
        source_row, line, cost = block.source_row, block.line, block.cost
        check_column_count(table.num_columns, file, self.ingest)
        table = self._with_vectors(table, block, file)
        if self.corpus.where and table.num_rows:
            condition = parse_condition(self.corpus.where)
            answer = evaluate(condition, table, where=file.path)
            keep = answer.holds
            kind[position[~keep]] = WHERE
            kind[position[answer.unknown]] = REJECT
            named = [name for name in condition.columns if name in table.column_names]
            for index in np.flatnonzero(answer.unknown).tolist():
                values = ", ".join(f"{name} {str(table[name][index].as_py())[:40]!r}" for name in named)
                rejects.add(
                    position=int(position[index]),
                    source_row=int(source_row[index]),
                    line=None if line is None else int(line[index]),
                    column=", ".join(named),
                    reason=NOT_COMPARABLE,
                    detail=f"the condition cannot be evaluated for {values}",
                )
            table = table.filter(pa.array(keep))
            position, source_row, cost = position[keep], source_row[keep], cost[keep]
            line = None if line is None else line[keep]
        self._require(table, file)
        text, blank, unusable = compose_text(table, self.corpus, file)
        reasons = self._classify(text, blank, unusable)
        bad = reasons != ""
        if bad.any():
            name = text_of(self.corpus) if not self.corpus.is_template() else "text"
            for index in np.flatnonzero(bad):
                reason = str(reasons[index])
                column, detail = name, ""
                if index in unusable:
                    column, reason, detail = unusable[int(index)]
                elif reason == "too_long":
                    value = text[int(index)].as_py()
                    detail = f"{len(value):,} characters: {value[:80]}"
                rejects.add(
                    position=int(position[index]),
                    source_row=int(source_row[index]),
                    line=None if line is None else int(line[index]),
                    column=column,
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
        table = self._checked_vectors(table, source_row, file)
        return Documents(
            source=block.source,
            kind=kind,
            table=self._stored(table, text),
            source_row=source_row,
            cost=cost,
            rejects=_by_position(rejects),
        )

    def _require(self, table: pa.Table, file: InputFile) -> None:
        wanted = [*self.corpus.text_columns(), *filter(None, [self.corpus.id, self.corpus.vectors_column()])]
        for name in wanted or [text_of(self.corpus)]:
            # JSON objects may lack keys; only for tables is a missing column an error.
            there = name in table.column_names or column_root(name) in table.column_names
            if not there and file.format not in ("jsonl", "json"):
                raise missing_column(name, table.column_names, file)

    def _classify(self, text: pa.Array, blank: NDArray[np.bool_], unusable: Unusable) -> NDArray[Any]:
        reasons = np.full(len(text), "", dtype="U16")
        reasons[blank] = "blank_text"
        reasons[np.asarray(text.is_null())] = "null_text"
        lengths = np.asarray(pc.utf8_length(text).fill_null(0))
        reasons[lengths > self.ingest.max_text_characters] = "too_long"
        for index, (_, reason, _) in unusable.items():
            reasons[index] = reason
        return reasons

    def _sample(self, table: pa.Table, text: pa.Array, keep: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Sample by a hash of the id, or of the text if there is none, so that every run has the same documents."""
        name = self.corpus.id
        texts = text.to_pylist()
        ids = as_text(table.column(name)).to_pylist() if name and name in table.column_names else texts
        threshold = int((self.corpus.sample or 1.0) * 2.0**64)
        chosen = np.zeros(len(texts), dtype=bool)
        for index in np.flatnonzero(keep):
            # Rows without an id are identified by their text.
            value: str = ids[index] if (ids[index] or "").strip() else texts[index]
            hashed = hashlib.blake2b(value.encode(), digest_size=8).digest()
            chosen[index] = int.from_bytes(hashed, "big") < threshold
        return chosen

    def finish(self, file: InputFile) -> None:
        """Compare the number of rows of a completely read file with that of its vector file.

        Raises
        ------
        CorpusError
            If there are more vectors than rows.
        """
        if self._vectors is not None and self._rows != len(self._vectors):
            raise self._vectors.other_count(f"{self._rows:,}", file)
        self._rows = 0
        # The next file may have another one.
        self._vectors = None

    def _with_vectors(self, table: pa.Table, block: Block, file: InputFile) -> pa.Table:
        """Add the vectors of these rows from the vector file."""
        path = self.corpus.vectors_file()
        if path is None:
            return table
        self._vectors = self._vectors or vector_file(vector_file_of(path, file), self.corpus.id)
        # Parquet may be read from any row group, other files only from their beginning.
        places = block.source_row if file.format == "parquet" else block.position + self._rows
        self._rows += block.size
        name = str(self.corpus.vectors_column())
        if name in table.column_names:
            raise CorpusError(f"{file.path} has a column {name!r}, and corpus.vectors names a file of vectors")
        ids = table.column(self.corpus.id) if self.corpus.id in table.column_names else None
        return table.append_column(name, self._vectors.rows(places, file=file, ids=ids))

    def _checked_vectors(self, table: pa.Table, source_row: NDArray[np.int64], file: InputFile) -> pa.Table:
        name = self.corpus.vectors_column()
        if name is None or name not in table.column_names or not table.num_rows:
            return table
        from latentscale.embedders.column import column_vectors

        column = table.column(name)
        if pa.types.is_null(column.type):
            return table
        if pa.types.is_string(column.type):
            column = vectors_of_text(column, name=name, rows=source_row, file=file.path)
            table = table.set_column(table.column_names.index(name), name, column)
        # Of a file beside the table, which the column is made of, the user knows the rows and not the column.
        path = self.corpus.vectors_file()
        found = column_vectors(
            column,
            name=name,
            dim=self.vector_width,
            rows=source_row,
            file=file.path if path is None else f"{file.path}, vectors of {vector_file_of(path, file)}",
            normalise=False,
        )
        self.vector_width = self.vector_width or found.vectors.shape[1] or None
        return table

    def _stored(self, table: pa.Table, text: pa.Array) -> pa.Table:
        columns: dict[str, pa.Array | pa.ChunkedArray] = {stored_text_column(self.corpus): text}
        for name in table.column_names:
            stored = stored_name(name, self.corpus)
            if stored != name:
                self.renamed[name] = stored
            columns.setdefault(stored, table.column(name))
        return pa.table(columns)


def compose_text(
    table: pa.Table, corpus: CorpusConfig, file: InputFile
) -> tuple[pa.Array, NDArray[np.bool_], Unusable]:
    """Compose the text of each row; also returns where it is blank (bool, shape (rows,)), and rows without usable text.

    In a template null is the empty text, and a text is blank if all its columns are; ``\\n`` and ``\\t``, as passed by
    a shell, are line end and tab. Bytes are decoded as UTF-8; lists of strings, and texts at a path into nested values,
    are joined by blank lines.

    Raises
    ------
    CorpusError
        If a column is not text, or in a template is nested.
    """
    unusable: Unusable = {}
    if not corpus.is_template():
        text = _text_column(table, text_of(corpus), file, unusable, template=False)
        return text, _blank(text), unusable
    template = corpus.template().replace("\\n", "\n").replace("\\t", "\t")
    pieces = _FIELD.split(template)
    parts: list[pa.Array | pa.Scalar] = []
    blank = np.ones(table.num_rows, dtype=bool)
    for number, piece in enumerate(pieces):
        if number % 2:
            part = _text_column(table, piece, file, unusable, template=True).fill_null("")
            blank &= _blank(part)
            parts.append(part)
        else:
            parts.append(pa.scalar(piece))
    if not table.num_rows:
        return pa.array([], pa.string()), blank, unusable
    return pc.binary_join_element_wise(*parts, ""), blank, unusable


def _text_column(table: pa.Table, name: str, file: InputFile, unusable: Unusable, *, template: bool) -> pa.Array:
    if name not in table.column_names:
        root, steps = parse_path(name)
        if root not in table.column_names or not steps:
            return pa.nulls(table.num_rows, pa.string())
        return _nested_texts(table.column(root), name, steps, unusable, template=template)
    column = table.column(name)
    if pa.types.is_null(column.type):
        return pa.nulls(table.num_rows, pa.string())
    if pa.types.is_string(column.type):
        return _whole(column)
    if is_bytes(column.type):
        strings, wrong = decode_strings(column.cast(pa.binary()))
        for index in np.flatnonzero(wrong):
            value: bytes = column[int(index)].as_py()
            unusable[int(index)] = (name, "undecodable", value.decode("utf-8", "backslashreplace"))
        return _whole(strings)
    if is_text_list(column.type):
        return _nested_texts(column, name, (), unusable, template=template)
    if template and not pa.types.is_nested(column.type):
        return as_text(column)
    raise wrong_type(name, column.type, file)


def _nested_texts(
    column: pa.ChunkedArray, name: str, steps: tuple[Step, ...], unusable: Unusable, *, template: bool
) -> pa.Array:
    values: list[Any] = column.to_pylist()
    if pa.types.is_map(column.type):
        values = [None if value is None else dict(value) for value in values]
    texts: list[str | None] = []
    for index, value in enumerate(values):
        text, wrong = text_at(value, steps, numbers=template)
        texts.append(None if text is None else without_surrogates(text))
        if wrong is not None:
            unusable[index] = (name, "not_text", f"{type(wrong).__name__}: {json_text(wrong)}")
    return pa.array(texts, pa.string())


def _whole(column: pa.ChunkedArray) -> pa.Array:
    if column.num_chunks == 1:
        return column.chunk(0)
    return pa.concat_arrays(column.chunks) if column.num_chunks else pa.array([], column.type)


def _blank(text: pa.Array) -> NDArray[np.bool_]:
    return ~np.asarray(pc.match_substring_regex(text, _INK).fill_null(False), dtype=bool)


def missing_column(name: str, columns: list[str], file: InputFile) -> CorpusError:
    """Build the error for a missing column, with the existing ones and the most similar name."""
    import difflib

    near = difflib.get_close_matches(name, columns, n=1, cutoff=0.5)
    if not near:
        near = [column for column in columns if column.lower() == name.lower()]
    return CorpusError(
        f"{file.path} has no column {shortened(name)!r}; its columns are: {name_list(columns) or 'none'}",
        where=file.url,
        hint=f"Did you mean {shortened(near[0])!r}?" if near else "Name one of these columns.",
    )


def wrong_type(name: str, kind: pa.DataType, file: InputFile) -> CorpusError:
    """Build the error for a text column of an unusable type."""
    return CorpusError(
        f"the text column {name!r} of {file.path} is of type {kind}, not text",
        where=file.url,
        hint=TEXT_HINT
        if pa.types.is_nested(kind)
        else "Name a column of text, or a template: --text '{title} ({year})'.",
    )


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
