"""Read the configuration of a sentence encoder: modules, pooling, prompts, lengths and widths; no weights, no torch.

Supports the old and the new layout of sentence-transformers: ``modules.json`` lists the modules in order, each of which
has a folder with its settings, and ``config_sentence_transformers.json`` contains the prompts. A folder without
``modules.json`` is a plain encoder: its pooling is unknown, and is not guessed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from latentscale.embedders.model_folder import MODULES
from latentscale.embedders.model_json import is_mapping, is_positive_int, read_json, read_object, refusal
from latentscale.errors import ConfigError

POOLING = ("cls", "max", "mean", "mean_sqrt_len_tokens", "weightedmean", "lasttoken")
"""Pooling modes, as named by sentence-transformers."""

# In the order of concatenation in sentence-transformers.
_OLD_POOLING = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}
_LENGTH_FILES = (
    "sentence_bert_config.json",
    "sentence_roberta_config.json",
    "sentence_distilbert_config.json",
    "sentence_camembert_config.json",
    "sentence_albert_config.json",
    "sentence_xlm-roberta_config.json",
    "sentence_xlnet_config.json",
)
_WIDTHS = ("hidden_size", "d_model", "dim", "n_embd", "embed_dim")
# Models whose position ids start after the padding token id.
_POSITIONS_AFTER_PADDING = frozenset(
    ("camembert", "data2vec-text", "esm", "ibert", "longformer", "luke", "mluke", "mpnet", "roberta", "xlm-roberta")
) | {"roberta-prelayernorm", "xlm-roberta-xl", "xmod"}
# Models with convolutions, Fourier transforms or landmarks over all positions, padding included.
_DEPENDS_ON_PADDING = frozenset(["convbert", "fnet", "nystromformer"])
# Models with relative positions: the number in their configuration is not a limit.
_RELATIVE_POSITIONS = frozenset(["t5", "mt5", "umt5", "xlnet"])
_DOCUMENT_PROMPTS = ("clustering", "document", "passage", "corpus")
# transformers writes a value of at least this for a tokenizer without limit.
_NO_LIMIT = 1_000_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Dense:
    """A linear layer on the pooled vector.

    Attributes
    ----------
    folder : Path
        Has ``model.safetensors`` with ``linear.weight``, of shape (out_features, in_features), and ``linear.bias``.
    in_features, out_features : int
    bias : bool
    activation : str
        Name of a class in ``torch.nn``, such as ``Tanh`` or ``Identity``.
    residual : bool
        Whether the input is added to the output, projected by ``residual.weight`` if the widths differ.
    """

    folder: Path
    in_features: int
    out_features: int
    bias: bool = True
    activation: str = "Tanh"
    residual: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerNorm:
    """Layer normalisation of the pooled vector, with ``norm.weight`` and ``norm.bias`` of ``width`` in ``folder``."""

    folder: Path
    width: int


@dataclass(frozen=True, slots=True)
class Normalize:
    """L2 normalisation."""


Head = Dense | LayerNorm | Normalize


@dataclass(frozen=True, slots=True, kw_only=True)
class SentenceFolder:
    """Configuration of a sentence encoder.

    Attributes
    ----------
    path, encoder : Path
        The model folder, and the folder with the encoder's ``config.json``, weights and tokenizer: often the same.
    config : mapping
        The encoder's ``config.json``.
    modules : tuple of str
        Class names of the modules in order; empty for a plain encoder.
    pooling : tuple of str
        Modes of ``POOLING``; several are concatenated. Empty if unknown.
    include_prompt : bool
        Whether the tokens of a prompt take part in the pooling.
    heads : tuple of Dense, LayerNorm or Normalize
        Layers after the pooling, in order.
    hidden, dimensions : int
        Width of token vectors, and of the resulting vectors.
    max_seq_length : int or None
        Maximum number of tokens of a text, including special tokens; None without a limit.
    do_lower_case : bool
    prompts : mapping of str to str
    default_prompt : str
        Prompt of texts without a prompt name; empty for none.
    document_prompt_name, document_prompt, query_prompt : str
        For documents the first existing prompt of ``clustering``, ``document``, ``passage`` and ``corpus``, else the
        default; for queries ``query``, else the default. Name and text are empty for none.
    matryoshka : tuple of int
        Widths that vectors may be truncated to; empty if not stated.
    own_code : tuple of str
        Parts that require code of the repository: ``auto_map`` in the configuration, or modules of other packages.
    """

    path: Path
    encoder: Path
    config: Mapping[str, Any]
    modules: tuple[str, ...] = ()
    pooling: tuple[str, ...] = ()
    include_prompt: bool = True
    heads: tuple[Head, ...] = ()
    hidden: int
    dimensions: int
    max_seq_length: int | None = None
    do_lower_case: bool = False
    prompts: Mapping[str, str] = field(default_factory=dict[str, str])
    default_prompt: str = ""
    document_prompt_name: str = ""
    document_prompt: str = ""
    query_prompt: str = ""
    matryoshka: tuple[int, ...] = ()
    own_code: tuple[str, ...] = ()

    @property
    def model_type(self) -> str:
        """Model type, as named by transformers."""
        return str(self.config.get("model_type", ""))

    @property
    def depends_on_padding(self) -> bool:
        """Whether texts are computed one at a time: the vectors of this family depend on the padding of a batch."""
        return self.model_type in _DEPENDS_ON_PADDING

    @property
    def batch_identity(self) -> dict[str, Any]:
        """What batches add to an embedding's identity: nothing for a family whose vectors do not depend on them."""
        return {"batch": "one text"} if self.depends_on_padding else {}

    def notes(self, *, token_limit: int, max_tokens: int, long: str, width: int) -> list[str]:
        """Return sentences for the user on how texts are read: a lower token limit than asked for, batches, width.

        Parameters
        ----------
        token_limit, max_tokens : int
            Tokens of a text, or of a window of it: the number used, and ``embed.max_tokens``.
        long : str
            ``truncate`` or ``chunk``.
        width : int
            Width of the vectors.
        """
        notes: list[str] = []
        if token_limit < max_tokens:
            limit = "tokens of a text" if long == "truncate" else "tokens at a time"
            notes.append(f"it takes {token_limit:,} {limit}, fewer than embed.max_tokens = {max_tokens:,}")
        if self.depends_on_padding:
            notes.append(f"one text at a time, as vectors of {self.model_type} depend on the padding of a batch")
        if self.matryoshka and width not in (*self.matryoshka, self.dimensions):
            trained = ", ".join(map(str, self.matryoshka))
            notes.append(f"its vectors are cut to {width:,} numbers, and it was trained to be cut to {trained}")
        return notes

    @property
    def normalise(self) -> bool:
        """Whether the model's last module is L2 normalisation."""
        return bool(self.heads) and isinstance(self.heads[-1], Normalize)

    @property
    def dense(self) -> tuple[Dense, ...]:
        """The linear layers among ``heads``."""
        return tuple(head for head in self.heads if isinstance(head, Dense))


