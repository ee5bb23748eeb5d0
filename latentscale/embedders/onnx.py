"""The spec of a sentence encoder that runs in onnxruntime: no torch, and no transformers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from latentscale.config import EmbedConfig, Settings, StageResources
from latentscale.embedders.int8_check import CHECKED_ROWS, measure_agreement, verdict
from latentscale.embedders.onnx_embedder import OnnxEmbedder, Reading
from latentscale.embedders.onnx_folder import Graph, Precision, choose_file, graphs_in, read_graph, wanted_files
from latentscale.embedders.onnx_session import Provider
from latentscale.embedders.sentence_folder import Normalize, SentenceFolder, is_sentence_folder, read_sentence_folder
from latentscale.embedders.spec import EmbedderSpec, options_of
from latentscale.errors import ConfigError
from latentscale.machine import package_version
from latentscale.models.hub import file_digest, is_model_id, model_description, resolve_model
from latentscale.models.hub_cache import is_static

# Beside the weights, which are held twice while they are loaded: Python, a shard of texts and a batch.
_WORKER_BYTES = 600_000_000


class OnnxOptions(Settings):
    """``embed.options`` of an ONNX model."""

    file: str | None = None
    """The ONNX file, relative to the model's folder; by default onnx/model.onnx, or that of the precision."""
    precision: Precision = "fp32"
    """`int8`: a quantised file, which is compared with the one of fp32 on 256 of the documents before it is used."""
    reference: str | None = None
    """The ONNX file in fp32 with which `int8` is compared; by default onnx/model.onnx."""
    force: bool = False
    """Use `int8` although it differs from fp32 by more than is allowed, or cannot be compared."""
    provider: Provider = "auto"
    """`cpu`, `cuda`, or `auto`: the GPU where the worker has one and the installed onnxruntime can use it."""
    revision: str | None = None
    """Commit, branch or tag of a hub id; by default what the cache calls main."""
    pooling: Literal["mean", "cls", "max", "mean_sqrt_len_tokens", "weightedmean", "lasttoken"] | None = None
    """How the vectors of tokens become one; by default as the model's files say."""
    document_prompt: str | None = None
    """The name of one of the model's prompts, or a text, that stands before each document; "" for none."""
    query_prompt: str | None = None
    """The same for queries of a search."""
    dimensions: Annotated[int, Field(ge=1)] | None = None
    """Keep so many dimensions, for a Matryoshka model; by default all."""
    long: Literal["truncate", "chunk"] = "truncate"
    """A text that is longer than the model takes: cut it, or average windows over all of it by their tokens."""
    overlap: Annotated[int, Field(ge=0)] | None = None
    """Tokens that a window shares with the one before it; by default an eighth of the window."""
    batch_tokens: Annotated[int, Field(ge=1)] | None = None
    """Tokens of a batch at most, padding included; by default 512 on processors and 32,768 on a GPU."""

    @model_validator(mode="after")
    def _agree(self) -> OnnxOptions:
        if self.overlap is not None and self.long != "chunk":
            raise ValueError("overlap is for long: chunk")
        return self


