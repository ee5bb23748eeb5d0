"""Embed: each shard of documents becomes a shard of vectors."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import lru_cache
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from latentscale.config import EmbedConfig
from latentscale.digest import artifact_id
from latentscale.embedders import Embedder, open_embedder
from latentscale.embedders.column import column_vectors
from latentscale.embedders.language import count_languages
from latentscale.storage.listing import Listing
from latentscale.storage.objects import Store
from latentscale.storage.parquet import other_version, read_footer, read_parquet, write_parquet
from latentscale.storage.snapshots import Shard, ShardTable

VERSION = 1
FOLDER = "embeddings"


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbedReceipt:
    """What embedding one shard left.

    Attributes
    ----------
    key : str
        Of the shard of documents.
    rows, embedded, unique : int
        Documents, those with a vector, different texts.
    tokens, unknown, truncated : int
        Tokens read, those of them that the model does not know, and texts that were cut; each text counts once.
    seconds : float
        0 where the shard was there already.
    languages : dict of str to int
        A sample of the texts, counted by the language that they look like.
    """

    key: str
    rows: int
    embedded: int
    unique: int
    tokens: int
    unknown: int
    truncated: int
    dim: int
    seconds: float = 0.0
    languages: dict[str, int] = field(default_factory=dict[str, int])


def embedding_request(config: EmbedConfig, *, text_column: str, vectors_column: str | None) -> dict[str, Any]:
    """Everything that alters the vectors of a text: the identity of the embedding.

    The shards are not part of it: new ones are added to the same embedding.
    """
    if config.model == "column":
        model: Mapping[str, Any] = {"model": "column", "column": vectors_column}
    else:
        model = opened_embedder(config.model, config.max_tokens).identity()
    return {"version": VERSION, "model": dict(model), "dtype": config.dtype, "text": text_column}


@lru_cache(maxsize=2)
def opened_embedder(model: str, max_tokens: int) -> Embedder:
    """Open an embedder once a process: loading the model takes half a second."""
    return open_embedder(model, max_tokens=max_tokens)


def vector_name(embedding_id: str, key: str) -> str:
    """Object name of a shard of vectors."""
    return f"{FOLDER}/{embedding_id}/{key[:2]}/{key}.parquet"


def reject_name(embedding_id: str, key: str) -> str:
    """Object of a shard's documents that have no vector."""
    return f"rejects/{embedding_id}/{key[:2]}/{key}.parquet"


def pending_shards(shards: ShardTable, embedding_id: str, listing: Listing) -> NDArray[np.bool_]:
    """Say of each shard of documents whether its vectors are missing: planned keys minus listed keys."""
    folder = f"{FOLDER}/{embedding_id}/"
    pattern = pc.MatchSubstringOptions(f"^{re.escape(folder)}../[^/]+\\.parquet$")
    there = listing.names.filter(pc.call_function("match_substring_regex", [listing.names], pattern))
    keys = pc.call_function(
        "utf8_slice_codeunits", [there], pc.SliceOptions(len(folder) + len("kk/"), -len(".parquet"))
    )
    known = pc.call_function("is_in", [shards.keys.cast(pa.large_string())], pc.SetLookupOptions(keys))
    return ~known.to_numpy(zero_copy_only=False)


