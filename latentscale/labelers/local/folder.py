"""Describe and validate a chat model by its small files: context, identity and chat template."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from latentscale.embedders.encoder.weights import INDEX, shapes_of, weight_files
from latentscale.embedders.model_json import is_mapping, is_positive_int, read_object
from latentscale.errors import ConfigError
from latentscale.labelers.chat import WHERE
from latentscale.labelers.chat.quote import frame
from latentscale.labelers.local.options import LocalOptions
from latentscale.models.hub import content_digest, is_model_id, resolve_model
from latentscale.models.hub_cache import cached_model
from latentscale.models.hub_fetch import fetch
from latentscale.services.tokens import about

DESCRIPTION = (
    "config.json",
    "generation_config.json",
    "tokenizer*.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template*",
    "vocab.*",
    "merges.txt",
    "tokenizer*.model",
)
"""Files of a chat model without its weights."""
FILES = (*DESCRIPTION, "*.safetensors", INDEX)
# Default limit of a long context, for which engines reserve memory; questions have a few thousand tokens.
_MAX_DEFAULT_CONTEXT = 16_384
_FALLBACK_CONTEXT = 4_096
# Minimum tokens of evidence and of an answer for a useful question.
LEAST_EVIDENCE, LEAST_ANSWER = 200, 128
_GENERATIVE = ("ForCausalLM", "ForConditionalGeneration", "LMHeadModel")


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatModel:
    """A chat model.

    Attributes
    ----------
    path : Path
        Folder with its small files; those of a hub id may lack the weights.
    name : str
        Hub id, or name of the folder.
    revision : str or None
        Commit of a hub model.
    context : int
        Maximum tokens of a question and its answer together.
    """

    path: Path
    name: str
    revision: str | None
    context: int

    @property
    def title(self) -> str:
        """Name for display, and in the details of labels."""
        return f"{self.name}@{self.revision[:12]}" if self.revision else self.name

    def identity(self) -> dict[str, str]:
        """Return the commit of a hub model, or the digest of a folder's files, independent of its path."""
        if self.revision is not None:
            return {"model": self.name, "revision": self.revision}
        names = {file.name for file in weight_files(self.path)} | {INDEX}
        names |= {file.name for pattern in DESCRIPTION for file in self.path.glob(pattern)}
        return {"digest": content_digest(self.path, {name for name in names if (self.path / name).is_file()})}


def find_chat_model(options: LocalOptions) -> ChatModel:
    """Resolve the model in the options, and validate its small files.

    The weights of a hub model are not downloaded: this machine may not be the one that computes labels.

    Raises
    ------
    ConfigError
        If there is no such model, it is not a chat model, needs its own code, or has too short a context.
    MissingPackageError, EnvironmentFailure
        If it must be downloaded and cannot.
    """
    with label_setting_errors():
        if not is_model_id(options.model):
            resolved = resolve_model(options.model, revision=options.revision, where=f"{WHERE}.model")
            path, name, revision = resolved.path, resolved.name, None
            weight_files(path)
        else:
            name = options.model
            cached = cached_model(name, options.revision)
            if cached is not None and (cached.path / "config.json").is_file() and has_template(cached.path):
                path = cached.path
            else:
                path = fetch(name, revision=options.revision, patterns=DESCRIPTION, where=f"{WHERE}.model")
            revision = path.name
        config = read_object(path / "config.json", needed=True)
        _check_can_chat(path, name, config)
    return ChatModel(path=path, name=name, revision=revision, context=_context(options, name, config))


def weights_folder(options: LocalOptions) -> Path:
    """Return the folder of the model with its weights, which are downloaded if not cached.

    Raises
    ------
    ConfigError, MissingPackageError, EnvironmentFailure
        As :func:`latentscale.models.hub.resolve_model`.
    """
    with label_setting_errors():
        resolved = resolve_model(options.model, revision=options.revision, patterns=FILES, where=f"{WHERE}.model")
        for path in weight_files(resolved.path):
            shapes_of(path)
    return resolved.path


@contextmanager
def label_setting_errors() -> Generator[None]:
    """Context in which errors about a model name settings of ``label`` instead of ``embed``."""
    try:
        yield
    except ConfigError as error:
        if error.where is None or not error.where.startswith("embed."):
            raise
        where = error.where.replace("embed.options", WHERE).replace("embed.model", f"{WHERE}.model")
        raise ConfigError(error.message, where=where, hint=error.hint) from error


def has_template(path: Path) -> bool:
    """Whether a model has a chat template."""
    if (path / "chat_template.jinja").is_file() or (path / "chat_template.json").is_file():
        return True
    return bool(read_object(path / "tokenizer_config.json").get("chat_template"))


def _check_can_chat(path: Path, name: str, config: Any) -> None:
    problem = hint = None
    architectures = config.get("architectures")
    architectures = [str(kind) for kind in architectures] if isinstance(architectures, list) else []
    model_type = str(config.get("model_type", ""))
    if not any(kind.endswith(_GENERATIVE) for kind in architectures):
        problem = (
            f"is no model that writes text: it is {', '.join(architectures) or 'of no kind that config.json names'}"
        )
    elif not has_template(path):
        problem, hint = "has no chat template: it was not taught to answer", "Use the model's instruct or chat version."
    elif not any((path / file).is_file() for file in ("tokenizer.json", "tokenizer.model", "vocab.json")):
        problem = "has no tokenizer"
    elif config.get("auto_map") and not _known_to_transformers(model_type):
        problem = f"needs code of its repository: transformers does not support the model type {model_type!r}"
    if problem is not None:
        raise ConfigError(
            f"{name} {problem}",
            where=f"{WHERE}.model",
            hint=hint or "Use a chat model in safetensors, such as Qwen/Qwen3-4B-Instruct-2507.",
        )


def _known_to_transformers(model_type: str) -> bool:
    """Whether the installed transformers supports a model type; true if it is not installed here."""
    spec = find_spec("transformers")
    if spec is None:
        return True
    folders = spec.submodule_search_locations or []
    return any((Path(folder) / "models" / model_type.replace("-", "_")).is_dir() for folder in folders)


def _context(options: LocalOptions, name: str, config: Any) -> int:
    text_config = config.get("text_config")
    stated = config.get("max_position_embeddings") or (
        text_config.get("max_position_embeddings") if is_mapping(text_config) else None
    )
    limit = stated if is_positive_int(stated) else None
    if options.max_model_len is not None and limit is not None and options.max_model_len > limit:
        raise ConfigError(
            f"{name} takes {limit:,} tokens, fewer than {options.max_model_len:,}",
            where=f"{WHERE}.max_model_len",
            hint=f"Use at most {limit:,}, or leave it out.",
        )
    context = options.max_model_len or min(limit or _FALLBACK_CONTEXT, _MAX_DEFAULT_CONTEXT)
    minimum = about(frame(options)) + LEAST_EVIDENCE + LEAST_ANSWER
    if context < minimum:
        raise ConfigError(
            f"{name} takes {context:,} tokens at a time, and a question for a label has at least {minimum:,}",
            where=f"{WHERE}.max_model_len" if options.max_model_len else f"{WHERE}.model",
            hint="Use a model with a longer context"
            + (", or a shorter label.options.context." if options.context else "."),
        )
    return context
