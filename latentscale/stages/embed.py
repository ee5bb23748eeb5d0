"""Embed: each shard of documents becomes a shard of vectors."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from latentscale.config import JobConfig
from latentscale.digest import artifact_id
from latentscale.embedders import EmbedderSpec, opened_embedder
from latentscale.embedders.language import count_languages
from latentscale.embedders.protocol import Embedded, is_staged
from latentscale.errors import CorpusError
from latentscale.machine import own_device, release_memory
from latentscale.registry import StageEntry, stage_entry
from latentscale.services.failures import UnansweredError
from latentscale.stages.earlier_vectors import EarlierVectors
from latentscale.stages.embed_receipt import EmbedReceipt, ShardWork, WorkClock, read_receipt
from latentscale.stages.rates import embed_seconds
from latentscale.stages.service import ShardService
from latentscale.stages.stage import Cost, JobSize, Table
from latentscale.storage.columns import BATCH
from latentscale.storage.key_index import KeyIndex
from latentscale.storage.listing import Listing
from latentscale.storage.objects import Store
from latentscale.storage.parquet import read_parquet, write_parquet
from latentscale.storage.request import Request
from latentscale.storage.shard_hashes import strings_of
from latentscale.storage.shared_texts import SharedVectors
from latentscale.storage.snapshot import NO_IDS, Shard, ShardTable
from latentscale.storage.vectors import EMBEDDINGS, vector_name


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbeddingRequest(Request):
    """Everything that affects the vector of a text: the identity of the embedding.

    Shards are not included: new ones are added to the same embedding.
    """

    VERSION: ClassVar[int] = 2

    model: Mapping[str, Any]
    dtype: str
    text: str


class EmbedStage:
    """The vectors of the documents; see :class:`latentscale.stages.stage.Stage`."""

    name = "embed"
    # Shards of vectors are listed by their folder, not by the record.
    tables: ClassVar[Mapping[str, Table]] = {}

    @property
    def entry(self) -> StageEntry:
        """Return the entry of the registry."""
        return stage_entry(self.name)

    def request(self, spec: EmbedderSpec, config: JobConfig, *, text_column: str) -> EmbeddingRequest:
        """Return the request of a job's embedding."""
        return EmbeddingRequest(model=spec.identity(), dtype=config.embed.dtype, text=text_column)

    def cost(self, size: JobSize, config: JobConfig) -> Cost:
        """Estimate by the measured rate of the kind of embedder."""
        itemsize = 2 if config.embed.dtype == "float16" else 4
        seconds = embed_seconds(size)
        return Cost(
            cpu_seconds=seconds.cpu,
            gpu_seconds=seconds.gpu,
            parallel=True,
            disk_bytes=size.documents * size.dim * itemsize * 0.9,
        )


STAGE = EmbedStage()


def reject_name(embedding_id: str, key: str) -> str:
    """Name of the object with a shard's documents that have no vector."""
    return f"rejects/{embedding_id}/{key[:2]}/{key}.parquet"


def pending_shards(shards: ShardTable, embedding_id: str, listing: Listing) -> NDArray[np.bool_]:
    """Find shards of documents without vectors, from a listing: bool per shard."""
    folder = f"{EMBEDDINGS}/{embedding_id}/"
    pattern = pc.MatchSubstringOptions(f"^{re.escape(folder)}../[^/]+\\.parquet$")
    inside_name = pc.SliceOptions(len(folder) + len("kk/"), -len(".parquet"))
    missing = np.ones(len(shards), dtype=bool)
    index = KeyIndex(shards.keys)
    for begin in range(0, len(listing), BATCH):
        names = listing.names.slice(begin, BATCH)
        there = names.filter(pc.call_function("match_substring_regex", [names], pattern))
        places = index.find(pc.call_function("utf8_slice_codeunits", [there], inside_name))
        missing[places[places >= 0]] = False
    return missing


