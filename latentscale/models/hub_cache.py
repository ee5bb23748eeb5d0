"""Read the local cache of the Hugging Face hub, without its client."""

from __future__ import annotations

import fnmatch
import json
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

MODEL_ID = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}")
_COMMIT = re.compile(r"[0-9a-f]{40}")
_WEIGHTS = (".safetensors", ".onnx")
_FOLDERS_WITH_FILES = ("Pooling", "Dense", "LayerNorm", "WeightedLayerPooling", "StaticEmbedding")
MAX_JSON_BYTES = 16 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class CachedModel:
    """One commit of a model in the cache.

    Attributes
    ----------
    name : str
        Hub id.
    revision : str
        Commit.
    path : Path
        Folder with its files.
    """

    name: str
    revision: str
    path: Path


def cache_folder() -> Path:
    """Return the hub client's cache: ``HF_HUB_CACHE``, else below ``HF_HOME``, else below the user's cache."""
    configured = os.environ.get("HF_HUB_CACHE") or os.environ.get("HUGGINGFACE_HUB_CACHE")
    if configured:
        return Path(configured).expanduser()
    home = os.environ.get("HF_HOME")
    if home:
        return Path(home).expanduser() / "hub"
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "huggingface" / "hub"


def is_commit(revision: str) -> bool:
    """Whether a revision is a full commit hash."""
    return _COMMIT.fullmatch(revision) is not None


def cached_model(name: str, revision: str | None = None) -> CachedModel | None:
    """Return the cached files of a revision, complete or not; None if there are none. By default of ``main``.

    Parameters
    ----------
    revision : str, optional
        A commit, branch or tag.
    """
    folder = _repository(name)
    commit = revision if revision and is_commit(revision) else _read_reference(folder, revision or "main")
    if commit is None:
        return None
    path = folder / "snapshots" / commit
    return CachedModel(name=name, revision=commit, path=path) if path.is_dir() else None


def any_commit(name: str) -> CachedModel | None:
    """Return the cached commit of ``main``, else any cached commit; None if there is none."""
    main = cached_model(name)
    if main is not None:
        return main
    commits = sorted(path for path in _repository(name).glob("snapshots/*") if is_commit(path.name))
    return CachedModel(name=name, revision=commits[0].name, path=commits[0]) if commits else None


def cached_revisions(name: str) -> list[str]:
    """List the cached branches and tags of a model, then its commits."""
    folder = _repository(name)
    references = folder / "refs"
    names = sorted(str(path.relative_to(references)) for path in references.rglob("*") if path.is_file())
    commits = sorted(path.name for path in folder.glob("snapshots/*") if is_commit(path.name))
    return [*names, *commits]


def cached_models() -> Iterator[CachedModel]:
    """Yield the cached commit of ``main`` of each model, or all its commits if there is none; sorted by name."""
    for folder in sorted(cache_folder().glob("models--*--*")):
        _, organisation, name = folder.name.split("--", 2)
        identity = f"{organisation}/{name}"
        current = cached_model(identity)
        if current is not None:
            yield current
            continue
        for commit in sorted(path.name for path in folder.glob("snapshots/*") if is_commit(path.name)):
            yield CachedModel(name=identity, revision=commit, path=folder / "snapshots" / commit)


def missing_files(model: CachedModel, patterns: Sequence[str]) -> list[str]:
    """List required files missing from a cached model, as far as its other files show; empty if it is complete.

    Libraries that download single files leave partial commits, and a sentence encoder without its pooling configuration
    would compute different vectors.
    """
    present = {str(path.relative_to(model.path)) for path in model.path.rglob("*") if path.is_file()}
    weights = [name for name in present if name.endswith(_WEIGHTS) and matches(name, patterns)]
    missing = [] if weights else ["weights (" + ", ".join(p for p in patterns if p.endswith(_WEIGHTS)) + ")"]
    for name in sorted(present):
        if name.endswith(".safetensors.index.json") and matches(name, patterns):
            weight_map = _read_json(model.path / name, dict).get("weight_map")
            parts = {str(part) for part in weight_map.values()} if isinstance(weight_map, dict) else set[str]()
            folder = name.rpartition("/")[0]
            missing += sorted(part for part in (f"{folder}/{p}" if folder else p for p in parts) if part not in present)
    if matches("config.json", patterns) and "config.json" not in present and "modules.json" not in present:
        missing.append("config.json")
    # While another process is downloading a static model, its weights may arrive first.
    has_tokenizer = any(name.rpartition("/")[2] == "tokenizer.json" for name in present)
    if not has_tokenizer and matches("tokenizer.json", patterns) and is_static(model.path):
        missing.append("tokenizer.json")
    if not matches("modules.json", patterns):
        return missing
    if "modules.json" in present:
        modules = _read_json(model.path / "modules.json", list)
        for module in (entry for entry in modules if isinstance(entry, dict)):
            kind, folder = str(module.get("type", "")).rsplit(".", 1)[-1], str(module.get("path", ""))
            if kind in _FOLDERS_WITH_FILES and not any(name.startswith(f"{folder}/") for name in present if folder):
                missing += [folder] if folder else []
    elif not _known_to_lack(model, "modules.json") and not is_static(model.path):
        missing.append("modules.json")
    return missing


def is_static(folder: Path) -> bool:
    """Whether a folder contains a model2vec model, in its own layout or that of sentence-transformers."""
    config = _read_json(folder / "config.json", dict)
    if config.get("model_type") == "model2vec" or "StaticModel" in (config.get("architectures") or ()):
        return True
    modules = _read_json(folder / "modules.json", list)
    first = str(modules[0].get("type", "")) if modules and isinstance(modules[0], dict) else ""
    return first.rsplit(".", 1)[-1] == "StaticEmbedding"


def may_be_static(folder: Path) -> bool:
    """Whether a folder may contain a static model, perhaps incomplete, and not another encoder."""
    if is_static(folder):
        return True
    return not _read_json(folder / "config.json", dict).get("model_type") and not (folder / "modules.json").exists()


def matches(name: str, patterns: Sequence[str]) -> bool:
    """Whether a file matches any pattern; ``*`` also matches ``/``, as on the hub."""
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)


def _repository(name: str) -> Path:
    return cache_folder() / ("models--" + name.replace("/", "--"))


def _read_reference(folder: Path, revision: str) -> str | None:
    references = folder / "refs"
    path = references / revision
    if not path.resolve().is_relative_to(references.resolve()):
        return None
    try:
        commit = path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError):
        return None
    return commit if is_commit(commit) else None


def _known_to_lack(model: CachedModel, name: str) -> bool:
    """Whether the client's records or its listing of this commit show that it has no such file."""
    folder = _repository(model.name)
    if (folder / ".no_exist" / model.revision / name).exists():
        return True
    listing = folder / "trees" / f"{model.revision}.json"
    try:
        return listing.stat().st_size <= MAX_JSON_BYTES and f'"{name}"' not in listing.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return False


def _read_json(path: Path, kind: type[Any]) -> Any:
    """Read a small JSON file; empty if it is missing or invalid."""
    try:
        if path.stat().st_size > MAX_JSON_BYTES:
            return kind()
        content = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return kind()
    return content if isinstance(content, kind) else kind()
