"""Settings of the corpus: sources, format and selection."""

from __future__ import annotations

import codecs
import re
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator

from latentscale.config.base import Settings
from latentscale.config.secrets import without_credentials
from latentscale.config.store import StorageConfig
from latentscale.file_names import at_home, escaped

_FIELD = re.compile(r"\{([^{}]+)\}")
_FILE_COLUMNS = {".npy": "npy_vector", ".parquet": "parquet_vector"}
"""The column of vectors that come from a file beside the table, by the end of its name."""
# `messages[].content`, `messages[role=user].content`
_TEXTS = re.compile(r"\[(\]|[^\]\[=]+=)")


def _is_list(value: Any) -> bool:
    return isinstance(value, list | tuple)


class CorpusConfig(Settings):
    """The corpus: sources, format and selection."""

    sources: Annotated[tuple[str, ...], Field(min_length=1)]
    """Files, directories, globs or fsspec URLs; the word `demo` is the corpus that comes with LatentScale."""
    text: str | None = None
    """The text column, a template of columns such as "{title}\\n{abstract}", or a path into nested values, such as
    "meta.title" or "messages[role=user].content". Files of plain text need none."""
    id: str | None = None
    """The column that identifies a document. The last document with an id wins."""
    format: Literal["auto", "parquet", "csv", "tsv", "jsonl", "json", "arrow", "excel", "lines", "files"] = "auto"
    """How to read the sources; `auto` goes by the file name. `lines`: one document per line, `files`: one per file."""
    sheet: str | None = None
    """The sheet of Excel files; by default the first."""
    follow_links: bool | None = None
    """Whether to follow links that lead outside of a source; by default only links that a pattern names."""
    encoding: str = "utf-8"
    """Character encoding of CSV, JSONL and text files."""
    delimiter: Annotated[str, Field(min_length=1, max_length=1)] | None = None
    """Delimiter of CSV files; by default detected from the first lines, else a comma, or a tab for .tsv."""
    quote: Annotated[str, Field(max_length=1)] | None = None
    """Character around CSV fields; empty for none; by default a double quote, or a single one if the header uses it."""
    escape: Annotated[str, Field(max_length=1)] | None = None
    """Escape character of quotes in CSV fields; empty if quotes are doubled; by default detected."""
    header: bool = True
    """Whether the first line of CSV files names the columns; without it they are column_1, column_2 and so on."""
    comment: Annotated[str, Field(max_length=1)] | None = None
    """Prefix of comment lines before the header of CSV files, which are skipped; empty for none; by default #."""
    skip_lines: Annotated[int, Field(ge=0, le=10**9)] = 0
    """Lines to skip at the beginning of CSV files, before the header."""
    where: str | None = None
    """A SQL condition on the source columns, run by polars, such as "year >= 2020 AND lang = 'en'"."""
    limit: Annotated[int, Field(ge=1, le=10**15)] | None = None
    """Maximum number of documents: the first ones are used."""
    sample: Annotated[float, Field(gt=0, le=1)] | None = None
    """Share of the documents to use, chosen by a hash of the id (or of the text), so that it is stable."""
    exclude: tuple[str, ...] = ()
    """Files of ids of documents to exclude: .txt, one per line; .csv or .parquet with the id column or `row_id`."""
    only: str | None = None
    """A file of ids of the only documents to include; formats as for `exclude`."""
    exclude_clusters: tuple[int, ...] = ()
    """Clusters of the current map (finest layer) to exclude, in addition to what that map already excludes."""
    vectors: str | None = None
    """The column of embedding vectors, for `embed.model: column`, or a .npy or .parquet file with a row for each
    of one table; "{folder}/{name}.npy" is one beside each table. A parquet file that has the column `id` too must have
    the same ids row by row."""
    max_zstd_window: Annotated[int, Field(ge=1 << 10, le=1 << 31)] = 128 << 20
    """Maximum window of a .zst file, in bytes; `zstd --long=31` needs 2147483648."""
    max_expansion: Annotated[int, Field(ge=1, le=10**9)] = 500
    """Maximum ratio of decompressed to compressed size; a file of more than 32 MB beyond it is refused."""
    storage: StorageConfig | None = None
    """Connection settings of the sources, as in `storage`; by default those, if the protocol is that of `out`."""

    @field_validator("exclude", mode="before")
    @classmethod
    def _one_list(cls, value: Any) -> Any:
        return (value,) if isinstance(value, str) else value

    @field_validator("sources", mode="before")
    @classmethod
    def _one_source(cls, value: Any) -> Any:
        values = (value,) if isinstance(value, str) else value
        # An argument or a name of a file whose bytes are not UTF-8 could be written nowhere.
        return [escaped(one) if isinstance(one, str) else one for one in values] if _is_list(values) else values

    @field_validator("sources")
    @classmethod
    def _no_password(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for source in value:
            without_credentials(source)
            if not source.strip():
                # It would be the folder that the shell is in.
                raise ValueError("a source is empty: name a file or a folder; . is this folder")
        return value

    @field_validator("text")
    @classmethod
    def _some_text(cls, value: str | None) -> str | None:
        if value is not None and not value.strip():
            raise ValueError("the name of the text column is empty; leave it out for a column called text")
        return value

    @field_validator("vectors")
    @classmethod
    def _absolute_file(cls, value: str | None) -> str | None:
        if value is None or not value.endswith(tuple(_FILE_COLUMNS)) or "://" in value or value.startswith("{folder}"):
            return value
        return str(at_home(value).absolute())

    @field_validator("delimiter", mode="before")
    @classmethod
    def _spelled_tab(cls, value: Any) -> Any:
        # As a shell passes it, and as a template of text takes it.
        return "\t" if value == "\\t" else value

    @field_validator("encoding")
    @classmethod
    def _known_encoding(cls, value: str) -> str:
        try:
            "".encode(value)
        except (LookupError, UnicodeError) as error:
            raise ValueError(f"{value!r} is not an encoding of text that Python knows") from error
        sample = "a,b\n"
        try:
            # Some of Python's codecs are for names of hosts, or know no way to go on after bytes that they cannot read.
            decoder = codecs.getincrementaldecoder(value)("backslashreplace")
            usable = decoder.decode(sample.encode(value), True) == sample
            decoder.reset()
            decoder.decode("".encode(value) + b"\xff\xfe\x80,\\", True)
        except (LookupError, UnicodeError, TypeError):
            usable = False
        if not usable:
            raise ValueError(f"{value!r} is a codec of Python that cannot read files of text")
        return value

    def text_columns(self) -> tuple[str, ...]:
        """The source columns, or paths into them, that the text is made of; empty where the format gives the text."""
        if self.text is None:
            return ()
        fields = tuple(_FIELD.findall(self.text))
        return tuple(dict.fromkeys(fields)) if fields else (self.text,)

    def vectors_file(self) -> str | None:
        """The ``.npy`` or ``.parquet`` file that holds the vectors, where they are no column.

        With ``{name}`` in it, and perhaps ``{folder}``, it is one for each table.
        """
        return self.vectors if self.vectors is not None and self.vectors.endswith(tuple(_FILE_COLUMNS)) else None

    def vectors_column(self) -> str | None:
        """The column that holds the vectors; where they come from a file, the one that they are put in."""
        file = self.vectors_file()
        return self.vectors if file is None else _FILE_COLUMNS[Path(file).suffix]

    def is_template(self) -> bool:
        """Whether the text is composed: `text` is a template of columns, or a path to several texts of a row."""
        return self.text is not None and bool(_FIELD.search(self.text) or _TEXTS.search(self.text))

    def template(self) -> str:
        """The text setting as a template, with the column or path in braces where it is one alone."""
        text = self.text or "text"
        return text if _FIELD.search(text) else f"{{{text}}}"
