"""The models of this machine as a list: the shipped one, folders, the cache of the hub; and a few good choices."""

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
from latentscale.models.hub_cache import absent_files, cached_models, is_static

_PATTERNS = ("*.safetensors", "*.onnx", "*.json")
_MAX_CARD_BYTES = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFacts:
    """What is known of a model without loading it.

    Attributes
    ----------
    name : str
        Value of ``embed.model``.
    kind : {"static", "encoder"}
        A table of token vectors, or a transformer.
    dimensions : int or None
        Width of the vectors; None where the files do not say.
    max_tokens : int or None
        Tokens of a text that the model reads at most; None without a limit of its own.
    licence : str or None
        As the model's card says; None where it says nothing.
    languages : tuple of str
        As the model's card lists them.
    document_prompt, query_prompt : str
        What is put before a document and before a query; empty for nothing.
    source : {"shipped", "folder", "cache", "hub"}
        ``hub``: one that is recommended and not on this machine.
    revision : str or None
        The commit of a model of the hub.
    path : str or None
        Folder on this machine.
    bytes : int
        Of its files on this machine.
    problem : str or None
        Why it cannot be used as it is.
    about : str
        A sentence, where there is one.
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


# Id, kind, dimensions, tokens, licence, languages, query prompt of the model's own files, and what it is for.
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
    """A few models of the hub that are good choices; those that are in the cache as they are there."""
    cached = {one.name: one for one in local_models()}
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
    """The shipped model, those of ``folders``, and all static models and sentence encoders in the cache of the hub.

    Raises
    ------
    ConfigError
        If one of ``folders`` is none, or holds no model.
    """
    shipped = ModelFolder(path=static_model_path(), name="static", revision=None, source="shipped")
    found = [describe_model(shipped)]
    for folder in folders:
        given = resolve_model(str(folder), where="folder")
        if not is_model(given.path):
            raise ConfigError(
                f"{folder} holds neither a static model nor a sentence encoder",
                hint="A model has a config.json, a tokenizer, and weights in safetensors or ONNX.",
            )
        found.append(describe_model(given))
    for one in cached_models():
        if is_model(one.path):
            cached = ModelFolder(path=one.path, name=one.name, revision=one.revision, source="hub")
            absent = absent_files(one, _PATTERNS)
            problem = f"not whole in the cache ({', '.join(absent[:3])}): latentscale models pull {one.name}"
            found.append(describe_model(cached, problem=problem if absent else None))
    return found


def pull_model(name: str, *, revision: str | None = None, files: Iterable[str] = ()) -> ModelFacts:
    """Bring a model of the hub into the cache, so that this machine, or one that gets a copy, needs no network.

    Parameters
    ----------
    name : str
        Its id.
    revision : str, optional
        A commit, branch or tag; by default the newest commit.
    files : iterable of str
        Further files, such as ``onnx/model.onnx``; ``*`` stands for anything.

    Raises
    ------
    ConfigError, MissingPackageError, EnvironmentFailure
        As :func:`latentscale.models.hub.resolve_model`.
    """
    from latentscale.models.hub import DEFAULT_PATTERNS

    return describe_model(fetch_model(name, revision=revision, patterns=(*DEFAULT_PATTERNS, *files), where="model"))


def is_model(folder: Path) -> bool:
    """Whether a folder holds a static model or an encoder, by its small files."""
    return is_static(folder) or is_sentence_folder(folder)


def describe_model(found: ModelFolder, *, problem: str | None = None) -> ModelFacts:
    """What the files of a model say; a description that cannot be read is a ``problem``, not an error."""
    card = _card(found.path / "README.md")
    licence = card.get("license_name") if card.get("license") == "other" else card.get("license")
    listed = card.get("language")
    languages = [listed] if isinstance(listed, str) else listed if isinstance(listed, list) else []
    facts: dict[str, Any] = {}
    static = found.source == "shipped" or is_static(found.path)
    try:
        facts = _static(found.path) if static else _encoder(found.path)
    except ConfigError as error:
        problem = problem or error.message
    return ModelFacts(
        name=str(found.path) if found.source == "folder" else found.name,
        kind="static" if static else "encoder",
        licence="apache-2.0" if found.source == "shipped" else None if licence is None else str(licence),
        languages=("en",) if found.source == "shipped" else tuple(str(one) for one in languages),
        source="cache" if found.source == "hub" else found.source,
        revision=found.revision,
        path=str(found.path),
        bytes=sum(path.stat().st_size for path in found.path.rglob("*") if path.is_file()),
        problem=problem,
        about="word pieces, distilled from all-MiniLM-L6-v2" if found.source == "shipped" else "",
        **facts,
    )


def _static(path: Path) -> dict[str, Any]:
    return {"dimensions": read_shapes(model_files(path)).dim}


def _encoder(path: Path) -> dict[str, Any]:
    said = read_sentence_folder(path)
    return {
        "dimensions": said.dimensions,
        "max_tokens": said.max_seq_length,
        "document_prompt": said.document_prompt,
        "query_prompt": said.query_prompt,
    }


def _card(path: Path) -> Mapping[str, Any]:
    """What stands between the lines ``---`` at the top of a model's card; empty where there is nothing of the kind."""
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
        found = yaml.safe_load(parts[0].removeprefix("---"))
    except yaml.YAMLError:
        return {}
    return cast("Mapping[str, Any]", found) if isinstance(found, dict) else {}
