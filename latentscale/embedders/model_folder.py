"""Locate the files of a static model, and load its arrays after validating them.

Model folders are untrusted. Compiled code indexes the table with values from the files, and an index out of range would
crash: all shapes, indices and ranges are validated first, and errors name file and array.
"""

from __future__ import annotations

import json
import re
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from latentscale.errors import ConfigError
from latentscale.machine import available_memory

MODEL_FILES = ("model.safetensors", "tokenizer.json", "config.json")
MODULES = "modules.json"
MAX_DIM = 65_536
MAX_TOKENIZER_BYTES = 256 << 20
# A text has up to a million tokens: the sum of so many of the largest values must not overflow float32.
_LARGEST = float(np.finfo(np.float32).max) / 1e7
_FLOATS = {"F16", "F32", "F64", "BF16", "I8", "U8", "I16", "I32", "I64"}
_INTEGERS = {"I8", "U8", "I16", "U16", "I32", "U32", "I64", "U64"}
_SAVE_AGAIN = "Save the model again, or download it again."
_PROPERTY = re.compile(r"\\[pP]\{[^}]*\}|\\[hH]")


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFiles:
    """Paths of the weights and the tokenizer."""

    weights: Path
    tokenizer: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Shapes:
    """From the header of the weights: the name of the table, its rows and width, and the dtype of each array."""

    table: str
    rows: int
    dim: int
    types: dict[str, str]


def model_files(folder: Path) -> ModelFiles:
    """Find the files of a model in model2vec or sentence-transformers layout, without reading weights.

    Raises
    ------
    ConfigError
        If files are missing, or the folder contains another kind of model.
    """
    if not folder.is_dir():
        raise ConfigError(
            f"there is no model folder {folder}",
            where="embed.model",
            hint="latentscale models list shows what is here.",
        )
    model_folder = _static_module(folder)
    required = MODEL_FILES if model_folder is None else MODEL_FILES[:2]
    model_folder = folder if model_folder is None else model_folder
    missing = [name for name in required if not (model_folder / name).is_file()]
    if missing:
        raise ConfigError(
            f"{folder} is not the folder of a model2vec model: {', '.join(missing)} missing"
            + (f" in {model_folder.name}" if model_folder != folder else ""),
            where="embed.model",
            hint="Save one with model2vec's save_pretrained, or make one with: latentscale models distill.",
        )
    return ModelFiles(weights=model_folder / "model.safetensors", tokenizer=model_folder / "tokenizer.json")


def _static_module(folder: Path) -> Path | None:
    """Return the static embedding's folder within a sentence-transformers model; None for a plain model2vec folder."""
    path = folder / MODULES
    if not path.is_file() or (folder / "model.safetensors").is_file():
        return None
    try:
        if path.stat().st_size > 1 << 20:
            raise ValueError("it has more than a megabyte")
        modules = [
            (str(module["type"]).rsplit(".", 1)[-1], str(module["path"])) for module in json.loads(path.read_bytes())
        ]
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise ConfigError(f"{path} is not a list of modules: {error}", where="embed.model", hint=_SAVE_AGAIN) from error
    foreign = [kind for kind, _ in modules if kind not in ("StaticEmbedding", "Normalize")]
    if foreign or not modules or modules[0][0] != "StaticEmbedding":
        raise ConfigError(
            f"{folder} is a model of sentence-transformers with {', '.join(foreign) or 'no module'}, not a static one",
            where="embed.model",
            hint="Make a static model of it: latentscale models distill.",
        )
    module_folder = folder / modules[0][1]
    if not module_folder.resolve().is_relative_to(folder.resolve()):
        raise ConfigError(f"{path} leads out of its folder: {modules[0][1]!r}", where="embed.model", hint=_SAVE_AGAIN)
    return module_folder


