"""Resolve a model by folder or Hugging Face hub id, and compute the digest of the files that determine its vectors."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Literal

from latentscale.errors import ConfigError, EnvironmentFailure, MissingPackageError
from latentscale.models.hub_cache import MODEL_ID, CachedModel, any_commit, cached_model, is_commit, missing_files
from latentscale.models.hub_fetch import fetch

DEFAULT_PATTERNS: tuple[str, ...] = ("*.safetensors", "*.json", "*.txt", "*.model", "*.jinja", "README.md")
"""Files of a model in safetensors; a chat template may be in a separate file."""
DESCRIPTION = ("config.json", "modules.json", "*/config.json", "config_sentence_transformers.json", "README.md")
ONNX_PATTERNS: tuple[str, ...] = ("*.onnx", "*.onnx_data", "*.json", "*.txt", "*.model", "README.md")
"""Files of a model in ONNX; a repository often has several graphs, of which callers name one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFolder:
    """A model on this machine.

    Attributes
    ----------
    path : Path
        Folder with its files.
    name : str
        Hub id, or name of the folder.
    revision : str or None
        Commit of a hub model.
    source : {"folder", "hub", "shipped"}
    """

    path: Path
    name: str
    revision: str | None
    source: Literal["folder", "hub", "shipped"]


def is_model_id(model: str) -> bool:
    """Whether a string has the form of a hub id, ``organisation/name``, and is not a folder on this machine."""
    return MODEL_ID.fullmatch(model) is not None and ".." not in model and not Path(model).is_dir()


def resolve_model(
    model: str,
    *,
    revision: str | None = None,
    patterns: Sequence[str] = DEFAULT_PATTERNS,
    where: str = "embed.model",
) -> ModelFolder:
    """Resolve a folder or hub id; a model that is not cached is downloaded.

    Without a revision, the commit that the cache calls ``main`` is used, so that later runs use the same model;
    ``latentscale models pull`` downloads a newer one. A partially cached commit is completed.

    Parameters
    ----------
    model : str
        A folder, or a hub id ``organisation/name``.
    revision : str, optional
        A commit, branch or tag of a hub id.
    patterns : sequence of str
        Glob patterns of the required files; ``*`` also matches ``/``.
    where : str
        The setting, for messages.

    Raises
    ------
    ConfigError
        If ``model`` is neither, there is no such model or revision, it is gated, or has no weights in a supported
        format.
    MissingPackageError
        If it must be downloaded and ``huggingface_hub`` is not installed.
    EnvironmentFailure
        If it must be downloaded and there is no network.
    """
    folder = Path(model).expanduser()
    if folder.is_dir():
        if revision is not None:
            raise ConfigError(
                f"{model} is a folder, and a folder has no revision {revision!r}",
                where=where,
                hint="Leave the revision out, or name the model by its id on the hub.",
            )
        return ModelFolder(path=folder.absolute(), name=folder.absolute().name, revision=None, source="folder")
    if not is_model_id(model):
        raise ConfigError(
            f"there is no folder {model!r}, and it is not the id of a model either (organisation/name)",
            where=where,
            hint="latentscale models list shows the models of this machine.",
        )
    cached = cached_model(model, revision)
    missing = missing_files(cached, patterns) if cached else []
    if cached is not None and not missing:
        return _of_hub(cached)
    try:
        return fetch_model(model, revision=cached.revision if cached else revision, patterns=patterns, where=where)
    except (EnvironmentFailure, MissingPackageError):
        # Weights are required; its reader reports if any other missing file is.
        if cached is None or any(file.startswith("weights") or file.endswith(".safetensors") for file in missing):
            raise
        return _of_hub(cached)


def fetch_model(
    model: str,
    *,
    revision: str | None = None,
    patterns: Sequence[str] = DEFAULT_PATTERNS,
    where: str = "embed.model",
) -> ModelFolder:
    """Download a model from the hub into the cache, by default its newest commit.

    Raises
    ------
    ConfigError, MissingPackageError, EnvironmentFailure
        As :func:`resolve_model`.
    """
    if MODEL_ID.fullmatch(model) is None or ".." in model:
        raise ConfigError(
            f"{model!r} is not the id of a model on the hub",
            where=where,
            hint="Ids have the form organisation/name, as in minishlab/potion-multilingual-128M.",
        )
    path = fetch(model, revision=revision, patterns=patterns, where=where)
    downloaded = CachedModel(name=model, revision=path.name, path=path)
    missing_weights = [file for file in missing_files(downloaded, patterns) if file.startswith("weights")]
    if missing_weights or not is_commit(path.name):
        raise ConfigError(
            f"{model} has no {missing_weights[0] if missing_weights else 'commit'}",
            where=where,
            hint="Only safetensors and ONNX are read: choose a revision or another model that has them.",
        )
    return _of_hub(downloaded)


def model_description(model: str, *, where: str = "embed.model") -> Path:
    """Return a folder with the configuration of a hub model, perhaps without weights, to determine its kind.

    Raises
    ------
    ConfigError, MissingPackageError, EnvironmentFailure
        As :func:`resolve_model`.
    """
    cached = any_commit(model)
    if cached is not None and (cached.path / "config.json").is_file():
        return cached.path
    return fetch(model, revision=None, patterns=DESCRIPTION, where=where)


def content_digest(path: Path, names: Iterable[str]) -> str:
    """Return the SHA-256 of names and contents of a model's files; independent of its path.

    Parameters
    ----------
    path : Path
        Folder of the model.
    names : iterable of str
        Files in it, in any order.

    Returns
    -------
    str
        64 hexadecimal characters.

    Raises
    ------
    ConfigError
        If a file is unreadable; the message names it.
    """
    digest = hashlib.sha256()
    for name in sorted(set(names)):
        digest.update(f"{name}\0{file_digest(path / name)}\n".encode())
    return digest.hexdigest()


def file_digest(path: Path) -> str:
    """Return the SHA-256 of a file, cached per process by path, size and modification time.

    Raises
    ------
    ConfigError
        If it is unreadable.
    """
    try:
        status = path.stat()
        return _digest(str(path), status.st_size, status.st_mtime_ns)
    except OSError as error:
        raise ConfigError(
            f"{path} cannot be read: {error.strerror or error}", where="embed.model", hint="Download the model again."
        ) from error


@lru_cache(maxsize=256)
def _digest(path: str, size: int, modified: int) -> str:
    with Path(path).open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _of_hub(cached: CachedModel) -> ModelFolder:
    return ModelFolder(path=cached.path, name=cached.name, revision=cached.revision, source="hub")
