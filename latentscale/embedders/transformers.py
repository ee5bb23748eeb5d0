"""Spec of a sentence encoder in torch: a model of the Hugging Face hub, or a folder."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from latentscale.config import EmbedConfig, Settings, StageResources
from latentscale.embedders.encoder.embedder import BATCH_TOKENS, EncoderEmbedder
from latentscale.embedders.encoder.feed import Feed
from latentscale.embedders.encoder.precision import Precision, PrecisionSetting, resolve_precision
from latentscale.embedders.encoder.weights import INDEX, WEIGHTS, check_weights, weight_files
from latentscale.embedders.sentence_folder import (
    Normalize,
    SentenceFolder,
    check_modules,
    is_sentence_folder,
    read_sentence_folder,
)
from latentscale.embedders.spec import EmbedderSpec, options_of
from latentscale.embedders.tokens import TextTokenizer, lower
from latentscale.errors import ConfigError
from latentscale.machine import Place, gpus
from latentscale.models.hub import (
    DEFAULT_PATTERNS,
    ModelFolder,
    content_digest,
    fetch_model,
    is_model_id,
    model_description,
    resolve_model,
)
from latentscale.registry import EMBEDDERS

Pooling = Literal["cls", "max", "mean", "mean_sqrt_len_tokens", "weightedmean", "lasttoken"]
_TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json")
_VOCABULARIES = ("vocab.txt", "vocab.json", "merges.txt", "*.model")
# Memory in addition to the weights: torch, transformers, a portion of texts and a batch.
_WORKER_BYTES = 1_500_000_000
_TOKENIZER_PROCESS_BYTES = 200_000_000


class TransformersOptions(Settings):
    """``embed.options`` of the kind ``transformers``."""

    revision: str | None = None
    """Commit, branch or tag of a hub id; by default the cached main. The commit is recorded."""
    trust_remote_code: bool = False
    """Run code of the repository; requires `revision`."""
    pooling: Pooling | None = None
    """Pooling, for a model whose files do not state it; otherwise overrides them."""
    document_prompt: str | None = None
    """The name of one of the model's prompts, or a text, put before each document; "" for none."""
    query_prompt: str | None = None
    """The same for search queries."""
    dimensions: Annotated[int, Field(ge=1)] | None = None
    """Truncate vectors to this many dimensions, for a Matryoshka model."""
    precision: PrecisionSetting = "auto"
    """`auto` is fp32 on CPUs and bf16 on GPUs that support it."""
    attention: str = "auto"
    """Attention implementation: `auto`, `sdpa`, `eager`, `flash_attention_2` or another one of transformers."""
    compile: bool = False
    """Compile the model with torch.compile: takes minutes at the start, and is faster afterwards."""
    long: Literal["truncate", "chunk"] = "truncate"
    """For a text over the token limit: truncate it, or average windows over all of it, weighted by their tokens."""
    overlap: Annotated[int, Field(ge=0)] | None = None
    """Tokens shared by consecutive windows; by default an eighth of the window."""
    batch_tokens: Annotated[int, Field(ge=1)] | None = None
    """Maximum tokens of a batch; by default 4,096 on CPUs and 65,536 on a GPU."""
    tokenizer_processes: Annotated[int, Field(ge=0, le=64)] | None = None
    """Tokenizer processes of each worker; by default up to three for a GPU, and none on CPUs."""

    @model_validator(mode="after")
    def _agree(self) -> TransformersOptions:
        if self.trust_remote_code and self.revision is None:
            raise ValueError("trust_remote_code needs the revision of the code that is trusted")
        if self.overlap is not None and self.long != "chunk":
            raise ValueError("overlap is for long: chunk")
        return self


