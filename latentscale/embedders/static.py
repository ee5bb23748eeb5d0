"""Embed texts with a static embedding model: the mean of the vectors of a text's tokens."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import BeforeValidator, Field

from latentscale.config import EmbedConfig, Settings
from latentscale.embedders.language import language_notice
from latentscale.embedders.model_folder import load_model, model_files, read_shapes
from latentscale.embedders.protocol import Embedded
from latentscale.embedders.spec import EmbedderSpec, options_of
from latentscale.embedders.token_table import TokenTable, token_table
from latentscale.embedders.tokens import unknown_token
from latentscale.embedders.wordpieces import WordPieces
from latentscale.errors import ConfigError
from latentscale.file_names import at_home
from latentscale.models import FIRST_REVISION, STATIC_REVISION, static_model_path
from latentscale.models.hub import file_digest, is_model_id, model_description, resolve_model
from latentscale.models.hub_cache import is_static, may_be_static

# Texts per chunk; beyond the table and the result, memory is the tokens and sums of a chunk: usually a few MB.
_CHUNK = 2_048


class StaticSpec(EmbedderSpec):
    """A static embedding model: the shipped one, or a model2vec model by folder or hub id."""

    kind: Literal["static"] = "static"
    folder: str | None = None
    """Model folder on the machine that made the spec; None for the shipped model and for a hub model."""
    model: str | None = None
    """Hub id, which each machine resolves in its own cache."""
    revision: str | None = None
    """Commit of ``model``, or revision of the shipped model; None means its first revision, in maps made before the
    second."""
    max_tokens: Annotated[int, Field(ge=1)] = 512
    """Maximum number of tokens of a text."""

    @classmethod
    def recognizes(cls, model: str) -> bool:
        """Accept a static model, by folder or id; and a folder without any encoder, to report what is missing."""
        if is_model_id(model):
            return is_static(model_description(model))
        folder = at_home(model)
        return folder.is_dir() and may_be_static(folder)

    @classmethod
    def from_settings(cls, config: EmbedConfig, *, vectors_column: str | None) -> Self:
        """Resolve ``embed.model``: the shipped model for ``static``, else a folder or hub id."""
        options = options_of(config, StaticOptions)
        if config.model == "static":
            revision = STATIC_REVISION if options.revision is None else options.revision
            read_shapes(model_files(static_model_path(revision)))
            return cls(revision=revision, max_tokens=config.max_tokens)
        resolved = resolve_model(config.model, revision=options.revision)
        read_shapes(model_files(resolved.path))
        if resolved.source == "hub":
            return cls(model=resolved.name, revision=resolved.revision, max_tokens=config.max_tokens)
        return cls(folder=str(resolved.path), max_tokens=config.max_tokens)

    @property
    def path(self) -> Path:
        """Folder of the model on this machine; a hub model is downloaded if it is not cached."""
        if self.model is not None:
            return resolve_model(self.model, revision=self.revision).path
        return static_model_path(self.revision or FIRST_REVISION) if self.folder is None else Path(self.folder)

    @property
    def shipped(self) -> bool:
        """Whether it is the model shipped with the package."""
        return self.folder is None and self.model is None

    @property
    def name(self) -> str:
        """Hub id, or name of the folder."""
        return self.model or self.path.name

    @property
    def dimensions(self) -> int:
        """Width of the vectors, from the header of the weights."""
        return read_shapes(model_files(self.path)).dim

    @property
    def token_limit(self) -> int:
        """Maximum number of tokens of a text."""
        return self.max_tokens

    def identity(self) -> Mapping[str, Any]:
        """Return all that alters the vectors: the bytes of the model and the settings; never a path."""
        files = model_files(self.path)
        return {
            "embedder": "static",
            "revision": file_digest(files.weights),
            "tokenizer": file_digest(files.tokenizer),
            "max_tokens": self.max_tokens,
            "pooling": "mean",
            "normalisation": "l2",
            "dim": self.dimensions,
        }

    def notice(self, languages: Mapping[str, int]) -> str | None:
        """Return a notice if documents for the shipped model, which is English only, are in other languages."""
        return language_notice(languages) if self.shipped else None

    def settled_options(self) -> Mapping[str, Any]:
        """Return the revision of the shipped model, for updates after a later version ships another one."""
        return {"revision": self.revision} if self.shipped and self.revision else {}

    def as_held(self, held: EmbedderSpec) -> Self:
        """Return this spec, with the revision of ``held`` if both are the shipped model."""
        if not (self.shipped and isinstance(held, StaticSpec) and held.shipped):
            return self
        return self.model_copy(update={"revision": held.revision})

    def open(self, device: str = "cpu") -> StaticEmbedder:
        """Load the model; it runs on the CPU whatever the device."""
        return StaticEmbedder(self.path, max_tokens=self.max_tokens)


class StaticOptions(Settings):
    """``embed.options`` of a static model."""

    revision: Annotated[str | None, BeforeValidator(lambda value: str(value) if type(value) is int else value)] = None
    """Commit, branch or tag of a hub id; by default the cached main. `1` or `2` for the shipped model; by default the
    newest, and in an update that of the map."""


class StaticEmbedder:
    """A model2vec model (Tulkens & van Dongen 2024): int8 or float, with or without token weights and mapping.

    Results equal ``StaticModel.encode(texts, normalize=True)`` to 1e-6 and do not depend on the batch. With an int8
    table without token weights, as in the shipped model, they are bitwise equal on every machine: the sums are
    integers, and norms are computed in float64, where they are exact.

    Parameters
    ----------
    model : str or Path, optional
        Folder with ``model.safetensors``, ``tokenizer.json`` and ``config.json``; by default the shipped model.
    max_tokens : int
        Maximum number of tokens of a text. 512 is model2vec's default and twice the limit of the shipped model's
        teacher: about two thousand characters, beyond which a text's mean hardly changes.

    Raises
    ------
    ConfigError
        If ``model`` is not such a folder, or the model is damaged.
    """

    def __init__(self, model: str | Path | None = None, *, max_tokens: int = 512) -> None:
        if max_tokens < 1:
            raise ConfigError(
                f"max_tokens must be at least 1, not {max_tokens}",
                where="embed.max_tokens",
                hint="Leave it out for 512.",
            )
        folder = static_model_path() if model is None else Path(model)
        loaded = load_model(model_files(folder))
        tokenizer = loaded.tokenizer
        self._model = loaded
        self._table = loaded.table
        self._weights = loaded.weights
        self._mapping = loaded.mapping
        self._unknown = unknown_token(tokenizer)
        self._max_tokens = max_tokens
        # model2vec first truncates characters by this estimate; equal results require the same.
        self._max_characters = max_tokens * int(np.median([len(token) for token in loaded.vocabulary]))
        tokenizer.no_truncation()
        tokenizer.no_padding()
        self._pieces = WordPieces(tokenizer)

    @property
    def dim(self) -> int:
        """Width of the vectors."""
        return self._table.shape[1]

    def token_table(self) -> TokenTable | None:
        """Return the token table for embedding elsewhere; None if the tokenizer is not a BERT tokenizer."""
        return token_table(self._model, max_tokens=self._max_tokens, max_characters=self._max_characters)

    def embed(self, texts: Sequence[str]) -> Embedded:
        """Embed ``texts``, in order; memory beyond the result does not depend on their number."""
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
        """Return concatenated token ids, which of them are known, offsets of the texts, and the number truncated."""
        limit, characters = self._max_tokens, self._max_characters
        ids, lengths = self._pieces.encode([text[:characters] for text in texts])
        too_long = lengths > limit
        cut = too_long | np.fromiter((len(text) > characters for text in texts), np.bool_, len(texts))
        if too_long.any():
            first = np.cumsum(lengths) - lengths
            ids = ids[np.arange(len(ids)) - np.repeat(first, lengths) < limit]
        bounds = np.zeros(len(texts) + 1, dtype=np.int32)
        np.cumsum(np.minimum(lengths, limit), out=bounds[1:])
        known = np.ones(len(ids), dtype=np.bool_) if self._unknown is None else ids != self._unknown
        return ids, known, bounds, int(np.count_nonzero(cut))

    def _mean(
        self, ids: NDArray[np.int32], known: NDArray[np.bool_], bounds: NDArray[np.int32], out: NDArray[np.float32]
    ) -> NDArray[np.bool_]:
        """Write unit vectors into ``out``; return which rows have one. Normalised, the sum equals the mean."""
        from scipy.sparse import csr_matrix

        weights = known.astype(np.float32)
        if self._weights is not None:
            weights *= self._weights[ids]
        rows = ids if self._mapping is None else self._mapping[ids]
        # A sparse product sums the tokens of each row in order, so a row does not depend on the others.
        sums = csr_matrix((weights, rows, bounds), shape=(len(out), len(self._table))) @ self._table
        norms = np.sqrt(np.einsum("ij,ij->i", sums, sums, dtype=np.float64))
        nonzero = norms > 0
        np.divide(sums, norms[:, None], out=out, where=nonzero[:, None], casting="same_kind")
        return nonzero
