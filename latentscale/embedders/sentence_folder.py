"""What the files of a sentence encoder say: modules, pooling, prompts, lengths and widths; no weight is read, no torch.

The layout is that of sentence-transformers, old and new: ``modules.json`` names the modules in order, each has a
folder with its settings, and ``config_sentence_transformers.json`` has the prompts. A folder without ``modules.json``
is a plain encoder: it has no pooling, and nothing here guesses one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from latentscale.embedders.model_folder import MODULES
from latentscale.embedders.model_json import is_mapping, is_whole, read_json, read_object, refusal
from latentscale.errors import ConfigError

POOLING = ("cls", "max", "mean", "mean_sqrt_len_tokens", "weightedmean", "lasttoken")
"""Ways to make one vector of those of the tokens, by the names of sentence-transformers."""

# In the order in which sentence-transformers concatenates them.
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
# Their positions start behind the number of the padding token.
_POSITIONS_BEHIND_PADDING = frozenset(
    ("camembert", "data2vec-text", "esm", "ibert", "longformer", "luke", "mluke", "mpnet", "roberta", "xlm-roberta")
) | {"roberta-prelayernorm", "xlm-roberta-xl", "xmod"}
# Positions are relative in these: the number in their configuration is no limit.
# Convolutions, Fourier transforms and landmarks over all positions, with or without a token there.
_MIXES_PADDING = ("convbert", "fnet", "nystromformer")
_RELATIVE_POSITIONS = frozenset(["t5", "mt5", "umt5", "xlnet"])
_DOCUMENT_PROMPTS = ("clustering", "document", "passage", "corpus")
# transformers writes this where a tokenizer has no limit.
_NO_LIMIT = 1_000_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Dense:
    """A linear layer over the pooled vector.

    Attributes
    ----------
    folder : Path
        With ``model.safetensors``: ``linear.weight``, of shape (out_features, in_features), and ``linear.bias``.
    in_features, out_features : int
    bias : bool
    activation : str
        A class of ``torch.nn`` by its name, such as ``Tanh`` or ``Identity``.
    residual : bool
        The input is added to the output, through ``residual.weight`` where the widths differ.
    """

    folder: Path
    in_features: int
    out_features: int
    bias: bool = True
    activation: str = "Tanh"
    residual: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerNorm:
    """A layer normalisation of the pooled vector: ``norm.weight`` and ``norm.bias`` in ``folder``, of ``width``."""

    folder: Path
    width: int


@dataclass(frozen=True, slots=True)
class Normalize:
    """Scaling to length 1."""


Head = Dense | LayerNorm | Normalize


@dataclass(frozen=True, slots=True, kw_only=True)
class SentenceFolder:
    """A sentence encoder as its files describe it.

    Attributes
    ----------
    path, encoder : Path
        The folder, and the one inside it with the encoder's ``config.json``, weights and tokenizer: often the same.
    config : mapping
        The encoder's ``config.json``.
    modules : tuple of str
        Names of the modules in order; empty for a plain encoder.
    pooling : tuple of str
        Of ``POOLING``; several are concatenated. Empty where the files say nothing.
    include_prompt : bool
        False where the tokens of a prompt are left out of the pooling.
    heads : tuple of Dense, LayerNorm or Normalize
        What follows the pooling, in order.
    hidden, dimensions : int
        Width of a token's vector, and of the result.
    max_seq_length : int or None
        Most tokens of a text, special ones included, that the model takes; None without a limit.
    do_lower_case : bool
    prompts : mapping of str to str
    default_prompt : str
        Of texts of no kind; empty for none.
    document_prompt_name, document_prompt, query_prompt : str
        The prompt ``clustering`` where there is one, else the first of ``document``, ``passage`` and ``corpus``, else
        the default; and ``query``, else the default. Name and text are empty where there is none.
    matryoshka : tuple of int
        Widths that the vectors may be cut to, where the files say so.
    own_code : tuple of str
        What needs code of the repository: ``auto_map`` in the configuration, or modules of other packages.
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
        """Family of the encoder, as transformers calls it."""
        return str(self.config.get("model_type", ""))

    @property
    def alone(self) -> bool:
        """Whether texts are computed one at a time: the vectors of this family depend on the padding of a batch."""
        return self.model_type in _MIXES_PADDING

    def untrained_width(self, width: int | None) -> str | None:
        """A sentence for the user where vectors are cut to a width other than those of ``matryoshka``."""
        if width is None or not self.matryoshka or width in (*self.matryoshka, self.dimensions):
            return None
        trained = ", ".join(map(str, self.matryoshka))
        return f"its vectors are cut to {width:,} numbers, and it was trained to be cut to {trained}"

    @property
    def normalise(self) -> bool:
        """Whether the model scales its vectors to length 1 at the end."""
        return bool(self.heads) and isinstance(self.heads[-1], Normalize)

    @property
    def dense(self) -> tuple[Dense, ...]:
        """The linear layers among ``heads``."""
        return tuple(one for one in self.heads if isinstance(one, Dense))


