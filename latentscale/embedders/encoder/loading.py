"""Load an encoder and its tokenizer with transformers: only from safetensors, in a given precision."""

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

# Encoder-decoder models, of which only the encoder is used.
_ENCODER_OF = {"t5": "T5EncoderModel", "mt5": "MT5EncoderModel", "umt5": "UMT5EncoderModel"}
_DTYPES = {"bf16": "bfloat16", "fp16": "float16", "fp32": "float32"}


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadSettings:
    """How an encoder is loaded.

    Attributes
    ----------
    device : str
        ``cpu``, ``cuda:0``, ``mps``.
    precision : {"bf16", "fp16", "fp32"}
    attention : str
        ``auto``, or an attention implementation of transformers.
    compile : bool
    trust_remote_code : bool
    pooling : tuple of str
    cut : int or None
        Width that vectors are truncated to; None for the model's.
    """

    device: str
    precision: Precision
    attention: str = "auto"
    compile: bool = False
    trust_remote_code: bool = False
    pooling: tuple[str, ...] = ("mean",)
    cut: int | None = None


def check_place(folder: SentenceFolder, loading: LoadSettings) -> None:
    """Check packages, device and code before the tokenizer or weights are loaded.

    Raises
    ------
    ConfigError, ResourceError, MissingPackageError
        If code is not trusted, the device is unavailable, or a package is not installed.
    """
    for package in ("torch", "transformers"):
        require(package, extra="torch", used_for="embed.kind=transformers")
    check_device(loading.device, loading.precision)
    check_code(folder, trusted=loading.trust_remote_code)


def check_device(device: str, precision: Precision) -> None:
    """Check that torch has the device here, and that it supports the precision.

    Raises
    ------
    ResourceError
        If the device is unavailable.
    ConfigError
        If the precision is bfloat16 and the GPU does not support it.
    """
    import torch

    kind = device.partition(":")[0]
    hint = "Set CUDA_VISIBLE_DEVICES to nothing to compute on the CPU, or install a build of torch for this device."
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
    """Reject a model that needs code of its repository, unless that is trusted.

    Raises
    ------
    ConfigError
        The message names the part that needs it.
    """
    check_modules(folder)
    if not folder.own_code:
        return
    elsewhere = [str(reference) for reference in folder.config["auto_map"].values() if "--" in str(reference)]
    if trusted and elsewhere:
        raise ConfigError(
            f"the code of {folder.path.name} is in another repository, which its revision does not pin: {elsewhere[0]}",
            where="embed.options.trust_remote_code",
            hint="Choose a model that transformers knows, or one that has its code in its own repository.",
        )
    if trusted:
        return
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING  # pyright: ignore[reportMissingImports]

    if folder.model_type not in CONFIG_MAPPING:
        raise ConfigError(
            f"{folder.path.name} needs code of its repository: transformers does not support the model type "
            f"{folder.model_type!r}",
            where="embed.model",
            hint="Read that code, then set embed.options.revision to the commit and embed.options.trust_remote_code.",
        )


def load_tokenizer(folder: SentenceFolder, *, trusted: bool) -> tuple[Any, int]:
    """Load the Rust tokenizer that transformers builds from the model's files, and the padding token id.

    Raises
    ------
    ConfigError
        If a pattern may backtrack catastrophically, or the tokenizer cannot be built or exists only in Python.
    """
    import transformers

    path = folder.encoder / "tokenizer.json"
    if path.is_file():
        check_tokenizer(path)
    try:
        wrapper: Any = transformers.AutoTokenizer.from_pretrained(
            folder.encoder, local_files_only=True, trust_remote_code=trusted
        )
        tokenizer = wrapper.backend_tokenizer
    except Exception as error:  # from various libraries with their own exception types
        raise ConfigError(
            f"transformers cannot make the tokenizer of {folder.path.name}: {' '.join(str(error).split())[:300]}",
            where="embed.model",
            hint="Download the model again, or save its tokenizer with save_pretrained.",
        ) from error
    for padding in (folder.config.get("pad_token_id"), wrapper.pad_token_id):
        if isinstance(padding, int) and padding >= 0:
            return tokenizer, padding
    return tokenizer, 0


