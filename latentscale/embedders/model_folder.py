"""The folder of a static model: its files, and arrays that are checked before one value of them is used.

A folder comes from anywhere. Compiled code looks rows up by the numbers in it, so a number beyond the table would be a
crash: every shape, index and range is compared first, and what does not fit is named by file and array.
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
# A text has up to a million tokens: a sum of so many of the largest values must be a number of float32.
_LARGEST = float(np.finfo(np.float32).max) / 1e7
_FLOATS = {"F16", "F32", "F64", "BF16", "I8", "U8", "I16", "I32", "I64"}
_WHOLE = {"I8", "U8", "I16", "U16", "I32", "U32", "I64", "U64"}
_AGAIN = "Save the model again, or fetch it anew."
_PROPERTY = re.compile(r"\\[pP]\{[^}]*\}|\\[hH]")


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFiles:
    """Paths of the weights and the tokenizer."""

    weights: Path
    tokenizer: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Shapes:
    """What the header of the weights says: the name of the table, and its rows and width."""

    table: str
    rows: int
    dim: int
    types: dict[str, str]


def model_files(folder: Path) -> ModelFiles:
    """Find the files of a model in the form of model2vec or of sentence-transformers, without reading a weight.

    Raises
    ------
    ConfigError
        Naming what is missing, or what else the folder is.
    """
    if not folder.is_dir():
        raise ConfigError(
            f"there is no model folder {folder}",
            where="embed.model",
            hint="latentscale models list shows what is here.",
        )
    inner = _static_module(folder)
    wanted = MODEL_FILES if inner is None else MODEL_FILES[:2]
    inner = folder if inner is None else inner
    missing = [name for name in wanted if not (inner / name).is_file()]
    if missing:
        raise ConfigError(
            f"{folder} is not the folder of a model2vec model: {', '.join(missing)} missing"
            + (f" in {inner.name}" if inner != folder else ""),
            where="embed.model",
            hint="Save one with model2vec's save_pretrained, or make one with: latentscale models distill.",
        )
    return ModelFiles(weights=inner / "model.safetensors", tokenizer=inner / "tokenizer.json")


def _static_module(folder: Path) -> Path | None:
    """The folder of the static embedding in a folder of sentence-transformers; None where that is the folder itself."""
    path = folder / MODULES
    if not path.is_file() or (folder / "model.safetensors").is_file():
        return None
    try:
        if path.stat().st_size > 1 << 20:
            raise ValueError("it has more than a megabyte")
        modules = [(str(one["type"]).rsplit(".", 1)[-1], str(one["path"])) for one in json.loads(path.read_bytes())]
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise ConfigError(f"{path} is no list of modules: {error}", where="embed.model", hint=_AGAIN) from error
    others = [kind for kind, _ in modules if kind not in ("StaticEmbedding", "Normalize")]
    if others or not modules or modules[0][0] != "StaticEmbedding":
        raise ConfigError(
            f"{folder} is a model of sentence-transformers with {', '.join(others) or 'no module'}, not a static one",
            where="embed.model",
            hint="Make a static model of it: latentscale models distill.",
        )
    inner = folder / modules[0][1]
    if not inner.resolve().is_relative_to(folder.resolve()):
        raise ConfigError(f"{path} leads out of its folder: {modules[0][1]!r}", where="embed.model", hint=_AGAIN)
    return inner


def read_shapes(files: ModelFiles) -> Shapes:
    """Compare what the header of the weights says with what a static model has; no weight is read.

    Raises
    ------
    ConfigError
        Naming the file and the array.
    """
    from safetensors import safe_open

    try:
        with safe_open(files.weights, framework="numpy") as tensors:
            slices = {name: tensors.get_slice(name) for name in tensors.keys()}  # noqa: SIM118 - no mapping
            shapes = {name: tuple(one.get_shape()) for name, one in slices.items()}
            types = {name: str(one.get_dtype()) for name, one in slices.items()}
    except Exception as error:  # safetensors raises types of its own
        raise _unreadable(files.weights, error) from error
    name = "embeddings" if "embeddings" in shapes else "embedding.weight"
    if name not in shapes:
        raise _refusal(files.weights, "embeddings", "is missing; there are " + (", ".join(list(shapes)[:8]) or "none"))
    shape = shapes[name]
    if len(shape) != 2 or 0 in shape or shape[1] > MAX_DIM:
        raise _refusal(files.weights, name, f"has the shape {shape}, not one vector of 1 to {MAX_DIM:,} values a token")
    if types[name] not in _FLOATS:
        raise _refusal(files.weights, name, f"is of type {types[name]}")
    for extra, allowed in (("weights", _FLOATS), ("mapping", _WHOLE)):
        if extra in shapes and (len(shapes[extra]) != 1 or types[extra] not in allowed):
            raise _refusal(files.weights, extra, f"has the shape {shapes[extra]} and the type {types[extra]}")
    needed, free = 4.0 * shape[0] * shape[1], available_memory()
    if free and needed > free:
        raise _refusal(files.weights, name, f"takes {needed / 1e9:.1f} GB of memory, {free / 1e9:.1f} GB are free")
    return Shapes(table=name, rows=shape[0], dim=shape[1], types=types)


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedModel:
    """A static model in memory.

    Attributes
    ----------
    table : float32 ndarray, shape (rows, dim)
    weights : float32 ndarray, shape (tokens,), or None
    mapping : int32 ndarray, shape (tokens,), or None
        Row of the table of each token, where that is not its number.
    tokenizer : tokenizers.Tokenizer
    vocabulary : mapping of str to int
        Number of each token.
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
        If a file cannot be read, or an array does not fit the others; it names both.
    """
    shapes = read_shapes(files)
    tokenizer = read_tokenizer(files.tokenizer)
    held = {
        name: _array(files.weights, name, shapes.types[name])
        for name in (shapes.table, "weights", "mapping")
        if name in shapes.types
    }
    vocabulary = tokenizer.get_vocab()
    if not vocabulary:
        raise ConfigError(f"{files.tokenizer} has no tokens", where="embed.model", hint=_AGAIN)
    tokens = max(vocabulary.values()) + 1
    with np.errstate(over="ignore"):
        table = np.ascontiguousarray(held[shapes.table], np.float32)
        weights = held["weights"].astype(np.float32) if "weights" in held else None
    mapping = held.get("mapping")
    if mapping is None and tokens != len(table):
        raise _refusal(files.weights, shapes.table, f"has {len(table):,} vectors for {tokens:,} tokens")
    for name, array in (("weights", weights), ("mapping", mapping)):
        if array is not None and len(array) < tokens:
            raise _refusal(files.weights, name, f"has {len(array):,} values for {tokens:,} tokens")
    if mapping is not None and (mapping.min() < 0 or mapping.max() >= len(table)):
        raise _refusal(
            files.weights, "mapping", f"has rows {mapping.min():,} to {mapping.max():,} of {len(table):,} vectors"
        )
    heaviest = 1.0 if weights is None else _extent(files.weights, "weights", weights)
    if _extent(files.weights, shapes.table, table) * max(heaviest, 1.0) > _LARGEST:
        raise _refusal(files.weights, shapes.table, "has numbers so large that the sum of a text is none")
    return LoadedModel(
        table=table,
        weights=weights,
        mapping=None if mapping is None else mapping.astype(np.int32),
        tokenizer=tokenizer,
        vocabulary=vocabulary,
    )


def _extent(path: Path, name: str, array: NDArray[np.float32]) -> float:
    # The largest of numbers of which one is not finite is not finite either.
    largest = np.maximum(array.max(initial=0), -array.min(initial=0))
    if not np.isfinite(largest):
        raise _refusal(path, name, "has numbers that are not finite")
    return float(largest)


def _array(path: Path, name: str, kind: str) -> NDArray[Any]:
    from safetensors import deserialize, safe_open

    try:
        if kind != "BF16":
            with safe_open(path, framework="numpy") as tensors:
                return np.asarray(tensors.get_tensor(name))
        # NumPy has no such type: its 16 bits are the upper half of a float32.
        found = dict(deserialize(path.read_bytes()))[name]
        upper = np.frombuffer(found["data"], dtype="<u2").astype(np.uint32) << np.uint32(16)
        return upper.view(np.float32).reshape(found["shape"])
    except Exception as error:
        raise _unreadable(path, error) from error


def read_tokenizer(path: Path) -> Any:
    """Read ``tokenizer.json``, unless one of its patterns may never come to an end.

    Raises
    ------
    ConfigError
        If it cannot be read, is too large or has such a pattern.
    """
    from tokenizers import Tokenizer

    check_tokenizer(path)
    try:
        return Tokenizer.from_file(str(path))
    except BaseException as error:  # what panics in Rust is no Exception
        if isinstance(error, KeyboardInterrupt | SystemExit):
            raise
        raise _unreadable(path, error) from error


def check_tokenizer(path: Path) -> None:
    """Refuse a ``tokenizer.json`` that is too large, is no JSON, or has a pattern that may never come to an end.

    Raises
    ------
    ConfigError
        Naming the file and the pattern.
    """
    if path.stat().st_size > MAX_TOKENIZER_BYTES:
        raise ConfigError(f"{path} has more than {MAX_TOKENIZER_BYTES >> 20} MB", where="embed.model", hint=_AGAIN)
    try:
        described = json.loads(path.read_bytes())
        patterns = list(_patterns(described))
    except (OSError, ValueError, RecursionError, AttributeError) as error:
        raise _unreadable(path, error) from error
    for pattern in patterns:
        if _may_run_away(pattern):
            raise ConfigError(
                f"{path} has a pattern whose time grows without bound with a text: {pattern[:60]!r}",
                where="embed.model",
                hint="Use a tokenizer without repeats inside of repeats.",
            )


def _patterns(described: Any) -> Iterator[str]:
    """All regular expressions of a tokenizer."""
    waiting = [described.get(part) for part in ("normalizer", "pre_tokenizer", "post_processor", "decoder")]
    while waiting:
        one = waiting.pop()
        if isinstance(one, dict):
            if isinstance(one.get("Regex"), str):
                yield one["Regex"]
            waiting += one.values()
        elif isinstance(one, list):
            waiting += one


def _may_run_away(pattern: str) -> bool:
    """Whether an unbounded repeat is inside another one, as in ``(a+)+$``: a backtracking search may never end."""
    parser = import_module("re._parser")
    # Classes of Unicode, which Python's own expressions lack, are a class of characters like any other.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            tree = parser.parse(_PROPERTY.sub(r"\\w", pattern))
        except (re.error, RecursionError, OverflowError):
            return len(pattern) > 2_000
    return _repeats_inside(tree, inside=False)


def _repeats_inside(tree: Any, *, inside: bool) -> bool:
    most = import_module("re._constants").MAXREPEAT
    for kind, value in tree:
        unbounded = str(kind) in ("MAX_REPEAT", "MIN_REPEAT") and value[1] == most
        if unbounded and inside:
            return True
        if any(_repeats_inside(inner, inside=inside or unbounded) for inner in _inner(kind, value)):
            return True
    return False


def _inner(kind: Any, value: Any) -> Iterator[Any]:
    """The patterns inside of one part of a pattern."""
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


def _refusal(path: Path, name: str, problem: str) -> ConfigError:
    return ConfigError(f"{path}: the array {name!r} {problem}", where="embed.model", hint=_AGAIN)


def _unreadable(path: Path, error: BaseException) -> ConfigError:
    return ConfigError(f"{path} cannot be read: {' '.join(str(error).split())[:300]}", where="embed.model", hint=_AGAIN)
