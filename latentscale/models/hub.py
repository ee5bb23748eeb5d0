"""Resolve a model by folder or Hugging Face hub id, and compute the digest of the files that determine its vectors."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Literal

from latentscale.errors import ConfigError, EnvironmentFailure, MissingPackageError
from latentscale.models.hub_cache import MODEL_ID, CachedModel, absent_files, any_commit, cached_model, is_commit
from latentscale.models.hub_fetch import fetch

DEFAULT_PATTERNS: tuple[str, ...] = ("*.safetensors", "*.json", "*.txt", "*.model", "*.jinja", "README.md")
"""What a model in safetensors consists of; a chat model may have its template in a file of its own."""
DESCRIPTION = ("config.json", "modules.json", "*/config.json", "config_sentence_transformers.json", "README.md")
ONNX_PATTERNS: tuple[str, ...] = ("*.onnx", "*.onnx_data", "*.json", "*.txt", "*.model", "README.md")
"""What one in ONNX consists of; a repository often has several, of which a caller names the one that it wants."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFolder:
    """A model on this machine.

    Attributes
    ----------
    path : Path
        Folder with its files.
    name : str
        Its id on the hub, or the name of the folder.
    revision : str or None
        The commit, for one of the hub.
    source : {"folder", "hub", "shipped"}
    """

    path: Path
    name: str
    revision: str | None
    source: Literal["folder", "hub", "shipped"]


def is_model_id(model: str) -> bool:
    """Whether a string has the form of a hub id, ``organisation/name``, and is no folder of this machine."""
    return MODEL_ID.fullmatch(model) is not None and ".." not in model and not Path(model).is_dir()


def resolve_model(
    model: str,
    *,
    revision: str | None = None,
    patterns: Sequence[str] = DEFAULT_PATTERNS,
    where: str = "embed.model",
) -> ModelFolder:
    """The folder of a model; a hub id that is not in the cache is downloaded.

    Without a revision, the commit that the cache calls ``main`` is used, so that later runs use the same model;
    ``latentscale models pull`` downloads a newer one. A partially cached commit is completed.

    Parameters
    ----------
    model : str
        A folder, or a hub id ``organisation/name``.
    revision : str, optional
        A commit, branch or tag of a hub id.
    patterns : sequence of str
        Files that are needed; ``*`` crosses folders.
    where : str
        The setting, for messages.

    Raises
    ------
    ConfigError
        If ``model`` is neither, or there is no such model or revision, or it is gated, or has no weights in a form
        that is read here.
    MissingPackageError
        If it must be fetched and ``huggingface_hub`` is not installed.
    EnvironmentFailure
        If it must be fetched and there is no network.
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
            f"there is no folder {model!r}, and it is no id of a model either (organisation/name)",
            where=where,
            hint="latentscale models list shows the models of this machine.",
        )
    cached = cached_model(model, revision)
    absent = absent_files(cached, patterns) if cached else []
    if cached is not None and not absent:
        return _of_hub(cached)
    try:
        return fetch_model(model, revision=cached.revision if cached else revision, patterns=patterns, where=where)
    except (EnvironmentFailure, MissingPackageError):
        # Weights are needed; whether it can do without the rest, its reader knows and says.
        if cached is None or any(one.startswith("weights") or one.endswith(".safetensors") for one in absent):
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
            f"{model!r} is no id of a model on the hub",
            where=where,
            hint="Ids have the form organisation/name, as in minishlab/potion-multilingual-128M.",
        )
    path = fetch(model, revision=revision, patterns=patterns, where=where)
    found = CachedModel(name=model, revision=path.name, path=path)
    weights = [one for one in absent_files(found, patterns) if one.startswith("weights")]
    if weights or not is_commit(path.name):
        raise ConfigError(
            f"{model} has no {weights[0] if weights else 'commit'}",
            where=where,
            hint="Only safetensors and ONNX are read: choose a revision or another model that has them.",
        )
    return _of_hub(found)


def model_description(model: str, *, where: str = "embed.model") -> Path:
    """A folder with what describes a model of the hub, its settings but perhaps no weights: enough to know its kind.

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
    """SHA-256 over the names and contents of the files that determine a model's vectors; independent of its path.

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
        Naming a file that cannot be read.
    """
    digest = hashlib.sha256()
    for name in sorted(set(names)):
        digest.update(f"{name}\0{file_digest(path / name)}\n".encode())
    return digest.hexdigest()


def file_digest(path: Path) -> str:
    """SHA-256 of the bytes of a file, computed once a process while its size and time stay.

    Raises
    ------
    ConfigError
        If it cannot be read.
    """
    try:
        status = path.stat()
        return _digest(str(path), status.st_size, status.st_mtime_ns)
    except OSError as error:
        raise ConfigError(
            f"{path} cannot be read: {error.strerror or error}", where="embed.model", hint="Fetch the model anew."
        ) from error


@lru_cache(maxsize=256)
def _digest(path: str, size: int, modified: int) -> str:
    with Path(path).open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _of_hub(cached: CachedModel) -> ModelFolder:
    return ModelFolder(path=cached.path, name=cached.name, revision=cached.revision, source="hub")