def is_sentence_folder(path: Path) -> bool:
    """Whether a folder holds an encoder, by its small files: modules that begin with a transformer, or a model type.

    A folder that is damaged in other ways counts, so that it is opened, and refused with the reason.
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
    """Read the description of a sentence encoder.

    Parameters
    ----------
    path : Path
        A folder in the layout of sentence-transformers, or that of a plain encoder of transformers.

    Raises
    ------
    ConfigError
        Naming the file, for one that is missing, cannot be read, or asks for what is not supported here.
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
    encoder = _inside(path, str(modules[0].get("path", ""))) if modules else path
    config = read_object(encoder / "config.json", needed=True)
    own = tuple(f"module {one['type']}" for one in modules if not str(one["type"]).startswith("sentence_transformers."))
    own += ("auto_map in config.json",) if isinstance(config.get("auto_map"), Mapping) else ()
    hidden = _hidden(encoder, config)
    lengths = _first_object(encoder, _LENGTH_FILES)
    pooling, include_prompt = (), True
    heads: list[Head] = []
    for kind, module in zip(kinds, modules, strict=True):
        folder = _inside(path, str(module.get("path", "")))
        if kind == "Pooling":
            pooling, include_prompt = _pooling(folder)
        elif kind == "Dense":
            heads.append(_dense(folder))
        elif kind == "LayerNorm":
            heads.append(
                LayerNorm(folder=folder, width=_whole(folder, read_object(folder / "config.json"), "dimension"))
            )
        elif kind == "Normalize":
            heads.append(Normalize())
    said = read_object(path / "config_sentence_transformers.json")
    prompts, default = _prompts(path, said)
    document = _document_prompt(prompts) or str(said.get("default_prompt_name") or "")
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
        max_seq_length=_longest(config, lengths, read_object(encoder / "tokenizer_config.json")),
        do_lower_case=bool(lengths.get("do_lower_case", False)),
        prompts=prompts,
        default_prompt=default,
        document_prompt_name=document,
        document_prompt=prompts.get(document, ""),
        query_prompt=prompts.get("query", default),
        matryoshka=_widths(said) or _widths(config),
        own_code=own,
    )


def check_modules(folder: SentenceFolder) -> None:
    """Refuse a model with modules of another package, which would be code of its repository.

    Raises
    ------
    ConfigError
        Naming the module.
    """
    own = [one for one in folder.own_code if one.startswith("module ")]
    if own:
        raise ConfigError(
            f"{folder.path.name} needs code of its repository: the {own[0]}",
            where="embed.model",
            hint="Such modules are not read here, trusted or not; choose a model whose modules are those of "
            "sentence-transformers.",
        )


def _modules(path: Path) -> list[Mapping[str, Any]]:
    found = read_json(path / MODULES)
    if isinstance(found, list) and all(is_mapping(one) and isinstance(one.get("type"), str) for one in found):
        return found
    raise refusal(path / MODULES, "is no list of modules")


def _kind(module: Mapping[str, Any]) -> str:
    """The class of a module: its package moved between the versions of sentence-transformers."""
    return str(module["type"]).rpartition(".")[2]