def is_sentence_folder(path: Path) -> bool:
    """Whether a folder contains an encoder: its first module is a transformer, or its configuration has a model type.

    True for a folder with damaged ``modules.json``, so that reading it reports the reason.
    """
    modules = path / MODULES
    if modules.is_file():
        try:
            return _kind(_modules(path)[0]) == "Transformer"
        except (ConfigError, IndexError):
            return True
    try:
        config = read_object(path / "config.json")
    except ConfigError:
        return False
    return "model_type" in config and config["model_type"] != "model2vec"


def read_sentence_folder(path: Path) -> SentenceFolder:
    """Read the configuration of a sentence encoder.

    Parameters
    ----------
    path : Path
        Folder of a sentence-transformers model, or of a plain encoder of transformers.

    Raises
    ------
    ConfigError
        If a file is missing, unreadable, or requires something unsupported; the message names the file.
    """
    if not path.is_dir():
        raise ConfigError(
            f"there is no model folder {path}",
            where="embed.model",
            hint="Put the model back there; a map is searched and updated with the model that it was made with.",
        )
    modules = _modules(path) if (path / MODULES).is_file() else []
    kinds = tuple(map(_kind, modules))
    _check_order(path, kinds)
    encoder = _subfolder(path, str(modules[0].get("path", ""))) if modules else path
    config = read_object(encoder / "config.json", needed=True)
    own_code = tuple(
        f"module {entry['type']}" for entry in modules if not str(entry["type"]).startswith("sentence_transformers.")
    )
    own_code += ("auto_map in config.json",) if isinstance(config.get("auto_map"), Mapping) else ()
    hidden = _hidden(encoder, config)
    lengths = _first_object(encoder, _LENGTH_FILES)
    pooling, include_prompt = (), True
    heads: list[Head] = []
    for kind, module in zip(kinds, modules, strict=True):
        folder = _subfolder(path, str(module.get("path", "")))
        if kind == "Pooling":
            pooling, include_prompt = _pooling(folder)
        elif kind == "Dense":
            heads.append(_dense(folder))
        elif kind == "LayerNorm":
            heads.append(
                LayerNorm(folder=folder, width=_positive_int(folder, read_object(folder / "config.json"), "dimension"))
            )
        elif kind == "Normalize":
            heads.append(Normalize())
    settings = read_object(path / "config_sentence_transformers.json")
    prompts, default_prompt = _prompts(path, settings)
    document_prompt_name = _document_prompt(prompts) or str(settings.get("default_prompt_name") or "")
    return SentenceFolder(
        path=path,
        encoder=encoder,
        config=config,
        modules=kinds,
        pooling=pooling,
        include_prompt=include_prompt,
        heads=tuple(heads),
        hidden=hidden,
        dimensions=_dimensions(path, hidden * max(1, len(pooling)), heads),
        max_seq_length=_max_seq_length(config, lengths, read_object(encoder / "tokenizer_config.json")),
        do_lower_case=bool(lengths.get("do_lower_case", False)),
        prompts=prompts,
        default_prompt=default_prompt,
        document_prompt_name=document_prompt_name,
        document_prompt=prompts.get(document_prompt_name, ""),
        query_prompt=prompts.get("query", default_prompt),
        matryoshka=_widths(settings) or _widths(config),
        own_code=own_code,
    )


