"""Selection of documents by ``corpus.exclude``, ``only`` and ``exclude_clusters``: id lists, clusters of the map."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import polars as pl

from latentscale.errors import ConfigError, CorpusError, WorkspaceError
from latentscale.file_names import at_home
from latentscale.pipeline.context import RunContext
from latentscale.pipeline.history import settings_of_map
from latentscale.stages import ingest
from latentscale.storage.frames import scan_points
from latentscale.storage.head import current_map
from latentscale.storage.selections import (
    all_offsets,
    is_selection,
    offsets_of,
    read_selection,
    write_selection,
)
from latentscale.storage.snapshot import NO_IDS, Snapshot
from latentscale.storage.snapshots import without_rows

_ROW_ID = "row_id"


def settle_selections(context: RunContext) -> None:
    """Copy the lists of ``corpus.exclude`` and ``corpus.only`` to the workspace, and refer to the copies from then on.

    The run record thus stays complete without the original files, and updates use the copies. Excluded clusters are
    those of the current map; the documents that this map leaves out stay excluded.

    Raises
    ------
    ConfigError
        If a file cannot be read, or has no id column.
    WorkspaceError
        If clusters are given but there is no map or no such cluster.
    """
    corpus = context.config.corpus
    if not (corpus.exclude or corpus.only or corpus.exclude_clusters):
        return
    id_column = ingest.stored_id_column(corpus)
    exclude = [_kept(context, name, "corpus.exclude", id_column) for name in corpus.exclude]
    only = None if corpus.only is None else _kept(context, corpus.only, "corpus.only", id_column)
    if corpus.exclude_clusters:
        exclude += _of_clusters(context, corpus.exclude_clusters)
    settled = corpus.model_copy(update={"exclude": tuple(dict.fromkeys(exclude)), "only": only, "exclude_clusters": ()})
    context.config = context.config.model_copy(update={"corpus": settled})
    context.run.job["corpus"] |= {"exclude": list(settled.exclude), "only": only, "exclude_clusters": []}


def leave_out(context: RunContext, snapshot: Snapshot) -> Snapshot:
    """Return the snapshot without the documents that the lists exclude.

    Raises
    ------
    CorpusError
        If no document remains.
    """
    corpus, store = context.config.corpus, context.store
    id_column = ingest.stored_id_column(corpus)
    excluded = NO_IDS
    for name in corpus.exclude:
        found = offsets_of(store, snapshot, name, id_column=id_column)
        _report(context, name, "corpus.exclude", len(found))
        excluded = np.union1d(excluded, found)
    if corpus.only is not None:
        wanted = offsets_of(store, snapshot, corpus.only, id_column=id_column)
        _report(context, corpus.only, "corpus.only", len(wanted))
        excluded = np.union1d(excluded, np.setdiff1d(all_offsets(snapshot), wanted, assume_unique=True))
    left = without_rows(store, snapshot, excluded, id_column=id_column)
    if not left.documents and len(left.excluded):
        raise CorpusError(
            "no document is left: corpus.exclude and corpus.only leave out all of them",
            hint="Compare the ids of the list with those of the corpus; row ids are those of this workspace.",
        )
    return left


def _report(context: RunContext, name: str, setting: str, found: int) -> None:
    listed = len(read_selection(context.store, name))
    if found < listed:
        context.observer.note(f"{setting}: {found:,} of the {listed:,} ids of {name} are documents of this corpus")


def _kept(context: RunContext, name: str, setting: str, id_column: str | None) -> str:
    if is_selection(name):
        read_selection(context.store, name)
        return name
    values = _read_ids(name, setting, id_column)
    if values.is_empty():
        raise ConfigError(
            f"{setting}: {name} holds no id", hint="Write one id a line, or a table with a column of them."
        )
    return write_selection(context.store, values.to_arrow(), facts={"file": Path(name).name})


def _read_ids(name: str, setting: str, id_column: str | None) -> pl.Series:
    """The ids of a file: text with an id a line, or a table with the column ``row_id`` or the id column's name."""
    path = at_home(name)
    if not path.is_file():
        raise ConfigError(f"{setting}: there is no file {name}", hint="Name a .csv, .txt or .parquet file with ids.")
    suffix = path.suffix.lower()
    try:
        if suffix == ".parquet":
            frame = pl.read_parquet(path)
        elif suffix in (".csv", ".tsv"):
            separator = "\t" if suffix == ".tsv" else _separator(path, (id_column, _ROW_ID))
            frame = pl.read_csv(path, infer_schema=False, separator=separator)
        elif suffix == ".txt":
            lines = [line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines()]
            frame = pl.DataFrame({id_column or _ROW_ID: pl.Series([line for line in lines if line], dtype=pl.String)})
        else:
            raise ConfigError(
                f"{setting}: {name} is not read", hint="Name a .csv, .tsv, .txt or .parquet file with ids."
            )
    except (OSError, UnicodeDecodeError, pl.exceptions.PolarsError) as error:
        raise ConfigError(f"{setting}: {name} cannot be read: {' '.join(str(error).split())[:200]}") from None
    if id_column is not None and id_column in frame.columns:
        return _as_ids(frame[id_column])
    # Without a header, the first id of the list would be taken for the column name and lost.
    unnamed = frame.width == 1 and suffix not in (".csv", ".tsv")
    column = _ROW_ID if _ROW_ID in frame.columns else frame.columns[0] if unnamed else None
    if column is None:
        wanted = f"{id_column!r} or '{_ROW_ID}'" if id_column else f"'{_ROW_ID}'"
        raise ConfigError(
            f"{setting}: {name} has no column of ids; its columns are {', '.join(frame.columns[:100])}",
            hint=f"Call one {wanted}; a list without a header is a .txt file.",
        )
    if column != _ROW_ID and id_column is not None:
        return _as_ids(frame[column])
    numbers = frame[column].cast(pl.Int64, strict=False)
    wrong = frame[column].filter(numbers.is_null() & frame[column].is_not_null())
    if len(wrong):
        raise ConfigError(
            f"{setting}: {name}: {str(wrong[0])[:60]!r} is no row id",
            hint="Row ids are whole numbers; for ids of the corpus name its id column with --id.",
        )
    return numbers.drop_nulls().rename(_ROW_ID)