def _check_order(path: Path, kinds: Sequence[str]) -> None:
    if not kinds:
        return
    if kinds[0] == "StaticEmbedding":
        raise refusal(path / MODULES, "is that of a static model", "Set embed.kind=static.")
    if kinds[0] != "Transformer":
        raise refusal(path / MODULES, f"begins with {kinds[0]!r}, not with a transformer")
    known = ("Pooling", "Dense", "LayerNorm", "Normalize", "Dropout")
    unknown = [one for one in kinds[1:] if one not in known]
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
        in_features=_whole(folder, config, "in_features"),
        out_features=_whole(folder, config, "out_features"),
        bias=bool(config.get("bias", True)),
        activation=activation.rpartition(".")[2],
        residual=bool(config.get("use_residual", False)),
    )


def _dimensions(path: Path, width: int, heads: Sequence[Head]) -> int:
    for head in heads:
        wanted = head.in_features if isinstance(head, Dense) else head.width if isinstance(head, LayerNorm) else width
        if wanted != width:
            name = type(head).__name__
            raise refusal(path / MODULES, f"has a module {name} for vectors of {wanted} after ones of {width}")
        width = head.out_features if isinstance(head, Dense) else width
    return width


def _hidden(encoder: Path, config: Mapping[str, Any]) -> int:
    inner = config.get("text_config")
    for described in (config, inner if is_mapping(inner) else {}):
        for key in _WIDTHS:
            if is_whole(described.get(key)):
                return int(described[key])
    raise refusal(encoder / "config.json", f"does not say the width of the model ({', '.join(_WIDTHS)})")


def _longest(config: Mapping[str, Any], lengths: Mapping[str, Any], tokenizer: Mapping[str, Any]) -> int | None:
    said: Any = lengths.get("max_seq_length")
    said = said if is_whole(said) else tokenizer.get("model_max_length")
    limits = [int(said)] if isinstance(said, int | float) and 0 < said < _NO_LIMIT else []
    inner = config.get("text_config")
    positions = config.get("max_position_embeddings", inner.get("max_position_embeddings") if is_mapping(inner) else 0)
    kind = config.get("model_type")
    if is_whole(positions) and kind not in _RELATIVE_POSITIONS:
        padding = config.get("pad_token_id")
        behind = (padding if is_whole(padding) else 1) + 1 if kind in _POSITIONS_BEHIND_PADDING else 0
        limits.append(positions - behind)
    return max(1, min(limits)) if limits else None


def _prompts(path: Path, said: Mapping[str, Any]) -> tuple[dict[str, str], str]:
    prompts = said.get("prompts") or {}
    where = path / "config_sentence_transformers.json"
    if not is_mapping(prompts) or not all(one is None or isinstance(one, str) for one in prompts.values()):
        raise refusal(where, "has prompts that are no texts")
    default = said.get("default_prompt_name")
    if default is not None and default not in prompts:
        raise refusal(where, f"has the default prompt {default!r}, and no prompt of that name")
    texts = {str(name): str(text or "") for name, text in prompts.items()}
    return texts, texts.get(str(default), "")


def _document_prompt(prompts: Mapping[str, str]) -> str | None:
    spelled = {name.lower(): name for name in reversed(list(prompts))}
    return next((spelled[one] for one in _DOCUMENT_PROMPTS if one in spelled), None)


def _widths(config: Mapping[str, Any]) -> tuple[int, ...]:
    for key in ("matryoshka_dimensions", "matryoshka_dims", "truncate_dims", "truncate_dim"):
        found = config.get(key)
        found = [found] if is_whole(found) else found
        if isinstance(found, list) and found and all(map(is_whole, found)):
            return tuple(sorted({int(one) for one in found}))
    return ()


def _inside(path: Path, name: str) -> Path:
    folder = path / name
    if not folder.resolve().is_relative_to(path.resolve()):
        raise refusal(path / MODULES, f"leads out of its folder: {name!r}")
    return folder if name else path


def _whole(folder: Path, config: Mapping[str, Any], key: str) -> int:
    if not is_whole(config.get(key)):
        raise refusal(folder / "config.json", f"has {config.get(key)!r} as {key}, not a positive whole number")
    return int(config[key])


def _first_object(folder: Path, names: Sequence[str]) -> Mapping[str, Any]:
    return next((read_object(folder / name) for name in names if (folder / name).is_file()), {})
