"""List models: the shipped one, those in folders and in the hub cache, and a few recommended ones."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

from latentscale.embedders.language import MULTILINGUAL
from latentscale.embedders.model_folder import model_files, read_shapes
from latentscale.embedders.sentence_folder import is_sentence_folder, read_sentence_folder
from latentscale.errors import ConfigError
from latentscale.models import static_model_path
from latentscale.models.hub import ModelFolder, fetch_model, resolve_model
from latentscale.models.hub_cache import cached_models, is_static, missing_files

_PATTERNS = ("*.safetensors", "*.onnx", "*.json")
_MAX_CARD_BYTES = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFacts:
    """Description of a model, from its small files.

    Attributes
    ----------
    name : str
        Value of ``embed.model``.
    kind : {"static", "encoder"}
        Static token embeddings, or a transformer.
    dimensions : int or None
        Width of the vectors; None if the files do not state it.
    max_tokens : int or None
        Maximum number of tokens of a text; None if the model has no limit.
    licence : str or None
        From the model card; None if not stated.
    languages : tuple of str
        From the model card.
    document_prompt, query_prompt : str
        Prefix of documents and of queries; empty for none.
    source : {"shipped", "folder", "cache", "hub"}
        ``hub``: recommended, and not on this machine.
    revision : str or None
        Commit of a hub model.
    path : str or None
        Folder on this machine.
    bytes : int
        Size of its files on this machine.
    problem : str or None
        Why it cannot be used.
    about : str
        Short description, or empty.
    """

    name: str
    kind: Literal["static", "encoder"]
    dimensions: int | None = None
    max_tokens: int | None = None
    licence: str | None = None
    languages: tuple[str, ...] = ()
    document_prompt: str = ""
    query_prompt: str = ""
    source: Literal["shipped", "folder", "cache", "hub"]
    revision: str | None = None
    path: str | None = None
    bytes: int = 0
    problem: str | None = None
    about: str = ""


# Id, kind, dimensions, maximum tokens, licence, languages, query prompt from the model's files, and description.
_CHOICES: tuple[tuple[str, Literal["static", "encoder"], int, int | None, str, str, str, str], ...] = (
    (MULTILINGUAL, "static", 256, None, "mit", "many", "", "no GPU needed; other languages than English"),
    ("minishlab/potion-base-32M", "static", 512, None, "mit", "en", "", "no GPU needed; larger than the shipped one"),
    ("sentence-transformers/all-MiniLM-L6-v2", "encoder", 384, 256, "apache-2.0", "en", "", "small and fast"),
    ("BAAI/bge-small-en-v1.5", "encoder", 384, 512, "mit", "en", "", "small"),
    (
        "intfloat/multilingual-e5-small",
        "encoder",
        384,
        512,
        "mit",
        "many",
        "",
        "small; wants embed.options.document_prompt='passage: ' and query_prompt='query: '",
    ),
    (
        "Qwen/Qwen3-Embedding-0.6B",
        "encoder",
        1024,
        32_768,
        "apache-2.0",
        "many",
        "Instruct: Given a web search query, retrieve relevant passages that answer the query\nQuery:",
        "long texts; for a GPU",
    ),
)


def recommended_models() -> list[ModelFacts]:
    """Return a few recommended hub models; those in the cache are described from their files."""
    cached = {model.name: model for model in local_models()}
    return [
        cached.get(name)
        or ModelFacts(
            name=name,
            kind=kind,
            dimensions=dimensions,
            max_tokens=tokens,
            licence=licence,
            languages=(languages,),
            query_prompt=query,
            source="hub",
            about=about,
        )
        for name, kind, dimensions, tokens, licence, languages, query, about in _CHOICES
    ]


def local_models(folders: Iterable[str | Path] = ()) -> list[ModelFacts]:
    """List the shipped model, those in ``folders``, and all static models and sentence encoders in the hub cache.

    Raises
    ------
    ConfigError
        If one of ``folders`` is not a folder, or contains no model.
    """
    shipped = ModelFolder(path=static_model_path(), name="static", revision=None, source="shipped")
    models = [describe_model(shipped)]
    for folder in folders:
        model = resolve_model(str(folder), where="folder")
        if not is_model(model.path):
            raise ConfigError(
                f"{folder} contains neither a static model nor a sentence encoder",
                hint="A model has a config.json, a tokenizer, and weights in safetensors or ONNX.",
            )
        models.append(describe_model(model))
    for entry in cached_models():
        if is_model(entry.path):
            model_folder = ModelFolder(path=entry.path, name=entry.name, revision=entry.revision, source="hub")
            missing = missing_files(entry, _PATTERNS)
            problem = f"not whole in the cache ({', '.join(missing[:3])}): latentscale models pull {entry.name}"
            models.append(describe_model(model_folder, problem=problem if missing else None))
    return models


def pull_model(name: str, *, revision: str | None = None, files: Iterable[str] = ()) -> ModelFacts:
    """Download a hub model into the cache, for use without network here or on a machine with a copy of the cache.

    Parameters
    ----------
    name : str
        Hub id.
    revision : str, optional
        A commit, branch or tag; by default the newest commit.
    files : iterable of str
        Additional files, such as ``onnx/model.onnx``; glob patterns are allowed.

    Raises
    ------
    ConfigError, MissingPackageError, EnvironmentFailure
        As :func:`latentscale.models.hub.resolve_model`.
    """
    from latentscale.models.hub import DEFAULT_PATTERNS

    return describe_model(fetch_model(name, revision=revision, patterns=(*DEFAULT_PATTERNS, *files), where="model"))


def is_model(folder: Path) -> bool:
    """Whether a folder contains a static model or an encoder, judged by its small files."""
    return is_static(folder) or is_sentence_folder(folder)


def describe_model(model: ModelFolder, *, problem: str | None = None) -> ModelFacts:
    """Describe a model from its files; an unreadable description becomes ``problem`` and is not an error."""
    card = _card(model.path / "README.md")
    licence = card.get("license_name") if card.get("license") == "other" else card.get("license")
    stated = card.get("language")
    languages = [stated] if isinstance(stated, str) else stated if isinstance(stated, list) else []
    facts: dict[str, Any] = {}
    static = model.source == "shipped" or is_static(model.path)
    try:
        facts = _static(model.path) if static else _encoder(model.path)
    except ConfigError as error:
        problem = problem or error.message
    return ModelFacts(
        name=str(model.path) if model.source == "folder" else model.name,
        kind="static" if static else "encoder",
        licence="apache-2.0" if model.source == "shipped" else None if licence is None else str(licence),
        languages=("en",) if model.source == "shipped" else tuple(str(language) for language in languages),
        source="cache" if model.source == "hub" else model.source,
        revision=model.revision,
        path=str(model.path),
        bytes=sum(path.stat().st_size for path in model.path.rglob("*") if path.is_file()),
        problem=problem,
        about="word pieces, distilled from all-MiniLM-L6-v2" if model.source == "shipped" else "",
        **facts,
    )


def _static(path: Path) -> dict[str, Any]:
    return {"dimensions": read_shapes(model_files(path)).dim}


def _encoder(path: Path) -> dict[str, Any]:
    sentence = read_sentence_folder(path)
    return {
        "dimensions": sentence.dimensions,
        "max_tokens": sentence.max_seq_length,
        "document_prompt": sentence.document_prompt,
        "query_prompt": sentence.query_prompt,
    }


def _card(path: Path) -> Mapping[str, Any]:
    """Return the YAML front matter of a model card; empty if there is none or it is invalid."""
    import yaml

    try:
        with path.open("rb") as stream:
            text = stream.read(_MAX_CARD_BYTES).decode("utf-8", errors="replace")
    except OSError:
        return {}
    parts = text.split("\n---", 1)
    if not text.startswith("---") or len(parts) < 2:
        return {}
    try:
        metadata = yaml.safe_load(parts[0].removeprefix("---"))
    except yaml.YAMLError:
        return {}
    return cast("Mapping[str, Any]", metadata) if isinstance(metadata, dict) else {}
