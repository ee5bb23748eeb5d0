"""Any sentence encoder of the Hugging Face hub, or a folder with one, computed by torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from latentscale.config import EmbedConfig, Settings, StageResources
from latentscale.embedders.encoder.embedder import BATCH_TOKENS, EncoderEmbedder
from latentscale.embedders.encoder.feed import Feed
from latentscale.embedders.encoder.precision import AskedPrecision, Precision, settled_precision
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
# Beside the weights: torch, transformers, a portion of texts and a batch.
_WORKER_BYTES = 1_500_000_000


class TransformersOptions(Settings):
    """``embed.options`` of the kind ``transformers``."""

    revision: str | None = None
    """Commit, branch or tag of a hub id; by default what the cache calls main. The commit is recorded."""
    trust_remote_code: bool = False
    """Run code of the repository; only together with `revision`."""
    pooling: Pooling | None = None
    """For a model whose files do not say how to pool; also instead of what they say."""
    document_prompt: str | None = None
    """The name of one of the model's prompts, or a text, that stands before each document; "" for none."""
    query_prompt: str | None = None
    """The same for queries of a search."""
    dimensions: Annotated[int, Field(ge=1)] | None = None
    """Keep only the first numbers of each vector, for a Matryoshka model."""
    precision: AskedPrecision = "auto"
    """`auto` is fp32 on processors and bf16 on GPUs that compute with it."""
    attention: str = "auto"
    """How attention is computed: `auto`, `sdpa`, `eager`, `flash_attention_2` and others that transformers knows."""
    compile: bool = False
    """Compile the model with torch.compile: minutes at the start, faster after."""
    long: Literal["truncate", "chunk"] = "truncate"
    """A text that is longer than the model takes: cut it, or average windows over all of it by their tokens."""
    overlap: Annotated[int, Field(ge=0)] | None = None
    """Tokens that a window shares with the one before it; by default an eighth of the window."""
    batch_tokens: Annotated[int, Field(ge=1)] | None = None
    """Tokens of a batch at most; by default 4,096 on processors and 65,536 on a GPU."""
    tokenizer_processes: Annotated[int, Field(ge=0, le=64)] | None = None
    """Processes that tokenise beside each worker; by default up to three for a GPU, and none on processors."""

    @model_validator(mode="after")
    def _agree(self) -> TransformersOptions:
        if self.trust_remote_code and self.revision is None:
            raise ValueError("trust_remote_code needs the revision of the code that is trusted")
        if self.overlap is not None and self.long != "chunk":
            raise ValueError("overlap is for long: chunk")
        return self


