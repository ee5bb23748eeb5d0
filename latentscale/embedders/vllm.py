"""Large sentence encoders on GPUs with vLLM, which needs its own environment because of its pinned dependencies."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from latentscale.config import EmbedConfig, Settings, StageResources
from latentscale.embedders.encoder.weights import check_weights, weight_files
from latentscale.embedders.model_folder import read_tokenizer
from latentscale.embedders.protocol import Embedded
from latentscale.embedders.sentence_folder import Normalize, SentenceFolder, read_sentence_folder
from latentscale.embedders.spec import EmbedderSpec, options_of
from latentscale.embedders.tokens import TextTokenizer, lower
from latentscale.errors import ConfigError, ResourceError, require
from latentscale.models.hub import content_digest, resolve_model

_DTYPES = {"bf16": "bfloat16", "fp16": "float16", "fp32": "float32"}
# Names of pooling modes in vLLM.
_POOLING = {"mean": "MEAN", "cls": "CLS", "lasttoken": "LAST"}
_CONFIG_FILES = ("*.json", "*.txt", "*.model")
# Bounds memory: vLLM returns lists of Python floats, 32 bytes per value.
_TEXTS_AT_ONCE = 1_024
_WORKER_BYTES = 6_000_000_000


class VllmOptions(Settings):
    """``embed.options`` of the kind ``vllm``."""

    revision: str | None = None
    """Commit, branch or tag of a hub id; by default the cached main. The commit is recorded."""
    document_prompt: str | None = None
    """The name of one of the model's prompts, or a text, put before each document; "" for none."""
    query_prompt: str | None = None
    """The same for search queries."""
    precision: Literal["bf16", "fp16", "fp32"] = "bf16"
    """Precision of the computation; GPUs before Ampere need fp16."""
    gpu_memory_share: Annotated[float, Field(gt=0, le=1)] = 0.9
    """Share of the GPU's memory that vLLM reserves at the start."""
    compile: bool = True
    """Compile the model and capture CUDA graphs: takes a minute at the start, and is faster afterwards."""


class VllmSpec(EmbedderSpec):
    """A sentence encoder that vLLM runs as a pooling model."""

    kind: Literal["vllm"] = "vllm"
    deterministic = False
    folder: str | None = None
    """Model folder on the machine that made the spec; None for a hub model."""
    model: str | None = None
    """Hub id, which each machine resolves in its own cache."""
    revision: str | None = None
    """Commit of ``model``."""
    document_prompt: str = ""
    query_prompt: str = ""
    max_tokens: Annotated[int, Field(ge=1)] = 512
    precision: Literal["bf16", "fp16", "fp32"] = "bf16"
    gpu_memory_share: float = 0.9
    compile: bool = True

    @classmethod
    def from_settings(cls, config: EmbedConfig, *, vectors_column: str | None) -> Self:
        """Resolve ``embed.model`` for ``embed.kind: vllm``; vLLM need not be installed here."""
        options = options_of(config, VllmOptions)
        if config.model == "vllm":
            raise ConfigError(
                "embed.model is 'vllm', which is a kind of model, not a model",
                where="embed.model",
                hint="Name a folder or an id: --set embed.kind=vllm --set embed.model=Qwen/Qwen3-Embedding-0.6B.",
            )
        resolved = resolve_model(config.model, revision=options.revision)
        folder = read_sentence_folder(resolved.path)
        check_weights(folder)
        _reject_unsupported(folder)
        return cls(
            folder=str(resolved.path) if resolved.source == "folder" else None,
            model=resolved.name if resolved.source == "hub" else None,
            revision=resolved.revision,
            document_prompt=_prompt(folder, options.document_prompt, folder.document_prompt),
            query_prompt=_prompt(folder, options.query_prompt, folder.query_prompt),
            max_tokens=config.max_tokens,
            precision=options.precision,
            gpu_memory_share=options.gpu_memory_share,
            compile=options.compile,
        )

    @property
    def path(self) -> Path:
        """Folder of the model on this machine; a hub model is downloaded if it is not cached."""
        if self.model is None:
            return Path(str(self.folder))
        return resolve_model(self.model, revision=self.revision).path

    @property
    def name(self) -> str:
        """Hub id, or name of the folder."""
        return self.model or self.path.name

    @property
    def dimensions(self) -> int:
        """Width of the vectors."""
        return read_sentence_folder(self.path).hidden

    @property
    def token_limit(self) -> int:
        """Maximum number of tokens of a text: the lower of the setting and the model's limit."""
        return min(self.max_tokens, read_sentence_folder(self.path).max_seq_length or self.max_tokens)

    def identity(self) -> Mapping[str, Any]:
        """Return all that alters the vectors: bytes of the model, settings and precision; never a path."""
        path = self.path
        folder = read_sentence_folder(path)
        names = {file.relative_to(path).as_posix() for file in weight_files(folder.encoder)}
        names |= {file.relative_to(path).as_posix() for pattern in _CONFIG_FILES for file in path.rglob(pattern)}
        return {
            "embedder": "vllm",
            "version": 1,
            "model": content_digest(path, names),
            "pooling": list(folder.pooling),
            "prompt": self.document_prompt,
            "max_tokens": self.token_limit,
            "precision": self.precision,
            "normalisation": "l2",
        }

    def settled_options(self) -> Mapping[str, Any]:
        """Return the commit of a hub model."""
        return {"revision": self.revision} if self.revision else {}

    def resources(self) -> StageResources:
        """Return one GPU, of whose memory vLLM reserves ``gpu_memory_share``."""
        return StageResources(gpus=1, memory=_WORKER_BYTES)

    def notice(self, languages: Mapping[str, int]) -> str | None:
        """Report what was chosen for the user: precision, prompt, token limit."""
        prompt = f"the prompt {self.document_prompt!r}" if self.document_prompt else "no prompt"
        return f"{self.name} in vLLM, {self.precision}, {self.token_limit:,} tokens, with {prompt} before each text"

    def open(self, device: str = "cpu") -> VllmEmbedder:
        """Start vLLM in this process's environment.

        Raises
        ------
        MissingPackageError
            If vLLM is not installed where the worker runs.
        ResourceError
            If it cannot start.
        """
        os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")
        os.environ.setdefault("DO_NOT_TRACK", "1")
        vllm: Any = require("vllm", extra="vllm", used_for="the embedder 'vllm'")
        folder = read_sentence_folder(self.path)
        check_weights(folder)
        try:
            model = vllm.LLM(
                model=str(folder.encoder),
                runner="pooling",
                dtype=_DTYPES[self.precision],
                max_model_len=self.token_limit,
                gpu_memory_utilization=self.gpu_memory_share,
                enforce_eager=not self.compile,
                pooler_config=_pooler(folder),
                trust_remote_code=False,
                disable_log_stats=True,
            )
        except (RuntimeError, ValueError, OSError) as error:
            raise ResourceError(
                f"vLLM cannot start {self.name}: {' '.join(str(error).split())[:400]}",
                hint="If another program uses the GPU's memory, lower embed.options.gpu_memory_share; or use "
                "embed.kind=transformers.",
            ) from error
        return VllmEmbedder(
            model,
            documents=self._tokenizer(folder, self.document_prompt),
            queries=self._tokenizer(folder, self.query_prompt),
            dimensions=self.dimensions,
        )

    def _tokenizer(self, folder: SentenceFolder, prompt: str) -> TextTokenizer:
        compiled = read_tokenizer(folder.encoder / "tokenizer.json")
        if folder.do_lower_case:
            lower(compiled)
        return TextTokenizer(compiled, limit=self.token_limit, prompt=prompt)


