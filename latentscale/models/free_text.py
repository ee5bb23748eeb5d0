"""Distil a static model from its teacher's embeddings of unlabelled passages, not only of single tokens."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from latentscale.errors import ConfigError
from latentscale.models.regression import RegressionSettings, regress, token_bags
from latentscale.models.target_space import TargetSpace
from latentscale.models.words import missing_words, with_words

if TYPE_CHECKING:
    from tokenizers import Tokenizer

Encode = Callable[[Sequence[str]], NDArray[np.float32]]
"""The teacher: a function from texts to unit vectors, shape (n_texts, teacher dim)."""

MIN_PASSAGES = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class FreeTextSettings:
    """Parameters of the distillation; the defaults are those of the shipped model.

    Attributes
    ----------
    dims : int
        Width of the table.
    words : int or None
        Maximum number of whole words to add to the vocabulary; by default as many as fit a table of 8 MB, and none if
        the teacher's tokenizer is not WordPiece.
    least : int
        Minimum number of passages that contain such a word.
    whitening : float
        Components of the teacher's vectors are divided by their standard deviation to this power.
    sif_coefficient : float
        ``a`` in the initial weight ``a / (a + p)`` of a token (Arora et al. 2017); ``p`` is measured on the passages.
    passage_tokens : int
        Maximum number of tokens of a passage.
    clip_quantile : float
        Quantile of the absolute values that maps to 127 in int8.
    max_tokens : int
        Written to ``config.json`` as the maximum length of texts.
    regression : RegressionSettings
    """

    dims: int = 256
    words: int | None = None
    least: int = 5
    whitening: float = 0.5
    sif_coefficient: float = 1e-4
    passage_tokens: int = 128
    clip_quantile: float = 0.9999
    max_tokens: int = 512
    regression: RegressionSettings = field(default_factory=RegressionSettings)


_TABLE_BYTES = 8_000_000


def check_teacher_width(dims: int, width: int | None) -> None:
    """Refuse a model of more dimensions than its teacher has; ``width`` is None where that is not known yet.

    Raises
    ------
    ConfigError
        With both numbers.
    """
    if width is not None and dims > width:
        raise ConfigError(
            f"{dims:,} dimensions were asked for, the teacher has {width:,}",
            where="dims",
            hint=f"Ask for at most as many: --dims {width}.",
        )


def fitted_table(
    tokenizer: Tokenizer,
    passages: Sequence[str],
    encode: Encode,
    *,
    settings: FreeTextSettings,
    device: str = "cpu",
    on_epoch: Callable[[int, float], None] | None = None,
) -> tuple[NDArray[np.float32], Tokenizer, dict[str, Any]]:
    """Fit a table of token vectors to the teacher's vectors of ``passages``.

    Each token vector is initialised with the teacher's embedding of that token alone, weighted by its frequency, and
    then fitted (:func:`latentscale.models.regression.regress`).

    Parameters
    ----------
    tokenizer : tokenizers.Tokenizer
        Tokenizer of the teacher, without special tokens.
    passages : sequence of str
        Texts of the model's intended domains and lengths; at most a few sentences each.
    encode : callable
    device : str
        Torch device.
    on_epoch : callable, optional
        Called after each epoch with its number and mean loss.

    Returns
    -------
    float32 ndarray, shape (vocabulary, dims)
    tokenizers.Tokenizer
        Including the added words.
    dict
        Facts for the provenance.

    Raises
    ------
    ConfigError
        If there are too few passages, or the teacher has fewer dimensions than requested.
    MissingPackageError
        If torch is not installed.
    """
    for problem, holds in {
        "dims must be at least 1": settings.dims < 1,
        "words must not be negative": settings.words is not None and settings.words < 0,
        "least must be at least 1": settings.least < 1,
        "whitening must be between 0 and 1": not 0.0 <= settings.whitening <= 1.0,
        "sif_coefficient must be between 0 and 1": not 0.0 < settings.sif_coefficient < 1.0,
    }.items():
        if holds:
            raise ConfigError(f"{problem}: {settings}")
    if len(passages) < MIN_PASSAGES:
        raise ConfigError(
            f"{len(passages):,} passages are too few to fit a static model to; at least {MIN_PASSAGES:,} are needed",
            hint="Give more free text of the fields that the model is for: tens of thousands of short passages.",
        )
    words = _words(tokenizer, passages, settings)
    extended = with_words(tokenizer, words)
    vectors = encode(passages)
    check_teacher_width(settings.dims, vectors.shape[1])
    space = TargetSpace.fit(vectors, dims=settings.dims, whitening=settings.whitening)
    bags = token_bags(extended, passages, limit=settings.passage_tokens)
    entries = _entries(extended)
    word_vectors = encode(entries)
    # Vectors of single words are close together and far from passages: centred on the mean of passages, they would all
    # have the same direction.
    initial = space(word_vectors, about=word_vectors.mean(axis=0))
    counts = bags.counts(len(entries))
    frequencies = (counts + 0.5) / (counts.sum() + 0.5 * len(counts))
    initial *= (settings.sif_coefficient / (settings.sif_coefficient + frequencies)).astype(np.float32)[:, None]
    initial /= np.linalg.norm(initial, axis=1).mean()
    table = regress(initial, bags, space(vectors), settings=settings.regression, device=device, on_epoch=on_epoch)
    facts = {
        "passages": len(passages),
        "passage_tokens": int(counts.sum()),
        "tokens_seen": int(np.count_nonzero(counts)),
        "words_added": len(words),
    }
    return table, extended, facts


def _words(tokenizer: Tokenizer, passages: Sequence[str], settings: FreeTextSettings) -> list[str]:
    count = settings.words
    if count is None:
        if type(tokenizer.model).__name__ != "WordPiece":
            return []
        count = max(0, _TABLE_BYTES // settings.dims - tokenizer.get_vocab_size())
    return missing_words(tokenizer, passages, count=count, least=settings.least) if count else []


def _entries(tokenizer: Tokenizer) -> list[str]:
    """Return the vocabulary in the order of its ids, without the prefix of pieces that continue a word."""
    prefix = getattr(tokenizer.model, "continuing_subword_prefix", None) or ""
    ordered = sorted(tokenizer.get_vocab().items(), key=lambda entry: entry[1])
    return [name.removeprefix(prefix) or name for name, _ in ordered]
