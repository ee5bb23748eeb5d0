"""Serialise requests and parse responses of the two protocols."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, cast

import numpy as np
import orjson
from numpy.typing import NDArray

from latentscale.embedders.endpoint.providers import Provider
from latentscale.services.failures import BadAnswerError
from latentscale.services.tokens import is_count

Role = Literal["document", "query"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestParameters:
    """Parameters common to all requests of an embedder."""

    provider: Provider
    model: str
    dimensions: int | None
    document_type: str | None
    query_type: str | None

    @property
    def path(self) -> str:
        """Path appended to the base URL."""
        return "/embed" if self.provider.wire == "cohere" else "/embeddings"

    def body(self, texts: Sequence[str], role: Role, *, as_base64: bool) -> bytes:
        """Return the body of a request for the vectors of ``texts``."""
        kind = self.document_type if role == "document" else self.query_type
        values: dict[str, Any] = {
            "model": self.model,
            ("texts" if self.provider.wire == "cohere" else "input"): list(texts),
            **self.provider.more,
        }
        if kind is not None:
            values["input_type"] = kind
        if self.dimensions is not None:
            values[self.provider.dimensions] = self.dimensions
        if as_base64:
            values["encoding_format"] = "base64"
        return orjson.dumps(values)

    def read(self, data: bytes, texts: int) -> tuple[NDArray[np.float32], int | None]:
        """Parse the response to a request for ``texts`` vectors.

        Returns
        -------
        vectors : float32 ndarray, shape (texts, dim)
            In the order of the texts, as returned by the service.
        tokens : int or None
            Billed tokens, if reported.

        Raises
        ------
        BadAnswerError
            If the response is invalid.
        """
        try:
            answer: Any = orjson.loads(data)
        except orjson.JSONDecodeError as error:
            raise BadAnswerError(f"its answer is not JSON ({error})" if data else "its answer is empty") from None
        if not isinstance(answer, dict):
            raise BadAnswerError("its answer is not a JSON object")
        values = cast("dict[str, Any]", answer)
        vectors = _cohere_vectors(values) if self.provider.wire == "cohere" else _indexed_vectors(values)
        if len(vectors) != texts:
            raise BadAnswerError(f"{len(vectors):,} vectors for {texts:,} texts")
        return _matrix(vectors), _billed(values)


def _indexed_vectors(answer: dict[str, Any]) -> list[Any]:
    data = answer.get("data")
    if not isinstance(data, list):
        raise BadAnswerError("its answer has no list 'data'")
    items = cast("list[Any]", data)
    vectors: list[Any] = [None] * len(items)
    for item in items:
        if not isinstance(item, dict) or "embedding" not in item:
            raise BadAnswerError("an item of 'data' has no 'embedding'")
        index = cast("dict[str, Any]", item).get("index")
        if not isinstance(index, int) or isinstance(index, bool) or not 0 <= index < len(items):
            raise BadAnswerError(f"an item of 'data' has the index {index!r:.40}, for {len(items):,} vectors")
        if vectors[index] is not None:
            raise BadAnswerError(f"two items of 'data' have the index {index}")
        vectors[index] = item["embedding"]
    if any(vector is None for vector in vectors):
        raise BadAnswerError("an item of 'data' has a null 'embedding'")
    return vectors


def _cohere_vectors(answer: dict[str, Any]) -> list[Any]:
    embeddings = answer.get("embeddings")
    vectors = cast("dict[str, Any]", embeddings).get("float") if isinstance(embeddings, dict) else None
    if not isinstance(vectors, list):
        raise BadAnswerError("its answer has no list 'embeddings.float'")
    return cast("list[Any]", vectors)


def _matrix(vectors: list[Any]) -> NDArray[np.float32]:
    rows: list[NDArray[np.float32]] = []
    for vector in vectors:
        try:
            if isinstance(vector, str):
                rows.append(np.frombuffer(base64.b64decode(vector, validate=True), dtype="<f4").astype(np.float32))
            else:
                with np.errstate(over="ignore"):
                    rows.append(np.asarray(vector, dtype=np.float64).astype(np.float32))
        except (ValueError, TypeError, binascii.Error):
            raise BadAnswerError("a vector is not a list of numbers") from None
    if any(row.ndim != 1 or not len(row) for row in rows):
        raise BadAnswerError("a vector is empty or not a list of numbers")
    widths = {len(row) for row in rows}
    if len(widths) > 1:
        raise BadAnswerError(f"vectors of different widths in one answer: {', '.join(map(str, sorted(widths)))}")
    matrix = np.stack(rows)
    if not np.isfinite(matrix).all():
        raise BadAnswerError("a vector contains NaN or infinity")
    return matrix


def _billed(answer: dict[str, Any]) -> int | None:
    """Return the billed tokens in a response, if any: OpenAI's ``usage``, Cohere's ``billed_units``."""
    usage, meta = answer.get("usage"), answer.get("meta")
    counts: list[Any] = []
    if isinstance(usage, dict):
        fields = cast("dict[str, Any]", usage)
        counts = [fields.get("total_tokens"), fields.get("prompt_tokens")]
    elif isinstance(meta, dict):
        units = cast("dict[str, Any]", meta).get("billed_units")
        counts = [cast("dict[str, Any]", units).get("input_tokens")] if isinstance(units, dict) else []
    return next((int(n) for n in counts if is_count(n)), None)
