"""Check a corpus before any work: whether its files can be opened and have the requested columns."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from latentscale.config import CorpusConfig, IngestConfig
from latentscale.errors import ConfigError, CorpusError, name_list
from latentscale.file_names import shown
from latentscale.readers import read_input
from latentscale.readers.columns import plain_type, stored_name, text_of
from latentscale.readers.conditions import SHOWN, evaluate, parse_condition
from latentscale.readers.documents import TEXT_HINT, missing_column, wrong_type
from latentscale.readers.input_table import FORMATS, InputFile, InputTable
from latentscale.readers.inputs import open_input
from latentscale.readers.partitions import partitions_of
from latentscale.readers.paths import column_root, parse_path, shape_of, unmatched
from latentscale.readers.records import Block
from latentscale.readers.streams import open_content, open_seekable
from latentscale.readers.values import check_column_count
from latentscale.readers.vector_files import VectorFile, has_file_per_table, vector_file_of
from latentscale.readers.vectors import vector_file, vectors_of_text
from latentscale.storage.common_types import is_bytes, is_text_list

MAX_FILES = 256
"""Maximum number of files that are opened, evenly spaced; the others are checked when they are read."""
MAX_LINE_FILES = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class CorpusCheck:
    """The result of the check of a corpus.

    Attributes
    ----------
    columns : dict of str to str
        Source columns of the opened files, and their types.
    rows : int or None
        Total number of rows, if the footers of all files contain it.
    notes : tuple of str
        Choices made on behalf of the user.
    """

    columns: dict[str, str]
    rows: int | None
    notes: tuple[str, ...]


def check_corpus(
    inputs: InputTable, corpus: CorpusConfig, ingest: IngestConfig | None = None, *, may_be_empty: bool = False
) -> CorpusCheck:
    """Check the request against headers, footers and first rows of the files.

    Parameters
    ----------
    may_be_empty : bool
        Whether the files may have no rows, because other files contain documents.

    Raises
    ------
    CorpusError
        If a file is damaged or lacks a column, a text or vector column has the wrong type, or there are no rows.
    ConfigError
        If the condition cannot be parsed or evaluated, or names a column that no file has.
    """
    ingest = ingest or IngestConfig()
    named = set(parse_condition(corpus.where).columns) if corpus.where is not None else set[str]()
    if corpus.where is not None and not named:
        raise ConfigError(f"the condition {corpus.where[:SHOWN]!r} names no column", where="corpus.where")
    vectors = corpus.vectors_file()
    if vectors and not has_file_per_table(vectors):
        _check_vector_file(vector_file(vectors), inputs)
    columns: dict[str, str] = {}
    objects: dict[str, pa.DataType] = {}
    first_objects: InputFile | None = None
    rows: int | None = 0
    some = False
    chosen = _select_files(inputs)
    dialects: dict[str, list[str]] = {}
    misspelt: list[str] = []
    for file in chosen:
        found, count, table = _inspect(file, corpus, ingest, dialects)
        check_column_count(len(found or ()), file, ingest)
        if found is None:
            # If none of the first rows can be read, the limit on rejects will report the reason.
            some = some or count is None
            continue
        if file.format in ("jsonl", "json"):
            # JSON objects may lack keys, so a column must be in any of the files.
            objects = {name: kind for name, kind in found.items() if name not in objects} | objects
            first_objects = first_objects or file
        else:
            _check_columns(file, found, corpus)
        columns |= {name: str(kind) for name, kind in found.items() if name not in columns}
        if vectors and has_file_per_table(vectors):
            held = vector_file(vector_file_of(vectors, file))
            if count is not None and len(held) != count:
                raise held.other_count(f"{count:,}", file)
        rows = None if rows is None or count is None else rows + count
        some = some or count is None or count > 0
        misspelt += _unmatched_paths(file, found, table, corpus)
        if table is not None and table.num_rows:
            _check_first_rows(file, table, corpus)
    if first_objects is not None and objects:
        _check_columns(first_objects, objects, corpus)
    if not some and not may_be_empty:
        what = inputs[0].path if len(inputs) == 1 else f"all {len(inputs):,} files"
        hint = "Name a file that holds some."
        sheets = _sheets(inputs[0], corpus) if len(inputs) == 1 else []
        if len(sheets) > 1:
            hint = f"Of its sheets the first was read: {name_list(sheets)}. Another one: --set corpus.sheet=NAME"
        raise CorpusError(f"there are no rows in {what}", where=inputs[0].url if inputs else None, hint=hint)
    unknown = sorted(named - set(columns))
    if unknown:
        error = missing_column(unknown[0], list(columns), inputs[0])
        quoted = "'" + shown(unknown[0]).replace("'", "''") + "'"
        raise ConfigError(
            f"the condition {str(corpus.where)[:SHOWN]!r} names {unknown[0]!r}, and no file has such a column; "
            f"there are: {name_list(list(columns))}",
            where="corpus.where",
            hint=f"{error.hint} A text, and no column, stands in single quotes: {quoted}.",
        )
    if len(chosen) < len(inputs):
        rows = None
    one = vectors if vectors and not has_file_per_table(vectors) else None
    if rows is not None and one and len(vector_file(one)) != rows:
        raise vector_file(one).other_count(f"{rows:,}", inputs[0])
    notes: list[str] = misspelt[:1]
    if not corpus.text and "text" in columns:
        notes.append("the text is the column 'text', as no text column was named")
    notes += [
        f"{shown(paths[0])}{f' and {len(paths) - 1:,} more' if len(paths) > 1 else ''}: {said}"
        for said, paths in dialects.items()
    ]
    for file in chosen:
        sheets = _sheets(file, corpus)
        if len(sheets) > 1:
            notes.append(
                f"of the {len(sheets)} sheets of {shown(file.path)} the first, {shown(sheets[0])!r}, is read; "
                "another one: --set corpus.sheet=NAME"
            )
    renamed = {name: stored_name(name, corpus) for name in columns if stored_name(name, corpus) != name}
    if renamed:
        pairs = ", ".join(f"{shown(name)!r} as {shown(stored)!r}" for name, stored in list(renamed.items())[:20])
        notes.append(f"columns whose names LatentScale uses itself are stored under others: {pairs}")
    folders = list(dict.fromkeys(name for file in chosen for name in partitions_of(file.path)))
    if folders:
        notes.append(f"the names of the folders give the columns {', '.join(map(shown, folders[:20]))}")
    return CorpusCheck(columns=columns, rows=rows, notes=tuple(notes))


def _check_vector_file(vectors: VectorFile, inputs: InputTable) -> None:
    if len(inputs) != 1:
        raise CorpusError(
            f"{vectors.path} holds the vectors of one table, and the corpus has {len(inputs):,} files",
            where="corpus.vectors",
            hint="Name the one file, or one file of vectors for each: --vectors '{folder}/{name}.npy'.",
        )


def _select_files(inputs: InputTable) -> list[InputFile]:
    parquet = inputs.formats == FORMATS.index("parquet")
    positions = [
        *_evenly_spaced(np.flatnonzero(parquet), MAX_FILES),
        *_evenly_spaced(np.flatnonzero(~parquet), MAX_LINE_FILES),
    ]
    return [inputs[index] for index in positions]


def _evenly_spaced(positions: NDArray[np.int64], most: int) -> list[int]:
    kept = positions if len(positions) <= most else positions[np.arange(most) * len(positions) // most]
    return kept.tolist()


def _inspect(
    file: InputFile, corpus: CorpusConfig, ingest: IngestConfig, dialects: dict[str, list[str]]
) -> tuple[dict[str, pa.DataType] | None, int | None, pa.Table | None]:
    """Return columns with types, number of rows if known, and the first rows; columns are None for an empty file."""
    partitions = dict.fromkeys(partitions_of(file.path), pa.string())
    if file.format == "parquet" and file.compression == "none" and not file.member:
        from latentscale.readers.parquet import distinct_names, open_source_parquet

        with open_input(file, corpus.storage) as raw:
            source = open_source_parquet(file, raw)
            schema, count = source.schema_arrow, source.metadata.num_rows
            found = {
                name: plain_type(kind) for name, kind in zip(distinct_names(schema.names), schema.types, strict=True)
            }
        wanted = corpus.where or corpus.vectors
        return partitions | found, count, _first(file, corpus, ingest) if count and wanted else None
    if file.format == "lance":
        from latentscale.readers.lance import lance_table

        opened = lance_table(file)
        schema, count = opened.schema, int(opened.count_rows())
        found = {name: plain_type(kind) for name, kind in zip(schema.names, schema.types, strict=True)}
        wanted = corpus.where or corpus.vectors
        return found, count, _first(file, corpus, ingest) if count and wanted else None
    if file.format in ("csv", "tsv"):
        from latentscale.readers.delimited import read_header
        from latentscale.readers.dialect import usual_dialect

        with open_content(file, corpus) as content:
            header = read_header(file, content, corpus, ingest)
        if header is None:
            return None, 0, None
        if said := header.dialect.sentence(usual_dialect(file, corpus)):
            dialects.setdefault(said, []).append(file.path)
        block = _first_block(file, corpus, ingest)
        names = [*partitions, *header.names]
        if header.advice and block and not block.table.num_rows:
            _check_columns(file, dict.fromkeys(names, pa.string()), corpus)
            raise CorpusError(
                f"no row of {shown(file.path)} has the {len(header.names):,} fields of its header: "
                f"{block.rejects.detail[0][:80]}",
                where=f"{file.url}:{block.rejects.line[0]}",
                hint=header.advice,
            )
        return dict.fromkeys(names, pa.string()), None if block else 0, block.table if block else None
    block = _first_block(file, corpus, ingest)
    if block is None:
        return None, 0, None
    found = {field.name: field.type for field in block.table.schema}
    if not found or (block.size and not block.table.num_rows):
        _refuse_wrong_text(file, block, corpus)
        return None, None, None
    return found, None, block.table


def _first(file: InputFile, corpus: CorpusConfig, ingest: IngestConfig) -> pa.Table | None:
    block = _first_block(file, corpus, ingest)
    return None if block is None else block.table


def _first_block(file: InputFile, corpus: CorpusConfig, ingest: IngestConfig) -> Block | None:
    for block in read_input(file, corpus, ingest):
        if block.size:
            return block
    return None


def _refuse_wrong_text(file: InputFile, block: Block, corpus: CorpusConfig) -> None:
    """Reject JSON lines of which none has a text in the text column."""
    if block.size and all(reason == "not_text" for reason in block.rejects.reason):
        kind = block.rejects.detail[0].split(":", 1)[0]
        raise CorpusError(
            f"the text column {block.rejects.column[0]!r} of {file.path} holds {kind}, not text",
            where=f"{file.url}:{block.rejects.line[0]}",
            hint=TEXT_HINT,
        )


def _check_columns(file: InputFile, found: dict[str, pa.DataType], corpus: CorpusConfig) -> None:
    names = list(found)
    for name in corpus.text_columns() or (text_of(corpus),):
        root = column_root(name)
        if name not in found and root in found:
            kind = found[root]
            if not (pa.types.is_nested(kind) or pa.types.is_string(kind) or pa.types.is_null(kind) or is_bytes(kind)):
                raise wrong_type(root, kind, file)
            continue
        if name not in found:
            if corpus.text is None:
                shown = name_list(names)
                raise CorpusError(
                    f"which column of {file.path} is the text? Its columns are: {shown}",
                    where=file.url,
                    hint="Name it: --text COLUMN, or a template: --text '{title}\\n{abstract}'.",
                )
            raise _missing(file, name, names, corpus)
        kind = found[name]
        template = corpus.is_template() and not pa.types.is_nested(kind)
        text = pa.types.is_string(kind) or is_bytes(kind) or is_text_list(kind)
        if not (text or pa.types.is_null(kind) or template):
            raise wrong_type(name, kind, file)
    vectors = None if corpus.vectors_file() else corpus.vectors
    for name in filter(None, (corpus.id, vectors)):
        if name not in found:
            raise _missing(file, name, names, corpus)
    if corpus.id and (pa.types.is_nested(found[corpus.id]) or pa.types.is_floating(found[corpus.id])):
        raise CorpusError(
            f"the id column {corpus.id!r} of {file.path} is of type {found[corpus.id]}",
            where=file.url,
            hint="An id is text or a whole number.",
        )
    # A text column may contain vectors as text, which the first rows show.
    if vectors and not (pa.types.is_null(found[vectors]) or pa.types.is_string(found[vectors])):
        from latentscale.embedders.column import column_width

        column_width(found[vectors], name=vectors)


def _sheets(file: InputFile, corpus: CorpusConfig) -> list[str]:
    """Return the sheets of an Excel file if none is selected, in which case the first is read."""
    if file.format != "excel" or corpus.sheet is not None:
        return []
    from latentscale.readers.excel import sheet_names

    with open_seekable(file, corpus) as raw:
        return sheet_names(file, raw, corpus)


def _missing(file: InputFile, name: str, names: list[str], corpus: CorpusConfig) -> CorpusError:
    if file.format in ("csv", "tsv"):
        from latentscale.readers.delimited import Header, later_header, likely_delimiter
        from latentscale.readers.dialect import usual_dialect

        header = Header(names=tuple(names), renamed={}, dialect=usual_dialect(file, corpus))
        other = likely_delimiter(header, [name])
        if other:
            shown = "a tab" if other == "\t" else repr(other)
            return CorpusError(
                f"{file.path} has no column {name!r}: its columns seem to be separated by {shown}",
                where=file.url,
                hint=f"--set corpus.delimiter={shown if other != chr(9) else chr(39) + chr(92) + 't' + chr(39)}",
            )
        with open_input(file, corpus.storage) as raw:
            lines = later_header(file, raw, corpus, IngestConfig(), [name])
        if lines is not None:
            return CorpusError(
                f"{file.path} has no column {name!r} in its header, and line {lines + 1:,} names one",
                where=f"{file.url}:{lines + 1}",
                hint=f"If the lines before it are no rows: --set corpus.skip_lines={lines}.",
            )
    error = missing_column(name, names, file)
    if name == corpus.vectors:
        error.hint = (
            f"{error.hint or ''} Vectors are a column, a file that ends in .npy or .parquet, or vectors= in Python."
        ).strip()
    if file.format in ("csv", "tsv") and corpus.header and any(map(_is_number, names)):
        error.hint = f"{error.hint} If the first line holds no names: --set corpus.header=false."
    return error


def _is_number(name: str) -> bool:
    try:
        float(name)
    except ValueError:
        return False
    return True


def _unmatched_paths(
    file: InputFile, kinds: Mapping[str, pa.DataType], table: pa.Table | None, corpus: CorpusConfig
) -> list[str]:
    """Return messages on text paths that match nothing, by the types or in all of the first rows."""
    said: list[str] = []
    for name in corpus.text_columns():
        root, steps = parse_path(name)
        if not steps or name in kinds or root not in kinds:
            continue
        if table is None:
            found, rows = unmatched([shape_of(kinds[root])], steps, shapes=True), "no row"
        else:
            values = table.column(root).to_pylist() if root in table.column_names else []
            found, rows = unmatched(values, steps), f"none of the first {table.num_rows:,} rows"
        if found is not None:
            said.append(
                f"{rows} of {shown(file.path)} has {found[0]!r} where the text is looked for, {shown(name)}; "
                f"there are: {name_list(found[1]) or 'none'}"
            )
    return said


def _check_first_rows(file: InputFile, table: pa.Table, corpus: CorpusConfig) -> None:
    if corpus.where:
        evaluate(parse_condition(corpus.where), table, where=file.path)
    if corpus.vectors and corpus.vectors in table.column_names:
        from latentscale.embedders.column import column_vectors

        column = table.column(corpus.vectors)
        if pa.types.is_string(column.type):
            column = vectors_of_text(column, name=corpus.vectors, file=file.path)
        if not pa.types.is_null(column.type):
            column_vectors(column, name=corpus.vectors, file=file.path, normalise=False)
