"""Load the encoder and its tokenizer with transformers: from safetensors alone, in a named precision, or not at all."""

from __future__ import annotations

import inspect
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

from latentscale.embedders.encoder.precision import BF16_CAPABILITY, Precision
from latentscale.embedders.model_folder import check_tokenizer
from latentscale.embedders.sentence_folder import SentenceFolder, check_modules
from latentscale.errors import ConfigError, ResourceError, require

# Models of two halves, of which the first alone embeds.
_ENCODER_OF = {"t5": "T5EncoderModel", "mt5": "MT5EncoderModel", "umt5": "UMT5EncoderModel"}
_DTYPES = {"bf16": "bfloat16", "fp16": "float16", "fp32": "float32"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Loading:
    """How an encoder is loaded.

    Attributes
    ----------
    device : str
        ``cpu``, ``cuda:0``, ``mps``.
    precision : {"bf16", "fp16", "fp32"}
    attention : str
        ``auto``, or a name that transformers knows.
    compile : bool
    trust_remote_code : bool
    pooling : tuple of str
    cut : int or None
        Numbers that are kept of each vector.
    """

    device: str
    precision: Precision
    attention: str = "auto"
    compile: bool = False
    trust_remote_code: bool = False
    pooling: tuple[str, ...] = ("mean",)
    cut: int | None = None


def check_place(folder: SentenceFolder, loading: Loading) -> None:
    """Refuse what cannot work here, before the tokenizer or a weight is read.

    Raises
    ------
    ConfigError, ResourceError, MissingPackageError
        For code that is not trusted, a device that is not there, a package that is not installed.
    """
    for package in ("torch", "transformers"):
        require(package, extra="torch", used_for="embed.kind=transformers")
    check_device(loading.device, loading.precision)
    check_code(folder, trusted=loading.trust_remote_code)


def check_device(device: str, precision: Precision) -> None:
    """Refuse a device that torch does not have here, and bfloat16 on one that does not compute with it.

    Raises
    ------
    ResourceError, ConfigError
        The one, and the other.
    """
    import torch

    kind = device.partition(":")[0]
    hint = "Set CUDA_VISIBLE_DEVICES to nothing to compute on processors, or install a build of torch for this device."
    if kind == "cuda":
        if not torch.cuda.is_available():
            raise ResourceError(f"torch {torch.__version__} finds no GPU here", where=device, hint=hint)
        number = int(device.partition(":")[2] or 0)
        if number >= torch.cuda.device_count():
            raise ResourceError(f"torch finds {torch.cuda.device_count()} GPUs here", where=device, hint=hint)
        if precision == "bf16" and torch.cuda.get_device_capability(number) < BF16_CAPABILITY:
            raise ConfigError(
                f"{torch.cuda.get_device_name(number)} does not compute with bfloat16",
                where="embed.options.precision",
                hint="Use precision=fp32, or fp16 where the model's numbers stay below 65,504.",
            )
    elif kind == "mps":
        if not torch.backends.mps.is_available():
            raise ResourceError("torch finds no Metal device here", where=device, hint=hint)
    elif kind != "cpu":
        raise ResourceError(f"there is no device {device!r}", hint="Use cpu, cuda:0 or mps.")


def check_code(folder: SentenceFolder, *, trusted: bool) -> None:
    """Refuse a model that needs code of its repository, unless that is trusted.

    Raises
    ------
    ConfigError
        Naming what needs it.
    """
    check_modules(folder)
    if not folder.own_code:
        return
    elsewhere = [str(one) for one in folder.config["auto_map"].values() if "--" in str(one)]
    if trusted and elsewhere:
        raise ConfigError(
            f"the code of {folder.path.name} is in another repository, which its revision does not pin: {elsewhere[0]}",
            where="embed.options.trust_remote_code",
            hint="Choose a model that transformers knows, or one that has its code beside its weights.",
        )
    if trusted:
        return
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING  # pyright: ignore[reportMissingImports]

    if folder.model_type not in CONFIG_MAPPING:
        raise ConfigError(
            f"{folder.path.name} needs code of its repository: transformers knows no model {folder.model_type!r}",
            where="embed.model",
            hint="Read that code, then set embed.options.revision to the commit and embed.options.trust_remote_code.",
        )


def load_tokenizer(folder: SentenceFolder, *, trusted: bool) -> tuple[Any, int]:
    """The tokenizer as transformers makes it of its files, without its shell in Python, and the token that fills up.

    Raises
    ------
    ConfigError
        If it has a pattern that may not end, cannot be made, or has no compiled form.
    """
    import transformers

    path = folder.encoder / "tokenizer.json"
    if path.is_file():
        check_tokenizer(path)
    try:
        found: Any = transformers.AutoTokenizer.from_pretrained(
            folder.encoder, local_files_only=True, trust_remote_code=trusted
        )
        tokenizer = found.backend_tokenizer
    except Exception as error:  # of a dozen libraries, each with types of its own
        raise ConfigError(
            f"transformers cannot make the tokenizer of {folder.path.name}: {' '.join(str(error).split())[:300]}",
            where="embed.model",
            hint="Fetch the model anew, or save its tokenizer with save_pretrained.",
        ) from error
    for padding in (folder.config.get("pad_token_id"), found.pad_token_id):
        if isinstance(padding, int) and padding >= 0:
            return tokenizer, padding
    return tokenizer, 0


def load_encoder(folder: SentenceFolder, loading: Loading) -> Any:
    """The encoder on the processor, in the wanted precision.

    Raises
    ------
    ConfigError
        If its weights or settings do not fit, or the attention is not there.
    """
    import torch
    import transformers

    check_code(folder, trusted=loading.trust_remote_code)
    local: dict[str, Any] = {"local_files_only": True, "trust_remote_code": loading.trust_remote_code}
    try:
        config: Any = transformers.AutoConfig.from_pretrained(folder.encoder, **local)
        maker = _maker(config)
        if hasattr(config, "use_cache"):
            config.use_cache = False
        dtype = getattr(torch, _DTYPES[loading.precision])
        options = local | {"config": config, "dtype": dtype, "use_safetensors": True, "output_loading_info": True}
        if maker is transformers.AutoModel and _takes_pooler(config):
            options["add_pooling_layer"] = False
        with _quiet():
            encoder, report = _with_attention(maker, folder, options, _attentions(loading, dtype))
    except ConfigError:
        raise
    except (OSError, ValueError, RuntimeError, TypeError, KeyError, ImportError) as error:
        if "ignore_mismatched_sizes" in str(error):  # transformers lists them in its log alone
            raise ConfigError(
                f"weights of {folder.path.name} have other shapes than its config.json says",
                where="embed.model",
                hint="They are of another model than config.json: fetch it anew.",
            ) from error
        raise ConfigError(
            f"transformers {transformers.__version__} cannot load {folder.path.name}: "
            + " ".join(str(error).split())[:400],
            where="embed.model",
            hint="Fetch the model anew, or use a version of transformers that knows it.",
        ) from error
    _check_loaded(folder, report)
    return encoder.eval()


@contextmanager
def _quiet() -> Generator[None, None, None]:
    """Without bars and reports on the terminal: what is wrong with the weights is an error of ours."""
    from transformers.utils import logging  # pyright: ignore[reportMissingImports]

    bars, level = logging.is_progress_bar_enabled(), logging.get_verbosity()
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()


def _with_attention(maker: Any, folder: SentenceFolder, options: dict[str, Any], names: Sequence[str | None]) -> Any:
    for name in names[:-1]:
        try:
            return maker.from_pretrained(folder.encoder, attn_implementation=name, **options)
        except (ImportError, ValueError):
            continue
    try:
        return maker.from_pretrained(folder.encoder, attn_implementation=names[-1], **options)
    except (ImportError, ValueError) as error:
        if names[-1] is None:
            raise
        raise ConfigError(
            f"attention {names[-1]!r} cannot be used: {' '.join(str(error).split())[:300]}",
            where="embed.options.attention",
            hint="Use attention=auto, or install what it needs.",
        ) from error


def _attentions(loading: Loading, dtype: Any) -> list[str | None]:
    """Ways to compute attention, the first that can be used is taken; None is the choice of transformers."""
    if loading.attention != "auto":
        return [loading.attention]
    half = loading.device.startswith("cuda") and dtype.itemsize == 2
    return ["flash_attention_2", None] if half and find_spec("flash_attn") is not None else [None]


def _maker(config: Any) -> Any:
    import transformers

    if config.model_type in _ENCODER_OF:
        return getattr(transformers, _ENCODER_OF[config.model_type])
    if getattr(config, "is_encoder_decoder", False):
        raise ConfigError(
            f"{config.model_type} is a model of encoder and decoder, which makes no vector of a text",
            where="embed.model",
            hint=f"Those whose encoder is taken are {', '.join(_ENCODER_OF)}.",
        )
    return transformers.AutoModel


def _takes_pooler(config: Any) -> bool:
    """Whether the model has a pooler of its own that can be left out: nobody asks for its result here."""
    from transformers.models.auto.modeling_auto import MODEL_MAPPING  # pyright: ignore[reportMissingImports]

    if type(config) not in MODEL_MAPPING:
        return False
    found: Any = MODEL_MAPPING[type(config)]
    return not isinstance(found, tuple | list) and "add_pooling_layer" in inspect.signature(found.__init__).parameters


def _check_loaded(folder: SentenceFolder, report: Any) -> None:
    """Refuse weights that left a part of the model at random numbers."""
    missing = sorted(name for name in report.get("missing_keys", ()) if "pooler." not in name)
    if missing:
        raise ConfigError(
            f"the weights of {folder.path.name} lack {len(missing):,} arrays of the model, such as {missing[0]}",
            where="embed.model",
            hint="They are of another model than config.json says: fetch it anew.",
        )
