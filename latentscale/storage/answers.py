"""Stored answers of an embedding service: one object per request, kept until the vectors of its shard are written.

Objects list the digests of their texts, so that any worker embedding one of these texts with the same model finds the
answer: the same shard after a kill, or another one after the corpus was split differently.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from latentscale.digest import digest, digest_bytes
from latentscale.embedders.service import Answer
from latentscale.errors import DamagedObjectError, MissingObjectError
from latentscale.file_names import argument
from latentscale.storage.objects import Store
from latentscale.storage.parquet import read_footer, read_parquet, write_parquet
from latentscale.storage.vectors import vector_name

FOLDER = "answers"
_NAME = re.compile(rf"{FOLDER}/[0-9a-f]{{16}}/[^/]+/[0-9a-f]{{32}}\.parquet")
_DIGEST_BYTES = 16


def is_answer_name(name: str) -> bool:
    """Whether an object name is that of an answer."""
    return _NAME.fullmatch(name) is not None


def model_key(identity: Mapping[str, Any]) -> str:
    """Return the folder name of a model's answers: 16 hex characters of the digest of its identity."""
    return digest({"answers": 1, "model": dict(identity)}, size=8)


def shard_of(name: str) -> str:
    """Return the key of the shard of an answer."""
    return name.split("/")[2]


def text_digest(text: str) -> bytes:
    """Return the digest of a text: 16 bytes."""
    return blake2b(text.encode("utf-8", "surrogatepass"), digest_size=_DIGEST_BYTES).digest()


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredAnswer:
    """An answer with the digests of its texts.

    Attributes
    ----------
    texts : list of bytes
        Digests of its texts.
    answer : Answer
    """

    texts: list[bytes]
    answer: Answer


def write_answer(store: Store, model: str, shard: str, texts: Sequence[str], answer: Answer) -> str:
    """Write an answer; returns the name of its object."""
    digests = [text_digest(text) for text in texts]
    width = int(answer.vectors.shape[1])
    # Parquet has no lists of size 0.
    values = np.ascontiguousarray(answer.vectors) if width else np.zeros((len(texts), 1), np.float32)
    refused = np.array([bool(reason) for reason in answer.reasons], dtype=np.bool_)
    table = pa.table(
        {
            "text": pa.array(digests, pa.binary(_DIGEST_BYTES)),
            "vector": pa.FixedSizeListArray.from_arrays(
                pa.array(values.reshape(-1)), max(width, 1), mask=pa.array(refused)
            ),
            "reason": pa.array([reason or None for reason in answer.reasons], pa.string()),
            "tokens": pa.array(answer.tokens, pa.int64()),
        }
    )
    name = f"{FOLDER}/{model}/{shard}/{digest_bytes(digests)}.parquet"
    facts = {"kind": FOLDER, "model": model, "shard": shard, "dim": width}
    write_parquet(store, name, table, facts=facts, byte_stream_split=["vector.list.element"])
    return name


def read_digests(store: Store, name: str) -> list[bytes]:
    """Read the digests of the texts of an answer."""
    return read_parquet(store, name, ["text"])["text"].to_pylist()


def read_answer(store: Store, name: str) -> StoredAnswer:
    """Read an answer.

    Raises
    ------
    DamagedObjectError
        If the object is damaged.
    """
    facts, table = read_footer(store, name).facts, read_parquet(store, name)
    try:
        if facts["kind"] != FOLDER or facts["model"] != name.split("/")[1]:
            raise ValueError("it is of another model")
        texts: list[bytes] = table["text"].to_pylist()
        if name.rpartition("/")[2] != f"{digest_bytes(texts)}.parquet":
            raise ValueError("its texts are not those of its name")
        width = int(facts["dim"])
        column: Any = table["vector"].combine_chunks()
        whole = column.values.slice(column.offset * column.type.list_size, len(column) * column.type.list_size)
        vectors = whole.to_numpy(zero_copy_only=False).reshape(len(texts), -1)[:, :width].astype(np.float32)
        return StoredAnswer(
            texts=texts,
            answer=Answer(
                vectors=vectors,
                reasons=[reason or "" for reason in table["reason"].to_pylist()],
                tokens=table["tokens"].to_numpy(),
            ),
        )
    except (KeyError, ValueError, TypeError, AttributeError) as error:
        raise DamagedObjectError(
            f"{name} is not an answer of an embedding service: {error}",
            where=store.path(name),
            hint=f"latentscale repair {argument(store.url)} deletes it: its texts are asked for again.",
        ) from error


def forget_written(store: Store, model: str, embedding_id: str) -> None:
    """Delete the answers of shards whose vectors are written, left by killed workers."""
    names = list(store.list(f"{FOLDER}/{model}"))
    shards = {shard_of(name) for name in names if is_answer_name(name)}
    written = {shard for shard in shards if store.exists(vector_name(embedding_id, shard))}
    store.delete([name for name in names if is_answer_name(name) and shard_of(name) in written])


class AnswerIndex:
    """Index of a model's stored answers, from other processes or earlier runs.

    Memory holds the digests of the texts, but no vectors.

    Parameters
    ----------
    store : Store
    model : str
        From :func:`model_key`.
    """

    def __init__(self, store: Store, model: str) -> None:
        self._store = store
        self._model = model
        self._places: dict[bytes, tuple[str, int]] = {}
        self._names: set[str] = set()
        self._look(f"{FOLDER}/{model}")

    def look_again(self, shard: str) -> None:
        """Read answers that another worker stored for a shard."""
        self._look(f"{FOLDER}/{self._model}/{shard}")

    def _look(self, folder: str) -> None:
        for name in self._store.list(folder):
            if name in self._names or not is_answer_name(name):
                continue
            try:
                digests = read_digests(self._store, name)
            except MissingObjectError:  # deleted, as its shard was written
                continue
            self._names.add(name)
            for row, one in enumerate(digests):
                self._places[one] = (name, row)

    def find(self, texts: Sequence[str]) -> Iterator[tuple[NDArray[np.int64], Answer]]:
        """Yield stored answers to some of ``texts``, with their positions."""
        if not self._places:
            return
        wanted: dict[str, list[tuple[int, int]]] = {}
        for position, text in enumerate(texts):
            place = self._places.get(text_digest(text))
            if place is not None:
                wanted.setdefault(place[0], []).append((position, place[1]))
        for name, pairs in wanted.items():
            try:
                answer = read_answer(self._store, name).answer
            except MissingObjectError:
                continue
            rows = np.array([row for _, row in pairs], dtype=np.int64)
            yield (
                np.array([position for position, _ in pairs], dtype=np.int64),
                Answer(
                    vectors=answer.vectors[rows],
                    reasons=[answer.reasons[row] for _, row in pairs],
                    tokens=answer.tokens[rows],
                ),
            )

    def forget(self, shard: str) -> None:
        """Delete all answers of a shard whose vectors are written."""
        names = set(self._store.list(f"{FOLDER}/{self._model}/{shard}"))
        self._store.delete(sorted(names))
        gone = names & self._names
        if gone:
            self._names -= gone
            self._places = {text: place for text, place in self._places.items() if place[0] not in gone}