def check_modules(folder: SentenceFolder) -> None:
    """Reject a model with modules of other packages, which would require code of its repository.

    Raises
    ------
    ConfigError
        The message names the module.
    """
    foreign = [part for part in folder.own_code if part.startswith("module ")]
    if foreign:
        raise ConfigError(
            f"{folder.path.name} needs code of its repository: the {foreign[0]}",
            where="embed.model",
            hint="Such modules are not read here, trusted or not; choose a model whose modules are those of "
            "sentence-transformers.",
        )


def _modules(path: Path) -> list[Mapping[str, Any]]:
    modules = read_json(path / MODULES)
    if isinstance(modules, list) and all(
        is_mapping(module) and isinstance(module.get("type"), str) for module in modules
    ):
        return modules
    raise refusal(path / MODULES, "is not a list of modules")


def _kind(module: Mapping[str, Any]) -> str:
    """Return a module's class name; its package differs between versions of sentence-transformers."""
    return str(module["type"]).rpartition(".")[2]


def _check_order(path: Path, kinds: Sequence[str]) -> None:
    if not kinds:
        return
    if kinds[0] == "StaticEmbedding":
        raise refusal(path / MODULES, "is that of a static model", "Set embed.kind=static.")
    if kinds[0] != "Transformer":
        raise refusal(path / MODULES, f"begins with {kinds[0]!r}, not with a transformer")
    known = ("Pooling", "Dense", "LayerNorm", "Normalize", "Dropout")
    unknown = [kind for kind in kinds[1:] if kind not in known]
    if unknown:
        raise refusal(path / MODULES, f"has the module {unknown[0]!r}; those known are {', '.join(known)}")
    if kinds.count("Pooling") > 1 or ("Pooling" in kinds and kinds[1] != "Pooling"):
        raise refusal(path / MODULES, f"has its modules in the order {', '.join(kinds)}; pooling must come second")
    if len(kinds) > 1 and "Pooling" not in kinds:
        raise refusal(path / MODULES, f"has {kinds[1]!r} and no pooling before it")


def _pooling(folder: Path) -> tuple[tuple[str, ...], bool]:
    path = folder / "config.json"
    config = read_object(path, needed=True)
    modes = config.get("pooling_mode")
    if modes is None:
        modes = [mode for key, mode in _OLD_POOLING.items() if config.get(key)] or ["mean"]
    modes = [modes] if isinstance(modes, str) else modes
    if not isinstance(modes, list) or not modes or any(mode not in POOLING for mode in modes):
        raise refusal(path, f"has the pooling {modes!r}; those known are {', '.join(POOLING)}")
    return tuple(modes), bool(config.get("include_prompt", True))