class EmbedWorker:
    """Embeds shards: reads the texts, embeds each different one once, writes the vectors in one object.

    Parameters
    ----------
    store : Store
        The workspace.
    config : EmbedConfig
    text_column : str
    vectors_column : str or None
        Column of vectors, for ``embed.model: column``.
    """

    def __init__(self, store: Store, config: EmbedConfig, text_column: str, vectors_column: str | None) -> None:
        self._store = store
        self._config = config
        self._text_column = text_column
        self._vectors_column = vectors_column
        self._embedder = None if config.model == "column" else opened_embedder(config.model, config.max_tokens)
        request = embedding_request(config, text_column=text_column, vectors_column=vectors_column)
        self._embedding_id = artifact_id("embedding", request)

    def __call__(self, shard: Shard) -> EmbedReceipt:
        """Embed one shard, unless its vectors are there."""
        started = time.perf_counter()
        name = vector_name(self._embedding_id, shard.key)
        if self._store.exists(name):
            return read_receipt(self._store, self._embedding_id, shard)
        languages: dict[str, int] = {}
        if self._embedder is None:
            column = read_parquet(self._store, shard.name, [str(self._vectors_column)]).column(0)
            found = column_vectors(column, name=str(self._vectors_column), file=shard.name)
            vectors, embeddable = found.vectors, found.embeddable
            unique, tokens, unknown, truncated = shard.rows, 0, 0, 0
        else:
            texts = read_parquet(self._store, shard.name, [self._text_column]).column(0)
            encoded = texts.combine_chunks().dictionary_encode()
            if isinstance(encoded, pa.ChunkedArray):
                encoded = encoded.combine_chunks()
            different: list[str] = encoded.dictionary.to_pylist()
            embedded = self._embedder.embed(different)
            inverse = encoded.indices.to_numpy(zero_copy_only=False)
            # Most shards hold few repeated texts: then the vectors are taken as they are, without a copy.
            alike = len(different) == len(inverse)
            vectors = embedded.vectors if alike else embedded.vectors[inverse]
            embeddable = embedded.embeddable if alike else embedded.embeddable[inverse]
            unique, tokens = len(different), embedded.tokens
            unknown, truncated = embedded.unknown, embedded.truncated
            languages = dict(sorted(count_languages(different).items()))
        self._write_rejects(shard, embeddable)
        receipt = EmbedReceipt(
            key=shard.key,
            rows=shard.rows,
            embedded=int(embeddable.sum()),
            unique=unique,
            tokens=tokens,
            unknown=unknown,
            truncated=truncated,
            dim=int(vectors.shape[1]),
            languages=languages,
        )
        facts = {key: value for key, value in asdict(receipt).items() if key not in ("key", "seconds")}
        table = vector_table(vectors, embeddable, self._config.dtype)
        write_parquet(
            self._store,
            name,
            table,
            facts={"embedding": self._embedding_id, **facts},
            byte_stream_split=["vector.list.element"],
        )
        return replace(receipt, seconds=round(time.perf_counter() - started, 4))

    def _write_rejects(self, shard: Shard, embeddable: NDArray[np.bool_]) -> None:
        lost = np.flatnonzero(~embeddable)
        if not len(lost):
            return
        places = read_parquet(self._store, shard.name, ["source", "source_row"]).take(pa.array(lost))
        column = self._vectors_column or self._text_column
        detail = "no vector" if self._embedder is None else "no token that the model knows"
        table = pa.table(
            {
                "source": places["source"].cast(pa.string()),
                "source_row": places["source_row"],
                "column": pa.array([column] * len(lost), pa.string()),
                "reason": pa.array(["not_embeddable"] * len(lost), pa.string()),
                "detail": pa.array([detail] * len(lost), pa.string()),
            }
        )
        name = reject_name(self._embedding_id, shard.key)
        write_parquet(self._store, name, table, facts={"embedding": self._embedding_id, "shard": shard.key})


def vector_table(vectors: NDArray[np.float32], embeddable: NDArray[np.bool_], dtype: str) -> pa.Table:
    """Make the table of a shard of vectors: ``row`` int32, ``vector`` a fixed-size list, null where not embeddable."""
    kept = np.ascontiguousarray(vectors, dtype=np.dtype(dtype))
    flat = pa.array(kept.reshape(-1))
    mask = None if embeddable.all() else pa.array(~embeddable)
    column = pa.FixedSizeListArray.from_arrays(flat, int(vectors.shape[1]), mask=mask)
    return pa.table({"row": pa.array(np.arange(len(vectors), dtype=np.int32)), "vector": column})


def read_receipt(store: Store, embedding_id: str, shard: Shard) -> EmbedReceipt:
    """Read from a shard of vectors what embedding it gave."""
    name = vector_name(embedding_id, shard.key)
    facts = dict(read_footer(store, name).facts)
    try:
        del facts["embedding"]
        return EmbedReceipt(key=shard.key, **facts)
    except (KeyError, TypeError) as error:
        raise other_version(store, name, error) from error