class TransformersSpec(EmbedderSpec):
    """A sentence encoder in torch: a folder, or a hub id with a commit."""

    deterministic = False
    """Results differ in the last bits between batches, devices and versions of torch."""

    kind: Literal["transformers"] = "transformers"
    folder: str | None = None
    """Model folder on the machine that made the spec; None for a hub model."""
    model: str | None = None
    """Hub id, which each machine resolves in its own cache."""
    revision: str | None = None
    """Commit of ``model``."""
    trust_remote_code: bool = False
    pooling: tuple[str, ...]
    document_prompt: str = ""
    document_prompt_name: str = ""
    """Name of the prompt in the model's files; empty for a text from the settings, or none."""
    query_prompt: str = ""
    cut: int | None = None
    """Width that vectors are truncated to; None for the model's."""
    max_tokens: Annotated[int, Field(ge=1)] = 512
    """As in the settings; the model's own limit may be lower."""
    precision: PrecisionSetting = "auto"
    attention: str = "auto"
    compile: bool = False
    long: Literal["truncate", "chunk"] = "truncate"
    overlap: int = 0
    batch_tokens: int | None = None
    tokenizer_processes: int | None = None

    @classmethod
    def recognizes(cls, model: str) -> bool:
        """Accept a sentence encoder if torch is installed, or if ``onnx`` cannot run the model here."""
        if is_model_id(model):
            path = model_description(model)
        elif Path(model).is_dir():
            path = Path(model)
        else:
            return False
        if not is_sentence_folder(path):
            return False
        # An exported folder has a graph instead of weights.
        usable = is_model_id(model) or any(path.glob("*.safetensors")) or any(path.glob("0_*/*.safetensors"))
        return (usable and find_spec("torch") is not None) or not _onnx_can(model)

    @classmethod
    def from_settings(cls, config: EmbedConfig, *, vectors_column: str | None) -> Self:
        """Resolve ``embed.model``, and validate its small files and the headers of its weights."""
        options = options_of(config, TransformersOptions)
        if config.model == "transformers":
            raise ConfigError(
                "embed.model is 'transformers', which is a kind of model, not a model",
                where="embed.model",
                hint="Name a folder or an id: --set embed.model=sentence-transformers/all-MiniLM-L6-v2.",
            )
        resolved = _resolve(config.model, options.revision, code=options.trust_remote_code)
        folder = read_sentence_folder(resolved.path)
        _check_folder(folder, options)
        name, prompt = _prompt(folder, options.document_prompt, folder.document_prompt_name, folder.document_prompt)
        spec = cls(
            folder=str(resolved.path) if resolved.source == "folder" else None,
            model=resolved.name if resolved.source == "hub" else None,
            revision=resolved.revision,
            trust_remote_code=options.trust_remote_code,
            pooling=(options.pooling,) if options.pooling else folder.pooling,
            document_prompt=prompt,
            document_prompt_name=name,
            query_prompt=_prompt(folder, options.query_prompt, "", folder.query_prompt)[1],
            cut=options.dimensions,
            max_tokens=config.max_tokens,
            precision=options.precision,
            attention=options.attention,
            compile=options.compile,
            long=options.long,
            batch_tokens=options.batch_tokens,
            tokenizer_processes=options.tokenizer_processes,
        )
        if options.long == "truncate":
            return spec
        overlap = spec.token_limit // 8 if options.overlap is None else options.overlap
        return spec.model_copy(update={"overlap": overlap})

    @property
    def path(self) -> Path:
        """Folder of the model on this machine; a hub model is downloaded if it is not cached."""
        if self.model is None:
            return Path(str(self.folder))
        return _resolve(self.model, self.revision, code=self.trust_remote_code).path

    @property
    def name(self) -> str:
        """Hub id, or name of the folder."""
        return self.model or self.path.name

    @property
    def dimensions(self) -> int:
        """Width of the vectors."""
        return self.cut or _width(read_sentence_folder(self.path), self.pooling)

    @property
    def token_limit(self) -> int:
        """Maximum number of tokens of a text or window: the lower of the setting and the model's limit."""
        return min(self.max_tokens, read_sentence_folder(self.path).max_seq_length or self.max_tokens)

    @property
    def settled(self) -> Precision:
        """Precision; ``auto`` is resolved for this machine."""
        return resolve_precision(self.precision, gpus() if self.precision == "auto" else ())

    def identity(self) -> Mapping[str, Any]:
        """Return all that alters the vectors: bytes of the model, settings and precision; never a path.

        Attention implementation, compilation, batches and device are not included: they only change rounding, by less
        than the precision itself (docs/decisions/0005-models-and-embedding.md).
        """
        folder = read_sentence_folder(self.path)
        return {
            "embedder": "transformers",
            "version": 1,
            "model": content_digest(self.path, _identity_files(folder, code=self.trust_remote_code)),
            "modules": list(folder.modules),
            "pooling": list(self.pooling),
            "include_prompt": folder.include_prompt,
            "lower_case": folder.do_lower_case,
            "prompt": self.document_prompt,
            "max_tokens": self.token_limit,
            "long": self.long,
            "overlap": self.overlap,
            "dim": self.dimensions,
            "precision": self.settled,
            "normalisation": "l2",
        } | folder.batch_identity

    def settle(self, place: Callable[[], Place]) -> Self:
        """Return this spec with the precision that ``auto`` means where the model will run."""
        if self.precision != "auto":
            return self
        return self.model_copy(update={"precision": resolve_precision("auto", place().gpus)})

    def settled_options(self) -> Mapping[str, Any]:
        """Return the precision, and the commit of a hub model."""
        return {"precision": self.precision} | ({"revision": self.revision} if self.revision else {})

    def resources(self) -> StageResources:
        """Return an optional GPU, and memory for the weights and the tokenizer processes named in the settings."""
        parameters = check_weights(read_sentence_folder(self.path))
        bytes_per_parameter = 4 if self.settled == "fp32" else 2
        memory = _WORKER_BYTES + int(1.2 * bytes_per_parameter * parameters)
        memory += _TOKENIZER_PROCESS_BYTES * (self.tokenizer_processes or 0)
        return StageResources(gpus="auto", memory=memory)

    def notice(self, languages: Mapping[str, int]) -> str | None:
        """Report what was chosen for the user: prompt, precision, token limit."""
        prompt = f"the prompt {self.document_prompt!r}" if self.document_prompt else "no prompt"
        named = f" ({self.document_prompt_name})" if self.document_prompt_name else ""
        chosen = f"{self.name} in {self.settled} with {prompt}{named} before each text"
        notes = read_sentence_folder(self.path).notes(
            token_limit=self.token_limit, max_tokens=self.max_tokens, long=self.long, width=self.dimensions
        )
        return "; ".join([chosen, *notes])

    def open(self, device: str = "cpu") -> EncoderEmbedder:
        """Load the model onto the device."""
        from latentscale.embedders.encoder.loading import LoadSettings, check_place, load_tokenizer
        from latentscale.embedders.encoder.model import SentenceModel
        from latentscale.embedders.encoder.tokenizer_processes import processes_for, processes_for_tokenizer

        folder = read_sentence_folder(self.path)
        check_weights(folder)
        loading = LoadSettings(
            device=device,
            precision=resolve_precision(self.precision, gpus() if device.startswith("cuda") else ()),
            attention=self.attention,
            compile=self.compile,
            trust_remote_code=self.trust_remote_code,
            pooling=self.pooling,
            cut=self.cut,
        )
        check_place(folder, loading)
        compiled, padding = load_tokenizer(folder, trusted=self.trust_remote_code)
        if folder.do_lower_case:
            lower(compiled)

        def feed(prompt: str, processes: int = 0) -> Feed:
            options: dict[str, Any] = {"limit": self.token_limit, "prompt": prompt}
            options |= {"long": self.long, "overlap": self.overlap}
            tokenizer = TextTokenizer(compiled, **options)
            return Feed(
                tokenizer,
                limit=folder.max_seq_length or self.max_tokens,
                # GPU matrix units need widths that are multiples of eight; on CPUs padding only costs time.
                multiple=8 if device.startswith("cuda") and not folder.depends_on_padding else 1,
                padding=padding,
                skipped=0 if folder.include_prompt or not prompt else tokenizer.prompt_tokens,
                processes=processes_for_tokenizer(compiled, options, processes),
            )

        # Queries are too few to need tokenizer processes.
        documents = feed(self.document_prompt, processes_for(device, self.tokenizer_processes))
        queries = feed(self.query_prompt)
        return EncoderEmbedder(
            SentenceModel(folder, loading),
            documents=documents,
            queries=queries,
            dimensions=self.dimensions,
            batch_tokens=1
            if folder.depends_on_padding
            else self.batch_tokens or BATCH_TOKENS[device.partition(":")[0]],
        )