def load_encoder(folder: SentenceFolder, loading: LoadSettings) -> Any:
    """Load the encoder on the CPU, in the given precision.

    Raises
    ------
    ConfigError
        If weights and configuration do not match, or the attention implementation is unavailable.
    """
    import torch
    import transformers

    check_code(folder, trusted=loading.trust_remote_code)
    load_options: dict[str, Any] = {"local_files_only": True, "trust_remote_code": loading.trust_remote_code}
    try:
        config: Any = transformers.AutoConfig.from_pretrained(folder.encoder, **load_options)
        model_class = _model_class(config)
        if hasattr(config, "use_cache"):
            config.use_cache = False
        dtype = getattr(torch, _DTYPES[loading.precision])
        options = load_options | {
            "config": config,
            "dtype": dtype,
            "use_safetensors": True,
            "output_loading_info": True,
        }
        if model_class is transformers.AutoModel and _has_optional_pooler(config):
            options["add_pooling_layer"] = False
        with _quiet():
            encoder, loading_info = _with_attention(model_class, folder, options, _attention_candidates(loading, dtype))
    except ConfigError:
        raise
    except (OSError, ValueError, RuntimeError, TypeError, KeyError, ImportError) as error:
        if "ignore_mismatched_sizes" in str(error):  # transformers lists them in its log alone
            raise ConfigError(
                f"weights of {folder.path.name} have other shapes than its config.json says",
                where="embed.model",
                hint="They are of another model than config.json: download it again.",
            ) from error
        raise ConfigError(
            f"transformers {transformers.__version__} cannot load {folder.path.name}: "
            + " ".join(str(error).split())[:400],
            where="embed.model",
            hint="Download the model again, or use a version of transformers that supports it.",
        ) from error
    _check_loaded(folder, loading_info)
    return encoder.eval()


@contextmanager
def _quiet() -> Generator[None, None, None]:
    """Suppress progress bars and load reports of transformers; problems of the weights are reported as our errors."""
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


def _with_attention(
    model_class: Any, folder: SentenceFolder, options: dict[str, Any], names: Sequence[str | None]
) -> Any:
    for name in names[:-1]:
        try:
            return model_class.from_pretrained(folder.encoder, attn_implementation=name, **options)
        except (ImportError, ValueError):
            continue
    try:
        return model_class.from_pretrained(folder.encoder, attn_implementation=names[-1], **options)
    except (ImportError, ValueError) as error:
        if names[-1] is None:
            raise
        raise ConfigError(
            f"attention {names[-1]!r} cannot be used: {' '.join(str(error).split())[:300]}",
            where="embed.options.attention",
            hint="Use attention=auto, or install what it needs.",
        ) from error


def _attention_candidates(loading: LoadSettings, dtype: Any) -> list[str | None]:
    """List attention implementations to try in order; None is the default of transformers."""
    if loading.attention != "auto":
        return [loading.attention]
    half_on_gpu = loading.device.startswith("cuda") and dtype.itemsize == 2
    return ["flash_attention_2", None] if half_on_gpu and find_spec("flash_attn") is not None else [None]


def _model_class(config: Any) -> Any:
    import transformers

    if config.model_type in _ENCODER_OF:
        return getattr(transformers, _ENCODER_OF[config.model_type])
    if getattr(config, "is_encoder_decoder", False):
        raise ConfigError(
            f"{config.model_type} is an encoder-decoder model, which does not compute vectors of texts",
            where="embed.model",
            hint=f"Only the encoders of these are used: {', '.join(_ENCODER_OF)}.",
        )
    return transformers.AutoModel


def _has_optional_pooler(config: Any) -> bool:
    """Whether the model's pooler can be omitted; its output is not used here."""
    from transformers.models.auto.modeling_auto import MODEL_MAPPING  # pyright: ignore[reportMissingImports]

    if type(config) not in MODEL_MAPPING:
        return False
    model_class: Any = MODEL_MAPPING[type(config)]
    return (
        not isinstance(model_class, tuple | list)
        and "add_pooling_layer" in inspect.signature(model_class.__init__).parameters
    )


def _check_loaded(folder: SentenceFolder, loading_info: Any) -> None:
    """Reject weights that leave parts of the model randomly initialised."""
    missing = sorted(name for name in loading_info.get("missing_keys", ()) if "pooler." not in name)
    if missing:
        raise ConfigError(
            f"the weights of {folder.path.name} lack {len(missing):,} arrays of the model, such as {missing[0]}",
            where="embed.model",
            hint="They do not belong to the model of config.json: download it again.",
        )
