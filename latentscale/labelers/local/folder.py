"""A chat model, by its small files: its context, its identity, and whether it can chat."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from latentscale.embedders.encoder.weights import INDEX, shapes_of, weight_files
from latentscale.embedders.model_json import is_mapping, is_whole, read_object
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
"""All of a chat model but its weights."""
FILES = (*DESCRIPTION, "*.safetensors", INDEX)
# No more is taken of a long context by default: a server reserves memory for it, and a question has some thousands.
_MOST_CONTEXT = 16_384
_USUAL_CONTEXT = 4_096
# Tokens of evidence and of an answer below which no question is worth asking.
LEAST_EVIDENCE, LEAST_ANSWER = 200, 128
_MODELS_THAT_WRITE = ("ForCausalLM", "ForConditionalGeneration", "LMHeadModel")


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatModel:
    """A chat model.

    Attributes
    ----------
    path : Path
        Folder with its small files; those of a hub id may lack the weights.
    name : str
        Its id on the hub, or the name of the folder.
    revision : str or None
        The commit, for one of the hub.
    context : int
        Tokens of a question and its answer together.
    """

    path: Path
    name: str
    revision: str | None
    context: int

    @property
    def title(self) -> str:
        """For a person, and in each label."""
        return f"{self.name}@{self.revision[:12]}" if self.revision else self.name

    def identity(self) -> dict[str, str]:
        """The commit of a model of the hub; of a folder, the digest of its bytes, wherever it lies."""
        if self.revision is not None:
            return {"model": self.name, "revision": self.revision}
        names = {one.name for one in weight_files(self.path)} | {INDEX}
        names |= {one.name for pattern in DESCRIPTION for one in self.path.glob(pattern)}
        return {"digest": content_digest(self.path, {name for name in names if (self.path / name).is_file()})}


def find_chat_model(options: LocalOptions) -> ChatModel:
    """The model that the options name, checked as far as its small files go.

    Of a hub id no weights are fetched: the machine that asks for labels may be none of those that compute them.

    Raises
    ------
    ConfigError
        If there is no such model, it is none that chats, needs code of its own, or takes too few tokens.
    MissingPackageError, EnvironmentFailure
        If it must be fetched and cannot.
    """
    with blamed_on_labels():
        if not is_model_id(options.model):
            found = resolve_model(options.model, revision=options.revision, where=f"{WHERE}.model")
            path, name, revision = found.path, found.name, None
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
        _refuse_what_cannot_chat(path, name, config)
    return ChatModel(path=path, name=name, revision=revision, context=_context(options, name, config))


def weights_folder(options: LocalOptions) -> Path:
    """The folder of the model with its weights, which are fetched where the cache lacks them.

    Raises
    ------
    ConfigError, MissingPackageError, EnvironmentFailure
        As :func:`latentscale.models.hub.resolve_model`.
    """
    with blamed_on_labels():
        found = resolve_model(options.model, revision=options.revision, patterns=FILES, where=f"{WHERE}.model")
        for path in weight_files(found.path):
            shapes_of(path)
    return found.path


@contextmanager
def blamed_on_labels() -> Generator[None]:
    """Let errors about a model name the settings of labels: the readers of models know those of embed alone."""
    try:
        yield
    except ConfigError as error:
        if error.where is None or not error.where.startswith("embed."):
            raise
        where = error.where.replace("embed.options", WHERE).replace("embed.model", f"{WHERE}.model")
        raise ConfigError(error.message, where=where, hint=error.hint) from error


def has_template(path: Path) -> bool:
    """Whether a model says how a conversation is written for it."""
    if (path / "chat_template.jinja").is_file() or (path / "chat_template.json").is_file():
        return True
    return bool(read_object(path / "tokenizer_config.json").get("chat_template"))


def _refuse_what_cannot_chat(path: Path, name: str, config: Any) -> None:
    problem = hint = None
    kinds = config.get("architectures")
    kinds = [str(kind) for kind in kinds] if isinstance(kinds, list) else []
    model_type = str(config.get("model_type", ""))
    if not any(kind.endswith(_MODELS_THAT_WRITE) for kind in kinds):
        problem = f"is no model that writes text: it is {', '.join(kinds) or 'of no kind that config.json names'}"
    elif not has_template(path):
        problem, hint = "has no chat template: it was not taught to answer", "Use the model's instruct or chat version."
    elif not any((path / one).is_file() for one in ("tokenizer.json", "tokenizer.model", "vocab.json")):
        problem = "has no tokenizer"
    elif config.get("auto_map") and not _known(model_type):
        problem = f"needs code of its repository: transformers knows no model {model_type!r}"
    if problem is not None:
        raise ConfigError(
            f"{name} {problem}",
            where=f"{WHERE}.model",
            hint=hint or "Use a chat model in safetensors, such as Qwen/Qwen3-4B-Instruct-2507.",
        )


def _known(model_type: str) -> bool:
    """Whether the transformers that is installed here has this model; where none is, its worker finds out."""
    found = find_spec("transformers")
    if found is None:
        return True
    places = found.submodule_search_locations or []
    return any((Path(place) / "models" / model_type.replace("-", "_")).is_dir() for place in places)


def _context(options: LocalOptions, name: str, config: Any) -> int:
    text = config.get("text_config")
    own = config.get("max_position_embeddings") or (text.get("max_position_embeddings") if is_mapping(text) else None)
    most = own if is_whole(own) else None
    if options.max_model_len is not None and most is not None and options.max_model_len > most:
        raise ConfigError(
            f"{name} takes {most:,} tokens, fewer than {options.max_model_len:,}",
            where=f"{WHERE}.max_model_len",
            hint=f"Use at most {most:,}, or leave it out.",
        )
    context = options.max_model_len or min(most or _USUAL_CONTEXT, _MOST_CONTEXT)
    least = about(frame(options)) + LEAST_EVIDENCE + LEAST_ANSWER
    if context < least:
        raise ConfigError(
            f"{name} takes {context:,} tokens at a time, and a question for a label has at least {least:,}",
            where=f"{WHERE}.max_model_len" if options.max_model_len else f"{WHERE}.model",
            hint="Use a model with a longer context"
            + (", or a shorter label.options.context." if options.context else "."),
        )
    return context
