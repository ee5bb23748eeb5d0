"""Embed texts with a static token-embedding model: the mean of the vectors of a text's tokens."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from latentscale.embedders.protocol import Embedded
from latentscale.embedders.wordpieces import WordPieces
from latentscale.errors import ConfigError
from latentscale.models import static_model_path

# A chunk's tokens and sums are what embedding holds beyond the table and the result: a few MB for common texts.
_CHUNK = 512


class StaticEmbedder:
    """A model2vec model (Tulkens & van Dongen 2024) of any kind: int8, float, weighted, or with a quantised vocabulary.

    The result equals ``StaticModel.encode(texts, normalize=True)`` to 1e-6. It does not depend on the batch, and with
    an int8 table without token weights, as the shipped one, it is the same to the bit on every machine: the sums are
    integers, and the norm is taken in float64, where they are exact.

    Parameters
    ----------
    model : str or Path, optional
        A folder with ``model.safetensors``, ``tokenizer.json`` and ``config.json``; by default the shipped model.
    max_tokens : int
        Tokens of a text that count. 512, model2vec's own default and twice what the shipped model's teacher reads:
        about two thousand characters, after which the mean of a text hardly moves.

    Raises
    ------
    ConfigError
        If ``model`` is not such a folder or the model is damaged.
    """

    def __init__(self, model: str | Path | None = None, *, max_tokens: int = 512) -> None:
        if max_tokens < 1:
            raise ConfigError(f"max_tokens must be at least 1, not {max_tokens}", where="embed.max_tokens")
        folder = static_model_path() if model is None else Path(model)
        table, weights, mapping, tokenizer = _load(folder)
        self._table = table
        self._weights = weights
        self._mapping = mapping
        self._unknown = _unknown_token(tokenizer)
        self._max_tokens = max_tokens
        # model2vec cuts the characters first, by this estimate; so do we, to be equal to it.
        self._max_characters = max_tokens * int(np.median([len(token) for token in tokenizer.get_vocab()]))
        tokenizer.no_truncation()
        tokenizer.no_padding()
        self._pieces = WordPieces(tokenizer)
        self._revision = {name: _sha256(folder / name) for name in ("model.safetensors", "tokenizer.json")}
        self.name = folder.name

    @property
    def dim(self) -> int:
        """Width of the vectors."""
        return self._table.shape[1]

    def identity(self) -> Mapping[str, Any]:
        """Return everything that alters the vectors: the bytes of the model, never where it lies, and the settings."""
        return {
            "embedder": "static",
            "revision": self._revision["model.safetensors"],
            "tokenizer": self._revision["tokenizer.json"],
            "max_tokens": self._max_tokens,
            "pooling": "mean",
            "normalisation": "l2",
            "dim": self.dim,
        }

    def embed(self, texts: Sequence[str]) -> Embedded:
        """Embed ``texts``, in order; memory beyond the result does not grow with their number."""
        vectors = np.zeros((len(texts), self.dim), dtype=np.float32)
        embeddable = np.zeros(len(texts), dtype=np.bool_)
        tokens = unknown = truncated = 0
        for start in range(0, len(texts), _CHUNK):
            stop = min(start + _CHUNK, len(texts))
            ids, known, bounds, cut = self._tokens(texts[start:stop])
            truncated += cut
            tokens += len(ids)
            unknown += len(ids) - int(np.count_nonzero(known))
            embeddable[start:stop] = self._mean(ids, known, bounds, vectors[start:stop])
        return Embedded(vectors=vectors, embeddable=embeddable, tokens=tokens, unknown=unknown, truncated=truncated)

    def _tokens(self, texts: Sequence[str]) -> tuple[NDArray[np.int32], NDArray[np.bool_], NDArray[np.int32], int]:
        """Return all token ids in one row, which of them are known, the bounds of each text, and how many were cut."""
        limit, characters = self._max_tokens, self._max_characters
        rows = self._pieces.encode([text[:characters] for text in texts])
        lengths = np.fromiter(map(len, rows), np.int64, len(rows))
        too_long = lengths > limit
        cut = too_long | np.fromiter((len(text) > characters for text in texts), np.bool_, len(texts))
        for row in np.flatnonzero(too_long):
            del rows[row][limit:]
        bounds = np.zeros(len(rows) + 1, dtype=np.int32)
        np.cumsum(np.minimum(lengths, limit), out=bounds[1:])
        ids = np.fromiter(chain.from_iterable(rows), np.int32, int(bounds[-1]))
        known = np.ones(len(ids), dtype=np.bool_) if self._unknown is None else ids != self._unknown
        return ids, known, bounds, int(np.count_nonzero(cut))

    def _mean(
        self, ids: NDArray[np.int32], known: NDArray[np.bool_], bounds: NDArray[np.int32], out: NDArray[np.float32]
    ) -> NDArray[np.bool_]:
        """Write the unit vectors into ``out``; return which rows have one. The mean is the sum, once normalised."""
        from scipy.sparse import csr_matrix

        weights = known.astype(np.float32)
        if self._weights is not None:
            weights *= self._weights[ids]
        columns = ids if self._mapping is None else self._mapping[ids]
        # A sparse product adds the tokens of each row in their order, so a row never depends on its neighbours.
        sums = csr_matrix((weights, columns, bounds), shape=(len(out), len(self._table))) @ self._table
        norms = np.sqrt(np.einsum("ij,ij->i", sums, sums, dtype=np.float64))
        found = norms > 0
        np.divide(sums, norms[:, None], out=out, where=found[:, None], casting="same_kind")
        return found


def _load(
    folder: Path,
) -> tuple[NDArray[np.float32], NDArray[np.float32] | None, NDArray[np.int32] | None, Any]:
    """Return the float32 table, the weight and the table row of each token where there are any, and the tokenizer."""
    if not folder.is_dir():
        raise ConfigError(f"there is no model folder {folder}", where="embed.model")
    missing = [n for n in ("model.safetensors", "tokenizer.json", "config.json") if not (folder / n).is_file()]
    if missing:
        raise ConfigError(
            f"{folder} is not the folder of a model2vec model: {', '.join(missing)} missing",
            where="embed.model",
            hint="Save one with model2vec's save_pretrained, or make one with: latentscale models distill.",
        )
    # Not by StaticModel.from_pretrained: it imports the client of a model hub, a fifth of the cost of a small update.
    from safetensors import safe_open
    from tokenizers import Tokenizer

    try:
        with safe_open(folder / "model.safetensors", framework="numpy") as tensors:
            held = {name: np.asarray(tensors.get_tensor(name)) for name in tensors.keys()}  # noqa: SIM118 - no mapping
        tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        table = np.ascontiguousarray(
            held["embeddings"] if "embeddings" in held else held["embedding.weight"], np.float32
        )
    except Exception as error:  # safetensors and tokenizers raise types of their own
        raise ConfigError(f"the model in {folder} cannot be read: {error}", where="embed.model") from error
    weights = held["weights"].astype(np.float32) if "weights" in held else None
    mapping = held["mapping"].astype(np.int32) if "mapping" in held else None
    tokens = tokenizer.get_vocab_size()
    if mapping is None and tokens != len(table):
        raise ConfigError(
            f"the model in {folder} has {len(table):,} vectors for {tokens:,} tokens", where="embed.model"
        )
    if not np.isfinite(table).all() or not (weights is None or np.isfinite(weights).all()):
        raise ConfigError(f"the model in {folder} holds numbers that are not finite", where="embed.model")
    return table, weights, mapping, tokenizer


def _unknown_token(tokenizer: Any) -> int | None:
    """The id of the token that stands for what the tokenizer does not know."""
    if hasattr(tokenizer.model, "unk_token"):
        token = tokenizer.model.unk_token
        return None if token is None else tokenizer.token_to_id(token)
    # A Unigram model names the place in its vocabulary.
    return json.loads(tokenizer.to_str())["model"].get("unk_id")


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