class OnnxSpec(EmbedderSpec):
    """A sentence encoder in ONNX: a folder, a file, or a model of the hub."""

    kind: Literal["onnx"] = "onnx"
    deterministic: ClassVar[bool] = False
    folder: str | None = None
    """Of the model, on the machine that made the spec; None for one of the hub."""
    model: str | None = None
    """Id on the hub, which each machine resolves in its own cache."""
    revision: str | None = None
    """The commit of ``model``."""
    file: str
    """The graph, relative to the folder."""
    max_tokens: Annotated[int, Field(ge=1)] = 512
    """Maximum number of tokens of a text, special ones included."""
    options: OnnxOptions = OnnxOptions()
    """As they were given."""

    @classmethod
    def recognizes(cls, model: str) -> bool:
        """Accept an ONNX file, and a sentence encoder that the kinds before this one have left: it has no weights for
        torch, or torch is not installed.
        """
        if model.endswith(".onnx"):
            return True
        if Path(model).is_dir():
            return bool(graphs_in(Path(model))) and not is_static(Path(model))
        return is_model_id(model) and is_sentence_folder(model_description(model))

    @classmethod
    def from_settings(cls, config: EmbedConfig, *, vectors_column: str | None) -> Self:
        """The model that ``embed.model`` names, with a graph of the precision that is asked for."""
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
        found = resolve_model(model, revision=options.revision, patterns=wanted_files(options.precision, file))
        chosen = choose_file(found.path, options.precision, file)
        made = cls(
            folder=None if found.source == "hub" else str(found.path),
            model=found.name if found.source == "hub" else None,
            revision=found.revision,
            file=chosen,
            max_tokens=config.max_tokens,
            options=options,
        )
        made.graph()
        _check_width(options, made.graph().dimensions)
        if options.precision == "int8" and not options.force:
            made.reference_file()
        return made

    @property
    def path(self) -> Path:
        """Folder of the model on this machine; one of the hub is fetched if it is not in the cache."""
        if self.folder is not None:
            return Path(self.folder)
        patterns = wanted_files(self.options.precision, self.file)
        return resolve_model(str(self.model), revision=self.revision, patterns=patterns).path

    @property
    def name(self) -> str:
        """The id on the hub, or the folder's name."""
        return self.model or Path(str(self.folder)).name

    @property
    def sentence(self) -> SentenceFolder:
        """What the files of the folder say."""
        return read_sentence_folder(self.path)

    @property
    def reading(self) -> Reading:
        """How texts become tokens."""
        options, sentence, limit = self.options, self.sentence, self.token_limit
        overlap = limit // 8 if options.overlap is None else options.overlap
        return Reading(
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
        """Maximum number of tokens of a text: that of the settings or of the model, whichever is less."""
        return min(self.max_tokens, self.sentence.max_seq_length or self.max_tokens)

    @property
    def check_rows(self) -> int:
        """Documents on which it wants to be checked: none in fp32."""
        return CHECKED_ROWS if self.options.precision == "int8" else 0

    def graph(self, file: str | None = None, precision: Precision | None = None) -> Graph:
        """What the graph takes and gives."""
        return read_graph(
            self.path,
            file or self.file,
            self.sentence,
            precision=precision or self.options.precision,
            pooling=self.options.pooling,
            prompt=self.reading.document_prompt,
        )

    def reference_file(self) -> str:
        """The graph in fp32 with which this one is compared, relative to the folder.

        Raises
        ------
        ConfigError
            If there is none.
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
        patterns = wanted_files("fp32", self.options.reference)
        return resolve_model(str(self.model), revision=self.revision, patterns=patterns).path

    def identity(self) -> Mapping[str, Any]:
        """Everything that alters the vectors: bytes of graph, tokenizer and layers, and the settings; never a path."""
        graph, sentence, reading = self.graph(), self.sentence, self.reading
        tokenizer = [sentence.encoder / name for name in ("tokenizer.json", "tokenizer_config.json")]
        heads = [one.folder / "model.safetensors" for one in sentence.heads if not isinstance(one, Normalize)]
        return {
            "embedder": "onnx",
            "graph": [file_digest(path) for path in graph.files],
            "tokenizer": [file_digest(path) for path in tokenizer if path.is_file()],
            "lower_case": sentence.do_lower_case,
            "precision": self.options.precision,
            "pooling": list(graph.pooling) or "graph",
            "heads": [file_digest(path) for path in heads] if graph.pooling else [],
            "normalisation": "l2",
            "prompt": reading.document_prompt,
            "include_prompt": sentence.include_prompt,
            "max_tokens": reading.limit,
            "long": reading.long,
            "overlap": reading.overlap,
            "dim": self.dimensions,
        }

    def settled_options(self) -> Mapping[str, Any]:
        """The commit of a model of the hub."""
        return {"revision": self.revision} if self.revision else {}

    def notice(self, languages: Mapping[str, int]) -> str | None:
        """What was decided for the user: file, precision, prompt, length."""
        prompt = self.reading.document_prompt
        before = f"the prompt {prompt!r}" if prompt else "no prompt"
        said = [f"{self.name}: {self.file} in {self.options.precision} by onnxruntime, with {before} before each text"]
        if self.token_limit < self.max_tokens:
            what = "tokens of a text" if self.options.long == "truncate" else "tokens at a time"
            said.append(f"it takes {self.token_limit:,} {what}, fewer than embed.max_tokens = {self.max_tokens:,}")
        if self.sentence.alone:
            said.append(
                f"one text at a time, as vectors of {self.sentence.model_type} depend on the padding of a batch"
            )
        if cut := self.sentence.untrained_width(self.options.dimensions):
            said.append(cut)
        return "; ".join(said)

    def resources(self) -> StageResources:
        """The memory of the weights; a GPU as the provider says, ``auto`` where onnxruntime can use one."""
        memory = _WORKER_BYTES + 2 * sum(path.stat().st_size for path in self.graph().files)
        if self.options.provider == "auto":
            able = package_version("onnxruntime-gpu") is not None
            return StageResources(gpus="auto" if able else None, memory=memory)
        return StageResources(gpus=1 if self.options.provider == "cuda" else 0, memory=memory)

    def open(self, device: str = "cpu") -> OnnxEmbedder:
        """Load the graph."""
        return self._opened(self.graph(), device)

    def _opened(self, graph: Graph, device: str) -> OnnxEmbedder:
        return OnnxEmbedder(
            graph,
            self.sentence,
            self.reading,
            dimensions=self.options.dimensions,
            batch_tokens=1 if self.sentence.alone else self.options.batch_tokens,
            provider=self.options.provider,
            device=device,
        )

    def check(self, texts: Sequence[str], device: str = "cpu") -> Mapping[str, Any]:
        """Compare int8 with fp32 on some of the documents: see :func:`latentscale.embedders.int8_check.verdict`."""
        try:
            name = self.reference_file()
        except ConfigError as error:
            if not self.options.force:
                raise
            return {"rows": 0, "forced": True, "summary": f"int8 is used unchecked: {error.message}"}
        opened = self.open(device)
        found = opened.embed(texts)
        wanted = self._opened(self.graph(name, "fp32"), device).embed(texts)
        both = found.embeddable & wanted.embeddable
        measured = measure_agreement(found.vectors[both], wanted.vectors[both])
        return {**verdict(measured, force=self.options.force), "provider": opened.provider}


def split_path(path: Path) -> tuple[str, str]:
    """The folder of a model and the name in it of an ONNX file, by where its tokenizer is.

    Raises
    ------
    ConfigError
        If there is no such file, or no tokenizer beside it or one folder above.
    """
    if not path.is_file():
        raise ConfigError(
            f"there is no ONNX file {path}", where="embed.model", hint="Check the path, or give the model's folder."
        )
    for folder in (path.absolute().parent, path.absolute().parent.parent):
        if (folder / "tokenizer.json").is_file():
            return str(folder), path.absolute().relative_to(folder).as_posix()
    raise ConfigError(
        f"there is no tokenizer.json beside {path}, nor one folder above",
        where="embed.model",
        hint="Put the model's tokenizer.json and config.json there, or give the folder that has them.",
    )


def _prompt(sentence: SentenceFolder, given: str | None, said: str) -> str:
    """A prompt: by one of the model's names, a text, or what the files say."""
    return said if given is None else sentence.prompts.get(given, given)


def _check_width(options: OnnxOptions, width: int) -> None:
    asked = options.dimensions
    if asked is None:
        return
    if asked > width:
        raise ConfigError(
            f"embed.options.dimensions is {asked:,}, and the model has {width:,}",
            where="embed.options.dimensions",
            hint="Ask for fewer.",
        )