def _resolve(model: str, revision: str | None, *, code: bool) -> ModelFolder:
    """Resolve a model; its code is downloaded only if trusted."""
    patterns = (*DEFAULT_PATTERNS, "*.py") if code else DEFAULT_PATTERNS
    resolved = resolve_model(model, revision=revision, patterns=patterns)
    if code and not any(resolved.path.rglob("*.py")):
        return fetch_model(model, revision=resolved.revision, patterns=patterns)
    return resolved


def _onnx_can(model: str) -> bool:
    """Whether the kind ``onnx`` can run here, and the model may have a file for it: true for any hub model."""
    if "onnx" not in EMBEDDERS or find_spec("onnxruntime") is None:
        return False
    return is_model_id(model) or any(Path(model).rglob("*.onnx"))


def _check_folder(folder: SentenceFolder, options: TransformersOptions) -> None:
    """Reject models that cannot work, by their small files and the headers of the weights."""
    check_weights(folder)
    check_modules(folder)
    if folder.own_code and not options.trust_remote_code and not _known_to_transformers(folder.model_type):
        raise ConfigError(
            f"{folder.path.name} needs code of its repository ({folder.own_code[0]})",
            where="embed.model",
            hint="Read that code, then set embed.options.revision to the commit and embed.options.trust_remote_code.",
        )
    if not folder.pooling and options.pooling is None:
        raise ConfigError(
            f"{folder.path.name} does not say how its tokens become one vector: it has no modules.json with a pooling",
            where="embed.options.pooling",
            hint="Set embed.options.pooling as its model card says: mean or cls for most encoders, lasttoken for most "
            "decoders.",
        )
    pooling = (options.pooling,) if options.pooling else folder.pooling
    input_width = folder.dense[0].in_features if folder.dense else None
    if input_width is not None and input_width != folder.hidden * len(pooling):
        raise ConfigError(
            f"pooling {', '.join(pooling)} gives {folder.hidden * len(pooling)} numbers, and the layer after it takes "
            f"{input_width}",
            where="embed.options.pooling",
            hint=f"Leave it out: the model's own is {', '.join(folder.pooling)}.",
        )
    width = _width(folder, pooling)
    if options.dimensions is not None and options.dimensions > width:
        trained_widths = (
            f" It was trained to be cut to {', '.join(map(str, folder.matryoshka))}." if folder.matryoshka else ""
        )
        raise ConfigError(
            f"{folder.path.name} has vectors of {width} numbers, fewer than {options.dimensions}",
            where="embed.options.dimensions",
            hint=f"Use at most {width}.{trained_widths}",
        )


