"""Requests and answers of the two protocols, as bytes of JSON."""

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
class Asked:
    """What all requests of an embedder have in common."""

    provider: Provider
    model: str
    dimensions: int | None
    document_type: str | None
    query_type: str | None

    @property
    def path(self) -> str:
        """Appended to the base address."""
        return "/embed" if self.provider.wire == "cohere" else "/embeddings"

    def body(self, texts: Sequence[str], role: Role, *, as_base64: bool) -> bytes:
        """The request for the vectors of ``texts``."""
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
        """Read the answer to a request for ``texts`` vectors.

        Returns
        -------
        vectors : float32 ndarray, shape (texts, dim)
            In the order of the texts, as the service gave them.
        tokens : int or None
            What it bills, where it says so.

        Raises
        ------
        BadAnswerError
            If it is not such an answer.
        """
        try:
            answer: Any = orjson.loads(data)
        except orjson.JSONDecodeError as error:
            raise BadAnswerError(f"its answer is not JSON ({error})" if data else "its answer is empty") from None
        if not isinstance(answer, dict):
            raise BadAnswerError("its answer is no JSON object")
        values = cast("dict[str, Any]", answer)
        found = _cohere_vectors(values) if self.provider.wire == "cohere" else _indexed_vectors(values)
        if len(found) != texts:
            raise BadAnswerError(f"{len(found):,} vectors for {texts:,} texts")
        return _matrix(found), _billed(values)


def _indexed_vectors(answer: dict[str, Any]) -> list[Any]:
    data = answer.get("data")
    if not isinstance(data, list):
        raise BadAnswerError("its answer has no list 'data'")
    items = cast("list[Any]", data)
    placed: list[Any] = [None] * len(items)
    for item in items:
        if not isinstance(item, dict) or "embedding" not in item:
            raise BadAnswerError("an item of 'data' has no 'embedding'")
        index = cast("dict[str, Any]", item).get("index")
        if not isinstance(index, int) or isinstance(index, bool) or not 0 <= index < len(items):
            raise BadAnswerError(f"an item of 'data' has the index {index!r:.40}, for {len(items):,} vectors")
        if placed[index] is not None:
            raise BadAnswerError(f"two items of 'data' have the index {index}")
        placed[index] = item["embedding"]
    if any(one is None for one in placed):
        raise BadAnswerError("an item of 'data' has a null 'embedding'")
    return placed


def _cohere_vectors(answer: dict[str, Any]) -> list[Any]:
    embeddings = answer.get("embeddings")
    found = cast("dict[str, Any]", embeddings).get("float") if isinstance(embeddings, dict) else None
    if not isinstance(found, list):
        raise BadAnswerError("its answer has no list 'embeddings.float'")
    return cast("list[Any]", found)


def _matrix(found: list[Any]) -> NDArray[np.float32]:
    rows: list[NDArray[np.float32]] = []
    for one in found:
        try:
            if isinstance(one, str):
                rows.append(np.frombuffer(base64.b64decode(one, validate=True), dtype="<f4").astype(np.float32))
            else:
                with np.errstate(over="ignore"):
                    rows.append(np.asarray(one, dtype=np.float64).astype(np.float32))
        except (ValueError, TypeError, binascii.Error):
            raise BadAnswerError("a vector is no list of numbers") from None
    if any(row.ndim != 1 or not len(row) for row in rows):
        raise BadAnswerError("a vector is empty or no list of numbers")
    widths = {len(row) for row in rows}
    if len(widths) > 1:
        raise BadAnswerError(f"vectors of different widths in one answer: {', '.join(map(str, sorted(widths)))}")
    matrix = np.stack(rows)
    if not np.isfinite(matrix).all():
        raise BadAnswerError("a vector holds NaN or infinity")
    return matrix


def _billed(answer: dict[str, Any]) -> int | None:
    """Tokens that an answer says it cost: OpenAI's ``usage``, Cohere's ``billed_units``."""
    usage, meta = answer.get("usage"), answer.get("meta")
    numbers: list[Any] = []
    if isinstance(usage, dict):
        known = cast("dict[str, Any]", usage)
        numbers = [known.get("total_tokens"), known.get("prompt_tokens")]
    elif isinstance(meta, dict):
        units = cast("dict[str, Any]", meta).get("billed_units")
        numbers = [cast("dict[str, Any]", units).get("input_tokens")] if isinstance(units, dict) else []
    return next((int(n) for n in numbers if is_count(n)), None)
