"""Look at a corpus before any work: can its files be opened, and do they have the columns that were asked for?"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from latentscale.config import CorpusConfig, IngestConfig
from latentscale.errors import ConfigError, CorpusError
from latentscale.readers import read_input
from latentscale.readers.columns import plain_type, text_of
from latentscale.readers.documents import condition_columns, evaluate, missing_column, wrong_type
from latentscale.readers.records import Block
from latentscale.storage.input_table import FORMATS, InputFile, InputTable
from latentscale.storage.inputs import open_input

MAX_FILES = 256
"""So many files are opened; of more, evenly spaced ones. The others are checked when they are read."""
MAX_LINE_FILES = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class CorpusCheck:
    """What a look at the corpus found.

    Attributes
    ----------
    columns : dict of str to str
        Source columns of the files that were opened, and their types.
    rows : int or None
        Rows in all, where the footers of all files say it.
    notes : tuple of str
        Choices that were made for the user.
    """

    columns: dict[str, str]
    rows: int | None
    notes: tuple[str, ...]


def check_corpus(inputs: InputTable, corpus: CorpusConfig, ingest: IngestConfig | None = None) -> CorpusCheck:
    """Find what is wrong with the request, as far as headers, footers and first rows tell.

    Raises
    ------
    CorpusError
        If a file is damaged, lacks a column, has a text or vector column of another type, or there are no rows.
    ConfigError
        If the condition cannot be parsed or evaluated, or names a column that no file has.
    """
    ingest = ingest or IngestConfig()
    named = set(condition_columns(corpus.where)) if corpus.where else set[str]()
    if corpus.where and not named:
        raise ConfigError(f"the condition {corpus.where!r} names no column", where="corpus.where")
    columns: dict[str, str] = {}
    objects: dict[str, pa.DataType] = {}
    first_objects: InputFile | None = None
    rows: int | None = 0
    some = False
    chosen = _chosen(inputs)
    for file in chosen:
        found, count, table = _look(file, corpus, ingest)
        if found is None:
            # Where not one of the first rows can be read, the limit on rejects will say why.
            some = some or count is None
            continue
        if file.format == "jsonl":
            # An object may lack a key, and a small file may hold one object: all files together must have it.
            objects = {name: kind for name, kind in found.items() if name not in objects} | objects
            first_objects = first_objects or file
        else:
            _check_columns(file, found, corpus)
        columns |= {name: str(kind) for name, kind in found.items() if name not in columns}
        rows = None if rows is None or count is None else rows + count
        some = some or count is None or count > 0
        if table is not None and table.num_rows:
            _check_first_rows(file, table, corpus)
    if first_objects is not None and objects:
        _check_columns(first_objects, objects, corpus)
    if not some:
        what = inputs[0].path if len(inputs) == 1 else f"all {len(inputs):,} files"
        raise CorpusError(
            f"there are no rows in {what}",
            where=inputs[0].url if inputs else None,
            hint="Name a file that holds some.",
        )
    unknown = sorted(named - set(columns))
    if unknown:
        error = missing_column(unknown[0], list(columns), inputs[0])
        raise ConfigError(
            f"the condition {corpus.where!r} names {unknown[0]!r}, and no file has such a column; there are: "
            + ", ".join(list(columns)[:20]),
            where="corpus.where",
            hint=error.hint,
        )
    if len(chosen) < len(inputs):
        rows = None
    notes = () if corpus.text or "text" not in columns else ("the text is the column 'text', since none was named",)
    return CorpusCheck(columns=columns, rows=rows, notes=notes)


def _chosen(inputs: InputTable) -> list[InputFile]:
    parquet = inputs.formats == FORMATS.index("parquet")
    places = [*_spaced(np.flatnonzero(parquet), MAX_FILES), *_spaced(np.flatnonzero(~parquet), MAX_LINE_FILES)]
    return [inputs[place] for place in places]


def _spaced(places: NDArray[np.int64], most: int) -> list[int]:
    kept = places if len(places) <= most else places[np.arange(most) * len(places) // most]
    return kept.tolist()


def _look(
    file: InputFile, corpus: CorpusConfig, ingest: IngestConfig
) -> tuple[dict[str, pa.DataType] | None, int | None, pa.Table | None]:
    """Columns with types, rows where they are known, and the first rows of a file; None for a file without lines."""
    if file.format == "parquet" and file.compression == "none":
        from latentscale.readers.parquet import distinct_names, open_source_parquet

        with open_input(file, corpus.storage) as raw:
            source = open_source_parquet(file, raw)
            schema, count = source.schema_arrow, source.metadata.num_rows
            found = {
                name: plain_type(kind) for name, kind in zip(distinct_names(schema.names), schema.types, strict=True)
            }
        wanted = corpus.where or corpus.vectors
        return found, count, _first(file, corpus, ingest) if count and wanted else None
    if file.format in ("csv", "tsv"):
        from latentscale.readers.delimited import read_header

        with open_input(file, corpus.storage) as raw:
            header = read_header(file, raw, corpus, ingest)
        if header is None:
            return None, 0, None
        block = _first_block(file, corpus, ingest)
        return dict.fromkeys(header.names, pa.string()), None if block else 0, block.table if block else None
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
    """Of JSON lines all of which have something else where the text should be, say so."""
    if block.size and all(reason == "not_text" for reason in block.rejects.reason):
        kind = block.rejects.detail[0].split(":", 1)[0]
        raise CorpusError(
            f"the text column {block.rejects.column[0]!r} of {file.path} holds {kind}, not text",
            where=f"{file.url}:{block.rejects.line[0]}",
            hint="Name a column of text, or a template such as --text '{title} ({year})'.",
        )


def _check_columns(file: InputFile, found: dict[str, pa.DataType], corpus: CorpusConfig) -> None:
    names = list(found)
    for name in corpus.text_columns() or (text_of(corpus),):
        if name not in found:
            if corpus.text is None:
                shown = ", ".join(names[:20])
                raise CorpusError(
                    f"which column of {file.path} is the text? Its columns are: {shown}",
                    where=file.url,
                    hint="Name it: --text COLUMN, or a template: --text '{title}\\n{abstract}'.",
                )
            raise _missing(file, name, names, corpus)
        kind = found[name]
        template = corpus.is_template() and not pa.types.is_nested(kind) and not pa.types.is_binary(kind)
        if not (pa.types.is_string(kind) or pa.types.is_null(kind) or template):
            raise wrong_type(name, kind, file)
    for name in filter(None, (corpus.id, corpus.vectors)):
        if name not in found:
            raise _missing(file, name, names, corpus)
    if corpus.id and (pa.types.is_nested(found[corpus.id]) or pa.types.is_floating(found[corpus.id])):
        raise CorpusError(
            f"the id column {corpus.id!r} of {file.path} is of type {found[corpus.id]}",
            where=file.url,
            hint="An id is text or a whole number.",
        )
    if corpus.vectors and not pa.types.is_null(found[corpus.vectors]):
        from latentscale.embedders.column import column_width

        column_width(found[corpus.vectors], name=corpus.vectors)


def _missing(file: InputFile, name: str, names: list[str], corpus: CorpusConfig) -> CorpusError:
    if file.format in ("csv", "tsv"):
        from latentscale.readers.delimited import Header, delimiter_of, likely_delimiter

        header = Header(names=tuple(names), renamed={})
        other = likely_delimiter(header, delimiter_of(file, corpus), [name])
        if other:
            shown = "a tab" if other == "\t" else repr(other)
            return CorpusError(
                f"{file.path} has no column {name!r}: its columns seem to be separated by {shown}",
                where=file.url,
                hint=f"--set corpus.delimiter={shown if other != chr(9) else chr(34) + chr(92) + 't' + chr(34)}",
            )
    return missing_column(name, names, file)


def _check_first_rows(file: InputFile, table: pa.Table, corpus: CorpusConfig) -> None:
    if corpus.where:
        evaluate(corpus.where, table, where=file.path)
    if corpus.vectors and corpus.vectors in table.column_names:
        from latentscale.embedders.column import column_vectors

        column = table.column(corpus.vectors)
        if not pa.types.is_null(column.type):
            column_vectors(column, name=corpus.vectors, file=file.path, normalise=False)