def _known_to_transformers(model_type: str) -> bool:
    """Whether the installed transformers supports a model type, judged by its folder: importing it takes seconds."""
    spec = find_spec("transformers")
    folders = (spec.submodule_search_locations or []) if spec else []
    return any((Path(folder) / "models" / model_type.replace("-", "_")).is_dir() for folder in folders)


def _prompt(folder: SentenceFolder, setting: str | None, name: str, text: str) -> tuple[str, str]:
    """Return name and text of a prompt: from the setting (a name in the model, or a text), else from the files."""
    if setting is None:
        return name, text
    return (setting, folder.prompts[setting]) if setting in folder.prompts else ("", setting)


def _width(folder: SentenceFolder, pooling: tuple[str, ...]) -> int:
    return folder.dimensions if folder.dense else folder.hidden * len(pooling)


def _identity_files(folder: SentenceFolder, *, code: bool) -> list[str]:
    """List the files whose bytes alter vectors, relative to the model's folder."""
    paths = weight_files(folder.encoder)
    encoder_files = [folder.encoder / name for name in ("config.json", INDEX, *_TOKENIZER_FILES)]
    encoder_files += [path for pattern in _VOCABULARIES for path in folder.encoder.glob(pattern)]
    paths += [path for path in encoder_files if path.is_file()]
    for head in folder.heads:
        if not isinstance(head, Normalize):
            paths += [head.folder / name for name in ("config.json", WEIGHTS)]
    paths += sorted(folder.path.rglob("*.py")) if code else []
    return sorted({path.relative_to(folder.path).as_posix() for path in paths})