def _dense(folder: Path) -> Dense:
    path = folder / "config.json"
    config = read_object(path, needed=True)
    activation = str(config.get("activation_function", "torch.nn.modules.activation.Tanh"))
    if not activation.startswith("torch.nn."):
        raise refusal(path, f"has the activation {activation!r}, which is not one of torch")
    if config.get("module_input_name", "sentence_embedding") != "sentence_embedding":
        raise refusal(path, f"has a layer over {config['module_input_name']!r}, not over the vector of the text")
    return Dense(
        folder=folder,
        in_features=_positive_int(folder, config, "in_features"),
        out_features=_positive_int(folder, config, "out_features"),
        bias=bool(config.get("bias", True)),
        activation=activation.rpartition(".")[2],
        residual=bool(config.get("use_residual", False)),
    )


def _dimensions(path: Path, width: int, heads: Sequence[Head]) -> int:
    for head in heads:
        expected = head.in_features if isinstance(head, Dense) else head.width if isinstance(head, LayerNorm) else width
        if expected != width:
            name = type(head).__name__
            raise refusal(path / MODULES, f"has a module {name} for vectors of {expected} after ones of {width}")
        width = head.out_features if isinstance(head, Dense) else width
    return width


def _hidden(encoder: Path, config: Mapping[str, Any]) -> int:
    text_config = config.get("text_config")
    for section in (config, text_config if is_mapping(text_config) else {}):
        for key in _WIDTHS:
            if is_positive_int(section.get(key)):
                return int(section[key])
    raise refusal(encoder / "config.json", f"does not say the width of the model ({', '.join(_WIDTHS)})")


def _max_seq_length(config: Mapping[str, Any], lengths: Mapping[str, Any], tokenizer: Mapping[str, Any]) -> int | None:
    stated: Any = lengths.get("max_seq_length")
    stated = stated if is_positive_int(stated) else tokenizer.get("model_max_length")
    limits = [int(stated)] if isinstance(stated, int | float) and 0 < stated < _NO_LIMIT else []
    text_config = config.get("text_config")
    positions = config.get(
        "max_position_embeddings", text_config.get("max_position_embeddings") if is_mapping(text_config) else 0
    )
    kind = config.get("model_type")
    if is_positive_int(positions) and kind not in _RELATIVE_POSITIONS:
        padding = config.get("pad_token_id")
        offset = (padding if is_positive_int(padding) else 1) + 1 if kind in _POSITIONS_AFTER_PADDING else 0
        limits.append(positions - offset)
    return max(1, min(limits)) if limits else None


def _prompts(path: Path, settings: Mapping[str, Any]) -> tuple[dict[str, str], str]:
    prompts = settings.get("prompts") or {}
    settings_file = path / "config_sentence_transformers.json"
    if not is_mapping(prompts) or not all(prompt is None or isinstance(prompt, str) for prompt in prompts.values()):
        raise refusal(settings_file, "has prompts that are no texts")
    default_name = settings.get("default_prompt_name")
    if default_name is not None and default_name not in prompts:
        raise refusal(settings_file, f"has the default prompt {default_name!r}, and no prompt of that name")
    texts = {str(name): str(text or "") for name, text in prompts.items()}
    return texts, texts.get(str(default_name), "")


def _document_prompt(prompts: Mapping[str, str]) -> str | None:
    by_lower_name = {name.lower(): name for name in reversed(list(prompts))}
    return next((by_lower_name[lowered] for lowered in _DOCUMENT_PROMPTS if lowered in by_lower_name), None)


def _widths(config: Mapping[str, Any]) -> tuple[int, ...]:
    for key in ("matryoshka_dimensions", "matryoshka_dims", "truncate_dims", "truncate_dim"):
        widths = config.get(key)
        widths = [widths] if is_positive_int(widths) else widths
        if isinstance(widths, list) and widths and all(map(is_positive_int, widths)):
            return tuple(sorted({int(width) for width in widths}))
    return ()


def _subfolder(path: Path, name: str) -> Path:
    folder = path / name
    if not folder.resolve().is_relative_to(path.resolve()):
        raise refusal(path / MODULES, f"leads out of its folder: {name!r}")
    return folder if name else path


def _positive_int(folder: Path, config: Mapping[str, Any], key: str) -> int:
    if not is_positive_int(config.get(key)):
        raise refusal(folder / "config.json", f"has {config.get(key)!r} as {key}, not a positive whole number")
    return int(config[key])


def _first_object(folder: Path, names: Sequence[str]) -> Mapping[str, Any]:
    return next((read_object(folder / name) for name in names if (folder / name).is_file()), {})