class VllmEmbedder:
    """Embeds with a vLLM engine, which batches by itself.

    Parameters
    ----------
    model : vllm.LLM
    documents, queries : TextTokenizer
    dimensions : int
    """

    def __init__(self, model: Any, *, documents: TextTokenizer, queries: TextTokenizer, dimensions: int) -> None:
        self._model = model
        self._documents = documents
        self._queries = queries
        self._dimensions = dimensions

    def embed(self, texts: Sequence[str]) -> Embedded:
        """Embed documents, in order."""
        return self._embed(texts, self._documents)

    def embed_queries(self, texts: Sequence[str]) -> Embedded:
        """Embed search queries, in order, with their own prompt."""
        return self._embed(texts, self._queries)

    def _embed(self, texts: Sequence[str], tokenizer: TextTokenizer) -> Embedded:
        tokens = tokenizer.encode(texts)
        vectors = np.zeros((len(texts), self._dimensions), dtype=np.float32)
        nonempty = np.flatnonzero(~tokens.empty)
        order = nonempty[np.argsort(-tokens.lengths[nonempty], kind="stable")]
        for start in range(0, len(order), _TEXTS_AT_ONCE):
            rows = order[start : start + _TEXTS_AT_ONCE]
            prompts = [
                {"prompt_token_ids": tokens.ids[tokens.bounds[row] : tokens.bounds[row + 1]].tolist()} for row in rows
            ]
            outputs = self._model.embed(prompts, use_tqdm=False)
            vectors[rows] = np.asarray([output.outputs.embedding for output in outputs], dtype=np.float32)
        return Embedded(
            vectors=_unit(vectors),
            embeddable=~tokens.empty,
            tokens=tokens.read,
            unknown=tokens.unknown,
            truncated=int(tokens.truncated.sum()),
        )


def _unit(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    norms = np.sqrt(np.einsum("ij,ij->i", vectors, vectors, dtype=np.float64))
    return np.divide(vectors, norms[:, None], out=vectors, where=(norms > 0)[:, None], casting="unsafe")


def _pooler(folder: SentenceFolder) -> Any:
    """Return the pooling as vLLM's configuration; vLLM itself reads it only from the older layout of model files."""
    config: Any = require("vllm.config", extra="vllm", used_for="the embedder 'vllm'")
    return config.PoolerConfig(seq_pooling_type=_POOLING[folder.pooling[0]])


def _reject_unsupported(folder: SentenceFolder) -> None:
    """Reject a model that vLLM would run differently from its files."""
    problem = None
    if len(folder.pooling) != 1 or folder.pooling[0] not in _POOLING:
        problem = f"its pooling is {' and '.join(folder.pooling) or 'not said'}"
    elif any(not isinstance(head, Normalize) for head in folder.heads):
        problem = "it has layers after the pooling"
    elif not folder.include_prompt:
        problem = "it leaves its prompt out of the pooling"
    elif folder.own_code:
        problem = f"it needs code of its repository ({folder.own_code[0]})"
    elif not (folder.encoder / "tokenizer.json").is_file():
        problem = "it has no tokenizer.json"
    if problem is not None:
        raise ConfigError(
            f"the kind vllm does not run {folder.path.name}: {problem}",
            where="embed.kind",
            hint="Use embed.kind=transformers.",
        )


def _prompt(folder: SentenceFolder, setting: str | None, default: str) -> str:
    return default if setting is None else folder.prompts.get(setting, setting)
