"""Spec of a sentence encoder in onnxruntime, without torch and transformers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from latentscale.config import EmbedConfig, Settings, StageResources
from latentscale.embedders.int8_check import CHECKED_ROWS, measure_agreement, verdict
from latentscale.embedders.onnx_embedder import OnnxEmbedder, TokenizerSettings
from latentscale.embedders.onnx_folder import Graph, Precision, choose_file, list_graphs, read_graph, required_files
from latentscale.embedders.onnx_session import Provider
from latentscale.embedders.sentence_folder import Normalize, SentenceFolder, is_sentence_folder, read_sentence_folder
from latentscale.embedders.spec import EmbedderSpec, options_of
from latentscale.errors import ConfigError
from latentscale.machine import package_version
from latentscale.models.hub import file_digest, is_model_id, model_description, resolve_model
from latentscale.models.hub_cache import is_static

# Memory in addition to the weights (which are in memory twice during loading): Python, a shard of texts and a batch.
_WORKER_BYTES = 600_000_000


class OnnxOptions(Settings):
    """``embed.options`` of an ONNX model."""

    file: str | None = None
    """The ONNX file, relative to the model's folder; by default onnx/model.onnx, or that of the precision."""
    precision: Precision = "fp32"
    """`int8`: a quantised file, which is first compared with the fp32 file on 256 of the documents."""
    reference: str | None = None
    """The fp32 ONNX file that `int8` is compared with; by default onnx/model.onnx."""
    force: bool = False
    """Use `int8` even if it differs from fp32 by more than is allowed, or cannot be compared."""
    provider: Provider = "auto"
    """`cpu`, `cuda`, or `auto`: the GPU if the worker has one and the installed onnxruntime supports it."""
    revision: str | None = None
    """Commit, branch or tag of a hub id; by default the cached main."""
    pooling: Literal["mean", "cls", "max", "mean_sqrt_len_tokens", "weightedmean", "lasttoken"] | None = None
    """How the vectors of tokens are pooled into one; by default as the model's files say."""
    document_prompt: str | None = None
    """The name of one of the model's prompts, or a text, put before each document; "" for none."""
    query_prompt: str | None = None
    """The same for search queries."""
    dimensions: Annotated[int, Field(ge=1)] | None = None
    """Truncate vectors to this many dimensions, for a Matryoshka model; by default all are kept."""
    long: Literal["truncate", "chunk"] = "truncate"
    """For a text over the token limit: truncate it, or average windows over all of it, weighted by their tokens."""
    overlap: Annotated[int, Field(ge=0)] | None = None
    """Tokens shared by consecutive windows; by default an eighth of the window."""
    batch_tokens: Annotated[int, Field(ge=1)] | None = None
    """Maximum tokens of a batch, including padding; by default 512 on CPUs and 32,768 on a GPU."""

    @model_validator(mode="after")
    def _agree(self) -> OnnxOptions:
        if self.overlap is not None and self.long != "chunk":
            raise ValueError("overlap is for long: chunk")
        return self


