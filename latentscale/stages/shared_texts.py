"""Embed texts shared by several shards once, before the shards themselves."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import overload

import numpy as np
import pyarrow as pa

from latentscale.embedders import EmbedderSpec
from latentscale.stages.embed import Computed, EmbeddingRequest, EmbedWorker, Launched, Loaded, vector_table
from latentscale.stages.embed_receipt import EmbedReceipt, receipt_of
from latentscale.storage.hashing import hash_strings
from latentscale.storage.objects import Store
from latentscale.storage.parquet import read_parquet, write_parquet
from latentscale.storage.shard_hashes import strings_of
from latentscale.storage.snapshot import Ids, Shard, ShardTable
from latentscale.storage.vectors import vector_name


@dataclass(frozen=True, slots=True, kw_only=True)
class SharedRows:
    """Rows of one shard whose texts also occur in other shards.

    Attributes
    ----------
    key : str
        Key of this unit of work, not of the shard, which is embedded afterwards.
    shard : Shard
    rows : tuple of int
    """

    key: str
    shard: Shard
    rows: tuple[int, ...]


@dataclass(frozen=True, slots=True, eq=False)
class SharedRowsList(Sequence[SharedRows]):
    """The units of work for all shared texts, one per shard.

    Attributes
    ----------
    shards : ShardTable
        Shards with such rows, by offset.
    offsets : int64 ndarray, ascending
    """

    shards: ShardTable
    offsets: Ids

    @classmethod
    def of(cls, shards: ShardTable, offsets: Ids) -> SharedRowsList:
        """Build the work for the rows at ``offsets``."""
        owners = np.unique(np.searchsorted(shards.bases, offsets, side="right") - 1)
        return cls(shards.take(owners), offsets)

    def __len__(self) -> int:
        return len(self.shards)

    @overload
    def __getitem__(self, index: int) -> SharedRows: ...
    @overload
    def __getitem__(self, index: slice) -> list[SharedRows]: ...
    def __getitem__(self, index: int | slice) -> SharedRows | list[SharedRows]:
        if isinstance(index, slice):
            return [self[at] for at in range(*index.indices(len(self)))]
        shard = self.shards[index]
        start, stop = np.searchsorted(self.offsets, [shard.base, shard.base + shard.rows])
        rows = self.offsets[start:stop] - shard.base
        return SharedRows(key=f"{shard.key}-shared", shard=shard, rows=tuple(rows.tolist()))


class SharedTextWorker:
    """Embeds the shared texts of one shard, and writes their vectors with the hashes of the texts.

    Parameters
    ----------
    store : Store
    spec : EmbedderSpec
    request : EmbeddingRequest
    folder : str
        From ``storage.shared_texts.shared_folder``.
    run : str
    on_processors : bool
        As in ``EmbedWorker``.
    """

    def __init__(
        self,
        store: Store,
        spec: EmbedderSpec,
        request: EmbeddingRequest,
        folder: str,
        run: str,
        *,
        on_processors: bool = False,
    ) -> None:
        self._store = store
        self._request = request
        self._folder = folder
        self._worker = EmbedWorker(store, spec, request, run=run, on_processors=on_processors)

    def __call__(self, task: SharedRows) -> EmbedReceipt:
        """Embed one shard's rows, unless their vectors exist."""
        return self.write(task, self.compute(self.read(task)))

    def read(self, task: SharedRows) -> Loaded:
        """Read the texts, and existing vectors of their shard."""
        started = time.perf_counter()
        part = Shard(key=task.key, name=task.shard.name, rows=len(task.rows), base=0, bytes=task.shard.bytes)
        if self._store.exists(self._name(task)):
            # A worker may have been killed before it deleted the stored answers.
            self._worker.finish(task.key)
            receipt = receipt_of(self._store, self._name(task), task.key)
            return Loaded(shard=part, started=started, receipt=receipt)
        chosen = pa.array(task.rows, pa.int64())
        texts = read_parquet(self._store, task.shard.name, [self._request.text]).column(0).take(chosen)
        embedded = vector_name(self._worker.embedding_id, task.shard.key)
        if not self._store.exists(embedded):
            return self._worker.loaded(part, started, texts)
        vectors = read_parquet(self._store, embedded, ["vector"]).column(0).take(chosen).combine_chunks()
        there = np.flatnonzero(np.asarray(vectors.is_valid()))
        if not len(there):
            return self._worker.loaded(part, started, texts)
        values = vectors.drop_null().flatten().to_numpy(zero_copy_only=False)
        matrix = values.reshape(len(there), -1).astype(np.float32)
        return self._worker.loaded(part, started, texts, there, matrix)

    def compute(self, loaded: Loaded) -> Launched | Computed | Loaded:
        """Embed the texts without a vector."""
        return self._worker.compute(loaded)

    def stop(self) -> None:
        """Stop sending requests to a service."""
        self._worker.stop()

    def write(self, task: SharedRows, computed: Launched | Computed | Loaded) -> EmbedReceipt:
        """Write the vectors; texts without one are left to the shards, which reject them with a reason."""
        computed = self._worker.complete(computed)
        if isinstance(computed, Loaded):
            assert computed.receipt is not None, "rows without a receipt were computed"
            return computed.receipt
        column = computed.loaded.column
        assert column is not None, "texts were read"
        first, second = hash_strings(strings_of(column))
        table = vector_table(computed.vectors, computed.embeddable, self._request.dtype)
        table = table.select(["vector"])
        table = table.append_column("first", pa.array(first)).append_column("second", pa.array(second))
        facts = {key: value for key, value in computed.receipt.kept().items() if key != "key"}
        write_parquet(
            self._store,
            self._name(task),
            table,
            facts={"embedding": self._worker.embedding_id, **facts},
            byte_stream_split=["vector.list.element"],
            unordered=["vector"],
        )
        self._worker.finish(task.key)
        return replace(computed.receipt, seconds=round(time.perf_counter() - computed.loaded.started, 4))

    def _name(self, task: SharedRows) -> str:
        return f"{self._folder}/{task.shard.key[:2]}/{task.shard.key}.parquet"