@dataclass(frozen=True, slots=True, kw_only=True)
class Texts:
    """The texts of a shard to be embedded, deduplicated.

    Attributes
    ----------
    different : list of str
        Distinct texts.
    places : int ndarray, shape (n,)
        Position in ``different`` of each row's text.
    rows : int64 ndarray, shape (n,)
        Rows of the shard.
    """

    different: list[str]
    places: NDArray[Any]
    rows: NDArray[np.int64]

    @classmethod
    def of(cls, column: pa.ChunkedArray, without: NDArray[np.int64]) -> Texts:
        """Deduplicate the texts of all rows but ``without``."""
        rows = np.setdiff1d(np.arange(len(column)), without, assume_unique=True)
        if len(without):
            column = column.take(pa.array(rows))
        encoded = column.combine_chunks().dictionary_encode()
        if isinstance(encoded, pa.ChunkedArray):
            encoded = encoded.combine_chunks()
        places = encoded.indices.to_numpy(zero_copy_only=False)
        return cls(different=encoded.dictionary.to_pylist(), places=places, rows=rows)


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """A shard that was read.

    Attributes
    ----------
    shard : Shard
    started : float
    column : pyarrow.ChunkedArray or None
        Texts, or vectors of the corpus; None where ``receipt`` is set.
    texts : Texts or None
        None if the corpus has vectors, or there is nothing to do.
    prepared : object
        Texts as prepared by a staged embedder.
    receipt : EmbedReceipt or None
        Set if the vectors existed already.
    reused_rows : int64 ndarray
        Rows whose vectors are reused.
    reused_vectors : float32 ndarray, shape (len(reused_rows), dim)
    """

    shard: Shard
    started: float
    column: pa.ChunkedArray | None = None
    texts: Texts | None = None
    prepared: Any = None
    receipt: EmbedReceipt | None = None
    reused_rows: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))
    reused_vectors: NDArray[np.float32] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Launched:
    """A shard whose texts a staged embedder has submitted to its device.

    Attributes
    ----------
    loaded : Loaded
    began : float
        Start time of the worker's clock.
    computed : object
        Pending result of the embedder.
    """

    loaded: Loaded
    began: float
    computed: Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Computed:
    """The vectors of a shard before they are written."""

    loaded: Loaded
    vectors: NDArray[np.float32]
    embeddable: NDArray[np.bool_]
    receipt: EmbedReceipt
    reasons: Mapping[int, str] = field(default_factory=dict[int, str])