def _separator(path: Path, names: tuple[str | None, ...]) -> str:
    """The separator with which the header of a CSV file contains one of ``names``; by default the comma."""
    with path.open(encoding="utf-8-sig") as file:
        header = file.readline()
    split = {one: [name.strip("\"' \r\n") for name in header.split(one)] for one in ",;\t|"}
    return next((one for one, found in split.items() if any(name in names for name in found)), ",")


def _as_ids(column: pl.Series) -> pl.Series:
    """The ids of a column as text; floats with integer values, as pandas writes them, become integers first."""
    if column.dtype.is_float() and (column == column.round()).all():
        column = column.cast(pl.Int64, strict=False)
    return column.cast(pl.String).drop_nulls().rename("id")


def _of_clusters(context: RunContext, clusters: Sequence[int]) -> list[str]:
    """Names of the selections of the current map, and of a new one with the documents of its ``clusters``."""
    store = context.store
    current = current_map(store)
    if current is None:
        raise WorkspaceError(
            f"{store.url} has no map yet whose clusters could be left out", hint="Run without --exclude-clusters first."
        )
    points = scan_points(store, current)
    found = points.filter(pl.col("cluster").is_in(list(clusters))).select("row_id", "cluster").collect()
    missing = sorted(set(clusters) - set(found["cluster"].to_list()))
    if missing:
        raise WorkspaceError(
            f"{current.id} has no cluster {', '.join(map(str, missing))}",
            hint="latentscale clusters lists them; -1 is noise.",
        )
    name = write_selection(
        store, found["row_id"].to_arrow(), facts={"map": current.id, "clusters": sorted(set(clusters))}
    )
    named = ", ".join(map(str, sorted(set(clusters))))
    context.observer.note(f"the {len(found):,} documents of clusters {named} of {current.id} are left out ({name})")
    return [*settings_of_map(store, current)["corpus"].get("exclude", ()), name]
