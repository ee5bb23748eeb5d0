"""Published columns of the corpus, and the documents with them."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from latentscale.config import JobConfig
from latentscale.errors import ConfigError, name_list, shortened
from latentscale.labelers import labeler_class
from latentscale.readers.columns import conform, stored_name, unify_columns
from latentscale.stages.ingest.receipts import source_schemas
from latentscale.storage.objects import Store
from latentscale.storage.partitions import check_partition_type
from latentscale.storage.snapshot import Shard, ShardTable, Snapshot
from latentscale.storage.vectors import stream_documents

_LAYER = re.compile(r"layer_([1-9]\d*)$")


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """Published columns, from the settings and the schemas of the shards."""

    schema: pa.Schema
    text: str
    page: list[str]
    points: list[str]

    def sentence(self, where: str) -> str:
        others = [name for name in self.page if name != self.text]
        text = {"page": "the text and ", "points": "the text and ", "none": ""}[where]
        number = f"{len(others)} column{'' if len(others) == 1 else 's'}"
        return f"{text}{number}" + (f": {name_list(others)}" if others else "")


def layer_number(name: str) -> int:
    """Parse the number of a coarser layer (2 for ``layer_2``); 0 for any other name."""
    match = _LAYER.match(name)
    return int(match[1]) if match else 0


def check_columns(config: JobConfig, columns: Sequence[str]) -> None:
    """Check configured column names before the corpus is read; ``columns`` are those of its only file.

    Raises
    ------
    ConfigError
        If a configured column does not exist, with the most similar name.
    """
    _resolve(config, [stored_name(name, config.corpus) for name in columns])


def resolve_columns(store: Store, snapshot: Snapshot, config: JobConfig, text: str, vectors: str | None) -> JobConfig:
    """Resolve configured source columns to stored names, before anything is computed.

    Returns
    -------
    JobConfig
        A copy with stored names.

    Raises
    ------
    ConfigError
        If a column does not exist, with the most similar name, or its values cannot be folder names.
    """
    columns = _source_columns(store, snapshot.shards.keys, vectors)
    resolved = _resolve(config, columns.names)
    publish = resolved.publish
    if publish.partition_by in columns.names:
        check_partition_type(str(publish.partition_by), columns.field(publish.partition_by).type)
    if publish.columns is not None:
        publish = publish.model_copy(update={"columns": tuple(name for name in publish.columns if name != text)})
    return resolved.model_copy(update={"publish": publish})


def _resolve(config: JobConfig, columns: Sequence[str]) -> JobConfig:
    def stored(setting: str, name: str) -> str:
        for known in (stored_name(name, config.corpus), name):
            if known in columns:
                return known
        near = difflib.get_close_matches(name, columns, n=1)
        raise ConfigError(
            f"{setting}: the corpus has no column {shortened(name)!r}",
            hint=(f"Did you mean {shortened(near[0])!r}? " if near else "") + f"Its columns: {name_list(columns)}.",
        )

    cluster, label, quality, publish = config.cluster, config.label, config.quality, config.publish
    if cluster.column is not None:
        cluster = cluster.model_copy(update={"column": stored("cluster.column", cluster.column)})
    if "majority" in labeler_class(label.method).needs and label.options.get("column") is not None:
        column = stored("label.options.column", str(label.options["column"]))
        label = label.model_copy(update={"options": {**label.options, "column": column}})
    if quality.against is not None:
        quality = quality.model_copy(update={"against": stored("quality.against", quality.against)})
    if publish.columns is not None:
        names = tuple(dict.fromkeys(stored("publish.columns", name) for name in publish.columns))
        publish = publish.model_copy(update={"columns": names})
    if publish.images is not None:
        publish = publish.model_copy(update={"images": stored("publish.images", publish.images)})
        if publish.columns is not None and publish.images not in publish.columns:
            raise ConfigError(
                f"publish.images: the column {shortened(publish.images or '')!r} is not published",
                hint="Name it in publish.columns, too.",
            )
    if publish.partition_by is not None:
        layer = _LAYER.match(publish.partition_by)
        if layer is None:
            name = stored("publish.partition_by", publish.partition_by)
            publish = publish.model_copy(update={"partition_by": name})
        elif int(layer[1]) >= cluster.max_layers:
            raise ConfigError(
                f"publish.partition_by: there is no {publish.partition_by}, since cluster.max_layers is "
                f"{cluster.max_layers}",
                hint="The finest layer is the column cluster; layer_1 is the next.",
            )
    changed = {"cluster": cluster, "label": label, "quality": quality, "publish": publish}
    return config.model_copy(update=changed)


def _source_columns(store: Store, keys: pa.Array | pa.ChunkedArray, vectors: str | None) -> pa.Schema:
    """Source columns of some shards with unified types, without the vectors."""
    unified = unify_columns(source_schemas(store, keys))
    return pa.schema([field for field in unified if field.name != vectors])


def published_columns(
    store: Store,
    shards: Sequence[Shard],
    settings: Mapping[str, Any],
    text: str,
    vectors: str | None,
    *,
    all_shards: ShardTable | None = None,
) -> Published:
    """Return the published columns of these shards; chosen columns that they lack are omitted.

    Parameters
    ----------
    all_shards : ShardTable, optional
        All shards of the snapshot, which determine the types if a map writes only some of its points.
    """
    keys = shards.keys if isinstance(shards, ShardTable) else pa.array([shard.key for shard in shards], pa.string())
    schema = _source_columns(store, keys, vectors)
    if all_shards is not None:
        all_columns = _source_columns(store, all_shards.keys, vectors)
        schema = pa.schema([all_columns.field(name) for name in schema.names])
    chosen = schema.names if settings["columns"] is None else [n for n in settings["columns"] if n in schema.names]
    others = [name for name in chosen if name != text]
    return Published(
        schema=schema,
        text=text,
        page=([text] if settings["text"] != "none" else []) + others,
        points=others + ([text] if settings["text"] == "points" else []),
    )


def published_documents(
    store: Store, snapshot: Snapshot, row_ids: NDArray[np.int64], names: list[str], schema: pa.Schema
) -> Iterator[pa.Table]:
    """Stream columns of the map's documents, with unified types."""
    wanted = pa.schema([schema.field(name) for name in names])
    for _, batch in stream_documents(store, snapshot, row_ids, names):
        yield conform(pa.Table.from_batches([batch]), wanted)