class OnnxSpec(EmbedderSpec):
    """An ONNX sentence encoder: a folder, a file, or a hub model."""

    kind: Literal["onnx"] = "onnx"
    deterministic: ClassVar[bool] = False
    folder: str | None = None
    """Model folder on the machine that made the spec; None for a hub model."""
    model: str | None = None
    """Hub id, which each machine resolves in its own cache."""
    revision: str | None = None
    """Commit of ``model``."""
    file: str
    """ONNX file of the graph, relative to the folder."""
    max_tokens: Annotated[int, Field(ge=1)] = 512
    """Maximum number of tokens of a text, including special tokens."""
    options: OnnxOptions = OnnxOptions()
    """``embed.options``, unresolved."""

    @classmethod
    def recognizes(cls, model: str) -> bool:
        """Accept an ONNX file, and a sentence encoder that the preceding kinds did not accept: it has no weights for
        torch, or torch is not installed.
        """
        if model.endswith(".onnx"):
            return True
        if Path(model).is_dir():
            return bool(list_graphs(Path(model))) and not is_static(Path(model))
        return is_model_id(model) and is_sentence_folder(model_description(model))

    @classmethod
    def from_settings(cls, config: EmbedConfig, *, vectors_column: str | None) -> Self:
        """Resolve ``embed.model``, and choose the graph of the configured precision."""
        options = options_of(config, OnnxOptions)
        model, file = config.model, options.file
        if model == "onnx":
            raise ConfigError(
                "embed.model is 'onnx', which names no model",
                where="embed.model",
                hint="Give a folder, a hub id or an ONNX file, and --set embed.kind=onnx where that is not clear.",
            )
        if model.endswith(".onnx"):
            if file is not None:
                raise ConfigError(
                    f"embed.model is the file {model}, and embed.options.file another",
                    where="embed.options.file",
                    hint="Leave one of them out.",
                )
            model, file = split_path(Path(model))
        resolved = resolve_model(model, revision=options.revision, patterns=required_files(options.precision, file))
        graph_file = choose_file(resolved.path, options.precision, file)
        spec = cls(
            folder=None if resolved.source == "hub" else str(resolved.path),
            model=resolved.name if resolved.source == "hub" else None,
            revision=resolved.revision,
            file=graph_file,
            max_tokens=config.max_tokens,
            options=options,
        )
        spec.graph()
        _check_width(options, spec.graph().dimensions)
        if options.precision == "int8" and not options.force:
            spec.reference_file()
        return spec

    @property
    def path(self) -> Path:
        """Folder of the model on this machine; a hub model is downloaded if it is not cached."""
        if self.folder is not None:
            return Path(self.folder)
        patterns = required_files(self.options.precision, self.file)
        return resolve_model(str(self.model), revision=self.revision, patterns=patterns).path

    @property
    def name(self) -> str:
        """Hub id, or name of the folder."""
        return self.model or Path(str(self.folder)).name

    @property
    def sentence(self) -> SentenceFolder:
        """Description from the files of the folder."""
        return read_sentence_folder(self.path)

    @property
    def tokenizer_settings(self) -> TokenizerSettings:
        """How texts are tokenised."""
        options, sentence, limit = self.options, self.sentence, self.token_limit
        overlap = limit // 8 if options.overlap is None else options.overlap
        return TokenizerSettings(
            limit=limit,
            document_prompt=_prompt(sentence, options.document_prompt, sentence.document_prompt),
            query_prompt=_prompt(sentence, options.query_prompt, sentence.query_prompt),
            long=options.long,
            overlap=overlap if options.long == "chunk" else 0,
        )

    @property
    def dimensions(self) -> int:
        """Width of the vectors."""
        return self.options.dimensions or self.graph().dimensions

    @property
    def token_limit(self) -> int:
        """Maximum number of tokens of a text: the lower of the setting and the model's limit."""
        return min(self.max_tokens, self.sentence.max_seq_length or self.max_tokens)

    @property
    def check_rows(self) -> int:
        """Number of documents for ``check``: none in fp32."""
        return CHECKED_ROWS if self.options.precision == "int8" else 0

    def graph(self, file: str | None = None, precision: Precision | None = None) -> Graph:
        """Read inputs and outputs of the graph."""
        return read_graph(
            self.path,
            file or self.file,
            self.sentence,
            precision=precision or self.options.precision,
            pooling=self.options.pooling,
            prompt=self.tokenizer_settings.document_prompt,
        )

    def reference_file(self) -> str:
        """Return the fp32 graph that this one is compared with, relative to the folder.

        Raises
        ------
        ConfigError
            If there is none, or it is unusable.
        """
        try:
            name = choose_file(self._reference_folder(), "fp32", self.options.reference)
            self.graph(name, "fp32")
        except ConfigError as error:
            raise ConfigError(
                f"int8 is compared with fp32 on {CHECKED_ROWS} documents before it is used, and that cannot be done: "
                f"{error.message}",
                where="embed.options.precision",
                hint="Put the fp32 file beside it (latentscale models export MODEL --out FOLDER --int8 writes both), "
                "name it, embed.options.reference, or use int8 without a check: --set embed.options.force=true.",
            ) from error
        return name

    def _reference_folder(self) -> Path:
        if self.folder is not None:
            return Path(self.folder)
        patterns = required_files("fp32", self.options.reference)
        return resolve_model(str(self.model), revision=self.revision, patterns=patterns).path

    def identity(self) -> Mapping[str, Any]:
        """Return all that alters the vectors: bytes of graph, tokenizer and layers, and settings; never a path."""
        graph, sentence, tokenizer_settings = self.graph(), self.sentence, self.tokenizer_settings
        tokenizer = [sentence.encoder / name for name in ("tokenizer.json", "tokenizer_config.json")]
        head_weights = [head.folder / "model.safetensors" for head in sentence.heads if not isinstance(head, Normalize)]
        return {
            "embedder": "onnx",
            "graph": [file_digest(path) for path in graph.files],
            "tokenizer": [file_digest(path) for path in tokenizer if path.is_file()],
            "lower_case": sentence.do_lower_case,
            "precision": self.options.precision,
            "pooling": list(graph.pooling) or "graph",
            "heads": [file_digest(path) for path in head_weights] if graph.pooling else [],
            "normalisation": "l2",
            "prompt": tokenizer_settings.document_prompt,
            "include_prompt": sentence.include_prompt,
            "max_tokens": tokenizer_settings.limit,
            "long": tokenizer_settings.long,
            "overlap": tokenizer_settings.overlap,
            "dim": self.dimensions,
        } | sentence.batch_identity

    def settled_options(self) -> Mapping[str, Any]:
        """Return the commit of a hub model."""
        return {"revision": self.revision} if self.revision else {}

    def notice(self, languages: Mapping[str, int]) -> str | None:
        """Report what was chosen for the user: file, precision, prompt, token limit."""
        prompt = self.tokenizer_settings.document_prompt
        prefix = f"the prompt {prompt!r}" if prompt else "no prompt"
        chosen = f"{self.name}: {self.file} in {self.options.precision} by onnxruntime, with {prefix} before each text"
        notes = self.sentence.notes(
            token_limit=self.token_limit,
            max_tokens=self.max_tokens,
            long=self.options.long,
            width=self.options.dimensions or self.sentence.dimensions,
        )
        return "; ".join([chosen, *notes])

    def resources(self) -> StageResources:
        """Return memory for the weights; a GPU as the provider requires, ``auto`` if onnxruntime supports GPUs."""
        memory = _WORKER_BYTES + 2 * sum(path.stat().st_size for path in self.graph().files)
        if self.options.provider == "auto":
            supported = package_version("onnxruntime-gpu") is not None
            return StageResources(gpus="auto" if supported else None, memory=memory)
        return StageResources(gpus=1 if self.options.provider == "cuda" else 0, memory=memory)

    def open(self, device: str = "cpu") -> OnnxEmbedder:
        """Load the graph."""
        return self._open_graph(self.graph(), device)

    def _open_graph(self, graph: Graph, device: str) -> OnnxEmbedder:
        return OnnxEmbedder(
            graph,
            self.sentence,
            self.tokenizer_settings,
            dimensions=self.options.dimensions,
            batch_tokens=1 if self.sentence.depends_on_padding else self.options.batch_tokens,
            provider=self.options.provider,
            device=device,
        )

    def check(self, texts: Sequence[str], device: str = "cpu") -> Mapping[str, Any]:
        """Compare int8 with fp32 on these documents: see :func:`latentscale.embedders.int8_check.verdict`."""
        try:
            name = self.reference_file()
        except ConfigError as error:
            if not self.options.force:
                raise
            return {"rows": 0, "forced": True, "summary": f"int8 is used unchecked: {error.message}"}
        embedder = self.open(device)
        embedded = embedder.embed(texts)
        reference = self._open_graph(self.graph(name, "fp32"), device).embed(texts)
        both = embedded.embeddable & reference.embeddable
        measured = measure_agreement(embedded.vectors[both], reference.vectors[both])
        return {**verdict(measured, force=self.options.force), "provider": embedder.provider}