class TransformersSpec(EmbedderSpec):
    """A sentence encoder in torch: by its folder, or by its id on the hub and the commit."""

    deterministic = False
    """Batches, devices and versions of torch change the last bits."""

    kind: Literal["transformers"] = "transformers"
    folder: str | None = None
    """On the machine that made the spec; None for a model of the hub."""
    model: str | None = None
    """Id on the hub, which each machine resolves in its own cache."""
    revision: str | None = None
    """The commit of ``model``."""
    trust_remote_code: bool = False
    pooling: tuple[str, ...]
    document_prompt: str = ""
    document_prompt_name: str = ""
    """Name of the prompt in the model's files; empty for a text of the user's, or none."""
    query_prompt: str = ""
    cut: int | None = None
    """Numbers that are kept of each vector; None for all."""
    max_tokens: Annotated[int, Field(ge=1)] = 512
    """As the settings have it; the model may take fewer."""
    precision: AskedPrecision = "auto"
    attention: str = "auto"
    compile: bool = False
    long: Literal["truncate", "chunk"] = "truncate"
    overlap: int = 0
    batch_tokens: int | None = None
    tokenizer_processes: int | None = None

    @classmethod
    def recognizes(cls, model: str) -> bool:
        """Accept a sentence encoder, where torch is installed or nothing else here could run it."""
        if is_model_id(model):
            path = model_description(model)
        elif Path(model).is_dir():
            path = Path(model)
        else:
            return False
        if not is_sentence_folder(path):
            return False
        # A folder that was exported has a graph in place of the weights.
        usable = is_model_id(model) or any(path.glob("*.safetensors")) or any(path.glob("0_*/*.safetensors"))
        return (usable and find_spec("torch") is not None) or not _onnx_can(model)

    @classmethod
    def from_settings(cls, config: EmbedConfig, *, vectors_column: str | None) -> Self:
        """The model that ``embed.model`` names, checked as far as its small files and the headers of its weights go."""
        options = options_of(config, TransformersOptions)
        if config.model == "transformers":
            raise ConfigError(
                "embed.model is 'transformers', which is a kind of model and no model",
                where="embed.model",
                hint="Name a folder or an id: --set embed.model=sentence-transformers/all-MiniLM-L6-v2.",
            )
        found = _resolved(config.model, options.revision, code=options.trust_remote_code)
        folder = read_sentence_folder(found.path)
        _check_folder(folder, options)
        name, document = _prompt(folder, options.document_prompt, folder.document_prompt_name, folder.document_prompt)
        spec = cls(
            folder=str(found.path) if found.source == "folder" else None,
            model=found.name if found.source == "hub" else None,
            revision=found.revision,
            trust_remote_code=options.trust_remote_code,
            pooling=(options.pooling,) if options.pooling else folder.pooling,
            document_prompt=document,
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
        """Folder of the model on this machine; one of the hub is fetched if it is not in the cache."""
        if self.model is None:
            return Path(str(self.folder))
        return _resolved(self.model, self.revision, code=self.trust_remote_code).path

    @property
    def name(self) -> str:
        """The id on the hub, or the folder's name."""
        return self.model or self.path.name

    @property
    def dimensions(self) -> int:
        """Width of the vectors."""
        return self.cut or _width(read_sentence_folder(self.path), self.pooling)

    @property
    def token_limit(self) -> int:
        """Maximum number of tokens of a text, or of a window of it: the setting, or what the model takes if less."""
        return min(self.max_tokens, read_sentence_folder(self.path).max_seq_length or self.max_tokens)

    @property
    def settled(self) -> Precision:
        """The precision; ``auto`` is decided by this machine."""
        return settled_precision(self.precision, gpus() if self.precision == "auto" else ())

    def identity(self) -> Mapping[str, Any]:
        """Everything that alters the vectors: bytes of the model, never its path, the settings and the precision.

        How attention is computed, compilation, batches and the device are no part of it: they compute the same numbers
        and round differently, by less than the precision itself (docs/decisions/0005-models-and-embedding.md).
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
        }

    def settle(self, place: Callable[[], Place]) -> Self:
        """With the precision that ``auto`` means where the model will run."""
        if self.precision != "auto":
            return self
        return self.model_copy(update={"precision": settled_precision("auto", place().gpus)})

    def settled_options(self) -> Mapping[str, Any]:
        """The precision, and the commit of a model of the hub."""
        return {"precision": self.precision} | ({"revision": self.revision} if self.revision else {})

    def resources(self) -> StageResources:
        """A GPU where there is any; memory for the weights."""
        numbers = check_weights(read_sentence_folder(self.path))
        size = 4 if self.settled == "fp32" else 2
        memory = _WORKER_BYTES + int(1.2 * size * numbers)
        return StageResources(gpus="auto", memory=memory)

    def notice(self, languages: Mapping[str, int]) -> str | None:
        """What was decided for the user: prompt, precision, length."""
        prompt = f"the prompt {self.document_prompt!r}" if self.document_prompt else "no prompt"
        named = f" ({self.document_prompt_name})" if self.document_prompt_name else ""
        said = [f"{self.name} in {self.settled} with {prompt}{named} before each text"]
        if self.token_limit < self.max_tokens:
            what = "tokens of a text" if self.long == "truncate" else "tokens at a time"
            said.append(f"it takes {self.token_limit:,} {what}, fewer than embed.max_tokens = {self.max_tokens:,}")
        folder = read_sentence_folder(self.path)
        if folder.alone:
            said.append(f"one text at a time, as vectors of {folder.model_type} depend on the padding of a batch")
        if cut := folder.untrained_width(self.dimensions):
            said.append(cut)
        return "; ".join(said)

    def open(self, device: str = "cpu") -> EncoderEmbedder:
        """Load the model onto the device."""
        from latentscale.embedders.encoder.loading import Loading, check_place, load_tokenizer
        from latentscale.embedders.encoder.model import SentenceModel
        from latentscale.embedders.encoder.tokenizer_processes import processes_for, processes_for_tokenizer

        folder = read_sentence_folder(self.path)
        check_weights(folder)
        loading = Loading(
            device=device,
            precision=settled_precision(self.precision, gpus() if device.startswith("cuda") else ()),
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
                # The matrix units of GPUs take eight at a time; a processor only computes the padding.
                multiple=8 if device.startswith("cuda") and not folder.alone else 1,
                padding=padding,
                skipped=0 if folder.include_prompt or not prompt else tokenizer.prompt_tokens,
                processes=processes_for_tokenizer(compiled, options, processes),
            )

        # Queries are few.
        documents = feed(self.document_prompt, processes_for(device, self.tokenizer_processes))
        queries = feed(self.query_prompt)
        return EncoderEmbedder(
            SentenceModel(folder, loading),
            documents=documents,
            queries=queries,
            dimensions=self.dimensions,
            batch_tokens=1 if folder.alone else self.batch_tokens or BATCH_TOKENS[device.partition(":")[0]],
        )


def _resolved(model: str, revision: str | None, *, code: bool) -> ModelFolder:
    """The folder of a model; with its code where that is trusted, which is fetched for no other."""
    patterns = (*DEFAULT_PATTERNS, "*.py") if code else DEFAULT_PATTERNS
    found = resolve_model(model, revision=revision, patterns=patterns)
    if code and not any(found.path.rglob("*.py")):
        return fetch_model(model, revision=found.revision, patterns=patterns)
    return found


def _onnx_can(model: str) -> bool:
    """Whether the kind ``onnx`` can run here and this model may have a file for it; of the hub, it looks itself."""
    if "onnx" not in EMBEDDERS or find_spec("onnxruntime") is None:
        return False
    return is_model_id(model) or any(Path(model).rglob("*.onnx"))


def _check_folder(folder: SentenceFolder, options: TransformersOptions) -> None:
    """Refuse what the small files and the headers of the weights show."""
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
    first = folder.dense[0].in_features if folder.dense else None
    if first is not None and first != folder.hidden * len(pooling):
        raise ConfigError(
            f"pooling {', '.join(pooling)} gives {folder.hidden * len(pooling)} numbers, and the layer after it takes "
            f"{first}",
            where="embed.options.pooling",
            hint=f"Leave it out: the model's own is {', '.join(folder.pooling)}.",
        )
    width = _width(folder, pooling)
    if options.dimensions is not None and options.dimensions > width:
        widths = f" It was trained to be cut to {', '.join(map(str, folder.matryoshka))}." if folder.matryoshka else ""
        raise ConfigError(
            f"{folder.path.name} has vectors of {width} numbers, fewer than {options.dimensions}",
            where="embed.options.dimensions",
            hint=f"Use at most {width}.{widths}",
        )


def _known_to_transformers(model_type: str) -> bool:
    """Whether the transformers that is installed has this model, by its folder: importing it takes seconds."""
    found = find_spec("transformers")
    places = (found.submodule_search_locations or []) if found else []
    return any((Path(place) / "models" / model_type.replace("-", "_")).is_dir() for place in places)


def _prompt(folder: SentenceFolder, given: str | None, name: str, text: str) -> tuple[str, str]:
    """Name and text of a prompt: of the setting, which is one of the model's names or a text, or what the files say."""
    if given is None:
        return name, text
    return (given, folder.prompts[given]) if given in folder.prompts else ("", given)


def _width(folder: SentenceFolder, pooling: tuple[str, ...]) -> int:
    return folder.dimensions if folder.dense else folder.hidden * len(pooling)


def _identity_files(folder: SentenceFolder, *, code: bool) -> list[str]:
    """Files whose bytes alter a vector, relative to the model's folder."""
    paths = weight_files(folder.encoder)
    inner = [folder.encoder / name for name in ("config.json", INDEX, *_TOKENIZER_FILES)]
    inner += [path for pattern in _VOCABULARIES for path in folder.encoder.glob(pattern)]
    paths += [path for path in inner if path.is_file()]
    for head in folder.heads:
        if not isinstance(head, Normalize):
            paths += [head.folder / name for name in ("config.json", WEIGHTS)]
    paths += sorted(folder.path.rglob("*.py")) if code else []
    return sorted({path.relative_to(folder.path).as_posix() for path in paths})