def read_shapes(files: ModelFiles) -> Shapes:
    """Read the header of the weights and validate it; no weights are read.

    Raises
    ------
    ConfigError
        If the file is unreadable or an array is invalid.
    """
    from safetensors import safe_open

    try:
        with safe_open(files.weights, framework="numpy") as tensors:
            slices = {name: tensors.get_slice(name) for name in tensors.keys()}  # noqa: SIM118 - no mapping
            shapes = {name: tuple(tensor.get_shape()) for name, tensor in slices.items()}
            types = {name: str(tensor.get_dtype()) for name, tensor in slices.items()}
    except Exception as error:  # safetensors has its own exception types
        raise _read_error(files.weights, error) from error
    name = "embeddings" if "embeddings" in shapes else "embedding.weight"
    if name not in shapes:
        raise _array_error(
            files.weights, "embeddings", "is missing; there are " + (", ".join(list(shapes)[:8]) or "none")
        )
    shape = shapes[name]
    if len(shape) != 2 or 0 in shape or shape[1] > MAX_DIM:
        raise _array_error(
            files.weights, name, f"has the shape {shape}, not one vector of 1 to {MAX_DIM:,} values a token"
        )
    if types[name] not in _FLOATS:
        raise _array_error(files.weights, name, f"is of type {types[name]}")
    for optional, allowed in (("weights", _FLOATS), ("mapping", _INTEGERS)):
        if optional in shapes and (len(shapes[optional]) != 1 or types[optional] not in allowed):
            raise _array_error(
                files.weights, optional, f"has the shape {shapes[optional]} and the type {types[optional]}"
            )
    needed, available = 4.0 * shape[0] * shape[1], available_memory()
    if available and needed > available:
        raise _array_error(
            files.weights, name, f"takes {needed / 1e9:.1f} GB of memory, {available / 1e9:.1f} GB are free"
        )
    return Shapes(table=name, rows=shape[0], dim=shape[1], types=types)


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedModel:
    """A static model in memory.

    Attributes
    ----------
    table : float32 ndarray, shape (rows, dim)
    weights : float32 ndarray, shape (tokens,), or None
    mapping : int32 ndarray, shape (tokens,), or None
        Row of each token in the table, if different from its id.
    tokenizer : tokenizers.Tokenizer
    vocabulary : mapping of str to int
        Id of each token.
    """

    table: NDArray[np.float32]
    weights: NDArray[np.float32] | None
    mapping: NDArray[np.int32] | None
    tokenizer: Any
    vocabulary: Mapping[str, int]


def load_model(files: ModelFiles) -> LoadedModel:
    """Load the arrays and the tokenizer of a static model.

    Raises
    ------
    ConfigError
        If a file is unreadable or an array is inconsistent with the others; the message names both.
    """
    shapes = read_shapes(files)
    tokenizer = read_tokenizer(files.tokenizer)
    arrays = {
        name: _array(files.weights, name, shapes.types[name])
        for name in (shapes.table, "weights", "mapping")
        if name in shapes.types
    }
    vocabulary = tokenizer.get_vocab()
    if not vocabulary:
        raise ConfigError(f"{files.tokenizer} has no tokens", where="embed.model", hint=_SAVE_AGAIN)
    tokens = max(vocabulary.values()) + 1
    with np.errstate(over="ignore"):
        table = np.ascontiguousarray(arrays[shapes.table], np.float32)
        weights = arrays["weights"].astype(np.float32) if "weights" in arrays else None
    mapping = arrays.get("mapping")
    if mapping is None and tokens != len(table):
        raise _array_error(files.weights, shapes.table, f"has {len(table):,} vectors for {tokens:,} tokens")
    for name, array in (("weights", weights), ("mapping", mapping)):
        if array is not None and len(array) < tokens:
            raise _array_error(files.weights, name, f"has {len(array):,} values for {tokens:,} tokens")
    if mapping is not None and (mapping.min() < 0 or mapping.max() >= len(table)):
        raise _array_error(
            files.weights, "mapping", f"has rows {mapping.min():,} to {mapping.max():,} of {len(table):,} vectors"
        )
    max_weight = 1.0 if weights is None else _max_magnitude(files.weights, "weights", weights)
    if _max_magnitude(files.weights, shapes.table, table) * max(max_weight, 1.0) > _LARGEST:
        raise _array_error(files.weights, shapes.table, "has numbers so large that the sum over a text overflows")
    return LoadedModel(
        table=table,
        weights=weights,
        mapping=None if mapping is None else mapping.astype(np.int32),
        tokenizer=tokenizer,
        vocabulary=vocabulary,
    )


def _max_magnitude(path: Path, name: str, array: NDArray[np.float32]) -> float:
    # Any value that is not finite propagates to the maximum.
    largest = np.maximum(array.max(initial=0), -array.min(initial=0))
    if not np.isfinite(largest):
        raise _array_error(path, name, "has numbers that are not finite")
    return float(largest)