class EmbedWorker:
    """Embeds shards in three steps: read the texts, embed each distinct one once, write the vectors as one object.

    A staged embedder prepares texts in the first step and finishes in the last one, so that its device gets the work of
    the next shard before it has finished the current one.

    Parameters
    ----------
    store : Store
        The workspace.
    spec : EmbedderSpec
    request : EmbeddingRequest
    reuse : (str, str), optional
        Ids of the snapshot of the map being updated, and of the new one. A document that moved to another shard with
        the same text keeps its vector: embedders need not be deterministic, and may cost time or money.
    run : str
        Id of the run whose spending on a service is counted.
    shared : str, optional
        Folder of the vectors of texts shared by several shards; see :mod:`latentscale.storage.shared_texts`.
    on_processors : bool
        Use no GPU, even if this process sees one.
    """

    def __init__(
        self,
        store: Store,
        spec: EmbedderSpec,
        request: EmbeddingRequest,
        reuse: tuple[str, str] | None = None,
        run: str = "unnamed",
        shared: str | None = None,
        *,
        on_processors: bool = False,
    ) -> None:
        self._store = store
        self._spec = spec
        self._request = request
        self._text_column = request.text
        self._column = getattr(spec, "column", request.text) if spec.reads == "vectors" else request.text
        self.embedding_id = artifact_id("embedding", request.identity())
        self._earlier = EarlierVectors(store, self.embedding_id, request.text, reuse) if reuse else None
        self._shared = SharedVectors(store, shared) if shared else None
        self._width = spec.dimensions
        device = "cpu" if on_processors else own_device()
        self._clock = WorkClock(device)
        self._embedder = opened_embedder(spec, device)
        self._staged = spec.terms is None and is_staged(self._embedder)
        self._service = None if spec.terms is None else ShardService(store, spec, self.embedding_id, run)
        # A visible GPU is not always used.
        used = getattr(self._embedder, "device", device)
        self._clock.loaded(used)
        self._releases_memory = self._staged and not used.startswith("cuda")

    def __call__(self, shard: Shard) -> EmbedReceipt:
        """Embed one shard, unless its vectors exist."""
        return self.write(shard, self.compute(self.read(shard)))

    def read(self, task: Shard) -> Loaded:
        """Read the texts, or return the receipt of existing vectors."""
        started = time.perf_counter()
        if self._store.exists(vector_name(self.embedding_id, task.key)):
            receipt = read_receipt(self._store, self.embedding_id, task)
            return Loaded(shard=task, started=started, receipt=receipt)
        column = read_parquet(self._store, task.name, [self._column]).column(0)
        if self._spec.reads == "vectors":
            return Loaded(shard=task, started=started, column=column)
        rows, vectors = self._known(task, column)
        return self.loaded(task, started, column, rows, vectors)

    def loaded(
        self,
        shard: Shard,
        started: float,
        column: pa.ChunkedArray,
        reused_rows: NDArray[np.int64] = NO_IDS,
        reused_vectors: NDArray[np.float32] | None = None,
    ) -> Loaded:
        """Build the input of ``compute``."""
        texts = Texts.of(column, reused_rows)
        return Loaded(
            shard=shard,
            started=started,
            column=column,
            texts=texts,
            prepared=self._embedder.prepare(texts.different) if self._staged else None,
            reused_rows=reused_rows,
            reused_vectors=reused_vectors,
        )

    def _known(self, shard: Shard, texts: pa.ChunkedArray) -> tuple[NDArray[np.int64], NDArray[np.float32] | None]:
        """Find rows whose vectors can be reused, and those vectors."""
        rows, vectors = NO_IDS, None
        if self._earlier is not None:
            rows, vectors = self._earlier.find(shard, texts)
        if self._shared is None:
            return rows, vectors
        more, others = self._shared.find(strings_of(texts))
        if vectors is None or others is None:
            return (rows, vectors) if others is None else (more, others)
        new = ~np.isin(more, rows)
        return np.concatenate([rows, more[new]]), np.concatenate([vectors, others[new]])

    def compute(self, loaded: Loaded) -> Launched | Computed | Loaded:
        """Embed the texts without a vector."""
        if loaded.column is None:
            return loaded
        shard = loaded.shard
        began = self._clock.begin()
        if loaded.texts is None:
            found: Embedded = self._embedder.take(loaded.column, file=shard.name)
            work = self._clock.end(began, found.halved)
            return self._computed(
                loaded, found, found.vectors, found.embeddable, unique=shard.rows, languages={}, work=work
            )
        if self._staged:
            computed = self._embedder.compute(loaded.prepared)
            if self._releases_memory:
                # The allocator keeps freed activations for each thread that computed, more with every size of batch.
                release_memory()
            return Launched(loaded=replace(loaded, prepared=None), began=began, computed=computed)
        try:
            embedded = self._embed(shard, loaded.texts.different)
        except UnansweredError as error:
            texts = loaded.texts
            return self._given_up(loaded, began, texts.rows[np.isin(texts.places, error.positions)], error)
        return self._assembled(loaded, loaded.texts, began, embedded)

    def complete(self, computed: Launched | Computed | Loaded) -> Computed | Loaded:
        """Wait for a staged embedder to finish, while the next shard is computed."""
        if not isinstance(computed, Launched):
            return computed
        texts = computed.loaded.texts
        assert texts is not None, "only texts are given to a staged embedder"
        return self._assembled(computed.loaded, texts, computed.began, self._embedder.finish(computed.computed))

    def _assembled(self, loaded: Loaded, texts: Texts, began: float, embedded: Embedded) -> Computed:
        """Assemble the vectors of all rows from those of distinct texts and reused ones."""
        shard, different, places = loaded.shard, texts.different, texts.places
        self._check(embedded, len(different), loaded)
        # Without repeated texts, as in most shards, the vectors are used without a copy.
        alike = len(different) == len(places)
        vectors = embedded.vectors if alike else embedded.vectors[places]
        embeddable = embedded.embeddable if alike else embedded.embeddable[places]
        if loaded.reused_vectors is not None and len(loaded.reused_rows):
            whole = np.zeros((shard.rows, loaded.reused_vectors.shape[1]), dtype=np.float32)
            everywhere = np.ones(shard.rows, dtype=bool)
            whole[loaded.reused_rows] = loaded.reused_vectors
            everywhere[texts.rows] = embeddable
            # If no text has a vector, the width is unknown.
            if embeddable.any():
                whole[texts.rows] = vectors
            vectors, embeddable = whole, everywhere
        languages = dict(sorted(count_languages(different).items()))
        work = self._clock.end(began, embedded.halved)
        computed = self._computed(
            loaded, embedded, vectors, embeddable, unique=len(different), languages=languages, work=work
        )
        if not embedded.reasons:
            return computed
        refused = np.flatnonzero(np.isin(places, list(embedded.reasons)))
        return replace(computed, reasons={int(texts.rows[row]): embedded.reasons[int(places[row])] for row in refused})

    def stop(self) -> None:
        """Stop sending requests to a service: a shard may take many minutes."""
        if self._service is not None:
            self._embedder.stop()

    def finish(self, key: str) -> None:
        """Delete the stored answers of a service for a shard whose vectors are written."""
        if self._service is not None:
            self._service.finish(key)

    def _embed(self, shard: Shard, texts: list[str]) -> Embedded:
        """Embed the distinct texts of a shard; answers of a service are stored as they arrive."""
        if self._service is None:
            return self._embedder.embed(texts)
        return self._service.embed(self._embedder, shard.key, texts)

    def _given_up(self, loaded: Loaded, began: float, rows: NDArray[np.int64], error: UnansweredError) -> Loaded:
        """Quarantine a shard whose texts a service does not answer; other shards continue."""
        assert self._service is not None, "only a service leaves texts unanswered"
        shard = loaded.shard
        failure = self._service.describe(shard, rows, error)
        receipt = EmbedReceipt(
            key=shard.key,
            rows=shard.rows,
            embedded=0,
            unique=0,
            tokens=0,
            unknown=0,
            truncated=0,
            dim=0,
            failure=failure,
            work=self._clock.end(began, 0),
        )
        return replace(loaded, column=None, receipt=receipt)

    def _check(self, embedded: Embedded, texts: int, loaded: Loaded) -> None:
        """Validate the embedder's result before it is combined with other vectors.

        Raises
        ------
        CorpusError
            If the number of vectors or their width is wrong (that of the model, or of reused vectors), or a value is
            not finite.
        """
        rows, width = embedded.vectors.shape
        earlier = loaded.reused_vectors
        expected = self._width or (None if earlier is None else earlier.shape[1])
        problem = None
        if rows != texts or len(embedded.embeddable) != texts:
            problem = f"returned {rows:,} vectors for {texts:,} texts"
        elif expected is not None and width != expected and embedded.embeddable.any():
            problem = f"returned vectors of {width:,} numbers, and this embedding has vectors of {expected:,}"
        elif not np.isfinite(embedded.vectors).all():
            problem = "returned numbers that are not finite"
        if problem is not None:
            raise CorpusError(
                f"the embedder {self._spec.name} {problem}",
                where=loaded.shard.name,
                hint="The model is another than its description says, or is damaged: choose it anew as embed.model.",
            )

    def _computed(
        self,
        loaded: Loaded,
        embedded: Embedded,
        vectors: NDArray[np.float32],
        embeddable: NDArray[np.bool_],
        *,
        unique: int,
        languages: dict[str, int],
        work: ShardWork,
    ) -> Computed:
        receipt = EmbedReceipt(
            key=loaded.shard.key,
            rows=loaded.shard.rows,
            embedded=int(embeddable.sum()),
            unique=unique,
            tokens=embedded.tokens,
            unknown=embedded.unknown,
            truncated=embedded.truncated,
            dim=int(vectors.shape[1]),
            reused=len(loaded.reused_rows),
            languages=languages,
            work=work,
        )
        # Release the texts before the vectors are written.
        kept = replace(loaded, texts=None)
        return Computed(loaded=kept, vectors=vectors, embeddable=embeddable, receipt=receipt)

    def write(self, task: Shard, computed: Launched | Computed | Loaded) -> EmbedReceipt:
        """Write the rejects, then the vectors, whose object is the receipt of both."""
        computed = self.complete(computed)
        if isinstance(computed, Loaded):
            assert computed.receipt is not None, "a shard without a receipt was computed"
            return computed.receipt
        receipt = computed.receipt
        self._write_rejects(task, computed)
        facts = {key: value for key, value in receipt.kept().items() if key != "key"}
        write_parquet(
            self._store,
            vector_name(self.embedding_id, task.key),
            vector_table(computed.vectors, computed.embeddable, self._request.dtype),
            facts={"embedding": self.embedding_id, **facts},
            byte_stream_split=["vector.list.element"],
            unordered=["vector"],
        )
        self.finish(task.key)
        return replace(receipt, seconds=round(time.perf_counter() - computed.loaded.started, 4))

    def _write_rejects(self, shard: Shard, computed: Computed) -> None:
        lost = np.flatnonzero(~computed.embeddable)
        if not len(lost):
            return
        sources = read_parquet(self._store, shard.name, ["source", "source_row"]).take(pa.array(lost))
        detail = "no vector" if self._spec.reads == "vectors" else "no token that the model knows"
        table = pa.table(
            {
                "source": sources["source"].cast(pa.string()),
                "source_row": sources["source_row"],
                "column": pa.array([self._column] * len(lost), pa.string()),
                "reason": pa.array(["not_embeddable"] * len(lost), pa.string()),
                "detail": pa.array([computed.reasons.get(row, detail) for row in lost.tolist()], pa.string()),
            }
        )
        name = reject_name(self.embedding_id, shard.key)
        write_parquet(self._store, name, table, facts={"embedding": self.embedding_id, "shard": shard.key})


def vector_table(vectors: NDArray[np.float32], embeddable: NDArray[np.bool_], dtype: str) -> pa.Table:
    """Build the table of a shard: ``row`` int32, ``vector`` a fixed-size list, null where not embeddable."""
    # Parquet has no lists of size 0: if no document has a vector, the nulls have width 1.
    width = max(1, int(vectors.shape[1]))
    kept = (
        np.ascontiguousarray(vectors, dtype=np.dtype(dtype)) if vectors.shape[1] else np.zeros((len(vectors), 1), dtype)
    )
    mask = None if embeddable.all() else pa.array(~embeddable)
    column = pa.FixedSizeListArray.from_arrays(pa.array(kept.reshape(-1)), width, mask=mask)
    return pa.table({"row": pa.array(np.arange(len(vectors), dtype=np.int32)), "vector": column})