def split_path(path: Path) -> tuple[str, str]:
    """Split the path of an ONNX file into model folder, which contains the tokenizer, and file name in it.

    Raises
    ------
    ConfigError
        If there is no such file, or no tokenizer in its folder or the parent folder.
    """
    if not path.is_file():
        raise ConfigError(
            f"there is no ONNX file {path}", where="embed.model", hint="Check the path, or give the model's folder."
        )
    for folder in (path.absolute().parent, path.absolute().parent.parent):
        if (folder / "tokenizer.json").is_file():
            return str(folder), path.absolute().relative_to(folder).as_posix()
    raise ConfigError(
        f"there is no tokenizer.json in the folder of {path} or its parent",
        where="embed.model",
        hint="Put the model's tokenizer.json and config.json there, or give the folder that has them.",
    )


def _prompt(sentence: SentenceFolder, setting: str | None, default: str) -> str:
    """Return a prompt: by its name in the model, as a text, or the model's default."""
    return default if setting is None else sentence.prompts.get(setting, setting)


def _check_width(options: OnnxOptions, width: int) -> None:
    dimensions = options.dimensions
    if dimensions is None:
        return
    if dimensions > width:
        raise ConfigError(
            f"embed.options.dimensions is {dimensions:,}, and the model has {width:,}",
            where="embed.options.dimensions",
            hint="Ask for fewer.",
        )