def _array(path: Path, name: str, kind: str) -> NDArray[Any]:
    from safetensors import deserialize, safe_open

    try:
        if kind != "BF16":
            with safe_open(path, framework="numpy") as tensors:
                return np.asarray(tensors.get_tensor(name))
        # NumPy has no bfloat16: its 16 bits are the upper half of a float32.
        tensor = dict(deserialize(path.read_bytes()))[name]
        upper = np.frombuffer(tensor["data"], dtype="<u2").astype(np.uint32) << np.uint32(16)
        return upper.view(np.float32).reshape(tensor["shape"])
    except Exception as error:
        raise _read_error(path, error) from error


def read_tokenizer(path: Path) -> Any:
    """Load ``tokenizer.json``, after rejecting patterns that may backtrack catastrophically.

    Raises
    ------
    ConfigError
        If it is unreadable or too large, or has such a pattern.
    """
    from tokenizers import Tokenizer

    check_tokenizer(path)
    try:
        return Tokenizer.from_file(str(path))
    except BaseException as error:  # a Rust panic is not an Exception
        if isinstance(error, KeyboardInterrupt | SystemExit):
            raise
        raise _read_error(path, error) from error


def check_tokenizer(path: Path) -> None:
    """Reject a ``tokenizer.json`` that is too large or not JSON, or has a pattern that may backtrack catastrophically.

    Raises
    ------
    ConfigError
        The message names the file and the pattern.
    """
    if path.stat().st_size > MAX_TOKENIZER_BYTES:
        raise ConfigError(f"{path} has more than {MAX_TOKENIZER_BYTES >> 20} MB", where="embed.model", hint=_SAVE_AGAIN)
    try:
        described = json.loads(path.read_bytes())
        patterns = list(_patterns(described))
    except (OSError, ValueError, RecursionError, AttributeError) as error:
        raise _read_error(path, error) from error
    for pattern in patterns:
        if _may_backtrack(pattern):
            raise ConfigError(
                f"{path} has a pattern whose time grows without bound with a text: {pattern[:60]!r}",
                where="embed.model",
                hint="Use a tokenizer without repeats inside of repeats.",
            )


def _patterns(tokenizer: Any) -> Iterator[str]:
    """Yield all regular expressions of a serialised tokenizer."""
    stack = [tokenizer.get(part) for part in ("normalizer", "pre_tokenizer", "post_processor", "decoder")]
    while stack:
        node = stack.pop()
        if isinstance(node, dict):
            if isinstance(node.get("Regex"), str):
                yield node["Regex"]
            stack += node.values()
        elif isinstance(node, list):
            stack += node


def _may_backtrack(pattern: str) -> bool:
    """Whether an unbounded repeat is nested in another, as in ``(a+)+$``, which takes exponential time to match."""
    parser = import_module("re._parser")
    # Python's re has no Unicode properties; for this check they are equivalent to any other character class.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            tree = parser.parse(_PROPERTY.sub(r"\\w", pattern))
        except (re.error, RecursionError, OverflowError):
            return len(pattern) > 2_000
    return _has_nested_repeat(tree, inside=False)


def _has_nested_repeat(tree: Any, *, inside: bool) -> bool:
    unlimited = import_module("re._constants").MAXREPEAT
    for kind, value in tree:
        unbounded = str(kind) in ("MAX_REPEAT", "MIN_REPEAT") and value[1] == unlimited
        if unbounded and inside:
            return True
        if any(_has_nested_repeat(subpattern, inside=inside or unbounded) for subpattern in _subpatterns(kind, value)):
            return True
    return False


def _subpatterns(kind: Any, value: Any) -> Iterator[Any]:
    """Yield the patterns nested in one node of a parsed pattern."""
    name = str(kind)
    if name in ("MAX_REPEAT", "MIN_REPEAT", "POSSESSIVE_REPEAT"):
        yield value[2]
    elif name == "BRANCH":
        yield from value[1]
    elif name == "SUBPATTERN":
        yield value[3]
    elif name == "ATOMIC_GROUP":
        yield value
    elif name in ("ASSERT", "ASSERT_NOT"):
        yield value[1]


def _array_error(path: Path, name: str, problem: str) -> ConfigError:
    return ConfigError(f"{path}: the array {name!r} {problem}", where="embed.model", hint=_SAVE_AGAIN)


def _read_error(path: Path, error: BaseException) -> ConfigError:
    return ConfigError(
        f"{path} cannot be read: {' '.join(str(error).split())[:300]}", where="embed.model", hint=_SAVE_AGAIN
    )
